/* SPDX-License-Identifier: MIT
 *
 * The random test as a program: counts, seeds, statistics and what must not stay below its bound.
 *
 * Environment
 *   SEED=n         seed of the whole test; printed
 *   CASE=0x...     one case alone, as a failure names it
 *   COUNT=n        number of cases; printed
 *   FILTER=a,!b    only cases that have a feature whose name contains a, and none whose name contains b; nothing is
 *                  asked of pairs and words then, and it says so
 *   TEST_BUDGET=f  multiplies the number of cases by f > 0; printed
 */
#include "case.h"
#include "seed.h"
#include "target.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

enum {
    PAIRS_WANTED = 20,
    WORDS_WANTED = 50,
    WORDS_WANTED_SMALL = 10,
    LONG_WANTED = 200,
    ENOUGH_ROWS = 1000,
    FULL_COUNT = 20000,
    CANDIDATES = 6
};

typedef struct options {
    const char *target, *stats_in, *stats_out, *filter;
    int64_t chunk, count, best_count;
    int small, threads;
    uint64_t seed, only;
    int has_only;
    double budget;
} options;

uint64_t case_seed(void) { return seed_of_environment(20240501); }

case_random case_random_of(uint64_t which) {
    case_random random;
    random.state = case_mix(case_seed() * 1000003 + which);
    return random;
}

static int parse(options *o, int argc, char **argv) {
    const char *text;
    int i;
    memset(o, 0, sizeof *o);
    o->target = "native";
    o->chunk = 32;
    o->count = 1000;
    o->budget = 1;
    o->seed = case_seed();
    for (i = 1; i < argc; ++i) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--small") == 0) o->small = 1;
        else if (strcmp(argv[i], "--threads") == 0) o->threads = 1;
        else if (!value) break;
        else if (strcmp(argv[i], "--target") == 0) o->target = value, ++i;
        else if (strcmp(argv[i], "--chunk") == 0) o->chunk = strtol(value, NULL, 10), ++i;
        else if (strcmp(argv[i], "--count") == 0) o->count = strtol(value, NULL, 10), ++i;
        else if (strcmp(argv[i], "--best-count") == 0) o->best_count = strtol(value, NULL, 10), ++i;
        else if (strcmp(argv[i], "--stats-in") == 0) o->stats_in = value, ++i;
        else if (strcmp(argv[i], "--stats-out") == 0) o->stats_out = value, ++i;
        else break;
    }
    if (i < argc) {
        fprintf(stderr, "%s: argument %s is unknown or lacks its value\n", argv[0], argv[i]);
        return 0;
    }
    if (o->best_count && strcmp(o->target, target_best()) == 0) o->count = o->best_count;
    if ((text = getenv("COUNT")) != NULL) {
        printf("COUNT=%s: that many cases instead of %ld\n", text, (long)o->count);
        o->count = strtol(text, NULL, 10);
    }
    if ((text = getenv("TEST_BUDGET")) != NULL) o->budget = strtod(text, NULL);
    if (!(o->budget > 0)) {
        fprintf(stderr, "TEST_BUDGET is %s; it must be a number above 0\n", text);
        return 0;
    }
    o->filter = getenv("FILTER");
    if (o->filter) printf("FILTER=%s: nothing is asked of pairs, words and long cases\n", o->filter);
    if ((text = getenv("CASE")) != NULL) o->only = strtoull(text, NULL, 0), o->has_only = 1;
    return 1;
}

/* ---- choice of cases ---- */

/* 1 if each comma separated word of the filter is part of the name of a feature of the case; with a '!': of none. */
static int passes_filter(const char *filter, const unsigned char *has, int n) {
    char word[64];
    while (filter && *filter) {
        size_t length = strcspn(filter, ",");
        int i, found = 0, wanted = filter[0] != '!';
        if (length >= sizeof word) return 0;
        memcpy(word, filter, length);
        word[length] = 0;
        for (i = 0; i < n; ++i) found |= has[i] && strstr(case_feature_name(i), word + !wanted) != NULL;
        if (found != wanted) return 0;
        filter += length + (filter[length] == ',');
    }
    return 1;
}

/* Of a few random cases the one with most pairs of features that were seldom met so far. */
static uint64_t choose(const options *o, const case_limits *limits, const case_hook *hook, int64_t index,
                       case_stats *planned) {
    static test_case c;
    unsigned char has[CASE_MAX_FEATURES], chosen[CASE_MAX_FEATURES];
    uint64_t best = 0;
    int64_t best_score = -1;
    int n = 0, a, b, i, tries = o->filter ? 4000 : CANDIDATES;
    memset(chosen, 0, sizeof chosen);
    for (i = 0; i < tries; ++i) {
        uint64_t seed = case_mix(o->seed * 1000003 + (uint64_t)index * 4096 + (uint64_t)i) >> 8;
        int64_t score = 0;
        case_draw_only(&c, seed, limits, hook);
        n = case_features(&c, has);
        if (!passes_filter(o->filter, has, n)) continue;
        for (a = 0; a < n; ++a) {
            for (b = a + 1; has[a] && b < n; ++b) score += has[b] && planned->pairs[a][b] < 2 * PAIRS_WANTED;
        }
        if (score <= best_score) continue;
        best_score = score;
        best = seed;
        memcpy(chosen, has, sizeof chosen);
        if (o->filter) break;
    }
    for (a = 0; a < n; ++a) {
        for (b = a + 1; chosen[a] && b < n; ++b) planned->pairs[a][b] += chosen[b];
    }
    return best;
}

/* ---- statistics to and from a file: one program tests one chunk length, bounds hold for both together ---- */

static void write_errors(FILE *file, const char *name, int class_, const case_errors *e) {
    fprintf(file, "%s %d %.17g %.17g %.17g %.17g %.17g\n", name, class_, e->n, e->squares, e->naive_squares, e->worst,
            e->naive_worst);
}

static int write_stats(const case_stats *stats, const char *path) {
    FILE *file = fopen(path, "w");
    int a, b;
    if (!file) {
        perror(path);
        return 1;
    }
    fprintf(file, "cases %ld %ld %ld %.17g %.17g %.17g\n", (long)stats->cases, (long)stats->rows,
            (long)stats->long_cases, stats->work, stats->most_work, stats->lse_worst);
    for (a = 0; a < CASE_CLASSES; ++a) {
        write_errors(file, "others", a, &stats->classes[a].others);
        write_errors(file, "heaviest", a, &stats->classes[a].heaviest);
    }
    for (a = 0; a < CASE_MAX_FEATURES; ++a) {
        for (b = 0; b < CASE_MAX_FEATURES; ++b) {
            if (stats->pairs[a][b]) fprintf(file, "pair %d %d %ld\n", a, b, (long)stats->pairs[a][b]);
        }
    }
    for (a = 0; a < stats->n_words; ++a) fprintf(file, "word %ld %s\n", (long)stats->word_count[a], stats->word[a]);
    return fclose(file) != 0;
}

static void add_line(case_stats *stats, const char *line) {
    long x, y, z;
    int a, b, at = 0;
    double work, most, worst;
    char name[9];
    case_errors e;
    if (sscanf(line, "cases %ld %ld %ld %lf %lf %lf", &x, &y, &z, &work, &most, &worst) == 6) {
        stats->cases += x;
        stats->rows += y;
        stats->long_cases += z;
        stats->work += work;
        stats->most_work = fmax(stats->most_work, most);
        stats->lse_worst = fmax(stats->lse_worst, worst);
    } else if (sscanf(line, "%8s %d %lf %lf %lf %lf %lf", name, &a, &e.n, &e.squares, &e.naive_squares, &e.worst,
                      &e.naive_worst) == 7 &&
               a >= 0 && a < CASE_CLASSES) {
        if (strcmp(name, "others") == 0) {
            case_errors_add(&stats->classes[a].others, &e);
        } else {
            stats->classes[a].current = e;
            case_class_end(&stats->classes[a]);
        }
    } else if (sscanf(line, "pair %d %d %ld", &a, &b, &x) == 3 && a >= 0 && b >= 0 && a < CASE_MAX_FEATURES &&
               b < CASE_MAX_FEATURES) {
        stats->pairs[a][b] += x;
    } else if (sscanf(line, "word %ld %n", &x, &at) == 1 && at > 0) {
        case_count_word(stats, line + at, x);
    }
}

static int read_stats(case_stats *stats, const char *path) {
    char line[256];
    FILE *file = fopen(path, "r");
    if (!file) {
        perror(path);
        return 1;
    }
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        add_line(stats, line);
    }
    fclose(file);
    return 0;
}

/* ---- what the statistics must show ---- */

/* Normal data: rms within the table. The exact path, and adversarial data: not far from a naive f32 program. */
static int class_is_bad(const case_errors *e, int normal, int exact, double bound) {
    double rms = sqrt(e->squares / e->n), naive = sqrt(e->naive_squares / e->n);
    if (normal && rms > bound) return 1;
    if (bound > 2e-6) return 0; /* an addition with rounding of its own */
    if (exact) return rms > 1.1 * naive || e->worst > 2 * e->naive_worst;
    return !normal && rms > 1.5 * naive;
}

static int errors_are_too_large(const case_stats *stats, const case_hook *hook) {
    static const char *const names[4] = {"f32/f16 keys", "f32/f16 keys, exact", "bf16 keys", "bf16 keys, exact"};
    double bound = hook && hook->tolerance > 2e-6 ? hook->tolerance : 2e-6;
    int i, wrong = 0;
    for (i = 0; i < CASE_CLASSES; ++i) {
        const case_class *class_ = &stats->classes[i];
        case_errors e = class_->others;
        int normal = i < 4, exact = i & 1, bad;
        case_errors_add(&e, &class_->heaviest);
        if (e.n == 0) continue;
        /* Errors are heavy-tailed and rows of one case alike: what hangs on one case alone is left to the row's bound. */
        bad = class_->others.n >= ENOUGH_ROWS && class_is_bad(&e, normal, exact, bound) &&
              class_is_bad(&class_->others, normal, exact, bound);
        printf("errors  %-20s %s %9.0f rows  rms %.3g  worst %.3g", names[i & 3],
               normal ? "normal     " : "adversarial", e.n, sqrt(e.squares / e.n), e.worst);
        if (!normal || exact) printf("  naive: rms %.3g  worst %.3g", sqrt(e.naive_squares / e.n), e.naive_worst);
        printf("%s%s\n", normal ? "" : "  (shares of the estimate)",
               bad                              ? "  TOO LARGE"
               : class_->others.n < ENOUGH_ROWS ? "  (too few rows to judge)"
                                                : "");
        wrong |= bad;
    }
    printf("LSE     worst error on normal rows: %.3g\n", stats->lse_worst);
    return wrong;
}

static int pairs_are_too_rare(const case_stats *stats, const options *o, const case_hook *hook, int64_t wanted) {
    static test_case c;
    case_limits limits = {32, 1000000, 1000, 0};
    unsigned char has[CASE_MAX_FEATURES];
    int64_t rarest = INT64_MAX;
    int n, a, b, ra = 0, rb = 0, pairs = 0, below = 0;
    case_draw_only(&c, 1, &limits, NULL);
    n = case_features(&c, has);
    for (a = 0; a < n; ++a) {
        for (b = a + 1; b < n; ++b) {
            if (case_features_exclude(a, b)) continue;
            ++pairs;
            if (stats->pairs[a][b] < rarest) rarest = stats->pairs[a][b], ra = a, rb = b;
            if (stats->pairs[a][b] < wanted && below++ < 10 && !hook && !o->filter) {
                printf("pair    %s x %s: %ld times, wanted %ld\n", case_feature_name(a), case_feature_name(b),
                       (long)stats->pairs[a][b], (long)wanted);
            }
        }
    }
    printf("pairs   %d pairs of %d features, the rarest is %s x %s: %ld times (wanted %ld)\n", pairs, n,
           case_feature_name(ra), case_feature_name(rb), (long)rarest, (long)wanted);
    return below > 0 && !hook && !o->filter;
}

static int64_t times_met(const case_stats *stats, const char *word) {
    int i;
    for (i = 0; i < stats->n_words; ++i) {
        if (strcmp(stats->word[i], word) == 0) return stats->word_count[i];
    }
    return 0;
}

static int word_is_too_rare(const case_stats *stats, const char *key, const char *before, const char *name,
                            int64_t wanted) {
    char word[2 * CASE_WORD_BYTES];
    int64_t n;
    snprintf(word, sizeof word, "%s: %s%s", key, before, name);
    n = times_met(stats, word);
    if (n < wanted) printf("met     %s: %ld times, wanted %ld  TOO RARE\n", word, (long)n, (long)wanted);
    return n < wanted;
}

/* Every kernel, codec and key form of the context, and every way to cut and merge. */
static int words_are_too_rare(const case_stats *stats, const fia_context *context, int64_t wanted) {
    static const char *const ways[][2] = {{"families", "stream"},  {"families", "tile"},
                                          {"cuts", "none"},        {"cuts", "rows"},
                                          {"cuts", "chunks"},      {"cuts", "all blocks by chunks"},
                                          {"merge", "in phase 1"}, {"merge", "in phase 2"}};
    static const char *const parts[] = {"query ", "keys ", "values ", "out "};
    int i, t, rare = 0;
    size_t k;
    for (i = 0; i < stats->n_words; ++i) printf("met     %6ld  %s\n", (long)stats->word_count[i], stats->word[i]);
    for (k = 0; k < sizeof ways / sizeof ways[0]; ++k)
        rare |= word_is_too_rare(stats, ways[k][0], "", ways[k][1], wanted);
    for (t = 0; t < context->n_tables; ++t) {
        const fia_kernels *table = context->table[t];
        for (i = 0; table->streams && table->streams[i]; ++i) {
            rare |= word_is_too_rare(stats, "stream kernel", "keys ", table->streams[i]->name, wanted);
            rare |= word_is_too_rare(stats, "stream kernel", "values ", table->streams[i]->name, wanted);
        }
        for (i = 0; table->tiles && table->tiles[i]; ++i)
            rare |= word_is_too_rare(stats, "tile kernel", "", table->tiles[i]->name, wanted);
        for (i = 0; table->keys && table->keys[i]; ++i)
            rare |= word_is_too_rare(stats, "key form", "", table->keys[i]->name, wanted);
        for (i = 0; table->codecs && table->codecs[i]; ++i) {
            for (k = 0; k < 4; ++k) rare |= word_is_too_rare(stats, "codecs", parts[k], table->codecs[i]->name, wanted);
        }
    }
    return rare;
}

/* Cases are 1.5 M multiply-adds on average and 20 M at most, a fifth of that where they are small. */
static int work_is_off(const case_stats *stats, const options *o, const case_hook *hook, double most) {
    double average = stats->work / (double)stats->cases, wanted = o->small ? 0.3e6 : 1.5e6;
    int judged = !hook && !o->filter && stats->cases >= 200;
    int off = stats->most_work > most || (judged && (average < wanted / 1.5 || average > 2 * wanted));
    printf("work    %.3g multiply-adds on average, %.3g at most%s\n", average, stats->most_work,
           off ? "  NOT AS WANTED" : "");
    return off;
}

/* What an addition must have met. */
static int hook_words_are_too_rare(const case_stats *stats, const case_hook *hook, double part) {
    int i, rare = 0;
    for (i = 0; hook && i < hook->n_words; ++i) {
        int64_t wanted = (int64_t)(hook->words[i].times * part), n = times_met(stats, hook->words[i].word);
        if (wanted < 10) continue; /* of so few cases chance decides */
        if (n < wanted)
            printf("met     %s: %ld times, wanted %ld  TOO RARE\n", hook->words[i].word, (long)n, (long)wanted);
        rare |= n < wanted;
    }
    return rare;
}

static int judge(case_stats *stats, const options *o, const case_limits *limits, const case_hook *hook, int64_t count) {
    double cases = (double)stats->cases, share = cases / FULL_COUNT, part = cases / (o->small ? 300 : 2000);
    int64_t pairs = o->small ? 0 : (int64_t)(PAIRS_WANTED * (share < 1 ? share : 1));
    int64_t words = (int64_t)((o->small ? WORDS_WANTED_SMALL : WORDS_WANTED) * (part < 1 ? part : 1));
    int64_t longs = o->chunk == 32 && !hook && !o->small && !o->filter ? LONG_WANTED * count / (FULL_COUNT * 4 / 5) : 0;
    fia_context built_in;
    int wrong = 0, i;
    if (longs > LONG_WANTED) longs = LONG_WANTED;
    fia_context_init(&built_in);
    printf("cases   %ld, %ld rows, %ld longer than 32 chunks of %ld (wanted %ld)\n", (long)stats->cases,
           (long)stats->rows, (long)stats->long_cases, (long)o->chunk, (long)longs);
    if (stats->cases == 0) return 1;
    wrong |= work_is_off(stats, o, hook, (double)limits->most_work);
    wrong |= stats->long_cases < longs;
    for (i = 0; i < 5; ++i) {
        char k[2] = {(char)('0' + i), 0};
        wrong |= word_is_too_rare(stats, "chunk rule", "k = ", k, longs == LONG_WANTED ? LONG_WANTED / 20 : 0);
    }
    wrong |= errors_are_too_large(stats, hook);
    wrong |= pairs_are_too_rare(stats, o, hook, pairs);
    wrong |= words_are_too_rare(stats, &built_in, hook || o->filter ? 0 : words);
    wrong |= hook_words_are_too_rare(stats, hook, o->filter ? 0 : part < 1 ? part : 1);
    return wrong;
}

/* ---- the program ---- */

static int run_case(uint64_t seed, const options *o, const case_limits *limits, const case_hook *hook,
                    case_stats *stats) {
    static test_case c;
    int wrong;
    case_make(&c, seed, limits, hook);
    wrong = case_run_and_check(&c, stats, limits, stdout);
    if (!wrong && o->has_only) case_print(&c, stdout);
    case_free(&c);
    return wrong;
}

int case_main(int argc, char **argv, const case_hook *hook) {
    static case_stats stats, planned;
    options o;
    case_limits limits;
    int64_t i, count;
    int failed = 0;
    if (!parse(&o, argc, argv)) return 2;
    if (!target_runs(o.target)) {
        printf("SKIPPED: this CPU lacks target %s\n", o.target);
        return 77;
    }
    limits.chunk = o.chunk;
    limits.most_work = o.small ? 4000000 : 20000000;
    limits.most_keys = o.chunk < 512 ? (o.small ? 2500 : 9000) : 1500;
    limits.threads_only = o.threads;
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 1 << 30); /* fresh pages for every case would cost more than the case */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
    case_stats_init(&stats);
    if (o.has_only) return run_case(o.only, &o, &limits, hook, &stats);
    count = (int64_t)((double)o.count * o.budget);
    if (o.budget < 1 || o.budget > 1)
        printf("TEST_BUDGET=%g: %ld cases instead of %ld\n", o.budget, (long)count, (long)o.count);
    printf("SEED=%llu target %s, chunk %ld, %ld cases\n", (unsigned long long)o.seed, o.target, (long)o.chunk,
           (long)count);
    for (i = 0; i < count && failed < 10; ++i) {
        uint64_t seed = choose(&o, &limits, hook, i, &planned);
        if (!seed || !run_case(seed, &o, &limits, hook, &stats)) continue;
        printf("FAILED; alone: CASE=0x%llx %s --target %s --chunk %ld%s%s\n\n", (unsigned long long)seed, argv[0],
               o.target, (long)o.chunk, o.small ? " --small" : "", o.threads ? " --threads" : "");
        fflush(stdout);
        ++failed;
    }
    if (o.stats_in && read_stats(&stats, o.stats_in)) failed = 1;
    if (o.stats_out && write_stats(&stats, o.stats_out)) failed = 1;
    if (!failed && !o.stats_out && judge(&stats, &o, &limits, hook, count)) failed = 1;
    printf("%s: %ld cases%s\n", failed ? "FAILED" : "PASSED", (long)stats.cases,
           failed ? "" : ", all as the oracle says");
    case_stats_free(&stats);
    return failed ? 1 : 0;
}
