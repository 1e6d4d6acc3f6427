/* SPDX-License-Identifier: MIT
 *
 * Drawing of random cases: shapes, forms, modifiers and ways to run, and the names of what a case has in it.
 */
#include "case.h"

#include <math.h>
#include <string.h>

/* ---- random numbers: splitmix64 ---- */

uint64_t case_mix(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t case_next(case_random *random) {
    random->state += 0x9e3779b97f4a7c15u;
    return case_mix(random->state);
}

int64_t case_between(case_random *random, int64_t low, int64_t high) {
    if (high <= low) return low;
    return low + (int64_t)(case_next(random) % (uint64_t)(high - low + 1));
}

int case_chance(case_random *random, int percent) { return case_between(random, 0, 99) < percent; }

double case_uniform(case_random *random) { return (double)(case_next(random) >> 11) * (1.0 / 9007199254740992.0); }

double case_normal(case_random *random) {
    double a = case_uniform(random), b = case_uniform(random);
    return sqrt(-2.0 * log(1.0 - a)) * cos(6.283185307179586 * b);
}

/* Between low and high, each power of two as likely as the next. */
static int64_t log_between(case_random *random, int64_t low, int64_t high) {
    double x = exp(log((double)low) + case_uniform(random) * (log((double)high + 1.0) - log((double)low)));
    int64_t n = (int64_t)x;
    return n < low ? low : n > high ? high : n;
}

static fia_dtype draw_float(case_random *random) {
    static const fia_dtype types[3] = {FIA_F32, FIA_F16, FIA_BF16};
    return types[case_between(random, 0, 2)];
}

/* ---- sizes ---- */

static const int32_t common_dims[] = {1,  2,  3,   4,   8,   16,  24,  32,  40,  64,  72,
                                      80, 96, 112, 128, 192, 256, 320, 512, 576, 1024};
enum { COMMON_DIMS = sizeof(common_dims) / sizeof(common_dims[0]) };

static int32_t draw_dim(case_random *random) {
    if (case_chance(random, 20)) return (int32_t)case_between(random, 0, 40) * 2 + 1;
    if (case_chance(random, 12)) return (int32_t)case_between(random, 1, 1100);
    if (case_chance(random, 35)) return case_chance(random, 50) ? 64 : 128;
    return common_dims[case_between(random, 0, COMMON_DIMS - 1)];
}

static void draw_heads(test_case *c) {
    static const int32_t groups[] = {1, 1, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 12, 16, 17, 32, 64, 128};
    static const int32_t heads[] = {1, 1, 2, 2, 3, 4, 5, 8};
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    d->D = draw_dim(random);
    d->Dv = case_chance(random, 55) ? d->D : draw_dim(random);
    d->Dr = case_chance(random, 25) ? (case_chance(random, 50) ? 64 : draw_dim(random)) : 0;
    if (d->Dr > 128) d->Dr = 64;
    d->value_in_key = case_chance(random, 12);
    if (d->value_in_key && d->Dv > d->D) d->Dv = d->D;
    d->Hkv = heads[case_between(random, 0, 7)];
    d->G = groups[case_between(random, 0, 18)];
    d->q = draw_float(random);
    d->k = draw_float(random);
    d->v = d->value_in_key || case_chance(random, 40) ? d->k : draw_float(random);
    d->out = draw_float(random);
}

enum { STYLE_DECODE, STYLE_FEW, STYLE_CHUNK, STYLE_PREFILL, STYLE_FREE, STYLE_MIXED, STYLES };

static void draw_lengths(test_case *c, const case_limits *limits) {
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    int style = (int)case_between(random, 0, STYLES - 1);
    int64_t most = limits->most_keys, usual = most < 700 ? most : 700, b;
    d->B = case_chance(random, 30) ? 1 : case_between(random, 1, 6);
    if (case_chance(random, 4)) d->B = case_between(random, 6, CASE_MAX_SEQUENCES);
    for (b = 0; b < d->B; ++b) {
        int own = style == STYLE_MIXED ? (int)case_between(random, 0, STYLE_FREE) : style;
        int64_t q = own == STYLE_DECODE ? 1
                    : own == STYLE_FEW  ? case_between(random, 2, 8)
                                        : log_between(random, 9, 90);
        int64_t kv = log_between(random, 1, case_chance(random, 15) ? most : usual);
        if (own == STYLE_CHUNK) kv += q;
        if (own == STYLE_PREFILL) kv = q = log_between(random, 1, 260);
        if (case_chance(random, 4)) q = 0;
        if (case_chance(random, 4)) kv = 0;
        d->q_len[b] = q;
        d->kv_len[b] = kv > most ? most : kv;
    }
    if (case_chance(random, 4)) { /* longer than 32 chunks; the first sequence stays when others are dropped */
        int64_t grid = 32 * limits->chunk;
        if (most > grid) d->kv_len[0] = log_between(random, grid + 1, most);
        if (most > 8 * grid && case_chance(random, 30)) d->kv_len[0] = case_between(random, 8 * grid + 1, most);
        d->q_len[0] = log_between(random, 1, 12);
    }
}

double case_work(const test_case *c) {
    const case_draw *d = &c->draw;
    double pairs = 0;
    int64_t b;
    for (b = 0; b < d->B; ++b) pairs += (double)d->q_len[b] * (double)d->kv_len[b];
    return pairs * d->Hkv * d->G * (d->D + d->Dr + d->Dv);
}

/* Elements of all tensors, roughly: padded tensors grow with the longest sequence. */
static double storage(const test_case *c) {
    const case_draw *d = &c->draw;
    int64_t longest_q = 0, longest_kv = 0, b;
    for (b = 0; b < d->B; ++b) {
        if (d->q_len[b] > longest_q) longest_q = d->q_len[b];
        if (d->kv_len[b] > longest_kv) longest_kv = d->kv_len[b];
    }
    return (double)d->B * ((double)longest_q * d->Hkv * d->G * (d->D + d->Dr + d->Dv) +
                           (double)(longest_kv + d->page_size) * d->Hkv * (d->D + d->Dr + d->Dv));
}

/* NZ pages hold pieces of 16 elements. */
static int32_t whole_pieces(int32_t dim) { return (dim + 15) / 16 * 16; }

static void fit_pieces(test_case *c) {
    case_draw *d = &c->draw;
    int nz_value = !d->value_in_key && d->value_keys == CASE_KEYS_NZ;
    if (d->keys == CASE_KEYS_NZ) {
        d->D = whole_pieces(d->D);
        d->Dr = whole_pieces(d->Dr);
    }
    if (nz_value || (d->value_in_key && d->keys == CASE_KEYS_NZ)) d->Dv = whole_pieces(d->Dv);
    if (d->value_in_key && d->Dv > d->D) d->Dv = d->D;
}

static int32_t smaller_dim(case_random *random, int32_t dim) {
    int32_t i = COMMON_DIMS - 1;
    while (i > 0 && common_dims[i] >= dim) --i;
    return common_dims[i > 0 ? case_between(random, i / 2, i) : 0];
}

static void shrink_row(test_case *c) {
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    d->D = smaller_dim(random, d->D);
    if (d->Dv > d->D || case_chance(random, 50)) d->Dv = smaller_dim(random, d->Dv);
    if (d->Dr > d->D && d->Dr > 1) d->Dr /= 2;
    fit_pieces(c);
}

/* Makes something smaller; a long sequence keeps its keys. */
static void shrink(test_case *c, const case_limits *limits) {
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    int64_t b = case_between(random, 0, d->B - 1);
    int64_t die = case_between(random, 0, 99);
    if (die < 30) {
        if (d->q_len[b] > 1) d->q_len[b] = (d->q_len[b] * 2 + 1) / 3;
    } else if (die < 60) {
        if (d->kv_len[b] > 1 && d->kv_len[b] <= 32 * limits->chunk) d->kv_len[b] = (d->kv_len[b] * 2 + 1) / 3;
    } else if (die < 70) {
        if (d->B > 1) --d->B;
    } else if (die < 80) {
        d->G = d->G > 8 ? d->G / 2 : d->G > 1 ? d->G - 1 : 1;
    } else if (die < 90) {
        d->Hkv = (d->Hkv + 1) / 2;
    } else {
        shrink_row(c);
    }
}

static void fit_work(test_case *c, const case_limits *limits) {
    case_random *random = &c->random;
    int64_t most = limits->most_work;
    double target = (double)(case_chance(random, 45) ? log_between(random, most / 10000, most / 10)
                                                     : log_between(random, most / 10, most));
    double room = target < 200000.0 ? 200000.0 : target;
    int i;
    fit_pieces(c);
    for (i = 0; i < 10000 && (case_work(c) > target || storage(c) > room); ++i) shrink(c, limits);
}

/* ---- forms ---- */

/* Few rows of one sequence over many chunks and few workers, heads side by side: cut at chunks across all heads. */
static void draw_lone_decode(test_case *c, const case_limits *limits) {
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    int64_t most = limits->most_keys < 32 * limits->chunk ? limits->most_keys : 32 * limits->chunk;
    d->B = 1;
    d->kv_len[0] = case_between(random, most / 2, most);
    d->Hkv = (int32_t)case_between(random, 2, 4);
    d->G = (int32_t)case_between(random, 1, 6);
    d->q_len[0] = d->G % 2 ? 1 : d->G / 2;
    if (d->G % 2 == 0) d->G = 2;
    d->keys = d->value_keys = case_chance(random, 50) ? CASE_KEYS_TOKEN_MAJOR : CASE_KEYS_BNBSH;
    d->broadcast = d->negative = 0;
    while (case_work(c) > (double)limits->most_work) shrink_row(c);
}

static void draw_lone_run(test_case *c) {
    case_draw *d = &c->draw;
    d->max_workers = (int)case_between(&c->random, 2, 4);
    d->n_workers = (int)case_between(&c->random, 1, d->max_workers);
    d->pin_family = FIA_FAMILY_AUTO;
    d->pin_chunk = 0;
    if (case_chance(&c->random, 25)) return;
    d->window_left = d->window_right = FIA_UNBOUNDED;
    d->has_q_offset = 0;
    d->align = FIA_ALIGN_BOTTOM_RIGHT;
}

static int64_t longest(const int64_t *lens, int64_t n) {
    int64_t most = 0, i;
    for (i = 0; i < n; ++i) most = lens[i] > most ? lens[i] : most;
    return most;
}

static int draw_length_form(case_random *random) {
    return (int)case_between(random, 0, 99) < 20 ? CASE_LENGTHS_ABSENT
                                                 : (int)case_between(random, FIA_LENGTHS_EACH, FIA_LENGTHS_STARTS);
}

static void all_equal(int64_t *lens, int64_t n) {
    int64_t i, shortest = n ? lens[0] : 0;
    for (i = 1; i < n; ++i) shortest = lens[i] < shortest ? lens[i] : shortest;
    for (i = 0; i < n; ++i) lens[i] = shortest;
}

static void draw_rooms(test_case *c) {
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    if (case_chance(random, 1)) d->B = 0;
    if (case_chance(random, 1)) memset(d->kv_len, 0, sizeof d->kv_len);
    if (case_chance(random, 1)) memset(d->q_len, 0, sizeof d->q_len);
    if (d->q_lengths == CASE_LENGTHS_ABSENT) all_equal(d->q_len, d->B);
    if (d->kv_lengths == CASE_LENGTHS_ABSENT) all_equal(d->kv_len, d->B);
    d->room_q = longest(d->q_len, d->B);
    d->room_kv = longest(d->kv_len, d->B);
    if (d->q_lengths != CASE_LENGTHS_ABSENT && case_chance(random, 30)) d->room_q += case_between(random, 1, 5);
    if (d->kv_lengths != CASE_LENGTHS_ABSENT && case_chance(random, 30)) d->room_kv += case_between(random, 1, 40);
    d->room_B = d->B + (case_chance(random, 15) ? case_between(random, 1, 3) : 0);
    if (d->room_B == 0) d->room_B = 1;
    d->spare_q = d->q_lengths != CASE_LENGTHS_ABSENT && case_chance(random, 40) ? case_between(random, 1, 5) : 0;
    d->spare_kv = d->kv_lengths != CASE_LENGTHS_ABSENT && case_chance(random, 40) ? case_between(random, 1, 5) : 0;
}

static void draw_forms(test_case *c) {
    static const int64_t page_sizes[] = {1, 7, 16, 16, 128, 128, 3, 32, 64, 100};
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    d->keys = (int)case_between(random, CASE_KEYS_HEAD_MAJOR, CASE_KEYS_NZ);
    d->value_keys = d->keys;
    if (case_chance(random, 25)) {
        if (d->keys == CASE_KEYS_HEAD_MAJOR) d->value_keys = CASE_KEYS_TOKEN_MAJOR;
        if (d->keys == CASE_KEYS_TOKEN_MAJOR) d->value_keys = CASE_KEYS_HEAD_MAJOR;
        if (d->keys >= CASE_KEYS_BNBSH) d->value_keys = (int)case_between(random, CASE_KEYS_BNBSH, CASE_KEYS_NZ);
    }
    d->page_size = page_sizes[case_between(random, 0, 9)];
    d->shared_pages = case_chance(random, 20);
    d->q_packed = case_chance(random, 30);
    d->q_order = (int)case_between(random, 0, 5);
    d->out_order = (int)case_between(random, 0, 5);
    d->lse_order = (int)case_between(random, 0, 5);
    d->broadcast = case_chance(random, 12);
    d->negative = case_chance(random, 15);
    d->gaps = case_chance(random, 35);
    d->list_strides = case_chance(random, 50);
    d->q_lengths = draw_length_form(random);
    d->kv_lengths = draw_length_form(random);
    d->q_ints = case_chance(random, 50) ? FIA_I32 : FIA_I64;
    d->kv_ints = case_chance(random, 50) ? FIA_I32 : FIA_I64;
    d->offset_ints = case_chance(random, 50) ? FIA_I32 : FIA_I64;
    d->wide_ints = case_chance(random, 20);
}

/* ---- positions and modifiers ---- */

static int64_t draw_window(case_random *random, int64_t keys) {
    int64_t die = case_between(random, 0, 99);
    if (die < 60) return FIA_UNBOUNDED;
    if (die < 76) return case_between(random, 0, 20);
    if (die < 88) return case_between(random, 0, keys + 10);
    if (die < 97) return -case_between(random, 1, 12);
    return die == 97 ? INT64_MAX - 1 : die == 98 ? (int64_t)1 << 40 : 2147483647;
}

static void draw_positions(test_case *c) {
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    int64_t b;
    d->causal = case_chance(random, 45);
    d->align = case_chance(random, 35) ? FIA_ALIGN_TOP_LEFT : FIA_ALIGN_BOTTOM_RIGHT;
    d->window_left = draw_window(random, d->room_kv);
    d->window_right = draw_window(random, d->room_kv);
    d->has_kv_offset = case_chance(random, 28);
    d->has_q_offset = case_chance(random, 32);
    d->one_offset = case_chance(random, 15);
    for (b = 0; b < CASE_MAX_SEQUENCES; ++b) {
        int64_t kv = d->has_kv_offset ? case_between(random, -300, 1500) : 0;
        int64_t q = kv + (b < d->B ? d->kv_len[b] - d->q_len[b] : 0) + case_between(random, -12, 12);
        if (case_chance(random, 10)) q = case_between(random, -400, 1500);
        d->kv_offset[b] = d->one_offset && b ? d->kv_offset[0] : kv;
        d->q_offset[b] = d->one_offset && b ? d->q_offset[0] : q;
    }
}

static void draw_mask(test_case *c, case_mask *m, int percent, int is_drop) {
    static const fia_dtype drops[3] = {FIA_BOOL, FIA_I8, FIA_U8};
    case_random *random = &c->random;
    double heads = c->draw.Hkv * c->draw.G, entries = (double)c->draw.room_q * (double)(c->draw.room_kv + 8);
    int wanted = case_chance(random, percent);
    m->dtype = !wanted ? FIA_NONE : is_drop ? drops[case_between(random, 0, 2)] : draw_float(random);
    m->all_sequences = case_chance(random, 40);
    m->all_heads = case_chance(random, 40);
    m->all_rows = case_chance(random, 25);
    m->infinities = case_chance(random, 40);
    if (entries * heads * (double)c->draw.room_B > 1e6) m->all_heads = 1;
    if (entries * (double)c->draw.room_B > 4e6) m->all_sequences = 1;
}

static void draw_modifiers(test_case *c) {
    static const double caps[] = {1.0, 5.0, 30.0, 50.0};
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    double usual = 1.0 / sqrt((double)(d->D + d->Dr));
    d->scale = NAN;
    if (case_chance(random, 40))
        d->scale = usual * (0.5 + 1.5 * case_uniform(random)) * (case_chance(random, 10) ? -1 : 1);
    if (case_chance(random, 2)) d->scale = 0;
    d->softcap = case_chance(random, 22) ? caps[case_between(random, 0, 3)] : 0;
    draw_mask(c, &d->bias, 28, 0);
    draw_mask(c, &d->additive, 25, 0);
    draw_mask(c, &d->drop, 28, 1);
    d->bias_before_scale = case_chance(random, 40);
    d->drop_style = (int)case_between(random, 0, 2);
    d->mask_factor = case_chance(random, 50) ? draw_float(random) : FIA_NONE;
    d->alibi = case_chance(random, 20) ? draw_float(random) : FIA_NONE;
    d->sinks = case_chance(random, 28) ? draw_float(random) : FIA_NONE;
    d->sink_infinities = case_chance(random, 35);
}

static void draw_run(test_case *c, const case_limits *limits) {
    static const float empties[] = {-INFINITY, -INFINITY, INFINITY, 123.5f};
    case_random *random = &c->random;
    case_draw *d = &c->draw;
    int64_t die;
    d->want_lse = case_chance(random, 55);
    d->lse_empty = empties[case_between(random, 0, 3)];
    d->fill_padding = case_chance(random, 35);
    d->exact = case_chance(random, 15);
    d->pin_family = case_chance(random, 60)   ? FIA_FAMILY_AUTO
                    : case_chance(random, 50) ? FIA_FAMILY_STREAM
                                              : FIA_FAMILY_TILE;
    d->pin_chunk = case_chance(random, 18) ? limits->chunk * case_between(random, 1, 5) : 0;
    d->max_workers = (int)case_between(random, 1, 17);
    d->n_workers = (int)case_between(random, 1, d->max_workers);
    d->run_mode = (int)case_between(random, CASE_RUN_SERIAL, CASE_RUN_PHASES);
    if (limits->threads_only || case_chance(random, 12))
        d->run_mode = (int)case_between(random, CASE_RUN_THREADS, CASE_RUN_PHASE_THREADS);
    d->repeat = case_chance(random, 20);
    die = case_between(random, 0, 99);
    d->data = die < 55   ? CASE_DATA_NORMAL
              : die < 64 ? CASE_DATA_LARGE
              : die < 73 ? CASE_DATA_PEAKED
              : die < 82 ? CASE_DATA_EQUAL
              : die < 91 ? CASE_DATA_EDGE
                         : CASE_DATA_TINY;
    d->poison = case_chance(random, 7);
}

void case_draw_only(test_case *c, uint64_t seed, const case_limits *limits, const case_hook *hook) {
    int i, lone;
    memset(c, 0, sizeof *c);
    c->seed = seed;
    c->random.state = case_mix(seed ^ 0x5eed);
    c->hook = hook;
    draw_heads(c);
    draw_forms(c);
    draw_lengths(c, limits);
    fit_work(c, limits);
    lone = case_chance(&c->random, limits->most_work < 10000000 ? 20 : 12);
    if (lone) draw_lone_decode(c, limits);
    draw_rooms(c);
    draw_positions(c);
    draw_modifiers(c);
    draw_run(c, limits);
    if (lone) draw_lone_run(c);
    if (!hook || !hook->limit) return;
    hook->limit(c);
    for (i = 0; i < 100 && case_work(c) > (double)limits->most_work; ++i) {
        shrink_row(c);
        if (c->draw.D <= 16 && c->draw.G > 1) c->draw.G = (c->draw.G + 1) / 2;
        hook->limit(c);
    }
}

/* ---- features ---- */

static int any_mask(const case_draw *d, int what) {
    const case_mask *m[3];
    int i, found = 0;
    m[0] = &d->bias;
    m[1] = &d->additive;
    m[2] = &d->drop;
    for (i = 0; i < 3; ++i) {
        if (m[i]->dtype) found |= what == 0 ? m[i]->all_sequences : what == 1 ? m[i]->all_heads : m[i]->all_rows;
    }
    return found;
}

static int has_len(const int64_t *lens, int64_t n, int64_t low, int64_t high) {
    int64_t i;
    for (i = 0; i < n; ++i) {
        if (lens[i] >= low && lens[i] <= high) return 1;
    }
    return 0;
}

static int negative_offset(const case_draw *d) {
    return (d->has_q_offset && has_len(d->q_offset, d->B, INT64_MIN, -1)) ||
           (d->has_kv_offset && has_len(d->kv_offset, d->B, INT64_MIN, -1));
}

static const char *feature_names[CASE_MAX_FEATURES];
static int feature_groups[CASE_MAX_FEATURES]; /* features of one group exclude each other; 0: none */

typedef struct feature_list {
    unsigned char *has;
    int n;
} feature_list;

static void add(feature_list *f, const char *name, int group, int test) {
    feature_names[f->n] = name;
    feature_groups[f->n] = group;
    f->has[f->n++] = (unsigned char)(test != 0);
}

static void type_features(feature_list *f, const case_draw *d) {
    add(f, "q f32", 1, d->q == FIA_F32);
    add(f, "q f16", 1, d->q == FIA_F16);
    add(f, "q bf16", 1, d->q == FIA_BF16);
    add(f, "k f32", 2, d->k == FIA_F32);
    add(f, "k f16", 2, d->k == FIA_F16);
    add(f, "k bf16", 2, d->k == FIA_BF16);
    add(f, "v f32", 3, !d->value_in_key && d->v == FIA_F32);
    add(f, "v f16", 3, !d->value_in_key && d->v == FIA_F16);
    add(f, "v bf16", 3, !d->value_in_key && d->v == FIA_BF16);
    add(f, "v in key", 3, d->value_in_key);
    add(f, "out f32", 4, d->out == FIA_F32);
    add(f, "out f16", 4, d->out == FIA_F16);
    add(f, "out bf16", 4, d->out == FIA_BF16);
}

static void size_features(feature_list *f, const case_draw *d) {
    add(f, "rope", 0, d->Dr > 0);
    add(f, "D odd ..127", 5, d->D % 2 == 1 && d->D < 128);
    add(f, "D even ..126, not of 16", 5, d->D % 2 == 0 && d->D % 16 != 0 && d->D < 128);
    add(f, "D 16..128", 5, d->D % 16 == 0 && d->D <= 128);
    add(f, "D 144..", 5, d->D % 16 == 0 && d->D > 128);
    add(f, "D 129.., not of 16", 5, d->D % 16 != 0 && d->D > 128);
    add(f, "Dv not D", 0, d->Dv != d->D);
    add(f, "Dv odd", 0, d->Dv % 2 == 1);
    add(f, "G 1", 6, d->G == 1);
    add(f, "G 2..8", 6, d->G > 1 && d->G <= 8);
    add(f, "G 9..", 6, d->G > 8);
    add(f, "one KV head", 7, d->Hkv == 1);
    add(f, "KV heads", 7, d->Hkv > 1);
    add(f, "no rows", 0, has_len(d->q_len, d->B, 0, 0));
    add(f, "no keys", 0, has_len(d->kv_len, d->B, 0, 0));
    add(f, "decode", 0, has_len(d->q_len, d->B, 1, 1));
    add(f, "2..8 rows", 0, has_len(d->q_len, d->B, 2, 8));
    add(f, "9.. rows", 0, has_len(d->q_len, d->B, 9, INT64_MAX));
    add(f, "mixed batch", 0, has_len(d->q_len, d->B, 1, 1) && has_len(d->q_len, d->B, 9, INT64_MAX));
}

static void form_features(feature_list *f, const case_draw *d) {
    const int paged = d->keys >= CASE_KEYS_BNBSH;
    add(f, "head-major", 8, d->keys == CASE_KEYS_HEAD_MAJOR);
    add(f, "token-major", 8, d->keys == CASE_KEYS_TOKEN_MAJOR);
    add(f, "packed keys", 8, d->keys == CASE_KEYS_PACKED);
    add(f, "key list", 8, d->keys == CASE_KEYS_LIST);
    add(f, "BnBsH", 8, d->keys == CASE_KEYS_BNBSH);
    add(f, "BnNBsD", 8, d->keys == CASE_KEYS_BNNBSD);
    add(f, "NZ", 8, d->keys == CASE_KEYS_NZ);
    add(f, "page 1", 9, paged && d->page_size == 1);
    add(f, "page 7", 9, paged && d->page_size == 7);
    add(f, "page 16", 9, paged && d->page_size == 16);
    add(f, "page 128", 9, paged && d->page_size == 128);
    add(f, "V in another order than K", 0, !d->value_in_key && d->value_keys != d->keys);
    add(f, "head strides of sequences", 0, d->keys == CASE_KEYS_LIST && d->list_strides);
    add(f, "gaps", 0, d->gaps);
    add(f, "0 strides", 0, d->broadcast);
    add(f, "negative strides", 0, d->negative);
    add(f, "q packed", 10, d->q_packed);
    add(f, "q padded", 10, !d->q_packed);
    add(f, "q lens absent", 11, d->q_lengths == CASE_LENGTHS_ABSENT);
    add(f, "q lens each", 11, d->q_lengths == FIA_LENGTHS_EACH);
    add(f, "q lens ends", 11, d->q_lengths == FIA_LENGTHS_ENDS);
    add(f, "q lens starts", 11, d->q_lengths == FIA_LENGTHS_STARTS);
    add(f, "kv lens absent", 12, d->kv_lengths == CASE_LENGTHS_ABSENT);
    add(f, "kv lens each", 12, d->kv_lengths == FIA_LENGTHS_EACH);
    add(f, "kv lens ends", 12, d->kv_lengths == FIA_LENGTHS_ENDS);
    add(f, "kv lens starts", 12, d->kv_lengths == FIA_LENGTHS_STARTS);
    add(f, "lens int64", 0, d->q_ints == FIA_I64 || d->kv_ints == FIA_I64);
}

static void bound_features(feature_list *f, const case_draw *d) {
    add(f, "q_offset", 0, d->has_q_offset);
    add(f, "kv_offset", 0, d->has_kv_offset);
    add(f, "negative offset", 0, negative_offset(d));
    add(f, "causal", 0, d->causal);
    add(f, "top left", 0, d->align == FIA_ALIGN_TOP_LEFT && !d->has_q_offset);
    add(f, "window left", 0, d->window_left != FIA_UNBOUNDED);
    add(f, "window right", 0, d->window_right != FIA_UNBOUNDED);
    add(f, "negative window", 0, d->window_left < 0 || d->window_right < 0);
}

static void modifier_features(feature_list *f, const case_draw *d) {
    add(f, "bias f32", 13, d->bias.dtype == FIA_F32);
    add(f, "bias f16", 13, d->bias.dtype == FIA_F16);
    add(f, "bias bf16", 13, d->bias.dtype == FIA_BF16);
    add(f, "bias before scale", 0, d->bias.dtype && d->bias_before_scale);
    add(f, "bias -inf", 0, d->bias.dtype && d->bias.infinities);
    add(f, "scale given", 19, d->scale > 0);
    add(f, "scale negative", 19, d->scale < 0);
    add(f, "softcap", 0, d->softcap > 0);
    add(f, "ALiBi", 0, d->alibi != FIA_NONE);
    add(f, "mask f32", 14, d->additive.dtype == FIA_F32);
    add(f, "mask f16", 14, d->additive.dtype == FIA_F16);
    add(f, "mask bf16", 14, d->additive.dtype == FIA_BF16);
    add(f, "mask factor", 0, d->additive.dtype && d->mask_factor);
    add(f, "mask -inf", 0, d->additive.dtype && d->additive.infinities);
    add(f, "drop bool", 15, d->drop.dtype == FIA_BOOL);
    add(f, "drop i8", 15, d->drop.dtype == FIA_I8);
    add(f, "drop u8", 15, d->drop.dtype == FIA_U8);
    add(f, "masks of all sequences", 0, any_mask(d, 0));
    add(f, "masks of all heads", 0, any_mask(d, 1));
    add(f, "masks of all rows", 0, any_mask(d, 2));
    add(f, "sinks f32", 16, d->sinks == FIA_F32);
    add(f, "sinks f16", 16, d->sinks == FIA_F16);
    add(f, "sinks bf16", 16, d->sinks == FIA_BF16);
    add(f, "sinks -inf", 0, d->sinks && d->sink_infinities);
}

static void run_features(feature_list *f, const case_draw *d) {
    add(f, "LSE", 0, d->want_lse);
    add(f, "LSE empty not -inf", 0, d->want_lse && d->lse_empty != -INFINITY);
    add(f, "fill padding", 0, d->fill_padding);
    add(f, "stream pinned", 17, d->pin_family == FIA_FAMILY_STREAM);
    add(f, "tile pinned", 17, d->pin_family == FIA_FAMILY_TILE);
    add(f, "chunk pinned", 0, d->pin_chunk > 0);
    add(f, "exact", 0, d->exact);
    add(f, "workers", 0, d->n_workers > 1);
    add(f, "large", 18, d->data == CASE_DATA_LARGE);
    add(f, "peaked", 18, d->data == CASE_DATA_PEAKED);
    add(f, "equal keys", 18, d->data == CASE_DATA_EQUAL);
    add(f, "+-80", 18, d->data == CASE_DATA_EDGE);
    add(f, "subnormal", 18, d->data == CASE_DATA_TINY);
    add(f, "live NaN", 0, d->poison);
}

int case_features(const test_case *c, unsigned char has[CASE_MAX_FEATURES]) {
    feature_list f = {has, 0};
    type_features(&f, &c->draw);
    size_features(&f, &c->draw);
    form_features(&f, &c->draw);
    bound_features(&f, &c->draw);
    modifier_features(&f, &c->draw);
    run_features(&f, &c->draw);
    return f.n;
}

const char *case_feature_name(int feature) { return feature_names[feature]; }

/* Pairs that no call can have, beside those of one group; the first name may begin any number of names. */
static const char *const impossible[][2] = {{"page ", "head-major"},
                                            {"page ", "token-major"},
                                            {"page ", "packed keys"},
                                            {"page ", "key list"},
                                            {"D odd ..127", "NZ"},
                                            {"D even ..126, not of 16", "NZ"},
                                            {"D 129.., not of 16", "NZ"},
                                            {"V in another order than K", "v in key"},
                                            {"V in another order than K", "packed keys"},
                                            {"V in another order than K", "key list"},
                                            {"V in another order than K", "head strides of sequences"},
                                            {"head strides of sequences", "head-major"},
                                            {"head strides of sequences", "token-major"},
                                            {"head strides of sequences", "packed keys"},
                                            {"head strides of sequences", "BnBsH"},
                                            {"head strides of sequences", "BnNBsD"},
                                            {"head strides of sequences", "NZ"},
                                            {"head strides of sequences", "page "},
                                            {"top left", "q_offset"},
                                            {"mixed batch", "q lens absent"}};

static int begins(const char *name, const char *prefix) { return strncmp(name, prefix, strlen(prefix)) == 0; }

int case_features_exclude(int a, int b) {
    const char *x = feature_names[a], *y = feature_names[b];
    size_t i;
    if (feature_groups[a] && feature_groups[a] == feature_groups[b]) return 1;
    for (i = 0; i < sizeof impossible / sizeof impossible[0]; ++i) {
        if (begins(x, impossible[i][0]) && begins(y, impossible[i][1])) return 1;
        if (begins(y, impossible[i][0]) && begins(x, impossible[i][1])) return 1;
    }
    return 0;
}
