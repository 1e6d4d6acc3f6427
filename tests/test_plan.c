/* SPDX-License-Identifier: MIT */
/* A plan takes the same time for any number of sequences, rows, keys and pages: it looks at none of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fia.h"

/* Loops over so many, planned a hundred times, would not end within the test's time limit. */
static const int64_t many = (int64_t)1 << 38, most_rows = (int64_t)1 << 31;

static void problem_of(fia_problem *p, int32_t keys, int64_t sequences, int64_t rows, int64_t kv_len) {
    fia_problem_init(p);
    p->keys = keys;
    p->n_sequences = sequences;
    p->max_q_len = rows;
    p->max_kv_len = kv_len;
    p->n_q_heads = 32;
    p->n_kv_heads = 8;
    p->dim = p->value_dim = 128;
    p->key.dtype = p->value.dtype = FIA_F16;
    p->key.row_bytes = p->value.row_bytes = 256;
    p->query.row_bytes = p->out.row_bytes = 512;
    p->out.head_bytes = 512 * rows;
    p->out.sequence_bytes = 32 * p->out.head_bytes;
    if (keys != FIA_KEYS_PAGED) return;
    p->page_size = 128;
    p->n_pages = INT32_MAX;
    p->table_columns = kv_len / 128 + 1;
}

static void any_size_is_planned_at_once(void **state) {
    static const int32_t form[] = {FIA_KEYS_STRIDED, FIA_KEYS_LIST, FIA_KEYS_PAGED};
    fia_problem p;
    fia_plan plan;
    fia_report report;
    size_t i;
    int large, k;
    (void)state;
    for (i = 0; i < sizeof form / sizeof form[0]; ++i)
        for (large = 0; large < 3; ++large)
            for (k = 0; k < 100; ++k) {
                problem_of(&p, form[i], large == 0 ? many : 1, large == 1 ? most_rows : 1, large == 2 ? many : 1000);
                fia_plan_make(NULL, &p, k + 1, &plan, &report);
                assert_string_equal(report.text, "");
                assert_int_equal(report.status, FIA_OK);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_size_is_planned_at_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
