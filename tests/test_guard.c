/* SPDX-License-Identifier: MIT
 *
 * What a run touches: guard pages directly behind or before every buffer, inputs that cannot be written, K and V rows
 * outside the bounds on pages that cannot be read, bytes between and behind output rows, the end of the workspace.
 * A wrong access ends the test with a signal.
 */
#define _DEFAULT_SOURCE
#include "call_scenarios.h"

/* ---- guard pages around buffers ---- */

/* From now on inputs cannot be written. */
static void protect_inputs(const call *c) {
    const char *out = c->tensor[CALL_OUT].base[0], *lse = c->tensor[CALL_LSE].base[0];
    const size_t page = call_system_page();
    int k;
    for (k = 0; k < c->n_memory; ++k) {
        char *at = c->mapping[k];
        const size_t bytes = c->memory_bytes[k];
        if ((out >= at && out < at + bytes) || (lse >= at && lse < at + bytes) || bytes <= 2 * page) continue;
        assert_int_equal(mprotect(at + page, bytes - 2 * page, PROT_READ), 0);
    }
}

static void run_between_guards(int k, int keys, int packed, int guard, int mode) {
    const call_how how = {mode, mode == CALL_SERIAL ? 1 : 2, 0, 5, 0xff, 0};
    call_spec spec;
    call_form form = {0};
    call c;
    scenario_spec(k, &spec);
    if (keys == CALL_NZ && (spec.D % 16 || spec.Dv % 16 || spec.Dr % 16)) return;
    if (keys >= CALL_LIST && (packed & 2)) return;
    form.q_order = (k + keys) & 1;
    form.q_packed = packed & 1;
    form.kv_packed = packed >> 1;
    form.keys = keys;
    form.page_size = 5;
    form.placement = 3;
    form.guard = guard;
    form.fill = 0xff;
    call_make(&c, &spec, &form);
    protect_inputs(&c);
    call_run(&c, &how);
    call_free(&c);
}

static void touch_no_guard_page(int guard) {
    int k, keys, packed;
    for (k = 0; k < SCENARIOS; ++k)
        for (keys = CALL_HEAD_MAJOR; keys <= CALL_NZ; ++keys)
            for (packed = 0; packed < 4; ++packed)
                run_between_guards(k, keys, packed, guard, packed % 2 ? CALL_SERIAL : CALL_PHASES);
}

static void nothing_behind_any_buffer_is_touched(void **state) {
    (void)state;
    touch_no_guard_page(CALL_GUARD_BEHIND);
}

static void nothing_before_any_buffer_is_touched(void **state) {
    (void)state;
    touch_no_guard_page(CALL_GUARD_BEFORE);
}

/* At every place of a cache line, and to the last byte. */
static void nothing_behind_the_workspace_is_written(void **state) {
    int k, shift;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k) {
        const call_form form = {0};
        call_spec spec;
        call c;
        scenario_spec(k, &spec);
        call_make(&c, &spec, &form);
        for (shift = 0; shift < 64; shift += 9) {
            fia_plan plan;
            fia_job job;
            size_t i, bytes;
            unsigned char *memory;
            assert_int_equal(fia_plan_make(NULL, &c.problem, 1 + shift % 4, &plan, NULL), FIA_OK);
            bytes = plan.workspace_bytes + 256;
            memory = (unsigned char *)call_room(&c, bytes, 1);
            memset(memory, 0xa5, bytes);
            job.plan = &plan;
            job.io = &c.io;
            job.workspace = memory + 64 + shift;
            job.workspace_bytes = plan.workspace_bytes;
            assert_int_equal(call_run_phases(&job, plan.max_workers, (uint64_t)shift, NULL), FIA_OK);
            for (i = 0; i < 64 + (size_t)shift; ++i) assert_int_equal(memory[i], 0xa5);
            for (i = 64 + (size_t)shift + plan.workspace_bytes; i < bytes; ++i) assert_int_equal(memory[i], 0xa5);
            fia_plan_release(&plan);
        }
        call_free(&c);
    }
}

/* ---- rows outside the bounds ---- */

typedef struct bounds {
    const char *name;
    int causal;
    int64_t window_left, window_right;
    int offsets;
    int64_t q_offset, kv_offset;
} bounds;

static const bounds all_bounds[] = {
    {"lengths alone", 0, FIA_UNBOUNDED, FIA_UNBOUNDED, 0, 0, 0},
    {"causal", 1, FIA_UNBOUNDED, FIA_UNBOUNDED, 0, 0, 0},
    {"causal, half of the keys in the future", 1, FIA_UNBOUNDED, FIA_UNBOUNDED, 1, 1000 + 20, 1000},
    {"all keys in the future", 1, FIA_UNBOUNDED, FIA_UNBOUNDED, 1, 0, 500},
    {"causal, rows before the keys begin", 1, FIA_UNBOUNDED, FIA_UNBOUNDED, 1, -3, -1},
    {"window to the left", 1, 6, FIA_UNBOUNDED, 0, 0, 0},
    {"window of one key", 1, 0, FIA_UNBOUNDED, 1, 17, 0},
    {"band around the row", 0, 4, 3, 1, 30, 13},
    {"band ahead of the row", 0, -5, 9, 1, 7, 0},
    {"band behind the row", 0, 9, -5, 1, 41, -7},
    {"window past the first key", 0, FIA_UNBOUNDED, -40, 1, 20, 0},
    {"window past the last key", 0, -70, FIA_UNBOUNDED, 1, 20, 0},
};

/* Rows of whole system pages, so that each can be locked alone. */
static void spec_of_pages(call_spec *s, const bounds *of, int is_f16, int family) {
    int b;
    call_spec_init(s);
    s->n = 0;
    scenario_heads(s, 2, 2, (int32_t)(call_system_page() / (is_f16 ? 2 : 4)), 0);
    s->Dv = s->D;
    if (is_f16) scenario_dtypes(s, FIA_F16, FIA_F16, FIA_F16, FIA_F16);
    scenario_sequence(s, family == FIA_FAMILY_STREAM ? 3 : 11, 53, 0, 0);
    scenario_sequence(s, 0, 20, 0, 0);
    scenario_sequence(s, 2, 9, 0, 0);
    scenario_sequence(s, 4, 0, 0, 0);
    s->causal = of->causal;
    s->window_left = of->window_left;
    s->window_right = of->window_right;
    s->offsets = of->offsets;
    s->pin_family = family;
    for (b = 0; b < s->n; ++b) {
        s->sequence[b].q_offset = of->q_offset;
        s->sequence[b].kv_offset = of->kv_offset;
    }
}

static void lock(const call *c, int which) {
    const call_tensor *t = &c->tensor[which];
    int b;
    for (b = 0; b < CALL_SEQUENCES; ++b)
        if (t->bytes[b]) assert_int_equal(mprotect(t->base[b], t->bytes[b], PROT_NONE), 0);
}

static void unlock_row(const call *c, int which, int b, int64_t h, int64_t row) {
    assert_int_equal(mprotect(call_at(c, which, b, h, row), call_system_page(), PROT_READ | PROT_WRITE), 0);
}

/* Everything is locked but the rows that the run has to do with; table entries that no row may follow name no page. */
static int64_t lock_all_but_live_rows(const call *c) {
    const oracle_call from = {&c->problem, &c->io, NULL};
    int64_t h, r, j, unlocked = 0;
    int b;
    lock(c, CALL_Q);
    lock(c, CALL_OUT);
    lock(c, CALL_K);
    lock(c, CALL_V);
    for (b = 0; b < c->spec.n; ++b) {
        oracle_sequence s;
        oracle_find_sequence(&from, b, &s);
        for (h = 0; h < c->problem.n_q_heads; ++h)
            for (r = 0; r < s.q_len; ++r) {
                unlock_row(c, CALL_Q, b, h, r);
                unlock_row(c, CALL_OUT, b, h, r);
            }
        for (j = 0; j < s.kv_len; ++j) {
            if (!oracle_any_row_in_bounds(&from, &s, j)) continue;
            ++unlocked;
            for (h = 0; h < c->spec.Hkv; ++h) {
                unlock_row(c, CALL_K, b, h, j);
                unlock_row(c, CALL_V, b, h, j);
            }
        }
        for (j = 0; c->table && j < c->columns; ++j) {
            int64_t key, live = 0;
            for (key = j * c->form.page_size; key < (j + 1) * c->form.page_size; ++key)
                live += oracle_any_row_in_bounds(&from, &s, key);
            if (!live) c->table[b * c->columns + j] = j % 2 ? INT32_MIN : INT32_MAX;
        }
    }
    return unlocked;
}

static void rows_outside_bounds_are_never_touched(void **state) {
    const size_t n = sizeof all_bounds / sizeof all_bounds[0];
    int64_t unlocked = 0;
    size_t k;
    int keys, family, is_f16;
    (void)state;
    for (k = 0; k < n; ++k)
        for (keys = CALL_HEAD_MAJOR; keys <= CALL_BNNBSD; ++keys)
            for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family)
                for (is_f16 = 0; is_f16 < 2; ++is_f16) {
                    const call_how how = {is_f16 ? CALL_SERIAL : CALL_PHASES, is_f16 ? 1 : 2, 0, 1, 0xff, 0};
                    fia_report report = {FIA_OK, ""};
                    call_form form = {0};
                    call_spec spec;
                    call c;
                    spec_of_pages(&spec, &all_bounds[k], is_f16, family);
                    form.keys = keys;
                    form.q_order = keys & 1;
                    form.page_size = 4;
                    form.placement = 1 + k;
                    form.guard = CALL_GUARD_BEHIND;
                    form.fill = 0x3c; /* a small number in every type */
                    form.no_fill = 1;
                    form.spare_q = 1;
                    form.spare_kv = keys < CALL_LIST ? 3 : 0;
                    call_make(&c, &spec, &form);
                    unlocked += lock_all_but_live_rows(&c);
                    if (call_try(&c, &how, &report) != FIA_OK) fail_msg("%s: %s", all_bounds[k].name, report.text);
                    call_free(&c);
                }
    printf("%ld K and V rows readable\n", (long)unlocked);
    assert_true(unlocked > 1000);
}

/* ---- what lies between output rows ---- */

/* Marks the bytes of live rows. */
static void mark_live(const call *c, int which, unsigned char *live) {
    const call_tensor *t = &c->tensor[which];
    const size_t bytes = (size_t)t->elements * call_size(t->dtype);
    int64_t h, r;
    int b;
    for (b = 0; b < c->spec.n; ++b)
        for (h = 0; h < t->heads; ++h)
            for (r = 0; r < c->spec.sequence[b].q_len; ++r)
                memset(live + (call_at(c, which, b, h, r) - t->base[0]), 1, bytes);
}

static void check_gaps(const call *c, int which, const char *name) {
    const call_tensor *t = &c->tensor[which];
    unsigned char *live = (unsigned char *)calloc(t->bytes[0] + 1, 1);
    size_t i, changed = 0;
    assert_non_null(live);
    mark_live(c, which, live);
    for (i = 0; i < t->bytes[0]; ++i) {
        const unsigned char byte = (unsigned char)t->base[0][i];
        if (live[i]) changed += byte != c->form.fill;
        else if (byte != c->form.fill)
            fail_msg("byte %lu of %s lies between rows and was written", (unsigned long)i, name);
    }
    assert_true(changed > 0);
    free(live);
}

static void bytes_between_output_rows_are_left_alone(void **state) {
    int k, order, packed, gap;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k)
        for (order = CALL_HEAD_MAJOR; order <= CALL_TOKEN_MAJOR; ++order)
            for (packed = 0; packed < 2; ++packed)
                for (gap = 1; gap <= 17; gap += 8) {
                    const call_how how = {CALL_PHASES, 1 + gap % 4, 0, 9, 0, 0};
                    call_form form = {0};
                    call_spec spec;
                    call c;
                    scenario_spec(k, &spec);
                    form.q_order = order;
                    form.q_packed = packed;
                    form.gap = gap;
                    form.spare_q = 3;
                    form.spare_sequences = 1;
                    form.fill = 0xa5;
                    call_make(&c, &spec, &form);
                    call_run(&c, &how);
                    check_gaps(&c, CALL_OUT, "out");
                    check_gaps(&c, CALL_LSE, "lse");
                    call_free(&c);
                }
}

/* Head and row strides may be negative: the tensor then ends where it is named. */
static void outputs_with_negative_strides_stay_within_their_rows(void **state) {
    int k;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k) {
        const call_form form = {CALL_HEAD_MAJOR,   0, CALL_HEAD_MAJOR, 0, 0, 0, 2, 0, 0x5a, 0, 0, 0,
                                CALL_GUARD_BEHIND, 0};
        const call_how how = {CALL_SERIAL, 1, 1, 0, 0, 0};
        fia_report report = {FIA_OK, ""};
        const call_tensor *o;
        char *plain, *got;
        int64_t h, r;
        size_t bytes;
        call_spec spec;
        call c;
        int b;
        scenario_spec(k, &spec);
        call_make(&c, &spec, &form);
        call_run(&c, &how);
        o = &c.tensor[CALL_OUT];
        plain = (char *)malloc(o->bytes[0]);
        assert_non_null(plain);
        memcpy(plain, o->base[0], o->bytes[0]);
        memset(o->base[0], form.fill, o->bytes[0]);
        c.problem.out.row_bytes = -o->row_bytes;
        c.problem.out.head_bytes = -o->head_bytes;
        c.io.out = o->base[0] + (o->heads - 1) * o->head_bytes + (o->rows - 1) * o->row_bytes;
        if (call_try(&c, &how, &report) != FIA_OK) fail_msg("%s", report.text);
        bytes = (size_t)o->elements * call_size(o->dtype);
        for (b = 0; b < spec.n; ++b)
            for (h = 0; h < o->heads; ++h)
                for (r = 0; r < o->rows; ++r) {
                    got = (char *)c.io.out + b * o->outer_bytes - h * o->head_bytes - r * o->row_bytes;
                    assert_memory_equal(got, plain + (call_at(&c, CALL_OUT, b, h, r) - o->base[0]), bytes);
                }
        free(plain);
        call_free(&c);
    }
}

/* A workspace one byte short is refused and nothing is written. */
static void a_workspace_one_byte_short_is_refused(void **state) {
    int k;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k) {
        const call_form form = {0};
        fia_report report;
        fia_plan plan;
        fia_job job;
        call_spec spec;
        call c;
        size_t i;
        scenario_spec(k, &spec);
        call_make(&c, &spec, &form);
        assert_int_equal(fia_plan_make(NULL, &c.problem, 2, &plan, &report), FIA_OK);
        job.plan = &plan;
        job.io = &c.io;
        job.workspace = call_room(&c, plan.workspace_bytes, 1);
        job.workspace_bytes = plan.workspace_bytes - 1;
        assert_int_equal(fia_run(&job, NULL, &report), FIA_ERR_ARGUMENT);
        assert_non_null(strstr(report.text, "workspace_bytes"));
        assert_int_equal(fia_phase_run(&job, FIA_PHASE_CHECK, 0, 1, 0), FIA_ERR_ARGUMENT);
        for (i = 0; i < plan.workspace_bytes; ++i) assert_int_equal(((char *)job.workspace)[i], 0);
        for (i = 0; i < c.tensor[CALL_OUT].bytes[0]; ++i) assert_int_equal(c.tensor[CALL_OUT].base[0][i], 0);
        call_free(&c);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nothing_behind_any_buffer_is_touched),
    cmocka_unit_test(nothing_before_any_buffer_is_touched),
    cmocka_unit_test(nothing_behind_the_workspace_is_written),
    cmocka_unit_test(rows_outside_bounds_are_never_touched),
    cmocka_unit_test(bytes_between_output_rows_are_left_alone),
    cmocka_unit_test(outputs_with_negative_strides_stay_within_their_rows),
    cmocka_unit_test(a_workspace_one_byte_short_is_refused),
};

CALL_MAIN(tests)
