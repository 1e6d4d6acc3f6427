/* SPDX-License-Identifier: MIT
 *
 * Random attention calls: what is drawn, the problem, io and buffers made from it, a run in one of many ways,
 * and the check of every output byte against the oracle.
 *
 *     test_case c;
 *     case_make(&c, seed, &limits, hook);      draw, lay out, fill
 *     case_run_and_check(&c, &stats, &limits, stderr);  0: as the oracle says
 *     case_free(&c);
 */
#ifndef FIA_TEST_CASE_H
#define FIA_TEST_CASE_H

#include <stdio.h>

#include "fia.h"
#include "oracle.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- random numbers ---- */

typedef struct case_random {
    uint64_t state;
} case_random;

uint64_t case_mix(uint64_t x);
uint64_t case_next(case_random *random);
int64_t case_between(case_random *random, int64_t low, int64_t high); /* both inclusive */
int case_chance(case_random *random, int percent);
double case_uniform(case_random *random); /* [0, 1) */
double case_normal(case_random *random);

uint64_t case_seed(void);                   /* of the whole test; case_main prints it */
case_random case_random_of(uint64_t which); /* for what is drawn outside of a case */

/* ---- what is drawn ---- */

enum { CASE_MAX_SEQUENCES = 12, CASE_MAX_MEMORY = 64, CASE_EXPLAIN_BYTES = 4096, CASE_NOTE_BYTES = 256 };

/** Where the keys of a case lie. */
enum {
    CASE_KEYS_HEAD_MAJOR,  /* (B, Hkv, S, D) */
    CASE_KEYS_TOKEN_MAJOR, /* (B, S, Hkv, D) */
    CASE_KEYS_PACKED,      /* (T, Hkv, D) or (Hkv, T, D) */
    CASE_KEYS_LIST,        /* a pointer per sequence */
    CASE_KEYS_BNBSH,       /* pages (page, slot, Hkv, D) */
    CASE_KEYS_BNNBSD,      /* pages (page, Hkv, slot, D) */
    CASE_KEYS_NZ           /* pages (page, Hkv, D / 16, slot, 16) */
};

enum {
    CASE_DATA_NORMAL,
    CASE_DATA_LARGE,  /* logits of a deviation of 16, values of 100 */
    CASE_DATA_PEAKED, /* a few keys far above the others */
    CASE_DATA_EQUAL,  /* all keys of a head are the same */
    CASE_DATA_EDGE,   /* logits within +-80 */
    CASE_DATA_TINY    /* subnormal queries, keys and values */
};

/** How a case is run. */
enum {
    CASE_RUN_SERIAL,        /* fia_run without workers */
    CASE_RUN_SHUFFLED,      /* fia_run, tasks one by one in random order */
    CASE_RUN_PHASES,        /* phases, items in random pieces and order, random worker numbers */
    CASE_RUN_THREADS,       /* fia_run on threads */
    CASE_RUN_ITH,           /* fia_run_ith on threads with a barrier */
    CASE_RUN_PHASE_THREADS, /* phases, threads that take pieces from a common pile */
    CASE_RUN_MODES
};

enum { CASE_LENGTHS_ABSENT = -1 }; /* beside FIA_LENGTHS_* */

typedef struct case_mask {
    fia_dtype dtype;                        /* FIA_NONE: absent */
    int all_sequences, all_heads, all_rows; /* 1: broadcast */
    int infinities;                         /* 1: some entries are -inf */
} case_mask;

/** Everything that is drawn; a hook may change it before buffers are made. */
typedef struct case_draw {
    fia_dtype q, k, v, out;
    int32_t D, Dr, Dv, Hkv, G;
    int value_in_key;

    int64_t B, room_B; /* sequences of the run and of the plan */
    int64_t q_len[CASE_MAX_SEQUENCES], kv_len[CASE_MAX_SEQUENCES];
    int64_t room_q, room_kv;                     /* max_q_len, max_kv_len */
    int64_t spare_q, spare_kv;                   /* packed: rows after the last sequence */
    int q_lengths, kv_lengths;                   /* FIA_LENGTHS_* or CASE_LENGTHS_ABSENT */
    fia_dtype q_ints, kv_ints, offset_ints;      /* FIA_I32, FIA_I64 */
    int wide_ints;                               /* 1: length and offset arrays have gaps */
    int has_q_offset, has_kv_offset, one_offset; /* one_offset: one value for every sequence */
    int64_t q_offset[CASE_MAX_SEQUENCES], kv_offset[CASE_MAX_SEQUENCES];

    int keys, value_keys; /* CASE_KEYS_*; of V: the same form, maybe in another order */
    int64_t page_size;
    int shared_pages; /* 1: the first page of all sequences is the same */
    int q_packed, q_order, out_order, lse_order;
    int broadcast, negative, gaps; /* 1: some strides are 0, negative, wider than needed */
    int list_strides;              /* 1: head strides by sequence */

    int causal, align;
    int64_t window_left, window_right;
    double scale; /* NaN: default */
    double softcap;
    case_mask bias, additive, drop;
    int bias_before_scale;
    int drop_style; /* 0: single entries, 1: spans of keys for all rows, 2: whole rows */
    fia_dtype mask_factor, alibi, sinks;
    int sink_infinities;

    int want_lse, fill_padding, exact, pin_family;
    float lse_empty;
    int64_t pin_chunk;
    int max_workers, n_workers, run_mode, repeat;
    int data;   /* CASE_DATA_* */
    int poison; /* 1: a live NaN or infinity somewhere in Q, K or V */
} case_draw;

/* ---- buffers ---- */

enum { CASE_Q, CASE_Q_ROPE, CASE_K, CASE_K_ROPE, CASE_V, CASE_OUT, CASE_LSE, CASE_TENSORS };

/** One tensor: extents, strides, and memory that ends where its last row ends. */
typedef struct case_tensor {
    fia_view view;
    int32_t elements;                 /* of a row */
    int64_t outer, heads, rows;       /* sequences (1 if packed; pages), heads, rows */
    int parts;                        /* allocations: 1, lists: one per sequence */
    char *memory[CASE_MAX_SEQUENCES]; /* first byte */
    char *base[CASE_MAX_SEQUENCES];   /* row 0 of head 0 of outer 0 */
    size_t bytes[CASE_MAX_SEQUENCES];
    ptrdiff_t head_bytes[CASE_MAX_SEQUENCES]; /* lists */
    int broadcast;
} case_tensor;

typedef struct case_hook case_hook;

typedef struct test_case {
    uint64_t seed;
    case_random random;
    const case_hook *hook;
    case_draw draw;
    fia_problem problem;
    fia_io io;
    oracle_source source; /* filled in from the hook */
    case_tensor tensor[CASE_TENSORS];
    unsigned char
        *live[CASE_MAX_SEQUENCES]; /* live[b][j]: some row of sequence b sees key j by length, causal, window */
    int32_t *block_table;
    const void *list[CASE_TENSORS][CASE_MAX_SEQUENCES];
    int in_arena;                 /* 1: memory is shared by all cases, not freed */
    void *owned[CASE_MAX_MEMORY]; /* every allocation */
    size_t owned_bytes[CASE_MAX_MEMORY];
    int n_owned;
    char explained[CASE_EXPLAIN_BYTES]; /* fia_explain of the first run */
    char note[CASE_NOTE_BYTES];         /* lines "key: word, word" of the hook, counted like those of fia_explain */
    void *user;                         /* of the hook */
} test_case;

/** What must be met, and how often in 2000 cases. */
typedef struct case_wanted {
    const char *word; /* "key: word" */
    int times;
} case_wanted;

/**
 * What an addition under test changes. Any member may be NULL (0).
 * The order of a case: draw, hook->limit, costs are cut to the limit, tensors and io are made, hook->store, run, check.
 */
struct case_hook {
    const char *name;
    const fia_context *context;
    /** Changes what was drawn so that the addition serves it. */
    void (*limit)(test_case *c);
    /** Replaces storage, adds scales, key forms: changes c->problem and c->io. Memory from case_memory. */
    void (*store)(test_case *c);
    /** What the oracle reads instead of problem and io; data of the calls is the test_case. */
    double (*key)(const void *c, int64_t b, int32_t h, int64_t j, int32_t i);
    double (*value)(const void *c, int64_t b, int32_t h, int64_t j, int32_t i);
    int64_t (*entries)(const void *c, int64_t b, int32_t h, int64_t r);
    int64_t (*position)(const void *c, int64_t b, int32_t h, int64_t r, int64_t entry);
    /** rms bound of a row's error on normal data, where it is above 2e-6. */
    double tolerance;
    /** Words that a long test must meet, by fia_explain or by the note of a case. */
    const case_wanted *words;
    int n_words;
    /** Called after the check of a case: counters of the addition and so on; returns 0 if all is well. */
    int (*after)(test_case *c, FILE *log);
};

/** Limits that the whole test shares. */
typedef struct case_limits {
    int64_t chunk;     /* FIA_CHUNK of the bodies under test */
    int64_t most_work; /* multiply-adds of a case: 20 M */
    int64_t most_keys; /* of a sequence */
    int threads_only;  /* 1: every case runs on threads */
} case_limits;

/* ---- statistics over cases ---- */

enum { CASE_CLASSES = 8, CASE_MAX_WORDS = 160, CASE_WORD_BYTES = 56, CASE_MAX_FEATURES = 128 };

/** Errors of the rows of one class: normal or adversarial data, by the type of K, default or exact. */
typedef struct case_errors {
    double n, squares, naive_squares, worst, naive_worst;
} case_errors;

/** Rows of one case share keys and queries, hence their errors: the case that weighs most is kept apart. */
typedef struct case_class {
    case_errors others, heaviest, current;
} case_class;

typedef struct case_stats {
    int64_t cases, failed, rows, long_cases;
    double work, most_work; /* multiply-adds: sum, of the dearest case */
    case_class classes[CASE_CLASSES];
    double lse_worst;
    int n_words; /* words of fia_explain, and in how many cases each stood */
    char word[CASE_MAX_WORDS][CASE_WORD_BYTES];
    int64_t word_count[CASE_MAX_WORDS];
    int64_t pairs[CASE_MAX_FEATURES][CASE_MAX_FEATURES];
    oracle_work oracle;
} case_stats;

void case_stats_init(case_stats *stats);
void case_errors_add(case_errors *into, const case_errors *from);

/** Books the errors of the current case. */
void case_class_end(case_class *class_);
void case_stats_free(case_stats *stats);

/** Adds to the count of a word of fia_explain, "key: word". */
void case_count_word(case_stats *stats, const char *word, int64_t times);

/* ---- cases ---- */

/** Draws a case only: no buffers. Features of it can be asked for. */
void case_draw_only(test_case *c, uint64_t seed, const case_limits *limits, const case_hook *hook);

/** Draws a case and makes its problem, io and buffers. */
void case_make(test_case *c, uint64_t seed, const case_limits *limits, const case_hook *hook);

/** Runs it, compares with the oracle. Returns 0, or 1 after a description in the log. */
int case_run_and_check(test_case *c, case_stats *stats, const case_limits *limits, FILE *log);

void case_free(test_case *c);

/** Memory that lives as long as the case; exactly so many bytes, filled with 0xff (NaN in every float type). */
void *case_memory(test_case *c, size_t bytes);

/** The same for a workspace: at any address, dirty; of a large one only the first and the last MiB are written. */
void *case_workspace(test_case *c, size_t bytes);

/** Multiply-adds of a case. */
double case_work(const test_case *c);

/** A description in a few lines. */
void case_print(const test_case *c, FILE *log);

/** Features of a drawn case: has[i] is 1 if feature i is in it. Returns how many features there are. */
int case_features(const test_case *c, unsigned char has[CASE_MAX_FEATURES]);
const char *case_feature_name(int feature);

/** 1 if two features can never meet. */
int case_features_exclude(int a, int b);

/**
 * The whole random test: reads SEED, CASE, COUNT, FILTER and TEST_BUDGET, makes `count` cases, prints statistics.
 * arguments: --target NAME --chunk N --count N [--small] [--threads] [--stats-in FILE] [--stats-out FILE]
 * returns:   the exit status: 0, 1, or 77 where this CPU lacks the target
 */
int case_main(int argc, char **argv, const case_hook *hook);

#ifdef __cplusplus
}
#endif
#endif
