/* SPDX-License-Identifier: MIT
 *
 * The tile seam: the two kernels of ext_tile.h, by hand and through the cross product.
 */
#include "ext_common.h"
#include "ext_tile.h"

static const fia_tile *const tiles[] = {&tile_pieces, &tile_int8, NULL};
static const fia_codec *const codecs[] = {&ext_i8, NULL};
static fia_context context;
static fia_kernels table;

/* ---- instructions and pieces ---- */

static void instructions_multiply_tiles(void **state) {
    int8_t a[16][64], b[16][64];
    uint16_t wide_a[16][32], wide_b[16][32];
    float c[16][16];
    int32_t ci[16][16];
    int m, n, k;
    (void)state;
    for (m = 0; m < 16; ++m)
        for (k = 0; k < 64; ++k) {
            a[m][k] = (int8_t)((m * 7 + k * 3) % 255 - 127);
            b[m][k] = (int8_t)((m * 5 + k * 11) % 255 - 127);
            wide_a[m][k / 2] = bf16_round((float)a[m][k / 2]);
            wide_b[m][k / 2] = bf16_round((float)b[m][k / 2]);
        }
    tile_config();
    tile_zero(0);
    tile_zero(1);
    tile_load(2, a, 64);
    tile_load(3, b, 64);
    tile_dot_int8(0, 2, 3);
    tile_load(2, wide_a, 64);
    tile_load(3, wide_b, 64);
    tile_dot_bf16(1, 2, 3);
    tile_store(0, ci, 64);
    tile_store(1, c, 64);
    tile_release();
    for (m = 0; m < 16; ++m)
        for (n = 0; n < 16; ++n) {
            int32_t want = 0;
            float sum = 0;
            for (k = 0; k < 64; ++k) want += a[m][k] * b[k / 4][4 * n + k % 4];
            for (k = 0; k < 32; ++k) sum += (float)(a[m][k] * b[k / 2][2 * n + k % 2]);
            assert_int_equal(ci[m][n], want);
            assert_true(c[m][n] == sum);
        }
}

static void pieces_add_up(void **state) {
    uint16_t piece[3];
    uint32_t i;
    (void)state;
    for (i = 0; i < 65536; ++i) {
        const uint16_t half = (uint16_t)i;
        const float x = (float)oracle_decode(FIA_F16, &half, 0);
        bf16_split(x, 2, piece);
        if (fabsf(x) <= FLT_MAX) assert_true(bf16_widen(piece[0]) + bf16_widen(piece[1]) == x);
    }
    for (i = 0; i < 0x7f800000u; i += 9973) {
        float x;
        memcpy(&x, &i, sizeof(x));
        if (x < 1e-30f) continue; /* the last piece of a tiny number is below the range of bf16 */
        bf16_split(x, 3, piece);
        assert_true((double)bf16_widen(piece[0]) + (double)bf16_widen(piece[1]) + (double)bf16_widen(piece[2]) ==
                    (double)x);
    }
    bf16_split(-INFINITY, 3, piece);
    assert_true(bf16_widen(piece[0]) == -INFINITY && piece[1] == 0 && piece[2] == 0);
}

/* ---- small calls ---- */

/* Stores f32 rows as another type. */
static void *narrow(fia_dtype dtype, const float *x, size_t n) {
    void *to = malloc(n * 4);
    size_t i;
    assert_non_null(to);
    for (i = 0; i < n; ++i) oracle_encode(dtype, x[i], to, (int64_t)i);
    return to;
}

static void retype(fia_view *view, fia_dtype dtype) {
    const ptrdiff_t bytes = (ptrdiff_t)fia_dtype_bytes(dtype);
    view->dtype = dtype;
    view->row_bytes = view->row_bytes / 4 * bytes;
    view->head_bytes = view->head_bytes / 4 * bytes;
    view->sequence_bytes = view->sequence_bytes / 4 * bytes;
}

enum { ROWS = 75, KEYS = 150, DIM = 64, HEADS = 4, KV_HEADS = 2 };

typedef struct small_call {
    fia_problem p;
    fia_io io;
    float *wide[3], *out;
    void *stored[3];
} small_call;

static void small_make(small_call *c, fia_dtype dtype, double size) {
    case_random random = case_random_of(11);
    fia_view *views[3];
    const size_t n[3] = {HEADS * ROWS * DIM, KV_HEADS * KEYS * DIM, KV_HEADS * KEYS * DIM};
    size_t i, j;
    ext_small(&c->p, HEADS, KV_HEADS, ROWS, KEYS, DIM, DIM);
    fia_io_init(&c->io);
    views[0] = &c->p.query;
    views[1] = &c->p.key;
    views[2] = &c->p.value;
    for (i = 0; i < 3; ++i) {
        const int integer = dtype == FIA_I8 && i > 0;
        c->wide[i] = ext_normal(&random, n[i]);
        for (j = 0; j < n[i] && i > 0; ++j) c->wide[i][j] *= (float)size;
        c->stored[i] = narrow(dtype == FIA_I8 && !integer ? FIA_F32 : dtype, c->wide[i], n[i]);
        retype(views[i], dtype == FIA_I8 && !integer ? FIA_F32 : dtype);
    }
    c->out = ext_normal(&random, n[0]);
    c->p.causal = 1;
    c->p.pin_family = FIA_FAMILY_TILE;
    c->io.n_sequences = 1;
    c->io.query = c->stored[0];
    c->io.key = c->stored[1];
    c->io.value = c->stored[2];
    c->io.out = c->out;
}

static void small_free(small_call *c) {
    int i;
    for (i = 0; i < 3; ++i) {
        free(c->wide[i]);
        free(c->stored[i]);
    }
    free(c->out);
}

static void small_check(small_call *c, double bound) {
    const double worst = ext_worst_row(&context, &c->p, &c->io, NULL);
    if (!(worst <= bound)) fail_msg("error of a row is %g, allowed is %g", worst, bound);
    assert_int_equal(tile_enters, tile_leaves);
    assert_int_equal(tile_faults, 0);
}

static void plan_names(const fia_problem *p, const char *name) {
    char text[4096];
    fia_plan plan;
    fia_report report;
    if (fia_plan_make(&context, p, 1, &plan, &report) != FIA_OK) fail_msg("%s", report.text);
    fia_explain(&plan, NULL, text, sizeof(text));
    if (!strstr(text, name)) fail_msg("%s is not named in:\n%s", name, text);
    fia_plan_release(&plan);
}

static void floats_keep_their_accuracy(void **state) {
    static const fia_dtype dtypes[3] = {FIA_F32, FIA_F16, FIA_BF16};
    static const double most_of[3] = {4 * 2e-6, 4 * 2e-5, 4 * 2e-3}; /* the worst row is within 4 times the rms bound */
    small_call c;
    int i;
    (void)state;
    for (i = 0; i < 3; ++i) {
        small_make(&c, dtypes[i], 1.0);
        plan_names(&c.p, "ext_tile_pieces");
        tile_in_place = tile_packed = 0;
        small_check(&c, most_of[i]);
        assert_true(tile_packed > 0); /* the last 6 keys at least */
        if (dtypes[i] == FIA_BF16) assert_true(tile_in_place > tile_packed);
        else assert_int_equal(tile_in_place, 0);
        small_free(&c);
    }
}

static void int8_takes_scales_and_offsets_per_token(void **state) {
    float scale[KV_HEADS * KEYS], offset[KV_HEADS * KEYS];
    small_call c;
    int i;
    (void)state;
    for (i = 0; i < KV_HEADS * KEYS; ++i) {
        scale[i] = (i % 5 == 0 ? -0.02f : 0.01f) + 0.0001f * (float)i;
        offset[i] = (float)(i % 17) - 8.5f;
    }
    small_make(&c, FIA_I8, 50.0);
    c.p.key_scale.dtype = FIA_F32;
    c.p.key_scale.token_bytes = sizeof(float);
    c.p.key_scale.head_bytes = KEYS * sizeof(float);
    c.p.key_offset = c.p.value_scale = c.p.value_offset = c.p.key_scale;
    c.io.key_scale = c.io.value_scale = scale;
    c.io.key_offset = c.io.value_offset = offset;
    plan_names(&c.p, "ext_tile_int8");
    tile_in_place = 0;
    small_check(&c, 4e-4);
    assert_true(tile_in_place > 0);
    small_free(&c);
}

static void workers_enter_and_leave_once_per_phase_call(void **state) {
    small_call c;
    fia_plan plan;
    fia_job job;
    fia_report report;
    int64_t items, i;
    (void)state;
    small_make(&c, FIA_BF16, 1.0);
    assert_int_equal(fia_plan_make(&context, &c.p, 3, &plan, &report), FIA_OK);
    job.plan = &plan;
    job.io = &c.io;
    job.workspace_bytes = plan.workspace_bytes;
    job.workspace = malloc(plan.workspace_bytes);
    assert_non_null(job.workspace);
    assert_int_equal(fia_phase_run(&job, FIA_PHASE_CHECK, 0, 1, 0), FIA_OK);
    items = fia_phase_items(&job, FIA_PHASE_ATTEND);
    assert_true(items > 1);
    for (i = 0; i < items; ++i) {
        const long before = tile_enters;
        assert_int_equal(fia_phase_run(&job, FIA_PHASE_ATTEND, i, i + 1, (int)(i % 3)), FIA_OK);
        assert_int_equal(tile_enters, before + 1);
        assert_int_equal(tile_leaves, before + 1);
        assert_int_equal(tile_configured, 0);
    }
    assert_int_equal(tile_faults, 0);
    free(job.workspace);
    fia_plan_release(&plan);
    small_free(&c);
}

/* Output bytes of a call, so that two can be compared. */
static float *small_bits(small_call *c) {
    fia_report report;
    float *copy = (float *)malloc(HEADS * ROWS * DIM * sizeof(float));
    assert_non_null(copy);
    if (plan_and_run(&context, &c->p, &c->io, NULL, &report) != FIA_OK) fail_msg("%s", report.text);
    memcpy(copy, c->out, HEADS * ROWS * DIM * sizeof(float));
    return copy;
}

static void dropped_keys_leave_no_bit_behind(void **state) {
    static const float wild[3] = {NAN, INFINITY, -INFINITY};
    unsigned char drop[KEYS] = {0};
    small_call c;
    float *want, *got;
    int i;
    (void)state;
    small_make(&c, FIA_F32, 1.0);
    for (i = 3; i < KEYS; i += 7) drop[i] = 1;
    c.p.drop_mask.dtype = FIA_U8;
    c.p.drop_mask.rows = ROWS;
    c.p.drop_mask.keys = KEYS;
    c.io.drop_mask = drop;
    want = small_bits(&c);
    for (i = 3; i < KEYS; i += 7) {
        ((float *)c.stored[1])[i * DIM + i % DIM] = wild[i % 3];
        ((float *)c.stored[2])[i * DIM + i % DIM] = wild[(i + 1) % 3];
    }
    got = small_bits(&c);
    assert_memory_equal(want, got, HEADS * ROWS * DIM * sizeof(float));
    free(want);
    free(got);
    small_free(&c);
}

static void an_infinite_value_reaches_the_rows_that_keep_it(void **state) {
    small_call c;
    float *got;
    int h, r, first = KEYS - ROWS + 10; /* the key that row 10 sees last */
    (void)state;
    small_make(&c, FIA_F16, 1.0);
    oracle_encode(FIA_F16, INFINITY, c.stored[2], first * DIM + 5);
    got = small_bits(&c);
    for (h = 0; h < HEADS; ++h)
        for (r = 0; r < ROWS; ++r) {
            const float *row = got + (h * ROWS + r) * DIM;
            assert_true((row[5] == INFINITY) == (h < HEADS / KV_HEADS && r >= 10));
            assert_true(row[4] == row[4] && fabsf(row[4]) < 100.0f);
        }
    free(got);
    small_free(&c);
}

/* A kernel with fewer rows than the stream family has more row blocks, each of which may be cut. */
static void row_blocks_of_four_are_cut(void **state) {
    enum { Q = 64, K = 1500, D = 16, WORKERS = 17 };
    const fia_workers workers = {WORKERS, in_turn, NULL};
    case_random random = case_random_of(5);
    float *q = ext_normal(&random, Q * D), *k = ext_normal(&random, K * D), *v = ext_normal(&random, K * D);
    float *one = ext_normal(&random, Q * D), *many = ext_normal(&random, Q * D);
    fia_tile four = tile_pieces;
    const fia_tile *const fours[] = {&four, NULL};
    fia_context with_four;
    fia_kernels of_four;
    fia_problem p;
    fia_io io;
    (void)state;
    four.name = "ext_tile_four";
    four.rows = 4;
    ext_context(&with_four, &of_four, "ext_tile");
    of_four.tiles = fours;
    assert_int_equal(fia_context_add(&with_four, &of_four, NULL), FIA_OK);
    ext_small(&p, 1, 1, Q, K, D, D);
    p.pin_family = FIA_FAMILY_TILE;
    fia_io_init(&io);
    io.query = q;
    io.key = k;
    io.value = v;
    io.out = one;
    assert_int_equal(plan_and_run(&with_four, &p, &io, NULL, NULL), FIA_OK);
    io.out = many;
    assert_int_equal(plan_and_run(&with_four, &p, &io, &workers, NULL), FIA_OK);
    assert_memory_equal(one, many, Q * D * sizeof(float));
    free(q);
    free(k);
    free(v);
    free(one);
    free(many);
}

/* ---- the cross product ---- */

/* The bounds of rows whose coarsest stored type is f32, f16, bf16 and int8, and of the exact path. */
enum { BOUND_F32, BOUND_F16, BOUND_BF16, BOUND_INT8, BOUNDS };
static const double bounds[BOUNDS] = {2e-6, 2e-5, 2e-3, 1e-4};
static case_hook hooks[BOUNDS];

static int bound_of(const case_draw *d) {
    if (d->exact) return BOUND_F32;
    if (d->k == FIA_I8) return BOUND_INT8;
    if (d->q == FIA_BF16 || d->k == FIA_BF16 || (!d->value_in_key && d->v == FIA_BF16)) return BOUND_BF16;
    if (d->q == FIA_F16 || d->k == FIA_F16 || (!d->value_in_key && d->v == FIA_F16)) return BOUND_F16;
    return BOUND_F32;
}

static void limit(test_case *c) {
    case_draw *d = &c->draw;
    if (!case_chance(&c->random, 10)) d->exact = 0;
    if (case_chance(&c->random, 70)) d->pin_family = FIA_FAMILY_TILE;
    if (d->data == CASE_DATA_TINY)
        d->data = CASE_DATA_NORMAL; /* the lower pieces of such numbers are no bf16 any more */
    /* The bounds of rounded weights are relative to a row's norm: a single channel may cancel to nothing. */
    if (d->Dv < 16) d->Dv += 16;
    if (d->value_in_key && d->D < d->Dv) d->D = d->Dv;
    if (d->k == FIA_I8 || case_chance(&c->random, 30)) { /* called again after a cut: an int8 case stays one */
        d->k = d->v = FIA_I8;
        ext_limit_dims(d);
        d->broadcast = 0; /* the same values with scales of both signs cancel each other */
        d->data = CASE_DATA_NORMAL;
        d->poison = 0;
    }
    c->hook = &hooks[bound_of(d)];
}

static void store(test_case *c) {
    if (c->problem.key.dtype != FIA_I8) return;
    ext_scale_keys(c, ext_scale_kind(c), ext_scale_kind(c), case_chance(&c->random, 50));
}

static const case_wanted wanted[] = {{"tile kernel: ext_tile_pieces", 800},
                                     {"tile kernel: ext_tile_int8", 100},
                                     {"key form: paged in pieces", 100},
                                     {"cuts: rows", 200},
                                     {"cuts: chunks", 100},
                                     {"merge: in phase 2", 100}};

static int after(test_case *c, FILE *log) {
    (void)c;
    if (tile_enters == tile_leaves && tile_faults == 0) return 0;
    fprintf(log, "%ld entered, %ld left, %ld instructions without configuration\n", tile_enters, tile_leaves,
            tile_faults);
    return 1;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(instructions_multiply_tiles),
        cmocka_unit_test(pieces_add_up),
        cmocka_unit_test(floats_keep_their_accuracy),
        cmocka_unit_test(int8_takes_scales_and_offsets_per_token),
        cmocka_unit_test(workers_enter_and_leave_once_per_phase_call),
        cmocka_unit_test(dropped_keys_leave_no_bit_behind),
        cmocka_unit_test(an_infinite_value_reaches_the_rows_that_keep_it),
        cmocka_unit_test(row_blocks_of_four_are_cut),
    };
    int failed, i;
    ext_context(&context, &table, "ext_tile");
    table.tiles = tiles;
    table.codecs = codecs;
    if (fia_context_add(&context, &table, NULL) != FIA_OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    memset(hooks, 0, sizeof(hooks));
    for (i = 0; i < BOUNDS; ++i) {
        hooks[i].name = "ext_tile";
        hooks[i].context = &context;
        hooks[i].limit = limit;
        hooks[i].store = store;
        hooks[i].after = after;
        hooks[i].words = wanted;
        hooks[i].n_words = (int)(sizeof(wanted) / sizeof(wanted[0]));
        hooks[i].tolerance = bounds[i];
    }
    return case_main(argc, argv, &hooks[BOUND_BF16]) || failed; /* statistics over all types are held to the widest */
}
