/* SPDX-License-Identifier: MIT
 *
 * A paged KV cache for many sequences, and attention over it. kv.c is the only file here that calls FIA.
 *
 * Keys and values of a layer lie in a pool of pages, (n_pages, Hkv, page size, D). A sequence owns whole pages, in any
 * order; row s of the block table lists them: key j of sequence s is slot j % P of page table[s][j / P].
 * All layers share the table, so pages are handed out once per step.
 */
#ifndef GENERATE_KV_H
#define GENERATE_KV_H

#include "gguf.h"

typedef enum kv_type { KV_F32, KV_F16, KV_BF16 } kv_type;

typedef struct kv_shape {
    int n_layers, n_q_heads, n_kv_heads;
    int key_dim, value_dim; /* D, Dv */
    int n_sequences;        /* B: sequences that live at the same time */
    int max_keys;           /* keys that one sequence may reach */
    int max_rows;           /* query rows of a step, all sequences together */
    int page_size;          /* P: keys of a page */
    kv_type type;
    int threads;
} kv_shape;

typedef struct kv_cache kv_cache;

/** Makes the pools and the plan. NULL and the error where FIA refuses the shape or memory is short. */
kv_cache *kv_make(const kv_shape *shape, error *e);

void kv_free(kv_cache *kv);

/**
 * Begins a step: sequence s will get n_rows[s] new keys (0: it rests), and pages to hold them.
 * In what follows the rows of the step lie one sequence after another: row 0 of sequence 0, row 1, ..., row 0 of
 * sequence 1, and so on.
 */
int kv_begin(kv_cache *kv, const int32_t *n_rows, error *e);

/** Position of the first new row of a sequence: the keys that it had before this step. */
int kv_position(const kv_cache *kv, int sequence);

/** Stores the step's keys (rows, Hkv, D) and values (rows, Hkv, Dv) of one layer. */
void kv_store(kv_cache *kv, int layer, const float *key, const float *value);

/** Causal attention of the step's queries (rows, Hq, D) over all keys of their sequences; out is (rows, Hq, Dv). */
int kv_attend(kv_cache *kv, int layer, const float *query, float *out, error *e);

/** Ends a sequence: its pages are free for others. */
void kv_drop(kv_cache *kv, int sequence);

/** Bytes of the pages that sequences own now, of all pages, and the plan's workspace. */
typedef struct kv_memory {
    size_t used, pool, workspace;
} kv_memory;
kv_memory kv_bytes(const kv_cache *kv);

#endif
