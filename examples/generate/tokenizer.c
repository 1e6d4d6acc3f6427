/* SPDX-License-Identifier: MIT */
#include "tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char SPACE[] = "\xe2\x96\x81"; /* U+2581, how a space is stored */

/* ---- the vocabulary as a hash table: open addressing, half full at most ---- */

static uint32_t hash(gguf_string s) {
    uint32_t h = 2166136261u; /* FNV-1a */
    size_t i;
    for (i = 0; i < s.length; ++i) h = (h ^ (unsigned char)s.at[i]) * 16777619u;
    return h;
}

/* The slot of a text: the one that holds it, or the free one where it belongs. */
static int32_t *slot_of(const tokenizer *t, gguf_string s) {
    uint32_t i = hash(s) & t->slot_mask;
    while (t->slots[i] >= 0) {
        gguf_string other = t->tokens[t->slots[i]].text;
        if (other.length == s.length && !memcmp(other.at, s.at, s.length)) break;
        i = (i + 1) & t->slot_mask;
    }
    return &t->slots[i];
}

/* Texts that a prompt can consist of; "<s>" in a prompt is three characters, not the begin token. */
static int is_text(const token *k) {
    return k->kind == TOKEN_NORMAL || k->kind == TOKEN_USER || k->kind == TOKEN_UNUSED;
}

/* The byte of a token named <0x0A>, or -1. */
static int byte_of(const token *k) {
    char name[7], *end;
    long v;
    if (k->kind != TOKEN_BYTE || k->text.length != 6) return -1;
    memcpy(name, k->text.at, 6);
    name[5] = 0; /* instead of '>' */
    v = memcmp(name, "<0x", 3) ? -1 : strtol(name + 3, &end, 16);
    return v < 0 || end != name + 5 || k->text.at[5] != '>' ? -1 : (int)v;
}

static int build_table(tokenizer *t, error *e) {
    uint32_t n = 16, i;
    int32_t id;
    while (n < 2 * (uint32_t)t->n_tokens) n *= 2;
    t->slots = (int32_t *)malloc(n * sizeof(*t->slots));
    if (!t->slots) return fail(e, "no memory for a table of %lu tokens", (unsigned long)t->n_tokens);
    for (i = 0; i < n; ++i) t->slots[i] = -1;
    for (i = 0; i < 256; ++i) t->byte_id[i] = -1;
    t->slot_mask = n - 1;
    for (id = 0; id < t->n_tokens; ++id) {
        int byte = byte_of(&t->tokens[id]);
        if (byte >= 0) t->byte_id[byte] = id;
        if (is_text(&t->tokens[id])) *slot_of(t, t->tokens[id].text) = id;
    }
    return 0;
}

/* ---- load ---- */

static int load_tokens(tokenizer *t, const gguf_file *file, error *e) {
    const gguf_key *texts, *scores, *kinds;
    const uint8_t *at;
    int32_t i;
    if (gguf_need(file, "tokenizer.ggml.tokens", e) || gguf_need(file, "tokenizer.ggml.scores", e)) return -1;
    if (gguf_get_array(file, "tokenizer.ggml.tokens", GGUF_STRING, &texts, e)) return -1;
    if (gguf_get_array(file, "tokenizer.ggml.scores", GGUF_F32, &scores, e)) return -1;
    if (gguf_get_array(file, "tokenizer.ggml.token_type", GGUF_I32, &kinds, e)) return -1;
    if (texts->count < 1 || texts->count > 1 << 24)
        return fail(e, "tokenizer.ggml.tokens has %llu elements; allowed: 1 to 16777216",
                    (unsigned long long)texts->count);
    if (scores->count != texts->count || (kinds && kinds->count != texts->count))
        return fail(e, "tokenizer.ggml.%s has %llu elements; tokenizer.ggml.tokens has %llu",
                    scores->count != texts->count ? "scores" : "token_type",
                    (unsigned long long)(scores->count != texts->count ? scores->count : kinds->count),
                    (unsigned long long)texts->count);
    t->n_tokens = (int32_t)texts->count;
    t->tokens = (token *)malloc((size_t)t->n_tokens * sizeof(token));
    if (!t->tokens) return fail(e, "no memory for %ld tokens", (long)t->n_tokens);
    for (i = 0, at = texts->value; i < t->n_tokens; ++i) {
        t->tokens[i].text = gguf_next_string(&at);
        t->tokens[i].score = gguf_float_at(scores, (uint64_t)i);
        t->tokens[i].kind = kinds ? gguf_int_at(kinds, (uint64_t)i) : TOKEN_NORMAL;
        if (t->tokens[i].kind < TOKEN_NORMAL || t->tokens[i].kind > TOKEN_BYTE)
            return fail(e, "tokenizer.ggml.token_type holds %d; allowed: 1 to 6", t->tokens[i].kind);
    }
    return 0;
}

int tokenizer_load(tokenizer *t, const gguf_file *file, error *e) {
    gguf_string model = {"", 0};
    char name[64];
    memset(t, 0, sizeof(*t));
    if (gguf_need(file, "tokenizer.ggml.model", e) || gguf_get_string(file, "tokenizer.ggml.model", &model, e))
        return -1;
    if (!gguf_string_is(model, "llama"))
        return fail(e, "tokenizer.ggml.model is \"%s\"; read here: \"llama\"", gguf_printable(model, name));
    if (load_tokens(t, file, e) || build_table(t, e)) return -1;
    if (t->n_tokens < 3)
        return fail(e, "tokenizer.ggml.tokens has %d elements; at least 3 are needed", (int)t->n_tokens);
    t->unknown = 0, t->bos = 1, t->eos = 2;
    t->add_bos = 1, t->add_eos = 0, t->add_space_prefix = 1;
    if (gguf_get_int(file, "tokenizer.ggml.bos_token_id", 0, t->n_tokens - 1, &t->bos, e)) return -1;
    if (gguf_get_int(file, "tokenizer.ggml.eos_token_id", 0, t->n_tokens - 1, &t->eos, e)) return -1;
    if (gguf_get_int(file, "tokenizer.ggml.unknown_token_id", 0, t->n_tokens - 1, &t->unknown, e)) return -1;
    if (gguf_get_bool(file, "tokenizer.ggml.add_bos_token", &t->add_bos, e)) return -1;
    if (gguf_get_bool(file, "tokenizer.ggml.add_eos_token", &t->add_eos, e)) return -1;
    return gguf_get_bool(file, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix, e);
}

void tokenizer_free(tokenizer *t) {
    free(t->tokens);
    free(t->slots);
    memset(t, 0, sizeof(*t));
}

/* ---- text to tokens ---- */

/* A piece of the text; joining two makes the left one longer and unlinks the right one. */
typedef struct symbol {
    gguf_string text;
    int before, next; /* -1: none */
    float joined;     /* score of this piece joined with the next one; -inf: no token */
} symbol;

/* The pieces of a prompt, and a tree of those that are best to join: best[size + i] is i, best[k] the better one of
 * best[2 k] and best[2 k + 1], the left one of equals; so best[1] is the best of all. */
typedef struct pieces {
    symbol *symbols;
    int *best;
    int n, size; /* size: a power of two above n */
} pieces;

/* A copy of the text with spaces as they are stored. */
static char *with_stored_spaces(const tokenizer *t, const char *text) {
    char *copy = (char *)malloc(3 * strlen(text) + 4), *at = copy;
    if (!copy) return NULL;
    if (t->add_space_prefix && *text) {
        memcpy(at, SPACE, 3);
        at += 3;
    }
    for (; *text; ++text) {
        size_t n = *text == ' ' ? 3 : 1;
        memcpy(at, *text == ' ' ? SPACE : text, n);
        at += n;
    }
    *at = 0;
    return copy;
}

/* Bytes of the UTF-8 character at `at`; broken text is cut somewhere, its bytes become byte tokens. */
static size_t character_bytes(const char *at) {
    unsigned char lead = (unsigned char)*at;
    size_t n = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4, i;
    for (i = 1; i < n; ++i)
        if (((unsigned char)at[i] & 0xc0) != 0x80) return i; /* ends at the NUL, too */
    return n;
}

static int split(pieces *p, const char *text) {
    size_t length = strlen(text);
    int i;
    for (p->size = 1; (size_t)p->size <= length;) p->size *= 2;
    p->symbols = (symbol *)malloc((size_t)p->size * sizeof(symbol));
    p->best = (int *)malloc(2 * (size_t)p->size * sizeof(int));
    if (!p->symbols || !p->best) return -1;
    for (i = 0; i < p->size; ++i) {
        symbol *s = &p->symbols[i];
        s->text.at = text;
        s->text.length = *text ? character_bytes(text) : 0;
        s->before = i - 1;
        s->joined = -INFINITY;
        p->best[p->size + i] = i;
        if (*text) p->n = i + 1;
        text += s->text.length;
    }
    for (i = 0; i < p->n; ++i) p->symbols[i].next = i + 1 < p->n ? i + 1 : -1;
    for (i = p->size - 1; i > 0; --i) p->best[i] = p->best[2 * i];
    return 0;
}

static void rate(const tokenizer *t, pieces *p, int i) {
    symbol *s = p->symbols + i;
    gguf_string both = s->text;
    int32_t id;
    int k;
    s->joined = -INFINITY;
    if (s->next >= 0) {
        both.length += p->symbols[s->next].text.length;
        id = *slot_of(t, both);
        if (id >= 0 && t->tokens[id].score > -INFINITY) s->joined = t->tokens[id].score; /* a NaN joins nothing */
    }
    for (k = (p->size + i) / 2; k > 0; k /= 2) {
        const int left = p->best[2 * k], right = p->best[2 * k + 1];
        p->best[k] = p->symbols[right].joined > p->symbols[left].joined ? right : left;
    }
}

/* Joins the best pair, the leftmost of equals, until no pair is a token. */
static void join(const tokenizer *t, pieces *p) {
    int i;
    for (i = 0; i < p->n; ++i) rate(t, p, i);
    while (p->symbols[p->best[1]].joined > -INFINITY) {
        const int best = p->best[1], gone = p->symbols[best].next, after = p->symbols[gone].next;
        p->symbols[best].text.length += p->symbols[gone].text.length;
        p->symbols[best].next = after;
        if (after >= 0) p->symbols[after].before = best;
        p->symbols[gone].next = -1;
        rate(t, p, gone);
        rate(t, p, best);
        if (p->symbols[best].before >= 0) rate(t, p, p->symbols[best].before);
    }
}

/* Token of a piece, or of each of its bytes. Returns how many. */
static int emit(const tokenizer *t, gguf_string piece, int32_t *ids) {
    int32_t id = *slot_of(t, piece);
    size_t i;
    if (id >= 0) {
        *ids = id;
        return 1;
    }
    for (i = 0; i < piece.length; ++i) {
        id = t->byte_id[(unsigned char)piece.at[i]];
        ids[i] = id >= 0 ? id : (int32_t)t->unknown;
    }
    return (int)piece.length;
}

int tokenizer_encode(const tokenizer *t, const char *text, int32_t **ids, error *e) {
    size_t length = strlen(text);
    char *stored = length < 1 << 24 ? with_stored_spaces(t, text) : NULL;
    pieces p = {NULL, NULL, 0, 0};
    int n = -1, i;
    *ids = stored ? (int32_t *)malloc((strlen(stored) + 2) * sizeof(int32_t)) : NULL;
    if (!*ids || split(&p, stored)) {
        (void)fail(e, "no memory for a prompt of %llu bytes", (unsigned long long)length);
        free(*ids);
        *ids = NULL;
    } else {
        join(t, &p);
        n = 0;
        if (t->add_bos) (*ids)[n++] = (int32_t)t->bos;
        for (i = p.n ? 0 : -1; i >= 0; i = p.symbols[i].next) n += emit(t, p.symbols[i].text, *ids + n);
        if (t->add_eos) (*ids)[n++] = (int32_t)t->eos;
    }
    free(p.best);
    free(p.symbols);
    free(stored);
    return n;
}

/* ---- tokens to text ---- */

void tokenizer_print(const tokenizer *t, int32_t id, FILE *out) {
    const token *k = &t->tokens[id];
    size_t i;
    if (k->kind == TOKEN_BYTE) {
        int byte = byte_of(k);
        if (byte >= 0) fputc(byte, out);
        return;
    }
    if (k->kind == TOKEN_CONTROL) return;
    for (i = 0; i < k->text.length; ++i) {
        if (k->text.length - i >= 3 && !memcmp(k->text.at + i, SPACE, 3)) {
            fputc(' ', out);
            i += 2;
        } else {
            fputc(k->text.at[i], out);
        }
    }
}
