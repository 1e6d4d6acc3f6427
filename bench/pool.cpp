// SPDX-License-Identifier: MIT
#include "pool.h"

namespace bench {
namespace {

// Helpers spin about this many times before they sleep: phases follow one another within microseconds,
// a wake-up through the kernel costs tens of them.
constexpr int kSpins = 20000;

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

void parallel_for(void *pool, int n, fia_task task, void *data) { static_cast<Pool *>(pool)->run(n, task, data); }

} // namespace

Pool::Pool(int threads) {
    for (int i = 1; i < threads; ++i) helpers_.emplace_back([this, i] { helper(i); });
}

Pool::~Pool() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        stop_ = true;
        round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (std::thread &t : helpers_) t.join();
}

void Pool::run(int n, fia_task task, void *data) {
    if (n > 1) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            n_ = n;
            task_ = task;
            data_ = data;
            left_.store(static_cast<int>(helpers_.size()), std::memory_order_relaxed);
            round_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
    }
    task(data, 0);
    if (n > 1) {
        for (int spins = 0; left_.load(std::memory_order_acquire) > 0; ++spins) {
            if (spins < kSpins) relax();
            else std::this_thread::yield();
        }
    }
}

void Pool::helper(int index) {
    unsigned seen = 0;
    for (;;) {
        for (int spins = 0; spins < kSpins && round_.load(std::memory_order_acquire) == seen; ++spins) relax();
        {
            std::unique_lock<std::mutex> lock(mutex_);
            wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
            seen = round_.load(std::memory_order_relaxed);
            if (stop_) return;
        }
        if (index < n_) task_(data_, index);
        left_.fetch_sub(1, std::memory_order_release);
    }
}

fia_workers Pool::workers(int n) { return {n, parallel_for, this}; }

} // namespace bench
