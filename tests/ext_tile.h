/* SPDX-License-Identifier: MIT
 *
 * Two tile kernels added from outside the library: the recipe of a matrix unit with 16 x 64-byte tiles (AMX), in small.
 *
 *   tile_pieces   f32, f16 and bf16 split into 3, 2 and 1 bf16 pieces; anything else through its codec in 2 pieces
 *   tile_int8     int8 keys and values with scales and offsets per token, which step applies itself
 *
 * Both: S^T = K Q^T and O^T = V^T P^T, lanes are queries; blocks of 32 x 32; K tiles are read where they lie if they
 * can be; V^T tiles are packed once per super block. The seven tile instructions are plain C here.
 */
#ifndef FIA_TESTS_EXT_TILE_H
#define FIA_TESTS_EXT_TILE_H

#include "fia.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- the seven instructions: 8 registers of 16 rows of 64 bytes, one set per thread ---- */

enum { TILE_ROWS = 16, TILE_BYTES = 64, TILE_SIZE = TILE_ROWS * TILE_BYTES };

typedef struct tile_register {
    char row[TILE_ROWS][TILE_BYTES];
} tile_register;

static __thread tile_register tile_file[8];
static __thread int tile_configured;
static long tile_enters, tile_leaves, tile_faults, tile_in_place, tile_packed; /* counted over all threads */

static void tile_count(long *counter) { __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED); }

static void tile_config(void) { tile_configured = 1; }

static void tile_release(void) { tile_configured = 0; }

/* Every instruction needs a configuration, as on the real unit; a test reads the count of those that had none. */
static void tile_need(void) {
    if (!tile_configured) tile_count(&tile_faults);
}

static void tile_zero(int t) {
    tile_need();
    memset(&tile_file[t], 0, TILE_SIZE);
}

static void tile_load(int t, const void *base, ptrdiff_t stride) {
    int r;
    tile_need();
    for (r = 0; r < TILE_ROWS; ++r) memcpy(tile_file[t].row[r], (const char *)base + r * stride, TILE_BYTES);
}

static void tile_store(int t, void *base, ptrdiff_t stride) {
    int r;
    tile_need();
    for (r = 0; r < TILE_ROWS; ++r) memcpy((char *)base + r * stride, tile_file[t].row[r], TILE_BYTES);
}

static float bf16_widen(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* c[m][n] += a[m][2k] * b[k][2n] + a[m][2k + 1] * b[k][2n + 1]: even and odd products are summed apart, then joined. */
static void tile_dot_bf16(int c, int a, int b) {
    int m, k, n;
    tile_need();
    for (m = 0; m < TILE_ROWS; ++m) {
        float acc[16], even[16] = {0}, odd[16] = {0};
        uint16_t left[32], right[32];
        memcpy(left, tile_file[a].row[m], TILE_BYTES);
        for (k = 0; k < 16; ++k) {
            const float a0 = bf16_widen(left[2 * k]), a1 = bf16_widen(left[2 * k + 1]);
            memcpy(right, tile_file[b].row[k], TILE_BYTES);
            for (n = 0; n < 16; ++n) {
                even[n] += a0 * bf16_widen(right[2 * n]);
                odd[n] += a1 * bf16_widen(right[2 * n + 1]);
            }
        }
        memcpy(acc, tile_file[c].row[m], TILE_BYTES);
        for (n = 0; n < 16; ++n) acc[n] += even[n] + odd[n];
        memcpy(tile_file[c].row[m], acc, TILE_BYTES);
    }
}

/* c[m][n] += sum over j < 4 of a[m][4k + j] * b[k][4n + j], signed bytes into int32. */
static void tile_dot_int8(int c, int a, int b) {
    int m, k, n, j;
    tile_need();
    for (m = 0; m < TILE_ROWS; ++m) {
        int32_t acc[16];
        int8_t left[64], right[64];
        memcpy(left, tile_file[a].row[m], TILE_BYTES);
        memcpy(acc, tile_file[c].row[m], TILE_BYTES);
        for (k = 0; k < 16; ++k) {
            memcpy(right, tile_file[b].row[k], TILE_BYTES);
            for (n = 0; n < 16; ++n)
                for (j = 0; j < 4; ++j) acc[n] += left[4 * k + j] * right[4 * n + j];
        }
        memcpy(tile_file[c].row[m], acc, TILE_BYTES);
    }
}

/* ---- pieces: x = hi + mid + lo, each a bf16 ---- */

static uint16_t bf16_round(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    if (x != x) return (uint16_t)((bits >> 16) | 0x40);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* What is not finite is one piece: inf - inf must not make a NaN of the next. What would round to infinity is cut. */
static void bf16_split(float x, int32_t n, uint16_t *piece) {
    int32_t i;
    for (i = 0; i < n; ++i) {
        piece[i] = bf16_round(x);
        if (fabsf(x) <= FLT_MAX && (piece[i] & 0x7fff) == 0x7f80) --piece[i];
        x = fabsf(x) <= FLT_MAX ? x - bf16_widen(piece[i]) : 0.0f;
    }
}

static int32_t pieces_of(fia_dtype dtype) { return dtype == FIA_BF16 ? 1 : dtype == FIA_F32 ? 3 : 2; }

static int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }

/* ---- shape of a call ---- */

enum { EXT_ROWS = 32, EXT_KEYS = 32, EXT_SUPER = 64, EXT_GROUPS = EXT_SUPER / TILE_ROWS, EXT_SHARED = 3 };

typedef struct tile_shape {
    int32_t dim[2];   /* of key and rope rows */
    int32_t steps[2]; /* tiles along a row: 64 bytes of bf16, or of int8 */
    int32_t k_pieces[2];
    int32_t q_pieces[2]; /* int8: high and low byte of a 16-bit q */
    int32_t int8;        /* segment 0 goes through tile_dot_int8 */
    int32_t value_dim, value_tiles, v_pieces, p_pieces;
    size_t q_bytes[2]; /* packed query tiles of a segment */
    size_t k_bytes[2]; /* packed key tiles of a segment and 16 keys */
    size_t v_bytes;    /* packed value tiles of 32 keys */
    size_t temp;       /* floats that hold 32 rows of any kind */
} tile_shape;

static tile_shape tile_shape_of(const fia_problem *p, int32_t int8) {
    tile_shape s;
    int32_t i;
    const fia_scale_view *vs = p->value_in_key ? &p->key_scale : &p->value_scale;
    const fia_scale_view *vo = p->value_in_key ? &p->key_offset : &p->value_offset;
    const int scaled = p->key_scale.dtype != FIA_NONE || p->key_offset.dtype != FIA_NONE;
    const int v_scaled = vs->dtype != FIA_NONE || vo->dtype != FIA_NONE;
    const fia_dtype value = p->value_in_key ? p->key.dtype : p->value.dtype;
    memset(&s, 0, sizeof(s));
    s.int8 = int8;
    s.dim[0] = p->dim;
    s.dim[1] = p->rope_dim;
    s.value_dim = p->value_dim;
    s.value_tiles = (p->value_dim + 15) / 16;
    s.k_pieces[0] = int8 ? 1 : most(pieces_of(p->key.dtype), scaled ? 2 : 1);
    s.k_pieces[1] = p->rope_dim ? pieces_of(p->key_rope.dtype) : 0;
    s.q_pieces[0] = int8 ? 2 : p->query_scale.dtype != FIA_NONE ? 3 : pieces_of(p->query.dtype);
    s.q_pieces[1] = p->rope_dim ? pieces_of(p->query_rope.dtype) : 0;
    s.v_pieces = int8 ? 1 : most(pieces_of(value), v_scaled ? 2 : 1);
    s.p_pieces = int8 ? 2 : most(pieces_of(p->query.dtype), most(s.k_pieces[0], s.v_pieces));
    for (i = 0; i < 2; ++i) {
        const int32_t per_step = int8 && i == 0 ? 64 : 32;
        s.steps[i] = (s.dim[i] + per_step - 1) / per_step;
        s.q_bytes[i] = (size_t)s.steps[i] * 2 * (size_t)s.q_pieces[i] * TILE_SIZE;
        s.k_bytes[i] = (size_t)s.steps[i] * (size_t)s.k_pieces[i] * TILE_SIZE;
    }
    s.v_bytes = (size_t)s.value_tiles * (size_t)s.v_pieces * TILE_SIZE;
    s.temp = 32 * (size_t)most(most(s.dim[0], s.dim[1]), s.value_dim);
    return s;
}

/* ---- layouts: tile areas first, so that each lies on a tile boundary of its buffer ---- */

/* Packed queries: tiles [segment][step][half of the rows][piece], then what the plain paths need. */
typedef struct tile_query {
    char *tiles[2];
    float *rows;  /* 32 rows of dim + rope_dim floats */
    float *scale; /* int8: q = scale * (256 * high + low) */
    float *sum;   /* sum of the quantised q of segment 0 */
} tile_query;

static size_t tile_query_at(tile_query *q, const tile_shape *s, char *base) {
    const size_t rows = (size_t)(s->dim[0] + s->dim[1]) * EXT_ROWS, tiles = s->q_bytes[0] + s->q_bytes[1];
    if (q) {
        q->tiles[0] = base;
        q->tiles[1] = base + s->q_bytes[0];
        q->rows = (float *)(void *)(base + tiles);
        q->scale = q->rows + rows;
        q->sum = q->scale + EXT_ROWS;
    }
    return tiles + (rows + 2 * EXT_ROWS) * sizeof(float);
}

/* Where the K tiles of 16 keys lie: in the cache itself, or packed. */
typedef struct tile_place {
    const char *base;
    ptrdiff_t row_bytes, step_bytes, piece_bytes;
} tile_place;

/* A prepared super block: packed K [group][segment], V^T tiles [32 keys][16 channels][piece], places, scratch rows. */
typedef struct tile_prepared {
    char *keys, *values;
    tile_place *place; /* [group][segment] */
    int32_t *first;    /* grid slot of the first live key */
    int32_t *wild;     /* per 32 keys: V holds NaN or infinity (packed as 0) */
    float *temp;
} tile_prepared;

static size_t tile_prepared_at(tile_prepared *p, const tile_shape *s, char *base) {
    const size_t keys = EXT_GROUPS * (s->k_bytes[0] + s->k_bytes[1]), values = EXT_SUPER / EXT_KEYS * s->v_bytes;
    const size_t places = 2 * EXT_GROUPS * sizeof(tile_place), wild = (1 + EXT_SUPER / EXT_KEYS) * sizeof(int32_t);
    if (p) {
        p->keys = base;
        p->values = base + keys;
        p->place = (tile_place *)(void *)(base + keys + values);
        p->first = (int32_t *)(void *)(base + keys + values + places);
        p->wild = p->first + 1;
        p->temp = (float *)(void *)(base + keys + values + places + wild);
    }
    return keys + values + places + wild + s->temp * sizeof(float);
}

/* The state of a row block: O^T as tiles [16 channels][half of the rows], and what each row has seen. */
typedef struct tile_state {
    float *o;
    float *m, *l; /* base-2 maximum, sum of weights */
    float *shift; /* sum of weight * value scale * value offset: the same for every channel */
} tile_state;

static size_t tile_state_at(tile_state *t, const tile_shape *s, char *base) {
    const size_t o = (size_t)s->value_tiles * 2 * TILE_SIZE;
    if (t) {
        t->o = (float *)(void *)base;
        t->m = (float *)(void *)(base + o);
        t->l = t->m + EXT_ROWS;
        t->shift = t->l + EXT_ROWS;
    }
    return o + 3 * EXT_ROWS * sizeof(float);
}

/* Scratch of a step. */
typedef struct tile_scratch {
    char *weights; /* P^T tiles [half][piece] */
    float *s;      /* scores, then weights: [32 keys][32 rows] */
    float *keep;   /* [32 keys][32 rows]: 1 where the key is kept */
    float *temp;
} tile_scratch;

static size_t tile_scratch_at(tile_scratch *t, const tile_shape *s, char *base) {
    const size_t weights = 2 * (size_t)s->p_pieces * TILE_SIZE, block = EXT_KEYS * EXT_ROWS;
    if (t) {
        t->weights = base;
        t->s = (float *)(void *)(base + weights);
        t->keep = t->s + block;
        t->temp = t->keep + block;
    }
    return weights + (2 * block + s->temp) * sizeof(float);
}

static void tile_sizes(const fia_problem *p, int32_t int8, size_t bytes[4]) {
    const tile_shape s = tile_shape_of(p, int8);
    bytes[0] = tile_query_at(NULL, &s, NULL);
    bytes[1] = tile_prepared_at(NULL, &s, NULL);
    bytes[2] = tile_state_at(NULL, &s, NULL);
    bytes[3] = tile_scratch_at(NULL, &s, NULL);
}

/* ---- queries ---- */

/* Pairs of elements of 16 rows side by side: tile row k holds elements 2k, 2k + 1 of each row. */
static void pack_query_bf16(const tile_shape *s, int32_t segment, char *tiles, const float *q, ptrdiff_t stride,
                            int32_t rows) {
    const int32_t n = s->q_pieces[segment];
    int32_t r, i, j;
    for (r = 0; r < rows; ++r)
        for (i = 0; i < s->dim[segment]; ++i) {
            uint16_t piece[3];
            bf16_split(q[r * stride + i], n, piece);
            for (j = 0; j < n; ++j) {
                char *tile = tiles + ((i / 32 * 2 + r / 16) * n + j) * TILE_SIZE;
                memcpy(tile + i % 32 / 2 * TILE_BYTES + r % 16 * 4 + i % 2 * 2, &piece[j], 2);
            }
        }
}

/* 16 bits of q as two signed bytes. A row that is not finite gets scale NaN: its scores are then computed plainly. */
static void pack_query_int8(const tile_shape *s, const tile_query *to, const float *q, ptrdiff_t stride, int32_t rows) {
    int32_t r, i;
    for (r = 0; r < rows; ++r) {
        float top = 0.0f, sum = 0.0f;
        for (i = 0; i < s->dim[0]; ++i) {
            const float x = fabsf(q[r * stride + i]);
            if (!(x <= FLT_MAX)) top = NAN;
            else if (x > top) top = x;
        }
        to->scale[r] = top / 32512.0f; /* 256 * 127: the high byte never rounds up to 128 */
        for (i = 0; i < s->dim[0]; ++i) {
            const int32_t x = to->scale[r] > 0.0f ? (int32_t)lrintf(q[r * stride + i] / to->scale[r]) : 0;
            const int32_t high = (x + 128) >> 8;
            char *tile =
                to->tiles[0] + (i / 64 * 2 + r / 16) * 2 * TILE_SIZE + i % 64 / 4 * TILE_BYTES + r % 16 * 4 + i % 4;
            tile[0] = (char)high;
            tile[TILE_SIZE] = (char)(x - 256 * high);
            sum += (float)x;
        }
        to->sum[r] = sum * to->scale[r];
    }
}

static void tile_pack_q(const fia_problem *p, int32_t int8, void *packed, const float *q, ptrdiff_t q_stride,
                        int32_t rows) {
    const tile_shape s = tile_shape_of(p, int8);
    const int32_t width = s.dim[0] + s.dim[1];
    tile_query to;
    int32_t r;
    memset(packed, 0, tile_query_at(&to, &s, (char *)packed));
    for (r = 0; r < rows; ++r) memcpy(to.rows + r * width, q + r * q_stride, (size_t)width * sizeof(float));
    if (int8) pack_query_int8(&s, &to, q, q_stride, rows);
    else pack_query_bf16(&s, 0, to.tiles[0], q, q_stride, rows);
    if (s.dim[1]) pack_query_bf16(&s, 1, to.tiles[1], q + s.dim[0], q_stride, rows);
}

/* ---- keys and values ---- */

/* 16 keys can be read as tiles where they lie: all live, whole tiles, one piece, equally far apart. */
static int keys_in_place(const fia_tile_block *b, const tile_shape *s, int32_t segment, int32_t key, int32_t slot,
                         int32_t n) {
    const fia_rows *rows = &b->stored[segment];
    const fia_dtype dtype = segment == FIA_OF_KEY ? b->problem->key.dtype : b->problem->key_rope.dtype;
    const int int8 = s->int8 && segment == FIA_OF_KEY;
    int32_t j;
    if (n != 16 || slot != 0 || rows->piece_elements || s->dim[segment] % (int8 ? 64 : 32) || s->k_pieces[segment] != 1)
        return 0;
    if (dtype != (int8 ? FIA_I8 : FIA_BF16)) return 0;
    for (j = 1; j < 16; ++j)
        if (rows->row[key + j] - rows->row[key + j - 1] != rows->row[key + 1] - rows->row[key]) return 0;
    return 1;
}

/* Packs f32 rows into K tiles [step][piece], one row of a tile per key. */
static void pack_keys(const tile_shape *s, int32_t segment, char *tiles, const float *rows, int32_t slot, int32_t n) {
    const int32_t pieces = s->k_pieces[segment], dim = s->dim[segment];
    int32_t j, i, k;
    memset(tiles, 0, s->k_bytes[segment]);
    for (j = 0; j < n; ++j)
        for (i = 0; i < dim; ++i) {
            const float x = rows[j * dim + i];
            uint16_t piece[3];
            if (s->int8 && segment == FIA_OF_KEY) {
                tiles[i / 64 * TILE_SIZE + (slot + j) * TILE_BYTES + i % 64] = (char)(int32_t)x;
                continue;
            }
            bf16_split(x, pieces, piece);
            for (k = 0; k < pieces; ++k)
                memcpy(tiles + (i / 32 * pieces + k) * TILE_SIZE + (slot + j) * TILE_BYTES + i % 32 * 2, &piece[k], 2);
        }
}

/* Packs the 16 keys from slot `slot` of the super block; live ones are [from, to). */
static void prepare_keys(const fia_tile_block *super, const tile_shape *s, const tile_prepared *p, int32_t segment,
                         int32_t group) {
    const int32_t first = super->stored[FIA_OF_KEY].first, begin = most(first, group * 16);
    const int32_t end = first + super->n < group * 16 + 16 ? first + super->n : group * 16 + 16;
    tile_place *place = &p->place[group * 2 + segment];
    char *tiles = p->keys + (size_t)group * (s->k_bytes[0] + s->k_bytes[1]) + (segment ? s->k_bytes[0] : 0);
    if (end <= begin) return;
    if (keys_in_place(super, s, segment, begin - first, begin - group * 16, end - begin)) {
        const fia_rows *rows = &super->stored[segment];
        place->base = rows->row[begin - first];
        place->row_bytes = rows->row[begin - first + 1] - place->base;
        place->step_bytes = TILE_BYTES;
        place->piece_bytes = 0;
        tile_count(&tile_in_place);
        return;
    }
    super->decode(super, segment, begin - first, end - begin, p->temp, s->dim[segment]);
    pack_keys(s, segment, tiles, p->temp, begin - group * 16, end - begin);
    place->base = tiles;
    place->row_bytes = TILE_BYTES;
    place->step_bytes = s->k_pieces[segment] * TILE_SIZE;
    place->piece_bytes = TILE_SIZE;
    tile_count(&tile_packed);
}

/* V^T tiles: row = channel, 32 keys in a row. What is not finite becomes 0 here and is added by hand in step. */
static void prepare_values(const fia_tile_block *super, const tile_shape *s, const tile_prepared *p, int32_t part) {
    const int32_t first = super->stored[FIA_OF_VALUE].first, begin = most(first, part * EXT_KEYS);
    const int32_t end = first + super->n < (part + 1) * EXT_KEYS ? first + super->n : (part + 1) * EXT_KEYS;
    char *tiles = p->values + (size_t)part * s->v_bytes;
    int32_t j, i, k;
    p->wild[part] = 0;
    if (end <= begin) return;
    memset(tiles, 0, s->v_bytes);
    super->decode(super, FIA_OF_VALUE, begin - first, end - begin, p->temp, s->value_dim);
    for (j = begin; j < end; ++j)
        for (i = 0; i < s->value_dim; ++i) {
            float x = p->temp[(j - begin) * s->value_dim + i];
            uint16_t piece[3];
            if (!(fabsf(x) <= FLT_MAX)) {
                p->wild[part] = 1;
                x = 0.0f;
            }
            bf16_split(x, s->v_pieces, piece);
            for (k = 0; k < s->v_pieces; ++k)
                memcpy(tiles + (i / 16 * s->v_pieces + k) * TILE_SIZE + i % 16 * TILE_BYTES + j % EXT_KEYS * 2,
                       &piece[k], 2);
        }
}

static void tile_prepare(const fia_tile_block *super, int32_t int8, void *prepared) {
    const tile_shape s = tile_shape_of(super->problem, int8);
    tile_prepared p;
    int32_t g;
    tile_prepared_at(&p, &s, (char *)prepared);
    *p.first = super->stored[FIA_OF_KEY].first;
    for (g = 0; g < EXT_GROUPS; ++g) {
        prepare_keys(super, &s, &p, FIA_OF_KEY, g);
        if (s.dim[1]) prepare_keys(super, &s, &p, FIA_OF_ROPE, g);
    }
    for (g = 0; g < EXT_SUPER / EXT_KEYS; ++g) prepare_values(super, &s, &p, g);
}

/* ---- one step: 32 rows x 32 keys ---- */

/* Registers 0..3 (two groups of A rows x two halves of queries) += A x B, the smallest products of pieces first.
 * Low x low of f16 is taken, too: without it a score of 100 is off by 4e-4, far more than a naive program's. */
static void tile_products(const tile_place a[2], int32_t a_pieces, const char *b, int32_t b_pieces) {
    const int32_t last = a_pieces == 2 && b_pieces == 2 ? 2 : most(a_pieces, b_pieces) - 1;
    int32_t sum, i, g;
    for (sum = last; sum >= 0; --sum)
        for (i = 0; i <= sum && i < a_pieces; ++i) {
            const int32_t j = sum - i;
            if (j >= b_pieces) continue;
            tile_load(6, b + j * TILE_SIZE, TILE_BYTES);
            tile_load(7, b + (b_pieces + j) * TILE_SIZE, TILE_BYTES);
            for (g = 0; g < 2; ++g) {
                if (!a[g].base) continue;
                tile_load(4 + g, a[g].base + i * a[g].piece_bytes, a[g].row_bytes);
                tile_dot_bf16(2 * g, 4 + g, 6);
                tile_dot_bf16(2 * g + 1, 4 + g, 7);
            }
        }
}

/* The four result registers to or from a 32 x 32 area. */
static void tile_block_store(float *area) {
    int t;
    for (t = 0; t < 4; ++t)
        tile_store(t, area + t / 2 * 16 * EXT_ROWS + t % 2 * 16, EXT_ROWS * (ptrdiff_t)sizeof(float));
}

/* s += K Q^T of one segment in bf16 pieces. */
static void scores_bf16(const tile_shape *s, const tile_query *q, const tile_place *place, int32_t segment,
                        float *scores) {
    int32_t step, t, i;
    float area[EXT_KEYS * EXT_ROWS];
    for (t = 0; t < 4; ++t) tile_zero(t);
    for (step = 0; step < s->steps[segment]; ++step) {
        tile_place a[2];
        for (t = 0; t < 2; ++t) {
            a[t] = place[2 * t + segment];
            if (a[t].base) a[t].base += step * a[t].step_bytes;
        }
        tile_products(a, s->k_pieces[segment], q->tiles[segment] + step * 2 * s->q_pieces[segment] * TILE_SIZE,
                      s->q_pieces[segment]);
    }
    tile_block_store(area);
    for (i = 0; i < EXT_KEYS * EXT_ROWS; ++i) scores[i] += area[i];
}

/* s += K Q^T of int8 keys and 16-bit queries: the high and the low byte in 32 bits each, joined in float. */
static void scores_int8(const tile_shape *s, const tile_query *q, const tile_place *place, float *scores) {
    int32_t byte, step, t, g, i;
    for (byte = 0; byte < 2; ++byte) {
        float area[EXT_KEYS * EXT_ROWS];
        for (t = 0; t < 4; ++t) tile_zero(t);
        for (step = 0; step < s->steps[0]; ++step) {
            const char *b = q->tiles[0] + (step * 2 * 2 + byte) * TILE_SIZE;
            tile_load(6, b, TILE_BYTES);
            tile_load(7, b + 2 * TILE_SIZE, TILE_BYTES);
            for (g = 0; g < 2; ++g) {
                if (!place[2 * g].base) continue;
                tile_load(4 + g, place[2 * g].base + step * place[2 * g].step_bytes, place[2 * g].row_bytes);
                tile_dot_int8(2 * g, 4 + g, 6);
                tile_dot_int8(2 * g + 1, 4 + g, 7);
            }
        }
        tile_block_store(area);
        for (i = 0; i < EXT_KEYS * EXT_ROWS; ++i) {
            int32_t dot;
            memcpy(&dot, &area[i], sizeof(dot));
            scores[i] += (byte ? 1.0f : 256.0f) * (float)dot * q->scale[i % EXT_ROWS];
        }
    }
}

/* A pair of pieces may make NaN where the product is infinite: what came out NaN is computed plainly. */
static void scores_again(const fia_tile_block *b, const tile_shape *s, const tile_query *q, int32_t key, float *scores,
                         float *temp) {
    const int32_t width = s->dim[0] + s->dim[1];
    int32_t r, i, decoded = 0;
    for (r = 0; r < b->rows; ++r) {
        float sum = 0.0f;
        if (scores[r] == scores[r]) continue;
        if (!decoded++) {
            b->decode(b, FIA_OF_KEY, key, 1, temp, s->dim[0]);
            if (s->dim[1]) b->decode(b, FIA_OF_ROPE, key, 1, temp + s->dim[0], s->dim[1]);
        }
        for (i = 0; i < s->dim[0]; ++i)
            sum += q->rows[r * width + i] * (temp[i] + (s->int8 && b->key_offset ? b->key_offset[key] : 0.0f));
        if (s->int8 && b->key_scale) sum *= b->key_scale[key];
        for (; i < width; ++i) sum += q->rows[r * width + i] * temp[i];
        scores[r] = sum;
    }
}

/* Base-2 logits of the block's keys: [32 keys][32 rows], slot by slot; keep tells a dropped key from a hopeless one. */
static void tile_scores(const fia_tile_block *b, const tile_shape *s, const tile_query *q, const tile_place *place,
                        const tile_scratch *t, int32_t slot) {
    int32_t j, r;
    memset(t->s, 0, EXT_KEYS * EXT_ROWS * sizeof(float));
    if (s->int8) scores_int8(s, q, place, t->s);
    else scores_bf16(s, q, place, 0, t->s);
    for (j = 0; s->int8 && j < b->n; ++j)
        for (r = 0; r < EXT_ROWS; ++r) {
            float *x = &t->s[(slot + j) * EXT_ROWS + r];
            if (b->key_offset) *x += b->key_offset[j] * q->sum[r];
            if (b->key_scale) *x *= b->key_scale[j];
        }
    if (s->dim[1]) scores_bf16(s, q, place, 1, t->s);
    for (j = 0; j < b->n; ++j) scores_again(b, s, q, j, t->s + (slot + j) * EXT_ROWS, t->temp);
    for (j = b->plain_begin; j < b->plain_end; ++j)
        for (r = 0; r < EXT_ROWS; ++r) {
            float *x = &t->s[(slot + j) * EXT_ROWS + r];
            *x *= b->scale_log2;
            if (*x < -FLT_MAX) *x = -FLT_MAX;
        }
    if (b->plain_begin >= b->plain_end) {
        b->modify(b, 0, b->n, t->s + slot * EXT_ROWS, EXT_ROWS);
    } else {
        if (b->plain_begin > 0) b->modify(b, 0, b->plain_begin, t->s + slot * EXT_ROWS, EXT_ROWS);
        if (b->plain_end < b->n)
            b->modify(b, b->plain_end, b->n - b->plain_end, t->s + (slot + b->plain_end) * EXT_ROWS, EXT_ROWS);
    }
    for (j = 0; j < EXT_KEYS * EXT_ROWS; ++j) {
        if (j / EXT_ROWS < slot || j / EXT_ROWS >= slot + b->n || j % EXT_ROWS >= b->rows) t->s[j] = -INFINITY;
        t->keep[j] = t->s[j] == -INFINITY ? 0.0f : 1.0f;
    }
}

/* exp2 without denormals. */
static float tile_exp2(float x) { return x < -126.0f ? 0.0f : exp2f(x); }

/* Raises the maxima, turns logits into weights, and scales what was there before. */
static void tile_softmax(const fia_tile_block *b, const tile_shape *s, const tile_state *state, const tile_scratch *t,
                         int32_t slot) {
    int32_t r, j, i;
    for (r = 0; r < b->rows; ++r) {
        float top = state->m[r], sum = 0.0f, shift = 0.0f, alpha;
        for (j = 0; j < EXT_KEYS; ++j)
            if (t->s[j * EXT_ROWS + r] > top) top = t->s[j * EXT_ROWS + r];
        for (j = 0; j < EXT_KEYS && top == -INFINITY; ++j)
            if (t->keep[j * EXT_ROWS + r] != 0.0f) top = 0.0f; /* nothing but NaN: not an empty row */
        alpha = state->m[r] == top ? 1.0f : tile_exp2(state->m[r] - top);
        state->m[r] = top;
        for (j = 0; j < EXT_KEYS; ++j) {
            float *x = &t->s[j * EXT_ROWS + r];
            *x = t->keep[j * EXT_ROWS + r] != 0.0f ? tile_exp2(*x - top) : 0.0f;
            if (s->p_pieces == 1) *x = bf16_widen(bf16_round(*x)); /* the sum has the weights that are used */
            sum += *x;
            if (t->keep[j * EXT_ROWS + r] == 0.0f) continue;
            if (s->int8 && b->value_scale) *x *= b->value_scale[j - slot];
            if (s->int8 && b->value_offset) shift += *x * b->value_offset[j - slot];
        }
        state->l[r] = state->l[r] * alpha + sum;
        state->shift[r] = state->shift[r] * alpha + shift;
        if (alpha != 1.0f)
            for (i = 0; i < s->value_tiles * 16; ++i)
                state->o[(i / 16 * 2 + r / 16) * 256 + i % 16 * 16 + r % 16] *= alpha;
    }
}

/* O^T += V^T P^T. */
static void tile_values(const tile_shape *s, const tile_state *state, const char *values, const tile_scratch *t) {
    const int32_t n = s->p_pieces, most_pieces = most(n, s->v_pieces);
    int32_t half, i, j, r, sum, tile;
    memset(t->weights, 0, 2 * (size_t)n * TILE_SIZE);
    for (j = 0; j < EXT_KEYS; ++j)
        for (r = 0; r < EXT_ROWS; ++r) {
            uint16_t piece[3];
            bf16_split(t->s[j * EXT_ROWS + r], n, piece);
            for (i = 0; i < n; ++i)
                memcpy(t->weights + (r / 16 * n + i) * TILE_SIZE + j / 2 * TILE_BYTES + r % 16 * 4 + j % 2 * 2,
                       &piece[i], 2);
        }
    for (tile = 0; tile < s->value_tiles; ++tile)
        for (half = 0; half < 2; ++half) {
            float *o = state->o + (tile * 2 + half) * 256;
            tile_load(0, o, TILE_BYTES);
            for (sum = most_pieces - 1; sum >= 0; --sum)
                for (i = 0; i <= sum && i < s->v_pieces; ++i) {
                    if (sum - i >= n) continue;
                    tile_load(4, values + (tile * s->v_pieces + i) * TILE_SIZE, TILE_BYTES);
                    tile_load(6, t->weights + (half * n + sum - i) * TILE_SIZE, TILE_BYTES);
                    tile_dot_bf16(0, 4, 6);
                }
            tile_store(0, o, TILE_BYTES);
        }
}

/* Adds the values that are not finite to the rows that keep them, and to no other: 0 * NaN would reach them all. */
static void tile_wild_values(const fia_tile_block *b, const tile_shape *s, const tile_state *state,
                             const tile_scratch *t, int32_t slot) {
    int32_t j, i, r;
    for (j = 0; j < b->n; ++j) {
        b->decode(b, FIA_OF_VALUE, j, 1, t->temp, s->value_dim);
        for (i = 0; i < s->value_dim; ++i) {
            if (fabsf(t->temp[i]) <= FLT_MAX) continue;
            for (r = 0; r < b->rows; ++r)
                if (t->keep[(slot + j) * EXT_ROWS + r] != 0.0f)
                    state->o[(i / 16 * 2 + r / 16) * 256 + i % 16 * 16 + r % 16] +=
                        t->s[(slot + j) * EXT_ROWS + r] * t->temp[i];
        }
    }
}

static void tile_step(const fia_tile_block *b, int32_t int8, const void *packed, void *state, void *scratch) {
    const tile_shape s = tile_shape_of(b->problem, int8);
    int32_t part, slot;
    tile_query q;
    tile_prepared p;
    tile_state st;
    tile_scratch t;
    tile_place place[4];
    int32_t g, i;
    tile_query_at(&q, &s, (char *)(uintptr_t)packed);
    tile_prepared_at(&p, &s, (char *)(uintptr_t)b->prepared);
    tile_state_at(&st, &s, (char *)state);
    tile_scratch_at(&t, &s, (char *)scratch);
    part = (*p.first + b->offset) / EXT_KEYS;
    slot = (*p.first + b->offset) % EXT_KEYS;
    if (slot != b->stored[FIA_OF_KEY].first) tile_count(&tile_faults);
    for (g = 0; g < 2; ++g) {
        const int live = slot < (g + 1) * 16 && slot + b->n > g * 16;
        for (i = 0; i < 2; ++i) {
            place[2 * g + i] = p.place[(part * 2 + g) * 2 + i];
            if (!live) place[2 * g + i].base = NULL;
        }
    }
    for (i = 0; b->next && i < b->next->n; ++i) __builtin_prefetch(b->next->row[i]);
    tile_scores(b, &s, &q, place, &t, slot);
    tile_softmax(b, &s, &st, &t, slot);
    tile_values(&s, &st, p.values + (size_t)part * s.v_bytes, &t);
    if (p.wild[part]) tile_wild_values(b, &s, &st, &t, slot);
}

/* ---- the records ---- */

static void tile_enter(const fia_problem *problem) {
    (void)problem;
    tile_count(&tile_enters);
    if (tile_configured) tile_count(&tile_faults);
    tile_config();
}

static void tile_leave(void) {
    tile_count(&tile_leaves);
    if (!tile_configured) tile_count(&tile_faults);
    tile_release();
}

static void tile_begin(const fia_problem *p, int32_t int8, void *state) {
    const tile_shape s = tile_shape_of(p, int8);
    tile_state st;
    int32_t r;
    memset(state, 0, tile_state_at(&st, &s, (char *)state));
    for (r = 0; r < EXT_ROWS; ++r) st.m[r] = -INFINITY;
}

static void tile_export(const fia_problem *p, int32_t int8, const void *state, int32_t rows, float *m, float *l,
                        float *o) {
    const tile_shape s = tile_shape_of(p, int8);
    tile_state st;
    int32_t r, i;
    tile_state_at(&st, &s, (char *)(uintptr_t)state);
    for (r = 0; r < rows; ++r) {
        m[r] = st.m[r];
        l[r] = st.l[r];
        for (i = 0; i < s.value_dim; ++i)
            o[r * s.value_dim + i] = st.o[(i / 16 * 2 + r / 16) * 256 + i % 16 * 16 + r % 16] + st.shift[r];
    }
}

static int pieces_serve(const fia_problem *p) { return p->exact ? 0 : 1000; }
static void pieces_sizes(const fia_problem *p, size_t bytes[4]) { tile_sizes(p, 0, bytes); }
static void pieces_begin(const fia_problem *p, void *state) { tile_begin(p, 0, state); }
static void pieces_prepare(const fia_tile_block *super, void *prepared, void *scratch) {
    (void)scratch;
    tile_prepare(super, 0, prepared);
}
static void pieces_pack_q(const fia_problem *p, void *packed, const float *q, ptrdiff_t q_stride, int32_t rows) {
    tile_pack_q(p, 0, packed, q, q_stride, rows);
}
static void pieces_step(const fia_tile_block *b, const void *packed, void *state, void *scratch) {
    tile_step(b, 0, packed, state, scratch);
}
static void pieces_export(const fia_problem *p, const void *state, int32_t rows, float *m, float *l, float *o) {
    tile_export(p, 0, state, rows, m, l, o);
}

static int int8_serve(const fia_problem *p) {
    return !p->exact && p->key.dtype == FIA_I8 && (p->value_in_key || p->value.dtype == FIA_I8) ? 2000 : 0;
}
static void int8_sizes(const fia_problem *p, size_t bytes[4]) { tile_sizes(p, 1, bytes); }
static void int8_begin(const fia_problem *p, void *state) { tile_begin(p, 1, state); }
static void int8_prepare(const fia_tile_block *super, void *prepared, void *scratch) {
    (void)scratch;
    tile_prepare(super, 1, prepared);
}
static void int8_pack_q(const fia_problem *p, void *packed, const float *q, ptrdiff_t q_stride, int32_t rows) {
    tile_pack_q(p, 1, packed, q, q_stride, rows);
}
static void int8_step(const fia_tile_block *b, const void *packed, void *state, void *scratch) {
    tile_step(b, 1, packed, state, scratch);
}
static void int8_export(const fia_problem *p, const void *state, int32_t rows, float *m, float *l, float *o) {
    tile_export(p, 1, state, rows, m, l, o);
}

static const fia_tile tile_pieces = {
    .name = "ext_tile_pieces",
    .rows = EXT_ROWS,
    .keys = EXT_KEYS,
    .super_keys = EXT_SUPER,
    .prep_blocks = EXT_SHARED,
    .raw_q = 1,
    .serves = pieces_serve,
    .sizes = pieces_sizes,
    .enter = tile_enter,
    .leave = tile_leave,
    .pack_q = pieces_pack_q,
    .prepare_kv = pieces_prepare,
    .begin = pieces_begin,
    .step = pieces_step,
    .export_state = pieces_export,
};
static const fia_tile tile_int8 = {
    .name = "ext_tile_int8",
    .rows = EXT_ROWS,
    .keys = EXT_KEYS,
    .super_keys = EXT_SUPER,
    .prep_blocks = EXT_SHARED,
    .raw_q = 1,
    .takes_scales = 1,
    .serves = int8_serve,
    .sizes = int8_sizes,
    .enter = tile_enter,
    .leave = tile_leave,
    .pack_q = int8_pack_q,
    .prepare_kv = int8_prepare,
    .begin = int8_begin,
    .step = int8_step,
    .export_state = int8_export,
};

#endif /* FIA_TESTS_EXT_TILE_H */
