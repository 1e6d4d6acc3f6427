/* SPDX-License-Identifier: MIT
 *
 * Broken GGUF files: cut at many lengths, bytes and numbers changed at random in the header, and single faults that
 * must be named. Each is either refused with a sentence, or loads, tokenises and sometimes computes. Built with address
 * and undefined-behaviour sanitizers, which see every read out of bounds.
 * And texts, whose tokens are those of the rule.
 * environment: SEED (printed), MODEL (the file; default models/tiny-classics-f16.gguf)
 */
#include "load.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static uint8_t *original;
static size_t size, header; /* header: bytes before the tensor data */
static uint64_t state = 1;

static uint64_t random64(void) { /* splitmix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void the_file_itself_loads(void **unused) {
    error e;
    (void)unused;
    if (load(original, size, 1, &e)) fail_msg("refused: %s", e.text);
}

/* Each length in a block of its own, so that a read past its end is seen. */
static int cut(size_t bytes) {
    uint8_t *copy = (uint8_t *)malloc(bytes ? bytes : 1);
    error e;
    int bad;
    assert_non_null(copy);
    memcpy(copy, original, bytes);
    bad = load(copy, bytes, 0, &e);
    free(copy);
    return bad;
}

static void a_file_cut_at_any_length_is_refused(void **unused) {
    size_t bytes, n = 0;
    int i;
    (void)unused;
    for (bytes = 0; bytes < header; bytes += bytes < 2000 ? 1 : 5, ++n) assert_true(cut(bytes));
    for (i = 0; i < 60; ++i, ++n) assert_true(cut(header + (size_t)(random64() % (size - header))));
    assert_true(cut(size - 1));
    print_message("%d lengths\n", (int)n + 1);
}

/* One changed place of 1, 4 or 8 bytes: random bits, small numbers, and the ends of every integer type. */
static void a_file_with_changed_header_is_refused_or_works(void **unused) {
    static const uint64_t extreme[] = {0,
                                       1,
                                       2,
                                       3,
                                       8,
                                       13,
                                       0x7f,
                                       0xff,
                                       0x7fff,
                                       0xffff,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       0x100000000,
                                       0x7fffffffffffffff,
                                       0x8000000000000000,
                                       0xffffffffffffffff,
                                       0xfffffffffffffff8};
    uint8_t *copy = (uint8_t *)malloc(size);
    int i, refused = 0, computed = 0;
    error e;
    (void)unused;
    assert_non_null(copy);
    memcpy(copy, original, size);
    for (i = 0; i < 12000; ++i) {
        /* names, types and counts lie in the first kilobytes and at the end; the vocabulary is between */
        size_t third = (size_t)(random64() % 3), at = (size_t)(random64() % header), n;
        uint64_t value = random64();
        int j, compute_it;
        if (third == 0) at = at % 900;
        if (third == 1) at = header - 1 - at % 3500;
        n = i % 3 == 0 ? 1 : i % 3 == 1 ? 4 : 8;
        if (i % 2) value = extreme[value % (sizeof(extreme) / sizeof(extreme[0]))];
        if (n > header - at) n = header - at;
        for (j = 0; j < (int)n; ++j) copy[at + (size_t)j] = (uint8_t)(value >> 8 * j);
        compute_it = (i - refused) % 64 == 0;
        if (load(copy, size, compute_it, &e)) ++refused;
        else computed += compute_it;
        memcpy(copy + at, original + at, n);
    }
    free(copy);
    print_message("%d changes: %d refused, %d loaded, of those %d computed\n", i, refused, i - refused, computed);
    assert_true(refused > 1000 && i - refused > 1000);
}

/* ---- single faults, and what the sentence must say ---- */

typedef struct fault {
    const char *name; /* of the key or tensor; NULL: `at` counts from the start of the file */
    int at;           /* from the end of the name. Key: type at 0, value at 4; tensor: dims at 0, dim[i] at 4 + 8 i */
    int bytes;
    uint64_t value;
    const char *says;
} fault;

static const fault faults[] = {
    {NULL, 0, 1, 'X', "does not begin with GGUF"},
    {NULL, 4, 4, 1, "GGUF version is 1; allowed: 2, 3"},
    {NULL, 4, 4, 0x03000000, "GGUF version is 50331648"},
    {NULL, 8, 8, 1u << 20, "tensor count is 1048576"},
    {NULL, 8, 8, UINT64_MAX, "tensor count is 18446744073709551615"},
    {NULL, 8, 8, 56, "tensor blk.5.ffn_down.weight is missing"},
    {NULL, 16, 8, UINT64_MAX, "key count is 18446744073709551615"},
    {NULL, 24, 8, UINT64_MAX, "a key name at byte 32 needs 18446744073709551615 bytes"},
    {"general.architecture", 4, 8, UINT64_MAX - 7, "a string at byte"},
    {"general.architecture", 12, 1, 'L', "general.architecture is \"Llama\"; read here"},
    {"general.architecture", -1, 1, 1, "key general.architecture is missing"},
    {"general.architecture", 0, 4, 4, "key "},
    {"llama.context_length", 0, 4, 13, "key llama.context_length has value type 13"},
    {"llama.context_length", 4, 4, 0, "llama.context_length is 0; allowed: 1 to"},
    {"llama.context_length", 0, 4, GGUF_F32, "llama.context_length has value type 6; an integer is needed"},
    {"llama.embedding_length", 4, 4, 0, "llama.embedding_length is 0"},
    {"llama.embedding_length", 4, 4, 190,
     "llama.attention.head_count is 6; allowed: divisors of embedding_length, 190"},
    {"llama.embedding_length", 4, 4, 0xffffffff, "llama.embedding_length is 4294967295"},
    {"llama.embedding_length", 4, 4, 384, "tensor token_embd.weight has 2 dimensions (192, 1024"},
    {"llama.embedding_length", 0, 4, GGUF_I32, NULL},
    {"llama.feed_forward_length", 4, 4, 513, "tensor blk.0.ffn_up.weight has"},
    {"llama.block_count", 4, 4, 0, "llama.block_count is 0"},
    {"llama.block_count", 4, 4, 7, "tensor blk.6.attn_q.weight is missing"},
    {"llama.block_count", 4, 4, 5, "the file has 57 tensors; a llama model of 5 layers has 48"},
    {"llama.block_count", 4, 4, 0x7fffffff, "llama.block_count is 2147483647"},
    {"llama.attention.head_count", 4, 4, 0, "llama.attention.head_count is 0"},
    {"llama.attention.head_count", 4, 4, 12, "llama.rope.dimension_count is 32; allowed: 1 to 16"},
    {"llama.attention.head_count_kv", 4, 4, 0, "llama.attention.head_count_kv is 0"},
    {"llama.attention.head_count_kv", 4, 4, 4, "llama.attention.head_count_kv is 4; allowed: divisors"},
    {"llama.attention.head_count_kv", 4, 4, 3, "tensor blk.0.attn_k.weight has 2 dimensions (192, 64"},
    {"llama.attention.head_count_kv", 0, 4, GGUF_I32, NULL},
    {"llama.attention.layer_norm_rms_epsilon", 4, 4, 0x7fc00000, "layer_norm_rms_epsilon is"},
    {"llama.attention.layer_norm_rms_epsilon", 4, 4, 0xbf800000, "layer_norm_rms_epsilon is -1"},
    {"llama.attention.layer_norm_rms_epsilon", -1, 1, 'N', "key llama.attention.layer_norm_rms_epsilon is missing"},
    {"llama.rope.dimension_count", 4, 4, 31, "llama.rope.dimension_count is 31; allowed: even"},
    {"llama.rope.dimension_count", 4, 4, 34, "llama.rope.dimension_count is 34; allowed: 1 to 32"},
    {"llama.rope.freq_base", 4, 4, 0, "llama.rope.freq_base is 0"},
    {"llama.rope.freq_base", 4, 4, 0x7f800000, "llama.rope.freq_base is inf"},
    {"llama.vocab_size", 4, 4, 1023, "llama.vocab_size is 1023; tokenizer.ggml.tokens has 1024"},
    {"tokenizer.ggml.model", 12, 1, 'b', "tokenizer.ggml.model is \"blama\""},
    {"tokenizer.ggml.tokens", 4, 4, 9, "key tokenizer.ggml.tokens is an array of arrays"},
    {"tokenizer.ggml.tokens", 4, 4, 99, "key tokenizer.ggml.tokens has value type 99"},
    {"tokenizer.ggml.tokens", 8, 8, UINT64_MAX, "a string at byte"},
    {"tokenizer.ggml.tokens", 16, 8, UINT64_MAX, "a string at byte"},
    {"tokenizer.ggml.tokens", -1, 1, 'S', "key tokenizer.ggml.tokens is missing"},
    {"tokenizer.ggml.scores", -1, 1, 'S', "key tokenizer.ggml.scores is missing"},
    {"tokenizer.ggml.scores", 4, 4, 5, "tokenizer.ggml.scores has value type 9 of 5; an array of type 6"},
    {"tokenizer.ggml.scores", 8, 8, UINT64_MAX / 4 + 2, "key tokenizer.ggml.scores has 4611686018427387905 elements"},
    {"tokenizer.ggml.token_type", 12, 4, 2, "key tokenizer.ggml.token_type has 8589935616 elements"},
    {"tokenizer.ggml.token_type", 16, 4, 7, "tokenizer.ggml.token_type holds 7"},
    {"tokenizer.ggml.bos_token_id", 4, 4, 1024, "tokenizer.ggml.bos_token_id is 1024; allowed: 0 to 1023"},
    {"tokenizer.ggml.eos_token_id", 4, 4, 0xffffffff, "tokenizer.ggml.eos_token_id is 4294967295"},
    {"tokenizer.ggml.add_bos_token", 4, 1, 2, "key tokenizer.ggml.add_bos_token holds bool 2"},
    {"tokenizer.ggml.add_bos_token", 0, 4, GGUF_U8, "tokenizer.ggml.add_bos_token has value type 0; a bool is needed"},
    {"token_embd.weight", 0, 4, 0, "tensor token_embd.weight has 0 dimensions"},
    {"token_embd.weight", 0, 4, 5, "tensor token_embd.weight has 5 dimensions"},
    {"token_embd.weight", 4, 8, 0, "tensor token_embd.weight has dimension 0"},
    {"token_embd.weight", 4, 8, UINT64_MAX, "tensor token_embd.weight has dimension 18446744073709551615"},
    {"token_embd.weight", 4, 8, 0x7fffffff, "tensor token_embd.weight has 4398046509056 bytes"},
    {"token_embd.weight", 4, 8, 191, "has 2 dimensions (191, 1024"},
    {"token_embd.weight", 20, 4, 2, "tensor token_embd.weight has type 2; read here"},
    {"token_embd.weight", 20, 4, 8, NULL},
    {"token_embd.weight", 24, 8, 2, "tensor token_embd.weight has offset 2; allowed: multiples of 32"},
    {"token_embd.weight", 24, 8, UINT64_MAX - 31, "tensor token_embd.weight has 393216 bytes at offset"},
    {"output_norm.weight", 16, 8, 32, "tensor output_norm.weight overlaps tensor token_embd.weight"},
    {"output_norm.weight", 12, 4, 1, "tensor output_norm.weight has type 1; a norm"},
    {"output.weight", -1, 1, 'T', "the file has 57 tensors; a llama model of 6 layers has 56"},
    {"blk.3.ffn_up.weight", 4, 8, 96, "tensor blk.3.ffn_up.weight has 2 dimensions (96, 512"},
    {"blk.3.ffn_up.weight", -15, 1, '4', "tensor blk.4.ffn_up.weight occurs twice"},
    {"blk.5.attn_v.weight", -1, 1, 'T', "tensor blk.5.attn_v.weight is missing"},
    {"blk.5.attn_v.weight", -1, 1, 0x07, "tensor blk.5.attn_v.weight is missing"},
};

/* End of a name in the header: its characters behind their length, which no other name shares. */
static size_t end_of(const char *name) {
    size_t n = strlen(name), i;
    for (i = 8; i + n < header; ++i)
        if (original[i - 8] == n && !original[i - 7] && !memcmp(original + i, name, n)) return i + n;
    fail_msg("no %s in the file", name);
    return 0;
}

static void every_fault_is_named(void **unused) {
    uint8_t *copy = (uint8_t *)malloc(size);
    int missed = 0;
    size_t i;
    error e;
    (void)unused;
    assert_non_null(copy);
    memcpy(copy, original, size);
    for (i = 0; i < sizeof(faults) / sizeof(faults[0]); ++i) {
        const fault *f = &faults[i];
        size_t at = (f->name ? end_of(f->name) : 0) + (size_t)f->at;
        int j, bad;
        for (j = 0; j < f->bytes; ++j) copy[at + (size_t)j] = (uint8_t)(f->value >> 8 * j);
        bad = load(copy, size, 0, &e);
        if (bad != !!f->says || (bad && !strstr(e.text, f->says))) {
            print_message("fault %d: want \"%s\", got \"%s\"\n", (int)i, f->says ? f->says : "no refusal", e.text);
            ++missed;
        }
        memcpy(copy + at, original + at, (size_t)f->bytes);
    }
    free(copy);
    print_message("%d faults\n", (int)i);
    assert_int_equal(missed, 0);
}

/* ---- tokens of a text ---- */

static int32_t token_of(const tokenizer *t, const char *at, size_t n) {
    int32_t id = t->n_tokens;
    while (id-- > 0) {
        const token *k = &t->tokens[id];
        const int text = k->kind == TOKEN_NORMAL || k->kind == TOKEN_USER || k->kind == TOKEN_UNUSED;
        if (text && k->text.length == n && !memcmp(k->text.at, at, n)) return id;
    }
    return -1;
}

/* The rule as it reads: of neighbours whose joint text is a token those with the highest score are joined, the leftmost
 * of equals, until there are none. start: where the n pieces begin, and the end. Returns how many are left. */
static int join_by_rule(const tokenizer *t, const char *text, int *start, int n) {
    for (;;) {
        int i, best = -1;
        float score = 0;
        for (i = 0; i + 1 < n; ++i) {
            const int32_t id = token_of(t, text + start[i], (size_t)(start[i + 2] - start[i]));
            if (id < 0 || (best >= 0 && t->tokens[id].score <= score)) continue;
            best = i;
            score = t->tokens[id].score;
        }
        if (best < 0) return n;
        memmove(start + best + 1, start + best + 2, (size_t)(n - best - 1) * sizeof(*start));
        --n;
    }
}

/* Random words of ASCII, line ends and two-byte characters, 0 to 60 of them. */
static void texts_are_joined_by_the_rule(void **unused) {
    static const char *const parts[] = {"e", "t",   "a",    "n",  " ",        "the", "Th",
                                        "s", "ing", " and", "\n", "\xc3\xa9", "q",   "0"};
    gguf_file file;
    tokenizer t;
    error e;
    int i, j, n, got, pieces;
    (void)unused;
    assert_int_equal(gguf_parse(&file, original, size, &e), 0);
    assert_int_equal(tokenizer_load(&t, &file, &e), 0);
    for (i = 0; i < 200; ++i) {
        char text[256] = "", stored[800] = "";
        int start[802];
        int32_t *ids;
        for (j = (int)(random64() % 61); j > 0; --j)
            strcat(text, parts[random64() % (sizeof(parts) / sizeof(parts[0]))]);
        if (*text && t.add_space_prefix) strcat(stored, "\xe2\x96\x81");
        for (j = 0; text[j]; ++j) strncat(stored, text[j] == ' ' ? "\xe2\x96\x81" : text + j, text[j] == ' ' ? 3 : 1);
        for (j = n = 0; stored[j]; ++j)
            if (((unsigned char)stored[j] & 0xc0) != 0x80) start[n++] = j;
        start[n] = j;
        n = join_by_rule(&t, stored, start, n);
        got = tokenizer_encode(&t, text, &ids, &e);
        for (j = 0, pieces = t.add_bos ? 1 : 0; j < n; ++j) {
            const int32_t id = token_of(&t, stored + start[j], (size_t)(start[j + 1] - start[j]));
            if (id >= 0 && (pieces >= got || ids[pieces] != id)) fail_msg("piece %d of \"%s\" is %d", j, text, (int)id);
            pieces += id >= 0 ? 1 : start[j + 1] - start[j];
        }
        assert_int_equal(got, pieces + (t.add_eos ? 1 : 0));
        free(ids);
    }
    tokenizer_free(&t);
    gguf_close(&file);
}

static int read_model(void **unused) {
    const char *path = getenv("MODEL"), *seed = getenv("SEED");
    FILE *f = fopen(path ? path : "models/tiny-classics-f16.gguf", "rb");
    gguf_file file;
    error e;
    (void)unused;
    state = seed ? strtoull(seed, NULL, 10) : 1;
    print_message("SEED=%llu\n", (unsigned long long)state);
    if (!f || fseek(f, 0, SEEK_END)) return -1;
    size = (size_t)ftell(f);
    rewind(f);
    original = (uint8_t *)malloc(size);
    if (!original || fread(original, 1, size, f) != size) return -1;
    fclose(f);
    if (gguf_parse(&file, original, size, &e)) return -1;
    header = (size_t)(file.tensors[0].data - original);
    gguf_close(&file);
    return 0;
}

static int free_model(void **unused) {
    (void)unused;
    free(original);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_file_itself_loads),
        cmocka_unit_test(a_file_cut_at_any_length_is_refused),
        cmocka_unit_test(a_file_with_changed_header_is_refused_or_works),
        cmocka_unit_test(every_fault_is_named),
        cmocka_unit_test(texts_are_joined_by_the_rule),
    };
    return cmocka_run_group_tests_name("generate_hostile", tests, read_model, free_model);
}
