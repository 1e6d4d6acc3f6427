/* SPDX-License-Identifier: MIT */
#include "compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- rules ---- */

static int read_number(const st_file *file, const char *prefix, const char *name, double *value, reason *why) {
    char key[96];
    const char *text;
    (void)snprintf(key, sizeof(key), "%s.%s", prefix, name);
    text = st_metadata(file, key);
    *value = 0;
    if (!text) return 0;
    if (parse_float(text, value) || !(*value >= 0) || isinf(*value)) {
        return reason_set(why, "attribute %s = \"%s\": takes a number >= 0", key, text);
    }
    return 0;
}

int compare_read_rule(const st_file *file, const char *name, compare_rule *rule, reason *why) {
    char key[96];
    const char *mode;
    (void)snprintf(key, sizeof(key), "compare.%s", name);
    mode = st_metadata(file, key);
    if (!mode || !strcmp(mode, "close")) rule->mode = COMPARE_CLOSE;
    else if (!strcmp(mode, "exact")) rule->mode = COMPARE_EXACT;
    else if (!strcmp(mode, "set")) rule->mode = COMPARE_SET;
    else return reason_set(why, "attribute %s = \"%s\": takes exact, close or set", key, mode);
    if (read_number(file, "rtol", name, &rule->rtol, why)) return -1;
    if (read_number(file, "atol", name, &rule->atol, why)) return -1;
    return read_number(file, "max_bad", name, &rule->max_bad, why);
}

/* ---- element by element ---- */

static int64_t element_count(const fia_tensor *tensor) {
    int64_t n = 1;
    int i;
    for (i = 0; i < tensor->ndim; ++i) n *= tensor->shape[i];
    return n;
}

/* 1: a good pair; updates the largest differences. */
static int judge_pair(double got, double want, const compare_rule *rule, compare_result *result) {
    double difference;
    int same = got == want || (isnan(got) && isnan(want));
    if (!isfinite(got) || !isfinite(want)) {
        if (!same) result->max_abs = result->max_rel = (double)INFINITY;
        return same;
    }
    difference = fabs(got - want);
    if (difference > result->max_abs) result->max_abs = difference;
    if (want != 0) result->max_rel = fmax(result->max_rel, difference / fabs(want));
    return rule->mode == COMPARE_EXACT ? same : difference <= rule->atol + rule->rtol * fabs(want);
}

/* "[1,0,7]" for the element with this running number. */
static void index_text(const fia_tensor *tensor, int64_t element, char *text, size_t bytes) {
    int64_t index[ST_MAX_DIMS];
    size_t used = 0;
    int i;
    for (i = tensor->ndim - 1; i >= 0; --i) {
        index[i] = element % tensor->shape[i];
        element /= tensor->shape[i];
    }
    text[0] = 0;
    for (i = 0; i < tensor->ndim && used < bytes; ++i) {
        used += (size_t)snprintf(text + used, bytes - used, "%c%lld", i ? ',' : '[', (long long)index[i]);
    }
    if (used < bytes) (void)snprintf(text + used, bytes - used, "]");
}

static void compare_elements(const call_output *output, const st_tensor *expected, const compare_rule *rule,
                             compare_result *result) {
    const fia_tensor *tensor = &output->tensor;
    fia_dtype type = expected->type->dtype;
    int integers = rule->mode == COMPARE_EXACT && dtype_is_integer(tensor->dtype) && dtype_is_integer(type);
    int64_t i;
    for (i = 0; i < result->total; ++i) {
        size_t at = (size_t)i;
        double got = dtype_widen(tensor->dtype, tensor->data, at), want = dtype_widen(type, expected->data, at);
        int good = judge_pair(got, want, rule, result);
        if (integers) good = dtype_integer(tensor->dtype, tensor->data, at) == dtype_integer(type, expected->data, at);
        if (good) continue;
        if (!result->bad++) {
            char index[128];
            index_text(tensor, i, index, sizeof(index));
            (void)reason_set(&result->why, "%s%s is %.9g, expected %.9g", output->name, index, got, want);
        }
    }
}

/* ---- rows as multisets ---- */

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Values of want that have no partner in got; sorts both. */
static int64_t missing_values(int64_t *got, int64_t *want, size_t n) {
    int64_t missing = 0;
    size_t i = 0, j = 0;
    qsort(got, n, sizeof(*got), ascending);
    qsort(want, n, sizeof(*want), ascending);
    while (j < n) {
        if (i < n && got[i] < want[j]) {
            ++i;
        } else {
            missing += i == n || got[i] != want[j];
            i += i < n && got[i] == want[j];
            ++j;
        }
    }
    return missing;
}

static int index_after_filler(const int64_t *row, size_t n) {
    size_t i;
    for (i = 1; i < n; ++i) {
        if (row[i - 1] == -1 && row[i] != -1) return 1;
    }
    return 0;
}

static void compare_sets(const call_output *output, const st_tensor *expected, compare_result *result) {
    const fia_tensor *tensor = &output->tensor;
    size_t n = tensor->ndim ? (size_t)tensor->shape[tensor->ndim - 1] : 1, row, i;
    int64_t *got = malloc(2 * n * sizeof(*got) + 1), *want = got + n;
    if (!got || !dtype_is_integer(tensor->dtype) || !dtype_is_integer(expected->type->dtype)) {
        free(got);
        result->failed = 1;
        (void)reason_set(&result->why, "%s: set needs integers", output->name);
        return;
    }
    for (row = 0; n && row < (size_t)result->total / n; ++row) {
        int64_t missing;
        for (i = 0; i < n; ++i) {
            got[i] = dtype_integer(tensor->dtype, tensor->data, row * n + i);
            want[i] = dtype_integer(expected->type->dtype, expected->data, row * n + i);
        }
        if (index_after_filler(got, n)) {
            if (!result->failed) (void)reason_set(&result->why, "%s row %zu: an index follows a -1", output->name, row);
            result->failed = 1;
        }
        missing = missing_values(got, want, n);
        if (missing && !result->bad && !result->failed) {
            (void)reason_set(&result->why, "%s row %zu: %lld expected values are missing", output->name, row,
                             (long long)missing);
        }
        result->bad += missing;
    }
    free(got);
}

void compare_output(const call_output *output, const st_tensor *expected, const compare_rule *rule,
                    compare_result *result) {
    const fia_tensor *tensor = &output->tensor;
    int i, same = tensor->ndim == expected->ndim;
    memset(result, 0, sizeof(*result));
    for (i = 0; same && i < tensor->ndim; ++i) same = tensor->shape[i] == expected->shape[i];
    if (!same) {
        result->failed = 1;
        (void)reason_set(&result->why, "%s: the result has another shape than expect.%s", output->name, output->name);
        return;
    }
    result->total = element_count(tensor);
    if (rule->mode == COMPARE_SET) compare_sets(output, expected, result);
    else compare_elements(output, expected, rule, result);
    if (result->bad && (double)result->bad / (double)result->total > rule->max_bad) result->failed = 1;
    if (result->failed && !result->why.text[0]) (void)reason_set(&result->why, "%s: wrong", output->name);
}
