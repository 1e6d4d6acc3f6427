/* SPDX-License-Identifier: MIT
 *
 * Problem, io and buffers of a drawn case. Every buffer ends with its last element; what no row may read is NaN, and
 * forbidden to AddressSanitizer where that is linked.
 */
#include "case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

#if defined(__GNUC__)
extern void __asan_poison_memory_region(void const volatile *at, size_t bytes) __attribute__((weak));
extern void __asan_unpoison_memory_region(void const volatile *at, size_t bytes) __attribute__((weak));
static void forbid(const void *at, size_t bytes) {
    if (__asan_poison_memory_region) __asan_poison_memory_region(at, bytes);
}
static void allow(const void *at, size_t bytes) {
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(at, bytes);
}
#else
static void forbid(const void *at, size_t bytes) {
    (void)at;
    (void)bytes;
}
#define allow forbid
#endif

/* ThreadSanitizer pays for every fresh page several times over: there, cases share one block that is used again. */
static struct {
    char *memory;
    size_t room, used;
} arena;

static void *from_arena(size_t bytes) {
    char *at;
    if (!arena.memory) {
        arena.room = (size_t)1 << 31; /* pages that are never touched cost nothing */
        arena.memory = (char *)malloc(arena.room);
    }
    if (!arena.memory || bytes + 128 > arena.room - arena.used) return NULL;
    at = arena.memory + arena.used;
    arena.used += (bytes + 127) / 64 * 64;
    return at;
}

/* In the arena word by word, volatile: memset would tell the sanitizer of every byte. */
static void fill_memory(const test_case *c, char *at, size_t bytes, unsigned char value) {
    volatile uint64_t *word = (volatile uint64_t *)at;
    size_t i;
    if (!c->in_arena) {
        memset(at, value, bytes);
        return;
    }
    for (i = 0; i < bytes / 8 + 1; ++i) word[i] = value * (UINT64_MAX / 255);
}

static char *own(test_case *c, size_t bytes) {
    void *memory = c->in_arena ? from_arena(bytes) : malloc(bytes ? bytes : 1);
    if (!memory || c->n_owned == CASE_MAX_MEMORY) {
        fprintf(stderr, "a case has no room for %lu bytes\n", (unsigned long)bytes);
        abort();
    }
    c->owned[c->n_owned] = memory;
    c->owned_bytes[c->n_owned++] = bytes;
    return (char *)memory;
}

void *case_memory(test_case *c, size_t bytes) {
    char *memory = own(c, bytes);
    fill_memory(c, memory, bytes, 0xff);
    return memory;
}

void *case_workspace(test_case *c, size_t bytes) {
    const size_t end = bytes < (size_t)1 << 20 ? bytes : (size_t)1 << 20;
    const unsigned char value = case_chance(&c->random, 50) ? 0xff : 0x3c;
    const size_t shift = (size_t)case_between(&c->random, 0, 63);
    char *memory = own(c, bytes + shift);
    fill_memory(c, memory, end, value);
    if (end < bytes) fill_memory(c, memory + bytes / 64 * 64 - end, end, value);
    return memory + shift;
}

void case_free(test_case *c) {
    while (c->n_owned) {
        --c->n_owned;
        allow(c->owned[c->n_owned], c->owned_bytes[c->n_owned]);
        if (!c->in_arena) free(c->owned[c->n_owned]);
    }
    if (c->in_arena) arena.used = 0;
}

static int bits_of(fia_dtype dtype) {
    return dtype == FIA_F32 ? 32 : dtype == FIA_F16 || dtype == FIA_BF16 ? 16 : dtype == FIA_I4 ? 4 : 8;
}

/* ---- tensors ---- */

/* Axes from outside in, for the six orders of (outer, heads, rows). */
static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

static size_t row_bytes_of(const case_tensor *t) { return (size_t)t->elements * (size_t)bits_of(t->view.dtype) / 8; }

static ptrdiff_t gap(test_case *c, const case_tensor *t) {
    int bytes = bits_of(t->view.dtype) / 8;
    return c->draw.gaps && case_chance(&c->random, 50) ? case_between(&c->random, 1, 5) * (bytes ? bytes : 1) : 0;
}

/* Memory for part `part` of a tensor: `bytes` up to its last element, `shift` to row 0, at some alignment. */
static void place(test_case *c, case_tensor *t, int part, size_t bytes, ptrdiff_t shift) {
    size_t unit = bits_of(t->view.dtype) == 32 ? 4 : bits_of(t->view.dtype) == 16 ? 2 : 1;
    size_t before = case_chance(&c->random, 50) ? unit * (size_t)case_between(&c->random, 0, 40) : 0;
    t->memory[part] = (char *)case_memory(c, bytes + before) + before;
    t->base[part] = t->memory[part] + shift;
    t->bytes[part] = bytes;
}

/* Strides of a tensor whose rows are one piece, and its memory. */
static void lay_out(test_case *c, case_tensor *t, int order, int may_broadcast) {
    int64_t extent[3];
    ptrdiff_t stride[3], unit = (ptrdiff_t)row_bytes_of(t) + gap(c, t), shift = 0;
    size_t bytes = row_bytes_of(t);
    int i;
    extent[0] = t->outer;
    extent[1] = t->heads;
    extent[2] = t->rows;
    for (i = 2; i >= 0; --i) {
        int axis = orders[order][i], zero = may_broadcast && c->draw.broadcast && case_chance(&c->random, 40);
        stride[axis] = zero ? 0 : unit;
        t->broadcast |= zero;
        if (!zero && extent[axis] > 0) {
            bytes += (size_t)(extent[axis] - 1) * (size_t)unit;
            if (c->draw.negative && case_chance(&c->random, 50)) {
                shift += (extent[axis] - 1) * unit;
                stride[axis] = -unit;
            }
            unit = extent[axis] * unit + gap(c, t);
        }
    }
    if (extent[0] <= 0 || extent[1] <= 0 || extent[2] <= 0) bytes = 0, shift = 0;
    t->view.sequence_bytes = stride[0];
    t->view.head_bytes = stride[1];
    t->view.row_bytes = stride[2];
    t->parts = 1;
    place(c, t, 0, bytes, shift);
}

/* Pages (page, head, piece, slot, elements of a piece). */
static void lay_out_nz(test_case *c, case_tensor *t) {
    int bytes = bits_of(t->view.dtype) / 8, piece = bytes == 1 ? 32 : 16;
    t->view.piece_elements = piece;
    t->view.row_bytes = piece * bytes;
    t->view.piece_bytes = t->rows * t->view.row_bytes;
    t->view.head_bytes = t->elements / piece * t->view.piece_bytes;
    t->view.sequence_bytes = t->heads * t->view.head_bytes + (c->draw.gaps ? 16 * bytes : 0);
    t->parts = 1;
    place(c, t, 0, t->outer > 0 ? (size_t)((t->outer - 1) * t->view.sequence_bytes + t->heads * t->view.head_bytes) : 0,
          0);
}

/* A pointer per sequence; heads may lie at another distance in each. rows[b] are there. */
static void lay_out_list(test_case *c, case_tensor *t, const int64_t *rows) {
    int token_major = case_chance(&c->random, 50), b;
    ptrdiff_t row = (ptrdiff_t)row_bytes_of(t), unit = bits_of(t->view.dtype) / 8;
    t->view.row_bytes = token_major ? t->heads * row : row;
    t->view.head_bytes = token_major ? row : t->rows * row;
    t->parts = (int)c->draw.B;
    for (b = 0; b < t->parts; ++b) {
        t->head_bytes[b] = t->view.head_bytes;
        if (c->draw.list_strides && !token_major) t->head_bytes[b] = rows[b] * row + b % 3 * unit;
        place(c, t, b,
              rows[b] ? (size_t)((t->heads - 1) * t->head_bytes[b] + (rows[b] - 1) * t->view.row_bytes + row) : 0, 0);
    }
}

/* Address of a row; outer is a sequence or a page. */
static char *row_at(const case_tensor *t, int list, int64_t outer, int64_t head, int64_t row) {
    if (list) return t->base[outer] + head * t->head_bytes[outer] + row * t->view.row_bytes;
    return t->base[0] + outer * t->view.sequence_bytes + head * t->view.head_bytes + row * t->view.row_bytes;
}

static char *element_at(const case_tensor *t, char *row, int64_t i, int64_t *index) {
    *index = i;
    if (!t->view.piece_elements) return row;
    *index = i % t->view.piece_elements;
    return row + i / t->view.piece_elements * t->view.piece_bytes;
}

static int32_t *table_row(const test_case *c, int64_t b) {
    const fia_problem *p = &c->problem;
    return c->block_table + b * (p->table_bytes ? p->table_bytes / 4 : p->table_columns);
}

/* Address of key j of sequence b. */
static char *key_row(const test_case *c, const case_tensor *t, int64_t b, int64_t head, int64_t j) {
    const case_draw *d = &c->draw;
    int64_t start = 0, i;
    if (d->keys >= CASE_KEYS_BNBSH) {
        return row_at(t, 0, table_row(c, b)[j / d->page_size], head, j % d->page_size);
    }
    if (d->keys == CASE_KEYS_PACKED) {
        for (i = 0; i < b; ++i) start += d->kv_len[i];
        b = 0;
    }
    return row_at(t, d->keys == CASE_KEYS_LIST, b, head, start + j);
}

/* ---- lengths and offsets ---- */

static void make_ints(test_case *c, fia_ints *ints, const int64_t *values, int64_t n, fia_dtype dtype, int one) {
    int bytes = dtype == FIA_I32 ? 4 : 8, stride = c->draw.wide_ints ? 3 * bytes : bytes;
    int64_t i;
    if (one) n = n ? 1 : 0;
    ints->dtype = dtype;
    ints->broadcast = one;
    ints->stride_bytes = stride == bytes && case_between(&c->random, 0, 1) ? 0 : stride;
    ints->data = case_memory(c, n ? (size_t)((n - 1) * stride + bytes) : 0);
    for (i = 0; i < n; ++i) oracle_encode(dtype, (double)values[i], (char *)ints->data + i * stride, 0);
}

static int equal(const int64_t *values, int64_t n) {
    int64_t i;
    for (i = 1; i < n; ++i) {
        if (values[i] != values[0]) return 0;
    }
    return 1;
}

static void make_lengths(test_case *c, fia_ints *ints, const int64_t *lens, int form, fia_dtype dtype) {
    int64_t sums[CASE_MAX_SEQUENCES + 1], b, n = c->draw.B;
    if (form == CASE_LENGTHS_ABSENT) return;
    if (form == FIA_LENGTHS_EACH) {
        make_ints(c, ints, lens, n, dtype, n > 0 && equal(lens, n) && case_chance(&c->random, 50));
        return;
    }
    sums[0] = 0;
    for (b = 0; b < n; ++b) sums[b + 1] = sums[b] + lens[b];
    if (form == FIA_LENGTHS_ENDS) make_ints(c, ints, sums + 1, n, dtype, 0);
    else make_ints(c, ints, sums, n + 1, dtype, 0);
}

static void make_offset(test_case *c, fia_ints *ints, const int64_t *values) {
    int one = c->draw.B > 0 && equal(values, c->draw.B) && case_chance(&c->random, 50);
    make_ints(c, ints, values, c->draw.B, c->draw.offset_ints, one);
}

static int64_t total(const int64_t *lens, int64_t n, int64_t spare) {
    int64_t sum = spare, i;
    for (i = 0; i < n; ++i) sum += lens[i];
    return sum;
}

/* All of the problem and io but tensors and masks. */
static void make_problem(test_case *c) {
    const case_draw *d = &c->draw;
    fia_problem *p = &c->problem;
    fia_io *io = &c->io;
    fia_problem_init(p);
    fia_io_init(io);
    p->n_sequences = d->room_B;
    p->max_q_len = d->room_q;
    p->max_kv_len = d->room_kv;
    p->n_q_heads = d->Hkv * d->G;
    p->n_kv_heads = d->Hkv;
    p->dim = d->D;
    p->rope_dim = d->Dr;
    p->value_dim = d->Dv;
    p->value_in_key = d->value_in_key;
    p->q_packed = d->q_packed;
    p->kv_packed = d->keys == CASE_KEYS_PACKED;
    if (p->q_packed) p->total_q = total(d->q_len, d->B, d->spare_q);
    if (p->kv_packed) p->total_kv = total(d->kv_len, d->B, d->spare_kv);
    if (d->q_lengths != CASE_LENGTHS_ABSENT) p->q_lengths = d->q_lengths;
    if (d->kv_lengths != CASE_LENGTHS_ABSENT) p->kv_lengths = d->kv_lengths;
    p->keys = d->keys >= CASE_KEYS_BNBSH  ? FIA_KEYS_PAGED
              : d->keys == CASE_KEYS_LIST ? FIA_KEYS_LIST
                                          : FIA_KEYS_STRIDED;
    p->scale = (float)d->scale;
    p->softcap = (float)d->softcap;
    p->causal = d->causal;
    p->align = d->align;
    p->window_left = d->window_left;
    p->window_right = d->window_right;
    p->want_lse = d->want_lse;
    p->lse_empty = d->lse_empty;
    p->fill_padding = d->fill_padding;
    p->exact = d->exact;
    p->pin_family = d->pin_family;
    p->pin_chunk = d->pin_chunk;
    io->n_sequences = d->B;
    make_lengths(c, &io->q_lens, d->q_len, d->q_lengths, d->q_ints);
    make_lengths(c, &io->kv_lens, d->kv_len, d->kv_lengths, d->kv_ints);
    if (d->has_q_offset) make_offset(c, &io->q_offset, d->q_offset);
    if (d->has_kv_offset) make_offset(c, &io->kv_offset, d->kv_offset);
}

static void find_live_keys(test_case *c) {
    oracle_call call = {&c->problem, &c->io, NULL};
    oracle_sequence s;
    int64_t b, j;
    for (b = 0; b < c->draw.B; ++b) {
        oracle_find_sequence(&call, b, &s);
        c->live[b] = (unsigned char *)case_memory(c, (size_t)s.kv_len);
        for (j = 0; j < s.kv_len; ++j) c->live[b][j] = (unsigned char)oracle_any_row_in_bounds(&call, &s, j);
    }
}

/* ---- pages ---- */

static int page_is_live(const test_case *c, int64_t b, int64_t column) {
    int64_t j = column * c->draw.page_size, end = j + c->draw.page_size;
    for (; j < end && j < c->draw.kv_len[b]; ++j) {
        if (c->live[b][j]) return 1;
    }
    return 0;
}

/* Entries of pages that no row sees are garbage. */
static void make_table(test_case *c) {
    static const int32_t garbage[] = {-1, INT32_MAX, INT32_MIN, -7, 1 << 20};
    case_random *random = &c->random;
    int64_t columns = (c->draw.room_kv + c->draw.page_size - 1) / c->draw.page_size + case_between(random, 0, 2);
    int64_t n = 0, b, i, apart = 3, spare = case_between(random, 1, 3), *ids;
    int32_t first = -1;
    c->problem.page_size = c->draw.page_size;
    c->problem.table_columns = columns;
    c->block_table = (int32_t *)case_memory(c, (size_t)(c->draw.B * (columns + apart)) * sizeof(int32_t));
    if (!c->hook && columns % 3 == 1) c->problem.table_bytes = (columns + apart) * (ptrdiff_t)sizeof(int32_t);
    if (!c->hook && columns % 3 == 2 && c->draw.B > 0) { /* from the last row to the first */
        c->problem.table_bytes = -columns * (ptrdiff_t)sizeof(int32_t);
        c->block_table += (c->draw.B - 1) * columns;
    }
    c->io.block_table = c->block_table;
    for (b = 0; b < c->draw.B; ++b) {
        for (i = 0; i < columns; ++i) n += page_is_live(c, b, i);
    }
    c->problem.n_pages = n + spare;
    ids = (int64_t *)case_memory(c, (size_t)(n + spare) * sizeof *ids);
    for (i = 0; i < n + spare; ++i) ids[i] = i;
    for (i = n + spare - 1; i > 0; --i) {
        int64_t other = case_between(random, 0, i), kept = ids[i];
        ids[i] = ids[other];
        ids[other] = kept;
    }
    for (b = 0; b < c->draw.B; ++b) {
        for (i = 0; i < columns; ++i) {
            int32_t *entry = table_row(c, b) + i;
            *entry = page_is_live(c, b, i) ? (int32_t)ids[--n] : garbage[case_between(random, 0, 4)];
            if (i || !page_is_live(c, b, i) || !c->draw.shared_pages) continue;
            if (first < 0) first = *entry;
            *entry = first;
        }
    }
}

/* ---- the tensors of a case ---- */

static case_tensor *shape(test_case *c, int which, fia_dtype dtype, int32_t elements, int64_t outer, int64_t heads,
                          int64_t rows) {
    case_tensor *t = &c->tensor[which];
    t->view.dtype = dtype;
    t->elements = elements;
    t->outer = outer;
    t->heads = heads;
    t->rows = rows;
    return t;
}

/* The rope of an integer K or Q is a float all the same. */
static fia_dtype rope_dtype(const test_case *c, fia_dtype partner) {
    return bits_of(partner) >= 16 ? partner : bits_of(c->draw.q) >= 16 ? c->draw.q : FIA_BF16;
}

static void make_key_tensor(test_case *c, int which, fia_dtype dtype, int32_t elements, int form, const int64_t *rows) {
    const case_draw *d = &c->draw;
    case_tensor *t;
    if (form >= CASE_KEYS_BNBSH) {
        t = shape(c, which, dtype, elements, c->problem.n_pages, d->Hkv, d->page_size);
        if (form == CASE_KEYS_NZ) lay_out_nz(c, t);
        else lay_out(c, t, form == CASE_KEYS_BNBSH ? 1 : 0, 1);
    } else if (form == CASE_KEYS_LIST) {
        t = shape(c, which, dtype, elements, d->B, d->Hkv, d->room_kv);
        lay_out_list(c, t, rows);
    } else if (form == CASE_KEYS_PACKED) {
        t = shape(c, which, dtype, elements, 1, d->Hkv, c->problem.total_kv);
        lay_out(c, t, (int)case_between(&c->random, 0, 1), 1);
    } else {
        t = shape(c, which, dtype, elements, d->B, d->Hkv, d->room_kv);
        lay_out(c, t, form == CASE_KEYS_HEAD_MAJOR ? 0 : 1, 1);
    }
}

static const void *make_list(test_case *c, int which) {
    int b;
    for (b = 0; b < c->tensor[which].parts; ++b) c->list[which][b] = c->tensor[which].base[b];
    return c->list[which];
}

static void make_head_strides(test_case *c, fia_ints *ints, int which) {
    const case_tensor *t = &c->tensor[which];
    int64_t strides[CASE_MAX_SEQUENCES];
    int b;
    for (b = 0; b < t->parts; ++b) strides[b] = t->head_bytes[b] * 8 / bits_of(t->view.dtype);
    make_ints(c, ints, strides, t->parts, c->draw.kv_ints, 0);
}

static void make_keys(test_case *c) {
    const case_draw *d = &c->draw;
    int64_t rows[CASE_MAX_SEQUENCES], b;
    int own_rows = d->keys == CASE_KEYS_LIST && case_chance(&c->random, 50);
    if (d->keys >= CASE_KEYS_BNBSH) make_table(c);
    for (b = 0; b < d->B; ++b) rows[b] = own_rows ? case_between(&c->random, d->kv_len[b], d->room_kv) : d->room_kv;
    make_key_tensor(c, CASE_K, d->k, d->D, d->keys, rows);
    if (d->Dr) make_key_tensor(c, CASE_K_ROPE, rope_dtype(c, d->k), d->Dr, d->keys, rows);
    if (!d->value_in_key) make_key_tensor(c, CASE_V, d->v, d->Dv, d->value_keys, rows);
    c->problem.key = c->tensor[CASE_K].view;
    if (d->Dr) c->problem.key_rope = c->tensor[CASE_K_ROPE].view;
    if (!d->value_in_key) c->problem.value = c->tensor[CASE_V].view;
    if (d->keys != CASE_KEYS_LIST) {
        c->io.key = c->tensor[CASE_K].base[0];
        c->io.key_rope = c->tensor[CASE_K_ROPE].base[0];
        c->io.value = c->tensor[CASE_V].base[0];
        return;
    }
    c->io.key_list = make_list(c, CASE_K);
    if (d->Dr) c->io.key_rope_list = make_list(c, CASE_K_ROPE);
    if (!d->value_in_key) c->io.value_list = make_list(c, CASE_V);
    if (own_rows) make_ints(c, &c->io.kv_rows, rows, d->B, d->kv_ints, 0);
    if (!d->list_strides) return;
    make_head_strides(c, &c->io.key_head_strides, CASE_K);
    if (d->Dr) make_head_strides(c, &c->io.key_rope_head_strides, CASE_K_ROPE);
    if (!d->value_in_key) make_head_strides(c, &c->io.value_head_strides, CASE_V);
}

static void make_rows(test_case *c) {
    const case_draw *d = &c->draw;
    fia_problem *p = &c->problem;
    int64_t outer = d->q_packed ? 1 : d->B, rows = d->q_packed ? p->total_q : d->room_q;
    int32_t heads = d->Hkv * d->G;
    lay_out(c, shape(c, CASE_Q, d->q, d->D, outer, heads, rows), d->q_order, 1);
    p->query = c->tensor[CASE_Q].view;
    c->io.query = c->tensor[CASE_Q].base[0];
    if (d->Dr) {
        lay_out(c, shape(c, CASE_Q_ROPE, rope_dtype(c, d->q), d->Dr, outer, heads, rows), d->q_order, 1);
        p->query_rope = c->tensor[CASE_Q_ROPE].view;
        c->io.query_rope = c->tensor[CASE_Q_ROPE].base[0];
    }
    outer = d->q_packed ? 1 : d->room_B; /* rows that are written must lie apart in every run of the plan */
    lay_out(c, shape(c, CASE_OUT, d->out, d->Dv, outer, heads, rows), d->out_order, 0);
    p->out = c->tensor[CASE_OUT].view;
    c->io.out = c->tensor[CASE_OUT].base[0];
    if (!d->want_lse) return;
    lay_out(c, shape(c, CASE_LSE, FIA_F32, 1, outer, heads, rows), d->lse_order, 0);
    p->lse_sequence_bytes = c->tensor[CASE_LSE].view.sequence_bytes;
    p->lse_head_bytes = c->tensor[CASE_LSE].view.head_bytes;
    p->lse_row_bytes = c->tensor[CASE_LSE].view.row_bytes;
    c->io.lse = (float *)c->tensor[CASE_LSE].base[0];
}

/* ---- data ---- */

/* Magnitude of the scale, for data of a wanted size; 1 where it is 0. */
static double scale_of(const test_case *c) {
    if (isnan(c->draw.scale)) return 1.0 / sqrt((double)(c->draw.D + c->draw.Dr));
    return c->draw.scale == 0 ? 1.0 : fabs(c->draw.scale);
}

enum { POOL = 1024 };

/* Elements that rows are filled from: converted once per tensor. */
typedef struct fill_pool {
    char raw[POOL * 4];
    char edge[2][4]; /* -a, a: queries and keys of the +-80 data */
} fill_pool;

static double amplitude(const test_case *c, int which) {
    int is_value = which == CASE_V;
    if (c->draw.data == CASE_DATA_LARGE) return is_value ? 100.0 : 4.0;
    if (c->draw.data == CASE_DATA_TINY) return c->tensor[which].view.dtype == FIA_F16 ? 3e-7 : is_value ? 1e-36 : 1e-38;
    return 1.0;
}

static void make_pool(test_case *c, int which, fill_pool *pool) {
    fia_dtype dtype = c->tensor[which].view.dtype;
    double a = sqrt(78.0 / ((c->draw.D + c->draw.Dr) * scale_of(c)));
    int i;
    for (i = 0; i < POOL; ++i) {
        double x = case_normal(&c->random) * amplitude(c, which);
        if (dtype == FIA_I8) x = (double)case_between(&c->random, -128, 127);
        if (dtype == FIA_I4) x = (double)case_between(&c->random, -8, 7);
        oracle_encode(dtype, x, pool->raw, i);
    }
    if (bits_of(dtype) < 16) return;
    oracle_encode(dtype, -a, pool->edge[0], 0);
    oracle_encode(dtype, a, pool->edge[1], 0);
}

/* One row: from the pool, or +-a times `level` for the +-80 data (queries have level 1). */
static void fill_row(test_case *c, int which, const fill_pool *pool, char *row, double level, case_random *random) {
    const case_tensor *t = &c->tensor[which];
    int bytes = bits_of(t->view.dtype) / 8, is_edge = c->draw.data == CASE_DATA_EDGE && which != CASE_V && bytes >= 2;
    int64_t i, index;
    for (i = 0; i < t->elements; ++i) {
        char *at = element_at(t, row, i, &index);
        if (bytes == 0) {
            oracle_encode(FIA_I4, oracle_decode(FIA_I4, pool->raw, (int64_t)(case_next(random) % POOL)), at, index);
        } else if (is_edge) {
            const char *edge = pool->edge[case_mix((uint64_t)(i + 1)) & 1];
            if (level == 1.0) memcpy(at + index * bytes, edge, (size_t)bytes);
            else oracle_encode(t->view.dtype, oracle_decode(t->view.dtype, edge, 0) * level, at, index);
        } else if (level != 1.0) {
            double x = oracle_decode(t->view.dtype, pool->raw, (int64_t)(case_next(random) % POOL));
            oracle_encode(t->view.dtype, x * level, at, index);
        } else {
            memcpy(at + index * bytes, pool->raw + case_next(random) % POOL * (uint64_t)bytes, (size_t)bytes);
        }
    }
}

static double key_level(test_case *c, int which) {
    case_random *random = &c->random;
    if (which == CASE_V || bits_of(c->tensor[which].view.dtype) < 16) return 1.0;
    if (c->draw.data == CASE_DATA_PEAKED) return case_chance(random, 6) ? 9.0 : 1.0;
    if (c->draw.data == CASE_DATA_EDGE) return case_chance(random, 40) ? 1.0 : 2 * case_uniform(random) - 1;
    return 1.0;
}

static void fill_keys(test_case *c, int which) {
    const case_draw *d = &c->draw;
    const case_tensor *t = &c->tensor[which];
    fill_pool pool;
    int64_t b, h, j;
    if (!t->parts) return;
    make_pool(c, which, &pool);
    for (b = 0; b < d->B; ++b) {
        for (h = 0; h < d->Hkv; ++h) {
            for (j = 0; j < d->kv_len[b]; ++j) {
                case_random own;
                own.state = case_mix(c->seed + (uint64_t)h + 77);
                if (!c->live[b][j]) continue;
                fill_row(c, which, &pool, key_row(c, t, b, h, j), key_level(c, which),
                         d->data == CASE_DATA_EQUAL && which != CASE_V ? &own : &c->random);
            }
        }
    }
}

static void fill_queries(test_case *c, int which) {
    const case_draw *d = &c->draw;
    const case_tensor *t = &c->tensor[which];
    fill_pool pool;
    int64_t b, h, r, start = 0;
    if (!t->parts) return;
    make_pool(c, which, &pool);
    for (b = 0; b < d->B; ++b) {
        for (h = 0; h < t->heads; ++h) {
            for (r = 0; r < d->q_len[b]; ++r) {
                fill_row(c, which, &pool, row_at(t, 0, d->q_packed ? 0 : b, h, d->q_packed ? start + r : r), 1.0,
                         &c->random);
            }
        }
        start += d->q_len[b];
    }
}

/* ---- masks ---- */

static int struck(test_case *c, int style, uint64_t salt, int64_t b, int64_t h, int64_t r, int64_t j) {
    if (style == 1) return case_mix(salt + (uint64_t)(j / 40)) % 3 == 0;
    if (style == 2 && case_mix(salt + (uint64_t)(b * 131 + h * 17 + r) * 977) % 4 == 0) return 1;
    return case_chance(&c->random, style == 0 ? 25 : 10);
}

static double mask_entry(test_case *c, const case_mask *m, double size, uint64_t salt, int64_t b, int64_t h, int64_t r,
                         int64_t j) {
    int is_drop = bits_of(m->dtype) == 8;
    int hit = (is_drop || m->infinities) && struck(c, is_drop ? c->draw.drop_style : (int)(salt % 3), salt, b, h, r, j);
    if (!is_drop) return hit ? -INFINITY : case_normal(&c->random) * size;
    if (!hit) return 0;
    return m->dtype == FIA_I8 ? (case_chance(&c->random, 50) ? -128 : 3) : case_chance(&c->random, 50) ? 255 : 1;
}

/* What no row may use stays NaN (or "drop"): entries past a length, or outside causal and window. */
static void fill_mask(test_case *c, const case_mask *m, const fia_mask_view *view, char *data, double size) {
    oracle_call call = {&c->problem, &c->io, NULL};
    uint64_t salt = case_next(&c->random);
    int64_t b, h, r, j, heads = m->all_heads ? 1 : c->problem.n_q_heads;
    for (b = 0; b < c->draw.B; ++b) {
        oracle_sequence s;
        oracle_find_sequence(&call, b, &s);
        for (h = 0; h < heads; ++h) {
            for (r = 0; r < s.q_len; ++r) {
                char *row = data + b * view->sequence_bytes + h * view->head_bytes + r * view->row_bytes;
                for (j = 0; j < s.kv_len; ++j) {
                    if (!oracle_in_bounds(&call, &s, r, j)) continue;
                    oracle_encode(m->dtype, mask_entry(c, m, size, salt, b, h, r, j), row, j);
                }
            }
        }
    }
}

/* Turns an axis round; returns how far its first element is moved. */
static ptrdiff_t reverse(test_case *c, ptrdiff_t *stride, int64_t n) {
    if (!c->draw.negative || *stride == 0 || n < 1 || case_chance(&c->random, 50)) return 0;
    *stride = -*stride;
    return (n - 1) * -*stride;
}

static const void *make_mask(test_case *c, const case_mask *m, fia_mask_view *view, double size) {
    const case_draw *d = &c->draw;
    int bytes = bits_of(m->dtype) / 8;
    int64_t sequences = m->all_sequences ? 1 : d->B, heads = m->all_heads ? 1 : d->Hkv * d->G, rows;
    size_t all;
    char *data;
    if (!m->dtype) return NULL;
    view->dtype = m->dtype;
    view->keys = d->room_kv + (d->gaps ? case_between(&c->random, 0, 9) : 0);
    view->rows = m->all_rows && case_chance(&c->random, 50) ? 0 : d->room_q + (d->gaps ? 2 : 0);
    rows = m->all_rows ? 1 : view->rows;
    view->row_bytes = m->all_rows ? 0 : view->keys * bytes;
    view->head_bytes = m->all_heads ? 0 : rows * view->keys * bytes;
    view->sequence_bytes = m->all_sequences ? 0 : heads * rows * view->keys * bytes;
    all = (size_t)(sequences * heads * rows * view->keys) * (size_t)bytes;
    data = (char *)case_memory(c, all + (size_t)bytes) + bytes;
    data += reverse(c, &view->row_bytes, rows);
    data += reverse(c, &view->head_bytes, heads);
    data += reverse(c, &view->sequence_bytes, sequences);
    fill_mask(c, m, view, data, size);
    return data;
}

static const void *make_per_head(test_case *c, fia_dtype dtype, int what) {
    int32_t heads = c->problem.n_q_heads, h;
    char *data;
    if (!dtype) return NULL;
    data = (char *)case_memory(c, (size_t)heads * (size_t)bits_of(dtype) / 8);
    for (h = 0; h < heads; ++h) {
        double x = case_normal(&c->random) * 3;
        if (what == 0 && c->draw.sink_infinities && case_chance(&c->random, 50)) x = -INFINITY;
        if (what == 1) x = ldexp(1.0, -(int)case_between(&c->random, 1, 9));
        if (what == 2) x = case_chance(&c->random, 15) ? 0 : 3 * case_uniform(&c->random) - 1;
        oracle_encode(dtype, x, data, h);
    }
    return data;
}

static void make_modifiers(test_case *c) {
    const case_draw *d = &c->draw;
    fia_problem *p = &c->problem;
    p->bias_before_scale = d->bias.dtype && d->bias_before_scale;
    c->io.bias = make_mask(c, &d->bias, &p->bias, p->bias_before_scale ? 1.0 / scale_of(c) : 1.0);
    c->io.additive_mask = make_mask(c, &d->additive, &p->additive_mask, 1.0);
    c->io.drop_mask = make_mask(c, &d->drop, &p->drop_mask, 1.0);
    p->sinks = d->sinks;
    p->alibi_slopes = d->alibi;
    p->mask_factor = d->additive.dtype ? d->mask_factor : FIA_NONE;
    c->io.sinks = make_per_head(c, p->sinks, 0);
    c->io.alibi_slopes = make_per_head(c, p->alibi_slopes, 1);
    c->io.mask_factor = make_per_head(c, p->mask_factor, 2);
}

/* ---- poison ---- */

static void fill_ff(const case_tensor *t, char *row) {
    int64_t i, index;
    for (i = 0; i < t->elements; ++i) {
        char *at = element_at(t, row, i, &index);
        memset(at + index * bits_of(t->view.dtype) / 8, 0xff, (size_t)bits_of(t->view.dtype) / 8);
    }
}

/* Half of the keys that masks drop for every row become NaN. */
static void poison_dead_keys(test_case *c) {
    const case_draw *d = &c->draw;
    oracle_call call = {&c->problem, &c->io, NULL};
    int64_t b, h, j, r;
    int32_t g;
    for (b = 0; b < d->B; ++b) {
        oracle_sequence s;
        oracle_find_sequence(&call, b, &s);
        for (h = 0; h < d->Hkv; ++h) {
            for (j = 0; j < s.kv_len; ++j) {
                int kept = 0, which;
                if (!c->live[b][j]) continue;
                for (r = 0; r < s.q_len && !kept; ++r) {
                    for (g = 0; g < d->G && !kept; ++g) kept = oracle_keeps(&call, &s, (int32_t)h * d->G + g, r, j);
                }
                if (kept || case_chance(&c->random, 50)) continue;
                for (which = CASE_K; which <= CASE_V; ++which) {
                    const case_tensor *t = &c->tensor[which];
                    if (t->parts && bits_of(t->view.dtype) >= 16) fill_ff(t, key_row(c, t, b, h, j));
                }
            }
        }
    }
}

/* One NaN or infinity in a row that is in use. */
static void poison_one(test_case *c) {
    const case_draw *d = &c->draw;
    case_random *random = &c->random;
    int which = (int)case_between(random, CASE_Q, CASE_V);
    const case_tensor *t = &c->tensor[which];
    int64_t b = d->B ? case_between(random, 0, d->B - 1) : 0, j, index;
    char *row, *at;
    if (!d->B || !d->q_len[b] || !d->kv_len[b] || !t->parts || bits_of(t->view.dtype) < 16) return;
    if (which == CASE_Q || which == CASE_Q_ROPE) {
        j = case_between(random, 0, d->q_len[b] - 1) + (d->q_packed ? total(d->q_len, b, 0) : 0);
        row = row_at(t, 0, d->q_packed ? 0 : b, case_between(random, 0, t->heads - 1), j);
    } else {
        j = case_between(random, 0, d->kv_len[b] - 1);
        if (!c->live[b][j]) return;
        row = key_row(c, t, b, case_between(random, 0, d->Hkv - 1), j);
    }
    at = element_at(t, row, case_between(random, 0, t->elements - 1), &index);
    oracle_encode(t->view.dtype, which == CASE_V && case_chance(random, 40) ? INFINITY : NAN, at, index);
}

/* AddressSanitizer is told of all key rows that no query row may read. */
static void forbid_dead_memory(test_case *c) {
    const case_draw *d = &c->draw;
    int which, part;
    int64_t b, h, j, i, index;
    for (which = CASE_K; which <= CASE_V; ++which) {
        const case_tensor *t = &c->tensor[which];
        for (part = 0; part < t->parts; ++part) forbid(t->memory[part], t->bytes[part]);
        for (b = 0; t->parts && b < d->B; ++b) {
            for (h = 0; h < d->Hkv; ++h) {
                for (j = 0; j < d->kv_len[b]; ++j) {
                    int step = t->view.piece_elements ? t->view.piece_elements : t->elements;
                    char *row = c->live[b][j] ? key_row(c, t, b, h, j) : NULL;
                    for (i = 0; row && i < t->elements; i += step) {
                        allow(element_at(t, row, i, &index), ((size_t)step * (size_t)bits_of(t->view.dtype) + 7) / 8);
                    }
                }
            }
        }
    }
}

void case_make(test_case *c, uint64_t seed, const case_limits *limits, const case_hook *hook) {
    case_draw_only(c, seed, limits, hook);
    c->in_arena = limits->threads_only;
    make_problem(c);
    find_live_keys(c);
    make_keys(c);
    make_rows(c);
    fill_queries(c, CASE_Q);
    fill_queries(c, CASE_Q_ROPE);
    fill_keys(c, CASE_K);
    fill_keys(c, CASE_K_ROPE);
    fill_keys(c, CASE_V);
    make_modifiers(c);
    hook = c->hook; /* limit may have chosen another */
    if (hook) {
        c->source.key = hook->key;
        c->source.value = hook->value;
        c->source.entries = hook->entries;
        c->source.position = hook->position;
        c->source.data = c;
        if (hook->store) hook->store(c);
    }
    if (!c->draw.shared_pages && !c->tensor[CASE_K].broadcast && !c->tensor[CASE_V].broadcast &&
        !c->tensor[CASE_K_ROPE].broadcast) {
        if (c->draw.drop.dtype || c->draw.bias.infinities || c->draw.additive.infinities) poison_dead_keys(c);
    }
    if (c->draw.poison) poison_one(c);
    forbid_dead_memory(c);
}
