/* SPDX-License-Identifier: MIT
 *
 * NaN and infinities: what is dropped has no influence, what is kept follows IEEE and reaches exactly the rows that use
 * it, a row that keeps no key gives 0. Outputs are compared bit by bit with those of a clean call.
 */
#define _DEFAULT_SOURCE
#include "call_scenarios.h"

/* ---- calls ---- */

enum { PLAIN, CAUSAL, WINDOW, DROP, BIAS, ADDITIVE, EVERYTHING, MODIFIERS };

typedef struct variant {
    int modifiers, types, value_in_key, family, mode;
} variant;

/* Masks drop single keys, every seventh key for all rows, and all keys of row 1. */
static double content(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    const uint64_t x = call_hash(which, id, head, row, i);
    const int dropped = row == 1 || i % 7 == 3 || x % 3 == 0;
    if (which == CALL_DROP) return dropped;
    if (which == CALL_BIAS || which == CALL_ADDITIVE) return dropped ? -INFINITY : call_normal(x);
    return call_content(c, which, id, head, row, i);
}

static void variant_spec(const variant *v, call_spec *s) {
    const int m = v->modifiers;
    call_spec_init(s);
    s->n = 0;
    s->content = content;
    scenario_heads(s, 2, 2, 24, 20);
    if (v->types == 1) scenario_dtypes(s, FIA_F16, FIA_F16, FIA_F16, FIA_F32);
    if (v->types == 2) scenario_dtypes(s, FIA_F32, FIA_BF16, FIA_F16, FIA_BF16);
    scenario_sequence(s, v->family == FIA_FAMILY_STREAM ? 4 : 31, 75, 0, 0);
    scenario_sequence(s, 3, 40, 0, 0);
    s->value_in_key = v->value_in_key;
    s->pin_family = v->family;
    s->causal = m == CAUSAL || m == WINDOW || m == EVERYTHING;
    if (m == WINDOW || m == EVERYTHING) s->window_left = 21;
    if (m == DROP || m == EVERYTHING) s->drop = FIA_U8;
    if (m == BIAS || m == EVERYTHING) s->bias = FIA_F32;
    if (m == ADDITIVE || m == EVERYTHING) s->additive = FIA_F16;
    if (m == ADDITIVE) s->factor = FIA_F32;
    if (m == EVERYTHING) {
        s->slopes = FIA_F32;
        s->sinks = FIA_F32;
        s->softcap = 4;
    }
}

static void run_variant(call *c, const variant *v) {
    const call_how how = {v->mode, v->mode == CALL_SERIAL ? 1 : 3, 0, 7, 0xff, 0};
    call_run(c, &how);
}

/* Runs a check over all variants. */
static void for_all(void (*check)(const variant *v, call *c)) {
    variant v;
    for (v.modifiers = 0; v.modifiers < MODIFIERS; ++v.modifiers)
        for (v.types = 0; v.types < 3; ++v.types)
            for (v.value_in_key = 0; v.value_in_key < 2; ++v.value_in_key)
                for (v.family = FIA_FAMILY_STREAM; v.family <= FIA_FAMILY_TILE; ++v.family) {
                    call_form form = {0};
                    call_spec spec;
                    call c;
                    v.mode = v.modifiers % 2 ? CALL_PHASES : CALL_SERIAL;
                    variant_spec(&v, &spec);
                    form.keys = v.types == 1 ? CALL_BNNBSD : CALL_TOKEN_MAJOR;
                    form.page_size = 9;
                    form.spare_kv = v.types == 1 ? 0 : 20;
                    call_make(&c, &spec, &form);
                    check(&v, &c);
                    call_free(&c);
                }
}

static int keeps(const call *c, int b, int64_t h, int64_t r, int64_t j) {
    const oracle_call from = {&c->problem, &c->io, NULL};
    oracle_sequence s;
    oracle_find_sequence(&from, b, &s);
    return oracle_keeps(&from, &s, (int32_t)h, r, j);
}

/* ---- results ---- */

/* What a clean call gave. */
typedef struct clean {
    char *out, *lse;
} clean;

static clean keep_clean(call *c, const variant *v) {
    clean k;
    run_variant(c, v);
    k.out = (char *)malloc(c->tensor[CALL_OUT].bytes[0]);
    k.lse = (char *)malloc(c->tensor[CALL_LSE].bytes[0]);
    assert_true(k.out && k.lse);
    memcpy(k.out, c->tensor[CALL_OUT].base[0], c->tensor[CALL_OUT].bytes[0]);
    memcpy(k.lse, c->tensor[CALL_LSE].base[0], c->tensor[CALL_LSE].bytes[0]);
    return k;
}

static void free_clean(clean k) {
    free(k.out);
    free(k.lse);
}

enum { SAME, ALL_NAN, ONE_ELEMENT };

/* Results have one NaN: quiet, positive, no payload. */
static int is_result_nan(fia_dtype dtype, const char *row, int64_t i) {
    const uint32_t bits = dtype == FIA_F32 ? 0x7fc00000u : dtype == FIA_F16 ? 0x7e00u : 0x7fc0u;
    return memcmp(row + (size_t)i * call_size(dtype), &bits, call_size(dtype)) == 0;
}

/* A row against the clean one. ONE_ELEMENT: element i becomes `becomes`, everything else stays. */
static void check_row(const call *c, const clean *k, int b, int64_t h, int64_t r, int fate, int64_t element,
                      double becomes) {
    const char *row = call_at(c, CALL_OUT, b, h, r), *lse = call_at(c, CALL_LSE, b, h, r);
    const char *was = k->out + (row - c->tensor[CALL_OUT].base[0]);
    const size_t size = call_size(c->spec.out);
    int64_t i;
    int wrong = 0;
    for (i = 0; i < c->spec.Dv; ++i) {
        const double got = oracle_decode(c->spec.out, row, i);
        if (fate == ALL_NAN) wrong |= !is_result_nan(c->spec.out, row, i);
        else if (fate == ONE_ELEMENT && i == element)
            wrong |= isnan(becomes) ? !is_result_nan(c->spec.out, row, i) : got != becomes;
        else wrong |= memcmp(row + (size_t)i * size, was + (size_t)i * size, size) != 0;
    }
    if (fate == ALL_NAN) wrong |= !is_result_nan(FIA_F32, lse, 0) << 1;
    else wrong |= (memcmp(lse, k->lse + (lse - c->tensor[CALL_LSE].base[0]), 4) != 0) << 1;
    if (wrong)
        fail_msg("sequence %d head %ld row %ld: %s%s wrong (fate %d); family %d, types %d %d, value in key %d", b,
                 (long)h, (long)r, wrong & 1 ? "out " : "", wrong & 2 ? "lse" : "", fate, c->spec.pin_family, c->spec.k,
                 c->spec.v, c->spec.value_in_key);
}

/* Rows that keep key j of a KV head of sequence 0 have this fate, all others are as they were. */
static int check_users(const call *c, const clean *k, int64_t kv_head, int64_t j, int fate, int64_t element,
                       double becomes) {
    int64_t h, r;
    int b, users = 0;
    for (b = 0; b < c->spec.n; ++b)
        for (h = 0; h < c->problem.n_q_heads; ++h)
            for (r = 0; r < c->spec.sequence[b].q_len; ++r) {
                const int uses = b == 0 && h / c->spec.G == kv_head && keeps(c, b, h, r, j);
                check_row(c, k, b, h, r, uses ? fate : SAME, element, becomes);
                users += uses;
            }
    return users;
}

static const int64_t places[] = {0, 5, 15, 16, 24, 31, 32, 49, 63, 64, 74};
enum { PLACES = sizeof places / sizeof places[0] };

static int total_users;

/* ---- kept keys and values ---- */

static void check_nan_key(const variant *v, call *c) {
    const clean k = keep_clean(c, v);
    size_t n;
    for (n = 0; n < PLACES; ++n) {
        const int64_t j = places[n], i = (int64_t)n % c->spec.D;
        const double was = call_get(c, CALL_K, 0, 1, j, i);
        call_set(c, CALL_K, 0, 1, j, i, NAN);
        run_variant(c, v);
        total_users += check_users(c, &k, 1, j, ALL_NAN, 0, 0);
        call_set(c, CALL_K, 0, 1, j, i, was);
    }
    free_clean(k);
}

static void nan_in_a_key_reaches_exactly_the_rows_that_keep_it(void **state) {
    (void)state;
    total_users = 0;
    for_all(check_nan_key);
    assert_true(total_users > 1000);
}

static void check_value(const variant *v, call *c, double x) {
    const clean k = keep_clean(c, v);
    size_t n;
    for (n = 0; n < PLACES && !v->value_in_key; ++n) {
        const int64_t j = places[n], i = ((int64_t)n * 7 + 3) % c->spec.Dv;
        const double was = call_get(c, CALL_V, 0, 0, j, i);
        call_set(c, CALL_V, 0, 0, j, i, x);
        run_variant(c, v);
        total_users += check_users(c, &k, 0, j, ONE_ELEMENT, i, x);
        call_set(c, CALL_V, 0, 0, j, i, was);
    }
    free_clean(k);
}

static void check_nan_value(const variant *v, call *c) { check_value(v, c, NAN); }

static void nan_in_a_value_reaches_exactly_its_element(void **state) {
    (void)state;
    total_users = 0;
    for_all(check_nan_value);
    assert_true(total_users > 1000);
}

static void check_infinite_value(const variant *v, call *c) { check_value(v, c, v->types ? -INFINITY : INFINITY); }

static void infinity_in_a_value_is_infinity_in_its_element(void **state) {
    (void)state;
    for_all(check_infinite_value);
}

static void check_opposite_infinities(const variant *v, call *c) {
    const clean k = keep_clean(c, v);
    int64_t h, r;
    if (v->value_in_key) {
        free_clean(k);
        return;
    }
    call_set(c, CALL_V, 0, 0, 30, 4, INFINITY);
    call_set(c, CALL_V, 0, 0, 33, 4, -INFINITY);
    run_variant(c, v);
    for (h = 0; h < c->problem.n_q_heads; ++h)
        for (r = 0; r < c->spec.sequence[0].q_len; ++r) {
            const int plus = h < c->spec.G && keeps(c, 0, h, r, 30), minus = h < c->spec.G && keeps(c, 0, h, r, 33);
            const double sum = (plus ? INFINITY : 0) - (minus ? INFINITY : 0);
            check_row(c, &k, 0, h, r, plus || minus ? ONE_ELEMENT : SAME, 4, sum);
        }
    free_clean(k);
}

static void opposite_infinities_are_nan_where_both_are_kept(void **state) {
    (void)state;
    for_all(check_opposite_infinities);
}

/* Every element of a call is NaN, infinite or near the oracle, as the oracle says. */
static void compare_with_oracle(const call *c, const char *what) {
    const oracle_call from = {&c->problem, &c->io, NULL};
    double want[256];
    oracle_work work;
    int64_t h, r, i;
    int b;
    oracle_work_init(&work);
    for (b = 0; b < c->spec.n; ++b) {
        oracle_sequence s;
        oracle_find_sequence(&from, b, &s);
        for (h = 0; h < c->problem.n_q_heads; ++h)
            for (r = 0; r < s.q_len; ++r) {
                oracle_row_info info;
                oracle_row(&from, &s, (int32_t)h, r, &work, want, &info);
                for (i = 0; i < c->spec.Dv; ++i) {
                    const double got = call_get(c, CALL_OUT, b, h, r, i), slack = c->spec.out == FIA_F32 ? 1e-4 : 2e-2;
                    const int same = isnan(want[i])   ? isnan(got)
                                     : isinf(want[i]) ? got == want[i]
                                                      : fabs(got - want[i]) <= slack;
                    if (!same)
                        fail_msg("%s: sequence %d head %ld row %ld element %ld is %g, oracle %g", what, b, (long)h,
                                 (long)r, (long)i, got, want[i]);
                }
            }
    }
    oracle_work_free(&work);
}

/* An infinite score: +inf makes its row NaN (inf - inf), -inf a weight of 0; a softcap bounds both. */
static void check_infinite_key(const variant *v, call *c) {
    size_t n;
    for (n = 0; n < PLACES && !v->value_in_key; ++n) {
        const double was = call_get(c, CALL_K, 0, 1, places[n], 2);
        call_set(c, CALL_K, 0, 1, places[n], 2, n % 2 ? INFINITY : -INFINITY);
        run_variant(c, v);
        compare_with_oracle(c, "infinite key");
        call_set(c, CALL_K, 0, 1, places[n], 2, was);
    }
}

static void infinity_in_a_key_follows_ieee(void **state) {
    (void)state;
    for_all(check_infinite_key);
}

/* A key whose score is -inf has weight 0, and 0 * NaN is NaN; where all kept keys have such scores the row is 0 / 0. */
static void check_minus_infinite_scores(const variant *v) {
    const call_form form = {0};
    const int64_t row = 2;
    call_spec spec;
    clean k;
    int64_t i, j = 40;
    call c;
    variant_spec(v, &spec);
    call_make(&c, &spec, &form);
    for (i = 0; i < spec.D; ++i) call_set(&c, CALL_Q, 0, 0, row, i, i == 3 ? 1 : 0.25);
    k = keep_clean(&c, v);
    while (!keeps(&c, 0, 0, row, j)) ++j;
    call_set(&c, CALL_K, 0, 0, j, 3, -INFINITY);
    call_set(&c, CALL_V, 0, 0, j, 6, NAN);
    run_variant(&c, v);
    assert_true(isnan(call_get(&c, CALL_OUT, 0, 0, row, 6)));
    assert_true(isfinite(call_get(&c, CALL_OUT, 0, 0, row, 5)));
    check_row(&c, &k, 0, 2, row, SAME, 0, 0);
    for (j = 0; j < 75; ++j) call_set(&c, CALL_K, 0, 0, j, 3, -INFINITY);
    run_variant(&c, v);
    for (i = 0; i < spec.Dv; ++i) assert_true(isnan(call_get(&c, CALL_OUT, 0, 0, row, i)));
    assert_true(oracle_decode(FIA_F32, call_at(&c, CALL_LSE, 0, 0, row), 0) == -INFINITY);
    free_clean(k);
    call_free(&c);
}

static void kept_scores_of_minus_infinity_are_not_drops(void **state) {
    int modifiers, family, types;
    (void)state;
    for (modifiers = PLAIN; modifiers < EVERYTHING; ++modifiers)
        for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family)
            for (types = 0; types < 3; ++types) {
                const variant v = {modifiers, types, 0, family, CALL_SERIAL};
                check_minus_infinite_scores(&v);
            }
}

static void check_query(const variant *v, call *c) {
    const clean k = keep_clean(c, v);
    const double poison[2] = {NAN, INFINITY};
    const int64_t rows[3] = {0, 1, c->spec.sequence[0].q_len - 1};
    int64_t h, r;
    size_t n;
    for (n = 0; n < 6; ++n) {
        const int64_t row = rows[n / 2];
        const double was = call_get(c, CALL_Q, 0, 2, row, 9);
        call_set(c, CALL_Q, 0, 2, row, 9, poison[n % 2]);
        run_variant(c, v);
        if (n % 2) compare_with_oracle(c, "infinite query");
        for (h = 0; h < c->problem.n_q_heads; ++h)
            for (r = 0; r < c->spec.sequence[0].q_len; ++r) {
                int64_t j, kept = 0;
                for (j = 0; j < 75; ++j) kept += keeps(c, 0, h, r, j);
                if (n % 2 == 0 || h != 2 || r != row)
                    check_row(c, &k, 0, h, r, h == 2 && r == row && kept ? ALL_NAN : SAME, 0, 0);
            }
        call_set(c, CALL_Q, 0, 2, row, 9, was);
    }
    free_clean(k);
}

static void nan_in_a_query_reaches_its_row_alone(void **state) {
    (void)state;
    for_all(check_query);
}

/* ---- dropped keys ---- */

/* Every key that one row drops, or that no row sees, is poisoned for it; the row has the bits of the clean call. */
static void check_dropped(const variant *v, call *c) {
    const double poison[3] = {NAN, INFINITY, -INFINITY};
    const clean k = keep_clean(c, v);
    const int64_t q_len = c->spec.sequence[0].q_len;
    int64_t r, j, i, h;
    for (r = 0; r<q_len; r += q_len> 8 ? 5 : 1)
        for (h = 0; h < 4; h += 3) {
            const int64_t kv_head = h / c->spec.G;
            for (j = 0; j < 75; ++j)
                for (i = 0; i < c->spec.D && !keeps(c, 0, h, r, j); ++i) {
                    call_set(c, CALL_K, 0, kv_head, j, i, poison[(j + i) % 3]);
                    if (i < c->spec.Dv && !v->value_in_key)
                        call_set(c, CALL_V, 0, kv_head, j, i, poison[(j + i + r) % 3]);
                }
            run_variant(c, v);
            check_row(c, &k, 0, h, r, SAME, 0, 0);
            call_fill(c);
        }
    free_clean(k);
}

static void what_a_row_drops_has_no_influence_on_it(void **state) {
    (void)state;
    for_all(check_dropped);
}

/* Rows behind the length, pages and rows that no bounds reach. */
static void check_out_of_bounds(const variant *v, call *c) {
    const double poison[3] = {NAN, INFINITY, -INFINITY};
    const oracle_call from = {&c->problem, &c->io, NULL};
    const clean k = keep_clean(c, v);
    int64_t h, r, j, i, poisoned = 0;
    int b, round;
    for (round = 0; round < 3; ++round) {
        for (b = 0; b < c->spec.n; ++b) {
            const int64_t room = c->table ? c->spec.sequence[b].kv_len : c->problem.max_kv_len;
            oracle_sequence s;
            oracle_find_sequence(&from, b, &s);
            for (j = 0; j < room; ++j)
                for (h = 0; h < c->spec.Hkv && !oracle_any_row_in_bounds(&from, &s, j); ++h, ++poisoned)
                    for (i = 0; i < c->spec.D; ++i) {
                        call_set(c, CALL_K, b, h, j, i, poison[round]);
                        if (i < c->spec.Dv && !v->value_in_key) call_set(c, CALL_V, b, h, j, i, poison[round]);
                    }
        }
        run_variant(c, v);
        for (b = 0; b < c->spec.n; ++b)
            for (h = 0; h < c->problem.n_q_heads; ++h)
                for (r = 0; r < c->spec.sequence[b].q_len; ++r) check_row(c, &k, b, h, r, SAME, 0, 0);
    }
    assert_true(poisoned > 0 || c->table);
    free_clean(k);
}

static void what_lies_outside_all_bounds_has_no_influence(void **state) {
    (void)state;
    for_all(check_out_of_bounds);
}

/* ---- masks ---- */

/* A stored -inf drops whatever the factor; NaN and +inf that are kept make their row NaN. */
static void check_mask_entry(int which, fia_dtype dtype, int family, double factor) {
    const variant v = {which == CALL_BIAS ? BIAS : ADDITIVE, 0, 0, family, CALL_SERIAL};
    const call_form form = {0};
    const double entry[2] = {NAN, INFINITY};
    call_spec spec;
    int64_t h, n;
    clean k;
    call c;
    variant_spec(&v, &spec);
    spec.bias = which == CALL_BIAS ? dtype : FIA_NONE;
    spec.additive = which == CALL_ADDITIVE ? dtype : FIA_NONE;
    call_make(&c, &spec, &form);
    for (h = 0; h < 4 && which == CALL_ADDITIVE; ++h) oracle_encode(FIA_F32, factor, c.tensor[CALL_FACTOR].base[0], h);
    k = keep_clean(&c, &v);
    compare_with_oracle(&c, "mask with -inf");
    for (n = 0; n < 2 && factor >= 0; ++n) {
        int64_t j = 20;
        double was;
        while (!keeps(&c, 0, 3, 2, j)) ++j;
        was = call_get(&c, which, 0, 3, 2, j);
        call_set(&c, which, 0, 3, 2, j, entry[n]);
        run_variant(&c, &v);
        for (h = 0; h < 4; ++h) check_row(&c, &k, 0, h, 2, h == 3 ? ALL_NAN : SAME, 0, 0);
        call_set(&c, which, 0, 3, 2, j, was);
    }
    free_clean(k);
    call_free(&c);
}

static void minus_infinity_in_a_mask_drops_and_nan_is_kept(void **state) {
    const fia_dtype dtypes[3] = {FIA_F32, FIA_F16, FIA_BF16};
    int family, d;
    (void)state;
    for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family)
        for (d = 0; d < 3; ++d) {
            check_mask_entry(CALL_BIAS, dtypes[d], family, 1);
            check_mask_entry(CALL_ADDITIVE, dtypes[d], family, 1);
            check_mask_entry(CALL_ADDITIVE, dtypes[d], family, 0);  /* 0 * inf */
            check_mask_entry(CALL_ADDITIVE, dtypes[d], family, -1); /* -1 * -inf */
        }
}

/* Large finite numbers are no drops: a row whose keys all have -FLT_MAX or -1e30 averages them. */
static void finite_masks_do_not_drop(void **state) {
    const double lowest[3] = {-3.4028234663852886e38, -1e30, -65504};
    int family, n;
    (void)state;
    for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family)
        for (n = 0; n < 3; ++n) {
            const variant v = {ADDITIVE, 0, 0, family, CALL_SERIAL};
            const call_form form = {0};
            call_spec spec;
            int64_t r, j;
            call c;
            variant_spec(&v, &spec);
            spec.additive = FIA_F32;
            spec.factor = FIA_NONE;
            call_make(&c, &spec, &form);
            for (r = 0; r < 4; ++r)
                for (j = 0; j < 75; ++j)
                    if (r == 0 || j != 5 * r) call_set(&c, CALL_ADDITIVE, 0, 1, r, j, lowest[n]);
            run_variant(&c, &v);
            if (n < 2) compare_with_oracle(&c, "finite mask"); /* at -65504 f32 scores keep no fraction */
            for (j = 0; j < spec.Dv; ++j) assert_true(isfinite(call_get(&c, CALL_OUT, 0, 1, 0, j)));
            call_free(&c);
        }
}

/* ---- rows that keep nothing ---- */

enum { NONE_BY_DROP, NONE_BY_BIAS, NONE_BY_ADDITIVE, NONE_BY_CAUSAL, NONE_BY_WINDOW, NONE_BY_LENGTH, NONE_WAYS };

static double drop_all(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    if (which == CALL_DROP) return 1;
    if (which == CALL_BIAS || which == CALL_ADDITIVE) return -INFINITY;
    if (which == CALL_K || which == CALL_V) return i % 2 ? NAN : INFINITY;
    return call_content(c, which, id, head, row, i);
}

static void check_empty_rows(int way, int family, fia_dtype out, float lse_empty) {
    call_form form = {0};
    const call_how how = {CALL_PHASES, 3, 0, 1, 0xff, 0};
    call_spec spec;
    int64_t h, r, i;
    call c;
    int b;
    call_spec_init(&spec);
    spec.n = 0;
    scenario_heads(&spec, 2, 2, 24, 20);
    scenario_dtypes(&spec, FIA_F16, FIA_F32, FIA_BF16, out);
    spec.content = drop_all;
    spec.lse_empty = lse_empty;
    spec.pin_family = family;
    spec.sinks = way % 2 ? FIA_F32 : FIA_NONE;
    spec.offsets = way == NONE_BY_CAUSAL || way == NONE_BY_WINDOW;
    spec.causal = way == NONE_BY_CAUSAL;
    spec.window_left = way == NONE_BY_WINDOW ? -10 : FIA_UNBOUNDED;
    spec.window_right = way == NONE_BY_WINDOW ? 5 : FIA_UNBOUNDED;
    spec.drop = way == NONE_BY_DROP ? FIA_I8 : FIA_NONE;
    spec.bias = way == NONE_BY_BIAS ? FIA_BF16 : FIA_NONE;
    spec.additive = way == NONE_BY_ADDITIVE ? FIA_F32 : FIA_NONE;
    scenario_sequence(&spec, 5, way == NONE_BY_LENGTH ? 0 : 50, -9, 1);
    scenario_sequence(&spec, 2, way == NONE_BY_LENGTH ? 0 : 33, 3, 50);
    form.fill = 0xff;
    call_make(&c, &spec, &form);
    call_run(&c, &how);
    for (b = 0; b < spec.n; ++b)
        for (h = 0; h < 4; ++h)
            for (r = 0; r < spec.sequence[b].q_len; ++r) {
                const char zero[128] = {0};
                assert_memory_equal(call_at(&c, CALL_LSE, b, h, r), &lse_empty, 4);
                assert_memory_equal(call_at(&c, CALL_OUT, b, h, r), zero, 20 * call_size(out));
                for (i = 0; i < 20; ++i) assert_true(call_get(&c, CALL_OUT, b, h, r, i) == 0);
            }
    call_free(&c);
}

static void rows_that_keep_no_key_give_zero(void **state) {
    const float lse_empty[4] = {-INFINITY, INFINITY, NAN, 0.5f};
    int way, family, n;
    (void)state;
    for (way = 0; way < NONE_WAYS; ++way)
        for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family)
            for (n = 0; n < 4; ++n) check_empty_rows(way, family, n % 2 ? FIA_F16 : FIA_F32, lse_empty[n]);
}

/* ---- sinks ---- */

static double sink_table(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    const double sink[4] = {-INFINITY, INFINITY, NAN, 1.5};
    return which == CALL_SINKS ? sink[head] : content(c, which, id, head, row, i);
}

/* Head 0 is as without a sink, head 1 gives 0, head 2 NaN, head 3 what the oracle says; LSE never knows of sinks. */
static void check_sinks(fia_dtype dtype, int family, int modifiers) {
    const variant v = {modifiers, 0, 0, family, CALL_PHASES};
    const call_form form = {0};
    call_spec spec;
    int64_t r, h, i;
    clean k;
    call c, with;
    variant_spec(&v, &spec);
    spec.content = sink_table;
    spec.sinks = FIA_NONE;
    call_make(&c, &spec, &form);
    k = keep_clean(&c, &v);
    spec.sinks = dtype;
    call_make(&with, &spec, &form);
    run_variant(&with, &v);
    for (r = 0; r < spec.sequence[0].q_len; ++r) {
        const int empty = (modifiers == DROP || modifiers == ADDITIVE) && r == 1;
        for (h = 0; h < 4; ++h)
            assert_memory_equal(call_at(&with, CALL_LSE, 0, h, r), call_at(&c, CALL_LSE, 0, h, r), 4);
        check_row(&with, &k, 0, 0, r, SAME, 0, 0);
        for (i = 0; i < spec.Dv; ++i) {
            assert_true(call_get(&with, CALL_OUT, 0, 1, r, i) == 0);
            assert_true(empty ? call_get(&with, CALL_OUT, 0, 2, r, i) == 0
                              : isnan(call_get(&with, CALL_OUT, 0, 2, r, i)));
            if (!empty && call_get(&c, CALL_OUT, 0, 3, r, i) != 0)
                assert_true(fabs(call_get(&with, CALL_OUT, 0, 3, r, i)) < fabs(call_get(&c, CALL_OUT, 0, 3, r, i)));
        }
    }
    free_clean(k);
    call_free(&c);
    call_free(&with);
}

static void infinite_sinks_take_nothing_or_all(void **state) {
    const fia_dtype dtypes[3] = {FIA_F32, FIA_F16, FIA_BF16};
    const int modifiers[3] = {CAUSAL, DROP, ADDITIVE};
    int family, n;
    (void)state;
    for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family)
        for (n = 0; n < 9; ++n) check_sinks(dtypes[n % 3], family, modifiers[n / 3]);
}

/* ---- nothing at all ---- */

static void a_run_without_sequences_needs_no_address(void **state) {
    const call_form form = {0};
    fia_report report;
    fia_plan plan;
    fia_job job;
    fia_io io;
    int k;
    (void)state;
    for (k = 0; k < SCENARIOS; ++k) {
        call_spec spec;
        call c;
        scenario_spec(k, &spec);
        call_make(&c, &spec, &form);
        assert_int_equal(fia_plan_make(NULL, &c.problem, 2, &plan, &report), FIA_OK);
        fia_io_init(&io);
        io.n_sequences = 0;
        job.plan = &plan;
        job.io = &io;
        job.workspace = call_room(&c, plan.workspace_bytes, 1);
        job.workspace_bytes = plan.workspace_bytes;
        assert_int_equal(fia_run(&job, NULL, &report), FIA_OK);
        call_free(&c);
    }
}

/* Sequences without rows or keys beside others; buffers that nothing lives in may be NULL. */
static void empty_sequences_write_zero_or_nothing(void **state) {
    const int64_t lengths[4][2] = {{0, 0}, {0, 9}, {3, 0}, {0, 0}};
    const char zero[128] = {0};
    const float none = -INFINITY;
    fia_report report = {FIA_OK, ""};
    int all, packed, b;
    (void)state;
    for (all = 0; all < 2; ++all)
        for (packed = 0; packed < 2; ++packed) {
            const call_how how = {CALL_PHASES, 3, 0, 1, 0xff, 0};
            call_form form = {0};
            call_spec spec;
            int64_t h, r;
            call c;
            call_spec_init(&spec);
            spec.n = 0;
            scenario_heads(&spec, 2, 2, 8, 8);
            for (b = 0; b < 4; ++b) scenario_sequence(&spec, lengths[b][0], lengths[b][1], 0, 0);
            if (!all) scenario_sequence(&spec, 2, 5, 0, 0);
            form.q_packed = form.kv_packed = packed;
            form.fill = 0xff;
            call_make(&c, &spec, &form);
            if (all) c.io.key = c.io.value = NULL;
            if (call_try(&c, &how, &report) != FIA_OK) fail_msg("%s", report.text);
            for (h = 0; h < 4; ++h)
                for (r = 0; r < 3; ++r) {
                    assert_memory_equal(call_at(&c, CALL_OUT, 2, h, r), zero, 32);
                    assert_memory_equal(call_at(&c, CALL_LSE, 2, h, r), &none, 4);
                }
            if (!all) assert_true(isfinite(call_get(&c, CALL_OUT, 4, 3, 1, 7)));
            call_free(&c);
        }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nan_in_a_key_reaches_exactly_the_rows_that_keep_it),
    cmocka_unit_test(nan_in_a_value_reaches_exactly_its_element),
    cmocka_unit_test(infinity_in_a_value_is_infinity_in_its_element),
    cmocka_unit_test(opposite_infinities_are_nan_where_both_are_kept),
    cmocka_unit_test(infinity_in_a_key_follows_ieee),
    cmocka_unit_test(kept_scores_of_minus_infinity_are_not_drops),
    cmocka_unit_test(nan_in_a_query_reaches_its_row_alone),
    cmocka_unit_test(what_a_row_drops_has_no_influence_on_it),
    cmocka_unit_test(what_lies_outside_all_bounds_has_no_influence),
    cmocka_unit_test(minus_infinity_in_a_mask_drops_and_nan_is_kept),
    cmocka_unit_test(finite_masks_do_not_drop),
    cmocka_unit_test(rows_that_keep_no_key_give_zero),
    cmocka_unit_test(infinite_sinks_take_nothing_or_all),
    cmocka_unit_test(a_run_without_sequences_needs_no_address),
    cmocka_unit_test(empty_sequences_write_zero_or_nothing),
};

CALL_MAIN(tests)
