// SPDX-License-Identifier: MIT
// What this machine can do at best, measured in the same run as the cases: sequential read bandwidth and fp32 FMA peak.
#ifndef FIA_BENCH_LIMITS_H
#define FIA_BENCH_LIMITS_H

#include "pool.h"

#include <cstddef>

namespace bench {

constexpr int kMaxThreads = 2;

// GB/s and GFLOP/s by number of threads (index threads - 1); 0: not measured.
struct Limits {
    double read_cold[kMaxThreads] = {}; // from memory
    double read_hot[kMaxThreads] = {};  // a region of hot_bytes, read again and again
    double fma[kMaxThreads] = {};
};

// What to measure. Memory is arena[0, arena_bytes), of which cold reads take the next slice each time.
struct LimitsRequest {
    const char *arena = nullptr;
    size_t arena_bytes = 0;
    bool read = false;
    size_t hot_bytes = 0; // 0: no hot reads
    int lanes = 8;        // of the bodies that are judged: 4, 8 or 16
};

Limits measure_limits(Pool &pool, const LimitsRequest &request);

// Prints every reading form and FMA width that this CPU has, for 1 and 2 threads.
void print_limits(Pool &pool, const char *arena, size_t arena_bytes);

// Whether this CPU runs code for a target ("v2", "v3", "v4"; others: true), found without calling the bodies.
bool cpu_has(const char *target);

} // namespace bench
#endif
