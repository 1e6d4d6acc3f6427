// SPDX-License-Identifier: MIT
#include "limits.h"

#include "limit_kernels.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

namespace bench {
namespace {

constexpr size_t kColdSlice = 48u << 20; // bytes of one cold reading: some milliseconds
constexpr size_t kHotSample = 16u << 20; // bytes of one hot reading, in as many passes as that takes
constexpr int kFmaRounds = 100000;       // about a millisecond; below 2^18, see LimitKernels
constexpr int kSamples = 7;

// The forms of a sequential read; the best one is the limit, and which one it is depends on the machine.
struct ReadForm {
    const char *name;
    int streams;
    size_t piece;
    bool prefetch;
};
constexpr ReadForm kReadForms[] = {
    {"plain", 1, 4096, false},
    {"2 streams", 2, 2048, true},
    {"4 streams", 4, 1024, true},
};
constexpr size_t kReadForm = sizeof(kReadForms) / sizeof(kReadForms[0]);

std::vector<const LimitKernels *> kernels_of_this_cpu() {
    std::vector<const LimitKernels *> all = {&limit_kernels_4};
#if defined(__x86_64__)
    if (cpu_has("v3")) all.push_back(&limit_kernels_8);
    if (cpu_has("v4")) all.push_back(&limit_kernels_16);
#endif
    return all;
}

// One thread is timed by its CPU time, as the cases are: what others take by preemption does not count.
double seconds_now(int threads) {
    timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

volatile uint64_t checksum_sink;

struct ReadTask {
    const LimitKernels *kernels;
    ReadForm form;
    const char *data;
    size_t bytes; // of each thread
    int passes;
};

void read_task(void *data, int index) {
    const ReadTask &t = *static_cast<const ReadTask *>(data);
    const char *mine = t.data + static_cast<size_t>(index) * t.bytes;
    uint64_t sum = 0;
    for (int i = 0; i < t.passes; ++i)
        sum += t.kernels->read(mine, t.bytes, t.form.streams, t.form.piece, t.form.prefetch);
    checksum_sink = sum;
}

double read_once(Pool &pool, ReadTask &task, int threads) {
    double start = seconds_now(threads);
    pool.run(threads, read_task, &task);
    double seconds = seconds_now(threads) - start;
    return static_cast<double>(task.bytes) * threads * task.passes / seconds * 1e-9;
}

// Bytes for each of `threads`, whole pieces in every form.
size_t share_of(size_t bytes, int threads) {
    constexpr size_t step = 4096;
    return std::max(step, bytes / static_cast<size_t>(threads) / step * step);
}

// Median speed of one form from memory; `at` walks through the arena, so that nothing is met again in a cache.
double read_cold(Pool &pool, ReadTask task, const LimitsRequest &r, size_t *at, int threads) {
    size_t slice = std::min(kColdSlice, r.arena_bytes);
    std::vector<double> speeds;
    task.bytes = share_of(slice, threads);
    task.passes = 1;
    for (int i = 0; i < kSamples; ++i) {
        if (*at + slice > r.arena_bytes) *at = 0;
        task.data = r.arena + *at;
        *at += slice;
        speeds.push_back(read_once(pool, task, threads));
    }
    return median(speeds);
}

double read_hot(Pool &pool, ReadTask task, const LimitsRequest &r, int threads) {
    std::vector<double> speeds;
    task.data = r.arena;
    task.bytes = share_of(r.hot_bytes, threads);
    task.passes = 1;
    read_once(pool, task, threads);
    task.passes = std::max(1, static_cast<int>(kHotSample / r.hot_bytes));
    for (int i = 0; i < kSamples; ++i) speeds.push_back(read_once(pool, task, threads));
    return median(speeds);
}

struct FmaTask {
    const LimitKernels *kernels;
    float one;
};

void fma_task(void *data, int) {
    const FmaTask &t = *static_cast<const FmaTask *>(data);
    const LimitKernels &k = *t.kernels;
    double want = static_cast<double>(k.lanes) * k.chains * (kFmaRounds + 0.5 * (k.chains - 1));
    if (k.fma(kFmaRounds, t.one) != want) {
        std::fprintf(stderr, "the FMA loop of %d lanes did not do its work\n", k.lanes);
        std::abort();
    }
}

double fma_peak(Pool &pool, const LimitKernels *kernels, int threads) {
    volatile float one = 1; // not a constant to the compiler
    FmaTask task = {kernels, one};
    std::vector<double> speeds;
    pool.run(threads, fma_task, &task);
    for (int i = 0; i < kSamples; ++i) {
        double start = seconds_now(threads);
        pool.run(threads, fma_task, &task);
        double seconds = seconds_now(threads) - start;
        speeds.push_back(2.0 * kernels->lanes * kernels->chains * kFmaRounds * threads / seconds * 1e-9);
    }
    return median(speeds);
}

size_t cold_position; // runs on between calls: each call meets another part of the arena

} // namespace

bool cpu_has(const char *target) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("avx512cd");
    if (!std::strcmp(target, "v2")) return v2;
    if (!std::strcmp(target, "v3")) return v3;
    if (!std::strcmp(target, "v4")) return v4;
#else
    (void)target;
#endif
    return true;
}

Limits measure_limits(Pool &pool, const LimitsRequest &request) {
    Limits limits;
    std::vector<const LimitKernels *> all = kernels_of_this_cpu();
    for (int threads = 1; threads <= std::min(kMaxThreads, pool.threads()); ++threads) {
        for (const LimitKernels *k : all) {
            double *fma = &limits.fma[threads - 1];
            if (k->lanes == request.lanes) *fma = fma_peak(pool, k, threads);
            for (size_t f = 0; request.read && f < kReadForm; ++f) {
                ReadTask task = {k, kReadForms[f], nullptr, 0, 1};
                double *cold = &limits.read_cold[threads - 1], *hot = &limits.read_hot[threads - 1];
                *cold = std::max(*cold, read_cold(pool, task, request, &cold_position, threads));
                if (request.hot_bytes) *hot = std::max(*hot, read_hot(pool, task, request, threads));
            }
        }
    }
    for (int t = 1; t < pool.threads() && t < kMaxThreads;
         ++t) { // where others hold a core, two threads do worse than one
        limits.fma[t] = std::max(limits.fma[t], limits.fma[t - 1]);
        limits.read_cold[t] = std::max(limits.read_cold[t], limits.read_cold[t - 1]);
        limits.read_hot[t] = std::max(limits.read_hot[t], limits.read_hot[t - 1]);
    }
    return limits;
}

void print_limits(Pool &pool, const char *arena, size_t arena_bytes) {
    LimitsRequest r;
    r.arena = arena;
    r.arena_bytes = arena_bytes;
    std::printf("| limit | 1 thread | 2 threads |\n|---|---|---|\n");
    for (const LimitKernels *k : kernels_of_this_cpu()) {
        for (const ReadForm &form : kReadForms) {
            std::printf("| read, %d-byte loads, %s, GB/s |", k->lanes * 4, form.name);
            for (int threads = 1; threads <= std::min(kMaxThreads, pool.threads()); ++threads)
                std::printf(" %.1f |", read_cold(pool, {k, form, nullptr, 0, 1}, r, &cold_position, threads));
            std::printf("\n");
        }
    }
    for (const LimitKernels *k : kernels_of_this_cpu()) {
        std::printf("| fp32 FMA, %d lanes, GFLOP/s |", k->lanes);
        for (int threads = 1; threads <= std::min(kMaxThreads, pool.threads()); ++threads)
            std::printf(" %.0f |", fma_peak(pool, k, threads));
        std::printf("\n");
    }
    std::printf("\n");
    std::fflush(stdout);
}

} // namespace bench
