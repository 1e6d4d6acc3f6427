/* SPDX-License-Identifier: MIT
 *
 * The codec seam: int8 and int4 keys and values with every kind of scale and offset, int8 output, blocks with a scale
 * inside (q8_0) and a record that holds codes, rope and scales in one row. All of it comes from outside the library.
 */
#include "ext_common.h"

/* ---- blocks of 32 elements: an f16 scale, 32 signed bytes ---- */

enum { EXT_Q8_0 = FIA_DTYPE_USER, EXT_RECORD };

static void q8_0_decode(float *dst, ptrdiff_t dst_stride, const fia_rows *rows) {
    int32_t r, i;
    for (r = 0; r < rows->n; ++r)
        for (i = 0; i < rows->elements; ++i) {
            const char *block = rows->row[r] + i / 32 * 34;
            dst[r * dst_stride + i] = (float)oracle_decode(FIA_F16, block, 0) * (float)(signed char)block[2 + i % 32];
        }
}

static const fia_codec q8_0 = {
    .name = "ext_q8_0",
    .dtype = EXT_Q8_0,
    .granule = 32,
    .granule_bytes = 34,
    .alignment = 2,
    .decode = q8_0_decode,
};

/* ---- records: `codes` signed bytes, then bf16 rope elements, then an f32 scale per `tile` codes ---- */

typedef struct record_params {
    int32_t codes, tile;
    unsigned char unused[56];
} record_params;

static int64_t record_bytes(const fia_view *view, int32_t elements) {
    record_params p;
    memcpy(&p, view->params, sizeof(p));
    return p.codes + 2 * (elements - p.codes) + 4 * (p.codes / p.tile);
}

static int record_check(fia_view *view, int32_t elements, char *text, size_t text_bytes) {
    record_params p;
    memcpy(&p, view->params, sizeof(p));
    if (p.tile > 0 && p.codes > 0 && p.codes % p.tile == 0 && p.codes <= elements) return 0;
    snprintf(text, text_bytes, "tile %d does not divide the %d codes of a record", (int)p.tile, (int)p.codes);
    return 1;
}

/* V is the first elements of the same row: where the scales lie follows from the whole row, which params describe. */
static void record_decode(float *dst, ptrdiff_t dst_stride, const fia_rows *rows) {
    record_params p;
    int32_t r, i;
    memcpy(&p, rows->params, sizeof(p));
    for (r = 0; r < rows->n; ++r) {
        const char *row = rows->row[r], *scales = row + p.codes + 2 * 8;
        for (i = 0; i < rows->elements; ++i) {
            float x, scale;
            if (i < p.codes) {
                memcpy(&scale, scales + i / p.tile * 4, 4);
                x = (float)(signed char)row[i] * scale;
            } else {
                x = (float)oracle_decode(FIA_BF16, row + p.codes, i - p.codes);
            }
            dst[r * dst_stride + i] = x;
        }
    }
}

static const fia_codec record = {
    .name = "ext_record",
    .dtype = EXT_RECORD,
    .granule = 1,
    .granule_bytes = 1,
    .alignment = 4,
    .row_bytes = record_bytes,
    .check = record_check,
    .decode = record_decode,
};

static const fia_codec *const codecs[] = {&ext_i8, &ext_i4, &q8_0, &record, NULL};
static fia_context context;
static fia_kernels table;

/* ---- the records themselves ---- */

static void int8_decodes_rows_and_pieces(void **state) {
    const signed char bytes[8] = {-128, -1, 0, 127, 5, 6, 7, 8};
    const char *row[1] = {(const char *)bytes};
    fia_rows rows;
    float x[4];
    (void)state;
    memset(&rows, 0, sizeof(rows));
    rows.row = row;
    rows.n = 1;
    rows.elements = 4;
    ext_i8.decode(x, 4, &rows);
    assert_true(x[0] == -128 && x[1] == -1 && x[2] == 0 && x[3] == 127);
    rows.piece_elements = 2;
    rows.piece_bytes = 4;
    ext_i8.decode(x, 4, &rows);
    assert_true(x[0] == -128 && x[1] == -1 && x[2] == 5 && x[3] == 6);
}

static void int4_reads_the_low_nibble_first(void **state) {
    const unsigned char bytes[2] = {0x8f, 0x71};
    const char *row[1] = {(const char *)bytes};
    fia_rows rows;
    float x[4];
    (void)state;
    memset(&rows, 0, sizeof(rows));
    rows.row = row;
    rows.n = 1;
    rows.elements = 4;
    ext_i4.decode(x, 4, &rows);
    assert_true(x[0] == -1 && x[1] == -8 && x[2] == 1 && x[3] == 7);
}

static void int8_store_rounds_half_to_even_and_saturates(void **state) {
    const float src[6] = {0.5f, 1.5f, -2.5f, 1000.0f, -1000.0f, NAN}, mul[6] = {1, 1, 1, 1, 1, 1},
                add[6] = {0, 0, 0, 0, 0, 0};
    signed char got[6];
    (void)state;
    ext_i8.store((char *)got, src, 6, mul, add, NULL);
    assert_true(got[0] == 0 && got[1] == 2 && got[2] == -2 && got[3] == 127 && got[4] == -128 && got[5] == 0);
}

/* ---- small calls ---- */

static void a_build_without_the_codec_says_so(void **state) {
    fia_problem p;
    fia_plan plan;
    fia_report report;
    (void)state;
    ext_small(&p, 2, 1, 1, 8, 16, 16);
    p.key.dtype = FIA_I8;
    p.key.row_bytes = 16;
    p.key.head_bytes = p.key.sequence_bytes = 128;
    assert_int_equal(fia_plan_make(NULL, &p, 1, &plan, &report), FIA_ERR_NOT_IN_BUILD);
    assert_non_null(strstr(report.text, "key"));
    assert_int_equal(fia_plan_make(&context, &p, 1, &plan, &report), FIA_OK);
    fia_plan_release(&plan);
    p.out.dtype = FIA_I4;
    assert_int_not_equal(fia_plan_make(&context, &p, 1, &plan, &report), FIA_OK);
    assert_non_null(strstr(report.text, "out"));
}

static void a_row_that_breaks_a_granule_is_refused(void **state) {
    fia_problem p;
    fia_plan plan;
    fia_report report;
    (void)state;
    ext_small(&p, 2, 1, 1, 8, 15, 16);
    p.key.dtype = FIA_I4;
    p.key.row_bytes = 8;
    p.key.head_bytes = p.key.sequence_bytes = 64;
    assert_int_equal(fia_plan_make(&context, &p, 1, &plan, &report), FIA_ERR_ARGUMENT);
    assert_true(strlen(report.text) > 0);
}

/* Decode and prefill over rows of a codec with scales inside; `want` holds what each key decodes to. */
typedef struct wide_keys {
    const float *keys, *values;
    int32_t dim, value_dim;
    int64_t n;
} wide_keys;

static double wide_key(const void *data, int64_t b, int32_t h, int64_t j, int32_t i) {
    const wide_keys *w = (const wide_keys *)data;
    (void)b;
    return w->keys[(h * w->n + j) * w->dim + i];
}

static double wide_value(const void *data, int64_t b, int32_t h, int64_t j, int32_t i) {
    const wide_keys *w = (const wide_keys *)data;
    (void)b;
    return w->values[(h * w->n + j) * w->value_dim + i];
}

static void run_wide(const fia_problem *p, fia_io *io, const wide_keys *wide, double bound) {
    const oracle_source source = {wide_key, wide_value, NULL, NULL, wide};
    const size_t rows = (size_t)(p->n_q_heads * p->max_q_len);
    case_random random = case_random_of(7);
    float *q = ext_normal(&random, rows * (size_t)p->dim), *out = ext_normal(&random, rows * (size_t)p->value_dim);
    double worst;
    io->n_sequences = 1;
    io->query = q;
    io->out = out;
    worst = ext_worst_row(&context, p, io, &source);
    if (!(worst <= bound)) fail_msg("error of a row is %g, allowed is %g", worst, bound);
    free(q);
    free(out);
}

static void blocks_with_their_own_scale_work_in_both_families(void **state) {
    enum { KEYS = 70, D = 64, HEADS = 2 };
    static char stored[HEADS * KEYS * D / 32 * 34];
    static float wide[HEADS * KEYS * D];
    const wide_keys source = {wide, wide, D, D, KEYS};
    case_random random = case_random_of(5);
    fia_problem p;
    fia_io io;
    int64_t rows;
    size_t i;
    (void)state;
    for (i = 0; i < HEADS * KEYS * D; ++i) {
        char *block = stored + i / 32 * 34;
        if (i % 32 == 0) oracle_encode(FIA_F16, 0.02 * case_uniform(&random), block, 0);
        block[2 + i % 32] = (char)case_between(&random, -127, 127);
        wide[i] = (float)(oracle_decode(FIA_F16, block, 0) * oracle_decode(FIA_I8, block + 2, (int64_t)(i % 32)));
    }
    for (rows = 1; rows <= 41; rows += 40) {
        ext_small(&p, 4, HEADS, rows, KEYS, D, D);
        p.key.dtype = p.value.dtype = EXT_Q8_0;
        p.key.row_bytes = p.value.row_bytes = D / 32 * 34;
        p.key.head_bytes = p.value.head_bytes = KEYS * p.key.row_bytes;
        p.key.sequence_bytes = p.value.sequence_bytes = HEADS * p.key.head_bytes;
        p.causal = 1;
        fia_io_init(&io);
        io.key = io.value = stored;
        run_wide(&p, &io, &source, 4e-4);
    }
}

/* Key 0 takes all the weight: that of key 3 underflows, which is not the same as dropping it. */
static void nan_in_a_scale_reaches_the_rows_that_keep_its_key(void **state) {
    enum { KEYS = 40, D = 64 };
    static signed char keys[KEYS][D], values[KEYS][D];
    static float query[D], out[D], key_scale[KEYS], value_scale[KEYS], value_offset[KEYS];
    static unsigned char drop[KEYS];
    fia_problem p;
    fia_report report;
    fia_io io;
    int i, j, what, dropped, family;
    (void)state;
    for (i = 0; i < D; ++i) {
        query[i] = 1;
        for (j = 0; j < KEYS; ++j) keys[j][i] = (signed char)(j == 0 ? 100 : j == 3 ? -100 : 0), values[j][i] = 1;
    }
    ext_small(&p, 1, 1, 1, KEYS, D, D);
    p.key.dtype = p.value.dtype = FIA_I8;
    p.key.row_bytes = p.value.row_bytes = D;
    p.key.head_bytes = p.value.head_bytes = p.key.sequence_bytes = p.value.sequence_bytes = KEYS * D;
    p.key_scale.dtype = p.value_scale.dtype = p.value_offset.dtype = FIA_F32;
    p.key_scale.token_bytes = p.value_scale.token_bytes = p.value_offset.token_bytes = sizeof(float);
    p.drop_mask.dtype = FIA_U8;
    p.drop_mask.rows = 1;
    p.drop_mask.keys = KEYS;
    fia_io_init(&io);
    io.query = query, io.key = keys, io.value = values, io.out = out, io.drop_mask = drop;
    io.key_scale = key_scale, io.value_scale = value_scale, io.value_offset = value_offset;
    for (what = 0; what < 3; ++what)
        for (dropped = 0; dropped < 2; ++dropped)
            for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family) {
                for (j = 0; j < KEYS; ++j) key_scale[j] = 1, value_scale[j] = 0.5f, value_offset[j] = 0;
                if (what == 2) value_offset[3] = NAN;
                else value_scale[3] = what ? INFINITY : NAN;
                drop[3] = (unsigned char)dropped;
                p.pin_family = family;
                assert_int_equal(plan_and_run(&context, &p, &io, NULL, &report), FIA_OK);
                for (i = 0; i < D; ++i) assert_true(dropped ? out[i] == 0.5f : isnan(out[i]) != 0);
            }
}

static void records_of_codes_rope_and_scales_serve_keys_and_values(void **state) {
    enum { KEYS = 50, CODES = 32, ROPE = 8, TILE = 16, BYTES = CODES + 2 * ROPE + 4 * (CODES / TILE) };
    static float aligned[KEYS * BYTES / 4], wide[KEYS * (CODES + ROPE)], values[KEYS * CODES];
    char *stored = (char *)aligned;
    const wide_keys source = {wide, values, CODES + ROPE, CODES, KEYS};
    const record_params params = {CODES, TILE, {0}}, bad = {CODES, 5, {0}};
    case_random random = case_random_of(6);
    fia_problem p;
    fia_plan plan;
    fia_report report;
    fia_io io;
    int64_t j, i, rows;
    (void)state;
    for (j = 0; j < KEYS; ++j) {
        char *row = stored + j * BYTES;
        for (i = 0; i < CODES / TILE; ++i)
            oracle_encode(FIA_F32, 0.02 * case_normal(&random), row + CODES + 2 * ROPE, i);
        for (i = 0; i < CODES + ROPE; ++i) {
            float scale, *x = &wide[j * (CODES + ROPE) + i];
            if (i < CODES) {
                memcpy(&scale, row + CODES + 2 * ROPE + i / TILE * 4, 4);
                row[i] = (char)case_between(&random, -127, 127);
                *x = (float)(signed char)row[i] * scale;
                values[j * CODES + i] = *x;
            } else {
                oracle_encode(FIA_BF16, case_normal(&random), row + CODES, i - CODES);
                *x = (float)oracle_decode(FIA_BF16, row + CODES, i - CODES);
            }
        }
    }
    for (rows = 1; rows <= 21; rows += 20) {
        ext_small(&p, 6, 1, rows, KEYS, CODES + ROPE, CODES);
        p.value_in_key = 1;
        p.key.dtype = EXT_RECORD;
        p.key.row_bytes = BYTES;
        p.key.head_bytes = p.key.sequence_bytes = KEYS * BYTES;
        memcpy(p.key.params, &bad, sizeof(bad));
        assert_int_equal(fia_plan_make(&context, &p, 1, &plan, &report), FIA_ERR_ARGUMENT);
        assert_non_null(strstr(report.text, "tile 5"));
        memcpy(p.key.params, &params, sizeof(params));
        fia_io_init(&io);
        io.key = stored;
        run_wide(&p, &io, &source, 4e-4);
    }
}

static void int8_output_of_a_row_that_keeps_nothing_is_0(void **state) {
    enum { D = 8 };
    const float q[3 * D] = {1}, k[2 * D] = {1}, v[2 * D] = {0.25f}, mul = 100.0f, add = 7.0f;
    signed char out[3 * D], row;
    fia_problem p;
    fia_report report;
    fia_io io;
    int i;
    (void)state;
    ext_small(&p, 1, 1, 3, 2, D, D); /* bottom-right causal: row 0 is above every key */
    p.causal = 1;
    p.out.dtype = FIA_I8;
    p.out.row_bytes = D;
    p.out.head_bytes = p.out.sequence_bytes = 3 * D;
    p.out_scale.dtype = p.out_offset.dtype = FIA_F32;
    fia_io_init(&io);
    io.n_sequences = 1;
    io.query = q;
    io.key = k;
    io.value = v;
    io.out = out;
    io.out_scale = &mul;
    io.out_offset = &add;
    memset(out, 99, sizeof(out));
    assert_int_equal(plan_and_run(&context, &p, &io, NULL, &report), FIA_OK);
    for (i = 0; i < D; ++i) assert_int_equal(out[i], 0);
    assert_int_equal(out[D], 32); /* 0.25 * 100 + 7: row 1 sees key 0 alone */
    row = 7;
    for (i = 1; i < D; ++i) assert_int_equal(out[D + i], row);
}

/* ---- the cross product ---- */

static case_hook hooks[2]; /* default and exact path */

enum { MODE_I8, MODE_I4, MODE_K8_V4, MODE_K_FLOAT, MODE_V_FLOAT, MODES };

static void limit(test_case *c) {
    const int mode = (int)case_between(&c->random, 0, MODES - 1);
    case_draw *d = &c->draw;
    if (mode != MODE_K_FLOAT) d->k = mode == MODE_I4 ? FIA_I4 : FIA_I8;
    if (mode != MODE_V_FLOAT) d->v = mode == MODE_I4 || mode == MODE_K8_V4 ? FIA_I4 : FIA_I8;
    if (d->value_in_key) {
        d->k = mode == MODE_I4 ? FIA_I4 : FIA_I8;
        d->v = d->k;
    }
    ext_limit_dims(d);
    if (case_chance(&c->random, 25)) d->out = FIA_I8;
    if (case_chance(&c->random, 10)) d->q = FIA_I8;
    d->data = CASE_DATA_NORMAL;
    d->poison = 0;
    c->hook = &hooks[d->exact ? 1 : 0];
}

/* Multiplier and offset of an int8 output, by head and channel or one for all. */
static void output_scales(test_case *c) {
    fia_problem *p = &c->problem;
    const int by_channel = case_chance(&c->random, 50), n = by_channel ? p->n_q_heads * p->value_dim : 1;
    float *mul = (float *)case_memory(c, (size_t)n * sizeof(float)),
          *add = (float *)case_memory(c, (size_t)n * sizeof(float));
    int i;
    for (i = 0; i < n; ++i) {
        mul[i] = (float)(20 + 100 * case_uniform(&c->random));
        add[i] = (float)(20 * case_uniform(&c->random) - 10);
    }
    p->out_scale.dtype = FIA_F32;
    p->out_scale.head_bytes = by_channel ? p->value_dim * (ptrdiff_t)sizeof(float) : 0;
    p->out_scale.channel_bytes = by_channel ? (ptrdiff_t)sizeof(float) : 0;
    c->io.out_scale = mul;
    if (case_chance(&c->random, 50)) {
        p->out_offset = p->out_scale;
        c->io.out_offset = add;
    }
}

/* A scale for every query row; of rows past a length it stays NaN. */
static void query_scales(test_case *c) {
    fia_problem *p = &c->problem;
    fia_scale_view *view = &p->query_scale;
    oracle_call call = {&c->problem, &c->io, NULL};
    const int64_t rows = p->q_packed ? p->total_q : p->max_q_len;
    float *data =
        (float *)case_memory(c, (size_t)(rows * p->n_q_heads * (p->q_packed ? 1 : p->n_sequences)) * sizeof(float));
    int64_t b, r;
    int32_t h;
    view->dtype = FIA_F32;
    view->token_bytes = p->n_q_heads * (ptrdiff_t)sizeof(float);
    view->head_bytes = sizeof(float);
    view->sequence_bytes = p->q_packed ? 0 : (ptrdiff_t)rows * view->token_bytes;
    for (b = 0; b < c->draw.B; ++b) {
        oracle_sequence s;
        oracle_find_sequence(&call, b, &s);
        for (r = 0; r < s.q_len; ++r)
            for (h = 0; h < p->n_q_heads; ++h)
                data[((p->q_packed ? 0 : b * rows) + s.q_start + r) * p->n_q_heads + h] =
                    (float)ext_scale_value(c, 0.0125, 0);
    }
    c->io.query_scale = data;
}

static const char *const kinds[EXT_SCALE_KINDS] = {
    "tensor", "head", "channel", "token", "token and head", "paged token", "paged token and head"};

/* The kinds of scales that operators have, and what else the codecs add. */
static const case_wanted wanted[] = {{"scales: K tensor V tensor", 20},
                                     {"scales: K head V head", 20},
                                     {"scales: K channel V channel", 20},
                                     {"scales: K token V token", 20},
                                     {"scales: K token and head V token and head", 20},
                                     {"scales: K paged token V paged token", 20},
                                     {"scales: K paged token and head V paged token and head", 20},
                                     {"scales: K channel V token", 50},
                                     {"offsets: some", 200},
                                     {"offsets: none", 200},
                                     {"codecs: keys ext_i8", 200},
                                     {"codecs: values ext_i8", 200},
                                     {"codecs: keys ext_i4", 100},
                                     {"codecs: values ext_i4", 100},
                                     {"codecs: out ext_i8", 100},
                                     {"codecs: query ext_i8", 50},
                                     {"key form: paged in pieces", 50},
                                     {"families: stream", 200},
                                     {"families: tile", 200}};

static int is_integer(fia_dtype dtype) { return dtype == FIA_I8 || dtype == FIA_I4; }

static void store(test_case *c) {
    fia_problem *p = &c->problem;
    const fia_dtype value = p->value_in_key ? p->key.dtype : p->value.dtype;
    const int mixed = case_chance(&c->random, 15), key_kind = mixed ? EXT_PER_CHANNEL : ext_scale_kind(c);
    const int value_kind = mixed ? EXT_PER_TOKEN : case_chance(&c->random, 60) ? key_kind : ext_scale_kind(c);
    const int offsets = case_chance(&c->random, 50);
    if (is_integer(p->key.dtype) && is_integer(value) && !p->value_in_key)
        snprintf(c->note, sizeof(c->note), "scales: K %s V %s\noffsets: %s\n", kinds[key_kind], kinds[value_kind],
                 offsets ? "some" : "none");
    ext_scale_keys(c, is_integer(p->key.dtype) ? key_kind : -1, is_integer(value) ? value_kind : -1, offsets);
    if (p->out.dtype == FIA_I8) output_scales(c);
    if (p->query.dtype == FIA_I8) query_scales(c);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_decodes_rows_and_pieces),
        cmocka_unit_test(int4_reads_the_low_nibble_first),
        cmocka_unit_test(int8_store_rounds_half_to_even_and_saturates),
        cmocka_unit_test(a_build_without_the_codec_says_so),
        cmocka_unit_test(a_row_that_breaks_a_granule_is_refused),
        cmocka_unit_test(blocks_with_their_own_scale_work_in_both_families),
        cmocka_unit_test(nan_in_a_scale_reaches_the_rows_that_keep_its_key),
        cmocka_unit_test(records_of_codes_rope_and_scales_serve_keys_and_values),
        cmocka_unit_test(int8_output_of_a_row_that_keeps_nothing_is_0),
    };
    int failed, i;
    ext_context(&context, &table, "ext_codec");
    table.codecs = codecs;
    if (fia_context_add(&context, &table, NULL) != FIA_OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    memset(hooks, 0, sizeof(hooks));
    for (i = 0; i < 2; ++i) {
        hooks[i].name = "ext_codec";
        hooks[i].context = &context;
        hooks[i].limit = limit;
        hooks[i].store = store;
        hooks[i].words = wanted;
        hooks[i].n_words = (int)(sizeof(wanted) / sizeof(wanted[0]));
        hooks[i].tolerance = i ? 2e-6 : 1e-4;
    }
    return case_main(argc, argv, &hooks[0]) || failed;
}
