/* SPDX-License-Identifier: MIT
 *
 * The random cross product: everything with everything, against the oracle. See case.h and case_main.c.
 */
#include "case.h"

int main(int argc, char **argv) { return case_main(argc, argv, NULL); }
