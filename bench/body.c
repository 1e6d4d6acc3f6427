/* SPDX-License-Identifier: MIT
 *
 * One copy of the bodies for a bench. BENCH_TARGET: what its flags need of a CPU ("v3", "v4", "native");
 * BENCH_BUILD: its flags, for the head of the report.
 */
#define FIA_IMPLEMENTATION
#include "fia.h"

const char bench_target[] = BENCH_TARGET;
#ifdef __clang__
const char bench_build[] = __VERSION__ " " BENCH_BUILD;
#else
const char bench_build[] = "gcc " __VERSION__ " " BENCH_BUILD;
#endif
