/* SPDX-License-Identifier: MIT
 *
 * Which instruction sets this CPU has, asked by code that was compiled without any of them.
 */
#ifndef FIA_TEST_TARGET_H
#define FIA_TEST_TARGET_H

#include <string.h>

/** 1 if this CPU runs code of the target: x86_64, v2, v3, v4, neon..., scalar4.... */
static inline int target_runs(const char *target) {
#if defined(__x86_64__) && defined(__GNUC__)
    int v2, v3, v4;
    __builtin_cpu_init();
    v2 = __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (strcmp(target, "v2") == 0) return v2 != 0;
    if (strcmp(target, "v3") == 0) return v3 != 0;
    if (strcmp(target, "v4") == 0) return v4 != 0;
#endif
    /* Of an emulated ARM CPU it is the caller who knows. */
    (void)target;
    return 1;
}

/** The best target of this CPU; on other machines than x86-64 the caller says what it is. */
static inline const char *target_best(void) {
#if defined(__x86_64__)
    return target_runs("v4") ? "v4" : target_runs("v3") ? "v3" : target_runs("v2") ? "v2" : "x86_64";
#else
    return "neon";
#endif
}

#endif
