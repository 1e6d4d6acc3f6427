/* SPDX-License-Identifier: MIT
 *
 * What the generator does with a file that is not trusted; for tests, which see to it that no read is out of bounds.
 */
#ifndef GENERATE_LOAD_H
#define GENERATE_LOAD_H

#include "model.h"
#include "tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOAD_CHECK(condition, text)                                                                                    \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        (void)fprintf(stderr, "%s [%s]\n", #condition, text);                                                          \
        abort();                                                                                                       \
    } while (0)

/* Three tokens through the model. */
static int load_compute(model *m, error *e) {
    static const int32_t n_rows[1] = {3}, tokens[3] = {0, 1, 2};
    const kv_shape shape = {m->n_layers, m->n_q_heads, m->n_kv_heads, m->key_dim, m->value_dim, 1, 3, 3, 2, KV_F16, 1};
    float *logits = (float *)malloc((size_t)m->n_vocab * sizeof(float));
    kv_cache *kv = kv_make(&shape, e);
    int bad = !logits || !kv || model_reserve(m, 3, 1, e) || model_step(m, kv, 1, n_rows, tokens, logits, e);
    free(logits);
    kv_free(kv);
    return bad;
}

/* 0: it is fine; 1: refused, with a sentence in e. */
static int load(const uint8_t *data, size_t bytes, int and_compute, error *e) {
    gguf_file file;
    tokenizer t;
    model m;
    int32_t *ids = NULL;
    int bad;
    memset(&t, 0, sizeof(t));
    memset(&m, 0, sizeof(m));
    e->text[0] = 0;
    bad = gguf_parse(&file, data, bytes, e) || model_load(&m, &file, e) || tokenizer_load(&t, &file, e);
    if (!bad) {
        int n = tokenizer_encode(&t, "It was \xe2\x82\xac 5, he said.\n", &ids, e);
        bad = n < 0;
        while (n-- > 0) LOAD_CHECK(ids[n] >= 0 && ids[n] < t.n_tokens, "a token that the vocabulary lacks");
        free(ids);
    }
    if (!bad && and_compute) bad = load_compute(&m, e);
    model_free(&m);
    tokenizer_free(&t);
    gguf_close(&file);
    if (bad) LOAD_CHECK(strlen(e->text) > 10, e->text);
    return bad;
}

#endif
