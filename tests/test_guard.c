/* SPDX-License-Identifier: MIT
 *
 * What a run touches: guard pages directly behind or before every buffer of the engine door, the operator door and the
 * merge, inputs that cannot be written, K and V rows outside the bounds on pages that cannot be read, bytes between and
 * behind output rows, the end of the workspace.
 * A wrong access ends the test with a signal.
 */
#define _DEFAULT_SOURCE
#include "call_scenarios.h"

/* ---- guard pages around buffers ---- */

/* From now on nothing can be written but what holds one of the two addresses. */
static void protect_all_but(const call *c, const void *out, const void *lse) {
    const char *const kept[2] = {(const char *)out, (const char *)lse};
    const size_t page = call_system_page();
    int k;
    for (k = 0; k < c->n_memory; ++k) {
        char *at = c->mapping[k];
        const size_t bytes = c->memory_bytes[k];
        if ((kept[0] >= at && kept[0] < at + bytes) || (kept[1] >= at && kept[1] < at + bytes)) continue;
        if (bytes > 2 * page) assert_int_equal(mprotect(at + page, bytes - 2 * page, PROT_READ), 0);
    }
}

static void run_spec_between_guards(const call_spec *spec, int odd, int keys, int packed, int guard) {
    const int mode = packed % 2 ? CALL_SERIAL : CALL_PHASES;
    const call_how how = {mode, mode == CALL_SERIAL ? 1 : 2, 0, 5, 0xff, 0};
    call_form form = {0};
    call c;
    if (keys == CALL_NZ && (spec->D % 16 || spec->Dv % 16 || spec->Dr % 16)) return;
    if (keys >= CALL_LIST && (packed & 2)) return;
    form.q_order = odd;
    form.q_packed = packed & 1;
    form.kv_packed = packed >> 1;
    form.keys = keys;
    form.own_strides = keys == CALL_LIST && odd;
    form.narrow_ints = odd;
    form.page_size = 5;
    form.placement = 3;
    form.guard = guard;
    form.fill = 0xff;
    call_make(&c, spec, &form);
    protect_all_but(&c, c.io.out, c.io.lse);
    call_run(&c, &how);
    call_free(&c);
}

static void touch_no_guard_page(int guard) {
    int k, keys, packed;
    for (k = 0; k < SCENARIOS; ++k)
        for (keys = CALL_HEAD_MAJOR; keys <= CALL_NZ; ++keys)
            for (packed = 0; packed < 4; ++packed) {
                call_spec spec;
                scenario_spec(k, &spec);
                run_spec_between_guards(&spec, (k + keys) & 1, keys, packed, guard);
            }
}

static void nothing_behind_any_buffer_is_touched(void **state) {
    (void)state;
    touch_no_guard_page(CALL_GUARD_BEHIND);
}

static void nothing_before_any_buffer_is_touched(void **state) {
    (void)state;
    touch_no_guard_page(CALL_GUARD_BEFORE);
}

/* ---- scales and offsets ---- */

enum { ALL_ROWS = CALL_BY_SEQUENCE | CALL_BY_HEAD | CALL_BY_TOKEN, HEAD_CHANNELS = CALL_BY_HEAD | CALL_BY_CHANNEL };

/* Per token, per channel, per head, one for all, in every type and at every place that a plan takes. Of query, of key
 * and its offset, of value and its offset, of out and its offset. */
static const call_scale scale_styles[][CALL_SCALES] = {
    {{FIA_F32, FIA_PLACE_ROWS, ALL_ROWS},
     {FIA_F16, FIA_PLACE_ROWS, ALL_ROWS},
     {FIA_F32, FIA_PLACE_LOCAL, ALL_ROWS},
     {FIA_F32, FIA_PLACE_LOCAL, CALL_BY_SEQUENCE | CALL_BY_TOKEN},
     {FIA_BF16, FIA_PLACE_ROWS, CALL_BY_TOKEN},
     {FIA_F32, FIA_PLACE_ROWS, HEAD_CHANNELS},
     {FIA_F16, FIA_PLACE_ROWS, CALL_BY_CHANNEL}},
    {{FIA_F16, FIA_PLACE_ROWS, CALL_BY_HEAD},
     {FIA_F32, FIA_PLACE_LOCAL, CALL_BY_SEQUENCE | HEAD_CHANNELS},
     {FIA_BF16, FIA_PLACE_ROWS, HEAD_CHANNELS},
     {FIA_BF16, FIA_PLACE_ROWS, CALL_BY_CHANNEL},
     {FIA_F16, FIA_PLACE_LOCAL, CALL_BY_SEQUENCE | HEAD_CHANNELS},
     {FIA_BF16, FIA_PLACE_ROWS, CALL_BY_HEAD},
     {FIA_F32, FIA_PLACE_ROWS, 0}},
    {{FIA_BF16, FIA_PLACE_ROWS, CALL_BY_TOKEN},
     {FIA_F32, FIA_PLACE_PAGES, ALL_ROWS},
     {FIA_F16, FIA_PLACE_PAGES, CALL_BY_SEQUENCE | CALL_BY_TOKEN},
     {FIA_F16, FIA_PLACE_PAGES, CALL_BY_SEQUENCE},
     {FIA_F32, FIA_PLACE_PAGES, ALL_ROWS},
     {FIA_NONE, 0, 0},
     {FIA_BF16, FIA_PLACE_ROWS, HEAD_CHANNELS}},
    {{FIA_NONE, 0, 0},
     {FIA_BF16, FIA_PLACE_ROWS, CALL_BY_SEQUENCE | HEAD_CHANNELS}, /* packed rows have no sequence stride */
     {FIA_F32, FIA_PLACE_ROWS, ALL_ROWS},
     {FIA_F16, FIA_PLACE_ROWS, 0},
     {FIA_F32, FIA_PLACE_LOCAL, CALL_BY_HEAD},
     {FIA_F16, FIA_PLACE_ROWS, HEAD_CHANNELS},
     {FIA_NONE, 0, 0}},
};
enum { SCALE_STYLES = (int)(sizeof scale_styles / sizeof scale_styles[0]) };

/* Keys that are not paged have no pages for scales; their rows stand in. */
static void set_scales(call_spec *spec, int style, int keys) {
    int i;
    memcpy(spec->scales, scale_styles[style], sizeof spec->scales);
    for (i = 0; i < CALL_SCALES; ++i)
        if (spec->scales[i].place == FIA_PLACE_PAGES && keys < CALL_BNBSH) spec->scales[i].place = FIA_PLACE_ROWS;
}

static void nothing_beside_scales_and_offsets_is_touched(void **state) {
    int k, keys, packed, style, guard;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k)
        for (keys = CALL_HEAD_MAJOR; keys <= CALL_NZ; ++keys)
            for (style = 0; style < SCALE_STYLES; ++style)
                for (guard = CALL_GUARD_BEHIND; guard <= CALL_GUARD_BEFORE; ++guard) {
                    call_spec spec;
                    packed = (k + style) % 4;
                    scenario_spec(k, &spec);
                    set_scales(&spec, style, keys);
                    run_spec_between_guards(&spec, (k + keys) & 1, keys, keys >= CALL_LIST ? packed & 1 : packed,
                                            guard);
                }
}

/* Rows of no keys read no term by key or head, so a call may leave them out. */
static void a_run_without_keys_needs_queries_alone(void **state) {
    const call_how how = {CALL_PHASES, 3, 0, 1, 0xff, 0};
    const float none = -INFINITY;
    int64_t h, r;
    int k, style, b;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k)
        for (style = 0; style < SCALE_STYLES; ++style) {
            const call_form form = {0};
            fia_report report;
            char *out, *end;
            call_spec spec;
            fia_io io;
            call c;
            scenario_spec(k, &spec);
            set_scales(&spec, style, CALL_HEAD_MAJOR);
            for (b = 0; b < spec.n; ++b) spec.sequence[b].kv_len = 0;
            call_make(&c, &spec, &form);
            io = c.io;
            fia_io_init(&c.io);
            c.io.n_sequences = io.n_sequences;
            c.io.q_lens = io.q_lens;
            c.io.kv_lens = io.kv_lens;
            c.io.query = io.query;
            c.io.query_rope = io.query_rope;
            c.io.out = io.out;
            c.io.lse = io.lse;
            if (call_try(&c, &how, &report) != FIA_OK)
                fail_msg("%s, scales %d: %s", scenario_name(k), style, report.text);
            for (b = 0; b < spec.n; ++b)
                for (h = 0; h < spec.Hkv * spec.G; ++h)
                    for (r = 0; r < spec.sequence[b].q_len; ++r) {
                        out = call_at(&c, CALL_OUT, b, h, r);
                        end = out + (size_t)spec.Dv * call_size(spec.out);
                        while (out < end) assert_int_equal(*out++, 0);
                        assert_memory_equal(call_at(&c, CALL_LSE, b, h, r), &none, 4);
                    }
            call_free(&c);
        }
}

/* ---- the workspace ---- */

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

/* A row of keys; rows in pieces lie among the others of their page, which then comes as a whole. */
static void unlock_key(const call *c, int which, int b, int64_t h, int64_t j) {
    const call_tensor *t = &c->tensor[which];
    if (!t->piece) unlock_row(c, which, b, h, j);
    else
        assert_int_equal(
            mprotect(call_at(c, which, b, h, j - j % c->form.page_size), (size_t)t->head_bytes, PROT_READ | PROT_WRITE),
            0);
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
                unlock_key(c, CALL_K, b, h, j);
                unlock_key(c, CALL_V, b, h, j);
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
        for (keys = CALL_HEAD_MAJOR; keys <= CALL_NZ; ++keys)
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
        const call_form form = {.gap = 2, .fill = 0x5a, .guard = CALL_GUARD_BEHIND};
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

/* ---- the operator door ---- */

typedef fia_fused_infer_attention_score_v2_args v2_args;

/* A layout and the axes of its tensors, see operator_tensor. */
typedef struct operator_form {
    const char *layout, *rows_axes, *keys_axes;
    int q_order, packed, keys;
} operator_form;

static const operator_form operator_forms[] = {
    {"BSH", "BSH", "BSH", CALL_TOKEN_MAJOR, 0, CALL_TOKEN_MAJOR},
    {"BSND", "BSND", "BSND", CALL_TOKEN_MAJOR, 0, CALL_TOKEN_MAJOR},
    {"BNSD", "BNSD", "BNSD", CALL_HEAD_MAJOR, 0, CALL_HEAD_MAJOR},
    {"TND", "SND", "SND", CALL_TOKEN_MAJOR, 1, CALL_TOKEN_MAJOR},
    {"NTD", "NSD", "NSD", CALL_HEAD_MAJOR, 1, CALL_HEAD_MAJOR},
    {"BSH", "BSH", "BSH", CALL_TOKEN_MAJOR, 0, CALL_BNBSH},
    {"TND", "SND", "BNSD", CALL_TOKEN_MAJOR, 1, CALL_BNNBSD},
    {"BNSD", "BNSD", "BNPSC", CALL_HEAD_MAJOR, 0, CALL_NZ},
    {"BSH", "BSH", "BSH", CALL_TOKEN_MAJOR, 0, CALL_LIST},
    {"BNSD", "BNSD", "BNSD", CALL_HEAD_MAJOR, 0, CALL_LIST},
};
enum { OPERATOR_FORMS = (int)(sizeof operator_forms / sizeof operator_forms[0]) };

/* Variants of a call, by bit. */
enum { ONE_ROW = 1, LENGTH_TENSORS = 2, CAUSAL_WITH_ROPE = 4, OPERATOR_VARIANTS = 8 };

/* B: sequences or pages, N: heads, S: rows, D: elements, H: heads side by side, P: pieces, C: elements of a piece. */
static fia_tensor operator_tensor(const call_tensor *t, const char *axes) {
    const ptrdiff_t size = (ptrdiff_t)call_size(t->dtype);
    fia_tensor made = fia_tensor_make(t->base[0], t->dtype, 0, NULL);
    for (; *axes; ++axes) {
        int64_t shape = t->elements;
        ptrdiff_t stride = size;
        switch (*axes) {
        case 'B': shape = t->outer, stride = t->outer_bytes; break;
        case 'N': shape = t->heads, stride = t->head_bytes; break;
        case 'S': shape = t->rows, stride = t->row_bytes; break;
        case 'H': shape = t->heads * t->elements; break;
        case 'P': shape = t->elements / t->piece, stride = t->piece_bytes; break;
        case 'C': shape = t->piece; break;
        default: break;
        }
        made.shape[made.ndim] = shape;
        made.stride[made.ndim++] = stride / size;
    }
    return made;
}

/* One tensor per sequence. */
static const fia_tensor *operator_list(call *c, int which, const char *axes) {
    const size_t n = (size_t)c->spec.n;
    fia_tensor *list = (fia_tensor *)(void *)call_room(c, n * sizeof *list, sizeof *list);
    int b;
    for (b = 0; b < c->spec.n; ++b) {
        call_tensor one = c->tensor[which];
        one.base[0] = one.base[b];
        one.head_bytes = one.list_head_bytes[b];
        one.rows = c->spec.sequence[b].kv_len;
        list[b] = operator_tensor(&one, axes);
    }
    return list;
}

static void operator_lengths(call *c, v2_args *a, int variant) {
    const int padded = !c->form.q_packed && c->form.keys <= CALL_TOKEN_MAJOR, one = padded && variant & ONE_ROW;
    const int64_t n = one ? 1 : c->spec.n;
    fia_ints q = c->io.q_lens, kv = c->io.kv_lens;
    if (one) kv = call_make_ints(c, &c->spec.sequence[0].kv_len, 1); /* serves all sequences */
    if (c->form.kv_packed) { /* the operator's running sums leave out the 0 at the beginning */
        int64_t ends[CALL_SEQUENCES];
        int b;
        for (b = 0; b < n; ++b) ends[b] = c->kv_start[b] + c->spec.sequence[b].kv_len;
        kv = call_make_ints(c, ends, (int)n);
    }
    if (variant & LENGTH_TENSORS) {
        a->actual_seq_qlen_tensor = fia_tensor_make((void *)(uintptr_t)q.data, q.dtype, 1, &n);
        a->actual_seq_kvlen_tensor = fia_tensor_make((void *)(uintptr_t)kv.data, kv.dtype, 1, &n);
        return;
    }
    a->actual_seq_qlen.data = (const int64_t *)q.data;
    a->actual_seq_kvlen.data = (const int64_t *)kv.data;
    a->actual_seq_qlen.count = a->actual_seq_kvlen.count = n;
}

static void operator_spec(const operator_form *f, int variant, call_spec *s) {
    static const fia_dtype dtypes[3] = {FIA_F32, FIA_F16, FIA_BF16};
    const fia_dtype dtype = f->keys == CALL_NZ ? FIA_F16 : dtypes[(f - operator_forms + variant) % 3];
    const int one_row = variant & ONE_ROW, causal = variant & CAUSAL_WITH_ROPE;
    call_spec_init(s);
    s->n = 0;
    if (f->keys == CALL_NZ) scenario_heads(s, 2, 2, 32, 48);
    else scenario_heads(s, 2, 2, 19, 21);
    scenario_dtypes(s, dtype, dtype, dtype, dtype);
    scenario_sequence(s, one_row ? 1 : 2, 40, 0, 0);
    scenario_sequence(s, one_row ? 1 : 37, 17, 0, 0);
    scenario_sequence(s, 1, 0, 0, 0);
    scenario_sequence(s, one_row ? 1 : 37, 40, 0, 0);
    s->no_lse = causal != 0;
    s->Dr = causal && f->keys != CALL_LIST ? 16 : 0;
    if (causal) return;
    s->bias = dtype;
    s->drop = FIA_BOOL;
    s->sinks = FIA_F32;
}

enum { CAUSAL_SIDE = 2048 };

/* Without an LSE the operator writes one 0 into a tensor that is given. */
static void operator_masks(call *c, v2_args *a) {
    const int64_t one = 1, heads = c->problem.n_q_heads, causal[2] = {CAUSAL_SIDE, CAUSAL_SIDE};
    if (c->spec.no_lse) {
        a->softmax_lse = fia_tensor_make(call_room(c, 4, 4), FIA_F32, 1, &one);
        a->sparse_mode = 3;
        a->atten_mask = fia_tensor_make(call_room(c, CAUSAL_SIDE * CAUSAL_SIDE, 1), FIA_BOOL, 2, causal);
        return;
    }
    a->return_softmax_lse = 1;
    a->softmax_lse = operator_tensor(&c->tensor[CALL_LSE], c->form.q_packed ? "SND" : "BNSD");
    a->pse_shift = operator_tensor(&c->tensor[CALL_BIAS], "BNSD");
    a->atten_mask = operator_tensor(&c->tensor[CALL_DROP], "BNSD");
    a->learnable_sink = fia_tensor_make(c->tensor[CALL_SINKS].base[0], c->tensor[CALL_SINKS].dtype, 1, &heads);
}

/* The arguments, too, lie between guards. */
static v2_args *operator_args(call *c, const operator_form *f, int variant) {
    v2_args *a = (v2_args *)(void *)call_room(c, sizeof *a, sizeof *a);
    fia_fused_infer_attention_score_v2_init(a);
    a->input_layout = f->layout;
    a->num_query_heads = c->problem.n_q_heads;
    a->num_key_value_heads = c->problem.n_kv_heads;
    a->query = operator_tensor(&c->tensor[CALL_Q], f->rows_axes);
    a->attention_out = operator_tensor(&c->tensor[CALL_OUT], f->rows_axes);
    if (f->keys == CALL_LIST) {
        a->key_list = operator_list(c, CALL_K, f->keys_axes);
        a->value_list = operator_list(c, CALL_V, f->keys_axes);
        a->list_count = c->spec.n;
    } else {
        a->key = operator_tensor(&c->tensor[CALL_K], f->keys_axes);
        a->value = operator_tensor(&c->tensor[CALL_V], f->keys_axes);
    }
    if (c->spec.Dr) {
        a->query_rope = operator_tensor(&c->tensor[CALL_Q_ROPE], f->rows_axes);
        a->key_rope = operator_tensor(&c->tensor[CALL_K_ROPE], f->keys_axes);
    }
    if (c->table) {
        const int64_t shape[2] = {c->problem.n_sequences, c->columns};
        a->block_table = fia_tensor_make(c->table, FIA_I32, 2, shape);
        a->block_size = c->form.page_size;
    }
    operator_lengths(c, a, variant);
    operator_masks(c, a);
    return a;
}

static void run_operator_between_guards(const operator_form *f, int variant, int guard) {
    call_form form = {0};
    fia_report report = {FIA_OK, ""};
    call_spec spec;
    fia_plan plan;
    v2_args *args;
    char *workspace;
    call c;
    operator_spec(f, variant, &spec);
    form.q_order = f->q_order;
    form.q_packed = f->packed;
    form.kv_packed = f->packed && f->keys <= CALL_TOKEN_MAJOR;
    form.keys = f->keys;
    form.own_strides = f->keys == CALL_LIST && f->q_order == CALL_HEAD_MAJOR;
    form.narrow_ints = variant & LENGTH_TENSORS && variant & CAUSAL_WITH_ROPE; /* host lists are i64 */
    form.page_size = 8;
    form.placement = 3;
    form.guard = guard;
    form.fill = 0xff;
    call_make(&c, &spec, &form);
    args = operator_args(&c, f, variant);
    protect_all_but(&c, args->attention_out.data, args->softmax_lse.data);
    if (spec.no_lse) /* the causal mask: its content is not read */
        assert_int_equal(mprotect(args->atten_mask.data, CAUSAL_SIDE * CAUSAL_SIDE, PROT_NONE), 0);
    if (fia_fused_infer_attention_score_v2_plan(NULL, args, 1, &plan, &report) != FIA_OK)
        fail_msg("%s, variant %d: %s", f->layout, variant, report.text);
    workspace = call_room(&c, plan.workspace_bytes, 1);
    if (fia_fused_infer_attention_score_v2_run(&plan, args, workspace, plan.workspace_bytes, NULL, &report) != FIA_OK)
        fail_msg("%s, variant %d: %s", f->layout, variant, report.text);
    fia_plan_release(&plan);
    call_free(&c);
}

static void nothing_beside_the_tensors_of_an_operator_is_touched(void **state) {
    int k, variant, guard;
    (void)state;
    for (k = 0; k < OPERATOR_FORMS; ++k)
        for (variant = 0; variant < OPERATOR_VARIANTS; ++variant)
            for (guard = CALL_GUARD_BEHIND; guard <= CALL_GUARD_BEFORE; ++guard)
                run_operator_between_guards(&operator_forms[k], variant, guard);
}

/* ---- merges ---- */

/* A result of an attention call whose rows nobody computed. */
static void make_result(call *c, const call_spec *spec, const call_form *form) {
    call_make(c, spec, form);
    call_fill_tensor(c, CALL_OUT);
    call_fill_tensor(c, CALL_LSE);
}

static void merge_between_guards(const call_spec *whole, const call_form *form, int style) {
    call_form spread = *form;
    call_spec part_spec = *whole;
    fia_finish finish;
    fia_merge_shape shape;
    call into, part, result;
    float *out, *lse;
    part_spec.out = FIA_F32;
    fia_finish_init(&finish);
    make_result(&into, &part_spec, form);
    make_result(&part, &part_spec, form);
    protect_all_but(&into, into.io.out, into.io.lse);
    protect_all_but(&part, NULL, NULL);
    out = (float *)into.io.out;
    lse = into.io.lse;
    shape = call_merge_shape(&into);
    assert_int_equal(fia_merge(&shape, out, lse, (const float *)part.io.out, part.io.lse, NULL), FIA_OK);
    protect_all_but(&into, NULL, NULL);

    spread.q_order = !form->q_order;
    spread.gap = form->gap + 1;
    part_spec = *whole;
    set_scales(&part_spec, style, form->keys);
    call_make(&result, &part_spec, &spread);
    protect_all_but(&result, result.io.out, NULL);
    finish.sinks = result.io.sinks;
    finish.sinks_dtype = whole->sinks;
    finish.out = result.problem.out;
    finish.scale = result.problem.out_scale;
    finish.offset = result.problem.out_offset;
    finish.scale_data = result.io.out_scale;
    finish.offset_data = result.io.out_offset;
    finish.result = result.io.out;
    assert_int_equal(fia_merge_finish(NULL, &shape, &finish, out, lse, NULL), FIA_OK);
    call_free(&into);
    call_free(&part);
    call_free(&result);
}

static void nothing_beside_merged_rows_is_touched(void **state) {
    static const fia_dtype dtypes[4] = {FIA_NONE, FIA_F32, FIA_F16, FIA_BF16};
    int k, packed, n, guard;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k)
        for (packed = 0; packed < 2; ++packed)
            for (n = 0; n < 6; ++n)
                for (guard = CALL_GUARD_BEHIND; guard <= CALL_GUARD_BEFORE; ++guard) {
                    call_form form = {0};
                    call_spec spec;
                    scenario_spec(k, &spec);
                    spec.sinks = dtypes[(k + n) % 4];
                    spec.out = dtypes[1 + n % 3];
                    form.q_order = form.gap = n & 1;
                    form.q_packed = packed;
                    form.guard = guard;
                    form.fill = 0xff;
                    form.no_fill = 1;
                    merge_between_guards(&spec, &form, (k + n) % SCALE_STYLES);
                }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nothing_behind_any_buffer_is_touched),
    cmocka_unit_test(nothing_before_any_buffer_is_touched),
    cmocka_unit_test(nothing_beside_scales_and_offsets_is_touched),
    cmocka_unit_test(a_run_without_keys_needs_queries_alone),
    cmocka_unit_test(nothing_behind_the_workspace_is_written),
    cmocka_unit_test(rows_outside_bounds_are_never_touched),
    cmocka_unit_test(bytes_between_output_rows_are_left_alone),
    cmocka_unit_test(outputs_with_negative_strides_stay_within_their_rows),
    cmocka_unit_test(a_workspace_one_byte_short_is_refused),
    cmocka_unit_test(nothing_beside_the_tensors_of_an_operator_is_touched),
    cmocka_unit_test(nothing_beside_merged_rows_is_touched),
};

CALL_MAIN(tests)
