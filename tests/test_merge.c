/* SPDX-License-Identifier: MIT
 *
 * Shards of the keys, merged: against the oracle on all keys, with every modifier at its global place; empty parts,
 * order, sinks, casts, strides, numbers far apart.
 */
#define _DEFAULT_SOURCE
#include "call_scenarios.h"

/* ---- shards ---- */

enum { MOST_SHARDS = 5 };

/* Where shard k of n ends: uneven, one of them empty. */
static int64_t shard_end(int64_t keys, int k, int n) {
    if (k < 0) return 0;
    if (k == n - 1) return keys;
    if (n == MOST_SHARDS && k == 2) return shard_end(keys, 1, n);
    return keys * (k + 1) * (k + 1) / (n * n);
}

/* Keys [first, end) of sequence b as a call that knows their global place; f32 out, no sinks. */
static void shard_spec(const call_spec *whole, int b, int64_t first, int64_t end, float lse_empty, call_spec *spec) {
    *spec = *whole;
    spec->out = FIA_F32;
    spec->sinks = FIA_NONE;
    spec->lse_empty = lse_empty;
    spec->n = 1;
    spec->sequence[0] = whole->sequence[b];
    if (!whole->offsets) spec->sequence[0].q_offset = whole->sequence[b].kv_len - whole->sequence[b].q_len;
    spec->offsets = 1;
    spec->sequence[0].kv_len = end - first;
    spec->sequence[0].key_base += first;
    spec->sequence[0].kv_offset += first;
}

/* The call `into` holds shard 0, then all n of them; order: 1 from the last to the first. */
static void merge_shards(const call_spec *whole, int b, int n, int backwards, float lse_empty, call *into) {
    const call_form form = {0};
    const int64_t keys = whole->sequence[b].kv_len;
    int k;
    for (k = 0; k < n; ++k) {
        const int which = backwards ? n - 1 - k : k;
        fia_merge_shape shape;
        call_spec spec;
        call part, *c = k ? &part : into;
        shard_spec(whole, b, shard_end(keys, which - 1, n), shard_end(keys, which, n), lse_empty, &spec);
        call_make(c, &spec, &form);
        call_run_serial(c);
        if (!k) continue;
        shape = call_merge_shape(c);
        assert_int_equal(fia_merge(&shape, (float *)(void *)into->tensor[CALL_OUT].base[0],
                                   (float *)(void *)into->tensor[CALL_LSE].base[0],
                                   (const float *)(void *)c->tensor[CALL_OUT].base[0],
                                   (const float *)(void *)c->tensor[CALL_LSE].base[0], NULL),
                         FIA_OK);
        call_free(c);
    }
}

/* ---- against the oracle on all keys ---- */

typedef struct errors {
    double squares, worst, lse_worst;
    int64_t rows;
} errors;

static double row_error(const call *c, const double *want, const char *row, fia_dtype dtype) {
    double square = 0, norm = 0;
    int64_t i;
    for (i = 0; i < c->spec.Dv; ++i) {
        const double got = oracle_decode(dtype, row, i), left = fabs(got - want[i]) - oracle_half_ulp(dtype, want[i]);
        square += left > 0 ? left * left : 0;
        norm += want[i] * want[i];
    }
    return norm > 0 ? sqrt(square / norm) : sqrt(square);
}

static void compare_shards(const call_spec *whole, int b, int n, int backwards, errors *e) {
    const call_form form = {0};
    const float lse_empty = n % 2 ? -INFINITY : INFINITY;
    call_spec alone = *whole;
    call undivided, merged;
    oracle_sequence s;
    oracle_work work;
    double want[256];
    int64_t h, r;
    alone.n = 1;
    alone.sequence[0] = whole->sequence[b];
    alone.sinks = FIA_NONE;
    alone.lse_empty = lse_empty;
    call_make(&undivided, &alone, &form);
    merge_shards(whole, b, n, backwards, lse_empty, &merged);
    oracle_work_init(&work);
    for (h = 0; h < undivided.problem.n_q_heads; ++h)
        for (r = 0; r < alone.sequence[0].q_len; ++r) {
            const oracle_call from = {&undivided.problem, &undivided.io, NULL};
            oracle_row_info info;
            double error, lse = call_get(&merged, CALL_LSE, 0, h, r, 0);
            oracle_find_sequence(&from, 0, &s);
            oracle_row(&from, &s, (int32_t)h, r, &work, want, &info);
            error = row_error(&merged, want, call_at(&merged, CALL_OUT, 0, h, r), FIA_F32) /
                    (info.spread > 4 ? info.spread / 4 : 1);
            if (!info.kept) assert_true(error == 0 && lse == (double)lse_empty);
            else if (fabs(lse - info.lse) > e->lse_worst) e->lse_worst = fabs(lse - info.lse);
            e->squares += error * error;
            e->rows += info.kept > 0;
            if (error > e->worst) e->worst = error;
        }
    oracle_work_free(&work);
    call_free(&undivided);
    call_free(&merged);
}

static void merged_shards_keep_the_bound_of_one_call(void **state) {
    errors e = {0, 0, 0, 0};
    int k, b, n;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k) {
        call_spec spec;
        scenario_spec(k, &spec);
        for (b = 0; b < spec.n; ++b)
            for (n = 1; n <= MOST_SHARDS; ++n) compare_shards(&spec, b, n, n % 2, &e);
    }
    printf("%ld rows: rms %.3g, worst %.3g, worst LSE %.3g\n", (long)e.rows, sqrt(e.squares / (double)e.rows), e.worst,
           e.lse_worst);
    assert_true(e.rows >= 1000 && sqrt(e.squares / (double)e.rows) <= 2e-6 && e.worst <= 8e-6 && e.lse_worst <= 1e-5);
}

/* Sinks and the cast come once, at the end: the same as one call that has them. */
static void finish_applies_sinks_and_cast_once(void **state) {
    const fia_dtype dtypes[3] = {FIA_F32, FIA_F16, FIA_BF16};
    int k, n;
    double worst = 0;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k)
        for (n = 0; n < 9; ++n) {
            const call_form plain = {0}, spread = {.q_order = CALL_TOKEN_MAJOR, .gap = 3, .fill = 0xa5};
            fia_merge_shape shape;
            fia_finish finish;
            call_spec whole, alone;
            call merged, undivided, result;
            oracle_work work;
            double want[256];
            int64_t h, r;
            scenario_spec(k, &whole);
            whole.out = dtypes[n % 3];
            whole.sinks = dtypes[n / 3];
            merge_shards(&whole, 0, 3, 0, -INFINITY, &merged);
            alone = whole;
            alone.n = 1;
            call_make(&undivided, &alone, &plain);
            call_make(&result, &alone, &spread);
            fia_finish_init(&finish);
            finish.sinks = undivided.io.sinks;
            finish.sinks_dtype = whole.sinks;
            finish.out = result.problem.out;
            finish.result = result.io.out;
            shape = call_merge_shape(&merged);
            assert_int_equal(fia_merge_finish(NULL, &shape, &finish,
                                              (const float *)(void *)merged.tensor[CALL_OUT].base[0],
                                              (const float *)(void *)merged.tensor[CALL_LSE].base[0], NULL),
                             FIA_OK);
            oracle_work_init(&work);
            for (h = 0; h < shape.heads; ++h)
                for (r = 0; r < shape.rows; ++r) {
                    const oracle_call from = {&undivided.problem, &undivided.io, NULL};
                    const char *row = call_at(&result, CALL_OUT, 0, h, r);
                    oracle_row_info info;
                    oracle_sequence s;
                    double error;
                    oracle_find_sequence(&from, 0, &s);
                    oracle_row(&from, &s, (int32_t)h, r, &work, want, &info);
                    error = row_error(&undivided, want, row, whole.out) / (info.spread > 4 ? info.spread / 4 : 1);
                    worst = error > worst ? error : worst;
                    if ((h != shape.heads - 1 || r != shape.rows - 1) &&
                        (unsigned char)row[whole.Dv * (int)call_size(whole.out)] != 0xa5)
                        fail_msg("a byte behind head %ld row %ld was written", (long)h, (long)r);
                }
            oracle_work_free(&work);
            call_free(&merged);
            call_free(&undivided);
            call_free(&result);
        }
    printf("worst %.3g\n", worst);
    assert_true(worst <= 8e-6);
}

/* ---- single rows ---- */

static void one_row(fia_merge_shape *shape, int32_t dim) {
    fia_merge_shape_init(shape);
    shape->dim = dim;
}

/* An empty part changes no bit; into an empty result a part goes as it is. */
static void empty_parts_are_the_identity(void **state) {
    const float empty[2] = {-INFINITY, INFINITY}, lses[4] = {0.0f, -1234.5f, 88.0f, 1e30f};
    float o[5] = {1.25f, -3e38f, 1e-42f, -0.0f, 7}, zero[5] = {0}, got[5], lse;
    fia_merge_shape shape;
    int k, n;
    (void)state;
    one_row(&shape, 5);
    for (k = 0; k < 2; ++k)
        for (n = 0; n < 4; ++n) {
            memcpy(got, o, sizeof o);
            lse = lses[n];
            assert_int_equal(fia_merge(&shape, got, &lse, zero, &empty[k], NULL), FIA_OK);
            assert_memory_equal(got, o, sizeof o);
            assert_memory_equal(&lse, &lses[n], 4);
            memset(got, 0, sizeof got);
            lse = empty[k];
            assert_int_equal(fia_merge(&shape, got, &lse, o, &lses[n], NULL), FIA_OK);
            assert_memory_equal(got, o, sizeof o);
            assert_memory_equal(&lse, &lses[n], 4);
        }
    for (k = 0; k < 4; ++k) {
        memset(got, 0, sizeof got);
        lse = empty[k / 2];
        assert_int_equal(fia_merge(&shape, got, &lse, zero, &empty[k % 2], NULL), FIA_OK);
        assert_memory_equal(got, zero, sizeof zero);
        assert_memory_equal(&lse, &empty[k / 2], 4);
    }
}

/* Any two LSEs: against f64, without overflow. */
static void parts_far_apart_merge_as_in_f64(void **state) {
    const float lses[10] = {-3e38f, -1e30f, -1e4f, -87.5f, -1, 0, 0.5f, 80, 1e5f, 3e38f};
    fia_merge_shape shape;
    int a, b, i;
    (void)state;
    one_row(&shape, 37);
    for (a = 0; a < 10; ++a)
        for (b = 0; b < 10; ++b) {
            float o[37], part[37], lse = lses[a];
            double top = lses[a] > lses[b] ? lses[a] : lses[b], x = exp(lses[a] - top), y = exp(lses[b] - top),
                   want_lse = top + log(x + y);
            for (i = 0; i < 37; ++i) {
                o[i] = (float)(i - 7);
                part[i] = (float)(3 * i - 50);
            }
            assert_int_equal(fia_merge(&shape, o, &lse, part, &lses[b], NULL), FIA_OK);
            for (i = 0; i < 37; ++i) {
                const double want = ((i - 7) * x + (3 * i - 50) * y) / (x + y);
                if (!(fabs(o[i] - want) <= 1e-5 + 1e-6 * fabs(want)))
                    fail_msg("LSE %g and %g: %g, wanted %g", lses[a], lses[b], o[i], want);
            }
            if (!(fabs(lse - want_lse) <= 1e-6 + 1e-7 * fabs(want_lse)))
                fail_msg("LSE %g and %g: %.9g, wanted %.9g", lses[a], lses[b], lse, want_lse);
        }
}

static void any_order_keeps_the_bound(void **state) {
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    fia_merge_shape shape;
    int round, n, k, i;
    (void)state;
    one_row(&shape, 70);
    for (round = 0; round < 200; ++round) {
        float part[3][70], lses[3];
        double want[70] = {0}, sum = 0;
        for (k = 0; k < 3; ++k) {
            lses[k] = (float)(4 * call_normal(call_hash(90, round, k, 0, 0)));
            sum += exp(lses[k]);
            for (i = 0; i < 70; ++i) {
                part[k][i] = (float)call_normal(call_hash(91, round, k, i, 0));
                want[i] += exp(lses[k]) * part[k][i];
            }
        }
        for (n = 0; n < 6; ++n) {
            float o[70] = {0}, lse = -INFINITY;
            double square = 0, norm = 0;
            for (k = 0; k < 3; ++k)
                assert_int_equal(fia_merge(&shape, o, &lse, part[orders[n][k]], &lses[orders[n][k]], NULL), FIA_OK);
            for (i = 0; i < 70; ++i) {
                square += (o[i] - want[i] / sum) * (o[i] - want[i] / sum);
                norm += want[i] * want[i] / sum / sum;
            }
            assert_true(sqrt(square / norm) < 1e-6);
            assert_true(fabs(lse - log(sum)) < 2e-6);
        }
    }
}

/* A NaN stays in its row; LSE NaN makes the row NaN. */
static void nan_stays_in_its_row(void **state) {
    float o[3][8], part[3][8], lse[3] = {1, 2, 3}, part_lse[3] = {2, 1, 4};
    fia_merge_shape shape;
    int r, i;
    (void)state;
    fia_merge_shape_init(&shape);
    shape.rows = 3;
    shape.dim = 8;
    shape.row_bytes = 32;
    shape.lse_row_bytes = 4;
    for (r = 0; r < 3; ++r)
        for (i = 0; i < 8; ++i) o[r][i] = part[r][i] = (float)(r + i);
    part[0][3] = NAN;
    part_lse[1] = NAN;
    assert_int_equal(fia_merge(&shape, o[0], lse, part[0], part_lse, NULL), FIA_OK);
    for (i = 0; i < 8; ++i) {
        assert_true(isnan(o[0][i]) == (i == 3));
        assert_true(isnan(o[1][i]));
        assert_true(o[2][i] == (float)(2 + i));
    }
    assert_true(isfinite(lse[0]) && isnan(lse[1]) && isfinite(lse[2]));
}

/* ---- finish ---- */

enum { WIDE = 131 };

/* Without a sink: the f32 rounded to nearest even; dims beyond one block of the loop, a result with gaps. */
static void finish_casts_as_rounding_does(void **state) {
    const fia_dtype dtypes[3] = {FIA_F32, FIA_F16, FIA_BF16};
    fia_merge_shape shape;
    float o[WIDE], lse = 2;
    char want[WIDE * 4];
    float room[WIDE + 4];
    const unsigned char *got = (const unsigned char *)room;
    int d, i;
    (void)state;
    one_row(&shape, WIDE);
    for (i = 0; i < WIDE; ++i) o[i] = (float)ldexp(call_normal(call_hash(92, i, 0, 0, 0)), i % 40 - 30);
    for (d = 0; d < 3; ++d) {
        fia_finish finish;
        fia_finish_init(&finish);
        finish.out.dtype = dtypes[d];
        finish.result = room;
        memset(room, 0x5a, sizeof room);
        assert_int_equal(fia_merge_finish(NULL, &shape, &finish, o, &lse, NULL), FIA_OK);
        for (i = 0; i < WIDE; ++i) oracle_encode(dtypes[d], o[i], want, i);
        assert_memory_equal(got, want, WIDE * call_size(dtypes[d]));
        for (i = 0; i < 16; ++i) assert_int_equal(got[WIDE * (int)call_size(dtypes[d]) + i], 0x5a);
    }
}

static void finish_weighs_the_sink_against_the_lse(void **state) {
    const double sinks[4] = {-INFINITY, INFINITY, -3, 9}, lses[4] = {-INFINITY, INFINITY, 1.5, -200};
    const fia_dtype dtypes[3] = {FIA_F32, FIA_F16, FIA_BF16};
    float o[7] = {1, -2, 3, 0.5f, -8, 0, 100}, zero[7] = {0};
    fia_merge_shape shape;
    int d, s, l, i;
    (void)state;
    one_row(&shape, 7);
    for (d = 0; d < 3; ++d)
        for (s = 0; s < 4; ++s)
            for (l = 0; l < 4; ++l) {
                const float lse = (float)lses[l];
                const int empty = l < 2;
                const double weight = empty || s == 1 ? 0 : 1 / (1 + exp(sinks[s] - lses[l]));
                float got[7], sink;
                fia_finish finish;
                fia_finish_init(&finish);
                oracle_encode(dtypes[d], sinks[s], &sink, 0);
                finish.sinks = &sink;
                finish.result = got;
                finish.sinks_dtype = dtypes[d];
                finish.out.dtype = FIA_F32;
                assert_int_equal(fia_merge_finish(NULL, &shape, &finish, empty ? zero : o, &lse, NULL), FIA_OK);
                for (i = 0; i < 7; ++i) assert_true(fabs(got[i] - o[i] * weight) <= 2e-6 * fabs(o[i] * weight) + 1e-37);
            }
}

/* Multipliers and offsets by head and channel; a row that keeps nothing gets none. */
static void finish_scales_by_head_and_channel(void **state) {
    float o[2][WIDE], got[2][WIDE], mul[2][WIDE], add[2][WIDE], lse[2] = {0.5f, -1};
    fia_merge_shape shape;
    fia_finish finish;
    int h, i, empty;
    (void)state;
    one_row(&shape, WIDE);
    shape.heads = 2;
    shape.head_bytes = WIDE * 4;
    shape.lse_head_bytes = 4;
    fia_finish_init(&finish);
    finish.out.dtype = FIA_F32;
    finish.out.head_bytes = WIDE * 4;
    finish.scale.dtype = finish.offset.dtype = FIA_F32;
    finish.scale.head_bytes = finish.offset.head_bytes = WIDE * 4;
    finish.scale.channel_bytes = finish.offset.channel_bytes = 4;
    finish.scale_data = mul;
    finish.offset_data = add;
    finish.result = got;
    for (h = 0; h < 2; ++h)
        for (i = 0; i < WIDE; ++i) {
            o[h][i] = (float)(i % 11) - 5;
            mul[h][i] = (float)(h + i % 7);
            add[h][i] = (float)(i % 5) * 0.25f;
        }
    for (empty = 0; empty < 2; ++empty) {
        if (empty) lse[1] = -INFINITY;
        assert_int_equal(fia_merge_finish(NULL, &shape, &finish, o[0], lse, NULL), FIA_OK);
        for (h = 0; h < 2; ++h)
            for (i = 0; i < WIDE; ++i) assert_true(got[h][i] == (h && empty ? 0 : o[h][i] * mul[h][i] + add[h][i]));
    }
}

/* ---- what is refused ---- */

static void shapes_and_pointers_are_checked(void **state) {
    float o[4] = {1, 2, 3, 4}, part[4] = {5, 6, 7, 8}, lse = 1, part_lse = 2;
    fia_merge_shape shape, wrong;
    fia_finish finish;
    fia_report report;
    (void)state;
    one_row(&shape, 4);
    assert_int_equal(fia_merge(NULL, o, &lse, part, &part_lse, &report), FIA_ERR_ARGUMENT);
    assert_int_equal(fia_merge(&shape, NULL, &lse, part, &part_lse, &report), FIA_ERR_ARGUMENT);
    assert_int_equal(fia_merge(&shape, o, &lse, part, NULL, &report), FIA_ERR_ARGUMENT);
    assert_int_equal(report.status, FIA_ERR_ARGUMENT);
    assert_true(report.text[0] != 0);
    assert_int_equal(fia_merge(&shape, o, &lse, part, NULL, NULL), FIA_ERR_ARGUMENT);
    wrong = shape;
    wrong.rows = -1;
    assert_int_equal(fia_merge(&wrong, o, &lse, part, &part_lse, &report), FIA_ERR_ARGUMENT);
    assert_non_null(strstr(report.text, "rows"));
    wrong = shape;
    wrong.dim = 0;
    assert_int_equal(fia_merge(&wrong, o, &lse, part, &part_lse, &report), FIA_ERR_ARGUMENT);
    assert_non_null(strstr(report.text, "dim"));
    assert_true(o[0] == 1 && lse == 1);
    assert_int_equal(fia_merge(&shape, o, &lse, o, &part_lse, &report), FIA_ERR_ARGUMENT);
    fia_finish_init(&finish);
    finish.result = part;
    finish.out.dtype = FIA_I8;
    assert_int_equal(fia_merge_finish(NULL, &shape, &finish, o, &lse, &report), FIA_ERR_NOT_IN_BUILD);
    finish.out.dtype = FIA_F32;
    assert_int_equal(fia_merge_finish(NULL, &shape, NULL, o, &lse, &report), FIA_ERR_ARGUMENT);
    finish.result = NULL;
    assert_int_equal(fia_merge_finish(NULL, &shape, &finish, o, &lse, &report), FIA_ERR_ARGUMENT);
    assert_non_null(strstr(report.text, "result"));
    assert_true(part[0] == 5);
    shape.rows = 0;
    assert_int_equal(fia_merge(&shape, NULL, NULL, NULL, NULL, &report), FIA_OK);
    assert_int_equal(fia_merge_finish(NULL, &shape, &finish, NULL, NULL, &report), FIA_OK);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(merged_shards_keep_the_bound_of_one_call),
    cmocka_unit_test(finish_applies_sinks_and_cast_once),
    cmocka_unit_test(empty_parts_are_the_identity),
    cmocka_unit_test(parts_far_apart_merge_as_in_f64),
    cmocka_unit_test(any_order_keeps_the_bound),
    cmocka_unit_test(nan_stays_in_its_row),
    cmocka_unit_test(finish_casts_as_rounding_does),
    cmocka_unit_test(finish_weighs_the_sink_against_the_lse),
    cmocka_unit_test(finish_scales_by_head_and_channel),
    cmocka_unit_test(shapes_and_pointers_are_checked),
};

CALL_MAIN(tests)
