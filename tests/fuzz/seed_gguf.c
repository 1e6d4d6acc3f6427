/* SPDX-License-Identifier: MIT
 *
 * Writes the smallest GGUF file that the text generator takes, a model of one layer and four tokens: seed_gguf FILE
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { U32 = 4, I32 = 5, F32 = 6, STRING = 8, ARRAY = 9, WIDTH = 4, VOCABULARY = 4, ALIGNMENT = 32 };

static FILE *to;
static uint64_t offset; /* of the next tensor in the data */

static void number(uint64_t value, int bytes) {
    for (; bytes > 0; --bytes, value >>= 8) (void)fputc((int)(value & 255), to);
}

static void text(const char *s) {
    number(strlen(s), 8);
    (void)fputs(s, to);
}

static void key(const char *name, int type) {
    text(name);
    number((uint64_t)type, 4);
}

static void key_u32(const char *name, uint64_t value) {
    key(name, U32);
    number(value, 4);
}

static void key_text(const char *name, const char *value) {
    key(name, STRING);
    text(value);
}

static void key_array(const char *name, int element) {
    key(name, ARRAY);
    number((uint64_t)element, 4);
    number(VOCABULARY, 8);
}

/* An f32 tensor; rows 0: a vector. */
static void tensor(const char *name, uint64_t rows) {
    const uint64_t bytes = WIDTH * (rows ? rows : 1) * 4;
    text(name);
    number(rows ? 2 : 1, 4);
    number(WIDTH, 8);
    if (rows) number(rows, 8);
    number(0, 4);
    number(offset, 8);
    offset += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void keys(void) {
    static const char *const tokens[VOCABULARY] = {"<unk>", "<s>", "</s>", "e"};
    int i;
    key_text("general.architecture", "llama");
    key_u32("llama.context_length", 8);
    key_u32("llama.embedding_length", WIDTH);
    key_u32("llama.feed_forward_length", WIDTH);
    key_u32("llama.block_count", 1);
    key_u32("llama.attention.head_count", 2);
    key_u32("llama.attention.head_count_kv", 2);
    key("llama.attention.layer_norm_rms_epsilon", F32);
    number(0x3727c5ac, 4); /* 1e-5 */
    key_text("tokenizer.ggml.model", "llama");
    key_array("tokenizer.ggml.tokens", STRING);
    for (i = 0; i < VOCABULARY; ++i) text(tokens[i]);
    key_array("tokenizer.ggml.scores", F32);
    for (i = 0; i < VOCABULARY; ++i) number(0, 4);
    key_array("tokenizer.ggml.token_type", I32);
    for (i = 0; i < VOCABULARY; ++i) number(1, 4);
}

static void tensors(void) {
    static const char *const matrices[] = {"attn_q", "attn_k",   "attn_v",  "attn_output",
                                           "ffn_up", "ffn_gate", "ffn_down"};
    char name[40];
    size_t i;
    tensor("token_embd.weight", VOCABULARY);
    tensor("output_norm.weight", 0);
    for (i = 0; i < sizeof(matrices) / sizeof(matrices[0]); ++i) {
        (void)snprintf(name, sizeof(name), "blk.0.%s.weight", matrices[i]);
        tensor(name, WIDTH);
    }
    tensor("blk.0.attn_norm.weight", 0);
    tensor("blk.0.ffn_norm.weight", 0);
}

int main(int argc, char **argv) {
    uint64_t i;
    if (argc != 2 || !(to = fopen(argv[1], "wb"))) return 1;
    (void)fputs("GGUF", to);
    number(3, 4);
    number(11, 8); /* tensors */
    number(12, 8); /* keys */
    keys();
    tensors();
    while (ftell(to) % ALIGNMENT) number(0, 1);
    for (i = 0; i < offset / 4; ++i) number(i % 3 ? 0x3e000000 : 0xbe800000, 4); /* 0.125, -0.25 */
    return fclose(to) ? 1 : 0;
}
