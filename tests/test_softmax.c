/* SPDX-License-Identifier: MIT
 *
 * The online softmax at its edges: scores that are given one by one (D = 1), in both families.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fia.h"
#include "plan_and_run.h"

enum { KEYS = 64, HEADS = 8, PITCH = 1024 /* bytes between keys that lie far apart */ };

/* Query 1, scale 1: the scores are the keys. All heads share one KV head. */
typedef struct scored {
    float key[KEYS], value[KEYS];
    unsigned char drop[HEADS][KEYS]; /* by head; looked at if `drops` */
    int n, heads, drops, family;
    float out[HEADS], lse[HEADS];
} scored;

static void scored_init(scored *s, int n, int heads, int family) {
    int j;
    memset(s, 0, sizeof *s);
    s->n = n;
    s->heads = heads;
    s->family = family;
    for (j = 0; j < KEYS; ++j) s->value[j] = 1.0f;
}

/* Keys and values `pitch` bytes apart. */
static void scored_run(scored *s, size_t pitch) {
    static char k[KEYS * PITCH], v[KEYS * PITCH];
    float q[HEADS];
    fia_problem p;
    fia_io io;
    int i;
    for (i = 0; i < HEADS; ++i) q[i] = 1.0f;
    for (i = 0; i < s->n; ++i) {
        memcpy(k + (size_t)i * pitch, &s->key[i], sizeof(float));
        memcpy(v + (size_t)i * pitch, &s->value[i], sizeof(float));
    }
    fia_problem_init(&p);
    p.max_q_len = 1;
    p.max_kv_len = s->n;
    p.n_q_heads = s->heads;
    p.dim = p.value_dim = 1;
    p.scale = 1;
    p.query.head_bytes = p.out.head_bytes = p.lse_head_bytes = sizeof(float);
    p.key.row_bytes = p.value.row_bytes = (ptrdiff_t)pitch;
    p.want_lse = 1;
    p.pin_family = s->family;
    if (s->drops) {
        p.drop_mask.dtype = FIA_U8;
        p.drop_mask.head_bytes = KEYS;
        p.drop_mask.rows = 1;
        p.drop_mask.keys = s->n;
    }
    fia_io_init(&io);
    io.query = q;
    io.key = k;
    io.value = v;
    if (s->drops) io.drop_mask = s->drop;
    io.out = s->out;
    io.lse = s->lse;
    assert_int_equal(plan_and_run(NULL, &p, &io, NULL, NULL), FIA_OK);
}

/* Kept scores of -inf leave no weight; a NaN beside them is still a NaN, in the LSE too, wherever it stands. */
static void a_nan_beside_scores_of_minus_infinity_stays(void **state) {
    int family, heads, at, other, i;
    (void)state;
    for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family)
        for (heads = 1; heads <= HEADS; heads *= 2)
            for (at = 0; at < 20; ++at)
                for (other = 0; other < 2; ++other) {
                    scored s;
                    scored_init(&s, 20, heads, family);
                    for (i = 0; i < s.n; ++i) s.key[i] = -INFINITY;
                    s.key[at] = NAN;
                    if (other) s.key[(at + 1) % s.n] = 5.0f;
                    scored_run(&s, sizeof(float));
                    for (i = 0; i < heads; ++i) {
                        assert_true(isnan(s.out[i]));
                        assert_true(isnan(s.lse[i]));
                    }
                }
}

/* Weights are at most 16: a value that fits 16 times into a float does not overflow, however large the scores are. */
static void large_scores_give_no_large_weights(void **state) {
    int family, exponent, step, i;
    (void)state;
    for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family)
        for (exponent = 0; exponent < 30; ++exponent)
            for (step = 1; step <= 64; ++step) {
                scored s;
                double top, sum, want;
                scored_init(&s, 17, 1, family);
                memset(s.value, 0, sizeof s.value);
                s.key[0] = (float)ldexp(1.3863, exponent);
                for (i = 0; i < step / 16; ++i) s.key[0] = nextafterf(s.key[0], INFINITY);
                s.key[16] = s.key[0] + (float)(step % 16 + 1) * 0.75f;
                s.value[16] = 1e37f;
                scored_run(&s, sizeof(float));
                top = (double)s.key[16];
                sum = 1 + exp((double)s.key[0] - top) + 15 * exp(-top);
                want = 1e37 / sum;
                assert_true(isfinite(s.out[0]));
                /* scores are held to 24 bits: a step of the last one weighs in */
                assert_true(fabs((double)s.out[0] - want) <= want * (1e-5 + 2e-7 * top));
            }
}

/* A NaN that one row keeps and another drops changes no bit of the other, not even the sign of its zero. */
static void dropped_keys_leave_no_sign_behind(void **state) {
    int family, i, j;
    (void)state;
    for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family)
        for (i = 8; i < 32; ++i) {
            scored near, far;
            scored_init(&near, 32, 4, family);
            near.drops = 1;
            for (j = 0; j < 32; ++j) {
                near.key[j] = j == 0 ? 0.0f : j < 8 ? -60.0f : -80.0f;
                near.value[j] = j == 0 ? -0.0f : j < 8 ? -1e-30f : j < 16 ? 1.0f : 0.0f;
                near.drop[0][j] = j >= 8;
            }
            near.value[i] = NAN;
            far = near;
            scored_run(&near, sizeof(float));
            scored_run(&far, PITCH);
            assert_memory_equal(near.out, far.out, sizeof near.out);
            assert_memory_equal(near.lse, far.lse, sizeof near.lse);
        }
}

enum { ROWS = 384 };

/* Causal rows 0.. on keys 0..ROWS; values sum to -0 in row 0, or in all rows up to `zeros`. */
static void run_on_workers(int family, int zeros, int nan_key, int n, float *out) {
    static float q[ROWS], k[ROWS + 1], v[ROWS + 1];
    const int64_t offset = 1;
    const fia_workers workers = {n, in_turn, NULL};
    fia_problem p;
    fia_io io;
    int i;
    for (i = 0; i < ROWS; ++i) q[i] = 1.0f;
    for (i = 0; i <= ROWS; ++i) {
        k[i] = i == 0 ? 0.0f : i <= zeros ? -2.0f : -200.0f;
        v[i] = i == 0 ? 0.0f : i <= zeros ? -1.4e-45f : 1.0f;
    }
    v[nan_key] = NAN;
    fia_problem_init(&p);
    fia_io_init(&io);
    p.max_q_len = ROWS;
    p.max_kv_len = ROWS + 1;
    p.dim = p.value_dim = 1;
    p.scale = 1;
    p.causal = 1;
    p.pin_family = family;
    p.query.row_bytes = p.out.row_bytes = p.key.row_bytes = p.value.row_bytes = sizeof(float);
    io.q_offset.data = &offset;
    io.q_offset.dtype = FIA_I64;
    io.query = q;
    io.key = k;
    io.value = v;
    io.out = out;
    assert_int_equal(plan_and_run(NULL, &p, &io, &workers, NULL), FIA_OK);
}

/* Whether keys of weight 0 are added depends on a NaN that is near; how near depends on where workers cut. */
static void a_nan_of_other_rows_leaves_no_sign_behind(void **state) {
    static const struct {
        int family, zeros, nan_key;
    } at[] = {{FIA_FAMILY_TILE, 1, 200}, {FIA_FAMILY_TILE, 1, 255}, {FIA_FAMILY_STREAM, 116, 121}};
    static float one[ROWS], more[ROWS];
    size_t i;
    int n;
    (void)state;
    for (i = 0; i < sizeof at / sizeof at[0]; ++i) {
        run_on_workers(at[i].family, at[i].zeros, at[i].nan_key, 1, one);
        for (n = 2; n <= 8; ++n) {
            run_on_workers(at[i].family, at[i].zeros, at[i].nan_key, n, more);
            assert_memory_equal(one, more, sizeof one);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nan_beside_scores_of_minus_infinity_stays),
        cmocka_unit_test(large_scores_give_no_large_weights),
        cmocka_unit_test(dropped_keys_leave_no_sign_behind),
        cmocka_unit_test(a_nan_of_other_rows_leaves_no_sign_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
