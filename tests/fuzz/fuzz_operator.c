/* SPDX-License-Identifier: MIT
 *
 * fused_infer_attention_score_v2: a small call in any layout, with up to three words of its arguments overwritten, is
 * planned without data. Where the plan is taken it runs on tensors of exactly the bytes that shapes and strides say.
 */
#include "fuzz.h"

typedef fia_fused_infer_attention_score_v2_args v2_args;

enum { MOST_LENGTHS = 6, PAGE_FORMS = 3 };

typedef struct operation {
    fuzz_bytes in;
    fuzz_memory memory;
    v2_args args;
    fia_plan plan;
    int64_t B, N, Nkv, S1, S2, D, Dv, P, columns, pages;
    int layout, paged;
    char name[16];
    fia_tensor lists[2][MOST_LENGTHS];
    int64_t lengths[2][MOST_LENGTHS];
    fuzz_output out, lse;
} operation;

/* Every tensor argument, outputs last. */
static const size_t tensors[] = {
    offsetof(v2_args, query),
    offsetof(v2_args, key),
    offsetof(v2_args, value),
    offsetof(v2_args, query_rope),
    offsetof(v2_args, key_rope),
    offsetof(v2_args, pse_shift),
    offsetof(v2_args, atten_mask),
    offsetof(v2_args, actual_seq_qlen_tensor),
    offsetof(v2_args, actual_seq_kvlen_tensor),
    offsetof(v2_args, block_table),
    offsetof(v2_args, dequant_scale_query),
    offsetof(v2_args, dequant_scale_key),
    offsetof(v2_args, dequant_offset_key),
    offsetof(v2_args, dequant_scale_value),
    offsetof(v2_args, dequant_offset_value),
    offsetof(v2_args, dequant_scale_key_rope),
    offsetof(v2_args, quant_scale_out),
    offsetof(v2_args, quant_offset_out),
    offsetof(v2_args, quant_scale_p),
    offsetof(v2_args, learnable_sink),
    offsetof(v2_args, attention_out),
    offsetof(v2_args, softmax_lse),
};
enum { TENSORS = (int)(sizeof(tensors) / sizeof(tensors[0])), INPUTS = TENSORS - 2 };

static fia_tensor *tensor_of(v2_args *args, int i) { return (fia_tensor *)(void *)((char *)args + tensors[i]); }

/* ---- arguments ---- */

/* Axes by letter: (B)atch, (S)equence, (N) heads, (D), (H) = N * D, (T) packed rows. */
static const char *const layouts[][2] = {
    {"BSH", "BSH"},        {"BSND", "BSND"},    {"BNSD", "BNSD"},      {"BNSD_BSND", "BNSD"}, {"BSH_BNSD", "BSH"},
    {"BSND_BNSD", "BSND"}, {"BSH_NBSD", "BSH"}, {"BSND_NBSD", "BSND"}, {"BNSD_NBSD", "BNSD"}, {"TND", "TND"},
    {"NTD", "NTD"},        {"TND_NTD", "TND"},  {"NTD_TND", "NTD"},    {"NSD", "NSD"},
};

static int is_packed(const operation *o) { return strchr(layouts[o->layout][1], 'T') != NULL; }

static fia_dtype draw_dtype(fuzz_bytes *f) {
    static const fia_dtype types[] = {FIA_F32, FIA_F16, FIA_BF16, FIA_F16, FIA_BF16, FIA_I8, FIA_BOOL, FIA_I32};
    return types[fuzz_chance(f, 16) ? fuzz_between(f, 0, 7) : fuzz_between(f, 0, 2)];
}

/* A tensor with room between the indices of an axis, or with an axis reversed; now and then an extent is off by one. */
static fia_tensor draw_tensor(fuzz_bytes *f, fia_dtype dtype, int ndim, const int64_t *shape) {
    int64_t extent[6];
    fia_tensor t;
    int i;
    memcpy(extent, shape, (size_t)ndim * sizeof(*shape));
    if (fuzz_chance(f, 32)) extent[fuzz_between(f, 0, ndim - 1)] += fuzz_chance(f, 2) ? 1 : -1;
    t = fia_tensor_make(NULL, dtype, ndim, extent);
    if (ndim > 1 && fuzz_chance(f, 6)) {
        const int last = (int)fuzz_between(f, 0, ndim - 2);
        for (i = 0; i <= last; ++i) t.stride[i] *= 2;
    }
    if (ndim > 1 && fuzz_chance(f, 8)) {
        i = (int)fuzz_between(f, 0, ndim - 2);
        t.stride[i] = fuzz_chance(f, 2) ? 0 : -t.stride[i];
    }
    return t;
}

static fia_tensor draw_rows(operation *o, fia_dtype dtype, int64_t B, int64_t S, int64_t N, int64_t D) {
    int64_t shape[4];
    int n;
    const char *axis = layouts[o->layout][1];
    for (n = 0; axis[n]; ++n) {
        shape[n] = axis[n] == 'B'   ? B
                   : axis[n] == 'S' ? S
                   : axis[n] == 'N' ? N
                   : axis[n] == 'D' ? D
                   : axis[n] == 'H' ? N * D
                                    : B * S;
    }
    return draw_tensor(&o->in, dtype, n, shape);
}

static fia_tensor draw_pool(operation *o, fia_dtype dtype, int64_t D, int form) {
    const int64_t c0 = dtype == FIA_F32 ? 8 : 16;
    const int64_t shapes[PAGE_FORMS][5] = {
        {o->pages, o->P, o->Nkv * D}, {o->pages, o->Nkv, o->P, D}, {o->pages, o->Nkv, (D + c0 - 1) / c0, o->P, c0}};
    return draw_tensor(&o->in, dtype, 3 + form, shapes[form]);
}

static void draw_keys(operation *o, fia_dtype dtype) {
    fuzz_bytes *f = &o->in;
    v2_args *a = &o->args;
    const int form = (int)fuzz_between(f, 0, PAGE_FORMS - 1), rope = fuzz_chance(f, 6);
    const fia_dtype key = fuzz_chance(f, 12) ? draw_dtype(f) : dtype;
    const int64_t table[2] = {o->B, o->columns};
    int64_t i;
    if (rope) a->query_rope = draw_rows(o, dtype, o->B, o->S1, o->N, 64);
    if (o->paged) {
        a->key = draw_pool(o, key, o->D, form);
        a->value = draw_pool(o, key, o->Dv, form);
        if (rope) a->key_rope = draw_pool(o, key, 64, form);
        a->block_table = draw_tensor(f, FIA_I32, 2, table);
        a->block_size = o->P;
        return;
    }
    a->key = draw_rows(o, key, o->B, o->S2, o->Nkv, o->D);
    a->value = draw_rows(o, key, o->B, o->S2, o->Nkv, o->Dv);
    if (rope) a->key_rope = draw_rows(o, key, o->B, o->S2, o->Nkv, 64);
    if (!fuzz_chance(f, 8)) return;
    for (i = 0; i < o->B; ++i) {
        const int64_t rows = fuzz_between(f, 0, o->S2);
        o->lists[0][i] = draw_rows(o, key, 1, rows, o->Nkv, o->D);
        o->lists[1][i] = draw_rows(o, key, 1, rows, o->Nkv, o->Dv);
    }
    a->key_list = o->lists[0];
    a->value_list = o->lists[1];
    a->list_count = o->B;
}

/* Lengths of one side, as a host list or as a tensor; packed layouts take running sums. */
static void draw_lengths(operation *o, int side, fia_int_list *list, fia_tensor *tensor, int64_t longest) {
    fuzz_bytes *f = &o->in;
    const int sums = is_packed(o) && !(side && o->paged);
    int64_t count = fuzz_chance(f, 8) ? fuzz_between(f, 0, MOST_LENGTHS) : o->B, i, sum = 0;
    int64_t *value = o->lengths[side];
    if (!sums && !(side && o->paged) && fuzz_chance(f, 2)) return;
    for (i = 0; i < MOST_LENGTHS; ++i) {
        value[i] = fuzz_chance(f, 24) ? fuzz_extreme(f) : fuzz_between(f, 0, longest);
        sum = (int64_t)((uint64_t)sum + (uint64_t)value[i]);
        if (sums) value[i] = sum;
    }
    if (fuzz_chance(f, 2)) {
        *tensor = fia_tensor_make(NULL, fuzz_chance(f, 2) ? FIA_I32 : FIA_I64, 1, &count);
        return;
    }
    list->data = (const int64_t *)fuzz_room(&o->memory, (double)count * 8);
    list->count = count;
    if (count) memcpy((void *)(uintptr_t)list->data, value, (size_t)count * 8);
}

static void draw_mask(operation *o) {
    static const fia_dtype types[] = {FIA_BOOL, FIA_I8, FIA_U8};
    fuzz_bytes *f = &o->in;
    v2_args *a = &o->args;
    const int64_t wide = o->paged ? o->columns * o->P : o->S2;
    const int64_t full[4] = {fuzz_chance(f, 2) ? 1 : o->B, 1, o->S1, wide}, fixed[4] = {1, 1, 2048, 2048};
    const int skip = (int)fuzz_between(f, 0, 2);
    const fia_dtype dtype = types[fuzz_between(f, 0, 2)];
    a->sparse_mode = fuzz_chance(f, 2) ? fuzz_between(f, 0, 4) : 0;
    if (a->sparse_mode > 1) a->atten_mask = fia_tensor_make(NULL, dtype, 4 - skip, fixed + skip);
    else if (a->sparse_mode || fuzz_chance(f, 2)) a->atten_mask = draw_tensor(f, dtype, 4 - skip, full + skip);
    if (fuzz_chance(f, 3)) a->pre_tokens = fuzz_between(f, -5, 30);
    if (fuzz_chance(f, 3)) a->next_tokens = fuzz_between(f, -5, 30);
}

/* Scales in one of the shapes of a quant mode. */
static fia_tensor draw_scale(operation *o, int64_t mode) {
    const int64_t shapes[6][3] = {{o->Nkv, o->D},        {o->B, o->S2},    {o->Nkv},
                                  {o->B, o->Nkv, o->S2}, {o->pages, o->P}, {o->pages, o->Nkv, o->P}};
    static const int ranks[6] = {2, 2, 1, 3, 2, 3};
    const int i = (int)(mode % 6);
    return draw_tensor(&o->in, fuzz_chance(&o->in, 4) ? draw_dtype(&o->in) : FIA_F32, ranks[i], shapes[i]);
}

static void draw_extras(operation *o, fia_dtype dtype) {
    fuzz_bytes *f = &o->in;
    v2_args *a = &o->args;
    const int64_t pse[4] = {fuzz_chance(f, 2) ? 1 : o->B, o->N, o->S1, o->S2};
    if (fuzz_chance(f, 5)) a->pse_shift = draw_tensor(f, dtype, 4, pse);
    if (fuzz_chance(f, 5)) a->learnable_sink = draw_tensor(f, dtype, 1, &o->N);
    if (fuzz_chance(f, 16)) {
        a->key_quant_mode = a->value_quant_mode = fuzz_between(f, 0, 5);
        a->dequant_scale_key = draw_scale(o, a->key_quant_mode);
        a->dequant_scale_value = draw_scale(o, a->value_quant_mode);
        if (fuzz_chance(f, 2)) a->dequant_offset_key = draw_scale(o, a->key_quant_mode);
    }
    if (fuzz_chance(f, 16)) {
        const int64_t all = o->N * o->Dv, one = 1;
        a->quant_scale_out = draw_tensor(f, FIA_F32, 1, fuzz_chance(f, 2) ? &one : &all);
        a->quant_offset_out = a->quant_scale_out;
        a->out_dtype = FIA_I8;
    }
    a->return_softmax_lse = fuzz_chance(f, 2);
    a->inner_precise = fuzz_between(f, 0, 3);
    a->softmax_scale = fuzz_chance(f, 4) ? (double)fuzz_extreme(f) : 0.25;
}

static void draw_sizes(operation *o) {
    fuzz_bytes *f = &o->in;
    o->B = fuzz_between(f, 0, 4);
    o->Nkv = fuzz_between(f, 1, 3);
    o->N = o->Nkv * fuzz_between(f, 1, 4);
    o->S1 = fuzz_chance(f, 2) ? fuzz_between(f, 0, 40) : 1;
    o->S2 = fuzz_between(f, 0, 80);
    o->D = fuzz_chance(f, 2) ? 16 : fuzz_between(f, 1, 48);
    o->Dv = fuzz_chance(f, 4) ? fuzz_between(f, 1, 48) : o->D;
    o->P = fuzz_chance(f, 2) ? 16 : fuzz_between(f, 1, 20);
    o->columns = (o->S2 + o->P - 1) / o->P;
    o->pages = fuzz_between(f, 0, 6);
    o->paged = fuzz_chance(f, 3);
    o->layout = (int)fuzz_between(f, 0, FUZZ_COUNT(layouts) - 1);
    (void)snprintf(o->name, sizeof(o->name), "%s", layouts[o->layout][0]);
    if (fuzz_chance(f, 12)) o->name[fuzz_between(f, 0, 14)] = (char)fuzz_take(f, 1);
    o->name[15] = 0;
}

/* Overwrites a scalar, or a word of the shape, stride or type of a tensor; pointers stay. */
static void spoil(operation *o) {
    static const size_t scalars[] = {offsetof(v2_args, list_count),          offsetof(v2_args, num_query_heads),
                                     offsetof(v2_args, num_key_value_heads), offsetof(v2_args, softmax_scale),
                                     offsetof(v2_args, pre_tokens),          offsetof(v2_args, next_tokens),
                                     offsetof(v2_args, sparse_mode),         offsetof(v2_args, block_size),
                                     offsetof(v2_args, query_quant_mode),    offsetof(v2_args, key_quant_mode),
                                     offsetof(v2_args, value_quant_mode),    offsetof(v2_args, inner_precise),
                                     offsetof(v2_args, return_softmax_lse),  offsetof(v2_args, value_dtype)};
    const size_t skipped = offsetof(fia_tensor, dtype);
    fuzz_bytes *f = &o->in;
    v2_args *a = &o->args;
    int pokes = fuzz_chance(f, 2) ? (int)fuzz_between(f, 1, 3) : 0;
    while (pokes--) {
        if (fuzz_chance(f, 2)) {
            fuzz_poke(f, (char *)tensor_of(a, (int)fuzz_between(f, 0, INPUTS - 1)) + skipped,
                      sizeof(fia_tensor) - skipped);
        } else {
            fuzz_poke(f, (char *)a + scalars[fuzz_between(f, 0, FUZZ_COUNT(scalars) - 1)], 8);
        }
    }
    if (a->list_count > o->B) a->list_count = o->B; /* so many there are */
    if (a->num_query_heads == 0) a->input_layout = NULL;
}

static void draw_args(operation *o) {
    const fia_dtype dtype = draw_dtype(&o->in);
    v2_args *a = &o->args;
    fia_fused_infer_attention_score_v2_init(a);
    draw_sizes(o);
    a->input_layout = o->name;
    a->num_query_heads = o->N;
    a->num_key_value_heads = o->Nkv;
    a->query = draw_rows(o, dtype, o->B, o->S1, o->N, o->D);
    draw_keys(o, dtype);
    draw_lengths(o, 0, &a->actual_seq_qlen, &a->actual_seq_qlen_tensor, o->S1);
    draw_lengths(o, 1, &a->actual_seq_kvlen, &a->actual_seq_kvlen_tensor, o->S2);
    draw_mask(o);
    draw_extras(o, dtype);
    spoil(o);
}

/* ---- data ---- */

/* The plan has looked at rank, shape and strides: all is in range. */
static void give_data(operation *o, fia_tensor *t) {
    const int64_t bytes = (int64_t)fia_dtype_bytes(t->dtype);
    fuzz_axis axis[6];
    int i;
    if (!t->ndim) return;
    for (i = 0; i < t->ndim; ++i) {
        axis[i].count = t->shape[i];
        axis[i].bytes = t->shape[i] > 1 ? t->stride[i] * bytes : 0;
    }
    t->data = fuzz_buffer(&o->memory, axis, t->ndim, (double)bytes);
}

static void give_lengths(const operation *o, fia_tensor *t, int side) {
    int64_t i, n = t->ndim == 1 ? t->shape[0] : 0;
    for (i = 0; t->data && i < n && i < MOST_LENGTHS; ++i) {
        const int32_t narrow = (int32_t)(uint32_t)(uint64_t)o->lengths[side][i];
        if (t->dtype == FIA_I32) memcpy((char *)t->data + 4 * i * t->stride[0], &narrow, 4);
        else memcpy((char *)t->data + 8 * i * t->stride[0], &o->lengths[side][i], 8);
    }
}

/* The plan has looked at the table: two axes, the last one contiguous. */
static void give_pages(operation *o, const fia_tensor *t) {
    int32_t *id = (int32_t *)t->data;
    int64_t r, i;
    for (r = 0; id && r < t->shape[0]; ++r)
        for (i = 0; i < t->shape[1]; ++i)
            id[r * t->stride[0] + i] = fuzz_chance(&o->in, 64)
                                           ? (int32_t)fuzz_extreme(&o->in)
                                           : (int32_t)fuzz_between(&o->in, 0, o->pages ? o->pages - 1 : 0);
}

/* The mask of modes 2 to 4 is not read and may lie anywhere: it gets no room at all. */
static void give_all_data(operation *o) {
    v2_args *a = &o->args;
    int64_t k;
    int i;
    for (i = 0; i < INPUTS; ++i) {
        fia_tensor *t = tensor_of(a, i);
        if (t == &a->atten_mask && a->sparse_mode > 1 && t->ndim) t->data = fuzz_room(&o->memory, 0);
        else if (a->list_count > 0 && (t == &a->key || t == &a->value)) continue;
        else give_data(o, t);
    }
    for (k = 0; k < a->list_count; ++k) {
        give_data(o, &o->lists[0][k]);
        give_data(o, &o->lists[1][k]);
    }
    if (o->memory.too_large) return;
    give_lengths(o, &a->actual_seq_qlen_tensor, 0);
    give_lengths(o, &a->actual_seq_kvlen_tensor, 1);
    give_pages(o, &a->block_table);
}

static fuzz_output give_output(operation *o, fia_tensor *t) {
    const fuzz_output none = {NULL, 0};
    give_data(o, t);
    return t->ndim && !o->memory.too_large ? fuzz_output_of(&o->memory) : none;
}

/* ---- run ---- */

static void run(operation *o) {
    const fia_problem *p = &o->plan.problem;
    const double rows = (double)p->n_sequences * (double)p->max_q_len * p->n_q_heads;
    fia_report report;
    fia_status status;
    void *workspace;
    if (rows * ((double)p->dim + p->value_dim) * ((double)p->max_kv_len + 1) > FUZZ_MOST_WORK) return;
    give_all_data(o);
    o->out = give_output(o, &o->args.attention_out);
    o->lse = give_output(o, &o->args.softmax_lse);
    workspace = fuzz_room(&o->memory, (double)o->plan.workspace_bytes);
    if (o->memory.too_large) return;
    status =
        fia_fused_infer_attention_score_v2_run(&o->plan, &o->args, workspace, o->plan.workspace_bytes, NULL, &report);
    fuzz_check_report(status, &report);
    if (status == FIA_OK) return;
    if (o->out.low) fuzz_check_untouched(o->out.low, o->out.bytes, report.text);
    if (o->lse.low) fuzz_check_untouched(o->lse.low, o->lse.bytes, report.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fia_report report;
    fia_status status;
    operation o;
    memset(&o, 0, sizeof(o));
    o.in = fuzz_begin(data, size);
    o.memory.state = o.in.state;
    draw_args(&o);
    status = fia_fused_infer_attention_score_v2_outputs(&o.args, &report);
    fuzz_check_report(status, &report);
    if (fuzz_chance(&o.in, 8)) /* a word of an output's shape, strides or type */
        fuzz_poke(&o.in, (char *)tensor_of(&o.args, INPUTS + (int)fuzz_between(&o.in, 0, 1)) + 8,
                  sizeof(fia_tensor) - 8);
    memset(&o.plan, FUZZ_CANARY, sizeof(o.plan));
    status =
        fia_fused_infer_attention_score_v2_plan(NULL, &o.args, 1 + (int)fuzz_between(&o.in, 0, 3), &o.plan, &report);
    fuzz_check_report(status, &report);
    if (status == FIA_OK) {
        run(&o);
        fia_plan_release(&o.plan);
    } else {
        fuzz_check_untouched(&o.plan, sizeof(o.plan), "a refused plan is written");
    }
    fuzz_free(&o.memory);
    return 0;
}
