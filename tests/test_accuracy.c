/* SPDX-License-Identifier: MIT
 *
 * Accuracy: the rms and the worst error of at least a thousand rows for each type and family, default and exact, on
 * normal data by the table of the README, elsewhere by the error of a naive f32 program; LSE.
 * Error of a row: norm of the difference to the fp64 oracle on the stored values, over the norm of the oracle's row.
 */
#define _DEFAULT_SOURCE
#include "call_scenarios.h"

/* ---- what is measured ---- */

typedef struct errors {
    double squares, worst, lse;
    double naive_squares, naive_worst, naive_lse;
    int64_t rows;
} errors;

static void one_row(const call *c, const oracle_call *from, const oracle_sequence *s, int32_t h, int64_t r,
                    oracle_work *work, errors *e) {
    double want[512], square = 0, naive_square = 0, norm = 0, got, lse = call_get(c, CALL_LSE, (int)s->index, h, r, 0);
    float naive[512], naive_lse;
    oracle_row_info info;
    int64_t i;
    oracle_row(from, s, h, r, work, want, &info);
    if (!info.kept) return;
    oracle_row_naive(from, s, h, r, work, naive, &naive_lse);
    for (i = 0; i < c->spec.Dv; ++i) {
        got = call_get(c, CALL_OUT, (int)s->index, h, r, i);
        square += (got - want[i]) * (got - want[i]);
        naive_square += (naive[i] - want[i]) * (naive[i] - want[i]);
        norm += want[i] * want[i];
    }
    assert_true(norm > 0);
    e->squares += square / norm;
    e->naive_squares += naive_square / norm;
    e->worst = fmax(e->worst, sqrt(square / norm));
    e->naive_worst = fmax(e->naive_worst, sqrt(naive_square / norm));
    if (!(square == square)) e->worst = INFINITY;
    e->lse = fmax(e->lse, isnan(lse) ? INFINITY : fabs(lse - info.lse));
    e->naive_lse = fmax(e->naive_lse, fabs(naive_lse - info.lse));
    ++e->rows;
}

static void measure(const call_spec *spec, const call_form *form, errors *e) {
    const call_how how = {CALL_SHUFFLED, 2, 0, 1, 0xff, 0};
    oracle_work work;
    int64_t r;
    int32_t h;
    call c;
    int b;
    oracle_work_init(&work);
    call_make(&c, spec, form);
    call_run(&c, &how);
    for (b = 0; b < spec->n; ++b) {
        const oracle_call from = {&c.problem, &c.io, NULL};
        oracle_sequence s;
        oracle_find_sequence(&from, b, &s);
        for (h = 0; h < c.problem.n_q_heads; ++h)
            for (r = 0; r < s.q_len; ++r) one_row(&c, &from, &s, h, r, &work, e);
    }
    oracle_work_free(&work);
    call_free(&c);
}

static double rms(double squares, int64_t n) { return sqrt(squares / (double)n); }

static void print_errors(const char *name, const errors *e) {
    printf("%-44s %5ld rows: rms %.2e worst %.2e LSE %.1e, naive %.2e %.2e %.1e\n", name, (long)e->rows,
           rms(e->squares, e->rows), e->worst, e->lse, rms(e->naive_squares, e->rows), e->naive_worst, e->naive_lse);
}

/* ---- the table ---- */

enum { F32, F16, BF16, MIXED, TYPES };
static const char *const type_name[TYPES] = {"f32", "f16", "bf16", "f32 query, f16 keys, bf16 values"};

static void set_types(call_spec *s, int types) {
    if (types == F16) scenario_dtypes(s, FIA_F16, FIA_F16, FIA_F16, FIA_F32);
    if (types == BF16) scenario_dtypes(s, FIA_BF16, FIA_BF16, FIA_BF16, FIA_F32);
    if (types == MIXED) scenario_dtypes(s, FIA_F32, FIA_F16, FIA_BF16, FIA_F32);
}

/* Six shapes, a thousand rows and more: short and long, head sizes with and without a rest, causal, a group. */
static void measure_shapes(call_spec *base, errors *e) {
    static const struct {
        int32_t Hkv, G, D, Dv;
        int64_t q_len, kv_len;
        int causal;
    } shape[] = {{2, 2, 64, 64, 66, 130, 1}, {1, 4, 128, 128, 30, 700, 1}, {1, 3, 80, 72, 50, 50, 1},
                 {3, 1, 19, 33, 60, 90, 0},  {1, 8, 64, 64, 1, 1300, 0},   {2, 2, 96, 48, 70, 20, 0}};
    const call_form form = {0};
    size_t k;
    for (k = 0; k < sizeof shape / sizeof shape[0]; ++k) {
        call_spec s = *base;
        s.n = 0;
        scenario_heads(&s, shape[k].Hkv, shape[k].G, shape[k].D, shape[k].Dv);
        scenario_sequence(&s, shape[k].q_len, shape[k].kv_len, 0, 0);
        s.sequence[0].id = (int64_t)k + 40;
        s.causal = shape[k].causal;
        measure(&s, &form, e);
    }
}

/* Bounds on the rms: default, exact. Through lanes bf16 is as good as f32; bf16 tiles may round P once. */
static const double table[TYPES][2] = {{2e-6, 2e-6}, {2e-6, 2e-6}, {2e-3, 2e-6}, {2e-3, 2e-6}};

static void normal_data_keeps_the_table(void **state) {
    int types, exact, family;
    (void)state;
    for (types = 0; types < TYPES; ++types)
        for (exact = 0; exact < 2; ++exact)
            for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family) {
                errors e = {0, 0, 0, 0, 0, 0, 0};
                char name[96];
                call_spec spec;
                call_spec_init(&spec);
                set_types(&spec, types);
                spec.exact = exact;
                spec.pin_family = family;
                measure_shapes(&spec, &e);
                snprintf(name, sizeof name, "%s, %s, %s", type_name[types], exact ? "exact" : "default",
                         family == FIA_FAMILY_STREAM ? "stream" : "tile");
                print_errors(name, &e);
                assert_true(e.rows >= 1000);
                assert_true(rms(e.squares, e.rows) <= table[types][exact]);
                assert_true(e.worst <= 4 * table[types][exact]);
                assert_true(e.lse <= 1e-5);
                if (!exact) continue;
                assert_true(e.worst <= 2 * e.naive_worst);
                assert_true(rms(e.squares, e.rows) <= 1.1 * rms(e.naive_squares, e.rows));
            }
}

/* ---- adversarial data ---- */

static double uniform(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    const uint64_t x = call_hash(which, id, head, row, i);
    return which <= CALL_V ? call_unit(x) : call_content(c, which, id, head, row, i);
}

/* Values within +-100, so that no few rows decide the rms: queries and keys are scaled down, so that softmax is not one key alone. */
static double cauchy(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    const double x = tan(3.14159265358979 * (call_unit(call_hash(which, id, head, row, i)) - 0.5));
    const double y = x > 100 ? 100 : x < -100 ? -100 : x;
    if (which > CALL_V) return call_content(c, which, id, head, row, i);
    return which == CALL_V ? y : y * 0.1;
}

/* One key of sixteen is far above the others. */
static double peaked(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    const double x = call_content(c, which, id, head, row, i);
    if (which == CALL_Q) return 1 + 0.25 * x;
    return which == CALL_K && row % 16 == 7 ? 3 + 0.5 * x : x;
}

static double all_equal(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    return call_content(c, which, id, head, which == CALL_Q ? row : 0, i);
}

/* Logits within +-80, both ends met in each row. */
static double logits_of_80(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    const double x = call_content(c, which, id, head, row, i), root = sqrt((double)c->spec.D);
    if (which == CALL_Q) return 1 + 0.01 * x;
    if (which != CALL_K) return x;
    return (row % 5 == 0   ? 80
            : row % 5 == 1 ? -80
                           : 79 * (call_unit(call_hash(which, id, head, row, 0)) * 2 - 1)) /
               root +
           0.001 * x;
}

static double subnormal_values(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    const double x = call_content(c, which, id, head, row, i);
    const fia_dtype dtype = which == CALL_K ? c->spec.k : which == CALL_V ? c->spec.v : c->spec.q;
    return which > CALL_V ? x : which == CALL_V ? ldexp(x, dtype == FIA_F16 ? -16 : -124) : x;
}

static double subnormal_keys(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    const double x = call_content(c, which, id, head, row, i);
    const fia_dtype dtype = which == CALL_K ? c->spec.k : c->spec.q;
    return which == CALL_K   ? ldexp(x, dtype == FIA_F16 ? -16 : -128)
           : which == CALL_Q ? ldexp(x, dtype == FIA_F16 ? 12 : 120)
                             : x;
}

typedef struct distribution {
    const char *name;
    double (*content)(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i);
} distribution;

static const distribution distributions[] = {
    {"uniform", uniform},
    {"Cauchy", cauchy},
    {"peaked", peaked},
    {"all keys and values equal", all_equal},
    {"logits of +-80", logits_of_80},
    {"subnormal values", subnormal_values},
    {"subnormal keys", subnormal_keys},
};

/* Where the naive program is exact by luck, what f32 rounds at the end remains: a step at most, half in the mean. */
static void adversarial_data_is_no_worse_than_naive(void **state) {
    const size_t n = sizeof distributions / sizeof distributions[0];
    const double step = ldexp(1, -23);
    size_t k;
    int types, family, failures = 0;
    (void)state;
    for (k = 0; k < n; ++k)
        for (types = 0; types < MIXED; ++types)
            for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family) {
                errors e = {0, 0, 0, 0, 0, 0, 0};
                char name[96];
                call_spec spec;
                int good;
                call_spec_init(&spec);
                set_types(&spec, types);
                spec.content = distributions[k].content;
                spec.exact = 1;
                spec.pin_family = family;
                measure_shapes(&spec, &e);
                snprintf(name, sizeof name, "%s, %s, %s", distributions[k].name, type_name[types],
                         family == FIA_FAMILY_STREAM ? "stream" : "tile");
                print_errors(name, &e);
                good = e.rows >= 1000 && e.worst <= 2 * e.naive_worst + step &&
                       rms(e.squares, e.rows) <= 1.1 * rms(e.naive_squares, e.rows) + step / 2 &&
                       e.lse <= fmax(1e-5, 2 * e.naive_lse);
                if (!good) print_error("above the bound: %s\n", name);
                failures += !good;
            }
    assert_int_equal(failures, 0);
}

/* ---- modifiers, on normal data ---- */

static void modifiers_keep_the_table(void **state) {
    errors e = {0, 0, 0, 0, 0, 0, 0};
    int k;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k) {
        const call_form form = {0};
        call_spec spec;
        scenario_spec(k, &spec);
        spec.out = FIA_F32;
        measure(&spec, &form, &e);
    }
    print_errors("every scenario", &e);
    assert_true(e.rows >= 1000 && rms(e.squares, e.rows) <= 2e-6 && e.worst <= 8e-6 && e.lse <= 1e-5);
}

/* f16 and bf16 outputs are the f32 row rounded once, to nearest even. */
static void narrow_outputs_are_rounded_once(void **state) {
    const fia_dtype dtypes[2] = {FIA_F16, FIA_BF16};
    int k, d;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k)
        for (d = 0; d < 2; ++d) {
            const call_form form = {0};
            call_spec spec;
            call wide, narrow;
            int64_t h, r, i;
            int b;
            scenario_spec(k, &spec);
            spec.out = FIA_F32;
            call_make(&wide, &spec, &form);
            call_run_serial(&wide);
            spec.out = dtypes[d];
            call_make(&narrow, &spec, &form);
            call_run_serial(&narrow);
            for (b = 0; b < spec.n; ++b)
                for (h = 0; h < wide.problem.n_q_heads; ++h)
                    for (r = 0; r < spec.sequence[b].q_len; ++r)
                        for (i = 0; i < spec.Dv; ++i) {
                            uint16_t want;
                            oracle_encode(dtypes[d], call_get(&wide, CALL_OUT, b, h, r, i), &want, 0);
                            assert_memory_equal(call_element(&narrow, CALL_OUT, b, h, r, i), &want, 2);
                        }
            call_free(&wide);
            call_free(&narrow);
        }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(normal_data_keeps_the_table),
    cmocka_unit_test(adversarial_data_is_no_worse_than_naive),
    cmocka_unit_test(modifiers_keep_the_table),
    cmocka_unit_test(narrow_outputs_are_rounded_once),
};

CALL_MAIN(tests)
