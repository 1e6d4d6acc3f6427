/* SPDX-License-Identifier: MIT
 *
 * What the tests of the seams share: the int8 and int4 codecs, and scales of every kind for a random case.
 */
#ifndef FIA_TEST_EXT_COMMON_H
#define FIA_TEST_EXT_COMMON_H

#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "case.h"
#include "fia.h"
#include "plan_and_run.h"

/* ---- codecs: a row may be cut into pieces ---- */

static const char *ext_piece(const fia_rows *rows, int32_t r, int32_t i, int32_t *in_piece) {
    const int32_t piece = rows->piece_elements ? rows->piece_elements : rows->elements;
    *in_piece = i % piece;
    return rows->row[r] + i / piece * rows->piece_bytes;
}

static void ext_i8_decode(float *dst, ptrdiff_t dst_stride, const fia_rows *rows) {
    int32_t r, i, at;
    for (r = 0; r < rows->n; ++r)
        for (i = 0; i < rows->elements; ++i) {
            const signed char *piece = (const signed char *)ext_piece(rows, r, i, &at);
            dst[r * dst_stride + i] = (float)piece[at];
        }
}

static int ext_round(float x, float low, float high) {
    if (x != x) return 0;
    x = rintf(x); /* half to even */
    return (int)(x < low ? low : x > high ? high : x);
}

static float ext_store_value(const float *src, int32_t i, const float *mul, const float *add) {
    float x = src[i];
    if (mul) x *= mul[i];
    if (add) x += add[i];
    return x;
}

static void ext_i8_store(char *dst, const float *src, int32_t n, const float *mul, const float *add,
                         const void *params) {
    int32_t i;
    (void)params;
    for (i = 0; i < n; ++i) dst[i] = (char)ext_round(ext_store_value(src, i, mul, add), -128.0f, 127.0f);
}

static void ext_i4_decode(float *dst, ptrdiff_t dst_stride, const fia_rows *rows) {
    int32_t r, i, at;
    for (r = 0; r < rows->n; ++r)
        for (i = 0; i < rows->elements; ++i) {
            const unsigned char *piece = (const unsigned char *)ext_piece(rows, r, i, &at);
            const int nibble = piece[at / 2] >> (at % 2 * 4) & 15; /* low nibble first */
            dst[r * dst_stride + i] = (float)(nibble < 8 ? nibble : nibble - 16);
        }
}

static const fia_codec ext_i8 = {
    .name = "ext_i8",
    .dtype = FIA_I8,
    .granule = 1,
    .granule_bytes = 1,
    .alignment = 1,
    .exact_in_bf16 = 1,
    .decode = ext_i8_decode,
    .store = ext_i8_store,
};
static const fia_codec ext_i4 = {
    .name = "ext_i4",
    .dtype = FIA_I4,
    .granule = 2,
    .granule_bytes = 1,
    .alignment = 1,
    .exact_in_bf16 = 1,
    .decode = ext_i4_decode,
};

/* ---- scales and offsets of a random case ---- */

enum {
    EXT_PER_TENSOR,
    EXT_PER_HEAD,
    EXT_PER_CHANNEL, /* and head */
    EXT_PER_TOKEN,
    EXT_PER_TOKEN_HEAD,
    EXT_PAGED_TOKEN, /* the token is found through the block table */
    EXT_PAGED_TOKEN_HEAD,
    EXT_SCALE_KINDS
};

static inline int ext_scale_kind(test_case *c) {
    const int paged = c->draw.keys >= CASE_KEYS_BNBSH;
    return (int)case_between(&c->random, 0, paged ? EXT_SCALE_KINDS - 1 : EXT_PER_TOKEN_HEAD);
}

/* The place of a key's scale: which outer (sequence or page), which token. */
static inline void ext_scale_place(const test_case *c, const fia_scale_view *view, const oracle_sequence *s, int64_t j,
                                   int64_t *outer, int64_t *token) {
    const fia_problem *p = &c->problem;
    if (view->place == FIA_PLACE_PAGES) {
        *outer = c->io.block_table[s->index * p->table_columns + j / p->page_size];
        *token = j % p->page_size;
    } else if (view->place == FIA_PLACE_LOCAL) {
        *outer = s->index;
        *token = j;
    } else {
        *outer = p->kv_packed ? 0 : s->index;
        *token = s->kv_start + j;
    }
}

static inline double ext_scale_value(test_case *c, double size, int is_offset) {
    const double u = case_uniform(&c->random);
    if (is_offset) return size * (2 * u - 1);
    return size * (0.5 + u) * (case_chance(&c->random, 20) ? -1 : 1);
}

/* Writes the values of keys that some row may see; all others stay NaN. */
static inline void ext_fill_tokens(test_case *c, const fia_scale_view *view, char *data, double size, int is_offset) {
    oracle_call call;
    int64_t b, j;
    int32_t h;
    memset(&call, 0, sizeof(call));
    call.problem = &c->problem;
    call.io = &c->io;
    for (b = 0; b < c->draw.B; ++b) {
        oracle_sequence s;
        oracle_find_sequence(&call, b, &s);
        for (j = 0; j < s.kv_len; ++j) {
            int64_t outer, token;
            if (!oracle_any_row_in_bounds(&call, &s, j)) continue;
            ext_scale_place(c, view, &s, j, &outer, &token);
            for (h = 0; h < (view->head_bytes ? c->problem.n_kv_heads : 1); ++h)
                oracle_encode(view->dtype, ext_scale_value(c, size, is_offset),
                              data + outer * view->sequence_bytes + h * view->head_bytes + token * view->token_bytes,
                              0);
        }
    }
}

/* Makes one scale or offset tensor of a kind; channels is the row's length. */
static inline const void *ext_scale(test_case *c, fia_scale_view *view, int kind, int32_t channels, double size,
                                    int is_offset) {
    static const fia_dtype dtypes[3] = {FIA_F32, FIA_F16, FIA_BF16};
    const fia_problem *p = &c->problem;
    const int per_head =
        kind == EXT_PER_HEAD || kind == EXT_PER_CHANNEL || kind == EXT_PER_TOKEN_HEAD || kind == EXT_PAGED_TOKEN_HEAD;
    const int per_token = kind >= EXT_PER_TOKEN, paged = kind >= EXT_PAGED_TOKEN;
    const int local = per_token && !paged && case_chance(&c->random, 30), packed = p->kv_packed && !local;
    const int64_t tokens = !per_token ? 1 : paged ? p->page_size : packed ? p->total_kv : p->max_kv_len;
    const int64_t outers = !per_token ? 1 : paged ? p->n_pages : packed ? 1 : p->n_sequences;
    const int64_t width = kind == EXT_PER_CHANNEL ? channels : tokens;
    int64_t i, bytes;
    char *data;
    view->dtype = dtypes[case_between(&c->random, 0, 2)];
    view->place = paged ? FIA_PLACE_PAGES : local ? FIA_PLACE_LOCAL : FIA_PLACE_ROWS;
    bytes = (int64_t)fia_dtype_bytes(view->dtype);
    view->channel_bytes = kind == EXT_PER_CHANNEL ? bytes : 0;
    view->token_bytes = per_token ? bytes : 0;
    view->head_bytes = per_head ? bytes * width : 0;
    view->sequence_bytes = per_token ? bytes * width * (per_head ? p->n_kv_heads : 1) : 0;
    data = (char *)case_memory(c, (size_t)(bytes * width * (per_head ? p->n_kv_heads : 1) * outers));
    if (per_token) {
        ext_fill_tokens(c, view, data, size, is_offset);
    } else {
        for (i = 0; i < width * (per_head ? p->n_kv_heads : 1); ++i)
            oracle_encode(view->dtype, ext_scale_value(c, size, is_offset), data, i);
    }
    return data;
}

/* Scales and offsets of integer keys and values, a kind of -1: none. Dequantised values have a deviation near 1. */
static inline void ext_scale_keys(test_case *c, int key_kind, int value_kind, int offsets) {
    fia_problem *p = &c->problem;
    const int k4 = p->key.dtype == FIA_I4, v4 = p->value.dtype == FIA_I4;
    if (p->value_in_key) value_kind = -1; /* V has the key's */
    if (key_kind >= 0) c->io.key_scale = ext_scale(c, &p->key_scale, key_kind, p->dim, k4 ? 0.2 : 0.0125, 0);
    if (value_kind >= 0)
        c->io.value_scale = ext_scale(c, &p->value_scale, value_kind, p->value_dim, v4 ? 0.2 : 0.0125, 0);
    if (key_kind >= 0 && offsets) c->io.key_offset = ext_scale(c, &p->key_offset, key_kind, p->dim, k4 ? 2 : 20, 1);
    if (value_kind >= 0 && offsets)
        c->io.value_offset = ext_scale(c, &p->value_offset, value_kind, p->value_dim, v4 ? 2 : 20, 1);
}

/* Head sizes of integer rows: whole bytes, and whole pieces of 32 elements in NZ pages (int4 has no such pages). */
static inline void ext_limit_dims(case_draw *d) {
    const int i4 = d->k == FIA_I4 || d->v == FIA_I4, i8 = d->k == FIA_I8 || d->v == FIA_I8;
    if (i4 && (d->keys == CASE_KEYS_NZ || d->value_keys == CASE_KEYS_NZ)) d->keys = d->value_keys = CASE_KEYS_BNNBSD;
    if (i4) d->list_strides = 0; /* head strides in elements have no meaning for half bytes */
    if (i4) d->D += d->D % 2, d->Dv += d->Dv % 2;
    if (i8 && (d->keys == CASE_KEYS_NZ || d->value_keys == CASE_KEYS_NZ))
        d->D = (d->D + 31) / 32 * 32, d->Dv = (d->Dv + 31) / 32 * 32;
}

/* ---- contexts ---- */

/* The built-in context plus one table. */
static inline void ext_context(fia_context *context, fia_kernels *table, const char *name) {
    fia_context_init(context);
    *table = *context->table[0]; /* version, plan size and target of the bodies under test */
    table->name = name;
    table->codecs = NULL;
    table->keys = NULL;
    table->streams = NULL;
    table->tiles = NULL;
}

/* ---- small calls by hand: one sequence, f32 queries and output, heads before rows ---- */

/* Head-major views for all tensors of f32; the caller changes what it replaces. */
static inline void ext_small(fia_problem *p, int32_t heads, int32_t kv_heads, int64_t rows, int64_t keys, int32_t dim,
                             int32_t value_dim) {
    const ptrdiff_t f = (ptrdiff_t)sizeof(float);
    fia_problem_init(p);
    p->max_q_len = rows;
    p->max_kv_len = keys;
    p->n_q_heads = heads;
    p->n_kv_heads = kv_heads;
    p->dim = dim;
    p->value_dim = value_dim;
    p->query.dtype = p->key.dtype = p->value.dtype = p->out.dtype = FIA_F32;
    p->query.row_bytes = p->key.row_bytes = dim * f;
    p->value.row_bytes = p->out.row_bytes = value_dim * f;
    p->query.head_bytes = rows * dim * f;
    p->key.head_bytes = keys * dim * f;
    p->value.head_bytes = keys * value_dim * f;
    p->out.head_bytes = rows * value_dim * f;
    p->query.sequence_bytes = heads * p->query.head_bytes;
    p->out.sequence_bytes = heads * p->out.head_bytes;
    p->key.sequence_bytes = kv_heads * p->key.head_bytes;
    p->value.sequence_bytes = kv_heads * p->value.head_bytes;
}

static inline float *ext_normal(case_random *random, size_t n) {
    float *x = (float *)malloc(n * sizeof(float));
    size_t i;
    assert_non_null(x);
    for (i = 0; i < n; ++i) x[i] = (float)case_normal(random);
    return x;
}

/* Runs a call with f32 output and gives the largest error of a row, relative to its norm. */
static inline double ext_worst_row(const fia_context *context, const fia_problem *p, const fia_io *io,
                                   const oracle_source *source) {
    oracle_call call = {p, io, source};
    oracle_work work;
    fia_report report;
    double worst = 0, *want = (double *)malloc((size_t)p->value_dim * sizeof(double));
    int64_t b, r;
    int32_t h, i;
    assert_non_null(want);
    if (plan_and_run(context, p, io, NULL, &report) != FIA_OK) fail_msg("%s", report.text);
    oracle_work_init(&work);
    for (b = 0; b < io->n_sequences; ++b) {
        oracle_sequence s;
        oracle_find_sequence(&call, b, &s);
        for (h = 0; h < p->n_q_heads; ++h)
            for (r = 0; r < s.q_len; ++r) {
                const float *got = (const float *)(const void *)((const char *)io->out + b * p->out.sequence_bytes +
                                                                 h * p->out.head_bytes + r * p->out.row_bytes);
                oracle_row_info info;
                double square = 0, error = 0;
                oracle_row(&call, &s, h, r, &work, want, &info);
                for (i = 0; i < p->value_dim; ++i) {
                    square += want[i] * want[i];
                    error += (got[i] - want[i]) * (got[i] - want[i]);
                }
                error = sqrt(error) / (sqrt(square) + 1e-300);
                if (square == 0) error = error == 0 ? 0 : INFINITY;
                if (!(error <= worst)) worst = error;
            }
    }
    oracle_work_free(&work);
    free(want);
    return worst;
}

#endif /* FIA_TEST_EXT_COMMON_H */
