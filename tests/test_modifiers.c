/* SPDX-License-Identifier: MIT
 *
 * Modifiers where the cross product rarely looks: masks that few rows share, words of a mask, far ALiBi distances. Scores
 * are given one by one (D = 1), in both families.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fia.h"
#include "plan_and_run.h"
#include "seed.h"

enum { TOKENS = 24, HEADS = 8, KEYS = 150 };

/* Query 1, scale 1: the scores are the keys. All heads share one KV head. Terms are [head][token][key]. */
typedef struct modified {
    int tokens, heads, keys, family;
    int per_head, per_token; /* else terms of head 0, token 0 serve all */
    float key[KEYS], value[KEYS];
    float add[HEADS][TOKENS][KEYS];
    unsigned char drop[HEADS][TOKENS][KEYS];
    float factor, slope; /* of head 0; head h has h + 1 times that. slope 0: no ALiBi */
    int adds, drops, causal;
    int32_t piece;  /* elements of a row that lie together */
    int64_t offset; /* position of the first query row */
    float out[TOKENS][HEADS], lse[TOKENS][HEADS];
} modified;

static modified *modified_new(int tokens, int heads, int keys, int family) {
    modified *m = (modified *)calloc(1, sizeof *m);
    int j;
    assert_non_null(m);
    m->tokens = tokens;
    m->heads = heads;
    m->keys = keys;
    m->family = family;
    m->factor = 1;
    for (j = 0; j < keys; ++j) m->value[j] = (float)(j + 1);
    return m;
}

static fia_mask_view term_view(const modified *m, fia_dtype dtype, ptrdiff_t bytes) {
    fia_mask_view v;
    memset(&v, 0, sizeof v);
    v.dtype = dtype;
    v.rows = m->tokens;
    v.keys = m->keys;
    v.head_bytes = m->per_head ? TOKENS * KEYS * bytes : 0;
    v.row_bytes = m->per_token ? KEYS * bytes : 0;
    return v;
}

static void modified_run(modified *m) {
    float q[TOKENS * HEADS], slopes[HEADS], factors[HEADS];
    fia_problem p;
    fia_io io;
    int i;
    for (i = 0; i < TOKENS * HEADS; ++i) q[i] = 1;
    for (i = 0; i < HEADS; ++i) {
        slopes[i] = m->slope * (float)(i + 1);
        factors[i] = m->factor * (float)(i + 1);
    }
    fia_problem_init(&p);
    fia_io_init(&io);
    p.max_q_len = m->tokens;
    p.max_kv_len = m->keys;
    p.n_q_heads = m->heads;
    p.dim = p.value_dim = 1;
    p.scale = 1;
    p.query.head_bytes = p.out.head_bytes = p.lse_head_bytes = sizeof(float);
    p.query.row_bytes = p.out.row_bytes = p.lse_row_bytes = HEADS * sizeof(float);
    p.key.row_bytes = p.value.row_bytes = sizeof(float);
    p.key.piece_elements = p.value.piece_elements = m->piece;
    p.want_lse = 1;
    p.pin_family = m->family;
    p.causal = m->causal;
    if (m->adds) {
        p.additive_mask = term_view(m, FIA_F32, 4);
        p.mask_factor = FIA_F32;
        io.additive_mask = m->add;
        io.mask_factor = factors;
    }
    if (m->drops) {
        p.drop_mask = term_view(m, FIA_U8, 1);
        io.drop_mask = m->drop;
    }
    if (m->slope != 0.0f) {
        p.alibi_slopes = FIA_F32;
        io.alibi_slopes = slopes;
    }
    if (m->slope != 0.0f || m->causal) {
        io.q_offset.data = &m->offset;
        io.q_offset.dtype = FIA_I64;
        io.q_offset.stride_bytes = sizeof m->offset;
    }
    io.query = q;
    io.key = m->key;
    io.value = m->value;
    io.out = m->out;
    io.lse = m->lse[0];
    assert_int_equal(plan_and_run(NULL, &p, &io, NULL, NULL), FIA_OK);
}

/* One row in double; distances are rounded to float, as documented. Returns the LSE. */
static double expected(const modified *m, int t, int h, double *out) {
    const int th = m->per_head ? h : 0, tt = m->per_token ? t : 0;
    double x[KEYS], top = -INFINITY, sum = 0;
    int j;
    for (j = 0; j < m->keys; ++j) {
        const int64_t d = m->offset + t - j;
        x[j] = m->key[j];
        if (m->slope != 0.0f) x[j] -= (double)m->slope * (h + 1) * (double)(float)(d < 0 ? -d : d);
        if (m->adds) x[j] += (double)m->add[th][tt][j] * m->factor * (h + 1);
        if (m->drops && m->drop[th][tt][j]) x[j] = -INFINITY;
        if (m->causal && d < 0) x[j] = -INFINITY;
        if (x[j] > top) top = x[j];
    }
    for (j = 0, *out = 0; j < m->keys; ++j) {
        const double w = top > -INFINITY ? exp(x[j] - top) : 0;
        sum += w;
        *out += w * m->value[j];
    }
    if (sum > 0) *out /= sum;
    return sum > 0 ? top + log(sum) : INFINITY;
}

static void modified_check(modified *m) {
    int t, h;
    modified_run(m);
    for (t = 0; t < m->tokens; ++t)
        for (h = 0; h < m->heads; ++h) {
            double out;
            const double lse = expected(m, t, h, &out);
            const double error = fabs(lse - (double)m->lse[t][h]);
            assert_true(fabs(out - (double)m->out[t][h]) <= 1e-5 * fabs(out));
            assert_true(lse == (double)m->lse[t][h] || error <= 4e-7 * fabs(lse) + 1e-5);
        }
}

static const int families[2] = {FIA_FAMILY_STREAM, FIA_FAMILY_TILE};

/* Values that no two rows share, under every way to share them, by every number of rows. */
static void terms_meet_their_rows(void **state) {
    uint64_t random = seed_of_environment(1);
    int tokens, heads, share, family, which;
    (void)state;
    printf("SEED=%llu\n", (unsigned long long)random);
    for (family = 0; family < 2; ++family)
        for (tokens = 1; tokens <= TOKENS; tokens += tokens < 4 ? 1 : 5)
            for (heads = 1; heads <= HEADS; ++heads)
                for (share = 0; share < 4; ++share)
                    for (which = 0; which < 2; ++which) {
                        modified *m;
                        int t, h, j;
                        if (families[family] == FIA_FAMILY_STREAM && tokens * heads > 8) continue;
                        m = modified_new(tokens, heads, 1 + (tokens * 37 + heads * 11) % KEYS, families[family]);
                        m->per_head = share & 1;
                        m->per_token = share >> 1;
                        m->adds = which == 0;
                        m->drops = which == 1;
                        for (h = 0; h < heads; ++h)
                            for (t = 0; t < tokens; ++t)
                                for (j = 0; j < m->keys; ++j) {
                                    random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                                    m->add[h][t][j] = (float)(random >> 40) / 8388608.0f - 1.0f;
                                    m->drop[h][t][j] = random >> 62 ? 0 : (unsigned char)(random >> 33);
                                }
                        modified_check(m);
                        free(m);
                    }
}

/* Slopes, factors and bounds of every number of rows that share a vector. */
static void rows_keep_their_own(void **state) {
    int tokens, heads, family, j;
    (void)state;
    for (family = 0; family < 2; ++family)
        for (tokens = 1; tokens <= 8; ++tokens)
            for (heads = 1; heads <= HEADS && tokens * heads <= 8; ++heads)
                for (j = -2; j <= 40; ++j) {
                    modified *m = modified_new(tokens, heads, 33, families[family]);
                    int i;
                    m->adds = j % 2;
                    m->causal = 1;
                    m->slope = j % 3 ? 1.0f / 32 : 0.0f;
                    m->offset = j;
                    for (i = 0; i < m->keys; ++i) {
                        m->key[i] = (float)(i * 7 % 5);
                        m->add[0][0][i] = (float)(i * 3 % 4) / 4;
                    }
                    modified_check(m);
                    free(m);
                }
}

/* Every key but one is dropped, by bytes of any value or by -inf: the output is that key's value. */
static void one_key_of_a_dropped_row(void **state) {
    static const unsigned char bytes[5] = {1, 2, 0x80, 0xff, 0x7f};
    int n, kept, family, which, j;
    (void)state;
    for (family = 0; family < 2; ++family)
        for (which = 0; which < 2; ++which)
            for (n = 1; n <= 70; n += n < 20 ? 1 : 7)
                for (kept = 0; kept <= n; ++kept) { /* kept == n: none */
                    modified *m = modified_new(3, 2, n, families[family]);
                    m->adds = which;
                    m->drops = !which;
                    for (j = 0; j < n; ++j) {
                        if (j == kept) continue;
                        m->drop[0][0][j] = bytes[j % 5];
                        m->add[0][0][j] = -INFINITY;
                    }
                    modified_run(m);
                    for (j = 0; j < 6; ++j) assert_true(m->out[j / 2][j % 2] == (kept < n ? (float)(kept + 1) : 0.0f));
                    free(m);
                }
}

/* Where a mask is 0 nothing is added, but 0 times an infinite factor is NaN. */
static void zero_mask_times_infinity(void **state) {
    int family;
    (void)state;
    for (family = 0; family < 2; ++family) {
        modified *m = modified_new(2, 4, 40, families[family]);
        m->adds = 1;
        m->factor = INFINITY;
        modified_run(m);
        assert_true(isnan(m->out[0][0]) && isnan(m->out[1][3]) && isnan(m->lse[1][0]));
        m->factor = 3;
        modified_check(m);
        free(m);
    }
}

/* Distances below, around and above what a float counts one by one; on both sides of the row. */
static void far_alibi(void **state) {
    static const int64_t offset[] = {
        0, 60, -5, (1 << 23) - 30, (1 << 24) - 70, -(1 << 23), (1 << 25) + 1, -(1 << 26) - 3, INT64_C(1) << 40};
    size_t i;
    int family, j;
    (void)state;
    for (family = 0; family < 2; ++family)
        for (i = 0; i < sizeof offset / sizeof offset[0]; ++i) {
            modified *m = modified_new(2, 4, KEYS, families[family]);
            m->offset = offset[i];
            m->slope = 1.0f / 64;
            for (j = 0; j < KEYS; ++j) m->key[j] = (float)(j * 7 % 10);
            modified_run(m);
            for (j = 0; j < 8; ++j) {
                double out;
                const double lse = expected(m, j / 4, j % 4, &out);
                /* scores of size |lse| are floats */
                assert_true(fabs(out - (double)m->out[j / 4][j % 4]) <= fabs(out) * (1e-5 + fabs(lse) * 3e-7));
                assert_true(fabs(lse - (double)m->lse[j / 4][j % 4]) <= 1e-5 + fabs(lse) * 3e-7);
            }
            free(m);
        }
}

/* Pieces that are longer than a row: the row is one piece. */
static void long_pieces(void **state) {
    static const int32_t pieces[] = {1, 2, 1 << 29, INT32_MAX};
    int family, i;
    (void)state;
    for (family = 0; family < 2; ++family)
        for (i = 0; i < 4; ++i) {
            modified *m = modified_new(2, 4, KEYS, families[family]);
            m->piece = pieces[i];
            modified_check(m);
            free(m);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(terms_meet_their_rows),
        cmocka_unit_test(rows_keep_their_own),
        cmocka_unit_test(one_key_of_a_dropped_row),
        cmocka_unit_test(zero_mask_times_infinity),
        cmocka_unit_test(far_alibi),
        cmocka_unit_test(long_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
