/* SPDX-License-Identifier: MIT
 *
 * The seed of a test: SEED of the environment. Every test with random numbers prints the one it took.
 */
#ifndef FIA_TEST_SEED_H
#define FIA_TEST_SEED_H

#include <stdint.h>
#include <stdlib.h>

static inline uint64_t seed_of_environment(uint64_t otherwise) {
    const char *text = getenv("SEED");
    return text ? strtoull(text, NULL, 0) : otherwise;
}

#endif
