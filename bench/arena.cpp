// SPDX-License-Identifier: MIT
#include "arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <utility>

namespace bench {
namespace {

uint32_t bits_of(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    return u;
}

uint16_t bf16_of(float x) {
    uint32_t u = bits_of(x);
    return static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// Values below the smallest normal f16 become 0; none of ours is above its largest.
uint16_t f16_of(float x) {
    uint32_t u = bits_of(x), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
    if (magnitude < 0x38800000) return static_cast<uint16_t>(sign);
    magnitude += 0xfff + ((magnitude >> 13) & 1);
    return static_cast<uint16_t>(sign | ((magnitude - 0x38000000) >> 13));
}

float f16_value(uint16_t h) {
    double magnitude = h & 0x7c00 ? std::ldexp(1024 + (h & 1023), (h >> 10 & 31) - 25) : std::ldexp(h & 1023, -24);
    return static_cast<float>(h & 0x8000 ? -magnitude : magnitude);
}

} // namespace

Arena::Arena(size_t bytes) : bytes_((bytes + kHugePage - 1) / kHugePage * kHugePage) {
    mapped_ = bytes_ + kHugePage;
    mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping_ == MAP_FAILED) {
        std::fprintf(stderr, "no memory for %zu bytes\n", mapped_);
        std::exit(1);
    }
    uintptr_t start = (reinterpret_cast<uintptr_t>(mapping_) + kHugePage - 1) / kHugePage * kHugePage;
    data_ = reinterpret_cast<char *>(start);
    madvise(data_, bytes_, MADV_HUGEPAGE); // a wish: without it the figures are those of 4 KiB pages
}

Arena::~Arena() {
    if (mapping_) munmap(mapping_, mapped_);
}

Arena::Arena(Arena &&other) noexcept { *this = std::move(other); }

Arena &Arena::operator=(Arena &&other) noexcept {
    std::swap(mapping_, other.mapping_);
    std::swap(mapped_, other.mapped_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(dtype_, other.dtype_);
    return *this;
}

void Arena::fill(fia_dtype dtype, unsigned seed) {
    if (dtype_ == dtype) return;
    dtype_ = dtype;
    // One random tile over and over: copies may be equal, addresses are what makes them cold. An odd length in rows
    // of any power of two keeps the heads and keys of a copy different.
    constexpr size_t tile_elements = 3u * 333 * 1024;
    size_t size = fia_dtype_bytes(dtype), tile = std::min(bytes_, tile_elements * size);
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < tile / size; ++i) {
        float x = normal(random);
        uint16_t half = dtype == FIA_F16 ? f16_of(x) : bf16_of(x);
        if (dtype == FIA_F32) std::memcpy(data_ + i * size, &x, size);
        else std::memcpy(data_ + i * size, &half, size);
    }
    for (size_t at = tile; at < bytes_; at += tile) std::memcpy(data_ + at, data_, std::min(tile, bytes_ - at));
}

double element(const void *row, fia_dtype dtype, int64_t i) {
    float x;
    uint16_t half;
    if (dtype == FIA_F32) {
        std::memcpy(&x, static_cast<const char *>(row) + i * 4, 4);
        return static_cast<double>(x);
    }
    std::memcpy(&half, static_cast<const char *>(row) + i * 2, 2);
    if (dtype == FIA_F16) return static_cast<double>(f16_value(half));
    uint32_t u = static_cast<uint32_t>(half) << 16;
    std::memcpy(&x, &u, 4);
    return static_cast<double>(x);
}

} // namespace bench
