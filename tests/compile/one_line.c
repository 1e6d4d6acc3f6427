/* SPDX-License-Identifier: MIT
 *
 * cc -O2 -march=native -ffp-contract=off one_line.c -lm, beside a copy of fia.h and nothing else.
 */
#define PART 1
#include "static_part.c"

int part_2(void) { return 0; }
