/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Limits that no model comes near; within them products of two sizes fit an int64. */
#define MAX_SIZE (1 << 20)

/* Keys that change the computation in ways this example does not know. */
static int refuse_variants(const gguf_file *file, error *e) {
    static const char *const known_absent[] = {"llama.expert_count",        "llama.rope.scale_linear",
                                               "llama.rope.scaling.factor", "llama.attention.clamp_kqv",
                                               "llama.attention.scale",     "llama.attention.sliding_window",
                                               "llama.logit_scale"};
    gguf_string architecture = {"", 0}, scaling = {"none", 4};
    char name[64];
    size_t i;
    if (gguf_need(file, "general.architecture", e) || gguf_get_string(file, "general.architecture", &architecture, e))
        return -1;
    if (!gguf_string_is(architecture, "llama"))
        return fail(e, "general.architecture is \"%s\"; read here: \"llama\"", gguf_printable(architecture, name));
    if (gguf_get_string(file, "llama.rope.scaling.type", &scaling, e)) return -1;
    if (!gguf_string_is(scaling, "none"))
        return fail(e, "llama.rope.scaling.type is \"%s\"; read here: \"none\"", gguf_printable(scaling, name));
    for (i = 0; i < sizeof(known_absent) / sizeof(known_absent[0]); ++i)
        if (gguf_find_key(file, known_absent[i])) return fail(e, "key %s is not supported", known_absent[i]);
    return 0;
}

static int need_int(const gguf_file *file, const char *name, int64_t high, int *value, error *e) {
    int64_t v = 0;
    if (gguf_need(file, name, e) || gguf_get_int(file, name, 1, high, &v, e)) return -1;
    *value = (int)v;
    return 0;
}

static int maybe_int(const gguf_file *file, const char *name, int64_t high, int *value, error *e) {
    int64_t v = *value;
    if (gguf_get_int(file, name, 1, high, &v, e)) return -1;
    *value = (int)v;
    return 0;
}

static int load_heads(model *m, const gguf_file *file, error *e) {
    if (need_int(file, "llama.attention.head_count", 65536, &m->n_q_heads, e)) return -1;
    m->n_kv_heads = m->n_q_heads;
    if (maybe_int(file, "llama.attention.head_count_kv", 65536, &m->n_kv_heads, e)) return -1;
    if (m->n_q_heads % m->n_kv_heads)
        return fail(e, "llama.attention.head_count_kv is %d; allowed: divisors of head_count, %d", m->n_kv_heads,
                    m->n_q_heads);
    m->key_dim = m->value_dim = m->width / m->n_q_heads;
    if (!gguf_find_key(file, "llama.attention.key_length") && m->width % m->n_q_heads)
        return fail(e, "llama.attention.head_count is %d; allowed: divisors of embedding_length, %d", m->n_q_heads,
                    m->width);
    if (maybe_int(file, "llama.attention.key_length", 65536, &m->key_dim, e)) return -1;
    if (maybe_int(file, "llama.attention.value_length", 65536, &m->value_dim, e)) return -1;
    m->rope_dim = m->key_dim;
    if (maybe_int(file, "llama.rope.dimension_count", m->key_dim, &m->rope_dim, e)) return -1;
    if (m->rope_dim % 2) return fail(e, "llama.rope.dimension_count is %d; allowed: even numbers", m->rope_dim);
    return 0;
}

static int load_sizes(model *m, const gguf_file *file, error *e) {
    if (need_int(file, "llama.context_length", INT32_MAX, &m->n_context, e)) return -1;
    if (need_int(file, "llama.embedding_length", MAX_SIZE, &m->width, e)) return -1;
    if (need_int(file, "llama.feed_forward_length", MAX_SIZE, &m->ff, e)) return -1;
    if (need_int(file, "llama.block_count", 4096, &m->n_layers, e)) return -1;
    if (load_heads(m, file, e)) return -1;
    m->rope_base = 10000.0f;
    if (gguf_need(file, "llama.attention.layer_norm_rms_epsilon", e)) return -1;
    if (gguf_get_float(file, "llama.attention.layer_norm_rms_epsilon", &m->norm_eps, e)) return -1;
    if (gguf_get_float(file, "llama.rope.freq_base", &m->rope_base, e)) return -1;
    if (!(m->norm_eps >= 0 && m->norm_eps < 1))
        return fail(e, "llama.attention.layer_norm_rms_epsilon is %g; allowed: 0 to below 1", (double)m->norm_eps);
    if (!(m->rope_base > 0 && m->rope_base <= 1e12f))
        return fail(e, "llama.rope.freq_base is %g; allowed: above 0, to 1e12", (double)m->rope_base);
    return 0;
}

/* A tensor of a known shape; rows 0: a vector. The file lists the contiguous dimension first. */
static const gguf_tensor *need_tensor(const gguf_file *file, const char *name, int64_t columns, int64_t rows,
                                      error *e) {
    const gguf_tensor *t = gguf_find_tensor(file, name);
    int n_dims = rows ? 2 : 1;
    if (!t) {
        fail(e, "tensor %s is missing", name);
        return NULL;
    }
    if (t->n_dims != n_dims || t->dim[0] != (uint64_t)columns || (rows && t->dim[1] != (uint64_t)rows)) {
        fail(e, "tensor %s has %d dimensions (%llu, %llu, ...); the hyperparameters ask for %d (%lld, %lld)", name,
             t->n_dims, (unsigned long long)t->dim[0], (unsigned long long)t->dim[1], n_dims, (long long)columns,
             (long long)(rows ? rows : 1));
        return NULL;
    }
    return t;
}

static int bind_matrix(const gguf_file *file, const char *name, int64_t columns, int64_t rows, matrix *w, error *e) {
    const gguf_tensor *t = need_tensor(file, name, columns, rows, e);
    if (!t) return -1;
    w->data = t->data;
    w->type = t->type;
    w->rows = (int)rows;
    w->columns = (int)columns;
    return 0;
}

static int bind_norm(const gguf_file *file, const char *name, int width, const float **norm, error *e) {
    const gguf_tensor *t = need_tensor(file, name, width, 0, e);
    if (!t) return -1;
    if (t->type != GGUF_TENSOR_F32) return fail(e, "tensor %s has type %d; a norm is read as F32 (0)", name, t->type);
    *norm = (const float *)(const void *)t->data; /* aligned: offsets are multiples of 8 or more */
    return 0;
}

/* A matrix that every layer has. */
typedef struct weight {
    const char *name;
    int64_t columns, rows;
    matrix *to;
} weight;

static int bind_layer(model *m, const gguf_file *file, int i, error *e) {
    const int64_t width = m->width, ff = m->ff;
    const int64_t q = (int64_t)m->n_q_heads * m->key_dim, k = (int64_t)m->n_kv_heads * m->key_dim;
    const int64_t v = (int64_t)m->n_kv_heads * m->value_dim, o = (int64_t)m->n_q_heads * m->value_dim;
    layer *l = &m->layers[i];
    const weight part[] = {{"attn_q", width, q, &l->q},      {"attn_k", width, k, &l->k},
                           {"attn_v", width, v, &l->v},      {"attn_output", o, width, &l->o},
                           {"ffn_up", width, ff, &l->up},    {"ffn_gate", width, ff, &l->gate},
                           {"ffn_down", ff, width, &l->down}};
    char name[64];
    size_t j;
    for (j = 0; j < sizeof(part) / sizeof(part[0]); ++j) {
        snprintf(name, sizeof(name), "blk.%d.%s.weight", i, part[j].name);
        if (bind_matrix(file, name, part[j].columns, part[j].rows, part[j].to, e)) return -1;
    }
    snprintf(name, sizeof(name), "blk.%d.attn_norm.weight", i);
    if (bind_norm(file, name, m->width, &l->attn_norm, e)) return -1;
    snprintf(name, sizeof(name), "blk.%d.ffn_norm.weight", i);
    return bind_norm(file, name, m->width, &l->ffn_norm, e);
}

int model_load(model *m, const gguf_file *file, error *e) {
    const gguf_key *tokens = NULL;
    uint64_t expected;
    int i, tied;
    memset(m, 0, sizeof(*m));
    if (refuse_variants(file, e) || load_sizes(m, file, e)) return -1;
    if (gguf_need(file, "tokenizer.ggml.tokens", e)) return -1;
    if (gguf_get_array(file, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, e)) return -1;
    if (tokens->count < 1 || tokens->count > 1 << 24)
        return fail(e, "tokenizer.ggml.tokens has %llu elements; allowed: 1 to 16777216",
                    (unsigned long long)tokens->count);
    m->n_vocab = i = (int)tokens->count;
    if (maybe_int(file, "llama.vocab_size", INT32_MAX, &i, e)) return -1;
    if (i != m->n_vocab) return fail(e, "llama.vocab_size is %d; tokenizer.ggml.tokens has %d elements", i, m->n_vocab);
    if (bind_matrix(file, "token_embd.weight", m->width, m->n_vocab, &m->embedding, e)) return -1;
    if (bind_norm(file, "output_norm.weight", m->width, &m->output_norm, e)) return -1;
    m->output = m->embedding; /* one matrix for both, where the file has no other */
    tied = !gguf_find_tensor(file, "output.weight");
    if (!tied && bind_matrix(file, "output.weight", m->width, m->n_vocab, &m->output, e)) return -1;
    expected = (uint64_t)m->n_layers * 9 + (tied ? 2 : 3);
    m->layers = (layer *)calloc((size_t)m->n_layers, sizeof(layer));
    if (!m->layers) return fail(e, "no memory for %d layers", m->n_layers);
    for (i = 0; i < m->n_layers; ++i)
        if (bind_layer(m, file, i, e)) return -1;
    /* Biases, rope factors, experts: a tensor that is not used would make the text silently wrong. */
    if (file->n_tensors != expected)
        return fail(e, "the file has %llu tensors; a llama model of %d layers has %llu here",
                    (unsigned long long)file->n_tensors, m->n_layers, (unsigned long long)expected);
    return 0;
}

int model_reserve(model *m, int max_rows, int threads, error *e) {
    const size_t rows = (size_t)max_rows, width = (size_t)m->width, ff = (size_t)m->ff, half = (size_t)m->rope_dim / 2;
    const size_t q = (size_t)m->n_q_heads * (size_t)m->key_dim, k = (size_t)m->n_kv_heads * (size_t)m->key_dim;
    const size_t v = (size_t)m->n_kv_heads * (size_t)m->value_dim, o = (size_t)m->n_q_heads * (size_t)m->value_dim;
    const size_t row = 2 * width + q + k + v + o + 2 * ff + 2 * half;
    float *at;
    m->max_rows = max_rows;
    m->threads = threads;
    free(m->memory);
    m->memory = rows > SIZE_MAX / sizeof(float) / row ? NULL : (float *)malloc(rows * row * sizeof(float));
    if (!m->memory) return fail(e, "no memory for steps of %d rows", max_rows);
    at = m->memory;
    m->x = at, at += rows * width;
    m->normed = at, at += rows * width;
    m->q = at, at += rows * q;
    m->k = at, at += rows * k;
    m->v = at, at += rows * v;
    m->attended = at, at += rows * o;
    m->gate = at, at += rows * ff;
    m->up = at, at += rows * ff;
    m->cosines = at, at += rows * half;
    m->sines = at;
    return 0;
}

void model_free(model *m) {
    free(m->layers);
    free(m->memory);
    memset(m, 0, sizeof(*m));
}
