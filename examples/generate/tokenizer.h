/* SPDX-License-Identifier: MIT
 *
 * The SentencePiece-style BPE tokenizer of llama models: a text is cut into characters, then the neighbours whose
 * concatenation is the token with the highest score are joined, again and again. Characters that are no token become
 * byte tokens.
 */
#ifndef GENERATE_TOKENIZER_H
#define GENERATE_TOKENIZER_H

#include "gguf.h"

#include <stdio.h>

typedef struct token {
    gguf_string text; /* inside the file; a space is stored as U+2581 */
    float score;
    int kind; /* TOKEN_* */
} token;

enum { TOKEN_NORMAL = 1, TOKEN_UNKNOWN = 2, TOKEN_CONTROL = 3, TOKEN_USER = 4, TOKEN_UNUSED = 5, TOKEN_BYTE = 6 };

typedef struct tokenizer {
    token *tokens;
    int32_t n_tokens;
    int32_t *slots; /* hash table of token ids, -1: free */
    uint32_t slot_mask;
    int32_t byte_id[256]; /* -1: the byte has no token */
    int64_t bos, eos, unknown;
    int add_bos, add_eos, add_space_prefix;
} tokenizer;

/** Reads the tokenizer.ggml keys; `file` must outlive it. 0, or -1 and the error; tokenizer_free in both cases. */
int tokenizer_load(tokenizer *t, const gguf_file *file, error *e);

void tokenizer_free(tokenizer *t);

/** Tokens of a text, begin and end tokens as the file demands. *ids is malloced. Returns their number, or -1. */
int tokenizer_encode(const tokenizer *t, const char *text, int32_t **ids, error *e);

/** Writes the text of one token. */
void tokenizer_print(const tokenizer *t, int32_t id, FILE *out);

#endif
