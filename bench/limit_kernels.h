// SPDX-License-Identifier: MIT
// The loops whose speed is the limit: one table per vector width, each from a copy of limit_kernels.cpp.
#ifndef FIA_BENCH_LIMIT_KERNELS_H
#define FIA_BENCH_LIMIT_KERNELS_H

#include <cstddef>
#include <cstdint>

namespace bench {

struct LimitKernels {
    int lanes; // floats of a vector
    // Reads bytes (a multiple of streams * piece) and returns a checksum. The region is cut into `streams` parts
    // that are read side by side in pieces; with prefetch a stream's next piece is prefetched while this one is read.
    uint64_t (*read)(const char *data, size_t bytes, int streams, size_t piece, bool prefetch);
    // Runs `chains` independent chains acc = acc * one + one, chain c from c, for some rounds, and returns the sum of
    // all lanes: with one = 1 exactly lanes * chains * (rounds + (chains - 1) / 2) if every FMA was done; rounds < 2^18
    double (*fma)(int rounds, float one);
    int chains;
};

extern const LimitKernels limit_kernels_4, limit_kernels_8, limit_kernels_16;

} // namespace bench
#endif
