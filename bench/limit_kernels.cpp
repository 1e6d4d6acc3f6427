// SPDX-License-Identifier: MIT
// Compiled once per vector width with -O3 -ffp-contract=fast: LANES = 4 (SSE2, NEON), 8 (-mavx2 -mfma), 16 (-mavx512f).
// Vector extensions instead of intrinsics, so that one source serves all; the flags decide the instructions.
#include "limit_kernels.h"

namespace bench {
namespace {

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef uint64_t Words __attribute__((vector_size(LANES * 4)));

#if LANES == 16
constexpr int kChains = 24; // of 32 registers
#else
constexpr int kChains = 12; // of 16 registers; more than 2 units * 4 or 5 cycles
#endif
constexpr size_t kLine = 64;

inline void read_lines(const char *p, size_t bytes, size_t ahead, Words sum[4]) {
    for (size_t i = 0; i < bytes; i += 4 * kLine) {
        for (size_t line = 0; line < 4; ++line) {
            const char *at = p + i + line * kLine;
            if (ahead) __builtin_prefetch(at + ahead, 0, 2);
            for (size_t k = 0; k < kLine; k += sizeof(Words)) sum[line] ^= *reinterpret_cast<const Words *>(at + k);
        }
    }
}

uint64_t read(const char *data, size_t bytes, int streams, size_t piece, bool prefetch) {
    Words sum[4] = {};
    size_t part = bytes / static_cast<size_t>(streams);
    for (size_t at = 0; at < part; at += piece) {
        for (int s = 0; s < streams; ++s) {
            const char *p = data + static_cast<size_t>(s) * part + at;
            read_lines(p, piece, prefetch && at + piece < part ? piece : 0, sum);
        }
    }
    Words all = sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
    uint64_t result = 0;
    for (size_t i = 0; i < sizeof(Words) / 8; ++i) result ^= all[i];
    return result;
}

double fma(int rounds, float one) {
    Floats acc[kChains], v = one - Floats{}, sum = {};
#pragma GCC unroll 24
    for (int c = 0; c < kChains; ++c) acc[c] = v * static_cast<float>(c); // all different, or chains are merged
    for (int i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
        for (int c = 0; c < kChains; ++c) acc[c] = acc[c] * v + v;
    }
#pragma GCC unroll 24 // complete, or the chains live in memory
    for (int c = 0; c < kChains; ++c) sum += acc[c];
    double total = 0;
    for (int i = 0; i < LANES; ++i) total += static_cast<double>(sum[i]);
    return total;
}

} // namespace

#define TABLE_(lanes) limit_kernels_##lanes
#define TABLE(lanes) TABLE_(lanes)
extern const LimitKernels TABLE(LANES) = {LANES, read, fma, kChains};

} // namespace bench
