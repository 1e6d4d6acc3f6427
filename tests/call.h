/* SPDX-License-Identifier: MIT
 *
 * Attention calls whose content is a function of (tensor, sequence id, head, position, element), so that one
 * computation can be laid out, paged, aligned, cut and run in many ways and its bytes compared. Memory may end or begin
 * at guard pages.
 *
 *     call c;
 *     call_make(&c, &spec, &form);          memory, content, problem, io
 *     call_run(&c, &how);                   fails the test unless FIA_OK
 *     call_take(&c, b, &whole, &bytes);     output bits of a sequence, free() them
 *     call_free(&c);
 */
#ifndef FIA_TEST_CALL_H
#define FIA_TEST_CALL_H

#ifndef _DEFAULT_SOURCE
#error "define _DEFAULT_SOURCE before the first include: mmap and barriers"
#endif

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "fia.h"
#include "oracle.h"
#include "seed.h"

enum { CALL_SEQUENCES = 6, CALL_MEMORY = 96, CALL_SCALES = 7 };

/** Tensors of a call; the first seven have (outer, head, row), then masks, tables by head, scales and offsets. */
enum {
    CALL_Q,
    CALL_Q_ROPE,
    CALL_K,
    CALL_K_ROPE,
    CALL_V,
    CALL_OUT,
    CALL_LSE,
    CALL_BIAS,
    CALL_ADDITIVE,
    CALL_DROP,
    CALL_FACTOR,
    CALL_SLOPES,
    CALL_SINKS,
    CALL_QUERY_SCALE,
    CALL_KEY_SCALE,
    CALL_KEY_OFFSET,
    CALL_VALUE_SCALE,
    CALL_VALUE_OFFSET,
    CALL_OUT_SCALE,
    CALL_OUT_OFFSET,
    CALL_KINDS
};

typedef struct call_sequence {
    int64_t id; /* of its content */
    int64_t q_len, kv_len;
    int64_t q_base, key_base;    /* its row 0 and key 0 are these of the content: parts of one long sequence */
    int64_t q_offset, kv_offset; /* used if the call has offsets */
} call_sequence;

/** Axes of a scale or an offset; 0: one value for all. */
enum { CALL_BY_SEQUENCE = 1, CALL_BY_HEAD = 2, CALL_BY_TOKEN = 4, CALL_BY_CHANNEL = 8 };

typedef struct call_scale {
    fia_dtype dtype; /* FIA_NONE: absent */
    int place, axes; /* FIA_PLACE_*, CALL_BY_*; pages are the sequences of FIA_PLACE_PAGES */
} call_scale;

typedef struct call call;

/** What is computed. call_spec_init gives f32, one head of 32 elements, no modifiers. */
typedef struct call_spec {
    fia_dtype q, k, v, out;
    int32_t D, Dr, Dv, Hkv, G;
    int value_in_key, causal, bias_before_scale, exact, no_lse, offsets;
    int64_t window_left, window_right;
    float scale, softcap, lse_empty;
    fia_dtype bias, additive, drop, factor, slopes, sinks;
    call_scale scales[CALL_SCALES]; /* from CALL_QUERY_SCALE on; their content depends on how they lie */
    int pin_family;
    int64_t pin_chunk;
    int32_t first_kv_head; /* of the content */
    int n;
    call_sequence sequence[CALL_SEQUENCES];
    double (*content)(const call *c, int which, int64_t id, int64_t head, int64_t row,
                      int64_t i); /* NULL: call_content */
} call_spec;

enum {
    CALL_HEAD_MAJOR,
    CALL_TOKEN_MAJOR,
    CALL_LIST,
    CALL_BNBSH,
    CALL_BNNBSD,
    CALL_NZ /* pieces of 16 elements */
};

enum { CALL_NO_GUARD, CALL_GUARD_BEHIND, CALL_GUARD_BEFORE };

/** How it lies. All zero is a form: everything head-major, padded, aligned, 0 where no content is. */
typedef struct call_form {
    int q_order, q_packed; /* CALL_HEAD_MAJOR or CALL_TOKEN_MAJOR */
    int keys, kv_packed;   /* CALL_*; packed with the first two only */
    int64_t page_size;     /* of the last three */
    uint64_t placement;    /* where pages go */
    int gap;               /* elements between rows */
    int shift;             /* elements between a 64-byte border and the data */
    unsigned char fill;    /* every byte that is not content */
    int64_t spare_q, spare_kv, spare_sequences;
    int guard;
    int no_fill;     /* 1: content is not written */
    int own_strides; /* 1: each list is head-major and gives its rows and its head stride */
    int narrow_ints; /* 1: integers are i32 */
} call_form;

typedef struct call_tensor {
    fia_dtype dtype;
    int32_t elements, piece;
    int64_t outer, heads, rows;
    ptrdiff_t outer_bytes, head_bytes, row_bytes, piece_bytes;
    char *base[CALL_SEQUENCES]; /* lists: one per sequence, else the first */
    size_t bytes[CALL_SEQUENCES];
    ptrdiff_t list_head_bytes[CALL_SEQUENCES];
} call_tensor;

struct call {
    call_spec spec;
    call_form form;
    fia_problem problem;
    fia_io io;
    call_tensor tensor[CALL_KINDS];
    int64_t q_start[CALL_SEQUENCES], kv_start[CALL_SEQUENCES], most_q, most_kv;
    int64_t columns, n_pages;
    int32_t *table;
    const void *list[3][CALL_SEQUENCES];
    char *memory[CALL_MEMORY], *mapping[CALL_MEMORY]; /* mapping: NULL where memory came from malloc */
    size_t memory_bytes[CALL_MEMORY];
    int n_memory;
    char explained[4096]; /* of the last run */
};

/* ---- content ---- */

static inline uint64_t call_mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t call_seed(void) {
    static uint64_t seed = 0;
    if (!seed) seed = seed_of_environment(1);
    return seed;
}

static inline uint64_t call_hash(int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    uint64_t x = call_mix(call_seed() * 1000003 + (uint64_t)which);
    x = call_mix(x ^ (uint64_t)id);
    x = call_mix(x ^ ((uint64_t)head << 40) ^ (uint64_t)row);
    return call_mix(x ^ (uint64_t)i << 1);
}

static inline double call_unit(uint64_t x) { return ((double)(x >> 11) + 0.5) / 9007199254740992.0; }

/** A normal number, one of 2^16. */
static inline double call_normal(uint64_t x) {
    static double table[65536];
    uint64_t i;
    for (i = 0; table[65535] == 0 && i < 65536; ++i)
        table[i] = sqrt(-2 * log(call_unit(call_mix(2 * i)))) * cos(6.283185307179586 * call_unit(call_mix(2 * i + 1)));
    return table[x & 65535];
}

/** Normal numbers; masks drop a fifth of the keys, slopes are 2^-1, 2^-2, ... */
static inline double call_content(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    uint64_t x = call_hash(which, id, head, row, i);
    (void)c;
    switch (which) {
    case CALL_BIAS:
    case CALL_ADDITIVE: return x % 8 == 0 ? -INFINITY : call_normal(x);
    case CALL_DROP: return x % 5 == 0;
    case CALL_SLOPES: return ldexp(1, -1 - (int)(head % 6));
    case CALL_FACTOR:
    case CALL_QUERY_SCALE:
    case CALL_KEY_SCALE:
    case CALL_VALUE_SCALE:
    case CALL_OUT_SCALE: return 0.5 + call_unit(x);
    default: return call_normal(x);
    }
}

/* ---- memory ---- */

static inline size_t call_size(fia_dtype dtype) {
    return dtype == FIA_F32 || dtype == FIA_I32    ? 4
           : dtype == FIA_I64                      ? 8
           : dtype == FIA_F16 || dtype == FIA_BF16 ? 2
                                                   : 1;
}

static inline size_t call_system_page(void) { return (size_t)sysconf(_SC_PAGESIZE); }

/** So many bytes of `unit` each, aligned to 64 and shifted, or beside a page that may not be touched. */
static inline char *call_room(call *c, size_t bytes, size_t unit) {
    const size_t page = call_system_page(), whole = (bytes + page - 1) / page * page;
    const int slot = c->n_memory++;
    char *at;
    assert_true(slot < CALL_MEMORY);
    if (c->form.guard == CALL_NO_GUARD) {
        c->memory_bytes[slot] = bytes + (size_t)c->form.shift * unit;
        assert_int_equal(
            posix_memalign((void **)&c->memory[slot], 64, c->memory_bytes[slot] ? c->memory_bytes[slot] : 1), 0);
        at = c->memory[slot] + (size_t)c->form.shift * unit;
        memset(c->memory[slot], c->form.fill, c->memory_bytes[slot]);
        return at;
    }
    c->memory_bytes[slot] = whole + 2 * page;
    c->mapping[slot] = (char *)mmap(NULL, whole + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(c->mapping[slot] != (char *)MAP_FAILED);
    at = c->mapping[slot] + page;
    if (whole) assert_int_equal(mprotect(at, whole, PROT_READ | PROT_WRITE), 0);
    memset(at, c->form.fill, whole);
    return c->form.guard == CALL_GUARD_BEHIND ? at + (whole - bytes) : at;
}

static inline void call_free(call *c) {
    while (c->n_memory > 0) {
        const int slot = --c->n_memory;
        if (c->mapping[slot]) munmap(c->mapping[slot], c->memory_bytes[slot]);
        else free(c->memory[slot]);
    }
}

/* ---- layout ---- */

static inline void call_spec_init(call_spec *s) {
    memset(s, 0, sizeof *s);
    s->q = s->k = s->v = s->out = FIA_F32;
    s->D = s->Dv = 32;
    s->Hkv = s->G = 1;
    s->window_left = s->window_right = FIA_UNBOUNDED;
    s->scale = NAN;
    s->lse_empty = -INFINITY;
    s->n = 1;
}

/** Strides and exact bytes of a tensor in one of the orders. */
static inline void call_lay(call_tensor *t, int order, int gap) {
    const ptrdiff_t size = (ptrdiff_t)call_size(t->dtype), row = (t->elements + gap) * size;
    const ptrdiff_t pieces = t->elements / 16, rows = t->rows > 0 ? (ptrdiff_t)t->rows : 1;
    int64_t last;
    t->piece = order == CALL_NZ ? 16 : 0;
    t->piece_bytes = 0;
    last = t->elements * size;
    if (order == CALL_TOKEN_MAJOR || order == CALL_BNBSH) {
        t->head_bytes = row;
        t->row_bytes = row * (ptrdiff_t)t->heads;
        t->outer_bytes = t->row_bytes * rows;
    } else if (order == CALL_NZ) {
        t->row_bytes = 16 * size;
        t->piece_bytes = t->row_bytes * rows;
        t->head_bytes = t->piece_bytes * pieces;
        t->outer_bytes = t->head_bytes * (ptrdiff_t)t->heads;
        last = (pieces - 1) * t->piece_bytes + 16 * size;
    } else {
        t->row_bytes = row;
        t->head_bytes = row * rows;
        t->outer_bytes = t->head_bytes * (ptrdiff_t)t->heads;
    }
    last += (t->outer - 1) * t->outer_bytes + (t->heads - 1) * t->head_bytes + (t->rows - 1) * t->row_bytes;
    t->bytes[0] = t->outer > 0 && t->rows > 0 ? (size_t)last : 0;
}

static inline int call_is_paged(const call *c) { return c->form.keys >= CALL_BNBSH; }

static inline void call_make_rows(call *c, int which, fia_dtype dtype, int32_t elements) {
    call_tensor *t = &c->tensor[which];
    const int packed = c->form.q_packed;
    t->dtype = dtype;
    t->elements = elements;
    t->heads = c->spec.Hkv * c->spec.G;
    t->outer = packed ? 1 : c->spec.n + c->form.spare_sequences;
    t->rows = packed ? c->problem.total_q : c->problem.max_q_len;
    call_lay(t, c->form.q_order, c->form.gap);
    t->base[0] = call_room(c, t->bytes[0], call_size(dtype));
}

static inline void call_make_keys(call *c, int which, int list, fia_dtype dtype, int32_t elements) {
    call_tensor *t = &c->tensor[which];
    int b;
    t->dtype = dtype;
    t->elements = elements;
    t->heads = c->spec.Hkv;
    if (c->form.keys == CALL_LIST) {
        for (b = 0; b < c->spec.n; ++b) {
            t->outer = 1;
            t->rows = c->spec.sequence[b].kv_len;
            /* token-major: the head stride does not depend on the length */
            call_lay(t, c->form.own_strides ? CALL_HEAD_MAJOR : CALL_TOKEN_MAJOR, c->form.gap);
            t->base[b] = call_room(c, t->bytes[0], call_size(dtype));
            t->bytes[b] = t->bytes[0];
            t->list_head_bytes[b] = t->head_bytes;
            c->list[list][b] = t->base[b];
        }
        return;
    }
    t->outer = call_is_paged(c) ? c->n_pages : c->form.kv_packed ? 1 : c->spec.n + c->form.spare_sequences;
    t->rows = call_is_paged(c) ? c->form.page_size : c->form.kv_packed ? c->problem.total_kv : c->problem.max_kv_len;
    call_lay(t, c->form.keys, c->form.gap);
    t->base[0] = call_room(c, t->bytes[0], call_size(dtype));
}

/** Pages of all sequences, shuffled; columns that hold no key get what is no page. */
static inline void call_make_table(call *c) {
    const int64_t size = c->form.page_size, columns = (c->most_kv + size - 1) / size;
    int64_t *order, next = 0, i;
    int b;
    c->columns = columns ? columns : 1;
    c->n_pages = 3;
    for (b = 0; b < c->spec.n; ++b) c->n_pages += (c->spec.sequence[b].kv_len + size - 1) / size;
    order = (int64_t *)malloc((size_t)c->n_pages * sizeof *order);
    for (i = 0; i < c->n_pages; ++i) order[i] = i;
    for (i = c->n_pages - 1; i > 0; --i) {
        const int64_t other = (int64_t)(call_mix(c->form.placement + (uint64_t)i) % (uint64_t)(i + 1)), kept = order[i];
        if (!c->form.placement) break;
        order[i] = order[other];
        order[other] = kept;
    }
    c->table = (int32_t *)(void *)call_room(c, (size_t)(c->columns * (c->spec.n + c->form.spare_sequences)) * 4, 4);
    for (b = 0; b < c->spec.n + c->form.spare_sequences; ++b)
        for (i = 0; i < c->columns; ++i) {
            const int used = b < c->spec.n && i * size < c->spec.sequence[b].kv_len;
            c->table[b * c->columns + i] = used ? (int32_t)order[next++] : i % 2 ? -7 : INT32_MAX;
        }
    free(order);
    c->io.block_table = c->table;
}

static inline fia_ints call_make_ints(call *c, const int64_t *values, int n) {
    const fia_dtype dtype = c->form.narrow_ints ? FIA_I32 : FIA_I64;
    const size_t size = call_size(dtype);
    fia_ints ints = {NULL, FIA_NONE, 0, 0};
    char *at = call_room(c, (size_t)n * size, size);
    int i;
    for (i = 0; i < n; ++i) {
        const int32_t narrow = (int32_t)values[i];
        memcpy(at + (size_t)i * size, dtype == FIA_I32 ? (const void *)&narrow : &values[i], size);
    }
    ints.data = at;
    ints.dtype = dtype;
    ints.stride_bytes = (ptrdiff_t)size;
    return ints;
}

/** Lengths in three forms: each, ends (packed queries), starts (packed keys). */
static inline void call_make_lengths(call *c) {
    int64_t q[CALL_SEQUENCES + 1], kv[CALL_SEQUENCES + 1], q_at = 0, kv_at = 0;
    const int n = c->spec.n;
    int b;
    kv[0] = 0;
    for (b = 0; b < n; ++b) {
        const call_sequence *s = &c->spec.sequence[b];
        c->q_start[b] = c->form.q_packed ? q_at : 0;
        c->kv_start[b] = c->form.kv_packed ? kv_at : 0;
        q_at += s->q_len;
        kv_at += s->kv_len;
        q[b] = c->form.q_packed ? q_at : s->q_len;
        kv[b + c->form.kv_packed] = c->form.kv_packed ? kv_at : s->kv_len;
    }
    c->problem.q_lengths = c->form.q_packed ? FIA_LENGTHS_ENDS : FIA_LENGTHS_EACH;
    c->problem.kv_lengths = c->form.kv_packed ? FIA_LENGTHS_STARTS : FIA_LENGTHS_EACH;
    c->io.q_lens = call_make_ints(c, q, n);
    c->io.kv_lens = call_make_ints(c, kv, n + c->form.kv_packed);
    if (!c->spec.offsets) return;
    for (b = 0; b < n; ++b) {
        q[b] = c->spec.sequence[b].q_offset;
        kv[b] = c->spec.sequence[b].kv_offset;
    }
    c->io.q_offset = call_make_ints(c, q, n);
    c->io.kv_offset = call_make_ints(c, kv, n);
}

static inline void call_view(const call *c, int which, fia_view *view) {
    const call_tensor *t = &c->tensor[which];
    view->dtype = t->dtype;
    view->sequence_bytes = t->outer_bytes;
    view->head_bytes = t->head_bytes;
    view->row_bytes = t->row_bytes;
    view->piece_elements = t->piece;
    view->piece_bytes = t->piece_bytes;
}

/** A mask (sequence, head, row, key); the drop mask is shared by the heads. */
static inline const void *call_make_mask(call *c, int which, fia_dtype dtype, fia_mask_view *view) {
    call_tensor *t = &c->tensor[which];
    if (dtype == FIA_NONE) return NULL;
    t->dtype = dtype;
    t->elements = (int32_t)c->problem.max_kv_len;
    t->heads = which == CALL_DROP ? 1 : c->spec.Hkv * c->spec.G;
    t->outer = c->spec.n + c->form.spare_sequences;
    t->rows = c->problem.max_q_len;
    call_lay(t, CALL_HEAD_MAJOR, c->form.gap);
    t->base[0] = call_room(c, t->bytes[0], call_size(dtype));
    view->dtype = dtype;
    view->rows = t->rows;
    view->keys = t->elements;
    view->sequence_bytes = t->outer_bytes;
    view->head_bytes = which == CALL_DROP ? 0 : t->head_bytes;
    view->row_bytes = t->row_bytes;
    return t->base[0];
}

/** A value per query head. */
static inline const void *call_make_heads(call *c, int which, fia_dtype dtype) {
    call_tensor *t = &c->tensor[which];
    if (dtype == FIA_NONE) return NULL;
    t->dtype = dtype;
    t->elements = c->spec.Hkv * c->spec.G;
    t->bytes[0] = (size_t)t->elements * call_size(dtype);
    t->base[0] = call_room(c, t->bytes[0], call_size(dtype));
    return t->base[0];
}

/** A scale or offset of tensor `of`: extents of the axes it has, laid out as keys are. */
static inline const void *call_make_scale(call *c, int which, int of, fia_scale_view *view) {
    const call_scale *s = &c->spec.scales[which - CALL_QUERY_SCALE];
    const call_tensor *like = &c->tensor[of];
    const int of_keys = of == CALL_K || of == CALL_V, strided = c->form.keys <= CALL_TOKEN_MAJOR;
    const int local = of_keys && (s->place == FIA_PLACE_LOCAL || (s->place == FIA_PLACE_ROWS && !strided));
    call_tensor *t = &c->tensor[which];
    if (s->dtype == FIA_NONE || like->dtype == FIA_NONE) return NULL;
    t->dtype = s->dtype;
    t->outer = !(s->axes & CALL_BY_SEQUENCE) ? 1 : local ? c->problem.n_sequences : like->outer;
    t->heads = s->axes & CALL_BY_HEAD ? like->heads : 1;
    t->rows = !(s->axes & CALL_BY_TOKEN) ? 1 : local ? c->problem.max_kv_len : like->rows;
    t->elements = s->axes & CALL_BY_CHANNEL ? like->elements : 1;
    call_lay(t, c->form.keys % 2 ? CALL_TOKEN_MAJOR : CALL_HEAD_MAJOR, 0);
    t->base[0] = call_room(c, t->bytes[0], call_size(s->dtype));
    view->dtype = s->dtype;
    view->place = s->place;
    view->sequence_bytes = s->axes & CALL_BY_SEQUENCE ? t->outer_bytes : 0;
    view->head_bytes = s->axes & CALL_BY_HEAD ? t->head_bytes : 0;
    view->token_bytes = s->axes & CALL_BY_TOKEN ? t->row_bytes : 0;
    view->channel_bytes = s->axes & CALL_BY_CHANNEL ? (ptrdiff_t)call_size(s->dtype) : 0;
    return t->base[0];
}

/** Address of a row: of the first seven tensors, or of a mask. */
static inline char *call_at(const call *c, int which, int b, int64_t h, int64_t row) {
    const call_tensor *t = &c->tensor[which];
    char *at = t->base[0] + h * t->head_bytes;
    const int of_keys = which == CALL_K || which == CALL_K_ROPE || which == CALL_V;
    if (which >= CALL_BIAS) return at + b * t->outer_bytes + row * t->row_bytes;
    if (!of_keys) return at + (c->form.q_packed ? 0 : b) * t->outer_bytes + (c->q_start[b] + row) * t->row_bytes;
    if (c->form.keys == CALL_LIST) return t->base[b] + h * t->list_head_bytes[b] + row * t->row_bytes;
    if (call_is_paged(c)) {
        const int64_t page = c->table[b * c->columns + row / c->form.page_size];
        return at + page * t->outer_bytes + row % c->form.page_size * t->row_bytes;
    }
    return at + (c->form.kv_packed ? 0 : b) * t->outer_bytes + (c->kv_start[b] + row) * t->row_bytes;
}

/** Address of an element of a row. */
static inline char *call_element(const call *c, int which, int b, int64_t h, int64_t row, int64_t i) {
    const call_tensor *t = &c->tensor[which];
    const int64_t size = (int64_t)call_size(t->dtype);
    if (!t->piece) return call_at(c, which, b, h, row) + i * size;
    return call_at(c, which, b, h, row) + i / t->piece * t->piece_bytes + i % t->piece * size;
}

static inline void call_set(const call *c, int which, int b, int64_t h, int64_t row, int64_t i, double x) {
    oracle_encode(c->tensor[which].dtype, x, call_element(c, which, b, h, row, i), 0);
}

static inline double call_get(const call *c, int which, int b, int64_t h, int64_t row, int64_t i) {
    return oracle_decode(c->tensor[which].dtype, call_element(c, which, b, h, row, i), 0);
}

/* ---- filling ---- */

static inline double call_value(const call *c, int which, int64_t id, int64_t head, int64_t row, int64_t i) {
    return (c->spec.content ? c->spec.content : call_content)(c, which, id, head, row, i);
}

static inline void call_fill_tensor(call *c, int which) {
    const call_tensor *t = &c->tensor[which];
    const int of_keys = which == CALL_K || which == CALL_K_ROPE || which == CALL_V, is_mask = which >= CALL_BIAS;
    const int64_t first_head = c->spec.first_kv_head * (int64_t)(of_keys ? 1 : c->spec.G);
    int64_t h, r, i;
    int b;
    for (b = 0; b < c->spec.n && t->dtype != FIA_NONE; ++b) {
        const call_sequence *s = &c->spec.sequence[b];
        const int64_t base = of_keys ? s->key_base : s->q_base, n = is_mask ? s->kv_len : t->elements;
        for (h = 0; h < t->heads; ++h)
            for (r = 0; r < (of_keys ? s->kv_len : s->q_len); ++r)
                for (i = 0; i < n; ++i)
                    call_set(c, which, b, h, r, i,
                             call_value(c, which, s->id, (which == CALL_DROP ? 0 : first_head) + h, base + r,
                                        is_mask ? s->key_base + i : i));
    }
}

static inline void call_fill(call *c) {
    int which;
    size_t i;
    int32_t h;
    for (which = CALL_Q; which <= CALL_V; ++which) call_fill_tensor(c, which);
    for (which = CALL_BIAS; which <= CALL_DROP; ++which) call_fill_tensor(c, which);
    for (which = CALL_FACTOR; which <= CALL_SINKS; ++which)
        for (h = 0; c->tensor[which].dtype && h < c->spec.Hkv * c->spec.G; ++h)
            oracle_encode(c->tensor[which].dtype,
                          call_value(c, which, 0, c->spec.first_kv_head * (int64_t)c->spec.G + h, 0, 0),
                          c->tensor[which].base[0], h);
    for (which = CALL_QUERY_SCALE; which <= CALL_OUT_OFFSET; ++which) {
        const call_tensor *t = &c->tensor[which];
        for (i = 0; i < t->bytes[0] / call_size(t->dtype); ++i)
            oracle_encode(t->dtype, call_value(c, which, 0, 0, 0, (int64_t)i), t->base[0], (int64_t)i);
    }
}

/* ---- problem and io ---- */

static inline void call_make_sizes(call *c) {
    fia_problem *p = &c->problem;
    int64_t all_q = 0, all_kv = 0;
    int b;
    for (b = 0; b < c->spec.n; ++b) {
        const call_sequence *s = &c->spec.sequence[b];
        c->most_q = s->q_len > c->most_q ? s->q_len : c->most_q;
        c->most_kv = s->kv_len > c->most_kv ? s->kv_len : c->most_kv;
        all_q += s->q_len;
        all_kv += s->kv_len;
    }
    p->n_sequences = c->spec.n + c->form.spare_sequences;
    p->max_q_len = c->most_q + c->form.spare_q;
    p->max_kv_len = c->most_kv + (call_is_paged(c) || c->form.keys == CALL_LIST ? 0 : c->form.spare_kv);
    p->total_q = all_q + c->form.spare_q;
    p->total_kv = all_kv + c->form.spare_kv;
    p->q_packed = c->form.q_packed;
    p->kv_packed = c->form.kv_packed;
    p->n_q_heads = c->spec.Hkv * c->spec.G;
    p->n_kv_heads = c->spec.Hkv;
    p->dim = c->spec.D;
    p->rope_dim = c->spec.Dr;
    p->value_dim = c->spec.Dv;
    p->value_in_key = c->spec.value_in_key;
}

static inline void call_make_modifiers(call *c) {
    const call_spec *s = &c->spec;
    fia_problem *p = &c->problem;
    p->scale = s->scale;
    p->softcap = s->softcap;
    p->causal = s->causal;
    p->window_left = s->window_left;
    p->window_right = s->window_right;
    p->bias_before_scale = s->bias_before_scale;
    p->pin_family = s->pin_family;
    p->pin_chunk = s->pin_chunk;
    p->exact = s->exact;
    p->want_lse = !s->no_lse;
    p->lse_empty = s->lse_empty;
    c->io.bias = call_make_mask(c, CALL_BIAS, s->bias, &p->bias);
    c->io.additive_mask = call_make_mask(c, CALL_ADDITIVE, s->additive, &p->additive_mask);
    c->io.drop_mask = call_make_mask(c, CALL_DROP, s->drop, &p->drop_mask);
    c->io.mask_factor = call_make_heads(c, CALL_FACTOR, p->mask_factor = s->factor);
    c->io.alibi_slopes = call_make_heads(c, CALL_SLOPES, p->alibi_slopes = s->slopes);
    c->io.sinks = call_make_heads(c, CALL_SINKS, p->sinks = s->sinks);
}

static inline void call_make_scales(call *c) {
    fia_problem *p = &c->problem;
    fia_io *io = &c->io;
    io->query_scale = call_make_scale(c, CALL_QUERY_SCALE, CALL_Q, &p->query_scale);
    io->key_scale = call_make_scale(c, CALL_KEY_SCALE, CALL_K, &p->key_scale);
    io->key_offset = call_make_scale(c, CALL_KEY_OFFSET, CALL_K, &p->key_offset);
    io->value_scale = call_make_scale(c, CALL_VALUE_SCALE, CALL_V, &p->value_scale);
    io->value_offset = call_make_scale(c, CALL_VALUE_OFFSET, CALL_V, &p->value_offset);
    io->out_scale = call_make_scale(c, CALL_OUT_SCALE, CALL_OUT, &p->out_scale);
    io->out_offset = call_make_scale(c, CALL_OUT_OFFSET, CALL_OUT, &p->out_offset);
}

/** Rows and head strides of lists, by sequence. */
static inline void call_make_list_ints(call *c) {
    static const int kind[3] = {CALL_K, CALL_K_ROPE, CALL_V};
    fia_ints *const strides[3] = {&c->io.key_head_strides, &c->io.key_rope_head_strides, &c->io.value_head_strides};
    int64_t values[CALL_SEQUENCES];
    int k, b;
    for (b = 0; b < c->spec.n; ++b) values[b] = c->spec.sequence[b].kv_len;
    c->io.kv_rows = call_make_ints(c, values, c->spec.n);
    for (k = 0; k < 3; ++k) {
        const call_tensor *t = &c->tensor[kind[k]];
        if (t->dtype == FIA_NONE) continue;
        for (b = 0; b < c->spec.n; ++b) values[b] = t->list_head_bytes[b] / (ptrdiff_t)call_size(t->dtype);
        *strides[k] = call_make_ints(c, values, c->spec.n);
    }
}

static inline void call_make_key_form(call *c) {
    fia_problem *p = &c->problem;
    fia_io *io = &c->io;
    int k;
    p->keys = c->form.keys == CALL_LIST ? FIA_KEYS_LIST : call_is_paged(c) ? FIA_KEYS_PAGED : FIA_KEYS_STRIDED;
    if (call_is_paged(c)) {
        p->page_size = c->form.page_size;
        p->n_pages = c->n_pages;
        p->table_columns = c->columns;
    }
    if (c->form.keys != CALL_LIST) {
        io->key = c->tensor[CALL_K].base[0];
        io->key_rope = c->spec.Dr ? c->tensor[CALL_K_ROPE].base[0] : NULL;
        io->value = c->spec.value_in_key ? NULL : c->tensor[CALL_V].base[0];
        return;
    }
    for (k = 0; k < 3; ++k) {
        const void **list = NULL;
        if (c->list[k][0]) list = (const void **)(void *)call_room(c, (size_t)c->spec.n * sizeof *list, sizeof *list);
        if (list) memcpy(list, c->list[k], (size_t)c->spec.n * sizeof *list);
        *(k == 0 ? &io->key_list : k == 1 ? &io->key_rope_list : &io->value_list) = list;
    }
    if (c->form.own_strides) call_make_list_ints(c);
}

static inline void call_make(call *c, const call_spec *spec, const call_form *form) {
    fia_problem *p = &c->problem;
    memset(c, 0, sizeof *c);
    c->spec = *spec;
    c->form = *form;
    fia_problem_init(p);
    fia_io_init(&c->io);
    c->io.n_sequences = spec->n;
    call_make_sizes(c);
    call_make_lengths(c);
    if (call_is_paged(c)) call_make_table(c);
    call_make_rows(c, CALL_Q, spec->q, spec->D);
    call_make_rows(c, CALL_OUT, spec->out, spec->Dv);
    if (!spec->no_lse) call_make_rows(c, CALL_LSE, FIA_F32, 1);
    call_make_keys(c, CALL_K, 0, spec->k, spec->D);
    if (!spec->value_in_key) call_make_keys(c, CALL_V, 2, spec->v, spec->Dv);
    if (spec->Dr) {
        call_make_rows(c, CALL_Q_ROPE, spec->q, spec->Dr);
        call_make_keys(c, CALL_K_ROPE, 1, spec->k, spec->Dr);
        call_view(c, CALL_Q_ROPE, &p->query_rope);
        call_view(c, CALL_K_ROPE, &p->key_rope);
        c->io.query_rope = c->tensor[CALL_Q_ROPE].base[0];
    }
    call_view(c, CALL_Q, &p->query);
    call_view(c, CALL_K, &p->key);
    if (!spec->value_in_key) call_view(c, CALL_V, &p->value);
    call_view(c, CALL_OUT, &p->out);
    p->lse_sequence_bytes = c->tensor[CALL_LSE].outer_bytes;
    p->lse_head_bytes = c->tensor[CALL_LSE].head_bytes;
    p->lse_row_bytes = c->tensor[CALL_LSE].row_bytes;
    call_make_modifiers(c);
    call_make_scales(c);
    call_make_key_form(c);
    if (!form->no_fill) call_fill(c);
    c->io.query = c->tensor[CALL_Q].base[0];
    c->io.out = c->tensor[CALL_OUT].base[0];
    c->io.lse = spec->no_lse ? NULL : (float *)(void *)c->tensor[CALL_LSE].base[0];
}

/** Rows of out and lse, for fia_merge. */
static inline fia_merge_shape call_merge_shape(const call *c) {
    const call_tensor *o = &c->tensor[CALL_OUT], *l = &c->tensor[CALL_LSE];
    fia_merge_shape shape;
    fia_merge_shape_init(&shape);
    shape.sequences = o->outer;
    shape.heads = o->heads;
    shape.rows = o->rows;
    shape.dim = o->elements;
    shape.sequence_bytes = o->outer_bytes;
    shape.head_bytes = o->head_bytes;
    shape.row_bytes = o->row_bytes;
    shape.lse_sequence_bytes = l->outer_bytes;
    shape.lse_head_bytes = l->head_bytes;
    shape.lse_row_bytes = l->row_bytes;
    return shape;
}

/* ---- runs ---- */

enum { CALL_SERIAL, CALL_SHUFFLED, CALL_PHASES, CALL_THREADS, CALL_ITH, CALL_MODES };

typedef struct call_how {
    int mode, max_workers, n; /* n tasks or threads; 0: max_workers, 0: 1 */
    uint64_t seed;            /* of orders and pieces */
    unsigned char fill;       /* of the workspace */
    int shift;                /* bytes between a 64-byte border and the workspace */
} call_how;

static inline void call_shuffle(int64_t *order, int64_t n, uint64_t seed) {
    int64_t i;
    for (i = 0; i < n; ++i) order[i] = i;
    for (i = n - 1; i > 0; --i) {
        const int64_t other = (int64_t)(call_mix(seed + (uint64_t)i) % (uint64_t)(i + 1)), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
}

/** parallel_for, one task after another in the order of the seed that pool points to. */
static inline void call_one_by_one(void *pool, int n, fia_task task, void *data) {
    int64_t order[4096];
    int i;
    call_shuffle(order, n, *(const uint64_t *)pool);
    for (i = 0; i < n; ++i) task(data, (int)order[i]);
}

typedef struct call_thread {
    fia_task task;
    void *data;
    int index;
} call_thread;

static inline void *call_thread_main(void *data) {
    const call_thread *t = (const call_thread *)data;
    t->task(t->data, t->index);
    return NULL;
}

static inline void call_on_threads(void *pool, int n, fia_task task, void *data) {
    pthread_t threads[32];
    call_thread tasks[32];
    int i;
    (void)pool;
    for (i = 0; i < n; ++i) {
        tasks[i].task = task;
        tasks[i].data = data;
        tasks[i].index = i;
        if (pthread_create(&threads[i], NULL, call_thread_main, &tasks[i]) != 0) abort();
    }
    for (i = 0; i < n; ++i) pthread_join(threads[i], NULL);
}

typedef struct call_ith {
    const fia_job *job;
    int nth;
    pthread_barrier_t barrier;
    fia_status status[32];
    fia_report report;
} call_ith;

static inline void call_wait(void *barrier) { pthread_barrier_wait((pthread_barrier_t *)barrier); }

static inline void call_ith_task(void *data, int index) {
    call_ith *run = (call_ith *)data;
    run->status[index] = fia_run_ith(run->job, index, run->nth, call_wait, &run->barrier, index ? NULL : &run->report);
}

static inline fia_status call_run_ith(const fia_job *job, int n, fia_report *report) {
    call_ith run;
    int i;
    run.job = job;
    run.nth = n;
    pthread_barrier_init(&run.barrier, NULL, (unsigned)n);
    call_on_threads(NULL, n, call_ith_task, &run);
    pthread_barrier_destroy(&run.barrier);
    *report = run.report;
    for (i = 0; i < n; ++i)
        if (run.status[i] != run.report.status) return FIA_ERR_BACKEND;
    return run.report.status;
}

/** Items of each phase one by one, shuffled, each with some worker. */
static inline fia_status call_run_phases(const fia_job *job, int workers, uint64_t seed, fia_report *report) {
    fia_status status = fia_phase_run(job, FIA_PHASE_CHECK, 0, 1, workers - 1);
    int phase;
    for (phase = FIA_PHASE_ATTEND; phase < FIA_PHASES && status == FIA_OK; ++phase) {
        const int64_t n = fia_phase_items(job, phase);
        int64_t *order = (int64_t *)malloc(((size_t)n + 1) * sizeof *order), i;
        call_shuffle(order, n, seed + (uint64_t)phase);
        for (i = 0; i < n && status == FIA_OK; ++i)
            status = fia_phase_run(job, phase, order[i], order[i] + 1,
                                   (int)(call_mix(seed ^ (uint64_t)i) % (uint64_t)workers));
        free(order);
    }
    fia_job_report(job, report);
    return status;
}

/** Plan, workspace of its very size, run. */
static inline fia_status call_try(call *c, const call_how *how, fia_report *report) {
    const int most = how->max_workers ? how->max_workers : 1, n = how->n ? how->n : most;
    const int first = c->n_memory, shift = c->form.shift;
    fia_workers workers;
    uint64_t seed = how->seed;
    fia_plan plan;
    fia_job job;
    fia_status status = fia_plan_make(NULL, &c->problem, most, &plan, report);
    if (status != FIA_OK) return status;
    c->form.shift = how->shift;
    job.workspace = call_room(c, plan.workspace_bytes, 1);
    c->form.shift = shift;
    memset(job.workspace, how->fill, plan.workspace_bytes);
    job.workspace_bytes = plan.workspace_bytes;
    job.plan = &plan;
    job.io = &c->io;
    workers.n = n;
    workers.pool = &seed;
    workers.parallel_for = how->mode == CALL_THREADS ? call_on_threads : call_one_by_one;
    if (how->mode == CALL_PHASES) status = call_run_phases(&job, most, how->seed, report);
    else if (how->mode == CALL_ITH) status = call_run_ith(&job, n, report);
    else status = fia_run(&job, how->mode == CALL_SERIAL ? NULL : &workers, report);
    fia_explain(&plan, &job, c->explained, sizeof c->explained);
    fia_plan_release(&plan);
    if (c->mapping[first]) munmap(c->mapping[first], c->memory_bytes[first]);
    else free(c->memory[first]);
    c->mapping[first] = NULL;
    c->n_memory = first;
    return status;
}

static inline void call_run(call *c, const call_how *how) {
    fia_report report = {FIA_OK, ""};
    if (c->tensor[CALL_OUT].bytes[0]) memset(c->tensor[CALL_OUT].base[0], c->form.fill, c->tensor[CALL_OUT].bytes[0]);
    if (c->tensor[CALL_LSE].bytes[0]) memset(c->tensor[CALL_LSE].base[0], c->form.fill, c->tensor[CALL_LSE].bytes[0]);
    if (call_try(c, how, &report) != FIA_OK) fail_msg("refused: %s", report.text);
}

static inline void call_run_serial(call *c) {
    const call_how how = {CALL_SERIAL, 1, 1, 0, 0, 0};
    call_run(c, &how);
}

/* ---- results ---- */

/** Rows and heads of a sequence; call_whole for all. */
typedef struct call_part {
    int64_t first_head, heads, first_row, rows;
} call_part;

static inline call_part call_whole(const call *c, int b) {
    call_part part = {0, 0, 0, 0};
    part.heads = c->spec.Hkv * c->spec.G;
    part.rows = c->spec.sequence[b].q_len;
    return part;
}

/** The bits of a part: for each head and row the output row and its LSE. */
static inline unsigned char *call_take(const call *c, int b, call_part part, size_t *bytes) {
    const size_t row = (size_t)c->spec.Dv * call_size(c->spec.out), lse = c->spec.no_lse ? 0 : 4;
    unsigned char *bits = (unsigned char *)calloc((size_t)(part.heads * part.rows) * (row + lse) + 1, 1), *at = bits;
    int64_t h, r;
    assert_non_null(bits);
    for (h = part.first_head; h < part.first_head + part.heads; ++h)
        for (r = part.first_row; r < part.first_row + part.rows; ++r, at += row + lse) {
            memcpy(at, call_at(c, CALL_OUT, b, h, r), row);
            if (lse) memcpy(at + row, call_at(c, CALL_LSE, b, h, r), lse);
        }
    *bytes = (size_t)(at - bits);
    return bits;
}

/** 1 if a part of sequence b of c has the bits that are wanted; prints the first difference. */
static inline int call_same(const call *c, int b, call_part part, const unsigned char *want, size_t want_bytes,
                            const char *what) {
    const size_t row = (size_t)c->spec.Dv * call_size(c->spec.out) + (c->spec.no_lse ? 0 : 4);
    size_t bytes, i;
    unsigned char *got = call_take(c, b, part, &bytes);
    int same = bytes == want_bytes && memcmp(got, want, bytes) == 0;
    for (i = 0; !same && i < bytes && i < want_bytes; ++i) {
        if (got[i] == want[i]) continue;
        print_error("%s: sequence %d, head %ld, row %ld, byte %lu of %lu: %02x, wanted %02x\n%s", what, b,
                    (long)((int64_t)(i / row) / part.rows + part.first_head),
                    (long)((int64_t)(i / row) % part.rows + part.first_row), (unsigned long)(i % row),
                    (unsigned long)row, got[i], want[i], c->explained);
        break;
    }
    if (bytes != want_bytes)
        print_error("%s: %lu bytes, wanted %lu\n", what, (unsigned long)bytes, (unsigned long)want_bytes);
    free(got);
    return same;
}

/** main of a test program: FILTER picks tests by name, SEED changes the content. */
#define CALL_MAIN(tests)                                                                                               \
    int main(void) {                                                                                                   \
        if (getenv("FILTER")) cmocka_set_test_filter(getenv("FILTER"));                                                \
        printf("SEED=%llu\n", (unsigned long long)call_seed());                                                        \
        return cmocka_run_group_tests(tests, NULL, NULL);                                                              \
    }

#endif
