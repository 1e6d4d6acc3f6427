/* SPDX-License-Identifier: MIT
 *
 * The oracle. It is never compiled with sanitizers or instruction-set flags, so that one object serves all tests.
 */
#include "oracle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- stored elements ---- */

static double f16_value(uint16_t bits) {
    int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    double sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

static double bf16_value(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

/* Conversion of f16 by table: the oracle reads every key once per sequence and head. */
static double f16_decode(uint16_t bits) {
    static double table[65536];
    static int filled = 0;
    if (!filled) {
        int i;
        for (i = 0; i < 65536; ++i) table[i] = f16_value((uint16_t)i);
        filled = 1;
    }
    return table[bits];
}

double oracle_decode(fia_dtype dtype, const void *data, int64_t index) {
    const char *at = (const char *)data;
    switch (dtype) {
    case FIA_F32: {
        float x;
        memcpy(&x, at + index * 4, 4);
        return x;
    }
    case FIA_F64: {
        double x;
        memcpy(&x, at + index * 8, 8);
        return x;
    }
    case FIA_F16: {
        uint16_t x;
        memcpy(&x, at + index * 2, 2);
        return f16_decode(x);
    }
    case FIA_BF16: {
        uint16_t x;
        memcpy(&x, at + index * 2, 2);
        return bf16_value(x);
    }
    case FIA_I8: return (signed char)at[index];
    case FIA_U8:
    case FIA_BOOL: return (unsigned char)at[index];
    case FIA_I32: {
        int32_t x;
        memcpy(&x, at + index * 4, 4);
        return x;
    }
    case FIA_I64: {
        int64_t x;
        memcpy(&x, at + index * 8, 8);
        return (double)x;
    }
    case FIA_I4: {
        int nibble = ((unsigned char)at[index / 2] >> (index % 2 * 4)) & 15;
        return nibble < 8 ? nibble : nibble - 16;
    }
    default: fprintf(stderr, "oracle: element type %d is unknown\n", (int)dtype); abort();
    }
}

/* Rounds to a float format of `fraction` stored bits, smallest normal 2^low, to nearest even. */
static double round_to(double x, int fraction, int low) {
    int exponent;
    double step;
    if (x == 0 || !isfinite(x)) return x;
    frexp(x, &exponent);
    if (exponent - 1 < low) exponent = low + 1;
    step = ldexp(1.0, exponent - 1 - fraction);
    return nearbyint(x / step) * step;
}

static uint16_t f16_bits(double x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double a = fabs(round_to(x, 10, -14));
    int exponent;
    if (isnan(x)) return 0x7e00;
    if (a > 65504.0) return (uint16_t)(sign | 0x7c00);
    if (a < ldexp(1.0, -14)) return (uint16_t)(sign | (int)ldexp(a, 24));
    frexp(a, &exponent);
    return (uint16_t)(sign | ((exponent + 14) << 10) | ((int)ldexp(a, 11 - exponent) - 1024));
}

static uint16_t bf16_bits(double x) {
    float rounded = (float)round_to(x, 7, -126);
    uint32_t bits;
    if (isnan(x)) return 0x7fc0;
    memcpy(&bits, &rounded, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static double saturate(double x, double low, double high) {
    if (isnan(x)) return 0;
    x = nearbyint(x);
    return x < low ? low : x > high ? high : x;
}

void oracle_encode(fia_dtype dtype, double value, void *data, int64_t index) {
    char *at = (char *)data;
    switch (dtype) {
    case FIA_F32: {
        float x = (float)value;
        memcpy(at + index * 4, &x, 4);
        return;
    }
    case FIA_F16: {
        uint16_t x = f16_bits(value);
        memcpy(at + index * 2, &x, 2);
        return;
    }
    case FIA_BF16: {
        uint16_t x = bf16_bits(value);
        memcpy(at + index * 2, &x, 2);
        return;
    }
    case FIA_I8: at[index] = (char)(int)saturate(value, -128, 127); return;
    case FIA_U8:
    case FIA_BOOL: at[index] = (char)(int)saturate(value, 0, 255); return;
    case FIA_I32: {
        int32_t x = (int32_t)value;
        memcpy(at + index * 4, &x, 4);
        return;
    }
    case FIA_I64: {
        int64_t x = (int64_t)value;
        memcpy(at + index * 8, &x, 8);
        return;
    }
    case FIA_I4: {
        int nibble = (int)saturate(value, -8, 7) & 15, shift = (int)(index % 2 * 4);
        at[index / 2] = (char)(((unsigned char)at[index / 2] & ~(15 << shift)) | (nibble << shift));
        return;
    }
    default: fprintf(stderr, "oracle: element type %d is unknown\n", (int)dtype); abort();
    }
}

double oracle_half_ulp(fia_dtype dtype, double x) {
    int fraction = dtype == FIA_F16 ? 10 : 7, low = dtype == FIA_F16 ? -14 : -126, exponent;
    if (dtype != FIA_F16 && dtype != FIA_BF16) return 0;
    frexp(x, &exponent);
    if (x == 0 || exponent - 1 < low) exponent = low + 1;
    return ldexp(1.0, exponent - 2 - fraction);
}

/* ---- sequences and bounds ---- */

static int64_t int_at(const fia_ints *ints, int64_t index) {
    const ptrdiff_t step = ints->stride_bytes ? ints->stride_bytes : ints->dtype == FIA_I32 ? 4 : 8;
    const char *at = (const char *)ints->data + (ints->broadcast ? 0 : index * step);
    int64_t value;
    if (ints->dtype == FIA_I32) return (int64_t)oracle_decode(FIA_I32, at, 0);
    memcpy(&value, at, sizeof value); /* a double would round it */
    return value;
}

/* First row and number of rows of a sequence by a length array in one of its three forms. */
static void find_rows(const fia_ints *lens, int32_t form, int64_t longest, int64_t b, int64_t *start, int64_t *len) {
    int64_t i;
    if (!lens->data) {
        *start = b * longest;
        *len = longest;
    } else if (form == FIA_LENGTHS_EACH) {
        *start = 0;
        for (i = 0; i < b; ++i) *start += int_at(lens, i);
        *len = int_at(lens, b);
    } else if (form == FIA_LENGTHS_ENDS) {
        *start = b ? int_at(lens, b - 1) : 0;
        *len = int_at(lens, b) - *start;
    } else {
        *start = int_at(lens, b);
        *len = int_at(lens, b + 1) - *start;
    }
}

void oracle_find_sequence(const oracle_call *call, int64_t b, oracle_sequence *s) {
    const fia_problem *p = call->problem;
    const fia_io *io = call->io;
    s->index = b;
    find_rows(&io->q_lens, p->q_lengths, p->max_q_len, b, &s->q_start, &s->q_len);
    find_rows(&io->kv_lens, p->kv_lengths, p->max_kv_len, b, &s->kv_start, &s->kv_len);
    if (!p->q_packed) s->q_start = 0;
    if (!p->kv_packed || p->keys != FIA_KEYS_STRIDED) s->kv_start = 0;
    s->kv_offset = io->kv_offset.data ? int_at(&io->kv_offset, b) : 0;
    if (io->q_offset.data) s->q_offset = int_at(&io->q_offset, b);
    else if (p->align == FIA_ALIGN_TOP_LEFT) s->q_offset = s->kv_offset;
    else s->q_offset = s->kv_offset + s->kv_len - s->q_len;
}

/* Windows may be as large as an int64: past 2^60 either way they bound nothing, or all. */
static int64_t clip(int64_t window) {
    const int64_t far = (int64_t)1 << 60;
    return window > far ? far : window < -far ? -far : window;
}

int oracle_in_bounds(const oracle_call *call, const oracle_sequence *s, int64_t r, int64_t j) {
    const fia_problem *p = call->problem;
    int64_t row = s->q_offset + r, key = s->kv_offset + j;
    if (j < 0 || j >= s->kv_len) return 0;
    if (p->causal && key > row) return 0;
    return key - row >= -clip(p->window_left) && key - row <= clip(p->window_right);
}

int oracle_any_row_in_bounds(const oracle_call *call, const oracle_sequence *s, int64_t j) {
    int64_t r;
    /* Most rows see most keys, and the last row sees most of all: it is asked first. */
    for (r = s->q_len - 1; r >= 0; --r) {
        if (oracle_in_bounds(call, s, r, j)) return 1;
    }
    return 0;
}

/* ---- masks ---- */

static double mask_at(const fia_mask_view *view, const void *data, int64_t b, int32_t h, int64_t r, int64_t j) {
    return oracle_decode(view->dtype,
                         (const char *)data + b * view->sequence_bytes + h * view->head_bytes + r * view->row_bytes, j);
}

int oracle_keeps(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, int64_t j) {
    const fia_problem *p = call->problem;
    const fia_io *io = call->io;
    if (!oracle_in_bounds(call, s, r, j)) return 0;
    if (p->drop_mask.dtype && mask_at(&p->drop_mask, io->drop_mask, s->index, h, r, j) != 0) return 0;
    if (p->bias.dtype && mask_at(&p->bias, io->bias, s->index, h, r, j) == -INFINITY) return 0;
    if (p->additive_mask.dtype && mask_at(&p->additive_mask, io->additive_mask, s->index, h, r, j) == -INFINITY)
        return 0;
    return 1;
}

/* ---- rows ---- */

typedef struct key_place {
    int64_t outer, row; /* sequence or page, and the row in it */
} key_place;

static key_place find_key(const oracle_call *call, const oracle_sequence *s, int64_t j) {
    const fia_problem *p = call->problem;
    key_place place;
    place.outer = p->kv_packed && p->keys == FIA_KEYS_STRIDED ? 0 : s->index;
    place.row = s->kv_start + j;
    if (p->keys == FIA_KEYS_PAGED || (p->keys >= FIA_KEYS_USER && call->io->block_table)) {
        const ptrdiff_t row = p->table_broadcast ? 0 : p->table_bytes ? p->table_bytes : p->table_columns * 4;
        const char *table = (const char *)call->io->block_table + s->index * row;
        place.outer = ((const int32_t *)(const void *)table)[j / p->page_size];
        place.row = j % p->page_size;
    }
    return place;
}

/* Element i of a row; rows may be cut into pieces. */
static double element(const fia_view *view, const char *row, int64_t i) {
    if (!view->piece_elements) return oracle_decode(view->dtype, row, i);
    return oracle_decode(view->dtype, row + i / view->piece_elements * view->piece_bytes, i % view->piece_elements);
}

static double scale_at(const fia_scale_view *view, const void *data, int64_t outer, int32_t h, int64_t token,
                       int64_t i) {
    return oracle_decode(view->dtype,
                         (const char *)data + outer * view->sequence_bytes + h * view->head_bytes +
                             token * view->token_bytes + i * view->channel_bytes,
                         0);
}

/* The scale or offset of element i of key j, by the view's place. */
static double key_scale_at(const oracle_call *call, const oracle_sequence *s, const fia_scale_view *view,
                           const void *data, int32_t h, int64_t j, int64_t i) {
    const key_place place = find_key(call, s, j);
    if (view->place == FIA_PLACE_PAGES) return scale_at(view, data, place.outer, h, place.row, i);
    if (view->place == FIA_PLACE_ROWS && call->problem->kv_packed)
        return scale_at(view, data, 0, h, s->kv_start + j, i);
    return scale_at(view, data, s->index, h, j, i);
}

/* A stored x means (x + offset) * scale. */
static double dequantise(double x, const fia_scale_view *scale, const void *scale_data, const fia_scale_view *offset,
                         const void *offset_data, const oracle_call *call, const oracle_sequence *s, int32_t h,
                         int64_t j, int64_t i) {
    if (offset->dtype) x += key_scale_at(call, s, offset, offset_data, h, j, i);
    if (scale->dtype) x *= key_scale_at(call, s, scale, scale_data, h, j, i);
    return x;
}

/* The address of a key's row in one of the three tensors that hold keys. */
static const char *key_row(const oracle_call *call, const oracle_sequence *s, const fia_view *view, const void *base,
                           const void *list, const fia_ints *head_strides, int32_t h, int64_t j) {
    key_place place = find_key(call, s, j);
    const char *at = (const char *)base;
    if (call->problem->keys != FIA_KEYS_LIST) {
        return at + place.outer * view->sequence_bytes + h * view->head_bytes + place.row * view->row_bytes;
    }
    memcpy(&at, (const char *)list + s->index * call->io->list_bytes, sizeof at);
    if (head_strides->data) {
        int64_t bytes = view->dtype == FIA_F32 ? 4 : view->dtype == FIA_I8 ? 1 : 2;
        return at + h * int_at(head_strides, s->index) * bytes + j * view->row_bytes;
    }
    return at + h * view->head_bytes + j * view->row_bytes;
}

/* Element i of key j, i up to D + Dr. */
static double key_element(const oracle_call *call, const oracle_sequence *s, const char *row, const char *rope_row,
                          int32_t h, int64_t j, int32_t i) {
    const fia_problem *p = call->problem;
    const fia_io *io = call->io;
    double x;
    if (i >= p->dim) return element(&p->key_rope, rope_row, i - p->dim);
    x = element(&p->key, row, i);
    if (!p->key_scale.dtype && !p->key_offset.dtype) return x;
    return dequantise(x, &p->key_scale, io->key_scale, &p->key_offset, io->key_offset, call, s, h, j, i);
}

static double value_element(const oracle_call *call, const oracle_sequence *s, const char *row, int32_t h, int64_t j,
                            int32_t i) {
    const fia_problem *p = call->problem;
    const fia_io *io = call->io;
    double x;
    if (p->value_in_key) return key_element(call, s, row, NULL, h, j, i);
    x = element(&p->value, row, i);
    if (!p->value_scale.dtype && !p->value_offset.dtype) return x;
    return dequantise(x, &p->value_scale, io->value_scale, &p->value_offset, io->value_offset, call, s, h, j, i);
}

/* ---- converted keys of one (sequence, KV head) ---- */

static double dot(const double *a, const double *b, int32_t n) {
    double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int32_t i;
    for (i = 0; i + 4 <= n; i += 4) {
        s0 += a[i] * b[i];
        s1 += a[i + 1] * b[i + 1];
        s2 += a[i + 2] * b[i + 2];
        s3 += a[i + 3] * b[i + 3];
    }
    for (; i < n; ++i) s0 += a[i] * b[i];
    return (s0 + s1) + (s2 + s3);
}

void oracle_work_init(oracle_work *work) {
    memset(work, 0, sizeof *work);
    work->sequence = -1;
}

void oracle_work_free(oracle_work *work) {
    free(work->keys);
    free(work->norms);
    free(work->values);
    free(work->scores);
    free(work->row);
    free(work->row32);
    free(work->scores32);
    free(work->loaded);
    oracle_work_init(work);
}

void oracle_work_reset(oracle_work *work) { work->sequence = -1; }

static void *grow(void *memory, size_t *room, size_t count, size_t size) {
    if (memory && count <= *room) return memory;
    free(memory);
    *room = count + count / 4 + 64;
    memory = malloc(*room * size);
    if (!memory) abort();
    return memory;
}

static int64_t row_entries(const oracle_call *call, const oracle_sequence *s, int32_t kv_head, int64_t r) {
    if (!call->source || !call->source->entries) return s->kv_len;
    return call->source->entries(call->source->data, s->index, kv_head, r);
}

static int64_t entry_key(const oracle_call *call, const oracle_sequence *s, int32_t kv_head, int64_t r, int64_t entry) {
    if (!call->source || !call->source->position) return entry;
    return call->source->position(call->source->data, s->index, kv_head, r, entry);
}

/* The key positions that the work arrays are indexed by: the kv length, more where a list may name any key. */
static int64_t key_rows(const oracle_call *call, const oracle_sequence *s) {
    int64_t most = s->kv_len, r;
    int32_t h;
    if (call->source && call->source->position) {
        if (call->problem->max_kv_len > most) most = call->problem->max_kv_len;
        if (call->problem->table_columns * call->problem->page_size > most) {
            most = call->problem->table_columns * call->problem->page_size;
        }
    }
    for (h = 0; call->source && call->source->entries && h < call->problem->n_kv_heads; ++h) {
        for (r = 0; r < s->q_len; ++r) {
            if (row_entries(call, s, h, r) > most) most = row_entries(call, s, h, r);
        }
    }
    return most;
}

static void work_begin(oracle_work *work, const oracle_call *call, const oracle_sequence *s, int32_t kv_head) {
    const fia_problem *p = call->problem;
    size_t width = (size_t)(p->dim + p->rope_dim), n;
    if (work->sequence == s->index && work->kv_head == kv_head) return;
    work->key_rows = key_rows(call, s);
    n = (size_t)work->key_rows;
    work->keys = (double *)grow(work->keys, &work->keys_room, n * width, sizeof(double));
    work->norms = (double *)grow(work->norms, &work->norms_room, n, sizeof(double));
    work->values = (double *)grow(work->values, &work->values_room, n * (size_t)p->value_dim, sizeof(double));
    work->scores = (double *)grow(work->scores, &work->scores_room, n * 2, sizeof(double));
    work->scores32 = (float *)grow(work->scores32, &work->scores32_room, n, sizeof(float));
    work->row = (double *)grow(work->row, &work->row_room, width, sizeof(double));
    work->row32 = (float *)grow(work->row32, &work->row32_room, width, sizeof(float));
    work->loaded = (unsigned char *)grow(work->loaded, &work->loaded_room, n, 1);
    memset(work->loaded, 0, n);
    work->sequence = s->index;
    work->kv_head = kv_head;
}

static void load_key(oracle_work *work, const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t j) {
    const fia_problem *p = call->problem;
    const fia_io *io = call->io;
    const oracle_source *from = call->source;
    const int own_key = from && from->key, own_value = from && from->value;
    const char *row = NULL, *rope_row = NULL, *value_row = NULL;
    double *key = work->keys + j * (p->dim + p->rope_dim), *value = work->values + j * p->value_dim;
    int32_t i;
    if (work->loaded[j]) return;
    work->loaded[j] = 1;
    if (!own_key || (!own_value && p->value_in_key)) {
        row = key_row(call, s, &p->key, io->key, io->key_list, &io->key_head_strides, h, j);
    }
    if (!own_key && p->rope_dim) {
        rope_row = key_row(call, s, &p->key_rope, io->key_rope, io->key_rope_list, &io->key_rope_head_strides, h, j);
    }
    if (p->value_in_key) value_row = row;
    else if (!own_value)
        value_row = key_row(call, s, &p->value, io->value, io->value_list, &io->value_head_strides, h, j);
    for (i = 0; i < p->dim + p->rope_dim; ++i) {
        key[i] = own_key ? from->key(from->data, s->index, h, j, i) : key_element(call, s, row, rope_row, h, j, i);
    }
    work->norms[j] = sqrt(dot(key, key, p->dim + p->rope_dim));
    for (i = 0; i < p->value_dim; ++i) {
        value[i] = own_value ? from->value(from->data, s->index, h, j, i) : value_element(call, s, value_row, h, j, i);
    }
}

static void load_query(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, double *row) {
    const fia_problem *p = call->problem;
    const fia_io *io = call->io;
    int64_t outer = p->q_packed ? 0 : s->index, at = s->q_start + r;
    const char *q =
        (const char *)io->query + outer * p->query.sequence_bytes + h * p->query.head_bytes + at * p->query.row_bytes;
    int32_t i;
    for (i = 0; i < p->dim; ++i) row[i] = element(&p->query, q, i);
    if (p->query_scale.dtype) {
        double scale = scale_at(&p->query_scale, io->query_scale, outer, h, at, 0);
        for (i = 0; i < p->dim; ++i) row[i] *= scale;
    }
    if (!p->rope_dim) return;
    q = (const char *)io->query_rope + outer * p->query_rope.sequence_bytes + h * p->query_rope.head_bytes +
        at * p->query_rope.row_bytes;
    for (i = 0; i < p->rope_dim; ++i) row[p->dim + i] = element(&p->query_rope, q, i);
}

static double problem_scale(const fia_problem *p) {
    return isnan(p->scale) ? 1.0 / sqrt((double)(p->dim + p->rope_dim)) : p->scale;
}

/* ---- the four passes ---- */

static void note(double *mass, double x) {
    if (fabs(x) > *mass) *mass = fabs(x);
}

/* One score through all modifiers; mass: the largest magnitude on its way. */
static double modify(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, int64_t j, double x,
                     double *mass) {
    const fia_problem *p = call->problem;
    const fia_io *io = call->io;
    double bias = p->bias.dtype ? mask_at(&p->bias, io->bias, s->index, h, r, j) : 0;
    double scale = problem_scale(p), distance = fabs((double)(s->q_offset + r - s->kv_offset - j));
    *mass = 0;
    note(mass, x * scale);
    if (p->bias_before_scale) {
        note(mass, bias * scale);
        x = (x + bias) * scale;
    } else {
        note(mass, bias);
        x = x * scale + bias;
    }
    if (p->softcap > 0) x = p->softcap * tanh(x / p->softcap);
    if (p->alibi_slopes) {
        double slope = oracle_decode(p->alibi_slopes, io->alibi_slopes, h);
        note(mass, slope * distance);
        x -= slope * distance;
    }
    if (p->additive_mask.dtype) {
        double factor = p->mask_factor ? oracle_decode(p->mask_factor, io->mask_factor, h) : 1;
        double add = mask_at(&p->additive_mask, io->additive_mask, s->index, h, r, j) * factor;
        note(mass, add);
        x += add;
    }
    note(mass, x);
    return x;
}

/* Passes 1 and 2: logits of kept entries; a dropped entry gets a mass of -1. */
static int64_t logits(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, oracle_work *work,
                      double *reach) {
    const fia_problem *p = call->problem;
    int32_t kv_head = h / (p->n_q_heads / p->n_kv_heads), width = p->dim + p->rope_dim;
    int64_t n = row_entries(call, s, kv_head, r), entry, kept = 0;
    double *mass = work->scores + work->key_rows;
    for (entry = 0; entry < n; ++entry) {
        int64_t j = entry_key(call, s, kv_head, r, entry);
        mass[entry] = -1;
        if (j < 0 || !oracle_keeps(call, s, h, r, j)) continue;
        mass[entry] = 0;
        load_key(work, call, s, kv_head, j);
        if (work->norms[j] > *reach) *reach = work->norms[j];
        work->scores[entry] = dot(work->row, work->keys + j * width, width);
        ++kept;
    }
    *reach *= sqrt(dot(work->row, work->row, width)) * fabs(problem_scale(p));
    if (!isfinite(*reach)) *reach = 0;
    for (entry = 0; entry < n; ++entry) {
        int64_t j = entry_key(call, s, kv_head, r, entry);
        if (mass[entry] < 0) continue;
        work->scores[entry] = modify(call, s, h, r, j, work->scores[entry], &mass[entry]);
    }
    return kept;
}

/* Pass 3: scores become exp(s - max); returns their sum, NaN if any is NaN, 0 if all are -inf. */
static double softmax(double *scores, const double *mass, int64_t n, double *max, oracle_row_info *info) {
    double sum = 0;
    int64_t e;
    *max = -INFINITY;
    for (e = 0; e < n; ++e) {
        if (mass[e] < 0) continue;
        if (isnan(scores[e])) *max = NAN;
        else if (scores[e] > *max) *max = scores[e];
    }
    for (e = 0; e < n; ++e) {
        if (mass[e] < 0) {
            scores[e] = -1; /* marks a dropped entry: weights are never negative */
            continue;
        }
        scores[e] = scores[e] == -INFINITY ? 0 : exp(scores[e] - *max);
        sum += scores[e];
        if (scores[e] > 1e-5) note(&info->mass, mass[e]);
    }
    return sum;
}

/* Pass 4: weighted values; returns the sum of the weighted norms, and the largest |value|. */
static double accumulate(const oracle_call *call, const oracle_sequence *s, int32_t kv_head, int64_t r, int64_t n,
                         const oracle_work *work, double *out, double *largest) {
    int32_t dv = call->problem->value_dim, i;
    double norms = 0;
    int64_t e;
    for (i = 0; i < dv; ++i) out[i] = 0;
    for (e = 0; e < n; ++e) {
        const double weight = work->scores[e];
        const double *value = work->values + entry_key(call, s, kv_head, r, e) * dv;
        double square = 0;
        if (weight == -1) continue;
        for (i = 0; i < dv; ++i) {
            out[i] += weight * value[i];
            square += value[i] * value[i];
            if (isfinite(value[i])) note(largest, value[i]);
        }
        norms += weight * sqrt(square);
    }
    return norms;
}

void oracle_row(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, oracle_work *work, double *out,
                oracle_row_info *info) {
    const fia_problem *p = call->problem;
    int32_t kv_head = h / (p->n_q_heads / p->n_kv_heads), i;
    int64_t n;
    double max, sum, total, norms, square = 0;
    memset(info, 0, sizeof *info);
    work_begin(work, call, s, kv_head);
    load_query(call, s, h, r, work->row);
    info->kept = logits(call, s, h, r, work, &info->reach);
    if (!info->kept) {
        for (i = 0; i < p->value_dim; ++i) out[i] = 0;
        info->lse = p->lse_empty;
        return;
    }
    n = row_entries(call, s, kv_head, r);
    sum = softmax(work->scores, work->scores + work->key_rows, n, &max, info);
    norms = accumulate(call, s, kv_head, r, n, work, out, &info->largest);
    for (i = 0; i < p->value_dim; ++i) square += out[i] * out[i];
    info->spread = isfinite(square) && isfinite(norms) ? norms / (sqrt(square) + 1e-300) : 1;
    info->lse = max + log(sum);
    total = sum;
    if (p->sinks) total += exp(oracle_decode(p->sinks, call->io->sinks, h) - max);
    for (i = 0; i < p->value_dim; ++i) out[i] /= total;
}

/* ---- the naive program ---- */

static float modify_naive(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, int64_t j, float x) {
    const fia_problem *p = call->problem;
    const fia_io *io = call->io;
    float scale = (float)problem_scale(p);
    float bias = p->bias.dtype ? (float)mask_at(&p->bias, io->bias, s->index, h, r, j) : 0;
    x = p->bias_before_scale ? (x + bias) * scale : x * scale + bias;
    if (p->softcap > 0) x = p->softcap * tanhf(x / p->softcap);
    if (p->alibi_slopes) {
        float distance = fabsf((float)(s->q_offset + r - s->kv_offset - j));
        x -= (float)oracle_decode(p->alibi_slopes, io->alibi_slopes, h) * distance;
    }
    if (p->additive_mask.dtype) {
        float factor = p->mask_factor ? (float)oracle_decode(p->mask_factor, io->mask_factor, h) : 1;
        x += (float)mask_at(&p->additive_mask, io->additive_mask, s->index, h, r, j) * factor;
    }
    return x;
}

/* Logits of the kept entries, and the largest. */
static float logits_naive(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, int64_t n,
                          oracle_work *work) {
    const fia_problem *p = call->problem;
    int32_t kv_head = h / (p->n_q_heads / p->n_kv_heads), width = p->dim + p->rope_dim, i;
    float max = -INFINITY;
    int64_t e;
    for (e = 0; e < n; ++e) {
        int64_t j = entry_key(call, s, kv_head, r, e);
        float x = 0;
        work->scores32[e] = -INFINITY;
        if (j < 0 || !oracle_keeps(call, s, h, r, j)) continue;
        load_key(work, call, s, kv_head, j);
        for (i = 0; i < width; ++i) x += work->row32[i] * (float)work->keys[j * width + i];
        x = modify_naive(call, s, h, r, j, x);
        work->scores32[e] = x;
        if (!(x <= max)) max = x;
    }
    return max;
}

void oracle_row_naive(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, oracle_work *work,
                      float *out, float *lse) {
    const fia_problem *p = call->problem;
    int32_t kv_head = h / (p->n_q_heads / p->n_kv_heads), dv = p->value_dim, i;
    int64_t n, e;
    float max, sum = 0, total;
    work_begin(work, call, s, kv_head);
    load_query(call, s, h, r, work->row);
    for (i = 0; i < p->dim + p->rope_dim; ++i) work->row32[i] = (float)work->row[i];
    n = row_entries(call, s, kv_head, r);
    max = logits_naive(call, s, h, r, n, work);
    for (i = 0; i < dv; ++i) out[i] = 0;
    *lse = p->lse_empty;
    if (max == -INFINITY) return;
    for (e = 0; e < n; ++e) {
        const double *value = work->values + entry_key(call, s, kv_head, r, e) * dv;
        float weight;
        if (work->scores32[e] == -INFINITY) continue;
        weight = expf(work->scores32[e] - max);
        sum += weight;
        for (i = 0; i < dv; ++i) out[i] += weight * (float)value[i];
    }
    *lse = max + logf(sum);
    total = sum;
    if (p->sinks) total += expf((float)oracle_decode(p->sinks, call->io->sinks, h) - max);
    for (i = 0; i < dv; ++i) out[i] /= total;
}
