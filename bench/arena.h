// SPDX-License-Identifier: MIT
// Memory in 2 MiB pages where the system has them, filled with normal random values.
#ifndef FIA_BENCH_ARENA_H
#define FIA_BENCH_ARENA_H

#include "fia.h"

#include <cstddef>

namespace bench {

constexpr size_t kHugePage = size_t{2} << 20;

class Arena {
  public:
    Arena() = default;
    explicit Arena(size_t bytes);
    ~Arena();
    Arena(const Arena &) = delete;
    Arena &operator=(const Arena &) = delete;
    Arena(Arena &&other) noexcept;
    Arena &operator=(Arena &&other) noexcept;

    char *data() const { return data_; }
    size_t bytes() const { return bytes_; }

    // Fills with N(0, 1) of a type, unless it holds that type already. Another seed gives other values.
    void fill(fia_dtype dtype, unsigned seed);

  private:
    void *mapping_ = nullptr;
    size_t mapped_ = 0;
    char *data_ = nullptr;
    size_t bytes_ = 0;
    fia_dtype dtype_ = FIA_NONE;
};

// An element of a row as a double, for checks.
double element(const void *row, fia_dtype dtype, int64_t i);

} // namespace bench
#endif
