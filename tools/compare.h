/* SPDX-License-Identifier: MIT */
/* Judges an output against its expectation. */
#ifndef REPLAY_COMPARE_H
#define REPLAY_COMPARE_H

#include "call.h"

/** exact: same values; close: within the tolerance; set: rows of the last axis as multisets. */
typedef enum compare_mode { COMPARE_CLOSE, COMPARE_EXACT, COMPARE_SET } compare_mode;

typedef struct compare_rule {
    compare_mode mode;
    double rtol, atol;
    double max_bad; /**< share of elements that may be bad */
} compare_rule;

typedef struct compare_result {
    double max_abs; /**< largest difference; infinite where a NaN or infinity has no equal partner */
    double max_rel; /**< the same by expected value, zeros apart */
    int64_t bad, total;
    int failed;
    reason why; /**< of a failure */
} compare_result;

/** Reads compare.NAME, rtol.NAME, atol.NAME, max_bad.NAME. 0, or -1 with the reason. */
int compare_read_rule(const st_file *file, const char *name, compare_rule *rule, reason *why);

/** Compares; both sides are widened to double, integers in exact and set mode are compared as such. */
void compare_output(const call_output *output, const st_tensor *expected, const compare_rule *rule,
                    compare_result *result);

#endif
