/* SPDX-License-Identifier: MIT */
/* Ends of ranges that random cases do not reach: windows and positions near 2^61, large scales, rounding modes, the
 * workspace of another job, inputs with holes; strides of tables and lists of the operator door. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fenv.h>
#include <float.h>
#include <math.h>

#include "plan_and_run.h"

enum { KEYS = 4 };

/* One row of one element, q times k is 1 everywhere; V counts up from 1. */
typedef struct small {
    fia_problem p;
    fia_io io;
    float q, key[KEYS], value[KEYS], out;
} small;

static void small_make(small *s) {
    int j;
    memset(s, 0, sizeof *s);
    fia_problem_init(&s->p);
    fia_io_init(&s->io);
    s->p.max_q_len = 1;
    s->p.max_kv_len = KEYS;
    s->p.dim = s->p.value_dim = 1;
    s->p.key.row_bytes = s->p.value.row_bytes = sizeof(float);
    s->q = 1;
    for (j = 0; j < KEYS; ++j) {
        s->key[j] = 1;
        s->value[j] = (float)(j + 1);
    }
}

static void small_bind(small *s) {
    s->io.query = &s->q;
    s->io.key = s->key;
    s->io.value = s->value;
    s->io.out = &s->out;
}

static float small_run(small *s) {
    fia_report report;
    small_bind(s);
    s->out = -1;
    if (plan_and_run(NULL, &s->p, &s->io, NULL, &report) != FIA_OK) fail_msg("%s", report.text);
    return s->out;
}

static fia_ints one_int(const int64_t *value) {
    fia_ints ints;
    memset(&ints, 0, sizeof ints);
    ints.data = value;
    ints.dtype = FIA_I64;
    return ints;
}

/* A row at *row, keys from *first on. */
static small small_at(const int64_t *row, const int64_t *first, int family) {
    small s;
    small_make(&s);
    s.p.pin_family = family;
    s.io.q_offset = one_int(row);
    s.io.kv_offset = one_int(first);
    return s;
}

/* left is the distance to key 1. */
static void check_left(int64_t row, int64_t first, int family) {
    const int64_t left = row - first - 1;
    small s = small_at(&row, &first, family);
    s.p.window_left = left;
    assert_true(small_run(&s) == 3); /* 2, 3 and 4 are kept */
    s.p.window_left = left - 3;
    assert_true(small_run(&s) == 0);
    s.p.window_left = INT64_MAX - 1;
    assert_true(small_run(&s) == 2.5f);
}

/* right is the distance to key 2. */
static void check_right(int64_t row, int64_t first, int family) {
    const int64_t right = first + 2 - row;
    small s = small_at(&row, &first, family);
    s.p.window_right = right;
    assert_true(small_run(&s) == 2); /* 1, 2 and 3 */
    s.p.window_right = right - 3;
    assert_true(small_run(&s) == 0);
    s.p.window_right = INT64_MIN;
    assert_true(small_run(&s) == 0);
    s.p.window_right = INT64_MAX - 1;
    assert_true(small_run(&s) == 2.5f);
}

static void windows_reach_as_far_as_positions(void **state) {
    const int64_t far = (int64_t)1 << 60;
    int family;
    (void)state;
    for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family) {
        check_left(2 * far, -far, family);
        check_left(far + 1, 0, family);
        check_left(-2 * far, far, family);
        check_right(-2 * far, far, family);
        check_right(0, far, family);
        check_right(2 * far, -far, family);
    }
}

static void a_large_scale_stays_finite(void **state) {
    const float scales[] = {3e38f, -3e38f, FLT_MAX};
    int i, family;
    (void)state;
    for (i = 0; i < 3; ++i)
        for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family) {
            small s;
            small_make(&s);
            s.q = 0;
            s.p.scale = scales[i];
            s.p.pin_family = family;
            assert_true(small_run(&s) == 2.5f);
        }
}

static void any_rounding_mode_is_planned(void **state) {
    const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST};
    fia_report report;
    fia_plan plan;
    small s;
    int i;
    (void)state;
    small_make(&s);
    for (i = 0; i < 4; ++i) {
        fia_status status;
        if (fesetround(modes[i])) continue;
        status = fia_plan_make(NULL, &s.p, 1, &plan, &report);
        fesetround(FE_TONEAREST);
        assert_int_equal(status, FIA_OK);
    }
}

/* Phase 0 of a large job ran in memory that then serves a small one. */
static void the_verdict_of_another_job_does_not_count(void **state) {
    fia_report report;
    fia_plan large, little;
    fia_job job;
    char *room;
    small s;
    (void)state;
    small_make(&s);
    small_bind(&s);
    s.p.n_sequences = s.io.n_sequences = 1000;
    s.p.out.sequence_bytes = 4;
    s.io.out = calloc(1000, sizeof(float));
    assert_int_equal(fia_plan_make(NULL, &s.p, 4, &large, &report), FIA_OK);
    room = (char *)malloc(large.workspace_bytes);
    assert_non_null(room);
    job.plan = &large, job.io = &s.io, job.workspace = room, job.workspace_bytes = large.workspace_bytes;
    assert_int_equal(fia_phase_run(&job, FIA_PHASE_CHECK, 0, 1, 0), FIA_OK);
    assert_true(fia_phase_items(&job, FIA_PHASE_ATTEND) >= 1000);
    free(s.io.out);
    small_make(&s);
    small_bind(&s);
    assert_int_equal(fia_plan_make(NULL, &s.p, 4, &little, &report), FIA_OK);
    job.plan = &little, job.workspace_bytes = little.workspace_bytes;
    assert_int_equal(fia_phase_items(&job, FIA_PHASE_ATTEND), 0);
    assert_int_equal(fia_job_report(&job, &report), FIA_ERR_ARGUMENT);
    assert_int_equal(fia_phase_run(&job, FIA_PHASE_ATTEND, 0, 1, 0), FIA_ERR_ARGUMENT);
    assert_int_equal(fia_explain(&little, &job, NULL, 0), fia_explain(&little, NULL, NULL, 0));
    assert_int_equal(fia_run(&job, NULL, &report), FIA_OK);
    assert_true(s.out == 2.5f);
    free(room);
}

/* Keys of four elements two apart, heads ten apart: elements 6 to 9 belong to nobody. */
static void outputs_may_lie_in_the_holes_of_inputs(void **state) {
    float room[16], value[2] = {5, 5};
    fia_report report;
    small s;
    int j;
    (void)state;
    small_make(&s);
    for (j = 0; j < 16; ++j) room[j] = 1;
    s.p.max_kv_len = 2;
    s.p.n_q_heads = s.p.n_kv_heads = 2;
    s.p.dim = 4;
    s.p.value_dim = 2;
    s.p.key.row_bytes = 8;
    s.p.key.head_bytes = 40;
    s.p.value.row_bytes = 0;
    s.p.out.head_bytes = 8;
    s.io.query = s.io.key = room;
    s.io.value = value;
    s.io.out = room + 6;
    if (plan_and_run(NULL, &s.p, &s.io, NULL, &report) != FIA_OK) fail_msg("%s", report.text);
    for (j = 0; j < 16; ++j) assert_true(room[j] == (j < 6 || j > 9 ? 1 : 5));
}

/* A shard that keeps scores of -inf alone is (NaN, -inf): nothing beside others, and 0 in the end. */
static void shards_without_weight_leave_nothing(void **state) {
    const float none = -INFINITY;
    float o[3] = {NAN, NAN, 5}, lse[3] = {-INFINITY, -INFINITY, 1}, result = -1;
    fia_merge_shape shape;
    fia_finish finish;
    (void)state;
    fia_merge_shape_init(&shape);
    shape.dim = 1;
    fia_finish_init(&finish);
    finish.result = &result;
    assert_int_equal(fia_merge(&shape, &o[0], &lse[0], &o[1], &lse[1], NULL), FIA_OK);
    assert_memory_equal(&lse[0], &none, sizeof none);
    assert_int_equal(fia_merge_finish(NULL, &shape, &finish, &o[0], &lse[0], NULL), FIA_OK);
    assert_true(result == 0);
    assert_int_equal(fia_merge(&shape, &o[0], &lse[0], &o[2], &lse[2], NULL), FIA_OK);
    assert_int_equal(fia_merge(&shape, &o[0], &lse[0], &o[1], &lse[1], NULL), FIA_OK);
    assert_true(o[0] == 5 && lse[0] == 1);
}

/* ---- the operator door ---- */

enum { B = 3, D = 16, PAGE = 2, COLUMNS = 2, PAGES = 6 };

static void operator_run(fia_fused_infer_attention_score_v2_args *args, fia_status expected) {
    fia_report report;
    fia_plan plan;
    fia_status status = fia_fused_infer_attention_score_v2_plan(NULL, args, 1, &plan, &report);
    if (status != expected) fail_msg("%d: %s", (int)status, report.text);
    if (status == FIA_OK) {
        void *workspace = malloc(plan.workspace_bytes);
        status = fia_fused_infer_attention_score_v2_run(&plan, args, workspace, plan.workspace_bytes, NULL, &report);
        if (status != FIA_OK) fail_msg("%s", report.text);
        free(workspace);
    }
}

/* Rows of the table side by side, with a gap, the same for all, backwards: each as a table that is spelled out. */
static void rows_of_a_block_table_may_lie_anywhere(void **state) {
    static const int32_t table[] = {5, 0, 3, 1, 4, 2, 0, 5, 2};
    static const int64_t step[] = {2, 3, 0, -2, 1}, shape_q[] = {B, 1, D}, shape_k[] = {PAGES, PAGE, D};
    static const int64_t shape_t[] = {B, COLUMNS}, lens[] = {4, 3, 4};
    float q[B * D], kv[PAGES * PAGE * D], out[2][B * D];
    int32_t spelled[B * COLUMNS];
    int i, j, way;
    (void)state;
    for (i = 0; i < B * D; ++i) q[i] = (float)(i % 7) - 3;
    for (i = 0; i < PAGES * PAGE * D; ++i) kv[i] = (float)(i * 31 % 101) / 50 - 1;
    for (i = 0; i < 5; ++i) {
        const int32_t *first = step[i] < 0 ? table + 6 : table;
        fia_fused_infer_attention_score_v2_args args;
        fia_fused_infer_attention_score_v2_init(&args);
        args.query = fia_tensor_make(q, FIA_F32, 3, shape_q);
        args.key = args.value = fia_tensor_make(kv, FIA_F32, 3, shape_k);
        args.block_size = PAGE;
        args.actual_seq_kvlen.data = lens;
        args.actual_seq_kvlen.count = B;
        for (j = 0; j < B * COLUMNS; ++j) spelled[j] = first[j / COLUMNS * step[i] + j % COLUMNS];
        for (way = 0; way < 2; ++way) {
            args.attention_out = fia_tensor_make(out[way], FIA_F32, 3, shape_q);
            args.block_table = fia_tensor_make(spelled, FIA_I32, 2, shape_t);
            if (way == 1) {
                args.block_table.data = (void *)(uintptr_t)first;
                args.block_table.stride[0] = step[i];
            }
            operator_run(&args, FIA_OK);
        }
        assert_memory_equal(out[0], out[1], sizeof out[0]);
    }
}

/* A mask without elements is as none, in mode 0. */
static void an_empty_mask_is_no_mask(void **state) {
    static const int64_t shape_q[] = {1, 3, D}, shape_k[] = {1, 4, D}, shape_m[] = {0, 4};
    float q[3 * D], kv[4 * D], out[2][3 * D];
    int i, way;
    (void)state;
    for (i = 0; i < 3 * D; ++i) q[i] = (float)(i % 7) - 3;
    for (i = 0; i < 4 * D; ++i) kv[i] = (float)(i * 31 % 101) / 50 - 1;
    for (way = 0; way < 3; ++way) {
        fia_fused_infer_attention_score_v2_args args;
        fia_fused_infer_attention_score_v2_init(&args);
        args.query = fia_tensor_make(q, FIA_F32, 3, shape_q);
        args.key = args.value = fia_tensor_make(kv, FIA_F32, 3, shape_k);
        args.attention_out = fia_tensor_make(out[way > 0], FIA_F32, 3, shape_q);
        if (way) args.atten_mask = fia_tensor_make(NULL, FIA_BOOL, way, shape_m);
        args.next_tokens = 0; /* without a mask of no effect */
        operator_run(&args, FIA_OK);
        assert_memory_equal(out[0], out[way > 0], sizeof out[0]);
        args.sparse_mode = 1;
        operator_run(&args, FIA_ERR_ARGUMENT);
    }
}

/* All rows of the first key are one, those of the second are not: that is two row strides, whichever comes first. */
static void lists_of_several_row_strides_are_not_in_the_build(void **state) {
    static const int64_t shape_q[] = {2, 1, D}, shape_k[] = {1, 4, D}, shape_one[] = {1, 1, D};
    float *room = (float *)calloc(4 * D, sizeof(float)), *one = (float *)calloc(D, sizeof(float)), out[2 * D];
    int order, short_first;
    (void)state;
    for (order = 0; order < 2; ++order)
        for (short_first = 0; short_first < 2; ++short_first) {
            fia_fused_infer_attention_score_v2_args args;
            fia_tensor list[2];
            fia_fused_infer_attention_score_v2_init(&args);
            list[order] = fia_tensor_make(one, FIA_F32, 3, shape_k);
            list[order].stride[1] = 0;
            list[1 - order] = fia_tensor_make(room, FIA_F32, 3, shape_k);
            if (short_first) list[1 - order] = fia_tensor_make(one, FIA_F32, 3, shape_one); /* no stride of its own */
            args.query = fia_tensor_make(room, FIA_F32, 3, shape_q);
            args.attention_out = fia_tensor_make(out, FIA_F32, 3, shape_q);
            args.key_list = args.value_list = list;
            args.list_count = 2;
            operator_run(&args, short_first ? FIA_OK : FIA_ERR_NOT_IN_BUILD);
        }
    free(room);
    free(one);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_reach_as_far_as_positions),
        cmocka_unit_test(a_large_scale_stays_finite),
        cmocka_unit_test(any_rounding_mode_is_planned),
        cmocka_unit_test(the_verdict_of_another_job_does_not_count),
        cmocka_unit_test(outputs_may_lie_in_the_holes_of_inputs),
        cmocka_unit_test(shards_without_weight_leave_nothing),
        cmocka_unit_test(rows_of_a_block_table_may_lie_anywhere),
        cmocka_unit_test(an_empty_mask_is_no_mask),
        cmocka_unit_test(lists_of_several_row_strides_are_not_in_the_build),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
