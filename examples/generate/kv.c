/* SPDX-License-Identifier: MIT */
#include "kv.h"

#include "fia.h"
#include "half.h"

#include <stdlib.h>

struct kv_cache {
    kv_shape shape;
    size_t element;              /* bytes of a stored element */
    size_t key_page, value_page; /* bytes of a page, one layer */
    int64_t n_pages, columns;    /* columns: pages of the longest sequence */
    char *keys, *values;         /* (n_layers, n_pages, Hkv, P, D) and (..., Dv) */
    int32_t *table;              /* (n_sequences, columns) */
    int32_t *free_pages;         /* a stack of n_free page ids */
    int64_t n_free;
    int32_t *n_rows, *n_keys; /* (n_sequences): query rows of this step; keys, with the new ones */
    fia_plan plan;
    int planned;
    void *workspace;
};

/* ---- the attention call ---- */

/* The problem holds all that stays the same from step to step and layer to layer, so one plan serves them all:
 * prompts, parts of prompts and single tokens, also mixed in one step. FIA picks the kernel by each sequence's own
 * row count. */
static fia_status make_plan(kv_cache *kv, fia_report *report) {
    const kv_shape *s = &kv->shape;
    const ptrdiff_t D = s->key_dim, Dv = s->value_dim, P = s->page_size, bytes = (ptrdiff_t)kv->element;
    fia_problem p;
    fia_problem_init(&p);
    p.n_sequences = s->n_sequences;
    p.max_q_len = s->max_rows;
    p.max_kv_len = s->max_keys;
    p.total_q = s->max_rows;
    p.q_packed = 1; /* (rows, Hq, D), one sequence after another */
    p.n_q_heads = s->n_q_heads;
    p.n_kv_heads = s->n_kv_heads;
    p.dim = s->key_dim;
    p.value_dim = s->value_dim;
    p.causal = 1; /* the last row of a sequence sees all of its keys; the scale is 1 / sqrt(D) by default */

    p.query.dtype = p.out.dtype = FIA_F32;
    p.query.row_bytes = s->n_q_heads * D * 4;
    p.query.head_bytes = D * 4;
    p.out.row_bytes = s->n_q_heads * Dv * 4;
    p.out.head_bytes = Dv * 4;

    p.keys = FIA_KEYS_PAGED;
    p.page_size = P;
    p.n_pages = kv->n_pages;
    p.table_columns = kv->columns;
    p.key.dtype = p.value.dtype = s->type == KV_F32 ? FIA_F32 : s->type == KV_F16 ? FIA_F16 : FIA_BF16;
    p.key.sequence_bytes = (ptrdiff_t)kv->key_page; /* from page to page */
    p.key.head_bytes = P * D * bytes;
    p.key.row_bytes = D * bytes;
    p.value.sequence_bytes = (ptrdiff_t)kv->value_page;
    p.value.head_bytes = P * Dv * bytes;
    p.value.row_bytes = Dv * bytes;
    return fia_plan_make(NULL, &p, s->threads, &kv->plan, report);
}

int kv_attend(kv_cache *kv, int layer, const float *query, float *out, error *e) {
    fia_report report;
    fia_io io;
    fia_job job;
    const fia_workers *workers = NULL;
#ifdef _OPENMP
    fia_workers team = {0, fia_openmp_for, NULL};
    team.n = kv->shape.threads;
    workers = &team;
#endif
    fia_io_init(&io);
    io.n_sequences = kv->shape.n_sequences;
    io.query = query;
    io.key = kv->keys + (size_t)layer * (size_t)kv->n_pages * kv->key_page;
    io.value = kv->values + (size_t)layer * (size_t)kv->n_pages * kv->value_page;
    io.out = out;
    io.block_table = kv->table;
    io.q_lens.data = kv->n_rows;
    io.kv_lens.data = kv->n_keys;
    io.q_lens.dtype = io.kv_lens.dtype = FIA_I32;
    io.q_lens.stride_bytes = io.kv_lens.stride_bytes = sizeof(int32_t);

    job.plan = &kv->plan;
    job.io = &io;
    job.workspace = kv->workspace;
    job.workspace_bytes = kv->plan.workspace_bytes;
    if (fia_run(&job, workers, &report) != FIA_OK) return fail(e, "attention: %s", report.text);
    return 0;
}

/* ---- pages ---- */

int kv_begin(kv_cache *kv, const int32_t *n_rows, error *e) {
    const int64_t P = kv->shape.page_size;
    int s;
    for (s = 0; s < kv->shape.n_sequences; ++s) {
        int64_t keys = (int64_t)kv->n_keys[s] + n_rows[s];
        int64_t have = (kv->n_keys[s] + P - 1) / P, need = (keys + P - 1) / P;
        if (keys > kv->shape.max_keys)
            return fail(e, "sequence %d would hold %lld keys; the cache has room for %d", s, (long long)keys,
                        kv->shape.max_keys);
        for (; have < need; ++have) kv->table[s * kv->columns + have] = kv->free_pages[--kv->n_free];
        kv->n_rows[s] = n_rows[s];
        kv->n_keys[s] = (int32_t)keys;
    }
    return 0;
}

int kv_position(const kv_cache *kv, int sequence) { return kv->n_keys[sequence] - kv->n_rows[sequence]; }

void kv_drop(kv_cache *kv, int sequence) {
    int64_t P = kv->shape.page_size, have = (kv->n_keys[sequence] + P - 1) / P;
    while (have) kv->free_pages[kv->n_free++] = kv->table[sequence * kv->columns + --have];
    kv->n_keys[sequence] = kv->n_rows[sequence] = 0;
}

static void store_row(char *dst, const float *src, int n, kv_type type) {
    uint16_t *half = (uint16_t *)(void *)dst;
    int i;
    if (type == KV_F32) memcpy(dst, src, (size_t)n * 4);
    for (i = 0; type == KV_F16 && i < n; ++i) half[i] = f16_from_float(src[i]);
    for (i = 0; type == KV_BF16 && i < n; ++i) half[i] = bf16_from_float(src[i]);
}

/* Stores rows (Hkv, dim) of the step into a layer's pool (page, Hkv, P, dim). */
static void store_rows(const kv_cache *kv, char *pool, size_t page_bytes, const float *src, int dim) {
    const int64_t P = kv->shape.page_size;
    int s, j, h;
    for (s = 0; s < kv->shape.n_sequences; ++s)
        for (j = kv_position(kv, s); j < kv->n_keys[s]; ++j) {
            char *page = pool + (size_t)kv->table[s * kv->columns + j / P] * page_bytes;
            for (h = 0; h < kv->shape.n_kv_heads; ++h, src += dim)
                store_row(page + (size_t)((h * P + j % P) * dim) * kv->element, src, dim, kv->shape.type);
        }
}

void kv_store(kv_cache *kv, int layer, const float *key, const float *value) {
    const size_t pages = (size_t)layer * (size_t)kv->n_pages;
    store_rows(kv, kv->keys + pages * kv->key_page, kv->key_page, key, kv->shape.key_dim);
    store_rows(kv, kv->values + pages * kv->value_page, kv->value_page, value, kv->shape.value_dim);
}

/* ---- make, free, count ---- */

/* a * b, or SIZE_MAX when it does not fit: malloc refuses that. */
static size_t times(size_t a, size_t b) { return b && a > SIZE_MAX / b ? SIZE_MAX : a * b; }

kv_cache *kv_make(const kv_shape *shape, error *e) {
    kv_cache *kv = (kv_cache *)calloc(1, sizeof(*kv));
    fia_report report;
    size_t slots, pages;
    int64_t i;
    if (!kv) {
        fail(e, "no memory for a KV cache");
        return NULL;
    }
    kv->shape = *shape;
    kv->element = shape->type == KV_F32 ? 4 : 2;
    kv->columns = (shape->max_keys + (int64_t)shape->page_size - 1) / shape->page_size;
    kv->n_pages = kv->columns * shape->n_sequences;
    slots = times(times((size_t)shape->n_kv_heads, (size_t)shape->page_size), kv->element);
    kv->key_page = times(slots, (size_t)shape->key_dim);
    kv->value_page = times(slots, (size_t)shape->value_dim);
    pages = (size_t)kv->n_pages;
    if (kv->n_pages > INT32_MAX || make_plan(kv, &report) != FIA_OK) {
        fail(e, "attention: %s", kv->n_pages > INT32_MAX ? "more pages than page ids" : report.text);
        kv_free(kv);
        return NULL;
    }
    kv->planned = 1;
    kv->keys = (char *)malloc(times(times((size_t)shape->n_layers, pages), kv->key_page));
    kv->values = (char *)malloc(times(times((size_t)shape->n_layers, pages), kv->value_page));
    kv->table = (int32_t *)calloc(pages, sizeof(int32_t));
    kv->free_pages = (int32_t *)malloc(times(pages, sizeof(int32_t)));
    kv->n_rows = (int32_t *)calloc((size_t)shape->n_sequences, sizeof(int32_t));
    kv->n_keys = (int32_t *)calloc((size_t)shape->n_sequences, sizeof(int32_t));
    kv->workspace = malloc(kv->plan.workspace_bytes + 1);
    if (!kv->keys || !kv->values || !kv->table || !kv->free_pages || !kv->n_rows || !kv->n_keys || !kv->workspace) {
        fail(e, "no memory for a KV cache of %lld pages of %d keys", (long long)kv->n_pages, shape->page_size);
        kv_free(kv);
        return NULL;
    }
    for (i = 0; i < kv->n_pages; ++i) kv->free_pages[kv->n_free++] = (int32_t)i; /* the last one is used first */
    return kv;
}

void kv_free(kv_cache *kv) {
    if (!kv) return;
    if (kv->planned) fia_plan_release(&kv->plan);
    free(kv->keys);
    free(kv->values);
    free(kv->table);
    free(kv->free_pages);
    free(kv->n_rows);
    free(kv->n_keys);
    free(kv->workspace);
    free(kv);
}

kv_memory kv_bytes(const kv_cache *kv) {
    const size_t page = (size_t)kv->shape.n_layers * (kv->key_page + kv->value_page);
    kv_memory m;
    m.used = (size_t)(kv->n_pages - kv->n_free) * page;
    m.pool = (size_t)kv->n_pages * page;
    m.workspace = kv->plan.workspace_bytes;
    return m;
}
