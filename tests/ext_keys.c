/* SPDX-License-Identifier: MIT
 *
 * The keys seam: every query token and KV head names its keys in a list of its own: unsorted, filled up with -1, some
 * entries outside the bounds, over pages. What no list names is poisoned, and so are the table entries of such pages.
 */
#include "ext_common.h"

/* ---- the key form ---- */

enum { EXT_KEYS_LISTED = FIA_KEYS_USER };

/* keys_params; io.keys_data is int32 [sequence][token][KV head][capacity], packed queries without the first axis. */
typedef struct listed_params {
    int64_t capacity;
    int64_t sequence_elements, token_elements, head_elements;
    unsigned char unused[32];
} listed_params;

static const int32_t *listed(const fia_keys_call *call) {
    listed_params p;
    memcpy(&p, call->problem->keys_params, sizeof(p));
    return (const int32_t *)call->io->keys_data + call->sequence * p.sequence_elements +
           (call->q_start + call->token) * p.token_elements + call->kv_head * p.head_elements;
}

static int followed(const fia_keys_call *call, int32_t position) {
    return position >= call->position_begin && position < call->position_end;
}

static int64_t listed_entries(const fia_problem *problem) {
    listed_params p;
    memcpy(&p, problem->keys_params, sizeof(p));
    return p.capacity;
}

static int32_t listed_page(const fia_keys_call *call, int32_t position) {
    return call->io->block_table[call->sequence * call->problem->table_columns + position / call->problem->page_size];
}

static int listed_check(const fia_keys_call *call, int64_t first, int64_t end, char *text, size_t text_bytes) {
    const int32_t *list = listed(call);
    int64_t i;
    for (i = first; i < end; ++i) {
        int32_t page;
        if (list[i] < -1) {
            snprintf(text, text_bytes, "keys_data of token %d holds %d; -1 or a position is allowed", (int)call->token,
                     (int)list[i]);
            return 1;
        }
        if (!followed(call, list[i])) continue;
        page = listed_page(call, list[i]);
        if (page >= 0 && page < call->problem->n_pages) continue;
        snprintf(text, text_bytes, "block_table names page %d; pages 0 to %d are allowed", (int)page,
                 (int)call->problem->n_pages - 1);
        return 1;
    }
    return 0;
}

/* Neighbours in the list that are neighbours in a page make one run. */
static int64_t listed_runs(const fia_keys_call *call, int64_t first, int64_t n, fia_run_of_keys *runs) {
    const int32_t *list = listed(call) + first;
    const int64_t page_size = call->problem->page_size;
    int64_t i, count = 0;
    for (i = 0; i < n; ++i) {
        const int live = followed(call, list[i]);
        const int64_t outer = live ? listed_page(call, list[i]) : -1, row = live ? list[i] % page_size : 0;
        fia_run_of_keys *last = count ? &runs[count - 1] : NULL;
        if (last && last->outer == outer && (outer < 0 || last->row + last->n == row)) {
            ++last->n;
            continue;
        }
        runs[count].outer = outer;
        runs[count].row = row;
        runs[count++].n = 1;
    }
    return count;
}

static void listed_positions(const fia_keys_call *call, int64_t first, int64_t n, int64_t *positions) {
    const int32_t *list = listed(call) + first;
    int64_t i;
    for (i = 0; i < n; ++i) positions[i] = list[i];
}

static const fia_keys listed_keys = {
    .name = "ext_listed",
    .code = EXT_KEYS_LISTED,
    .per_token = 1,
    .entries = listed_entries,
    .check = listed_check,
    .runs = listed_runs,
    .positions = listed_positions,
};

static const fia_keys *const forms[] = {&listed_keys, NULL};
static fia_context context;
static fia_kernels table;

/* ---- small calls: 3 tokens, 2 KV heads, 4 query heads, 20 keys in pages of 4 ---- */

enum { TOKENS = 3, KV_HEADS = 2, HEADS = 4, KEYS = 20, PAGE = 4, PAGES = 7, DIM = 8, CAPACITY = 9 };

typedef struct small_call {
    fia_problem p;
    fia_io io;
    int32_t table[KEYS / PAGE], list[TOKENS][KV_HEADS][CAPACITY];
    float q[HEADS * TOKENS * DIM], k[PAGES * KV_HEADS * PAGE * DIM], v[PAGES * KV_HEADS * PAGE * DIM],
        out[HEADS * TOKENS * DIM];
} small_call;

static int64_t small_entries(const void *data, int64_t b, int32_t h, int64_t r) {
    (void)data, (void)b, (void)h, (void)r;
    return CAPACITY;
}

static int64_t small_position(const void *data, int64_t b, int32_t h, int64_t r, int64_t entry) {
    const int32_t position = ((const small_call *)data)->list[r][h][entry];
    (void)b;
    return position < KEYS ? position : -1;
}

static void small_make(small_call *c) {
    static const int32_t pages[KEYS / PAGE] = {5, 0, 6, 2, 3};
    static const int32_t list[TOKENS][KV_HEADS][CAPACITY] = {
        {{17, 2, 3, 4, 2, -1, 19, -1, -1}, {0, 1, 2, 3, 4, 5, 6, 7, 8}},
        {{-1, -1, 18, 17, 0, -1, -1, 19, 25}, {-1, -1, -1, -1, -1, -1, -1, -1, -1}},
        {{19, 18, 17, 16, 3, 2, 1, 0, 0}, {19, 5, -1, -1, -1, -1, -1, -1, -1}}};
    const listed_params params = {CAPACITY, 0, KV_HEADS * CAPACITY, CAPACITY, {0}};
    case_random random = case_random_of(3);
    size_t i;
    ext_small(&c->p, HEADS, KV_HEADS, TOKENS, KEYS, DIM, DIM);
    c->p.keys = EXT_KEYS_LISTED;
    c->p.page_size = PAGE;
    c->p.n_pages = PAGES;
    c->p.table_columns = KEYS / PAGE;
    c->p.key.head_bytes = c->p.value.head_bytes = PAGE * DIM * sizeof(float);
    c->p.key.sequence_bytes = c->p.value.sequence_bytes = KV_HEADS * PAGE * DIM * sizeof(float);
    memcpy(c->p.keys_params, &params, sizeof(params));
    memcpy(c->table, pages, sizeof(pages));
    memcpy(c->list, list, sizeof(list));
    for (i = 0; i < HEADS * TOKENS * DIM; ++i) c->q[i] = (float)case_normal(&random);
    for (i = 0; i < PAGES * KV_HEADS * PAGE * DIM; ++i) c->k[i] = (float)case_normal(&random);
    for (i = 0; i < PAGES * KV_HEADS * PAGE * DIM; ++i) c->v[i] = (float)case_normal(&random);
    fia_io_init(&c->io);
    c->io.n_sequences = 1;
    c->io.query = c->q;
    c->io.key = c->k;
    c->io.value = c->v;
    c->io.out = c->out;
    c->io.block_table = c->table;
    c->io.keys_data = c->list;
}

static void small_check(small_call *c) {
    const oracle_source source = {NULL, NULL, small_entries, small_position, c};
    const double worst = ext_worst_row(&context, &c->p, &c->io, &source);
    if (!(worst <= 1e-5)) fail_msg("error of a row is %g", worst);
}

static void each_token_and_head_attends_to_its_list(void **state) {
    small_call c;
    int i;
    (void)state;
    for (i = 0; i < 3; ++i) {
        small_make(&c);
        c.p.pin_family = i; /* automatic, stream, tile */
        small_check(&c);
        c.p.causal = 1;
        small_check(&c);
        c.p.window_left = 3;
        small_check(&c);
    }
}

static void an_empty_list_gives_0(void **state) {
    small_call c;
    fia_report report;
    int h, i;
    (void)state;
    small_make(&c);
    assert_int_equal(plan_and_run(&context, &c.p, &c.io, NULL, &report), FIA_OK);
    for (h = 2; h < HEADS; ++h)
        for (i = 0; i < DIM; ++i) assert_true(c.out[(h * TOKENS + 1) * DIM + i] == 0.0f);
}

static void masks_are_indexed_by_position(void **state) {
    unsigned char drop[KEYS] = {0};
    float bias[KEYS];
    small_call c;
    int i;
    (void)state;
    small_make(&c);
    drop[17] = drop[2] = 1;
    for (i = 0; i < KEYS; ++i) bias[i] = 0.3f * (float)(i - 10);
    c.p.drop_mask.dtype = FIA_U8;
    c.p.bias.dtype = FIA_F32;
    c.p.drop_mask.keys = c.p.bias.keys = KEYS;
    c.p.drop_mask.rows = c.p.bias.rows = 0;
    c.io.drop_mask = drop;
    c.io.bias = bias;
    small_check(&c);
}

/* With causal and a window of 3, tokens 0..2 at 17..19 see 14..19: the pages of 0..11 are never followed. */
static void pages_outside_the_bounds_are_not_followed(void **state) {
    small_call c;
    fia_report report;
    int i;
    (void)state;
    small_make(&c);
    c.p.causal = 1;
    c.p.window_left = 3;
    c.table[0] = -1;
    c.table[1] = 1 << 30;
    c.table[2] = INT32_MIN;
    small_check(&c);
    c.p.window_left = FIA_UNBOUNDED;
    memset(c.out, 0x5a, sizeof(c.out));
    assert_int_equal(plan_and_run(&context, &c.p, &c.io, NULL, &report), FIA_ERR_ARGUMENT);
    assert_non_null(strstr(report.text, "page -1"));
    for (i = 0; i < (int)sizeof(c.out); ++i) assert_int_equal(((unsigned char *)c.out)[i], 0x5a);
}

static void a_position_below_minus_1_is_refused(void **state) {
    small_call c;
    fia_report report;
    (void)state;
    small_make(&c);
    c.list[1][1][3] = -2;
    assert_int_equal(plan_and_run(&context, &c.p, &c.io, NULL, &report), FIA_ERR_ARGUMENT);
    assert_non_null(strstr(report.text, "-2"));
}

/* ---- the cross product ---- */

static listed_params params_of(const test_case *c) {
    listed_params p;
    memcpy(&p, c->problem.keys_params, sizeof(p));
    return p;
}

static int32_t *list_of(const test_case *c, const oracle_sequence *s, int32_t kv_head, int64_t r) {
    const listed_params p = params_of(c);
    return (int32_t *)(uintptr_t)c->io.keys_data + s->index * p.sequence_elements +
           (s->q_start + r) * p.token_elements + kv_head * p.head_elements;
}

static int64_t entries(const void *data, int64_t b, int32_t h, int64_t r) {
    (void)b, (void)h, (void)r;
    return params_of((const test_case *)data).capacity;
}

static int64_t position(const void *data, int64_t b, int32_t h, int64_t r, int64_t entry) {
    const test_case *c = (const test_case *)data;
    oracle_call call = {&c->problem, &c->io, NULL};
    oracle_sequence s;
    oracle_find_sequence(&call, b, &s);
    return list_of(c, &s, h, r)[entry];
}

static void limit(test_case *c) {
    case_draw *d = &c->draw;
    const int forms_of_pages[3] = {CASE_KEYS_BNBSH, CASE_KEYS_BNNBSD, CASE_KEYS_NZ};
    const int nz = d->D % 16 == 0 && d->Dr % 16 == 0 && d->Dv % 16 == 0;
    if (d->keys < CASE_KEYS_BNBSH) {
        d->keys = forms_of_pages[case_between(&c->random, 0, nz ? 2 : 1)];
        d->value_keys = d->keys;
        d->page_size = case_between(&c->random, 1, 40);
        if (d->kv_lengths != CASE_LENGTHS_ABSENT) d->kv_lengths = FIA_LENGTHS_EACH;
    }
    d->shared_pages = 0; /* what one sequence does not name is wiped */
    d->broadcast = 0;
}

/* A list: some keys twice, some that do not exist or lie outside the bounds, holes. Or all keys, shuffled. */
static void draw_list(test_case *c, int32_t *list, int64_t capacity, int64_t kv_len) {
    case_random *random = &c->random;
    const int holes = (int)case_between(random, 0, 3) * 10, spare = case_chance(random, 30) ? 5 : 0;
    int64_t i;
    if (capacity >= kv_len && case_chance(random, 30)) {
        for (i = 0; i < kv_len; ++i) list[i] = (int32_t)i;
        for (i = kv_len - 1; i > 0; --i) {
            const int64_t other = case_between(random, 0, i);
            const int32_t kept = list[i];
            list[i] = list[other];
            list[other] = kept;
        }
        return; /* the rest is -1 already */
    }
    for (i = 0; i < capacity && kv_len + spare > 0; ++i) {
        if (case_chance(random, holes)) continue;
        list[i] = (int32_t)case_between(random, 0, kv_len + spare - 1);
        if (i > 0 && list[i - 1] >= 0 && case_chance(random, 40)) list[i] = list[i - 1] + 1; /* runs */
    }
}

static void wipe_row(const test_case *c, const fia_view *view, const void *base, int32_t elements, int64_t b, int32_t h,
                     int64_t j) {
    const fia_problem *p = &c->problem;
    const int64_t page = c->io.block_table[b * p->table_columns + j / p->page_size];
    const int32_t piece = view->piece_elements ? view->piece_elements : elements;
    char *row = (char *)(uintptr_t)base + page * view->sequence_bytes + h * view->head_bytes +
                j % p->page_size * view->row_bytes;
    int32_t i;
    for (i = 0; i < elements; i += piece)
        memset(row + i / piece * view->piece_bytes, 0xff, (size_t)piece * fia_dtype_bytes(view->dtype));
}

/* Wipes keys that no token of a sequence names, and garbles the table entries of pages that hold no named key. */
static void wipe_unnamed(test_case *c, const oracle_sequence *s, const unsigned char *named) {
    const fia_problem *p = &c->problem;
    int64_t j, column;
    int32_t h;
    for (j = 0; j < s->kv_len; ++j) {
        if (!c->live[s->index][j]) continue;
        for (h = 0; h < p->n_kv_heads; ++h) {
            if (named[h * s->kv_len + j]) continue;
            wipe_row(c, &p->key, c->io.key, p->dim, s->index, h, j);
            if (p->rope_dim) wipe_row(c, &p->key_rope, c->io.key_rope, p->rope_dim, s->index, h, j);
            if (!p->value_in_key) wipe_row(c, &p->value, c->io.value, p->value_dim, s->index, h, j);
        }
    }
    for (column = 0; column * p->page_size < s->kv_len; ++column) {
        int used = 0;
        for (j = column * p->page_size; j < (column + 1) * p->page_size && j < s->kv_len; ++j)
            for (h = 0; h < p->n_kv_heads; ++h) used |= named[h * s->kv_len + j];
        if (!used) c->block_table[s->index * p->table_columns + column] = case_chance(&c->random, 50) ? -1 : 1 << 30;
    }
    for (j = 0; j < s->kv_len; ++j) {
        int used = 0;
        for (h = 0; h < p->n_kv_heads; ++h) used |= named[h * s->kv_len + j];
        if (!used) c->live[s->index][j] = 0;
    }
}

static void store(test_case *c) {
    fia_problem *p = &c->problem;
    oracle_call call = {&c->problem, &c->io, NULL};
    listed_params params;
    int64_t b, r, i;
    int32_t h;
    memset(&params, 0, sizeof(params));
    params.capacity = case_between(&c->random, 1, p->max_kv_len > 0 ? p->max_kv_len : 1);
    params.head_elements = params.capacity;
    params.token_elements = params.head_elements * p->n_kv_heads;
    params.sequence_elements = p->q_packed ? 0 : params.token_elements * p->max_q_len;
    p->keys = EXT_KEYS_LISTED;
    memcpy(p->keys_params, &params, sizeof(params));
    c->io.keys_data =
        case_memory(c, (size_t)(params.token_elements * (p->q_packed ? p->total_q : p->max_q_len * c->draw.B)) * 4);
    for (b = 0; b < c->draw.B; ++b) {
        oracle_sequence s;
        unsigned char *named;
        oracle_find_sequence(&call, b, &s);
        named = (unsigned char *)case_memory(c, (size_t)(s.kv_len * p->n_kv_heads));
        memset(named, 0, (size_t)(s.kv_len * p->n_kv_heads));
        for (h = 0; h < p->n_kv_heads; ++h)
            for (r = 0; r < s.q_len; ++r) {
                int32_t *list = list_of(c, &s, h, r);
                draw_list(c, list, params.capacity, s.kv_len);
                for (i = 0; i < params.capacity; ++i)
                    if (oracle_in_bounds(&call, &s, r, list[i])) named[h * s.kv_len + list[i]] = 1;
            }
        wipe_unnamed(c, &s, named);
    }
}

static const case_wanted wanted[] = {{"key form: ext_listed", 1000}, {"key form: ext_listed in pieces", 100},
                                     {"families: stream", 300},      {"families: tile", 300},
                                     {"cuts: chunks", 100},          {"merge: in phase 2", 100}};

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_token_and_head_attends_to_its_list),
        cmocka_unit_test(an_empty_list_gives_0),
        cmocka_unit_test(masks_are_indexed_by_position),
        cmocka_unit_test(pages_outside_the_bounds_are_not_followed),
        cmocka_unit_test(a_position_below_minus_1_is_refused),
    };
    case_hook hook;
    int failed;
    ext_context(&context, &table, "ext_keys");
    table.keys = forms;
    if (fia_context_add(&context, &table, NULL) != FIA_OK) return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    memset(&hook, 0, sizeof(hook));
    hook.name = "ext_keys";
    hook.context = &context;
    hook.limit = limit;
    hook.store = store;
    hook.entries = entries;
    hook.position = position;
    hook.words = wanted;
    hook.n_words = (int)(sizeof(wanted) / sizeof(wanted[0]));
    return case_main(argc, argv, &hook) || failed;
}
