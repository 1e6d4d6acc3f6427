/* SPDX-License-Identifier: MIT
 *
 * Bad arguments at the door of fused_infer_attention_score_v2. Every field of valid calls is set to extremes, one at a
 * time and in random pairs; the rules below say, from the operator's documentation alone, which of these calls are
 * wrong and which are right but need what the engine lacks. Wrong ones must be refused by name and value with nothing
 * written. SEED=n changes the pairs.
 */
#include <float.h>
#include <math.h>

#include "bad.h"

typedef fia_fused_infer_attention_score_v2_args v2_args;

/* ---- valid calls ---- */

enum {
    B = 3,
    SQ = 6,
    SKV = 40,
    HQ = 4,
    HKV = 2,
    D = 16,
    DV = 8,
    DR = 8,
    PAGE = 8,
    COLUMNS = 5,
    PAGES = 20,
    PAIRS = 3000
};
enum { SLOT = 1 << 16, OUT_BYTES = 1 << 14, GUARD = 64, MAX_WORKSPACE = 1 << 22 };

typedef struct v2_call {
    const char *name;
    v2_args args;
    int64_t q_lens[4], kv_lens[4];     /* of lists and of int64 tensors */
    int32_t q_narrow[4], kv_narrow[4]; /* of int32 tensors */
    fia_tensor keys[B], values[B];     /* of lists */
    int32_t table[B * COLUMNS];
} v2_call;

static double inputs[24][SLOT / sizeof(double)]; /* zeros; every tensor has a slot of its own */
static double out_room[OUT_BYTES / sizeof(double)], lse_room[OUT_BYTES / sizeof(double)],
    workspace[MAX_WORKSPACE / sizeof(double)];
static double causal_mask[2048 * 2048 / sizeof(double)];
static v2_call call;

static const int64_t q_each[] = {6, 1, 4}, kv_each[] = {40, 17, 0}, q_ends[] = {6, 7, 11}, kv_ends[] = {40, 57, 60};

static fia_tensor tensor(void *data, fia_dtype t, int n, int64_t a, int64_t b, int64_t c, int64_t d) {
    const int64_t shape[4] = {a, b, c, d};
    return fia_tensor_make(data, t, n, shape);
}

static void begin_call(v2_call *c, const char *name, const char *layout) {
    memset(c, 0, sizeof(*c));
    c->name = name;
    fia_fused_infer_attention_score_v2_init(&c->args);
    c->args.input_layout = layout;
    c->args.num_query_heads = HQ;
    c->args.num_key_value_heads = HKV;
    c->args.softmax_scale = 0.25;
}

/* query-like (heads HQ) or key-like tensors of a layout: rows of `dim` elements. */
static fia_tensor rows_of(const char *layout, void *data, fia_dtype t, int64_t rows, int64_t heads, int64_t dim) {
    if (strncmp(layout, "BSH", 3) == 0) return tensor(data, t, 3, B, rows, heads * dim, 0);
    if (strncmp(layout, "BSND", 4) == 0) return tensor(data, t, 4, B, rows, heads, dim);
    if (strncmp(layout, "BNSD", 4) == 0) return tensor(data, t, 4, B, heads, rows, dim);
    if (strncmp(layout, "TND", 3) == 0) return tensor(data, t, 3, rows, heads, dim, 0);
    return tensor(data, t, 3, heads, rows, dim, 0); /* NTD, NSD */
}

static void set_tensors(v2_call *c, fia_dtype q, fia_dtype kv, int64_t q_rows, int64_t kv_rows) {
    const char *layout = c->args.input_layout;
    const int64_t each = kv == FIA_I32 ? 8 : 1; /* int4 */
    c->args.query = rows_of(layout, inputs[0], q, q_rows, HQ, D);
    c->args.key = rows_of(layout, inputs[1], kv, kv_rows, HKV, D / each);
    c->args.value = rows_of(layout, inputs[2], kv, kv_rows, HKV, DV / each);
}

static void set_rope(v2_call *c, fia_dtype t, int64_t q_rows, int64_t kv_rows) {
    c->args.query_rope = rows_of(c->args.input_layout, inputs[3], t, q_rows, HQ, DR);
    c->args.key_rope = rows_of(c->args.input_layout, inputs[4], t, kv_rows, HKV, DR);
}

static void set_lists(v2_call *c, const int64_t *q, const int64_t *kv) {
    memcpy(c->q_lens, q, B * sizeof(*q));
    memcpy(c->kv_lens, kv, B * sizeof(*kv));
    c->args.actual_seq_qlen.data = c->q_lens;
    c->args.actual_seq_qlen.count = B;
    c->args.actual_seq_kvlen.data = c->kv_lens;
    c->args.actual_seq_kvlen.count = B;
}

static void set_length_tensors(v2_call *c, const int64_t *q, const int64_t *kv) {
    int i;
    for (i = 0; i < B; ++i) {
        c->q_narrow[i] = (int32_t)q[i];
        c->kv_lens[i] = kv[i];
    }
    c->args.actual_seq_qlen_tensor = tensor(c->q_narrow, FIA_I32, 1, B, 0, 0, 0);
    c->args.actual_seq_kvlen_tensor = tensor(c->kv_lens, FIA_I64, 1, B, 0, 0, 0);
}

static void set_causal(v2_call *c, int64_t mode, int rank) {
    c->args.sparse_mode = mode;
    c->args.atten_mask = rank == 2 ? tensor(causal_mask, FIA_BOOL, 2, 2048, 2048, 0, 0)
                                   : tensor(causal_mask, FIA_I8, 4, 1, 1, 2048, 2048);
}

/* Outputs as the door makes them, with data. */
static void set_outputs(v2_call *c, int lse) {
    fia_report report;
    c->args.return_softmax_lse = lse;
    if (fia_fused_infer_attention_score_v2_outputs(&c->args, &report)) fail_msg("%s: %s", c->name, report.text);
    c->args.attention_out.data = (char *)out_room + GUARD;
    if (lse) c->args.softmax_lse.data = (char *)lse_room + GUARD;
}

static void make_bsh(v2_call *c) {
    begin_call(c, "BSH, mask, window", "BSH");
    set_tensors(c, FIA_F16, FIA_F16, SQ, SKV);
    set_lists(c, q_each, kv_each);
    c->args.atten_mask = tensor(inputs[5], FIA_U8, 3, B, SQ, SKV + 3, 0);
    c->args.pre_tokens = 4;
    c->args.next_tokens = 20;
    set_outputs(c, 1);
}

static void make_bsnd(v2_call *c) {
    begin_call(c, "BSND, pse", "BSND");
    set_tensors(c, FIA_F32, FIA_F32, SQ, SKV);
    c->args.pse_shift = tensor(inputs[6], FIA_F32, 4, B, HQ, SQ + 1, SKV);
    c->args.actual_seq_kvlen.data = c->kv_lens;
    c->args.actual_seq_kvlen.count = 1;
    c->kv_lens[0] = 33;
    set_outputs(c, 0);
}

static void make_bnsd(v2_call *c) {
    begin_call(c, "BNSD, mode 3, no outputs", "BNSD");
    set_tensors(c, FIA_BF16, FIA_BF16, SQ, SKV);
    set_causal(c, 3, 2);
    c->args.return_softmax_lse = 1;
}

static void make_band(v2_call *c) {
    begin_call(c, "BNSD_BSND, band", "BNSD_BSND");
    set_tensors(c, FIA_F16, FIA_F16, SQ, SKV);
    set_length_tensors(c, q_each, kv_each);
    set_causal(c, 4, 4);
    c->args.pre_tokens = 7;
    c->args.next_tokens = -1;
    set_outputs(c, 1);
}

static void make_nbsd(v2_call *c) {
    begin_call(c, "BSH_NBSD, mode 1, sink", "BSH_NBSD");
    set_tensors(c, FIA_F32, FIA_F32, SQ, SKV);
    c->args.sparse_mode = 1;
    c->args.atten_mask = tensor(inputs[5], FIA_BOOL, 4, 1, 1, SQ, SKV);
    c->args.learnable_sink = tensor(inputs[7], FIA_BF16, 1, HQ, 0, 0, 0);
    c->args.inner_precise = 2;
    set_outputs(c, 0);
}

static void make_tnd(v2_call *c) {
    begin_call(c, "TND, mode 3", "TND");
    set_tensors(c, FIA_F16, FIA_F16, 11, 64);
    set_lists(c, q_ends, kv_ends);
    set_causal(c, 3, 2);
    set_outputs(c, 1);
}

static void make_ntd(v2_call *c) {
    begin_call(c, "NTD_TND, length tensors, pse", "NTD_TND");
    set_tensors(c, FIA_BF16, FIA_BF16, 12, 60);
    set_length_tensors(c, q_ends, kv_ends);
    c->args.pse_shift = tensor(inputs[6], FIA_BF16, 4, 1, HQ, SQ, SKV);
    set_outputs(c, 1);
}

static void set_table(v2_call *c) {
    int b, i;
    for (b = 0; b < B; ++b)
        for (i = 0; i < COLUMNS; ++i) c->table[b * COLUMNS + i] = i * PAGE < kv_each[b] ? (b * 7 + i * 3) % PAGES : -1;
    c->args.block_table = tensor(c->table, FIA_I32, 2, B, COLUMNS, 0, 0);
    c->args.block_size = PAGE;
}

static void make_paged_tnd(v2_call *c) {
    begin_call(c, "TND, pages BnBsH, rope", "TND");
    set_tensors(c, FIA_F16, FIA_F16, 11, 0);
    set_rope(c, FIA_F16, 11, 0);
    c->args.key = tensor(inputs[1], FIA_F16, 3, PAGES, PAGE, HKV * D, 0);
    c->args.value = tensor(inputs[2], FIA_F16, 3, PAGES, PAGE, HKV * DV, 0);
    c->args.key_rope = tensor(inputs[4], FIA_F16, 3, PAGES, PAGE, HKV * DR, 0);
    set_table(c);
    set_lists(c, q_ends, kv_each);
    set_causal(c, 3, 2);
    set_outputs(c, 1);
}

static void make_paged_bnsd(v2_call *c) {
    begin_call(c, "BNSD, pages BnNBsD", "BNSD");
    set_tensors(c, FIA_F32, FIA_F32, SQ, 0);
    c->args.key = tensor(inputs[1], FIA_F32, 4, PAGES, HKV, PAGE, D);
    c->args.value = tensor(inputs[2], FIA_F32, 4, PAGES, HKV, PAGE, DV);
    set_table(c);
    set_length_tensors(c, q_each, kv_each);
    set_outputs(c, 0);
}

static fia_tensor nz_of(void *data, fia_dtype t, int64_t dim, int64_t run) {
    const int64_t shape[5] = {PAGES, HKV, dim / run, PAGE, run};
    return fia_tensor_make(data, t, 5, shape);
}

static void make_paged_nz(v2_call *c) {
    begin_call(c, "BSH, pages NZ, rope", "BSH");
    set_tensors(c, FIA_F32, FIA_F32, SQ, 0);
    set_rope(c, FIA_F32, SQ, 0);
    c->args.key = nz_of(inputs[1], FIA_F32, D, 8);
    c->args.value = nz_of(inputs[2], FIA_F32, DV, 8);
    c->args.key_rope = nz_of(inputs[4], FIA_F32, DR, 8);
    set_table(c);
    set_lists(c, q_each, kv_each);
    set_outputs(c, 1);
}

static void set_list(v2_call *c, fia_dtype t) {
    static const int64_t rows[B] = {40, 17, 5};
    int b;
    for (b = 0; b < B; ++b) {
        c->keys[b] = rows_of(c->args.input_layout, (char *)inputs[1] + b * 8192, t, rows[b], HKV, D);
        c->values[b] = rows_of(c->args.input_layout, (char *)inputs[2] + b * 8192, t, rows[b], HKV, DV);
        c->keys[b].shape[0] = c->values[b].shape[0] = 1;
    }
    memset(&c->args.key, 0, sizeof(c->args.key));
    memset(&c->args.value, 0, sizeof(c->args.value));
    c->args.key_list = c->keys;
    c->args.value_list = c->values;
    c->args.list_count = B;
}

static void make_list_bsnd(v2_call *c) {
    static const int64_t kv[] = {40, 2, 0};
    begin_call(c, "BSND, lists", "BSND");
    set_tensors(c, FIA_F16, FIA_F16, SQ, SKV);
    set_list(c, FIA_F16);
    set_lists(c, q_each, kv);
    set_outputs(c, 1);
}

static void make_list_bnsd(v2_call *c) {
    begin_call(c, "BNSD, lists, mode 2", "BNSD");
    set_tensors(c, FIA_F32, FIA_F32, SQ, SKV);
    set_list(c, FIA_F32);
    set_causal(c, 2, 4);
    set_outputs(c, 0);
}

static void make_decode(v2_call *c) {
    begin_call(c, "BSH, one row", "BSH");
    set_tensors(c, FIA_F16, FIA_F16, 1, SKV);
    c->args.atten_mask = tensor(inputs[5], FIA_BOOL, 2, B, SKV, 0, 0);
    set_lists(c, q_each, kv_each);
    set_outputs(c, 1);
}

static void make_nsd(v2_call *c) {
    begin_call(c, "NSD", "NSD");
    set_tensors(c, FIA_F32, FIA_F32, SQ, SKV);
    c->args.atten_mask = tensor(inputs[5], FIA_BOOL, 2, SQ, SKV, 0, 0);
    set_outputs(c, 1);
}

static void make_empty(v2_call *c) {
    begin_call(c, "BSND, no query row", "BSND");
    set_tensors(c, FIA_F16, FIA_F16, 0, SKV);
    set_outputs(c, 0);
}

/* ---- valid calls that the engine lacks ---- */

static void make_channels(v2_call *c) {
    begin_call(c, "int8 by channel, offsets", "BSH");
    set_tensors(c, FIA_F16, FIA_I8, SQ, SKV);
    c->args.dequant_scale_key = tensor(inputs[10], FIA_F16, 1, HKV * D, 0, 0, 0);
    c->args.dequant_offset_key = tensor(inputs[11], FIA_F16, 1, HKV * D, 0, 0, 0);
    c->args.dequant_scale_value = tensor(inputs[12], FIA_F16, 4, 1, HKV, 1, DV);
    c->args.dequant_offset_value = tensor(inputs[13], FIA_F16, 4, 1, HKV, 1, DV);
}

static void make_tokens(v2_call *c) {
    begin_call(c, "int8 by token", "BNSD");
    set_tensors(c, FIA_BF16, FIA_I8, SQ, SKV);
    c->args.key_quant_mode = c->args.value_quant_mode = 1;
    c->args.dequant_scale_key = tensor(inputs[10], FIA_F32, 3, 1, B, SKV + 2, 0);
    c->args.dequant_scale_value = tensor(inputs[12], FIA_F32, 2, B, SKV, 0, 0);
}

static void make_heads(v2_call *c) {
    begin_call(c, "int8 by head", "BSND");
    set_tensors(c, FIA_F32, FIA_I8, SQ, SKV);
    c->args.key_quant_mode = c->args.value_quant_mode = 2;
    c->args.dequant_scale_key = tensor(inputs[10], FIA_F32, 1, HKV, 0, 0, 0);
    c->args.dequant_scale_value = tensor(inputs[12], FIA_BF16, 1, HKV, 0, 0, 0);
}

static void make_token_heads(v2_call *c) {
    begin_call(c, "int8 by token and head, packed", "TND");
    set_tensors(c, FIA_F16, FIA_I8, 11, 60);
    set_lists(c, q_ends, kv_ends);
    c->args.key_quant_mode = c->args.value_quant_mode = 3;
    c->args.dequant_scale_key = tensor(inputs[10], FIA_F32, 3, B, HKV, SKV, 0);
    c->args.dequant_scale_value = tensor(inputs[12], FIA_F32, 3, B, HKV, SKV, 0);
}

static void make_paged_tokens(v2_call *c, int64_t mode) {
    begin_call(c, mode == 4 ? "int8, scales in pages" : "int8, scales in pages by head", "BNSD");
    set_tensors(c, FIA_F16, FIA_I8, SQ, 0);
    c->args.key = tensor(inputs[1], FIA_I8, 4, PAGES, HKV, PAGE, D);
    c->args.value = tensor(inputs[2], FIA_I8, 4, PAGES, HKV, PAGE, DV);
    set_table(c);
    set_lists(c, q_each, kv_each);
    c->args.key_quant_mode = c->args.value_quant_mode = mode;
    c->args.dequant_scale_key = mode == 4 ? tensor(inputs[10], FIA_F32, 2, PAGES, PAGE, 0, 0)
                                          : tensor(inputs[10], FIA_F32, 3, PAGES, HKV, PAGE, 0);
    c->args.dequant_scale_value = c->args.dequant_scale_key;
}

static void make_paged_4(v2_call *c) { make_paged_tokens(c, 4); }
static void make_paged_5(v2_call *c) { make_paged_tokens(c, 5); }

static void make_channel_token(v2_call *c) {
    begin_call(c, "int4, K by channel, V by token", "BSH");
    set_tensors(c, FIA_F16, FIA_I32, SQ, SKV);
    c->args.value_quant_mode = 1;
    c->args.dequant_scale_key = tensor(inputs[10], FIA_F16, 2, HKV, D, 0, 0);
    c->args.dequant_scale_value = tensor(inputs[12], FIA_F32, 2, B, SKV, 0, 0);
}

static void make_full_int8(v2_call *c) {
    begin_call(c, "full int8", "BSND");
    set_tensors(c, FIA_I8, FIA_I8, SQ, SKV);
    set_rope(c, FIA_BF16, SQ, SKV);
    c->args.query_quant_mode = 3;
    c->args.dequant_scale_query = tensor(inputs[9], FIA_F32, 3, B, SQ, HQ, 0);
    c->args.dequant_scale_key = tensor(inputs[10], FIA_F32, 1, 1, 0, 0, 0);
    c->args.dequant_scale_value = tensor(inputs[12], FIA_F32, 1, 1, 0, 0, 0);
}

static void make_int8_out(v2_call *c) {
    begin_call(c, "int8 out, offset, mode 3", "BSND");
    set_tensors(c, FIA_F16, FIA_F16, SQ, SKV);
    set_causal(c, 3, 2);
    c->args.out_dtype = FIA_I8;
    c->args.quant_scale_out = tensor(inputs[14], FIA_F32, 2, HQ, DV, 0, 0);
    c->args.quant_offset_out = tensor(inputs[15], FIA_F32, 2, HQ, DV, 0, 0);
}

static void make_tree(v2_call *c) {
    begin_call(c, "tree mask", "BSND");
    set_tensors(c, FIA_F16, FIA_F16, SQ, SKV);
    c->args.sparse_mode = 9;
    c->args.atten_mask = tensor(inputs[5], FIA_BOOL, 3, B, SQ, SQ, 0);
}

static void (*const makers[])(v2_call *) = {
    make_bsh,           make_bsnd,       make_bnsd,     make_band,      make_nbsd,        make_tnd,     make_ntd,
    make_paged_tnd,     make_paged_bnsd, make_paged_nz, make_list_bsnd, make_list_bnsd,   make_decode,  make_nsd,
    make_empty,         make_channels,   make_tokens,   make_heads,     make_token_heads, make_paged_4, make_paged_5,
    make_channel_token, make_full_int8,  make_int8_out, make_tree};
enum { CALLS = (int)(sizeof(makers) / sizeof(makers[0])), RUNNING = 15 }; /* the first ones run */

/* ---- tensors by name ---- */

typedef struct named {
    const char *name;
    size_t at;
} named;

#define TENSOR(f)                                                                                                      \
    { #f, offsetof(v2_args, f) }
enum {
    QUERY,
    KEY,
    VALUE,
    QUERY_ROPE,
    KEY_ROPE,
    PSE,
    MASK,
    QLENS,
    KVLENS,
    TABLE,
    SCALE_Q,
    SCALE_K,
    OFFSET_K,
    SCALE_V,
    OFFSET_V,
    SCALE_ROPE,
    SCALE_OUT,
    OFFSET_OUT,
    SCALE_P,
    SINK,
    OUT,
    LSE,
    TENSORS
};

static const named tensors[TENSORS] = {TENSOR(query),
                                       TENSOR(key),
                                       TENSOR(value),
                                       TENSOR(query_rope),
                                       TENSOR(key_rope),
                                       TENSOR(pse_shift),
                                       TENSOR(atten_mask),
                                       {"actual_seq_qlen", offsetof(v2_args, actual_seq_qlen_tensor)},
                                       {"actual_seq_kvlen", offsetof(v2_args, actual_seq_kvlen_tensor)},
                                       TENSOR(block_table),
                                       TENSOR(dequant_scale_query),
                                       TENSOR(dequant_scale_key),
                                       TENSOR(dequant_offset_key),
                                       TENSOR(dequant_scale_value),
                                       TENSOR(dequant_offset_value),
                                       TENSOR(dequant_scale_key_rope),
                                       TENSOR(quant_scale_out),
                                       TENSOR(quant_offset_out),
                                       TENSOR(quant_scale_p),
                                       TENSOR(learnable_sink),
                                       TENSOR(attention_out),
                                       TENSOR(softmax_lse)};

static const fia_tensor *of(const v2_args *a, int i) {
    return (const fia_tensor *)(const void *)((const char *)a + tensors[i].at);
}
static int has(const v2_args *a, int i) { return of(a, i)->data != NULL || of(a, i)->ndim != 0; }

/* ---- rules ---- */

/* Products and sums of what is not negative; -1: too large. */
static int64_t times(int64_t a, int64_t b) { return a < 0 || b < 0 || (b && a > INT64_MAX / b) ? -1 : a * b; }
static int64_t plus(int64_t a, int64_t b) { return a < 0 || b < 0 || a > INT64_MAX - b ? -1 : a + b; }

static int64_t type_bytes(fia_dtype t) {
    static const int bytes[] = {0, 4, 2, 2, 8, 1, 1, 1, 2, 4, 8, 8, 0, 1, 1, 1};
    return t >= 0 && t <= FIA_HIF8 ? bytes[t] : 0;
}

static int is_float(fia_dtype t) { return t == FIA_F32 || t == FIA_F16 || t == FIA_BF16; }
static int is_byte(fia_dtype t) { return t == FIA_BOOL || t == FIA_I8 || t == FIA_U8; }

static int64_t count_of(const fia_tensor *t) {
    int64_t n = 1;
    int i;
    for (i = 0; i < t->ndim; ++i) n = times(n, t->shape[i]);
    return n;
}

/* A tensor by itself: 1 to 6 axes, whole bytes, no negative extent, no more bytes than can be counted. */
static int is_sane(const fia_tensor *t) {
    int64_t all = type_bytes(t->dtype), span = all;
    int i;
    if (t->ndim < 1 || t->ndim > 6 || !all) return 0;
    for (i = 0; i < t->ndim; ++i) {
        if (t->shape[i] < 0) return 0;
        all = times(all, t->shape[i]);
        if (t->shape[i] < 2) continue;
        if (t->stride[i] == INT64_MIN) return 0;
        span = plus(span, times(times(llabs(t->stride[i]), t->shape[i] - 1), type_bytes(t->dtype)));
    }
    return all >= 0 && all <= BAD_SPAN && span >= 0 && span <= BAD_SPAN;
}

static int last_is_dense(const fia_tensor *t) { return t->shape[t->ndim - 1] < 2 || t->stride[t->ndim - 1] == 1; }

/* Axes of a layout: sequence, row, head; -1: none, heads then lie side by side in the last axis. */
typedef struct form {
    const char *name;
    int rank, sequence, row, head, packed;
} form;

static const form forms[] = {{"BSH", 3, 0, 1, -1, 0}, {"BSND", 4, 0, 1, 2, 0}, {"BNSD", 4, 0, 2, 1, 0},
                             {"TND", 3, -1, 0, 1, 1}, {"NTD", 3, -1, 1, 0, 1}, {"NSD", 3, -1, 1, 0, 0},
                             {"NBSD", 4, 1, 2, 0, 0}};
static const char *const layouts[] = {"BSH",       "BSND",     "BNSD",      "BNSD_BSND", "BSH_BNSD",
                                      "BSND_BNSD", "BSH_NBSD", "BSND_NBSD", "BNSD_NBSD", "TND",
                                      "NTD",       "TND_NTD",  "NTD_TND",   "NSD"};

static const form *form_of(const char *name, size_t n) {
    size_t i;
    for (i = 0; i < sizeof(forms) / sizeof(forms[0]); ++i)
        if (strlen(forms[i].name) == n && strncmp(forms[i].name, name, n) == 0) return &forms[i];
    return NULL;
}

/* What the rules know of a call so far. */
typedef struct call_facts {
    const v2_args *a;
    verdict *v;
    const form *in, *out;
    int64_t sequences, rows, keys, heads, kv_heads, dim, value_dim, rope_dim, pages;
    int paged, listed, empty, one_row;
} call_facts;

static void bad_tensor(call_facts *c, int broken, int i) { wrong_if(c->v, broken, tensors[i].name); }

static void attribute_rules(call_facts *c) {
    static const struct {
        const char *name;
        size_t at;
    } reserved[] = {TENSOR(query_dtype),
                    TENSOR(key_dtype),
                    TENSOR(value_dtype),
                    TENSOR(key_rope_dtype),
                    TENSOR(query_rope_dtype),
                    TENSOR(key_shared_prefix_dtype),
                    TENSOR(value_shared_prefix_dtype),
                    TENSOR(dequant_scale_query_dtype),
                    TENSOR(dequant_scale_key_dtype),
                    TENSOR(dequant_scale_value_dtype),
                    TENSOR(dequant_scale_key_rope_dtype)};
    const v2_args *a = c->a;
    verdict *v = c->v;
    const char *layout = a->input_layout;
    size_t i, known = 0;
    int t;
    wrong_if(v, !(fabs(a->softmax_scale) <= FLT_MAX), "softmax_scale");
    range_rule(v, "inner_precise", a->inner_precise, 0, 3);
    range_rule(v, "return_softmax_lse", a->return_softmax_lse, 0, 1);
    range_rule(v, "key_quant_mode", a->key_quant_mode, 0, 5);
    range_rule(v, "value_quant_mode", a->value_quant_mode, 0, 5);
    range_rule(v, "block_size", a->block_size, 0, INT64_MAX);
    range_rule(v, "num_query_heads", a->num_query_heads, 1, INT32_MAX);
    range_rule(v, "num_key_value_heads", a->num_key_value_heads, 0, INT32_MAX);
    wrong_if(v, a->query_quant_mode != 0 && a->query_quant_mode != 3, "query_quant_mode");
    wrong_if(v, (a->sparse_mode < 0 || a->sparse_mode > 4) && a->sparse_mode != 9, "sparse_mode");
    bad_tensor(c, has(a, SCALE_ROPE), SCALE_ROPE);
    bad_tensor(c, has(a, SCALE_P), SCALE_P);
    for (i = 0; i < sizeof(reserved) / sizeof(reserved[0]); ++i)
        wrong_if(v, *(const fia_dtype *)(const void *)((const char *)a + reserved[i].at) != FIA_NONE, reserved[i].name);
    for (t = 0; t < TENSORS; ++t) bad_tensor(c, has(a, t) && !is_sane(of(a, t)), t);
    for (i = 0; layout && i < sizeof(layouts) / sizeof(layouts[0]); ++i) known |= strcmp(layout, layouts[i]) == 0;
    wrong_if(v, !known, "input_layout");
    if (!known) return;
    i = strcspn(layout, "_");
    c->in = form_of(layout, i);
    c->out = layout[i] ? form_of(layout + i + 1, strlen(layout + i + 1)) : c->in;
}

/* Elements of a row; heads side by side in the last axis where there is no head axis. */
static int64_t row_rules(call_facts *c, const fia_tensor *t, const char *name, int64_t heads, int head_axis) {
    const int64_t last = t->shape[t->ndim - 1], heads_in_row = head_axis < 0 ? heads : 1;
    const int64_t dim = times(last / heads_in_row, t->dtype == FIA_I32 ? 8 : 1);
    wrong_if(c->v, last % heads_in_row || dim < 0 || dim > INT32_MAX || (dim == 0 && !c->empty), name);
    wrong_if(c->v, !last_is_dense(t), name);
    wrong_if(c->v, head_axis >= 0 && t->shape[head_axis] != heads, name);
    return dim;
}

static void query_rules(call_facts *c) {
    const fia_tensor *q = &c->a->query;
    const form *f = c->in;
    bad_tensor(c, !has(c->a, QUERY), QUERY);
    if (c->v->wrong) return;
    bad_tensor(c, !is_float(q->dtype) && q->dtype != FIA_I8, QUERY);
    bad_tensor(c, q->ndim != f->rank, QUERY);
    if (c->v->wrong) return;
    c->heads = c->a->num_query_heads;
    c->kv_heads = c->a->num_key_value_heads ? c->a->num_key_value_heads : c->heads;
    wrong_if(c->v, c->heads % c->kv_heads != 0, "num_key_value_heads");
    c->empty = count_of(q) == 0;
    c->sequences = f->sequence >= 0 ? q->shape[f->sequence] : 1;
    c->rows = q->shape[f->row];
    c->one_row = !f->packed && c->rows == 1;
    c->dim = row_rules(c, q, "num_query_heads|query", c->heads, f->head);
}

/* How many lengths an argument has; -1: none. */
static int64_t length_count(call_facts *c, const fia_int_list *list, int i) {
    const fia_tensor *t = of(c->a, i);
    if (list->data) {
        bad_tensor(c, has(c->a, i) || list->count < 0 || (uintptr_t)list->data % sizeof(int64_t), i);
        return list->count;
    }
    if (!has(c->a, i)) return -1;
    bad_tensor(c, (t->dtype != FIA_I32 && t->dtype != FIA_I64) || t->ndim != 1, i);
    return t->shape[0];
}

/* Running sums in a tensor are elements of their own. */
static void sums_rule(call_facts *c, int i) {
    const fia_tensor *t = of(c->a, i);
    bad_tensor(c, has(c->a, i) && t->shape[0] > 1 && t->stride[0] == 0, i);
}

static void count_rules(call_facts *c) {
    const int64_t nq = length_count(c, &c->a->actual_seq_qlen, QLENS),
                  nkv = length_count(c, &c->a->actual_seq_kvlen, KVLENS);
    c->paged = has(c->a, TABLE);
    if (c->v->wrong) return;
    if (c->in->packed) {
        sums_rule(c, QLENS);
        if (!c->paged) sums_rule(c, KVLENS);
        bad_tensor(c, nq < 0 || (nq < 1 && !c->empty), QLENS);
        wrong_if(c->v, nkv != nq, "actual_seq_kvlen|actual_seq_qlen");
        c->sequences = nq;
        return;
    }
    bad_tensor(c, c->rows != 1 && nq >= 0 && nq != 1 && nq < c->sequences, QLENS);
    bad_tensor(c, nkv >= 0 && nkv != 1 && nkv < c->sequences, KVLENS);
    bad_tensor(c, nkv < 0 && c->paged, KVLENS);
}

/* A pool of pages: (pages, rows, H), (pages, heads, rows, D) or (pages, heads, D / c0, rows, c0). */
static int64_t pool_rules(call_facts *c, int i) {
    const fia_tensor *t = of(c->a, i);
    const char *name = i == KEY ? "key|block_size" : tensors[i].name;
    const int head = t->ndim == 3 ? -1 : 1, row = t->ndim - 2;
    int64_t dim;
    bad_tensor(c, t->ndim < 3 || t->ndim > 5, i);
    if (c->v->wrong) return 0;
    if (i == KEY) c->pages = t->shape[0];
    wrong_if(c->v, t->shape[0] != c->pages, name);
    wrong_if(c->v, t->shape[row] != c->a->block_size, name);
    dim = row_rules(c, t, tensors[i].name, c->kv_heads, head);
    if (t->ndim < 5 || c->v->wrong) return dim;
    bad_tensor(c, t->shape[4] != 32 / type_bytes(t->dtype), i);
    dim = times(dim, t->shape[2]);
    bad_tensor(c, dim < 0 || dim > INT32_MAX || (dim == 0 && !c->empty), i);
    return dim;
}

static void paged_rules(call_facts *c, int64_t *key_dim) {
    const fia_tensor *t = of(c->a, TABLE);
    bad_tensor(c, t->dtype != FIA_I32 || t->ndim != 2, TABLE);
    if (c->v->wrong) return;
    bad_tensor(c, t->shape[0] != c->sequences || !last_is_dense(t), TABLE);
    wrong_if(c->v, c->a->block_size < 1, "block_size");
    if (c->v->wrong) return;
    c->keys = times(t->shape[1], c->a->block_size);
    wrong_if(c->v, c->keys < 0, "block_size");
    if (c->v->wrong) return;
    *key_dim = pool_rules(c, KEY);
    if (!c->v->wrong) c->value_dim = pool_rules(c, VALUE);
}

/* Key-like tensors in the layout of the inputs. */
static int64_t laid_rules(call_facts *c, const fia_tensor *t, int i, int64_t heads) {
    const form *f = c->in;
    bad_tensor(c, t->ndim != f->rank, i);
    if (c->v->wrong) return 0;
    bad_tensor(c, f->sequence >= 0 && t->shape[f->sequence] != (c->listed && i != QUERY_ROPE ? 1 : c->sequences), i);
    return row_rules(c, t, tensors[i].name, heads, f->head);
}

static void list_rules(call_facts *c, int64_t *key_dim) {
    const v2_args *a = c->a;
    const int row = c->in->row;
    int64_t b, step[2] = {0, 0}; /* row strides of a list are those of its first tensor with several rows */
    int known[2] = {0, 0};
    bad_tensor(c, c->paged, TABLE);
    bad_tensor(c, has(a, QUERY_ROPE), QUERY_ROPE);
    bad_tensor(c, c->in->sequence < 0, KEY);
    for (b = 0; b < c->sequences && !c->v->wrong; ++b) {
        const fia_tensor *const pair[2] = {&a->key_list[b], &a->value_list[b]};
        int64_t dims[2];
        int k;
        for (k = 0; k < 2; ++k) {
            bad_tensor(c, (pair[k]->data == NULL && pair[k]->ndim == 0) || !is_sane(pair[k]), KEY + k);
            if (c->v->wrong) return;
            bad_tensor(c, pair[k]->dtype != a->key_list[0].dtype, KEY + k);
            dims[k] = laid_rules(c, pair[k], KEY + k, c->kv_heads);
            if (c->v->wrong) return;
            lacks_if(c->v, pair[k]->shape[row] > 1 && known[k] && pair[k]->stride[row] != step[k], "key|value");
            if (pair[k]->shape[row] > 1 && !known[k]) step[k] = pair[k]->stride[row];
            known[k] |= pair[k]->shape[row] > 1;
            bad_tensor(c, b > 0 && dims[k] != (k ? c->value_dim : *key_dim), KEY + k);
        }
        wrong_if(c->v, pair[0]->shape[row] != pair[1]->shape[row], "key|value");
        if (b == 0) *key_dim = dims[0];
        if (b == 0) c->value_dim = dims[1];
        if (pair[0]->shape[row] > c->keys) c->keys = pair[0]->shape[row];
    }
}

static void kv_rules(call_facts *c) {
    const v2_args *a = c->a;
    const fia_tensor *key = &a->key, *value = &a->value;
    int64_t key_dim = 0;
    c->listed = a->key_list || a->value_list;
    bad_tensor(c, c->listed && has(a, KEY), KEY);
    bad_tensor(c, c->listed && has(a, VALUE), VALUE);
    wrong_if(c->v, c->listed && (!a->key_list || !a->value_list), a->key_list ? "value" : "key");
    wrong_if(c->v, a->list_count != (c->listed ? c->sequences : 0), "list_count");
    if (c->v->wrong || (c->listed && c->sequences == 0)) return;
    if (c->listed) {
        key = &a->key_list[0];
        value = &a->value_list[0];
    }
    bad_tensor(c, key->data == NULL && key->ndim == 0, KEY);
    bad_tensor(c, of(a, QUERY)->dtype == FIA_I8 && key->dtype != FIA_I8, KEY);
    bad_tensor(c, value->data == NULL && value->ndim == 0, VALUE);
    if (c->v->wrong) return;
    bad_tensor(c, !is_float(key->dtype) && key->dtype != FIA_I8 && key->dtype != FIA_I32, KEY);
    wrong_if(c->v, value->dtype != key->dtype, "value|key");
    if (c->v->wrong) return;
    if (c->listed) list_rules(c, &key_dim);
    else if (c->paged) paged_rules(c, &key_dim);
    else {
        key_dim = laid_rules(c, key, KEY, c->kv_heads);
        c->value_dim = c->v->wrong ? 0 : laid_rules(c, value, VALUE, c->kv_heads);
        if (c->v->wrong) return;
        c->keys = key->shape[c->in->row];
        wrong_if(c->v, value->shape[c->in->row] != c->keys, "value|key");
    }
    if (!c->v->wrong) wrong_if(c->v, key_dim != c->dim, "key|query");
}

static void list_value_rules(call_facts *c, const fia_int_list *list, int i, int64_t limit, int sums) {
    int64_t b, last = 0;
    for (b = 0; list->data && b < c->sequences && b < list->count; ++b) {
        const int64_t x = list->data[b];
        const int64_t most = c->listed && i == KVLENS ? c->a->key_list[b].shape[c->in->row] : limit;
        wrong_int(c->v, x < 0 || x > most || (sums && x < last), tensors[i].name, x);
        last = x;
    }
}

static void rope_rules(call_facts *c) {
    const v2_args *a = c->a;
    const fia_dtype query = a->query.dtype, key = c->listed ? a->key_list[0].dtype : a->key.dtype;
    int64_t key_dim;
    if (!has(a, QUERY_ROPE) && !has(a, KEY_ROPE)) return;
    bad_tensor(c, !has(a, QUERY_ROPE), QUERY_ROPE);
    bad_tensor(c, !has(a, KEY_ROPE), KEY_ROPE);
    if (c->v->wrong) return;
    bad_tensor(c, is_float(query) ? a->query_rope.dtype != query : !is_float(a->query_rope.dtype), QUERY_ROPE);
    wrong_if(c->v, a->key_rope.dtype != (is_float(key) ? key : a->query_rope.dtype), "key_rope|query_rope");
    c->rope_dim = c->v->wrong ? 0 : laid_rules(c, &a->query_rope, QUERY_ROPE, c->heads);
    if (c->v->wrong) return;
    bad_tensor(c, a->query_rope.shape[c->in->row] != c->rows, QUERY_ROPE);
    key_dim = c->paged ? pool_rules(c, KEY_ROPE) : laid_rules(c, &a->key_rope, KEY_ROPE, c->kv_heads);
    if (c->v->wrong) return;
    bad_tensor(c, !c->paged && a->key_rope.shape[c->in->row] != c->keys, KEY_ROPE);
    wrong_if(c->v, key_dim != c->rope_dim, "key_rope|query_rope");
}

/* (.., rows, keys) with room for every row and key; sequence -1: no such axis. */
static void term_rules(call_facts *c, int i, int sequence, int row) {
    const fia_tensor *t = of(c->a, i);
    bad_tensor(c, !last_is_dense(t), i);
    bad_tensor(c, sequence >= 0 && t->shape[sequence] != 1 && t->shape[sequence] != c->sequences, i);
    bad_tensor(c, !c->in->packed && row >= 0 && t->shape[row] < c->rows, i);
    bad_tensor(c, !c->in->packed && t->shape[t->ndim - 1] < c->keys, i);
}

static void window_rules(call_facts *c, int band) {
    const int64_t low = INT32_MIN, high = INT32_MAX, pre_given = c->a->pre_tokens, next_given = c->a->next_tokens;
    const int64_t pre = pre_given < low ? low : pre_given > high ? high : pre_given;
    const int64_t next = next_given < low ? low : next_given > high ? high : next_given;
    const int64_t n_next = band ? c->keys : c->rows, n_pre = band ? c->rows : c->keys;
    wrong_if(c->v, pre + next < 0, "pre_tokens|next_tokens");
    wrong_if(c->v, next < 0 && n_next > 0 && -next >= n_next, "next_tokens");
    wrong_if(c->v, pre < 0 && n_pre > 0 && -pre >= n_pre, "pre_tokens");
}

static void mask_rules(call_facts *c) {
    const fia_tensor *t = of(c->a, MASK);
    const int64_t mode = c->a->sparse_mode;
    int i, by_sequence;
    if (!has(c->a, MASK)) {
        wrong_if(c->v, mode != 0, "atten_mask|sparse_mode");
        return;
    }
    bad_tensor(c, !is_byte(t->dtype), MASK);
    if (c->v->wrong || (mode == 0 && count_of(t) == 0)) return;
    if (mode == 9) {
        const int rank = c->in->packed ? 1 : 3;
        bad_tensor(c, has(c->a, PSE), PSE);
        bad_tensor(c, has(c->a, SCALE_OUT), SCALE_OUT);
        bad_tensor(c, t->ndim != rank, MASK);
        bad_tensor(c, rank == 3 && (t->shape[0] != c->sequences || t->shape[1] != c->rows || t->shape[2] != c->rows),
                   MASK);
        lacks_if(c->v, 1, "sparse_mode");
        return;
    }
    bad_tensor(c, t->ndim < 2 || t->ndim > 4, MASK);
    if (c->v->wrong) return;
    for (i = 0; mode >= 2 && i < t->ndim; ++i) bad_tensor(c, t->shape[i] != (i < t->ndim - 2 ? 1 : 2048), MASK);
    if (mode < 2) {
        by_sequence = t->ndim > 2 || c->one_row;
        bad_tensor(c, t->ndim == 4 && t->shape[1] != 1, MASK);
        term_rules(c, MASK, by_sequence ? 0 : -1, t->ndim > 2 || !by_sequence ? t->ndim - 2 : -1);
    }
    if ((mode == 0 || mode == 4) && !(c->one_row && !has(c->a, QUERY_ROPE))) window_rules(c, mode == 4);
}

static void bias_rules(call_facts *c) {
    const fia_tensor *pse = of(c->a, PSE), *sink = of(c->a, SINK);
    if (has(c->a, PSE)) {
        bad_tensor(c, !is_float(pse->dtype) || pse->ndim != 4, PSE);
        if (pse->ndim == 4) bad_tensor(c, pse->shape[1] != c->heads, PSE);
        if (pse->ndim == 4) term_rules(c, PSE, 0, 2);
    }
    if (!has(c->a, SINK)) return;
    bad_tensor(c, !is_float(sink->dtype) || sink->ndim != 1 || sink->shape[0] != c->heads || !last_is_dense(sink),
               SINK);
}

/* A scale or offset of key or value by its mode. */
static void scale_rules(call_facts *c, int i, int64_t mode, int64_t dim) {
    const fia_tensor *t = of(c->a, i);
    const int by_token = mode == 1 || mode >= 3, per_head = mode == 3 || mode == 5, paged = mode >= 4;
    const int first = mode == 1 && t->ndim == 3 && t->shape[0] == 1, rank = 2 + per_head + first;
    int axis, others = 0;
    int64_t head = 0;
    bad_tensor(c, by_token ? t->dtype != FIA_F32 : !is_float(t->dtype), i);
    if (mode == 2) bad_tensor(c, t->ndim != 1 || t->shape[0] != c->kv_heads, i);
    if (mode == 0 && count_of(t) != 1) {
        for (axis = 0; axis < t->ndim - 1; ++axis) {
            if (t->shape[axis] == 1) continue;
            ++others;
            head = t->shape[axis];
        }
        bad_tensor(c,
                   !(others == 0 && t->shape[t->ndim - 1] == c->kv_heads * dim) &&
                       !(others == 1 && head == c->kv_heads && t->shape[t->ndim - 1] == dim),
                   i);
    }
    if (!by_token) return;
    bad_tensor(c, paged && !c->paged, TABLE);
    bad_tensor(c, t->ndim != rank, i);
    if (c->v->wrong) return;
    bad_tensor(c, per_head && t->shape[1] != c->kv_heads, i);
    bad_tensor(c, paged && (t->shape[0] != c->pages || t->shape[rank - 1] != c->a->block_size), i);
    bad_tensor(c, !paged && t->shape[first] != c->sequences, i);
    bad_tensor(c, !paged && !(c->in->packed && !c->paged) && t->shape[rank - 1] < c->keys, i);
}

static void offset_rules(call_facts *c, int i, int scale) {
    const fia_tensor *t = of(c->a, i), *s = of(c->a, scale);
    int axis;
    wrong_if(c->v, t->dtype != s->dtype || t->ndim != s->ndim, tensors[i].name);
    for (axis = 0; axis < s->ndim && t->ndim == s->ndim; ++axis) bad_tensor(c, t->shape[axis] != s->shape[axis], i);
}

static void antiquant_rules(call_facts *c) {
    const int64_t key = c->a->key_quant_mode, value = c->a->value_quant_mode;
    wrong_if(c->v, key != value && !(key == 0 && value == 1), "key_quant_mode|value_quant_mode");
    bad_tensor(c, !has(c->a, SCALE_K), SCALE_K);
    bad_tensor(c, !has(c->a, SCALE_V), SCALE_V);
    lacks_if(c->v, 1, "key|value");
    if (c->v->wrong) return;
    scale_rules(c, SCALE_K, key, c->dim);
    scale_rules(c, SCALE_V, value, c->value_dim);
    if (!has(c->a, OFFSET_K) && !has(c->a, OFFSET_V)) return;
    bad_tensor(c, !has(c->a, OFFSET_K), OFFSET_K);
    bad_tensor(c, !has(c->a, OFFSET_V), OFFSET_V);
    if (c->v->wrong) return;
    offset_rules(c, OFFSET_K, SCALE_K);
    offset_rules(c, OFFSET_V, SCALE_V);
}

static void full_int8_rules(call_facts *c, fia_dtype key) {
    static const int needed[] = {QUERY_ROPE, SCALE_Q, SCALE_K, SCALE_V}, barred[] = {OFFSET_K, OFFSET_V, SCALE_OUT};
    const fia_tensor *q = of(c->a, QUERY), *s = of(c->a, SCALE_Q);
    const int axes = c->in->head < 0 ? c->in->rank : c->in->rank - 1;
    int i;
    range_rule(c->v, "query_quant_mode", c->a->query_quant_mode, 3, 3);
    range_rule(c->v, "key_quant_mode", c->a->key_quant_mode, 0, 0);
    range_rule(c->v, "value_quant_mode", c->a->value_quant_mode, 0, 0);
    bad_tensor(c, key != FIA_I8, KEY);
    for (i = 0; i < 4; ++i) bad_tensor(c, !has(c->a, needed[i]), needed[i]);
    for (i = 0; i < 3; ++i) bad_tensor(c, has(c->a, barred[i]), barred[i]);
    for (i = 1; i < 4; ++i) bad_tensor(c, has(c->a, needed[i]) && of(c->a, needed[i])->dtype != FIA_F32, needed[i]);
    lacks_if(c->v, 1, "query");
    if (c->v->wrong) return;
    for (i = 2; i < 4; ++i) bad_tensor(c, count_of(of(c->a, needed[i])) != 1, needed[i]);
    bad_tensor(c, s->ndim != axes, SCALE_Q);
    for (i = 0; i < axes && s->ndim == axes; ++i)
        bad_tensor(c, s->shape[i] != (c->in->head < 0 && i == axes - 1 ? c->heads : q->shape[i]), SCALE_Q);
}

static void quant_rules(call_facts *c) {
    static const int barred[] = {SCALE_K, OFFSET_K, SCALE_V, OFFSET_V};
    const fia_dtype key = c->listed ? (c->sequences ? c->a->key_list[0].dtype : FIA_F32) : c->a->key.dtype;
    int i;
    if (c->a->query.dtype == FIA_I8) {
        full_int8_rules(c, key);
        return;
    }
    range_rule(c->v, "query_quant_mode", c->a->query_quant_mode, 0, 0);
    bad_tensor(c, has(c->a, SCALE_Q), SCALE_Q);
    if (c->v->wrong) return;
    if (!is_float(key)) {
        antiquant_rules(c);
        return;
    }
    range_rule(c->v, "key_quant_mode", c->a->key_quant_mode, 0, 0);
    range_rule(c->v, "value_quant_mode", c->a->value_quant_mode, 0, 0);
    for (i = 0; i < 4; ++i) bad_tensor(c, has(c->a, barred[i]), barred[i]);
}

static int is_dense(const fia_tensor *t) {
    int64_t step = 1;
    int i;
    for (i = t->ndim - 1; i >= 0; step *= t->shape[i--])
        if (t->shape[i] > 1 && t->stride[i] != step) return 0;
    return 1;
}

static void post_quant_rules(call_facts *c) {
    const fia_tensor *s = of(c->a, SCALE_OUT), *o = of(c->a, OFFSET_OUT);
    wrong_if(c->v, c->a->out_dtype != FIA_NONE && c->a->out_dtype != FIA_I8, "out_dtype");
    if (!has(c->a, SCALE_OUT)) {
        wrong_if(c->v, c->a->out_dtype == FIA_I8, "quant_scale_out|out_dtype");
        bad_tensor(c, has(c->a, OFFSET_OUT), OFFSET_OUT);
        return;
    }
    lacks_if(c->v, 1, "attention_out|quant_scale_out");
    bad_tensor(c, s->dtype != FIA_F32 && (s->dtype != FIA_BF16 || of(c->a, QUERY)->dtype != FIA_BF16), SCALE_OUT);
    bad_tensor(c, !is_dense(s), SCALE_OUT);
    bad_tensor(c, count_of(s) != 1 && count_of(s) != times(c->heads, c->value_dim), SCALE_OUT);
    if (!has(c->a, OFFSET_OUT) || c->v->wrong) return;
    offset_rules(c, OFFSET_OUT, SCALE_OUT);
    bad_tensor(c, !is_dense(o), OFFSET_OUT);
}

/* The outputs of the call: element type and shape. */
static void output_rules(call_facts *c) {
    const fia_tensor *out = of(c->a, OUT), *lse = of(c->a, LSE),
                     *q = of(c->a, c->a->query.dtype == FIA_I8 ? QUERY_ROPE : QUERY);
    const form *f = c->out;
    const int packed = c->in->packed;
    const int64_t lse_shape[4] = {packed ? c->rows : c->sequences, c->heads, packed ? 1 : c->rows, 1};
    const fia_dtype dtype = has(c->a, SCALE_OUT) ? FIA_I8 : q->dtype;
    const int64_t rows = packed ? c->rows : times(c->sequences, c->rows);
    int i;
    bad_tensor(c, times(times(times(rows, c->heads), c->value_dim > 1 ? c->value_dim : 1), 4) < 0, OUT);
    if (c->v->wrong) return;
    if (has(c->a, LSE) && c->a->return_softmax_lse) {
        bad_tensor(c, lse->dtype != FIA_F32 || lse->ndim != (packed ? 3 : 4), LSE);
        for (i = 0; i < lse->ndim && i < 4; ++i)
            bad_tensor(c, lse->shape[i] != lse_shape[i] || (!c->empty && lse->shape[i] > 1 && !lse->stride[i]), LSE);
    }
    if (has(c->a, LSE) && !c->a->return_softmax_lse)
        bad_tensor(c, lse->dtype != FIA_F32 || count_of(lse) > 1 || count_of(lse) < 0, LSE);
    if (!has(c->a, OUT)) return;
    bad_tensor(c, out->dtype != dtype || out->ndim != f->rank, OUT);
    for (i = 0; i < f->rank && out->ndim == f->rank; ++i) {
        const int64_t want = i == f->sequence ? c->sequences
                             : i == f->row    ? c->rows
                             : i == f->head   ? c->heads
                             : f->head < 0    ? c->heads * c->value_dim
                                              : c->value_dim;
        bad_tensor(c, out->shape[i] != want || (!c->empty && out->shape[i] > 1 && !out->stride[i]), OUT);
    }
    if (out->ndim == f->rank) bad_tensor(c, !last_is_dense(out), OUT);
}

/* ---- rules of the engine, by the operator's names ---- */

static void engine_rules(call_facts *c, const fia_plan *any) {
    const v2_args *a = c->a;
    const fia_tensor *out = of(a, OUT), *table = of(a, TABLE);
    const int64_t most = any->tile->rows < FIA_STREAM_ROWS ? any->tile->rows : FIA_STREAM_ROWS;
    int axis;
    if (c->empty) return;
    wrong_if(c->v, c->heads > 1 << 20, "num_query_heads");
    wrong_if(c->v, c->kv_heads > 1 << 20, "num_key_value_heads");
    wrong_if(c->v, c->dim > 1 << 16, "query");
    wrong_if(c->v, c->value_dim > 1 << 16, "value");
    wrong_if(c->v, c->rope_dim > 1 << 16, "query_rope");
    wrong_if(c->v, c->rows > BAD_SPAN || c->sequences > BAD_SPAN, "query|actual_seq_qlen");
    maybe_if(c->v, c->sequences > INT64_C(1) << 40, "query|actual_seq_qlen");
    wrong_if(c->v, c->keys > BAD_SPAN, "key|block_table|block_size");
    wrong_if(c->v, c->rows > (INT32_MAX - 1) * most / (c->heads / c->kv_heads), "query");
    if (c->paged) wrong_if(c->v, c->pages > INT32_MAX, "key");
    if (c->paged) wrong_if(c->v, c->a->block_size > BAD_SPAN, "block_size");
    if (c->paged && c->sequences > 1)
        wrong_if(c->v,
                 times(times(table->shape[1], c->sequences), 4) > BAD_SPAN ||
                     times(times(table->shape[1], c->sequences), 4) < 0,
                 "block_table");
    if (!has(a, OUT)) return;
    for (axis = 0; axis < out->ndim - 1; ++axis)
        bad_tensor(c, out->shape[axis] > 1 && llabs(out->stride[axis]) < c->value_dim,
                   OUT); /* a run looks at axes together */
}

static int lengths_known(const v2_args *a) { return !has(a, QLENS) && !has(a, KVLENS); }

/* Length of a sequence out of a host list; absent: all. */
static int64_t listed_length(const fia_int_list *list, int64_t b, int sums, int64_t all) {
    if (!list->data) return all;
    if (sums) return list->data[b] - (b ? list->data[b - 1] : 0);
    return list->data[list->count == 1 ? 0 : b];
}

/* An int8 output with an offset needs a key in every row. */
static void offset_window_rules(call_facts *c) {
    const v2_args *a = c->a;
    const int64_t pre = a->pre_tokens, next = a->next_tokens;
    int64_t b;
    if (c->empty || !has(a, OFFSET_OUT) || !has(a, MASK) || (c->one_row && !has(a, QUERY_ROPE)) || !lengths_known(a))
        return;
    for (b = 0; b < c->sequences; ++b) {
        const int64_t room = c->listed ? a->key_list[b].shape[c->in->row] : c->keys;
        const int64_t L1 = c->one_row ? 1 : listed_length(&a->actual_seq_qlen, b, c->in->packed, c->rows);
        const int64_t L2 = listed_length(&a->actual_seq_kvlen, b, c->in->packed && !c->paged, room);
        const int bad_0 = a->sparse_mode == 0 && ((pre < INT32_MAX && L1 - L2 - pre > 0) || next < 0);
        const int bad_4 = a->sparse_mode == 4 && (pre < 0 || (next < INT32_MAX && next + L2 - L1 < 0));
        bad_tensor(c, L1 > 0 && (bad_0 || (a->sparse_mode == 3 && L2 < L1) || bad_4), OFFSET_OUT);
    }
}

/* Scales by token of packed keys: every length must fit. */
static void packed_scale_rules(call_facts *c) {
    const v2_args *a = c->a;
    const int64_t mode = a->value_quant_mode;
    const int64_t *ends = a->actual_seq_kvlen.data;
    int64_t b, last = 0;
    int k;
    if (c->empty || !c->in->packed || c->paged || !ends || !lengths_known(a) || (mode != 1 && mode != 3) ||
        a->query.dtype == FIA_I8)
        return;
    for (b = 0; b < c->sequences; last = ends[b++])
        for (k = 0; k < 2; ++k) {
            const fia_tensor *t = of(a, k ? SCALE_V : SCALE_K);
            if (!k && a->key_quant_mode == 0) continue;
            bad_tensor(c, t->shape[t->ndim - 1] < ends[b] - last, k ? SCALE_V : SCALE_K);
        }
}

/* All rules, stage by stage: what a stage looks at is right in the stages before. whole: the engine's rules, too. */
static void v2_rules(verdict *v, const v2_args *a, const fia_plan *any, int whole) {
    call_facts c;
    size_t i;
    void (*const stages[])(call_facts *) = {attribute_rules, query_rules, count_rules, kv_rules};
    void (*const later[])(call_facts *) = {rope_rules,       mask_rules,   bias_rules,          quant_rules,
                                           post_quant_rules, output_rules, offset_window_rules, packed_scale_rules};
    memset(v, 0, sizeof(*v));
    memset(&c, 0, sizeof(c));
    c.a = a;
    c.v = v;
    for (i = 0; i < sizeof(stages) / sizeof(stages[0]) && !v->wrong; ++i) stages[i](&c);
    if (v->wrong) return;
    if (c.in->packed || c.rows != 1) list_value_rules(&c, &a->actual_seq_qlen, QLENS, c.rows, c.in->packed);
    list_value_rules(&c, &a->actual_seq_kvlen, KVLENS, c.keys, c.in->packed && !c.paged);
    for (i = 0; i < sizeof(later) / sizeof(later[0]) && !v->wrong; ++i) later[i](&c);
    if (whole && !v->wrong) engine_rules(&c, any);
    if (c.empty || !whole) v->lacks = 0;
    if ((c.empty || !whole) && !v->wrong && !v->maybe) v->n = 0;
}

/* ---- fields ---- */

enum { LAYOUT = KINDS, TENSOR_ITSELF, LIST_ITSELF, LIST_OF_TENSORS, ELEMENT };

typedef struct field {
    char name[64], owner[24]; /* owner: the argument that a refusal names */
    size_t at;                /* in a v2_call */
    int kind;                 /* a field_kind, or one of the above */
} field;

enum { MAX_FIELDS = 700 };
static field fields[MAX_FIELDS];
static int n_fields;

static void add_field(const char *name, const char *owner, size_t at, int kind) {
    field *f = &fields[n_fields++];
    assert_true(n_fields < MAX_FIELDS);
    (void)snprintf(f->name, sizeof(f->name), "%s", name);
    (void)snprintf(f->owner, sizeof(f->owner), "%s", owner);
    f->at = at;
    f->kind = kind;
}

static void add_tensor_fields(const char *name, const char *owner, size_t at, const fia_tensor *t) {
    char text[64];
    int i;
    add_field(name, owner, at, TENSOR_ITSELF);
    if (!t->data && !t->ndim) return;
    (void)snprintf(text, sizeof(text), "%s.dtype", name);
    add_field(text, owner, at + offsetof(fia_tensor, dtype), DTYPE);
    (void)snprintf(text, sizeof(text), "%s.ndim", name);
    add_field(text, owner, at + offsetof(fia_tensor, ndim), INT32);
    for (i = 0; i < t->ndim; ++i) {
        (void)snprintf(text, sizeof(text), "%s.shape[%d]", name, i);
        add_field(text, owner, at + offsetof(fia_tensor, shape) + (size_t)i * sizeof(int64_t), INT64);
        (void)snprintf(text, sizeof(text), "%s.stride[%d]", name, i);
        add_field(text, owner, at + offsetof(fia_tensor, stride) + (size_t)i * sizeof(int64_t), INT64);
    }
}

#define ATTRIBUTE(f, kind) add_field(#f, #f, offsetof(v2_call, args) + offsetof(v2_args, f), kind)

static void add_attributes(void) {
    ATTRIBUTE(num_query_heads, INT64);
    ATTRIBUTE(num_key_value_heads, INT64);
    ATTRIBUTE(softmax_scale, DOUBLE);
    ATTRIBUTE(pre_tokens, INT64);
    ATTRIBUTE(next_tokens, INT64);
    ATTRIBUTE(input_layout, LAYOUT);
    ATTRIBUTE(sparse_mode, INT64);
    ATTRIBUTE(block_size, INT64);
    ATTRIBUTE(query_quant_mode, INT64);
    ATTRIBUTE(key_quant_mode, INT64);
    ATTRIBUTE(value_quant_mode, INT64);
    ATTRIBUTE(inner_precise, INT64);
    ATTRIBUTE(return_softmax_lse, INT32);
    ATTRIBUTE(query_dtype, DTYPE);
    ATTRIBUTE(key_dtype, DTYPE);
    ATTRIBUTE(value_dtype, DTYPE);
    ATTRIBUTE(key_rope_dtype, DTYPE);
    ATTRIBUTE(query_rope_dtype, DTYPE);
    ATTRIBUTE(key_shared_prefix_dtype, DTYPE);
    ATTRIBUTE(value_shared_prefix_dtype, DTYPE);
    ATTRIBUTE(dequant_scale_query_dtype, DTYPE);
    ATTRIBUTE(dequant_scale_key_dtype, DTYPE);
    ATTRIBUTE(dequant_scale_value_dtype, DTYPE);
    ATTRIBUTE(dequant_scale_key_rope_dtype, DTYPE);
    ATTRIBUTE(out_dtype, DTYPE);
}

/* The fields of `call`: those of absent tensors have no meaning. */
static void list_fields(void) {
    const v2_args *a = &call.args;
    const size_t args = offsetof(v2_call, args);
    char text[64];
    int i;
    n_fields = 0;
    for (i = 0; i < TENSORS; ++i) add_tensor_fields(tensors[i].name, tensors[i].name, args + tensors[i].at, of(a, i));
    add_attributes();
    add_field("list_count", "list_count", args + offsetof(v2_args, list_count), INT64);
    add_field("key_list", "key", args + offsetof(v2_args, key_list), LIST_OF_TENSORS);
    add_field("value_list", "value", args + offsetof(v2_args, value_list), LIST_OF_TENSORS);
    add_field("actual_seq_qlen", "actual_seq_qlen", args + offsetof(v2_args, actual_seq_qlen), LIST_ITSELF);
    add_field("actual_seq_kvlen", "actual_seq_kvlen", args + offsetof(v2_args, actual_seq_kvlen), LIST_ITSELF);
    if (a->actual_seq_qlen.data)
        add_field("actual_seq_qlen.count", "actual_seq_qlen", args + offsetof(v2_args, actual_seq_qlen.count), INT64);
    if (a->actual_seq_kvlen.data)
        add_field("actual_seq_kvlen.count", "actual_seq_kvlen", args + offsetof(v2_args, actual_seq_kvlen.count),
                  INT64);
    for (i = 0; i < B && a->actual_seq_qlen.data; ++i) {
        (void)snprintf(text, sizeof(text), "actual_seq_qlen[%d]", i);
        add_field(text, "actual_seq_qlen", offsetof(v2_call, q_lens) + (size_t)i * sizeof(int64_t), ELEMENT);
    }
    for (i = 0; i < a->actual_seq_kvlen.count && a->actual_seq_kvlen.data; ++i) {
        (void)snprintf(text, sizeof(text), "actual_seq_kvlen[%d]", i);
        add_field(text, "actual_seq_kvlen", offsetof(v2_call, kv_lens) + (size_t)i * sizeof(int64_t), ELEMENT);
    }
    for (i = 0; i < B && a->key_list; ++i) {
        (void)snprintf(text, sizeof(text), "key_list[%d]", i);
        add_tensor_fields(text, "key", offsetof(v2_call, keys) + (size_t)i * sizeof(fia_tensor), &call.keys[i]);
        (void)snprintf(text, sizeof(text), "value_list[%d]", i);
        add_tensor_fields(text, "value", offsetof(v2_call, values) + (size_t)i * sizeof(fia_tensor), &call.values[i]);
    }
}

static const char *const layout_values[] = {
    NULL,
    "",
    "BSHX",
    "bsh",
    "SBH",
    "BS",
    "TND_TND",
    "BNSD_NBS",
    "_",
    "BSND_",
    "BSH",
    "BSND",
    "BNSD",
    "BNSD_BSND",
    "BSH_BNSD",
    "BSND_BNSD",
    "BSH_NBSD",
    "BSND_NBSD",
    "BNSD_NBSD",
    "TND",
    "NTD",
    "TND_NTD",
    "NTD_TND",
    "NSD",
    "a layout whose name is longer than any name of a layout could ever be, and then some more of it, so that "
    "a sentence which repeats it in full has no room left to say which layouts there are, what it must do"};
static const double double_values[] = {NAN,    INFINITY, -INFINITY, 1e300, -1e300, 3.5e38,
                                       3.4e38, -3.4e38,  0.0,       -1.0,  1e-320, 1.0};

static void field_values(values *v, const field *f) {
    const char *at = (const char *)&call + f->at;
    int64_t wide;
    int32_t narrow;
    int i, n = 0, count = 0;
    memcpy(&wide, at, sizeof(wide));
    memcpy(&narrow, at, sizeof(narrow));
    v->n = 0;
    switch (f->kind) {
    case DTYPE: dtype_extremes(v); break;
    case INT32: integer_extremes(v, narrow, 32); break;
    case INT64:
    case ELEMENT: integer_extremes(v, wide, 64); break;
    case DOUBLE: count = (int)(sizeof(double_values) / sizeof(double_values[0])); break;
    case LAYOUT: count = (int)(sizeof(layout_values) / sizeof(layout_values[0])); break;
    case TENSOR_ITSELF: count = 4; break;
    case LIST_ITSELF: count = 3; break;
    case LIST_OF_TENSORS: count = 2; break;
    }
    for (i = 0; i < count; ++i) add_value(v, i);
    for (i = 0; count == 0 && i < v->n; ++i) {
        const int64_t now = f->kind == DTYPE || f->kind == INT32 ? narrow : wide;
        if ((f->kind == INT32 && v->at[i] != (int32_t)v->at[i]) || v->at[i] == now) continue;
        v->at[n++] = v->at[i];
    }
    if (count == 0) v->n = n;
}

/* Sets a field of `call`; 0: it is as it was. */
static int set_field(const field *f, int64_t value) {
    char *at = (char *)&call + f->at;
    const int32_t narrow = (int32_t)value;
    fia_tensor t;
    fia_int_list list;
    const fia_tensor *first = value ? (f->owner[0] == 'k' ? call.keys : call.values) : NULL;
    char before[sizeof(fia_tensor)];
    size_t bytes = sizeof(int64_t);
    memcpy(before, at,
           f->kind == TENSOR_ITSELF     ? sizeof(t)
           : f->kind == LIST_ITSELF     ? sizeof(list)
           : f->kind == LIST_OF_TENSORS ? sizeof(first)
                                        : sizeof(narrow));
    switch (f->kind) {
    case DTYPE:
    case INT32: memcpy(at, &narrow, bytes = sizeof(narrow)); break;
    case INT64:
    case ELEMENT: memcpy(at, &value, sizeof(value)); return 1;
    case DOUBLE:
        if (memcmp(at, &double_values[value], sizeof(double)) == 0) return 0;
        memcpy(at, &double_values[value], sizeof(double));
        return 1;
    case LAYOUT:
        if (layout_values[value] && call.args.input_layout && strcmp(call.args.input_layout, layout_values[value]) == 0)
            return 0;
        memcpy(at, &layout_values[value], sizeof(layout_values[0]));
        return 1;
    case TENSOR_ITSELF: /* absent; one number; data without axes; axes without data */
        memcpy(&t, at, bytes = sizeof(t));
        if (value == 0) memset(&t, 0, sizeof(t));
        if (value == 1) t = tensor(inputs[20], FIA_F32, 1, 1, 0, 0, 0);
        if (value == 2) {
            memset(&t, 0, sizeof(t));
            t.dtype = FIA_F32;
            t.data = inputs[20];
        }
        if (value == 3 && !t.ndim) return 0;
        if (value == 3) t.data = NULL;
        memcpy(at, &t, sizeof(t));
        break;
    case LIST_ITSELF: /* absent; given; off by four bytes */
        memcpy(&list, at, bytes = sizeof(list));
        if (value == 2 && !list.data) return 0;
        list.count = value == 1 && !list.data ? B : list.count;
        list.data = value == 0 ? NULL : f->name[11] == 'q' ? call.q_lens : call.kv_lens;
        if (value == 2) list.data = (const int64_t *)(const void *)((const char *)list.data + 4);
        memcpy(at, &list, sizeof(list));
        break;
    case LIST_OF_TENSORS: memcpy(at, &first, bytes = sizeof(first)); break;
    }
    return memcmp(before, at, bytes < sizeof(before) ? bytes : sizeof(before)) != 0;
}

static void show_field_value(const field *f, int64_t value) {
    if (f->kind == LAYOUT)
        (void)snprintf(bad.value, sizeof(bad.value), "%.40s", layout_values[value] ? layout_values[value] : "NULL");
    else if (f->kind == DOUBLE) (void)snprintf(bad.value, sizeof(bad.value), "%g", double_values[value]);
    else if (f->kind >= TENSOR_ITSELF && f->kind != ELEMENT)
        (void)snprintf(bad.value, sizeof(bad.value), "form %d", (int)value);
    else show_value(value);
}

/* ---- plans and output shapes ---- */

static fia_plan any_plan; /* of some valid call: what the rules ask of its kernels */

static void soil_outputs(void) {
    memset(out_room, BAD_CANARY, sizeof(out_room));
    memset(lse_room, BAD_CANARY, sizeof(lse_room));
}

static void check_outputs_untouched(void) {
    check_canary(out_room, sizeof(out_room), "attention_out was written");
    check_canary(lse_room, sizeof(lse_room), "softmax_lse was written");
}

/* What may stand in the place of the value of a tensor or list: that it is or is not there... */
static int shows_presence(const char *text) {
    static const char *const words[] = {"absent; ", "given; ", "NULL; ", "misaligned; ", "laid over "};
    size_t i;
    for (i = 0; i < sizeof(words) / sizeof(words[0]); ++i)
        if (strncmp(text, words[i], strlen(words[i])) == 0) return 1;
    return 0;
}

/* ... of a tensor also its type, and how many elements it has. */
static int shows_tensor(const char *text, const fia_tensor *t) {
    return shows_presence(text) || shows_dtype(text, t->dtype) || (is_sane(t) && shows_int(text, count_of(t)));
}

/* As much of a layout's name as fits into the sentence. */
static int shows_layout(const char *text, const char *layout) {
    return strncmp(text, layout ? layout : "NULL", layout && strlen(layout) > 39 ? 39 : strcspn(text, ";")) == 0;
}

/* ... of a list how many elements it has, or one of them. */
static int shows_list(const char *text, const fia_int_list *list) {
    int64_t i, x;
    for (i = 0; list->data && i < list->count && i < B; ++i) {
        memcpy(&x, (const char *)list->data + i * (int64_t)sizeof(x), sizeof(x));
        if (shows_int(text, x)) return 1;
    }
    return shows_presence(text) || shows_int(text, list->count);
}

static int shows_any_field(const char *text, const field *f) {
    const void *at = (const char *)&call + f->at;
    const char *layout;
    if (f->kind == TENSOR_ITSELF) return shows_tensor(text, (const fia_tensor *)at);
    if (f->kind == LIST_ITSELF) return shows_list(text, (const fia_int_list *)at);
    if (f->kind == ELEMENT) return shows_field(text, INT64, at);
    if (f->kind < KINDS) return shows_field(text, (field_kind)f->kind, at);
    if (f->kind != LAYOUT) return 0;
    memcpy(&layout, at, sizeof(layout));
    return shows_layout(text, layout);
}

/* 1 if the sentence speaks of `part` of `whole`. */
static int is_part(const value_check *c, const char *whole, const char *part) {
    const size_t n = strlen(whole);
    return c->n == n + strlen(part) && strncmp(c->subject, whole, n) == 0 &&
           strncmp(c->subject + n, part, c->n - n) == 0;
}

/* Where the sentence speaks of a field, it shows what the field holds; tensors of a list go by the list's owner. Row
 * lengths are computed, and what is not in this build may be told in words. */
static void check_value(const fia_report *report) {
    const int derived =
        report->status == FIA_ERR_NOT_IN_BUILD || strstr(report->text, "; this is its row length") != NULL;
    value_check c = begin_value(report);
    int i;
    for (i = 0; i < n_fields; ++i) {
        const field *f = &fields[i];
        const char *part = strstr(f->name, "_list[") ? strchr(f->name, ']') + 1 : NULL;
        if (is_subject(&c, f->name) || (part && is_part(&c, f->owner, part)))
            note_value(&c, !(derived && (f->kind == TENSOR_ITSELF || f->kind == DTYPE)) && f->kind != LIST_OF_TENSORS,
                       shows_any_field(c.value, f));
        if (f->kind == TENSOR_ITSELF && is_part(&c, f->name, ".ndim")) /* it has no such field if it was absent */
            note_value(&c, 1,
                       shows_int(c.value, ((const fia_tensor *)(const void *)((const char *)&call + f->at))->ndim));
    }
    end_value(&c, NULL);
}

static int try_plan(fia_report *report) {
    fia_plan plan;
    verdict v;
    fia_status status;
    v2_rules(&v, &call.args, &any_plan, 1);
    memset(&plan, BAD_CANARY, sizeof(plan));
    soil_report(report);
    status = fia_fused_infer_attention_score_v2_plan(NULL, &call.args, 2, &plan, report);
    if (status) check_canary(&plan, sizeof(plan), "the plan was written");
    if (fia_fused_infer_attention_score_v2_plan(NULL, &call.args, 2, &plan, NULL) != status)
        bad_fail("another status without a report", report, &v);
    if (!check_verdict(status, report, &v)) return 0;
    check_value(report);
    return 1;
}

/* Outputs that stand in the arguments are not looked at. */
static void try_outputs(void) {
    v2_args args = call.args, before;
    fia_report report;
    verdict v;
    fia_status status;
    memset(&args.attention_out, 0, sizeof(args.attention_out));
    memset(&args.softmax_lse, 0, sizeof(args.softmax_lse));
    v2_rules(&v, &args, &any_plan, 0);
    args = before = call.args;
    soil_report(&report);
    status = fia_fused_infer_attention_score_v2_outputs(&args, &report);
    if (check_verdict(status, &report, &v)) check_value(&report);
    if (status && memcmp(&before, &args, sizeof(args)) != 0) bad_fail("the arguments were written", &report, &v);
}

static void begin(int which) {
    makers[which](&call);
    bad.call = call.name;
    bad.field = "nothing";
    bad.value[0] = 0;
    list_fields();
}

static void every_field_of_a_plan(void **state) {
    fia_report report;
    v2_call saved;
    values list;
    int which, i, k;
    (void)state;
    for (which = 0; which < CALLS; ++which) {
        begin(which);
        (void)try_plan(&report);
        saved = call;
        for (i = 0; i < n_fields; ++i) {
            bad.field = fields[i].name;
            field_values(&list, &fields[i]);
            for (k = 0; k < list.n; ++k) {
                show_field_value(&fields[i], list.at[k]);
                if (set_field(&fields[i], list.at[k])) {
                    if (!try_plan(&report)) ++bad.taken;
                    else if (report.status == FIA_ERR_ARGUMENT) ++bad.refused;
                    try_outputs();
                }
                call = saved;
            }
        }
    }
    assert_int_equal(bad.failures, 0);
}

/* Counts that stay inside the arrays of the test: what an array really holds only its owner knows. */
static int readable(void) {
    const v2_args *a = &call.args;
    return (!a->actual_seq_qlen.data || a->actual_seq_qlen.count <= 4) &&
           (!a->actual_seq_kvlen.data || a->actual_seq_kvlen.count <= 4) &&
           (!(a->key_list || a->value_list) || a->list_count <= B);
}

static void pairs_of_fields_of_a_plan(void **state) {
    fia_report report;
    v2_call saved;
    values list;
    uint64_t random = bad.seed;
    int which, i, k;
    (void)state;
    for (which = 0; which < CALLS; ++which) {
        begin(which);
        saved = call;
        for (i = 0; i < PAIRS; ++i) {
            const field *f[2];
            char name[160];
            int64_t value[2] = {0, 0};
            for (k = 0; k < 2; ++k) {
                f[k] = &fields[random_below(&random, n_fields)];
                field_values(&list, f[k]);
                if (list.n) (void)set_field(f[k], value[k] = list.at[random_below(&random, list.n)]);
            }
            (void)snprintf(name, sizeof(name), "%s and %s", f[0]->name, f[1]->name);
            (void)snprintf(bad.value, sizeof(bad.value), "%lld, %lld", (long long)value[0], (long long)value[1]);
            bad.field = name;
            if (readable()) (void)try_plan(&report);
            call = saved;
        }
    }
    assert_int_equal(bad.failures, 0);
}

static void arguments_of_plan(void **state) {
    static const int workers[] = {INT32_MIN, -1, 0, 1, 4096, 4097, INT32_MAX};
    fia_plan plan;
    fia_report report;
    verdict v;
    size_t i;
    (void)state;
    begin(0);
    memset(&plan, BAD_CANARY, sizeof(plan));
    for (i = 0; i < sizeof(workers) / sizeof(workers[0]); ++i) {
        if (workers[i] >= 1 && workers[i] <= 4096) continue;
        v = bad_int(bad.field = "max_workers", workers[i]);
        show_value(workers[i]);
        soil_report(&report);
        bad.refused += check_verdict(
            fia_fused_infer_attention_score_v2_plan(NULL, &call.args, workers[i], &plan, &report), &report, &v);
    }
    for (i = 0; i < 3; ++i) {
        v = bad_word(bad.field = i == 1 ? "plan" : "args", "NULL");
        (void)snprintf(bad.value, sizeof(bad.value), "NULL");
        soil_report(&report);
        bad.refused +=
            check_verdict(i == 0   ? fia_fused_infer_attention_score_v2_plan(NULL, NULL, 1, &plan, &report)
                          : i == 1 ? fia_fused_infer_attention_score_v2_plan(NULL, &call.args, 1, NULL, &report)
                                   : fia_fused_infer_attention_score_v2_outputs(NULL, &report),
                          &report, &v);
    }
    check_canary(&plan, sizeof(plan), "the plan was written");
    assert_int_equal(bad.failures, 0);
}

/* ---- runs ---- */

static int64_t element_of(const fia_tensor *t, int64_t i) {
    return t->dtype == FIA_I64 ? ((const int64_t *)t->data)[i] : ((const int32_t *)t->data)[i];
}

/* Values of a length tensor. */
static void tensor_value_rules(verdict *v, int i, int64_t limit, int sums) {
    const fia_tensor *t = of(&call.args, i);
    int64_t b, last = 0;
    if (!has(&call.args, i)) return;
    for (b = 0; b < t->shape[0]; ++b) {
        const int64_t x = element_of(t, b);
        wrong_int(v, x < 0 || x > limit || (sums && x < last), tensors[i].name, x);
        last = x;
    }
}

static int64_t length_of(const fia_int_list *list, int i, int64_t b, int sums, int64_t all) {
    const int tensor_given = has(&call.args, i);
    int64_t end, start = 0;
    if (!list->data && !tensor_given) return all;
    end = list->data ? list->data[b] : element_of(of(&call.args, i), b);
    if (sums && b > 0) start = list->data ? list->data[b - 1] : element_of(of(&call.args, i), b - 1);
    return start < 0 || end < start ? -1 : end - start;
}

/* Pages that hold a key which some row keeps. */
static void table_rules(verdict *v, const fia_plan *plan) {
    int64_t b, i, j;
    for (b = 0; b < B; ++b) {
        const int64_t L1 = length_of(&call.args.actual_seq_qlen, QLENS, b, plan->problem.q_packed, SQ);
        const int64_t L2 = length_of(&call.args.actual_seq_kvlen, KVLENS, b, 0, SKV);
        for (i = 0; i < L1; ++i) {
            for (j = 0; j < L2; ++j) {
                const int32_t id = call.table[b * COLUMNS + j / PAGE];
                if (call.args.sparse_mode == 3 && j > i + L2 - L1) break;
                if (id >= 0 && id < PAGES) continue;
                wrong_int(v, 1, "block_table", id);
                return;
            }
        }
    }
}

/* Terms with less room than a sequence needs, which only packed ones can have. */
static void room_rules(verdict *v, const fia_plan *plan) {
    const fia_tensor *pse = of(&call.args, PSE);
    int64_t b;
    for (b = 0; b < B && plan->problem.q_packed && has(&call.args, PSE); ++b) {
        const int64_t L1 = length_of(&call.args.actual_seq_qlen, QLENS, b, 1, SQ);
        const int64_t L2 = length_of(&call.args.actual_seq_kvlen, KVLENS, b, plan->problem.kv_packed, SKV);
        if (L1 < 0 || L2 < 0) return;
        wrong_int(v, L1 > 0 && L2 > 0 && L1 > pse->shape[2], "pse_shift.rows", pse->shape[2]);
        wrong_int(v, L1 > 0 && L2 > 0 && L2 > pse->shape[3], "pse_shift.keys", pse->shape[3]);
    }
}

/* What only a run knows. */
static void run_rules(verdict *v, const fia_plan *plan) {
    const fia_problem *p = &plan->problem;
    tensor_value_rules(v, QLENS, p->max_q_len, p->q_packed);
    tensor_value_rules(v, KVLENS, p->max_kv_len, p->kv_packed);
    room_rules(v, plan);
    if (!v->wrong && has(&call.args, TABLE)) table_rules(v, plan);
}

/* A run of `call` under a plan; v: what it must say. */
static int try_run(const fia_plan *plan, const verdict *v) {
    fia_report report;
    int refused;
    soil_report(&report);
    refused = check_verdict(
        fia_fused_infer_attention_score_v2_run(plan, &call.args, workspace, plan->workspace_bytes, NULL, &report),
        &report, v);
    if (refused && !bad.compared) check_value(&report);
    if (refused) check_outputs_untouched();
    else soil_outputs();
    return refused;
}

/* The io of `call`: refused like the run, unless only phase 0 can know; then it is written. */
static void try_io(const fia_plan *plan, const verdict *v, int known) {
    fia_report report;
    fia_io io;
    fia_status status;
    memset(&io, BAD_CANARY, sizeof(io));
    soil_report(&report);
    status = fia_fused_infer_attention_score_v2_io(plan, &call.args, &io, &report);
    if (status) check_canary(&io, sizeof(io), "the io was written");
    if ((known || status) && check_verdict(status, &report, v) && !bad.compared) check_value(&report);
}

static void plan_call(int which, fia_plan *plan) {
    fia_report report;
    verdict v;
    begin(which);
    if (fia_fused_infer_attention_score_v2_plan(NULL, &call.args, 2, plan, &report))
        fail_msg("%s: %s", call.name, report.text);
    assert_true(plan->workspace_bytes <= sizeof(workspace));
    if (!has(&call.args, OUT)) set_outputs(&call, call.args.return_softmax_lse);
    list_fields();
    soil_outputs();
    memset(&v, 0, sizeof(v));
    (void)try_run(plan, &v);
}

/* Another call than the planned one is refused, by the name of what changed. Strides of one element mean nothing. */
static void changed_verdict(verdict *v, const field *f, const v2_call *planned, const fia_plan *plan) {
    const char *stride = strstr(f->name, ".stride[");
    v2_rules(v, &call.args, &any_plan, 0);
    if (f->kind == ELEMENT) run_rules(v, plan);
    if (f->kind == ELEMENT || (f->kind == TENSOR_ITSELF && strcmp(bad.value, "form 3") == 0)) return;
    if (stride) {
        const int64_t shape =
            *(const int64_t *)(const void *)((const char *)planned + f->at - offsetof(fia_tensor, stride) +
                                             offsetof(fia_tensor, shape));
        if (shape < 2) return;
    }
    wrong_if(v, 1, f->owner);
}

static void every_change_since_the_plan(void **state) {
    fia_plan plan;
    v2_call saved;
    values list;
    verdict v;
    int which, i, k;
    (void)state;
    for (which = 0; which < RUNNING; ++which) {
        plan_call(which, &plan);
        saved = call;
        for (i = 0; i < n_fields; ++i) {
            bad.field = fields[i].name;
            field_values(&list, &fields[i]);
            for (k = 0; k < list.n; ++k) {
                show_field_value(&fields[i], list.at[k]);
                if (set_field(&fields[i], list.at[k]) && !(fields[i].kind == TENSOR_ITSELF && list.at[k] == 3)) {
                    changed_verdict(&v, &fields[i], &saved, &plan);
                    (void)try_run(&plan, &v);
                    try_io(&plan, &v, fields[i].kind != ELEMENT);
                }
                call = saved;
            }
        }
    }
    assert_int_equal(bad.failures, 0);
}

/* ---- addresses and values of a run ---- */

static void sweep_address(const fia_plan *plan, fia_tensor *t, const char *owner, int output) {
    void *const now = t->data;
    const int64_t bytes = type_bytes(t->dtype);
    const int unread = t == &call.args.atten_mask && call.args.sparse_mode >= 2; /* may lie anywhere */
    verdict v;
    int k;
    for (k = 0; k < 4; ++k) {
        const int over = k == 3;
        if (k > 0 && k < 3 && k >= bytes) continue;
        if (over && (output || unread || t == &call.args.block_table)) continue;
        t->data = k == 0 ? NULL : over ? call.args.attention_out.data : (char *)now + k;
        (void)snprintf(bad.value, sizeof(bad.value), "pointer %d", k);
        memset(&v, 0, sizeof(v));
        if (over) {
            wrong_word(&v, is_dense(t) && count_of(t) != 0 && count_of(&call.args.attention_out) != 0, "attention_out",
                       "laid over");
        } else if (count_of(t) != 0) address_rule(&v, owner, t->data, 1, 1, bytes);
        if (v.wrong && try_run(plan, &v)) ++bad.refused;
        if (v.wrong) try_io(plan, &v, 1);
        t->data = now;
    }
    t->data = now;
    if (!output) return;
    for (k = 0; k < 3; ++k) { /* an output in the place of an input */
        t->data = k == 0 ? call.args.query.data : k == 1 ? call.args.key.data : call.args.value.data;
        (void)snprintf(bad.value, sizeof(bad.value), "input %d", k);
        memset(&v, 0, sizeof(v));
        wrong_word(&v, t->data != NULL && count_of(t) != 0, owner, "laid over");
        if (t->data && v.wrong && try_run(plan, &v)) ++bad.refused;
        t->data = now;
    }
}

static void every_address_of_a_run(void **state) {
    fia_plan plan;
    int which, i;
    (void)state;
    for (which = 0; which < RUNNING; ++which) {
        plan_call(which, &plan);
        for (i = 0; i < TENSORS; ++i) {
            fia_tensor *t = (fia_tensor *)(void *)((char *)&call.args + tensors[i].at);
            bad.field = tensors[i].name;
            if (has(&call.args, i)) sweep_address(&plan, t, tensors[i].name, i >= OUT);
        }
        for (i = 0; i < B && call.args.key_list; ++i) {
            bad.field = "key_list[]";
            sweep_address(&plan, &call.keys[i], "key", 0);
            bad.field = "value_list[]";
            sweep_address(&plan, &call.values[i], "value", 0);
        }
    }
    assert_int_equal(bad.failures, 0);
}

/* All values of an integer array that the run reads. */
static void sweep_array(const fia_plan *plan, const char *name, void *array, int n, int wide) {
    char text[64];
    int i, k;
    for (i = 0; i < n; ++i) {
        const int64_t now = wide ? ((int64_t *)array)[i] : ((int32_t *)array)[i];
        values list;
        (void)snprintf(text, sizeof(text), "%s[%d]", name, i);
        bad.field = text;
        integer_extremes(&list, now, wide ? 64 : 32);
        add_value(&list, PAGES);
        add_value(&list, PAGES - 1);
        for (k = 0; k < list.n; ++k) {
            verdict v;
            if (list.at[k] == now || (!wide && list.at[k] != (int32_t)list.at[k])) continue;
            if (wide) ((int64_t *)array)[i] = list.at[k];
            else ((int32_t *)array)[i] = (int32_t)list.at[k];
            show_value(list.at[k]);
            memset(&v, 0, sizeof(v));
            run_rules(&v, plan);
            if (try_run(plan, &v)) ++bad.refused;
            else ++bad.taken;
            try_io(plan, &v, 0);
        }
        if (wide) ((int64_t *)array)[i] = now;
        else ((int32_t *)array)[i] = (int32_t)now;
    }
}

static void every_value_of_a_run(void **state) {
    fia_plan plan;
    int which;
    (void)state;
    for (which = 0; which < RUNNING; ++which) {
        plan_call(which, &plan);
        if (has(&call.args, QLENS)) sweep_array(&plan, "actual_seq_qlen", call.q_narrow, B, 0);
        if (has(&call.args, KVLENS)) sweep_array(&plan, "actual_seq_kvlen", call.kv_lens, B, 1);
        if (has(&call.args, TABLE)) sweep_array(&plan, "block_table", call.table, B * COLUMNS, 0);
    }
    assert_int_equal(bad.failures, 0);
}

/* ---- what a run gets beside its arguments ---- */

static void run_in_turn(void *pool, int n, fia_task task, void *data) {
    int i;
    (void)pool;
    for (i = 0; i < n; ++i) task(data, i);
}

static void expect_refusal(const fia_plan *plan, const v2_args *args, void *room, size_t bytes,
                           const fia_workers *workers, verdict v) {
    fia_report report;
    bad.field = v.names[0];
    soil_report(&report);
    bad.refused +=
        check_verdict(fia_fused_infer_attention_score_v2_run(plan, args, room, bytes, workers, &report), &report, &v);
    if (fia_fused_infer_attention_score_v2_run(plan, args, room, bytes, workers, NULL) != FIA_ERR_ARGUMENT)
        bad_fail("another status without a report", NULL, NULL);
    check_outputs_untouched();
}

static void arguments_of_run(void **state) {
    static const int counts[] = {INT32_MIN, -1, 0, 3, INT32_MAX};
    fia_workers workers = {1, run_in_turn, NULL};
    fia_plan plan, changed;
    fia_report report;
    verdict v;
    values list;
    int which, i;
    (void)state;
    for (which = 0; which < RUNNING; ++which) {
        plan_call(which, &plan);
        if (count_of(&call.args.query) == 0) continue; /* nothing is run: no workspace is looked at */
        bad.value[0] = 0;
        expect_refusal(NULL, &call.args, workspace, sizeof(workspace), NULL, bad_word("plan", "NULL"));
        expect_refusal(&plan, NULL, workspace, sizeof(workspace), NULL, bad_word("args", "NULL"));
        expect_refusal(&plan, &call.args, NULL, plan.workspace_bytes, NULL, bad_word("workspace", "NULL"));
        for (i = 1; i < 64; i *= 2)
            expect_refusal(&plan, &call.args, workspace, plan.workspace_bytes - (size_t)i, NULL,
                           bad_int("workspace_bytes", (int64_t)plan.workspace_bytes - i));
        expect_refusal(&plan, &call.args, workspace, 0, NULL, bad_int("workspace_bytes", 0));
        for (i = 0; i < 5; ++i) {
            workers.n = counts[i];
            show_value(counts[i]);
            expect_refusal(&plan, &call.args, workspace, sizeof(workspace), &workers, bad_int("n", counts[i]));
        }
        integer_extremes(&list, FIA_VERSION, 32);
        for (i = 0; i < list.n; ++i) {
            show_value(list.at[i]);
            changed = plan;
            changed.version = (uint32_t)list.at[i];
            if (changed.version != plan.version)
                expect_refusal(&changed, &call.args, workspace, sizeof(workspace), NULL,
                               bad_int("plan", changed.version));
            changed = plan;
            changed.op = (int32_t)list.at[i];
            if (changed.op != plan.op)
                expect_refusal(&changed, &call.args, workspace, sizeof(workspace), NULL, bad_int("plan", changed.op));
        }
        v = bad_word(bad.field = "io", "NULL");
        soil_report(&report);
        bad.refused +=
            check_verdict(fia_fused_infer_attention_score_v2_io(&plan, &call.args, NULL, &report), &report, &v);
    }
    assert_int_equal(bad.failures, 0);
}

/* Packed rows and masks with fewer of them than a sequence has: no rows, and one row, are no broadcast. */
static void rows_of_a_packed_mask(void **state) {
    int64_t rows;
    (void)state;
    for (rows = 0; rows <= 7; ++rows) {
        static v2_call c;
        fia_plan plan;
        fia_report report;
        fia_status status;
        begin_call(&c, "packed mask", "TND");
        set_tensors(&c, FIA_F16, FIA_F16, q_ends[B - 1], kv_ends[B - 1]);
        set_lists(&c, q_ends, kv_ends);
        c.args.attention_out = rows_of("TND", out_room, FIA_F16, q_ends[B - 1], HQ, DV);
        c.args.sparse_mode = 1;
        c.args.atten_mask = tensor(inputs[5], FIA_BOOL, 3, 1, rows, kv_each[0], 0);
        assert_int_equal(fia_fused_infer_attention_score_v2_plan(NULL, &c.args, 1, &plan, &report), FIA_OK);
        status = fia_fused_infer_attention_score_v2_run(&plan, &c.args, workspace, sizeof(workspace), NULL, &report);
        assert_int_equal(status, rows < q_each[0] ? FIA_ERR_ARGUMENT : FIA_OK);
        if (rows < q_each[0])
            if (!strstr(report.text, "atten_mask")) fail_msg("%s", report.text);
    }
}

/* Lengths in a tensor with a stride of 0 are one for all; running sums are never one. */
static void lengths_that_are_one_element(void **state) {
    const int64_t q[B] = {3, 3, 3}, kv[B] = {5, 5, 5};
    int packed;
    (void)state;
    for (packed = 0; packed <= 1; ++packed) {
        static v2_call c;
        static uint16_t expected[B * SQ * HQ * DV];
        const size_t bytes = sizeof(expected);
        fia_plan plan;
        fia_report report;
        fia_status status;
        begin_call(&c, "lengths", packed ? "TND" : "BSND");
        set_tensors(&c, FIA_F16, FIA_F16, packed ? q_ends[B - 1] : SQ, packed ? kv_ends[B - 1] : SKV);
        set_length_tensors(&c, packed ? q_ends : q, packed ? kv_ends : kv);
        set_outputs(&c, 0);
        assert_int_equal(fia_fused_infer_attention_score_v2_plan(NULL, &c.args, 1, &plan, &report), FIA_OK);
        memset(c.args.attention_out.data, BAD_CANARY, bytes);
        assert_int_equal(
            fia_fused_infer_attention_score_v2_run(&plan, &c.args, workspace, sizeof(workspace), NULL, &report),
            FIA_OK);
        memcpy(expected, c.args.attention_out.data, bytes);
        memset(c.q_narrow + 1, 0x7f, (B - 1) * sizeof(*c.q_narrow)); /* never read */
        memset(c.kv_lens + 1, 0x7f, (B - 1) * sizeof(*c.kv_lens));
        c.args.actual_seq_qlen_tensor.stride[0] = c.args.actual_seq_kvlen_tensor.stride[0] = 0;
        status = fia_fused_infer_attention_score_v2_plan(NULL, &c.args, 1, &plan, &report);
        assert_int_equal(status, packed ? FIA_ERR_ARGUMENT : FIA_OK);
        if (packed) {
            if (!strstr(report.text, "actual_seq_qlen.stride[0]")) fail_msg("%s", report.text);
            continue;
        }
        memset(c.args.attention_out.data, BAD_CANARY, bytes);
        status = fia_fused_infer_attention_score_v2_run(&plan, &c.args, workspace, sizeof(workspace), NULL, &report);
        if (status) fail_msg("%s", report.text);
        assert_memory_equal(expected, c.args.attention_out.data, bytes);
    }
}

static void enough_was_refused(void **state) {
    (void)state;
    printf("operator door: %ld distinct (call, field, value) refused by name, %ld taken; %ld sentences, %ld values in "
           "them; seed %llu\n",
           bad.refused, bad.taken, bad.sentences, bad.values, (unsigned long long)bad.seed);
    assert_true(bad.refused >= 10000 && bad.values >= bad.sentences * 8 / 10); /* some values are words or computed */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_field_of_a_plan),
                                       cmocka_unit_test(pairs_of_fields_of_a_plan),
                                       cmocka_unit_test(arguments_of_plan),
                                       cmocka_unit_test(every_change_since_the_plan),
                                       cmocka_unit_test(every_address_of_a_run),
                                       cmocka_unit_test(every_value_of_a_run),
                                       cmocka_unit_test(arguments_of_run),
                                       cmocka_unit_test(rows_of_a_packed_mask),
                                       cmocka_unit_test(lengths_that_are_one_element),
                                       cmocka_unit_test(enough_was_refused)};
    fia_report report;
    bad.seed = seed_of_environment(BAD_SEED);
    makers[0](&call);
    if (fia_fused_infer_attention_score_v2_plan(NULL, &call.args, 2, &any_plan, &report)) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
