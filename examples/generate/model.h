/* SPDX-License-Identifier: MIT
 *
 * A llama model: hyperparameters and weights from a GGUF file, and the forward pass of one step.
 * model.c reads, forward.c computes. Weights stay in the file's types and are widened row by row; the arithmetic is
 * in f32.
 */
#ifndef GENERATE_MODEL_H
#define GENERATE_MODEL_H

#include "gguf.h"
#include "kv.h"

/** A weight (rows, columns) as it is stored. */
typedef struct matrix {
    const uint8_t *data;
    int type; /* GGUF_TENSOR_* */
    int rows, columns;
} matrix;

typedef struct layer {
    const float *attn_norm, *ffn_norm;
    matrix q, k, v, o, gate, up, down;
} layer;

typedef struct model {
    int n_layers, width, ff, n_q_heads, n_kv_heads;
    int key_dim, value_dim, rope_dim;
    int n_vocab, n_context;
    float norm_eps, rope_base;
    matrix embedding, output;
    const float *output_norm;
    layer *layers;
    int max_rows, threads;
    float *memory;                                        /* what the pointers below point into */
    float *x, *normed, *q, *k, *v, *attended, *gate, *up; /* (max_rows, ...) */
    float *cosines, *sines;                               /* (max_rows, rope_dim / 2) */
    double attention_seconds;                             /* in kv_store and kv_attend, since the model was loaded */
} model;

/** Reads the llama keys and binds the tensors; `file` must outlive the model. Every shape is checked.
 * 0, or -1 and the error; model_free in both cases. */
int model_load(model *m, const gguf_file *file, error *e);

/** Makes room for steps of max_rows rows; `threads` is the size of the OpenMP team. */
int model_reserve(model *m, int max_rows, int threads, error *e);

void model_free(model *m);

/**
 * One step: n_rows[s] tokens of each of n_sequences sequences, one sequence after another.
 * Writes logits (live, n_vocab): those of the last token of every sequence that has rows in this step.
 */
int model_step(model *m, kv_cache *kv, int n_sequences, const int32_t *n_rows, const int32_t *tokens, float *logits,
               error *e);

/** Wall clock. */
double seconds(void);

#endif
