// SPDX-License-Identifier: MIT
// A small pool of threads that serves as fia_workers: made once, never inside a timed loop.
#ifndef FIA_BENCH_POOL_H
#define FIA_BENCH_POOL_H

#include "fia.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace bench {

class Pool {
  public:
    explicit Pool(int threads);
    ~Pool();
    Pool(const Pool &) = delete;
    Pool &operator=(const Pool &) = delete;

    int threads() const { return static_cast<int>(helpers_.size()) + 1; }

    // Runs task(data, 0 .. n-1), n <= threads(): index i on thread i, 0 on the caller; returns when all are done.
    void run(int n, fia_task task, void *data);

    // fia_workers over n threads of this pool.
    fia_workers workers(int n);

  private:
    void helper(int index);

    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<unsigned> round_{0}; // a new value starts the helpers
    std::atomic<int> left_{0};       // helpers that still work on this round
    int n_ = 0;
    fia_task task_ = nullptr;
    void *data_ = nullptr;
    bool stop_ = false;
};

} // namespace bench
#endif
