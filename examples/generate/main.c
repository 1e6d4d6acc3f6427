/* SPDX-License-Identifier: MIT
 *
 * Generates text with a llama model from a GGUF file. All attention runs in FIA, over a paged KV cache (kv.c).
 * Several prompts are decoded together: in every step each sequence brings what it has not fed yet, a part of its
 * prompt or the one token that was chosen last, and one call per layer attends for all of them.
 *
 *   cc -std=c99 -O2 -march=native -ffp-contract=off -fopenmp -DFIA_IMPLEMENTATION -I. examples/generate/[a-z]*.c -lm \
 *      -o generate
 *   ./generate --prompt "Alice was beginning to" --prompt "Of Man's first disobedience,"
 */
#include "tokenizer.h"
#include "model.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PROMPTS = 64 };

#ifdef _OPENMP
enum { MOST_THREADS = 256 };
#else
enum { MOST_THREADS = 1 };
#endif

/* ---- options ---- */

typedef struct options {
    const char *model, *prompt[MAX_PROMPTS];
    int n_prompts;
    long length, page, threads, rows, seed;
    double temperature;
    kv_type kv;
    int ids;
} options;

static const char USAGE[] = "usage: generate [options]\n"
                            "  --model FILE         GGUF file (models/tiny-classics-f16.gguf)\n"
                            "  --prompt TEXT        up to 64 of them, decoded together (\"Alice was beginning to\")\n"
                            "  --length N           tokens to generate for each prompt (96)\n"
                            "  --temperature T      0 (default): the likeliest token; above: sample\n"
                            "  --seed N             of the samples (1)\n"
                            "  --kv f32|f16|bf16    how keys and values are stored (f16)\n"
                            "  --page N             keys of a cache page (16)\n"
                            "  --threads N          (1); more of them need a build with OpenMP\n"
                            "  --rows N             most tokens of a step; longer prompts are fed in parts (512)\n"
                            "  --ids                print token ids instead of text\n";

static int read_long(const char *text, long low, long high, long *value) {
    char *end;
    *value = strtol(text, &end, 10); /* out of long's range it gives the extreme, which is outside low..high */
    return *end || end == text || *value < low || *value > high ? -1 : 0;
}

static int read_kv(const char *text, kv_type *kv) {
    *kv = !strcmp(text, "f32") ? KV_F32 : !strcmp(text, "f16") ? KV_F16 : KV_BF16;
    return *kv == KV_BF16 && strcmp(text, "bf16") ? -1 : 0;
}

static int read_temperature(const char *text, double *value) {
    char *end;
    *value = strtod(text, &end);
    return *end || end == text || !(*value >= 0 && *value <= 100) ? -1 : 0;
}

static int read_option(options *o, const char *name, const char *value) {
    if (!strcmp(name, "--model")) return o->model = value, 0;
    if (!strcmp(name, "--prompt")) return o->n_prompts < MAX_PROMPTS ? o->prompt[o->n_prompts++] = value, 0 : -1;
    if (!strcmp(name, "--length")) return read_long(value, 0, 1 << 30, &o->length);
    if (!strcmp(name, "--temperature")) return read_temperature(value, &o->temperature);
    if (!strcmp(name, "--seed")) return read_long(value, 0, LONG_MAX - 1, &o->seed);
    if (!strcmp(name, "--kv")) return read_kv(value, &o->kv);
    if (!strcmp(name, "--page")) return read_long(value, 1, 1 << 20, &o->page);
    if (!strcmp(name, "--threads")) return read_long(value, 1, MOST_THREADS, &o->threads);
    if (!strcmp(name, "--rows")) return read_long(value, 1, 1 << 20, &o->rows);
    return -1;
}

static int read_options(options *o, int argc, char **argv) {
    int i;
    for (i = 1; i < argc; ++i) {
        if (!strcmp(argv[i], "--ids")) {
            o->ids = 1;
        } else if (i + 1 == argc || read_option(o, argv[i], argv[i + 1])) {
            fprintf(stderr, "generate: %s %s\n%s", argv[i], i + 1 < argc ? argv[i + 1] : "(no value)", USAGE);
            return -1;
        } else {
            ++i;
        }
    }
    if (!o->n_prompts) o->prompt[o->n_prompts++] = "Alice was beginning to";
    if (o->rows < o->n_prompts) {
        fprintf(stderr, "generate: --rows %ld; every one of %d prompts needs a row\n", o->rows, o->n_prompts);
        return -1;
    }
    return 0;
}

/* ---- choice of a token ---- */

/* A uniform number in [0, 1): splitmix64. */
static double uniform(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int32_t choose(const float *logits, int n, double temperature, uint64_t *state) {
    double sum = 0, at;
    int i, best = 0;
    for (i = 1; i < n; ++i)
        if (logits[i] > logits[best]) best = i;
    if (temperature <= 0) return best;
    for (i = 0; i < n; ++i) sum += exp((logits[i] - logits[best]) / temperature);
    at = uniform(state) * sum;
    for (i = 0; i < n; ++i)
        if ((at -= exp((logits[i] - logits[best]) / temperature)) < 0) return i;
    return best;
}

/* ---- the sequences ---- */

typedef struct sequence {
    int32_t *ids; /* the prompt's tokens, then the generated ones */
    int n_prompt, n, n_fed;
    int done;
    uint64_t random;
} sequence;

typedef struct run {
    options o;
    gguf_file file;
    tokenizer tok;
    model m;
    kv_cache *kv;
    sequence seq[MAX_PROMPTS];
    int32_t *tokens; /* (rows): those of a step */
    float *logits;   /* (n_prompts, n_vocab) */
    kv_memory most;  /* when most pages were in use */
    double prompt_seconds, decode_seconds;
    long prompt_tokens, decode_tokens;
} run;

static void print_token(const run *r, int32_t id) {
    if (r->o.ids) printf(" %d", (int)id);
    else tokenizer_print(&r->tok, id, stdout);
}

static void print_prompt(const run *r, int s) {
    int i;
    if (r->o.ids) printf("prompt %d:", s);
    for (i = 0; r->o.ids && i < r->seq[s].n_prompt; ++i) printf(" %d", (int)r->seq[s].ids[i]);
    if (r->o.ids) printf("\ntokens %d:", s);
    else fputs(r->o.prompt[s], stdout);
    fflush(stdout);
}

static int encode_prompt(run *r, int s, error *e) {
    sequence *seq = &r->seq[s];
    int32_t *ids, *longer;
    int n = tokenizer_encode(&r->tok, r->o.prompt[s], &ids, e);
    if (n < 0) return -1;
    seq->ids = ids;
    if (!n) return fail(e, "prompt %d has no tokens", s);
    if (n > r->m.n_context || r->o.length > r->m.n_context - n)
        return fail(e, "prompt %d has %d tokens, and %ld are to be generated; the model's context is %d", s, n,
                    r->o.length, r->m.n_context);
    longer = (int32_t *)realloc(ids, (size_t)(n + r->o.length) * sizeof(int32_t));
    if (!longer) return fail(e, "no memory for prompt %d", s);
    seq->ids = longer;
    seq->n = seq->n_prompt = n;
    seq->done = !r->o.length;
    /* every prompt draws from a stream of its own, so that neighbours do not change its text */
    seq->random = (uint64_t)r->o.seed + (uint64_t)s * 0x632be59bd9b4e019u;
    return 0;
}

static int prepare(run *r, error *e) {
    kv_shape shape;
    long total = 0;
    int s, longest = 1;
    if (gguf_open(&r->file, r->o.model, e) || model_load(&r->m, &r->file, e) || tokenizer_load(&r->tok, &r->file, e))
        return -1;
    for (s = 0; s < r->o.n_prompts; ++s) {
        if (encode_prompt(r, s, e)) return -1;
        if (r->seq[s].n > longest) longest = r->seq[s].n;
        total += r->seq[s].n;
    }
    if (r->o.rows > total) r->o.rows = total; /* no step has more */
    if (model_reserve(&r->m, (int)r->o.rows, (int)r->o.threads, e)) return -1;
    shape.n_layers = r->m.n_layers;
    shape.n_q_heads = r->m.n_q_heads;
    shape.n_kv_heads = r->m.n_kv_heads;
    shape.key_dim = r->m.key_dim;
    shape.value_dim = r->m.value_dim;
    shape.n_sequences = r->o.n_prompts;
    shape.max_keys = longest + (int)r->o.length;
    shape.max_rows = (int)r->o.rows;
    shape.page_size = (int)r->o.page;
    shape.type = r->o.kv;
    shape.threads = (int)r->o.threads;
    if (!(r->kv = kv_make(&shape, e))) return -1;
    r->tokens = (int32_t *)malloc((size_t)r->o.rows * sizeof(int32_t));
    r->logits = (float *)malloc((size_t)r->o.n_prompts * (size_t)r->m.n_vocab * sizeof(float));
    return r->tokens && r->logits ? 0 : fail(e, "no memory for a step of %ld tokens", r->o.rows);
}

/* What each sequence brings to the next step, in r->tokens. Returns the number of tokens; 0: all are done. */
static int gather(run *r, int32_t *n_rows) {
    int n = 0, s, waiting = r->o.n_prompts;
    for (s = 0; s < r->o.n_prompts; ++s, --waiting) {
        sequence *seq = &r->seq[s];
        int room = (int)r->o.rows - n - (waiting - 1), pending = seq->done ? 0 : seq->n - seq->n_fed;
        n_rows[s] = pending < room ? pending : room; /* leaves a row for everyone behind */
        memcpy(r->tokens + n, seq->ids + seq->n_fed, (size_t)n_rows[s] * sizeof(int32_t));
        n += n_rows[s];
        seq->n_fed += n_rows[s];
    }
    return n;
}

/* Appends the next token of a sequence that has fed all it had; ends the sequence, if that was its last. */
static void advance(run *r, int s, const float *logits) {
    sequence *seq = &r->seq[s];
    int32_t id;
    if (seq->n_fed < seq->n) return; /* the rest of the prompt comes first */
    id = choose(logits, r->m.n_vocab, r->o.temperature, &seq->random);
    seq->ids[seq->n++] = id;
    if (s == 0) { /* the others are printed when all are done */
        print_token(r, id);
        fflush(stdout);
    }
    if (id != r->tok.eos && seq->n - seq->n_prompt < r->o.length) return;
    seq->done = 1;
    kv_drop(r->kv, s);
}

static int generate(run *r, error *e) {
    int32_t n_rows[MAX_PROMPTS];
    int n, s;
    r->most = kv_bytes(r->kv);
    print_prompt(r, 0);
    while ((n = gather(r, n_rows)) > 0) {
        const float *logits = r->logits;
        const double start = seconds();
        long of_prompts = 0; /* rows of this step; its time is shared out by them */
        double time;
        kv_memory now;
        if (model_step(&r->m, r->kv, r->o.n_prompts, n_rows, r->tokens, r->logits, e)) return -1;
        time = seconds() - start;
        for (s = 0; s < r->o.n_prompts; ++s)
            if (r->seq[s].n == r->seq[s].n_prompt) of_prompts += n_rows[s];
        r->prompt_tokens += of_prompts;
        r->decode_tokens += n - of_prompts;
        r->prompt_seconds += time * (double)of_prompts / n;
        r->decode_seconds += time * (double)(n - of_prompts) / n;
        now = kv_bytes(r->kv);
        if (now.used > r->most.used) r->most = now;
        for (s = 0; s < r->o.n_prompts; ++s) {
            if (!n_rows[s]) continue;
            advance(r, s, logits);
            logits += r->m.n_vocab;
        }
    }
    putchar('\n');
    for (s = 1; s < r->o.n_prompts; ++s) {
        print_prompt(r, s);
        for (n = r->seq[s].n_prompt; n < r->seq[s].n; ++n) print_token(r, r->seq[s].ids[n]);
        putchar('\n');
    }
    fflush(stdout);
    return 0;
}

static double per_second(long n, double time) { return time > 0 ? (double)n / time : 0; }

static void print_numbers(const run *r) {
    static const char *const kv_names[] = {"f32", "f16", "bf16"};
    const double all = r->prompt_seconds + r->decode_seconds;
    fprintf(stderr, "prompt     %ld tokens, %.0f tokens/s\n", r->prompt_tokens,
            per_second(r->prompt_tokens, r->prompt_seconds));
    fprintf(stderr, "decode     %ld tokens, %.0f tokens/s\n", r->decode_tokens,
            per_second(r->decode_tokens, r->decode_seconds));
    fprintf(stderr, "attention  %.1f %% of the time\n", all > 0 ? 100 * r->m.attention_seconds / all : 0);
    fprintf(stderr,
            "KV cache   %s, pages of %ld keys; %llu bytes in use at most, %llu in the pool; workspace %llu bytes\n",
            kv_names[r->o.kv], r->o.page, (unsigned long long)r->most.used, (unsigned long long)r->most.pool,
            (unsigned long long)r->most.workspace);
}

int main(int argc, char **argv) {
    static run r; /* all zero */
    error e;
    int s, bad;
    r.o.model = "models/tiny-classics-f16.gguf";
    r.o.length = 96;
    r.o.page = 16;
    r.o.threads = 1;
    r.o.rows = 512;
    r.o.seed = 1;
    r.o.kv = KV_F16;
    if (read_options(&r.o, argc, argv)) return 2;
    bad = prepare(&r, &e) || generate(&r, &e);
    if (!bad && (fflush(stdout) || ferror(stdout))) bad = fail(&e, "cannot write to standard output");
    if (bad) fprintf(stderr, "generate: %s\n", e.text);
    else print_numbers(&r);
    for (s = 0; s < r.o.n_prompts; ++s) free(r.seq[s].ids);
    free(r.tokens);
    free(r.logits);
    kv_free(r.kv);
    model_free(&r.m);
    tokenizer_free(&r.tok);
    gguf_close(&r.file);
    return bad;
}
