/* SPDX-License-Identifier: MIT
 *
 * Bad arguments at the engine door. Every field of valid calls is set to extremes, one at a time and in random pairs;
 * the rules below say, from the documentation alone, which of these calls are wrong. Those must be refused by name and
 * value with nothing written, all others must be taken. SEED=n changes the pairs.
 */
#include <math.h>

#include "bad.h"

/* ---- valid calls ---- */

enum {
    B = 3,
    SQ = 6,
    SKV = 40,
    HQ = 4,
    HKV = 2,
    D = 16,
    DV = 8,
    DR = 8,
    PAGE = 8,
    COLUMNS = 5,
    PAGES = 20,
    PAIRS = 4000
};
enum { SLOT = 65536, OUT_BYTES = 8192, GUARD = 64, MAX_WORKSPACE = 1 << 22 };

enum { Q_LENS, KV_LENS, Q_OFFSET, KV_OFFSET, KV_ROWS, KEY_STRIDES, ROPE_STRIDES, VALUE_STRIDES, ARRAYS };

static const char *const array_names[ARRAYS] = {"q_lens",
                                                "kv_lens",
                                                "q_offset",
                                                "kv_offset",
                                                "kv_rows",
                                                "key_head_strides",
                                                "key_rope_head_strides",
                                                "value_head_strides"};
static const size_t array_at[ARRAYS] = {offsetof(fia_io, q_lens),
                                        offsetof(fia_io, kv_lens),
                                        offsetof(fia_io, q_offset),
                                        offsetof(fia_io, kv_offset),
                                        offsetof(fia_io, kv_rows),
                                        offsetof(fia_io, key_head_strides),
                                        offsetof(fia_io, key_rope_head_strides),
                                        offsetof(fia_io, value_head_strides)};

typedef struct engine_call {
    const char *name;
    fia_problem problem;
    fia_io io;
    int counts[ARRAYS];      /* values that stand in an array; 0: absent */
    int64_t room[ARRAYS][8]; /* as int64 or int32 */
    int32_t table[B * COLUMNS];
    const void *key_bases[B], *rope_bases[B], *value_bases[B];
} engine_call;

static double inputs[24][SLOT / sizeof(double)]; /* zeros; every pointer of an io has a slot of its own */
static double out_room[OUT_BYTES / sizeof(double)], lse_room[OUT_BYTES / sizeof(double)],
    workspace[MAX_WORKSPACE / sizeof(double)];
static char first_out[OUT_BYTES], first_lse[OUT_BYTES]; /* what the valid call writes */
static engine_call call;

static fia_ints *array_of(fia_io *io, int a) { return (fia_ints *)(void *)((char *)io + array_at[a]); }

static int64_t read_int(const fia_ints *ints, int64_t i) {
    const ptrdiff_t step = ints->stride_bytes ? ints->stride_bytes : ints->dtype == FIA_I64 ? 8 : 4;
    const char *at = (const char *)ints->data + (ints->broadcast ? 0 : i * step);
    int64_t wide;
    int32_t narrow;
    memcpy(&wide, at, sizeof(wide));
    memcpy(&narrow, at, sizeof(narrow));
    return ints->dtype == FIA_I64 ? wide : narrow;
}

static void write_int(fia_ints *ints, int64_t *room, int i, int64_t value) {
    const int32_t narrow = (int32_t)value;
    if (ints->dtype == FIA_I64) memcpy((char *)room + i * 8, &value, 8);
    else memcpy((char *)room + i * 4, &narrow, 4);
}

static void give_array(engine_call *c, int a, fia_dtype dtype, int n, const int64_t *from) {
    fia_ints *ints = array_of(&c->io, a);
    int i;
    ints->data = c->room[a];
    ints->dtype = dtype;
    ints->stride_bytes = dtype == FIA_I64 ? 8 : 4;
    c->counts[a] = n;
    for (i = 0; i < n; ++i) write_int(ints, c->room[a], i, from[i]);
}

static int64_t type_bytes(fia_dtype t) {
    return t == FIA_F32 ? 4 : t == FIA_F16 || t == FIA_BF16 ? 2 : t == FIA_BOOL || t == FIA_I8 || t == FIA_U8 ? 1 : 0;
}

/* Dense rows; token_major: (sequence, row, head, dim), else (sequence, head, row, dim). */
static void set_view(fia_view *view, fia_dtype t, int64_t rows, int64_t heads, int64_t dim, int token_major) {
    const int64_t e = type_bytes(t) * dim;
    view->dtype = t;
    view->head_bytes = token_major ? e : e * rows;
    view->row_bytes = token_major ? e * heads : e;
    view->sequence_bytes = e * heads * rows;
}

static void set_views(engine_call *c, fia_dtype q, fia_dtype kv, int token_major) {
    fia_problem *p = &c->problem;
    const int64_t keys = p->keys == FIA_KEYS_PAGED ? p->page_size : p->max_kv_len;
    set_view(&p->query, q, p->max_q_len, p->n_q_heads, p->dim, token_major);
    set_view(&p->out, FIA_F32, p->max_q_len, p->n_q_heads, p->value_dim, token_major);
    set_view(&p->key, kv, keys, p->n_kv_heads, p->dim, token_major);
    set_view(&p->value, kv, keys, p->n_kv_heads, p->value_dim, token_major);
    if (p->rope_dim) {
        set_view(&p->query_rope, q, p->max_q_len, p->n_q_heads, p->rope_dim, token_major);
        set_view(&p->key_rope, kv, keys, p->n_kv_heads, p->rope_dim, token_major);
        c->io.query_rope = inputs[1];
        c->io.key_rope = inputs[3];
    }
    c->io.query = inputs[0];
    c->io.key = inputs[2];
    c->io.value = inputs[4];
    c->io.out = (char *)out_room + GUARD;
}

static void set_lse(engine_call *c) {
    fia_problem *p = &c->problem;
    p->want_lse = 1;
    p->lse_row_bytes = 4;
    p->lse_head_bytes = 4 * (p->q_packed ? p->total_q : p->max_q_len);
    p->lse_sequence_bytes = p->lse_head_bytes * p->n_q_heads;
    c->io.lse = (float *)(void *)((char *)lse_room + GUARD);
}

static void begin_call(engine_call *c, const char *name) {
    fia_problem *p = &c->problem;
    memset(c, 0, sizeof(*c));
    c->name = name;
    fia_problem_init(p);
    fia_io_init(&c->io);
    p->n_sequences = c->io.n_sequences = B;
    p->max_q_len = SQ;
    p->max_kv_len = SKV;
    p->n_q_heads = HQ;
    p->n_kv_heads = HKV;
    p->dim = D;
    p->value_dim = DV;
}

static const int64_t q_each[] = {6, 1, 4}, kv_each[] = {40, 17, 0}, q_ends[] = {6, 7, 11}, kv_ends[] = {40, 57, 60},
                     q_starts[] = {0, 6, 6, 10}, kv_starts[] = {0, 33, 33, 60};

static void make_padded(engine_call *c) {
    begin_call(c, "padded f32");
    set_views(c, FIA_F32, FIA_F32, 0);
    set_lse(c);
    give_array(c, Q_LENS, FIA_I64, B, q_each);
    give_array(c, KV_LENS, FIA_I64, B, kv_each);
}

static void make_whole(engine_call *c) {
    begin_call(c, "padded f16 by token, no lengths");
    set_views(c, FIA_F16, FIA_F16, 1);
    c->problem.causal = 1;
    c->problem.fill_padding = 1;
}

static void set_packed(engine_call *c, int form) {
    fia_problem *p = &c->problem;
    p->q_packed = p->kv_packed = 1;
    p->q_lengths = p->kv_lengths = form;
    p->total_q = 12;
    p->total_kv = 64;
}

static void make_packed(engine_call *c) {
    begin_call(c, "packed, running sums");
    set_packed(c, FIA_LENGTHS_ENDS);
    set_views(c, FIA_F32, FIA_BF16, 1);
    set_lse(c);
    c->problem.fill_padding = 1;
    give_array(c, Q_LENS, FIA_I64, B, q_ends);
    give_array(c, KV_LENS, FIA_I32, B, kv_ends);
}

static void make_cumulative(engine_call *c) {
    begin_call(c, "packed, sums from 0");
    set_packed(c, FIA_LENGTHS_STARTS);
    c->problem.total_q = B * SQ; /* room for every longest length */
    c->problem.total_kv = B * SKV;
    set_views(c, FIA_F16, FIA_F32, 1);
    c->problem.causal = 1;
    c->problem.window_left = 11;
    give_array(c, Q_LENS, FIA_I32, B + 1, q_starts);
    give_array(c, KV_LENS, FIA_I64, B + 1, kv_starts);
}

/* Columns behind a sequence's length hold ids of no page. */
static void set_pages(engine_call *c, fia_dtype q, fia_dtype kv, int token_major) {
    fia_problem *p = &c->problem;
    int b, i;
    p->keys = FIA_KEYS_PAGED;
    p->page_size = PAGE;
    p->n_pages = PAGES;
    p->table_columns = COLUMNS;
    set_views(c, q, kv, token_major);
    for (b = 0; b < B; ++b)
        for (i = 0; i < COLUMNS; ++i) c->table[b * COLUMNS + i] = i * PAGE < kv_each[b] ? (b * 7 + i * 3) % PAGES : -1;
    c->io.block_table = c->table;
    give_array(c, Q_LENS, FIA_I32, B, q_each);
    give_array(c, KV_LENS, FIA_I32, B, kv_each);
}

static void make_paged(engine_call *c) {
    begin_call(c, "pages BnBsH");
    set_pages(c, FIA_F32, FIA_F16, 1);
    set_lse(c);
}

static void make_paged_window(engine_call *c) {
    begin_call(c, "pages BnNBsD, window");
    set_pages(c, FIA_BF16, FIA_BF16, 0);
    c->problem.causal = 1;
    c->problem.window_left = 9;
    c->problem.softcap = 30.0f;
}

/* (page, head, piece, slot, 8 elements) */
static void set_pieces(fia_view *view, int64_t dim) {
    view->piece_elements = 8;
    view->row_bytes = 8 * type_bytes(view->dtype);
    view->piece_bytes = view->row_bytes * PAGE;
    view->head_bytes = view->piece_bytes * (dim / 8);
    view->sequence_bytes = view->head_bytes * HKV;
}

static void make_pieces(engine_call *c) {
    begin_call(c, "pages NZ, rope");
    c->problem.rope_dim = DR;
    set_pages(c, FIA_F16, FIA_F16, 1);
    set_pieces(&c->problem.key, D);
    set_pieces(&c->problem.value, DV);
    set_pieces(&c->problem.key_rope, DR);
}

static void make_list(engine_call *c) {
    static const int64_t rows[] = {40, 20, 0}, key_strides[] = {D * SKV, D * 20, 0},
                         value_strides[] = {DV * SKV, DV * 20, 0};
    int b;
    begin_call(c, "list");
    c->problem.keys = FIA_KEYS_LIST;
    set_views(c, FIA_F32, FIA_F16, 0);
    set_lse(c);
    for (b = 0; b < B; ++b) {
        c->key_bases[b] = (char *)inputs[2] + b * 8192;
        c->value_bases[b] = (char *)inputs[4] + b * 8192;
    }
    c->io.key = c->io.value = NULL;
    c->io.key_list = c->key_bases;
    c->io.value_list = c->value_bases;
    give_array(c, KV_ROWS, FIA_I64, B, rows);
    give_array(c, KEY_STRIDES, FIA_I64, B, key_strides);
    give_array(c, VALUE_STRIDES, FIA_I32, B, value_strides);
    give_array(c, Q_LENS, FIA_I64, B, q_each);
    c->io.list_bytes = (ptrdiff_t)sizeof(void *);
}

static void make_list_rope(engine_call *c) {
    int b;
    begin_call(c, "list, rope, one length");
    c->problem.keys = FIA_KEYS_LIST;
    c->problem.rope_dim = DR;
    set_views(c, FIA_BF16, FIA_F32, 1);
    for (b = 0; b < B; ++b) {
        c->key_bases[b] = (char *)inputs[2] + b * 16384;
        c->rope_bases[b] = (char *)inputs[3] + b * 16384;
        c->value_bases[b] = (char *)inputs[4] + b * 16384;
    }
    c->io.key = c->io.value = c->io.key_rope = NULL;
    c->io.key_list = c->key_bases;
    c->io.key_rope_list = c->rope_bases;
    c->io.value_list = c->value_bases;
    give_array(c, KV_LENS, FIA_I32, 1, kv_each);
    array_of(&c->io, KV_LENS)->broadcast = 1;
}

static void set_mask(fia_mask_view *view, fia_dtype t, int64_t rows, int64_t keys, int heads) {
    const int64_t e = type_bytes(t);
    view->dtype = t;
    view->rows = rows;
    view->keys = keys;
    view->row_bytes = e * keys;
    view->head_bytes = heads ? e * keys * rows : 0;
    view->sequence_bytes = e * keys * rows * (heads ? HQ : 1);
}

/* Masks with less room than the longest lengths. */
static void make_masks(engine_call *c) {
    static const int64_t q[] = {5, 1, 4}, kv[] = {37, 17, 1}, at[] = {100, -3, 0}, keys_at[] = {70, -20, 0};
    fia_problem *p = &c->problem;
    begin_call(c, "bias, masks, ALiBi");
    set_views(c, FIA_F32, FIA_F32, 0);
    set_mask(&p->bias, FIA_BF16, 5, 38, 1);
    set_mask(&p->additive_mask, FIA_F32, 6, 37, 0);
    set_mask(&p->drop_mask, FIA_BOOL, 5, 40, 0);
    p->drop_mask.sequence_bytes = 0;
    p->mask_factor = FIA_F16;
    p->alibi_slopes = FIA_F32;
    p->window_right = 20;
    p->align = FIA_ALIGN_TOP_LEFT;
    c->io.bias = inputs[5];
    c->io.additive_mask = inputs[6];
    c->io.drop_mask = inputs[7];
    c->io.mask_factor = inputs[8];
    c->io.alibi_slopes = inputs[9];
    give_array(c, Q_LENS, FIA_I64, B, q);
    give_array(c, KV_LENS, FIA_I64, B, kv);
    give_array(c, Q_OFFSET, FIA_I64, B, at);
    give_array(c, KV_OFFSET, FIA_I64, B, keys_at);
}

static void make_latent(engine_call *c) {
    begin_call(c, "V in K, rope, sinks");
    c->problem.n_kv_heads = 1;
    c->problem.rope_dim = DR;
    c->problem.value_in_key = 1;
    set_views(c, FIA_F16, FIA_F16, 1);
    set_lse(c);
    c->problem.sinks = FIA_F32;
    c->io.sinks = inputs[10];
    c->io.value = NULL;
    give_array(c, Q_LENS, FIA_I64, B, q_each);
    give_array(c, KV_LENS, FIA_I64, B, kv_each);
}

static void set_scale(fia_scale_view *view, fia_dtype t, int place, int64_t sequence, int64_t head, int64_t token,
                      int64_t channel) {
    const int64_t e = type_bytes(t);
    view->dtype = t;
    view->place = place;
    view->sequence_bytes = sequence * e;
    view->head_bytes = head * e;
    view->token_bytes = token * e;
    view->channel_bytes = channel * e;
}

static void make_scaled(engine_call *c) {
    fia_problem *p = &c->problem;
    begin_call(c, "scales, by channel and token");
    set_views(c, FIA_F32, FIA_F16, 0);
    set_scale(&p->query_scale, FIA_F32, FIA_PLACE_ROWS, HQ * SQ, SQ, 1, 0);
    set_scale(&p->key_scale, FIA_F16, FIA_PLACE_ROWS, 0, D, 0, 1);
    set_scale(&p->key_offset, FIA_F32, FIA_PLACE_ROWS, 0, D, 0, 1);
    set_scale(&p->value_scale, FIA_F32, FIA_PLACE_ROWS, HKV * SKV, SKV, 1, 0);
    set_scale(&p->value_offset, FIA_BF16, FIA_PLACE_LOCAL, HKV * SKV, SKV, 1, 0);
    set_scale(&p->out_scale, FIA_F32, FIA_PLACE_ROWS, 0, DV, 0, 1);
    set_scale(&p->out_offset, FIA_F32, FIA_PLACE_ROWS, 0, 0, 0, 0);
    c->io.query_scale = inputs[11];
    c->io.key_scale = inputs[12];
    c->io.key_offset = inputs[13];
    c->io.value_scale = inputs[14];
    c->io.value_offset = inputs[15];
    c->io.out_scale = inputs[16];
    c->io.out_offset = inputs[17];
    give_array(c, Q_LENS, FIA_I64, B, q_each);
    give_array(c, KV_LENS, FIA_I64, B, kv_each);
}

static void make_paged_scales(engine_call *c) {
    fia_problem *p = &c->problem;
    begin_call(c, "pages with scales");
    set_pages(c, FIA_F16, FIA_F16, 1);
    set_scale(&p->key_scale, FIA_F32, FIA_PLACE_PAGES, HKV * PAGE, PAGE, 1, 0);
    set_scale(&p->value_scale, FIA_F32, FIA_PLACE_ROWS, HKV * SKV, SKV, 1, 0);
    c->io.key_scale = inputs[12];
    c->io.value_scale = inputs[14];
}

static void make_decode(engine_call *c) {
    begin_call(c, "one row of one sequence");
    c->problem.n_sequences = c->io.n_sequences = 1;
    c->problem.max_q_len = 1;
    set_views(c, FIA_F32, FIA_F32, 0);
    set_lse(c);
    c->problem.pin_chunk = 512;
    give_array(c, KV_LENS, FIA_I64, 1, kv_each);
}

static void (*const makers[])(engine_call *) = {
    make_padded, make_whole,     make_packed, make_cumulative, make_paged,  make_paged_window, make_pieces,
    make_list,   make_list_rope, make_masks,  make_latent,     make_scaled, make_paged_scales, make_decode};
enum { CALLS = (int)(sizeof(makers) / sizeof(makers[0])) };

/* ---- rules of a problem ---- */

typedef struct view_names {
    const char *dtype, *pieces, *sequence, *head, *row, *piece, *params;
} view_names;

#define VIEW_NAMES(v)                                                                                                  \
    {                                                                                                                  \
        v ".dtype", v ".piece_elements", v ".sequence_bytes", v ".head_bytes", v ".row_bytes", v ".piece_bytes",       \
            v ".params"                                                                                                \
    }

static void view_rules(verdict *v, const view_names *name, const fia_view *view, int64_t outer, int64_t heads,
                       int64_t rows, int32_t elements, int key) {
    const int64_t e =
        view->dtype == FIA_BOOL || view->dtype == FIA_I8 || view->dtype == FIA_U8 ? 0 : type_bytes(view->dtype);
    const int known =
        view->dtype == FIA_I8 || (view->dtype >= FIA_I4 && view->dtype <= FIA_HIF8) || view->dtype >= FIA_DTYPE_USER;
    size_t i;
    lacks_if(v, !e && known, name->dtype);
    wrong_if(v, !e && !known, name->dtype);
    if (!e) return;
    wrong_if(v, view->piece_elements < 0 || (view->piece_elements > 0 && !key), name->pieces);
    wrong_if(v, view->sequence_bytes % e || too_far(view->sequence_bytes, outer), name->sequence);
    wrong_if(v, view->head_bytes % e || too_far(view->head_bytes, heads), name->head);
    wrong_if(v, view->row_bytes % e || too_far(view->row_bytes, rows), name->row);
    wrong_if(v, view->piece_bytes % e || too_far(view->piece_bytes, view->piece_elements ? elements : 0), name->piece);
    for (i = 0; i < sizeof(view->params); ++i) wrong_if(v, view->params[i] != 0, name->params);
}

static void mask_rules(verdict *v, const char *dtype, const char *const name[6], const fia_mask_view *m,
                       const fia_problem *p, int drop) {
    const int is_float = m->dtype == FIA_F32 || m->dtype == FIA_F16 || m->dtype == FIA_BF16;
    const int64_t e = type_bytes(m->dtype);
    wrong_if(v, m->reserved != 0, name[2]);
    if (m->dtype == FIA_NONE) return;
    wrong_if(v, !e || is_float == drop, dtype);
    if (!e || is_float == drop) return;
    range_rule(v, name[0], m->rows, 0, BAD_SPAN);
    range_rule(v, name[1], m->keys, 0, BAD_SPAN);
    wrong_if(v, m->sequence_bytes % e || too_far(m->sequence_bytes, p->n_sequences), name[3]);
    wrong_if(v, m->head_bytes % e || too_far(m->head_bytes, p->n_q_heads), name[4]);
    wrong_if(v, m->row_bytes % e || too_far(m->row_bytes, m->rows), name[5]);
}

/* What a scale view belongs to: of the output neither sequence nor token, of the query no channel. */
typedef struct scale_rule {
    const char *dtype, *place, *sequence, *head, *token, *channel;
    size_t at;
    char of; /* q, k, v, o */
} scale_rule;

#define SCALE_RULE(f, of)                                                                                              \
    {                                                                                                                  \
#f, #f ".place", #f ".sequence_bytes", #f ".head_bytes", #f ".token_bytes", #f ".channel_bytes",               \
            offsetof(fia_problem, f), of                                                                               \
    }

static const scale_rule scale_table[] = {SCALE_RULE(query_scale, 'q'),  SCALE_RULE(key_scale, 'k'),
                                         SCALE_RULE(key_offset, 'k'),   SCALE_RULE(value_scale, 'v'),
                                         SCALE_RULE(value_offset, 'v'), SCALE_RULE(out_scale, 'o'),
                                         SCALE_RULE(out_offset, 'o')};

static void scale_rules(verdict *v, const scale_rule *r, const fia_problem *p) {
    const fia_scale_view *s = (const fia_scale_view *)(const void *)((const char *)p + r->at);
    const int query = r->of == 'q', key = r->of == 'k' || r->of == 'v', paged = s->place == FIA_PLACE_PAGES;
    const int packed = s->place == FIA_PLACE_ROWS && (query ? p->q_packed : p->kv_packed);
    const int64_t e = type_bytes(s->dtype);
    if (s->dtype == FIA_NONE) return;
    wrong_if(v, e != 4 && s->dtype != FIA_F16 && s->dtype != FIA_BF16, r->dtype);
    if (e != 4 && s->dtype != FIA_F16 && s->dtype != FIA_BF16) return;
    wrong_if(v, s->place < 0 || s->place > 2 || (paged && (!key || p->keys != FIA_KEYS_PAGED)) || (s->place && !key),
             r->place);
    wrong_if(v, s->token_bytes != 0 && (s->channel_bytes != 0 || r->of == 'o'), r->token);
    wrong_if(v, s->channel_bytes != 0 && query, r->channel);
    wrong_if(v, s->sequence_bytes != 0 && (r->of == 'o' || (paged && s->channel_bytes != 0)), r->sequence);
    wrong_if(v,
             s->sequence_bytes % e || too_far(s->sequence_bytes, paged    ? p->n_pages
                                                                 : packed ? 1
                                                                          : p->n_sequences),
             r->sequence);
    wrong_if(v, s->head_bytes % e || too_far(s->head_bytes, key ? p->n_kv_heads : p->n_q_heads), r->head);
    wrong_if(v,
             s->token_bytes % e || too_far(s->token_bytes, paged    ? p->page_size
                                                           : packed ? (query ? p->total_q : p->total_kv)
                                                                    : (query ? p->max_q_len : p->max_kv_len)),
             r->token);
    wrong_if(v, s->channel_bytes % e || too_far(s->channel_bytes, r->of == 'k' ? p->dim : p->value_dim), r->channel);
    wrong_if(v, p->value_in_key && r->of == 'v', r->dtype);
}

static void size_rules(verdict *v, const fia_problem *p) {
    range_rule(v, "n_sequences", p->n_sequences, 0, BAD_SPAN);
    maybe_if(v, p->n_sequences > INT64_C(1) << 50, "n_sequences");
    range_rule(v, "max_q_len", p->max_q_len, 0, BAD_SPAN);
    range_rule(v, "max_kv_len", p->max_kv_len, 0, BAD_SPAN);
    if (p->q_packed) range_rule(v, "total_q", p->total_q, 0, BAD_SPAN);
    if (p->kv_packed) range_rule(v, "total_kv", p->total_kv, 0, BAD_SPAN);
    range_rule(v, "n_q_heads", p->n_q_heads, 1, 1 << 20);
    range_rule(v, "n_kv_heads", p->n_kv_heads, 1, 1 << 20);
    range_rule(v, "dim", p->dim, 1, 1 << 16);
    range_rule(v, "rope_dim", p->rope_dim, 0, 1 << 16);
    range_rule(v, "value_dim", p->value_dim, 1, 1 << 16);
    range_rule(v, "value_in_key", p->value_in_key, 0, 1);
    range_rule(v, "q_packed", p->q_packed, 0, 1);
    range_rule(v, "kv_packed", p->kv_packed, 0, 1);
    range_rule(v, "q_lengths", p->q_lengths, 0, 2);
    range_rule(v, "kv_lengths", p->kv_lengths, 0, 2);
    range_rule(v, "pin_family", p->pin_family, 0, 2);
    range_rule(v, "causal", p->causal, 0, 1);
    range_rule(v, "align", p->align, 0, 1);
    range_rule(v, "bias_before_scale", p->bias_before_scale, 0, 1);
    range_rule(v, "want_lse", p->want_lse, 0, 1);
    range_rule(v, "fill_padding", p->fill_padding, 0, 1);
    range_rule(v, "exact", p->exact, 0, 1);
    range_rule(v, "reserved", p->reserved, 0, 0);
    range_rule(v, "pin_chunk", p->pin_chunk, 0, BAD_SPAN);
    wrong_if(v, p->n_kv_heads > 0 && p->n_q_heads % p->n_kv_heads, "n_q_heads");
    wrong_if(v, p->value_in_key && p->value_dim > p->dim, "value_dim");
    wrong_if(v, p->kv_packed && p->keys != FIA_KEYS_STRIDED, "kv_packed");
    wrong_if(v, isinf(p->scale), "scale");
    wrong_if(v, !(p->softcap >= 0.0f && p->softcap <= 3.4028235e38f), "softcap");
}

/* base: a plan of the valid call, for what kernels ask. */
static void kernel_rules(verdict *v, const fia_problem *p, const fia_plan *base) {
    const int64_t rows = base->tile->rows < FIA_STREAM_ROWS ? base->tile->rows : FIA_STREAM_ROWS;
    wrong_if(v, p->pin_chunk % base->chunk_base != 0, "pin_chunk");
    wrong_if(v, p->pin_chunk > 0 && p->max_kv_len / p->pin_chunk >= INT32_MAX - 1, "pin_chunk");
    if (p->n_kv_heads > 0 && p->n_q_heads >= p->n_kv_heads)
        wrong_if(v, p->max_q_len > (INT32_MAX - 1) * rows / (p->n_q_heads / p->n_kv_heads), "max_q_len");
}

static void key_form_rules(verdict *v, const fia_problem *p) {
    size_t i;
    wrong_if(v, p->keys < 0 || (p->keys > FIA_KEYS_PAGED && p->keys < FIA_KEYS_USER), "keys");
    lacks_if(v, p->keys >= FIA_KEYS_USER, "keys");
    for (i = 0; i < sizeof(p->keys_params); ++i) wrong_if(v, p->keys_params[i] != 0, "keys_params");
    if (p->keys != FIA_KEYS_PAGED) return;
    range_rule(v, "page_size", p->page_size, 1, BAD_SPAN);
    range_rule(v, "n_pages", p->n_pages, 0, INT32_MAX);
    range_rule(v, "table_columns", p->table_columns, 0, BAD_SPAN);
    wrong_if(v, p->table_columns > 0 && p->n_sequences > 0 && p->table_columns > BAD_SPAN / 4 / p->n_sequences,
             "table_columns");
    range_rule(v, "table_broadcast", p->table_broadcast, 0, 1);
    wrong_if(v, p->table_bytes % 4 || too_far(p->table_bytes, p->n_sequences), "table_bytes");
    if (p->page_size > 0 && p->table_columns >= 0 && p->table_columns <= INT64_MAX / p->page_size)
        wrong_if(v, p->max_kv_len > p->table_columns * p->page_size, "max_kv_len");
}

static void output_rules(verdict *v, const fia_problem *p) {
    const int64_t e = type_bytes(p->out.dtype) * (int64_t)p->value_dim;
    const int64_t count[3] = {p->q_packed ? 1 : p->n_sequences, p->n_q_heads, p->q_packed ? p->total_q : p->max_q_len};
    const int64_t out[3] = {p->out.sequence_bytes, p->out.head_bytes, p->out.row_bytes};
    const int64_t lse[3] = {p->lse_sequence_bytes, p->lse_head_bytes, p->lse_row_bytes};
    static const char *const out_names[3] = {"out.sequence_bytes", "out.head_bytes", "out.row_bytes"};
    static const char *const lse_names[3] = {"lse_sequence_bytes", "lse_head_bytes", "lse_row_bytes"};
    int i;
    for (i = 0; i < 3; ++i) { /* axes one by one; a run looks at them together */
        int64_t alone[3] = {1, 1, 1};
        if (count[0] > 0 && count[2] > 0) alone[i] = count[i];
        wrong_if(v, !too_far(out[i], count[i]) && rows_overlap(e, out, alone), out_names[i]);
        wrong_if(v, p->want_lse && !too_far(lse[i], count[i]) && rows_overlap(4, lse, alone), lse_names[i]);
    }
    if (!p->want_lse) return;
    wrong_if(v, lse[0] % 4 || too_far(lse[0], count[0]), "lse_sequence_bytes");
    wrong_if(v, lse[1] % 4 || too_far(lse[1], count[1]), "lse_head_bytes");
    wrong_if(v, lse[2] % 4 || too_far(lse[2], count[2]), "lse_row_bytes");
}

/* Packed rows are no sequence apart: whatever those strides hold is as good as 0. */
static fia_problem without_unused(const fia_problem *given) {
    fia_problem p = *given;
    size_t i;
    if (p.q_packed) p.query.sequence_bytes = p.query_rope.sequence_bytes = p.out.sequence_bytes = 0;
    if (p.q_packed) p.lse_sequence_bytes = p.query_scale.sequence_bytes = 0;
    if (p.kv_packed) p.key.sequence_bytes = p.key_rope.sequence_bytes = p.value.sequence_bytes = 0;
    for (i = 0; p.kv_packed && i < sizeof(scale_table) / sizeof(scale_table[0]); ++i) {
        fia_scale_view *s = (fia_scale_view *)(void *)((char *)&p + scale_table[i].at);
        if ((scale_table[i].of == 'k' || scale_table[i].of == 'v') && s->place == FIA_PLACE_ROWS) s->sequence_bytes = 0;
    }
    return p;
}

static void problem_rules(verdict *v, const fia_problem *given, const fia_plan *base) {
    static const view_names names[6] = {VIEW_NAMES("query"), VIEW_NAMES("key"),        VIEW_NAMES("out"),
                                        VIEW_NAMES("value"), VIEW_NAMES("query_rope"), VIEW_NAMES("key_rope")};
    static const char *const bias[6] = {"bias.rows",           "bias.keys",       "bias.reserved",
                                        "bias.sequence_bytes", "bias.head_bytes", "bias.row_bytes"};
    static const char *const add[6] = {"additive_mask.rows",       "additive_mask.keys",
                                       "additive_mask.reserved",   "additive_mask.sequence_bytes",
                                       "additive_mask.head_bytes", "additive_mask.row_bytes"};
    static const char *const drop[6] = {"drop_mask.rows",           "drop_mask.keys",       "drop_mask.reserved",
                                        "drop_mask.sequence_bytes", "drop_mask.head_bytes", "drop_mask.row_bytes"};
    const fia_problem cleared = without_unused(given), *p = &cleared;
    const fia_dtype small[3] = {p->mask_factor, p->alibi_slopes, p->sinks};
    static const char *const small_names[3] = {"mask_factor", "alibi_slopes", "sinks"};
    const int paged = p->keys == FIA_KEYS_PAGED;
    const int64_t q_outer = p->q_packed ? 1 : p->n_sequences, q_rows = p->q_packed ? p->total_q : p->max_q_len;
    const int64_t k_outer = paged ? p->n_pages : p->keys == FIA_KEYS_LIST || p->kv_packed ? 1 : p->n_sequences;
    const int64_t k_rows = paged ? p->page_size : p->kv_packed ? p->total_kv : p->max_kv_len;
    size_t i;
    memset(v, 0, sizeof(*v));
    size_rules(v, p);
    key_form_rules(v, p);
    view_rules(v, &names[0], &p->query, q_outer, p->n_q_heads, q_rows, p->dim, 0);
    view_rules(v, &names[1], &p->key, k_outer, p->n_kv_heads, k_rows, p->dim, 1);
    view_rules(v, &names[2], &p->out, q_outer, p->n_q_heads, q_rows, p->value_dim, 0);
    if (!p->value_in_key) view_rules(v, &names[3], &p->value, k_outer, p->n_kv_heads, k_rows, p->value_dim, 1);
    if (p->rope_dim) view_rules(v, &names[4], &p->query_rope, q_outer, p->n_q_heads, q_rows, p->rope_dim, 0);
    if (p->rope_dim) view_rules(v, &names[5], &p->key_rope, k_outer, p->n_kv_heads, k_rows, p->rope_dim, 1);
    output_rules(v, p);
    mask_rules(v, "bias", bias, &p->bias, p, 0);
    mask_rules(v, "additive_mask", add, &p->additive_mask, p, 0);
    mask_rules(v, "drop_mask", drop, &p->drop_mask, p, 1);
    for (i = 0; i < 3; ++i)
        wrong_if(v, small[i] != FIA_NONE && small[i] != FIA_F32 && small[i] != FIA_F16 && small[i] != FIA_BF16,
                 small_names[i]);
    wrong_if(v, p->mask_factor != FIA_NONE && p->additive_mask.dtype == FIA_NONE, "mask_factor");
    for (i = 0; i < sizeof(scale_table) / sizeof(scale_table[0]); ++i) scale_rules(v, &scale_table[i], p);
    kernel_rules(v, p, base);
}

/* ---- fields of a problem ---- */

typedef struct field {
    const char *name;
    size_t at;
    field_kind kind;
} field;

#define FIELD(f, kind)                                                                                                 \
    { #f, offsetof(fia_problem, f), kind }
#define VIEW_FIELDS(v)                                                                                                 \
    FIELD(v.dtype, DTYPE), FIELD(v.piece_elements, INT32), FIELD(v.sequence_bytes, INT64), FIELD(v.head_bytes, INT64), \
        FIELD(v.row_bytes, INT64), FIELD(v.piece_bytes, INT64), FIELD(v.params[0], BYTE), FIELD(v.params[63], BYTE)
#define MASK_FIELDS(m)                                                                                                 \
    FIELD(m.dtype, DTYPE), FIELD(m.reserved, INT32), FIELD(m.rows, INT64), FIELD(m.keys, INT64),                       \
        FIELD(m.sequence_bytes, INT64), FIELD(m.head_bytes, INT64), FIELD(m.row_bytes, INT64)
#define SCALE_FIELDS(s)                                                                                                \
    FIELD(s.dtype, DTYPE), FIELD(s.place, INT32), FIELD(s.sequence_bytes, INT64), FIELD(s.head_bytes, INT64),          \
        FIELD(s.token_bytes, INT64), FIELD(s.channel_bytes, INT64)

static const field fields[] = {FIELD(n_sequences, INT64),
                               FIELD(max_q_len, INT64),
                               FIELD(max_kv_len, INT64),
                               FIELD(total_q, INT64),
                               FIELD(total_kv, INT64),
                               FIELD(n_q_heads, INT32),
                               FIELD(n_kv_heads, INT32),
                               FIELD(dim, INT32),
                               FIELD(rope_dim, INT32),
                               FIELD(value_dim, INT32),
                               FIELD(value_in_key, INT32),
                               VIEW_FIELDS(query),
                               VIEW_FIELDS(query_rope),
                               VIEW_FIELDS(key),
                               VIEW_FIELDS(key_rope),
                               VIEW_FIELDS(value),
                               VIEW_FIELDS(out),
                               FIELD(q_packed, INT32),
                               FIELD(kv_packed, INT32),
                               FIELD(q_lengths, INT32),
                               FIELD(kv_lengths, INT32),
                               FIELD(keys, INT32),
                               FIELD(pin_family, INT32),
                               FIELD(page_size, INT64),
                               FIELD(n_pages, INT64),
                               FIELD(table_columns, INT64),
                               FIELD(table_bytes, INT64),
                               FIELD(table_broadcast, INT32),
                               FIELD(keys_params[0], BYTE),
                               FIELD(keys_params[63], BYTE),
                               FIELD(scale, FLOAT),
                               FIELD(softcap, FLOAT),
                               FIELD(causal, INT32),
                               FIELD(align, INT32),
                               FIELD(bias_before_scale, INT32),
                               FIELD(window_left, INT64),
                               FIELD(window_right, INT64),
                               MASK_FIELDS(bias),
                               MASK_FIELDS(additive_mask),
                               MASK_FIELDS(drop_mask),
                               FIELD(mask_factor, DTYPE),
                               FIELD(alibi_slopes, DTYPE),
                               FIELD(sinks, DTYPE),
                               FIELD(want_lse, INT32),
                               FIELD(lse_empty, FLOAT),
                               FIELD(fill_padding, INT32),
                               FIELD(lse_sequence_bytes, INT64),
                               FIELD(lse_head_bytes, INT64),
                               FIELD(lse_row_bytes, INT64),
                               SCALE_FIELDS(query_scale),
                               SCALE_FIELDS(key_scale),
                               SCALE_FIELDS(key_offset),
                               SCALE_FIELDS(value_scale),
                               SCALE_FIELDS(value_offset),
                               SCALE_FIELDS(out_scale),
                               SCALE_FIELDS(out_offset),
                               FIELD(exact, INT32),
                               FIELD(reserved, INT32),
                               FIELD(pin_chunk, INT64)};
enum { FIELDS = (int)(sizeof(fields) / sizeof(fields[0])) };

static int64_t get_field(const void *base, const field *f) {
    const char *at = (const char *)base + f->at;
    int64_t wide;
    int32_t narrow;
    if (f->kind == BYTE) return *(const unsigned char *)at;
    memcpy(&narrow, at, sizeof(narrow));
    if (f->kind != INT64) return narrow;
    memcpy(&wide, at, sizeof(wide));
    return wide;
}

static void set_field(void *base, const field *f, int64_t value) {
    char *at = (char *)base + f->at;
    const int32_t narrow = (int32_t)value;
    if (f->kind == BYTE) *(unsigned char *)at = (unsigned char)value;
    else if (f->kind == INT64) memcpy(at, &value, sizeof(value));
    else memcpy(at, &narrow, sizeof(narrow));
}

static void field_values(values *v, const void *base, const field *f) {
    int i, n = 0;
    const int64_t now = get_field(base, f);
    if (f->kind == DTYPE) dtype_extremes(v);
    else if (f->kind == FLOAT) float_extremes(v);
    else integer_extremes(v, now, f->kind == INT64 ? 64 : 32);
    for (i = 0; i < v->n; ++i) { /* no value twice, none that is there already */
        const int64_t x = f->kind == BYTE ? (v->at[i] & 255) : f->kind == INT64 ? v->at[i] : (int32_t)v->at[i];
        int k;
        for (k = 0; k < n && v->at[k] != x; ++k) {}
        if (k == n && x != now) v->at[n++] = x;
    }
    v->n = n;
}

/* ---- the sweep over problems ---- */

static void soil_outputs(void) {
    memset(out_room, BAD_CANARY, sizeof(out_room));
    memset(lse_room, BAD_CANARY, sizeof(lse_room));
}

static void check_outputs_untouched(void) {
    check_canary(out_room, sizeof(out_room), "out was written");
    check_canary(lse_room, sizeof(lse_room), "lse was written");
}

static fia_job job_of(const fia_plan *plan, const fia_io *io) {
    fia_job job;
    job.plan = plan;
    job.io = io;
    job.workspace = workspace;
    job.workspace_bytes = plan->workspace_bytes;
    return job;
}

/* Plans a valid call and keeps what it writes. */
static void plan_and_run(int which, fia_plan *plan) {
    fia_report report;
    fia_job job;
    makers[which](&call);
    bad.call = call.name;
    bad.field = "nothing";
    bad.value[0] = 0;
    if (fia_plan_make(NULL, &call.problem, 2, plan, &report)) fail_msg("%s: %s", call.name, report.text);
    assert_true(plan->workspace_bytes <= sizeof(workspace));
    soil_outputs();
    job = job_of(plan, &call.io);
    if (fia_run(&job, NULL, &report)) fail_msg("%s: %s", call.name, report.text);
    memcpy(first_out, out_room, sizeof(out_room));
    memcpy(first_lse, lse_room, sizeof(lse_room));
}

static int begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* Fields that this call has no use for: any value that is taken must change nothing. */
static int is_unused(const fia_problem *p, const char *name) {
    static const char *const sequences[] = {"query.sequence_bytes", "query_rope.sequence_bytes", "out.sequence_bytes",
                                            "lse_sequence_bytes"};
    const char *dot = strchr(name, '.');
    size_t i;
    if (p->q_packed)
        for (i = 0; i < 4; ++i)
            if (strcmp(name, sequences[i]) == 0) return 1;
    if (strcmp(name, "total_q") == 0) return !p->q_packed;
    if (strcmp(name, "total_kv") == 0) return !p->kv_packed;
    if (strcmp(name, "page_size") == 0 || strcmp(name, "n_pages") == 0 || begins(name, "table_"))
        return p->keys != FIA_KEYS_PAGED;
    if (begins(name, "key.sequence") || begins(name, "value.sequence") || begins(name, "key_rope.sequence"))
        return p->kv_packed || p->keys == FIA_KEYS_LIST ||
               (begins(name, "value") ? p->value_in_key : begins(name, "key_rope") && !p->rope_dim);
    if (begins(name, "value.") && p->value_in_key) return 1;
    if (begins(name, "query_rope.") || begins(name, "key_rope.")) return !p->rope_dim;
    if (begins(name, "bias.") && strcmp(name, "bias.dtype") != 0) return p->bias.dtype == FIA_NONE;
    if (begins(name, "drop_mask.") && strcmp(name, "drop_mask.dtype") != 0) return p->drop_mask.dtype == FIA_NONE;
    if (begins(name, "bias_before_scale")) return p->bias.dtype == FIA_NONE;
    if (begins(name, "lse_") && dot == NULL) return !p->want_lse && strcmp(name, "lse_empty") != 0;
    if (dot && strcmp(dot, ".piece_bytes") == 0) return p->key.piece_elements == 0;
    for (i = 0; i < sizeof(scale_table) / sizeof(scale_table[0]); ++i)
        if (begins(name, scale_table[i].dtype) && dot && strcmp(dot, ".dtype") != 0)
            return ((const fia_scale_view *)(const void *)((const char *)p + scale_table[i].at))->dtype == FIA_NONE;
    return 0;
}

static void check_no_effect(const fia_plan *plan) {
    fia_report report;
    const fia_job job = job_of(plan, &call.io);
    soil_outputs();
    soil_report(&report);
    if (fia_run(&job, NULL, &report)) bad_fail("an unused field is refused by the run", &report, NULL);
    else if (memcmp(first_out, out_room, sizeof(out_room)) != 0 || memcmp(first_lse, lse_room, sizeof(lse_room)) != 0)
        bad_fail("an unused field has an effect", NULL, NULL);
}

/* Where a sentence speaks of a field of a struct, it shows what the field holds. */
static void check_value(const fia_report *report, const field *f, int n, const void *base) {
    value_check c = begin_value(report);
    int i;
    for (i = 0; i < n; ++i)
        if (is_subject(&c, f[i].name)) note_value(&c, 1, shows_field(c.value, f[i].kind, (const char *)base + f[i].at));
    end_value(&c, NULL);
}

static int try_problem(const fia_problem *p, int workers, const fia_plan *base, verdict *v, fia_plan *plan,
                       fia_report *report) {
    fia_status status;
    problem_rules(v, p, base);
    range_rule(v, "max_workers", workers, 1, 4096);
    memset(plan, BAD_CANARY, sizeof(*plan));
    soil_report(report);
    status = fia_plan_make(NULL, p, workers, plan, report);
    if (fia_plan_make(NULL, p, workers, plan, NULL) != status) bad_fail("another status without a report", report, v);
    if (status) check_canary(plan, sizeof(*plan), "the plan was written");
    if (!check_verdict(status, report, v)) return 0;
    check_value(report, fields, FIELDS, p);
    return 1;
}

static void every_field_of_a_problem(void **state) {
    fia_plan base, plan;
    fia_report report;
    verdict v;
    values list;
    int which, i, k;
    (void)state;
    for (which = 0; which < CALLS; ++which) {
        plan_and_run(which, &base);
        for (i = 0; i < FIELDS; ++i) {
            bad.field = fields[i].name;
            field_values(&list, &call.problem, &fields[i]);
            for (k = 0; k < list.n; ++k) {
                fia_problem p = call.problem;
                show_value(list.at[k]);
                set_field(&p, &fields[i], list.at[k]);
                if (try_problem(&p, 2, &base, &v, &plan, &report)) ++bad.refused;
                else {
                    ++bad.taken;
                    if (is_unused(&call.problem, fields[i].name)) check_no_effect(&plan);
                }
            }
        }
    }
    assert_int_equal(bad.failures, 0);
}

static void pairs_of_fields_of_a_problem(void **state) {
    fia_plan base, plan;
    fia_report report;
    verdict v;
    values list;
    int which, i, k;
    uint64_t random = bad.seed;
    (void)state;
    for (which = 0; which < CALLS; ++which) {
        plan_and_run(which, &base);
        for (i = 0; i < PAIRS; ++i) {
            fia_problem p = call.problem;
            char name[96];
            const field *f[2];
            for (k = 0; k < 2; ++k) {
                f[k] = &fields[random_below(&random, FIELDS)];
                field_values(&list, &p, f[k]);
                set_field(&p, f[k], list.at[random_below(&random, list.n)]);
            }
            (void)snprintf(name, sizeof(name), "%s and %s", f[0]->name, f[1]->name);
            (void)snprintf(bad.value, sizeof(bad.value), "%lld, %lld", (long long)get_field(&p, f[0]),
                           (long long)get_field(&p, f[1]));
            bad.field = name;
            (void)try_problem(&p, 2, &base, &v, &plan, &report);
        }
    }
    assert_int_equal(bad.failures, 0);
}

static void arguments_of_plan_make(void **state) {
    static const int workers[] = {INT32_MIN, -4096, -1, 0, 1, 2, 4095, 4096, 4097, INT32_MAX};
    fia_plan base, plan;
    fia_report report;
    verdict v;
    size_t i;
    (void)state;
    plan_and_run(0, &base);
    bad.field = "max_workers";
    for (i = 0; i < sizeof(workers) / sizeof(workers[0]); ++i) {
        show_value(workers[i]);
        bad.refused += try_problem(&call.problem, workers[i], &base, &v, &plan, &report);
    }
    v = bad_word(bad.field = "problem", "NULL");
    soil_report(&report);
    bad.refused += check_verdict(fia_plan_make(NULL, NULL, 1, &plan, &report), &report, &v);
    v = bad_word(bad.field = "plan", "NULL");
    soil_report(&report);
    bad.refused += check_verdict(fia_plan_make(NULL, &call.problem, 1, NULL, &report), &report, &v);
    assert_int_equal(bad.failures, 0);
}

/* ---- rules of an io ---- */

typedef struct io_pointer {
    const char *name;
    size_t at;
} io_pointer;

#define POINTER(f)                                                                                                     \
    { #f, offsetof(fia_io, f) }
static const io_pointer pointers[] = {
    POINTER(query),       POINTER(query_rope),    POINTER(key),          POINTER(key_rope),      POINTER(value),
    POINTER(key_list),    POINTER(key_rope_list), POINTER(value_list),   POINTER(out),           POINTER(lse),
    POINTER(block_table), POINTER(keys_data),     POINTER(bias),         POINTER(additive_mask), POINTER(drop_mask),
    POINTER(mask_factor), POINTER(alibi_slopes),  POINTER(sinks),        POINTER(query_scale),   POINTER(key_scale),
    POINTER(key_offset),  POINTER(value_scale),   POINTER(value_offset), POINTER(out_scale),     POINTER(out_offset),
    POINTER(stream)};

typedef struct span {
    int64_t q_len, kv_len, q_pos, kv_pos;
} span;

/* Length of sequence i out of its array; running sums also say where it begins. given: what stands in the array. */
static int64_t length_rule(verdict *v, const char *name, const fia_ints *ints, int form, int64_t i, int64_t longest,
                           int64_t *start, int64_t *given) {
    int64_t before, end;
    *given = longest;
    if (!ints->data) return longest;
    if (form == FIA_LENGTHS_EACH) return *given = read_int(ints, i);
    before = form == FIA_LENGTHS_STARTS ? read_int(ints, i) : i ? read_int(ints, i - 1) : 0;
    end = *given = read_int(ints, form == FIA_LENGTHS_STARTS ? i + 1 : i);
    wrong_int(v, i == 0 && before != 0, name, before);
    wrong_int(v, before < 0 || end < before, name, end);
    *start = before;
    return before < 0 || end < before ? -1 : end - before;
}

static void length_limits(verdict *v, const char *name, int64_t length, int64_t given, int64_t longest, int64_t start,
                          int64_t total) {
    wrong_int(v, length < 0 || length > longest, name, given);
    wrong_int(v, length >= 0 && length <= longest && (start > total || length > total - start), name, given);
}

static void mask_limits(verdict *v, const char *rows, const char *keys, const fia_mask_view *m, const span *s) {
    if (m->dtype == FIA_NONE || s->q_len <= 0 || s->kv_len <= 0) return;
    wrong_int(v, m->row_bytes && s->q_len > m->rows, rows, m->rows);
    wrong_int(v, s->kv_len > m->keys, keys, m->keys);
}

/* Lengths, positions and masks of all sequences, in order. Nothing is said of sequences behind a wrong one. */
static void sequence_rules(verdict *v, const engine_call *c, span *s) {
    const fia_problem *p = &c->problem;
    const fia_io *io = &c->io;
    int64_t i, q_start = 0, kv_start = 0, q_given, kv_given;
    for (i = 0; i < io->n_sequences && !v->wrong; ++i, ++s) {
        const int list = p->keys == FIA_KEYS_LIST && io->kv_rows.data;
        int64_t room = list ? read_int(&io->kv_rows, i) : p->max_kv_len;
        wrong_int(v, room < 0 || (list && !io->kv_lens.data && room > p->max_kv_len), "kv_rows", room);
        if (v->wrong) return;
        room = room < p->max_kv_len ? room : p->max_kv_len;
        s->q_len = length_rule(v, "q_lens", &io->q_lens, p->q_lengths, i, p->max_q_len, &q_start, &q_given);
        s->kv_len = length_rule(v, "kv_lens", &io->kv_lens, p->kv_lengths, i, room, &kv_start, &kv_given);
        length_limits(v, "q_lens", s->q_len, q_given, p->max_q_len, q_start, p->q_packed ? p->total_q : INT64_MAX);
        length_limits(v, "kv_lens", s->kv_len, kv_given, room, kv_start, p->kv_packed ? p->total_kv : INT64_MAX);
        if (v->wrong) return;
        q_start += s->q_len;
        kv_start += s->kv_len;
        s->kv_pos = io->kv_offset.data ? read_int(&io->kv_offset, i) : 0;
        range_rule(v, "kv_offset", s->kv_pos, -BAD_SPAN, BAD_SPAN);
        if (v->wrong) return;
        s->q_pos = io->q_offset.data ? read_int(&io->q_offset, i) : s->kv_pos + (p->align ? 0 : s->kv_len - s->q_len);
        range_rule(v, "q_offset", s->q_pos, -2 * BAD_SPAN, 2 * BAD_SPAN);
        mask_limits(v, "bias.rows", "bias.keys", &p->bias, s);
        mask_limits(v, "additive_mask.rows", "additive_mask.keys", &p->additive_mask, s);
        mask_limits(v, "drop_mask.rows", "drop_mask.keys", &p->drop_mask, s);
    }
}

/* Pages that hold a key inside some row's bounds, from the definition. */
static void page_rules(verdict *v, const engine_call *c, const span *s, int64_t sequence) {
    const fia_problem *p = &c->problem;
    int64_t row, key;
    for (row = 0; row < s->q_len; ++row) {
        for (key = 0; key < s->kv_len; ++key) {
            const int64_t at = s->q_pos + row, global = s->kv_pos + key;
            const int32_t id = c->table[sequence * COLUMNS + key / PAGE];
            if (p->causal && global > at) continue;
            if (p->window_left != FIA_UNBOUNDED && global < at - p->window_left) continue;
            if (p->window_right != FIA_UNBOUNDED && global > at + p->window_right) continue;
            if (id >= 0 && id < p->n_pages) continue;
            wrong_int(v, 1, "block_table", id);
            return;
        }
    }
}

static int64_t unit_of(fia_dtype t) { return type_bytes(t) ? type_bytes(t) : 1; }

/* Rows that a run writes: of its own sequences, as many as its longest query has, or all there is room for. */
static void written_rules(verdict *v, const engine_call *c, int64_t q_rows) {
    const fia_problem *p = &c->problem;
    const int64_t rows = !p->fill_padding ? q_rows : p->q_packed ? p->total_q : p->max_q_len;
    const int64_t count[3] = {p->q_packed ? 1 : c->io.n_sequences, p->n_q_heads, rows};
    const int64_t out[3] = {p->out.sequence_bytes, p->out.head_bytes, p->out.row_bytes};
    const int64_t lse[3] = {p->lse_sequence_bytes, p->lse_head_bytes, p->lse_row_bytes};
    const int out_meet = rows_overlap(type_bytes(p->out.dtype) * p->value_dim, out, count);
    const int lse_meet = p->want_lse && rows_overlap(4, lse, count);
    static const char *const names[6] = {"out.sequence_bytes", "out.head_bytes", "out.row_bytes",
                                         "lse_sequence_bytes", "lse_head_bytes", "lse_row_bytes"};
    int i;
    for (i = 0; i < 3; ++i) { /* any of the three may be named, with its value */
        wrong_int(v, out_meet, names[i], out[i]);
        wrong_int(v, lse_meet, names[3 + i], lse[i]);
    }
}

static void address_rules(verdict *v, const engine_call *c, int rows, int writes, int keys) {
    const fia_problem *p = &c->problem;
    const fia_io *io = &c->io;
    const int list = p->keys == FIA_KEYS_LIST, rope = p->rope_dim > 0, own = !p->value_in_key;
    const struct {
        const char *name;
        const void *data;
        fia_dtype dtype;
    } term[] = {{"bias", io->bias, p->bias.dtype},
                {"additive_mask", io->additive_mask, p->additive_mask.dtype},
                {"drop_mask", io->drop_mask, p->drop_mask.dtype},
                {"mask_factor", io->mask_factor, p->mask_factor},
                {"alibi_slopes", io->alibi_slopes, p->alibi_slopes},
                {"sinks", io->sinks, p->sinks},
                {"query_scale", io->query_scale, p->query_scale.dtype},
                {"key_scale", io->key_scale, p->key_scale.dtype},
                {"key_offset", io->key_offset, p->key_offset.dtype},
                {"value_scale", io->value_scale, p->value_scale.dtype},
                {"value_offset", io->value_offset, p->value_offset.dtype},
                {"out_scale", io->out_scale, p->out_scale.dtype},
                {"out_offset", io->out_offset, p->out_offset.dtype}};
    size_t i;
    address_rule(v, "query", io->query, 1, rows, unit_of(p->query.dtype));
    address_rule(v, "query_rope", io->query_rope, rope, rows && rope, unit_of(p->query_rope.dtype));
    address_rule(v, "out", io->out, 1, writes, unit_of(p->out.dtype));
    address_rule(v, "lse", io->lse, p->want_lse, writes && p->want_lse, 4);
    address_rule(v, "key", io->key, !list, keys && !list, unit_of(p->key.dtype));
    address_rule(v, "value", io->value, !list && own, keys && !list && own, unit_of(p->value.dtype));
    address_rule(v, "key_rope", io->key_rope, !list && rope, keys && !list && rope, unit_of(p->key_rope.dtype));
    address_rule(v, "key_list", io->key_list, list, keys && list, 1);
    address_rule(v, "value_list", io->value_list, list && own, keys && list && own, 1);
    address_rule(v, "key_rope_list", io->key_rope_list, list && rope, keys && list && rope, 1);
    address_rule(v, "block_table", io->block_table, p->keys == FIA_KEYS_PAGED, keys && p->keys == FIA_KEYS_PAGED, 4);
    address_rule(v, "keys_data", io->keys_data, 0, 0, 1);
    for (i = 0; i < sizeof(term) / sizeof(term[0]); ++i)
        address_rule(v, term[i].name, term[i].data, term[i].dtype != FIA_NONE, keys && term[i].dtype != FIA_NONE,
                     unit_of(term[i].dtype));
    for (i = 0; i < sizeof(pointers) / sizeof(pointers[0]) && writes;
         ++i) { /* an output in the place of something else */
        const char *other;
        memcpy(&other, (const char *)io + pointers[i].at, sizeof(other));
        if (!other || begins(pointers[i].name, "stream")) continue;
        wrong_word(v, other == (const char *)io->out && strcmp(pointers[i].name, "out") != 0, "out", "laid over");
        wrong_word(v, p->want_lse && other == (const char *)io->lse && strcmp(pointers[i].name, "lse") != 0, "lse|out",
                   "laid over");
    }
}

static void base_rules(verdict *v, const engine_call *c, int64_t b) {
    const fia_problem *p = &c->problem;
    const fia_io *io = &c->io;
    const struct {
        const char *name, *strides_name;
        const void *list;
        const fia_ints *strides;
        fia_dtype dtype;
    } stream[3] = {
        {"key_list", "key_head_strides", io->key_list, &io->key_head_strides, p->key.dtype},
        {"key_rope_list", "key_rope_head_strides", io->key_rope_list, &io->key_rope_head_strides, p->key_rope.dtype},
        {"value_list", "value_head_strides", io->value_list, &io->value_head_strides, p->value.dtype}};
    int i;
    for (i = 0; i < 3; ++i) {
        const char *base;
        if (!stream[i].list) continue;
        memcpy(&base, (const char *)stream[i].list + b * io->list_bytes, sizeof(base));
        address_rule(v, stream[i].name, base, 1, 1, unit_of(stream[i].dtype));
        if (stream[i].strides->data) {
            const int64_t stride = read_int(stream[i].strides, b);
            wrong_int(v, too_far(stride, unit_of(stream[i].dtype) * (p->n_kv_heads - 1) + 1), stream[i].strides_name,
                      stride);
        }
    }
}

/* Arrays by themselves: what reading them needs. */
static void array_rules(verdict *v, const engine_call *c) {
    const fia_problem *p = &c->problem;
    const int list = p->keys == FIA_KEYS_LIST;
    int a;
    for (a = 0; a < ARRAYS; ++a) {
        const fia_ints *ints = (const fia_ints *)(const void *)((const char *)&c->io + array_at[a]);
        const int form = a == Q_LENS ? p->q_lengths : a == KV_LENS ? p->kv_lengths : 0;
        const char *name = array_names[a];
        wrong_word(v, !ints->data && form != FIA_LENGTHS_EACH && c->io.n_sequences > 0, name, "absent");
        if (!ints->data) continue;
        wrong_type(v, ints->dtype != FIA_I32 && ints->dtype != FIA_I64, name, ints->dtype);
        wrong_int(v, ints->broadcast < 0 || ints->broadcast > 1 || (ints->broadcast && form != FIA_LENGTHS_EACH), name,
                  ints->broadcast);
        wrong_int(v, !ints->broadcast && too_far(ints->stride_bytes, c->io.n_sequences + (form == FIA_LENGTHS_STARTS)),
                  name, ints->stride_bytes);
        wrong_word(v, a >= KV_ROWS && !list, name, "given");
        wrong_word(v, a == ROPE_STRIDES && !p->rope_dim, name, "given");
        wrong_word(v, a == VALUE_STRIDES && p->value_in_key, name, "given");
    }
    wrong_int(v, list && too_far(c->io.list_bytes, c->io.n_sequences), "list_bytes", c->io.list_bytes);
}

static void io_rules(verdict *v, const engine_call *c) {
    const fia_problem *p = &c->problem;
    span s[B];
    int64_t i, n = c->io.n_sequences, q_rows = 0;
    int rows = 0, keys = 0;
    memset(v, 0, sizeof(*v));
    memset(s, 0, sizeof(s));
    range_rule(v, "n_sequences", n, 0, p->n_sequences);
    if (!v->wrong) array_rules(v, c);
    if (!v->wrong) sequence_rules(v, c, s);
    if (v->wrong) return;
    for (i = 0; i < n; ++i) {
        rows |= s[i].q_len > 0;
        keys |= s[i].q_len > 0 && s[i].kv_len > 0;
        q_rows = p->q_packed ? q_rows + s[i].q_len : s[i].q_len > q_rows ? s[i].q_len : q_rows;
    }
    address_rules(v, c, rows, rows || (p->fill_padding && (p->q_packed ? p->total_q > 0 : n > 0)), keys);
    written_rules(v, c, q_rows);
    for (i = 0; i < n && !v->wrong; ++i) {
        if (p->keys == FIA_KEYS_LIST && s[i].q_len > 0 && s[i].kv_len > 0) base_rules(v, c, i);
        if (p->keys == FIA_KEYS_PAGED) page_rules(v, c, &s[i], i);
    }
}

/* ---- the sweep over ios: each goes through every form of a run ---- */

static void run_in_turn(void *pool, int n, fia_task task, void *data) {
    int i;
    (void)pool;
    for (i = 0; i < n; ++i) task(data, i);
}

static fia_status run_by_phases(const fia_job *job, fia_report *report) {
    const fia_status status = fia_phase_run(job, FIA_PHASE_CHECK, 0, 1, 0);
    int phase;
    for (phase = FIA_PHASE_ATTEND; phase < FIA_PHASES; ++phase) {
        const int64_t items = fia_phase_items(job, phase);
        if (status && items) bad_fail("items after a refusal", NULL, NULL);
        if (fia_phase_run(job, phase, 0, items, 0) != status) bad_fail("a later phase has another verdict", NULL, NULL);
    }
    if (fia_job_report(job, report) != status) bad_fail("fia_job_report has another verdict", report, NULL);
    return status;
}

static int try_io(const fia_plan *plan) {
    static const fia_workers two = {2, run_in_turn, NULL};
    const fia_job job = job_of(plan, &call.io);
    fia_report report;
    verdict v;
    int form, refused = 0;
    io_rules(&v, &call);
    for (form = 0; form < 4; ++form) {
        fia_status status;
        soil_report(&report);
        status = form == 0   ? fia_run(&job, NULL, &report)
                 : form == 1 ? fia_run(&job, &two, &report)
                 : form == 2 ? fia_run_ith(&job, 0, 1, NULL, NULL, &report)
                             : run_by_phases(&job, &report);
        refused = check_verdict(status, &report, &v);
        if (!refused) break;
    }
    if (refused) check_outputs_untouched();
    else soil_outputs();
    if (refused) ++bad.refused;
    else ++bad.taken;
    return refused;
}

/* NULL, off by one and two bytes, given where it is absent, an output in the place of an input, an input in that of an
 * output. */
static void sweep_pointers(const fia_plan *plan) {
    const fia_io saved = call.io;
    size_t i, k;
    for (i = 0; i < sizeof(pointers) / sizeof(pointers[0]); ++i) {
        const char *now;
        const int list = strstr(pointers[i].name, "_list") != NULL;
        const void *other[6] = {NULL, NULL, NULL, inputs[20], saved.out, saved.query};
        memcpy(&now, (const char *)&saved + pointers[i].at, sizeof(now));
        bad.field = pointers[i].name;
        if (now) other[1] = now + 1;
        if (now) other[2] = now + 2;
        for (k = 0; k < 6; ++k) {
            if (list && now && k > 0) break; /* an array of other pointers would be followed */
            if (other[k] == (const void *)now || (k > 0 && !other[k])) continue;
            if (strcmp(pointers[i].name, "lse") == 0 && k == 3) continue; /* a place to write is as good as another */
            if (strcmp(pointers[i].name, "out") == 0 && k == 3) continue;
            if (strcmp(pointers[i].name, "block_table") == 0 && now && k == 2) continue;
            (void)snprintf(bad.value, sizeof(bad.value), "pointer %d", (int)k);
            memcpy((char *)&call.io + pointers[i].at, &other[k], sizeof(now));
            (void)try_io(plan);
            call.io = saved;
        }
    }
}

static void sweep_list_bases(const fia_plan *plan) {
    const void **const bases[3] = {call.key_bases, call.rope_bases, call.value_bases};
    static const char *const names[3] = {"key_list[]", "key_rope_list[]", "value_list[]"};
    int i, b, k;
    if (call.problem.keys != FIA_KEYS_LIST) return;
    for (i = 0; i < 3; ++i) {
        for (b = 0; b < B; ++b) {
            const void *saved = bases[i][b];
            bad.field = names[i];
            for (k = 0; k < 3 && saved; ++k) {
                bases[i][b] = k ? (const char *)saved + k : NULL;
                (void)snprintf(bad.value, sizeof(bad.value), "%d: pointer %d", b, k);
                (void)try_io(plan);
            }
            bases[i][b] = saved;
        }
    }
}

/* Elements of the arrays. Head strides that stay within the span would leave the test's memory: only others are
 * tried. */
static void sweep_elements(const fia_plan *plan) {
    int a, i, k;
    char name[64];
    for (a = 0; a < ARRAYS; ++a) {
        fia_ints *ints = array_of(&call.io, a);
        for (i = 0; i < call.counts[a]; ++i) {
            const int64_t now = read_int(ints, i);
            values list;
            (void)snprintf(name, sizeof(name), "%s[%d]", array_names[a], i);
            bad.field = name;
            integer_extremes(&list, now, ints->dtype == FIA_I64 ? 64 : 32);
            for (k = 0; k < list.n; ++k) {
                const int64_t value = list.at[k];
                if (value == now || (ints->dtype == FIA_I32 && value != (int32_t)value)) continue;
                if (a >= KEY_STRIDES && value != 0 && !too_far(value, HKV * 2 - 1)) continue;
                show_value(value);
                write_int(ints, call.room[a], i, value);
                (void)try_io(plan);
            }
            write_int(ints, call.room[a], i, now);
        }
    }
}

/* Arrays themselves: absent, given, of another type, stride or broadcast. */
static void sweep_arrays(const fia_plan *plan) {
    static const int64_t strides[] = {
        0, 4, INT64_MAX, INT64_MIN, INT64_MAX / 2, INT64_MIN / 2, (INT64_C(1) << 60) + 8, -(INT64_C(1) << 60) - 8};
    static const int64_t other[] = {1, -1, 2, INT32_MAX, INT32_MIN};
    int a, k;
    values list;
    for (a = 0; a < ARRAYS; ++a) {
        fia_ints *ints = array_of(&call.io, a);
        const fia_ints saved = *ints;
        bad.field = array_names[a];
        (void)snprintf(bad.value, sizeof(bad.value), "%s", saved.data ? "absent" : "given");
        ints->data = saved.data ? NULL : call.room[a];
        if (!saved.data) ints->dtype = FIA_I64;
        if (!(a >= KEY_STRIDES && saved.data)) (void)try_io(plan);
        *ints = saved;
        if (!saved.data) continue;
        dtype_extremes(&list);
        for (k = 0; k < list.n; ++k) {
            if (list.at[k] == saved.dtype || (a >= KEY_STRIDES && list.at[k] >= FIA_I32 && list.at[k] <= FIA_I64))
                continue;
            (void)snprintf(bad.value, sizeof(bad.value), "type %d", (int)list.at[k]);
            ints->dtype = (fia_dtype)list.at[k];
            (void)try_io(plan);
            *ints = saved;
        }
        for (k = 0; k < 8; ++k) {
            if (a >= KEY_STRIDES && k < 2) continue;
            (void)snprintf(bad.value, sizeof(bad.value), "stride %lld", (long long)strides[k]);
            ints->stride_bytes = (ptrdiff_t)strides[k];
            (void)try_io(plan);
            *ints = saved;
        }
        for (k = 0; k < 5; ++k) {
            if (a >= KEY_STRIDES && k == 0) continue;
            (void)snprintf(bad.value, sizeof(bad.value), "broadcast %d", (int)other[k]);
            ints->broadcast = (int32_t)other[k];
            (void)try_io(plan);
            *ints = saved;
        }
    }
}

static void sweep_table(const fia_plan *plan) {
    static const int32_t ids[] = {-1, PAGES, INT32_MIN, INT32_MAX, PAGES - 1, 0, -PAGES};
    int i, k;
    char name[64];
    if (call.problem.keys != FIA_KEYS_PAGED) return;
    for (i = 0; i < B * COLUMNS; ++i) {
        const int32_t now = call.table[i];
        (void)snprintf(name, sizeof(name), "block_table[%d]", i);
        bad.field = name;
        for (k = 0; k < 7; ++k) {
            if (ids[k] == now) continue;
            call.table[i] = ids[k];
            show_value(ids[k]);
            (void)try_io(plan);
        }
        call.table[i] = now;
    }
}

static void sweep_counts(const fia_plan *plan) {
    static const int64_t steps[] = {INT64_MAX, INT64_MIN, INT64_MAX / 2, INT64_MIN / 2, (INT64_C(1) << 60) + 8};
    const int64_t now = call.io.n_sequences;
    values list;
    int k;
    bad.field = "n_sequences";
    integer_extremes(&list, now, 64);
    for (k = 0; k < list.n; ++k) {
        if (list.at[k] == now) continue;
        show_value(list.at[k]);
        call.io.n_sequences = list.at[k];
        (void)try_io(plan);
    }
    call.io.n_sequences = now;
    bad.field = "list_bytes";
    for (k = 0; k < 5; ++k) {
        const ptrdiff_t saved = call.io.list_bytes;
        show_value(steps[k]);
        call.io.list_bytes = (ptrdiff_t)steps[k];
        (void)try_io(plan);
        call.io.list_bytes = saved;
    }
}

/* Strides of the outputs that a plan takes, though some number of sequences and rows would overlap. */
static void sweep_written_strides(void) {
    static const char *const names[] = {"out.sequence_bytes", "out.head_bytes", "out.row_bytes",
                                        "lse_sequence_bytes", "lse_head_bytes", "lse_row_bytes"};
    static const size_t at[] = {offsetof(fia_problem, out.sequence_bytes), offsetof(fia_problem, out.head_bytes),
                                offsetof(fia_problem, out.row_bytes),      offsetof(fia_problem, lse_sequence_bytes),
                                offsetof(fia_problem, lse_head_bytes),     offsetof(fia_problem, lse_row_bytes)};
    const fia_problem saved = call.problem;
    int i, k;
    for (i = 0; i < 6; ++i) {
        ptrdiff_t now;
        memcpy(&now, (const char *)&saved + at[i], sizeof(now));
        bad.field = names[i];
        for (k = 1; k < 30; ++k) {
            const ptrdiff_t stride = (i < 3 ? 8 : 4) * k;
            fia_plan plan;
            if (stride >= now) break; /* not beyond the memory of the test */
            memcpy((char *)&call.problem + at[i], &stride, sizeof(stride));
            show_value(stride);
            if (fia_plan_make(NULL, &call.problem, 2, &plan, NULL) == FIA_OK) (void)try_io(&plan);
            call.problem = saved;
        }
    }
}

static void every_field_of_an_io(void **state) {
    fia_plan plan;
    int which;
    (void)state;
    for (which = 0; which < CALLS; ++which) {
        plan_and_run(which, &plan);
        soil_outputs();
        sweep_pointers(&plan);
        sweep_list_bases(&plan);
        sweep_elements(&plan);
        sweep_arrays(&plan);
        sweep_table(&plan);
        sweep_counts(&plan);
        sweep_written_strides();
    }
    assert_int_equal(bad.failures, 0);
}

/* ---- jobs, workers, phases ---- */

static void expect_refusal(const fia_job *job, const fia_workers *workers, verdict v) {
    fia_report report;
    soil_report(&report);
    bad.refused += check_verdict(fia_run(job, workers, &report), &report, &v);
    if (fia_run(job, workers, NULL) != FIA_ERR_ARGUMENT) bad_fail("another status without a report", NULL, NULL);
    check_outputs_untouched();
}

/* What is wrong with the job itself is found by every function that takes one. */
static void expect_bad_job(const fia_job *job, verdict v) {
    fia_report report;
    int phase;
    char text[4096];
    bad.field = v.names[0];
    expect_refusal(job, NULL, v);
    soil_report(&report);
    (void)check_verdict(fia_run_ith(job, 0, 1, NULL, NULL, &report), &report, &v);
    soil_report(&report);
    (void)check_verdict(fia_job_report(job, &report), &report, &v);
    for (phase = 0; phase < FIA_PHASES; ++phase) {
        if (fia_phase_items(job, phase)) bad_fail("items of a bad job", NULL, NULL);
        if (fia_phase_run(job, phase, 0, 1, 0) != FIA_ERR_ARGUMENT) bad_fail("a phase of a bad job ran", NULL, NULL);
    }
    if (job && job->plan) (void)fia_explain(job->plan, job, text, sizeof(text));
    check_outputs_untouched();
}

/* Bytes that no phase 0 wrote are not taken for a verdict. */
static void a_workspace_without_a_verdict_is_refused(void **state) {
    static unsigned char room[1 << 20];
    unsigned char *begin;
    fia_problem p;
    fia_plan plan;
    fia_io io;
    fia_report report;
    fia_job job;
    (void)state;
    fia_problem_init(&p);
    p.max_q_len = p.max_kv_len = 1;
    p.dim = p.value_dim = 1;
    fia_io_init(&io);
    assert_int_equal(fia_plan_make(NULL, &p, 1, &plan, &report), FIA_OK);
    begin = room + (64 - (uintptr_t)room % 64) % 64;
    job.plan = &plan, job.io = &io, job.workspace = begin, job.workspace_bytes = sizeof(room) - 64;
    memset(room, 0x55, sizeof(room));
    assert_int_equal(fia_job_report(&job, &report), FIA_ERR_ARGUMENT);
    assert_non_null(strstr(report.text, "workspace"));
    assert_int_equal(fia_phase_items(&job, FIA_PHASE_ATTEND), 0);
    assert_int_equal(fia_phase_run(&job, FIA_PHASE_ATTEND, 0, 1, 0), FIA_ERR_ARGUMENT);
    memset(begin, 0, sizeof(fia_report)); /* a verdict that says FIA_OK, and counts that lead out of the workspace */
    memset(begin + sizeof(fia_report), 0x11, sizeof(room) - 64 - sizeof(fia_report));
    assert_int_equal(fia_explain(&plan, &job, NULL, 0), fia_explain(&plan, NULL, NULL, 0));
}

static void every_field_of_a_job(void **state) {
    static const size_t sizes[] = {0, 1, 63, 64};
    fia_plan plan, changed;
    fia_job good, job;
    size_t i;
    int which;
    values list;
    (void)state;
    for (which = 0; which < CALLS; ++which) {
        plan_and_run(which, &plan);
        soil_outputs();
        good = job = job_of(&plan, &call.io);
        expect_bad_job(NULL, bad_word("job", "NULL"));
        job.plan = NULL;
        expect_bad_job(&job, bad_word("plan", "NULL"));
        job = good;
        job.io = NULL;
        expect_bad_job(&job, bad_word("io", "NULL"));
        job = good;
        job.workspace = NULL;
        expect_bad_job(&job, bad_word("workspace", "NULL"));
        job = good;
        for (i = 0; i < 4; ++i) {
            job.workspace_bytes = sizes[i];
            show_value((int64_t)sizes[i]);
            expect_bad_job(&job, bad_int("workspace_bytes", (int64_t)job.workspace_bytes));
        }
        for (i = 1; i <= 64; i *= 2) {
            job.workspace_bytes = plan.workspace_bytes - i;
            show_value((int64_t)job.workspace_bytes);
            expect_bad_job(&job, bad_int("workspace_bytes", (int64_t)job.workspace_bytes));
        }
        job = good;
        job.plan = &changed;
        integer_extremes(&list, FIA_VERSION, 32);
        for (i = 0; i < (size_t)list.n; ++i) {
            changed = plan;
            changed.version = (uint32_t)list.at[i];
            show_value(list.at[i]);
            if (changed.version != FIA_VERSION) expect_bad_job(&job, bad_int("plan", changed.version));
        }
        changed = plan;
        changed.on_backend = 1;
        expect_bad_job(&job, bad_word("plan", "on the backend"));
    }
    assert_int_equal(bad.failures, 0);
}

static void wait_for_none(void *arg) { (void)arg; }

static void every_field_of_workers(void **state) {
    static const int extremes[] = {INT32_MIN, -1, 0, 3, 4, 4096, INT32_MAX};
    fia_plan plan;
    fia_job job;
    fia_report report;
    fia_workers workers = {2, NULL, NULL};
    verdict v;
    size_t i;
    int which;
    (void)state;
    for (which = 0; which < CALLS; ++which) {
        plan_and_run(which, &plan);
        soil_outputs();
        job = job_of(&plan, &call.io);
        bad.field = "workers";
        bad.value[0] = 0;
        workers.n = 2;
        workers.parallel_for = NULL;
        expect_refusal(&job, &workers, bad_word("parallel_for", "NULL"));
        workers.parallel_for = run_in_turn;
        for (i = 0; i < sizeof(extremes) / sizeof(extremes[0]); ++i) {
            show_value(extremes[i]);
            workers.n = extremes[i];
            expect_refusal(&job, &workers, bad_int("n", extremes[i]));
            v = bad_int("nth", extremes[i]);
            soil_report(&report);
            bad.refused += check_verdict(fia_run_ith(&job, 0, extremes[i], wait_for_none, NULL, &report), &report, &v);
            if (extremes[i] == 0) continue;
            v = bad_int("ith", extremes[i]);
            soil_report(&report);
            bad.refused += check_verdict(fia_run_ith(&job, extremes[i], 2, wait_for_none, NULL, &report), &report, &v);
        }
        v = bad_word("barrier", "NULL");
        soil_report(&report);
        bad.refused += check_verdict(fia_run_ith(&job, 0, 2, NULL, NULL, &report), &report, &v);
        check_outputs_untouched();
    }
    assert_int_equal(bad.failures, 0);
}

/* fia_phase_run has no report: the status is all it says. */
static void arguments_of_a_phase(void **state) {
    static const int64_t extremes[] = {INT64_MIN, INT32_MIN, -1, 1 << 20, INT32_MAX, INT64_MAX};
    fia_plan plan;
    fia_job job;
    int which, phase;
    size_t i;
    (void)state;
    for (which = 0; which < CALLS; ++which) {
        plan_and_run(which, &plan);
        soil_outputs();
        job = job_of(&plan, &call.io);
        assert_int_equal(fia_phase_run(&job, FIA_PHASE_CHECK, 0, 1, 0), FIA_OK);
        bad.field = "arguments of fia_phase_run";
        for (i = 0; i < sizeof(extremes) / sizeof(extremes[0]); ++i) {
            const int64_t x = extremes[i];
            show_value(x);
            for (phase = 0; phase < FIA_PHASES; ++phase) {
                if (fia_phase_run(&job, phase, x, x < 0 ? 0 : INT64_MAX, 0) != FIA_ERR_ARGUMENT)
                    bad_fail("begin was taken", NULL, NULL);
                if (fia_phase_run(&job, phase, 0, x, 0) != FIA_ERR_ARGUMENT) bad_fail("end was taken", NULL, NULL);
                if (fia_phase_run(&job, phase, 0, 0, x > INT32_MAX || x < INT32_MIN ? 2 : (int)x) != FIA_ERR_ARGUMENT)
                    bad_fail("worker was taken", NULL, NULL);
            }
            if (x >= INT32_MIN && x <= INT32_MAX && fia_phase_run(&job, (int)x, 0, 0, 0) != FIA_ERR_ARGUMENT)
                bad_fail("phase was taken", NULL, NULL);
        }
        if (fia_phase_run(&job, FIA_PHASES, 0, 0, 0) != FIA_ERR_ARGUMENT) bad_fail("phase was taken", NULL, NULL);
        if (fia_job_report(&job, NULL) != FIA_OK) bad_fail("the verdict was changed", NULL, NULL);
        check_outputs_untouched();
    }
    assert_int_equal(bad.failures, 0);
}

/* ---- merge ---- */

#define SHAPE_FIELD(f, kind)                                                                                           \
    { #f, offsetof(fia_merge_shape, f), kind }
static const field shape_fields[] = {SHAPE_FIELD(sequences, INT64),
                                     SHAPE_FIELD(heads, INT64),
                                     SHAPE_FIELD(rows, INT64),
                                     SHAPE_FIELD(dim, INT32),
                                     SHAPE_FIELD(reserved, INT32),
                                     SHAPE_FIELD(sequence_bytes, INT64),
                                     SHAPE_FIELD(head_bytes, INT64),
                                     SHAPE_FIELD(row_bytes, INT64),
                                     SHAPE_FIELD(lse_sequence_bytes, INT64),
                                     SHAPE_FIELD(lse_head_bytes, INT64),
                                     SHAPE_FIELD(lse_row_bytes, INT64)};
enum { SHAPE_FIELDS = (int)(sizeof(shape_fields) / sizeof(shape_fields[0])) };

static fia_merge_shape merge_shape(void) {
    fia_merge_shape s;
    memset(&s, 0, sizeof(s));
    s.sequences = 2;
    s.heads = 3;
    s.rows = 4;
    s.dim = 5;
    s.row_bytes = 20;
    s.head_bytes = 80;
    s.sequence_bytes = 240;
    s.lse_row_bytes = 4;
    s.lse_head_bytes = 16;
    s.lse_sequence_bytes = 48;
    return s;
}

static void strides_rules(verdict *v, const int64_t stride[3], const int64_t count[3], int64_t bytes, int64_t unit,
                          const char *const name[4]) {
    int i, far = 0;
    for (i = 0; i < 3; ++i) {
        wrong_if(v, stride[i] % unit || too_far(stride[i], count[i]), name[i]);
        far |= too_far(stride[i], count[i]);
    }
    wrong_if(v, !far && name[3] && rows_overlap(bytes, stride, count), name[3]);
}

static void shape_rules(verdict *v, const fia_merge_shape *s, int written) {
    static const char *const o[4] = {"sequence_bytes", "head_bytes", "row_bytes",
                                     "sequence_bytes|head_bytes|row_bytes"};
    static const char *const l[4] = {"lse_sequence_bytes", "lse_head_bytes", "lse_row_bytes",
                                     "lse_sequence_bytes|lse_head_bytes|lse_row_bytes"};
    const char *const o_read[4] = {o[0], o[1], o[2], NULL}, *const l_read[4] = {l[0], l[1], l[2], NULL};
    const int64_t count[3] = {s->sequences, s->heads, s->rows};
    const int64_t out[3] = {s->sequence_bytes, s->head_bytes, s->row_bytes};
    const int64_t lse[3] = {s->lse_sequence_bytes, s->lse_head_bytes, s->lse_row_bytes};
    range_rule(v, "sequences", s->sequences, 0, BAD_SPAN);
    range_rule(v, "heads", s->heads, 0, BAD_SPAN);
    range_rule(v, "rows", s->rows, 0, BAD_SPAN);
    range_rule(v, "dim", s->dim, 1, 1 << 16);
    range_rule(v, "reserved", s->reserved, 0, 0);
    if (v->wrong) return;
    strides_rules(v, out, count, 4 * (int64_t)s->dim, 4, written ? o : o_read);
    strides_rules(v, lse, count, 4, 4, written ? l : l_read);
}

/* A call that is right runs: only if it stays inside the test's memory. */
static int fits(const fia_merge_shape *s, const fia_view *out) {
    const int64_t count[3] = {s->sequences, s->heads, s->rows};
    const int64_t stride[9] = {s->sequence_bytes,     s->head_bytes,     s->row_bytes,
                               s->lse_sequence_bytes, s->lse_head_bytes, s->lse_row_bytes,
                               out->sequence_bytes,   out->head_bytes,   out->row_bytes};
    int i;
    for (i = 0; i < 3; ++i)
        if (count[i] > 100) return 0;
    for (i = 0; i < 9; ++i)
        if (count[i % 3] > 1 && (stride[i] < 0 || stride[i] > SLOT / 8 / (count[i % 3] - 1))) return 0;
    return s->dim < SLOT / 32;
}

static int try_merge(const fia_merge_shape *s, float *out, float *lse, const float *part_out, const float *part_lse,
                     const verdict *v) {
    fia_report report;
    fia_status status;
    soil_report(&report);
    status = fia_merge(s, out, lse, part_out, part_lse, &report);
    if (!check_verdict(status, &report, v)) return 0;
    if (s) check_value(&report, shape_fields, SHAPE_FIELDS, s);
    return 1;
}

static void every_field_of_a_merge(void **state) {
    const fia_merge_shape good = merge_shape();
    const fia_view none = {FIA_F32, 0, 0, 0, 0, 0, {0}};
    float *const out = (float *)(void *)out_room, *const lse = (float *)(void *)lse_room;
    float *place[4] = {out, lse, (float *)(void *)inputs[0], (float *)(void *)inputs[1]};
    static const char *const names[4] = {"out", "lse", "part_out", "part_lse"};
    verdict v;
    values list;
    int i, k;
    (void)state;
    bad.call = "fia_merge";
    soil_outputs();
    for (i = 0; i < SHAPE_FIELDS; ++i) {
        bad.field = shape_fields[i].name;
        field_values(&list, &good, &shape_fields[i]);
        for (k = 0; k < list.n; ++k) {
            fia_merge_shape s = good;
            show_value(list.at[k]);
            set_field(&s, &shape_fields[i], list.at[k]);
            memset(&v, 0, sizeof(v));
            shape_rules(&v, &s, 1);
            if (!v.wrong && !fits(&s, &none)) continue;
            if (!v.wrong) {
                (void)try_merge(&s, (float *)(void *)inputs[20], (float *)(void *)inputs[21], place[2], place[3], &v);
                ++bad.taken;
            } else bad.refused += try_merge(&s, out, lse, place[2], place[3], &v);
        }
    }
    for (i = 0; i < 4; ++i) { /* NULL, off by one and two bytes, at a result, one element behind its start */
        float *const saved = place[i];
        bad.field = names[i];
        for (k = 0; k < 7; ++k) {
            float *const at[7] = {NULL, saved, saved, out, lse, out + 1, lse + 1};
            char over[32];
            if (k > 2 && (i == 0 || (i == 1 && k != 3 && k != 5))) continue;
            (void)snprintf(over, sizeof(over), "laid over %s", i == 1 ? "out" : names[i]);
            if (k == 0) v = bad_word(names[i], "NULL");
            else if (k < 3) v = bad_int(names[i], k); /* what is left over four bytes */
            else v = bad_word(i > 1 && k % 2 ? "out" : "lse", over);
            place[i] = k == 1 || k == 2 ? (float *)(void *)((char *)saved + k) : at[k];
            (void)snprintf(bad.value, sizeof(bad.value), "pointer %d", k);
            bad.refused += try_merge(&good, place[0], place[1], place[2], place[3], &v);
        }
        place[i] = saved;
    }
    v = bad_word(bad.field = "shape", "NULL");
    bad.refused += try_merge(NULL, out, lse, place[2], place[3], &v);
    check_outputs_untouched();
    assert_int_equal(bad.failures, 0);
}

#define FINISH_FIELD(f, kind)                                                                                          \
    { #f, offsetof(fia_finish, f), kind }
static const field finish_fields[] = {
    FINISH_FIELD(sinks_dtype, DTYPE),         FINISH_FIELD(out.dtype, DTYPE),
    FINISH_FIELD(out.piece_elements, INT32),  FINISH_FIELD(out.sequence_bytes, INT64),
    FINISH_FIELD(out.head_bytes, INT64),      FINISH_FIELD(out.row_bytes, INT64),
    FINISH_FIELD(out.piece_bytes, INT64),     FINISH_FIELD(out.params[0], BYTE),
    FINISH_FIELD(out.params[63], BYTE),       FINISH_FIELD(scale.dtype, DTYPE),
    FINISH_FIELD(scale.place, INT32),         FINISH_FIELD(scale.sequence_bytes, INT64),
    FINISH_FIELD(scale.head_bytes, INT64),    FINISH_FIELD(scale.token_bytes, INT64),
    FINISH_FIELD(scale.channel_bytes, INT64), FINISH_FIELD(offset.dtype, DTYPE),
    FINISH_FIELD(offset.place, INT32),        FINISH_FIELD(offset.sequence_bytes, INT64),
    FINISH_FIELD(offset.head_bytes, INT64),   FINISH_FIELD(offset.token_bytes, INT64),
    FINISH_FIELD(offset.channel_bytes, INT64)};
enum { FINISH_FIELDS = (int)(sizeof(finish_fields) / sizeof(finish_fields[0])) };

static void finish_scale_rules(verdict *v, const fia_scale_view *s, const fia_merge_shape *shape,
                               const char *const name[6]) {
    const int64_t e = type_bytes(s->dtype);
    const int known = s->dtype == FIA_F32 || s->dtype == FIA_F16 || s->dtype == FIA_BF16;
    wrong_if(v, s->dtype != FIA_NONE && !known, name[0]);
    if (!known) return;
    wrong_if(v, s->place != 0, name[1]);
    wrong_if(v, s->sequence_bytes != 0, name[2]);
    wrong_if(v, s->head_bytes % e || too_far(s->head_bytes, shape->heads), name[3]);
    wrong_if(v, s->token_bytes != 0, name[4]);
    wrong_if(v, s->channel_bytes % e || too_far(s->channel_bytes, shape->dim), name[5]);
}

static void finish_rules(verdict *v, const fia_finish *f, const fia_merge_shape *s) {
    static const view_names out_names = VIEW_NAMES("out");
    static const char *const strides[4] = {"out.sequence_bytes", "out.head_bytes", "out.row_bytes",
                                           "out.sequence_bytes|out.head_bytes|out.row_bytes"};
    static const char *const scale[6] = {
        "scale", "scale.place", "scale.sequence_bytes", "scale.head_bytes", "scale.token_bytes", "scale.channel_bytes"};
    static const char *const offset[6] = {"offset",
                                          "offset.place",
                                          "offset.sequence_bytes",
                                          "offset.head_bytes",
                                          "offset.token_bytes",
                                          "offset.channel_bytes"};
    const int64_t count[3] = {s->sequences, s->heads, s->rows},
                  out[3] = {f->out.sequence_bytes, f->out.head_bytes, f->out.row_bytes};
    memset(v, 0, sizeof(*v));
    shape_rules(v, s, 0);
    if (v->wrong) return;
    view_rules(v, &out_names, &f->out, s->sequences, s->heads, s->rows, s->dim, 0);
    if (!v->n) strides_rules(v, out, count, type_bytes(f->out.dtype) * s->dim, type_bytes(f->out.dtype), strides);
    wrong_if(v, !f->sinks && f->sinks_dtype != FIA_NONE, "sinks|sinks_dtype");
    wrong_if(v, f->sinks && f->sinks_dtype != FIA_F32 && f->sinks_dtype != FIA_F16 && f->sinks_dtype != FIA_BF16,
             "sinks|sinks_dtype");
    finish_scale_rules(v, &f->scale, s, scale);
    finish_scale_rules(v, &f->offset, s, offset);
}

static fia_finish merge_finish(void) {
    fia_finish f;
    memset(&f, 0, sizeof(f));
    f.sinks = inputs[2];
    f.sinks_dtype = FIA_F32;
    f.out.dtype = FIA_F16;
    f.out.row_bytes = 10;
    f.out.head_bytes = 40;
    f.out.sequence_bytes = 120;
    f.scale.dtype = f.offset.dtype = FIA_F32;
    f.scale.head_bytes = 20;
    f.scale.channel_bytes = 4;
    f.scale_data = inputs[3];
    f.offset_data = inputs[4];
    f.result = out_room;
    return f;
}

static int try_finish(const fia_merge_shape *s, const fia_finish *f, const void *out, const void *lse, const verdict *v,
                      fia_report *report) {
    soil_report(report);
    return check_verdict(fia_merge_finish(NULL, s, f, (const float *)out, (const float *)lse, report), report, v);
}

/* A field of the shape or of the finish, all its values. */
static void sweep_finish(const field *f, int of_shape) {
    const fia_merge_shape good_shape = merge_shape();
    const fia_finish good = merge_finish();
    fia_report report;
    values list;
    verdict v;
    int k;
    bad.field = f->name;
    field_values(&list, of_shape ? (const void *)&good_shape : (const void *)&good, f);
    for (k = 0; k < list.n; ++k) {
        fia_merge_shape s = good_shape;
        fia_finish changed = good;
        show_value(list.at[k]);
        set_field(of_shape ? (void *)&s : (void *)&changed, f, list.at[k]);
        if (changed.scale.dtype == FIA_NONE) changed.scale_data = NULL;
        if (changed.offset.dtype == FIA_NONE) changed.offset_data = NULL;
        finish_rules(&v, &changed, &s);
        if (!v.n &&
            (!fits(&s, &changed.out) || llabs(changed.scale.head_bytes) > 4096 ||
             llabs(changed.offset.head_bytes) > 4096 || llabs(changed.scale.channel_bytes) > 4096 ||
             llabs(changed.offset.channel_bytes) > 4096 || changed.scale.head_bytes < 0 ||
             changed.offset.head_bytes < 0 || changed.scale.channel_bytes < 0 || changed.offset.channel_bytes < 0))
            continue;
        if (!v.n) changed.result = inputs[20];
        if (try_finish(&s, &changed, inputs[0], inputs[1], &v, &report)) {
            ++bad.refused;
            check_value(&report, shape_fields, SHAPE_FIELDS, &s);
            check_value(&report, finish_fields, FINISH_FIELDS, &changed);
        } else ++bad.taken;
    }
}

static void every_field_of_a_finish(void **state) {
    const fia_merge_shape shape = merge_shape();
    static const char *const names[] = {"result", "scale_data", "offset_data", "out", "lse", "sinks"};
    fia_report report;
    verdict v;
    int i, k;
    (void)state;
    bad.call = "fia_merge_finish";
    soil_outputs();
    for (i = 0; i < SHAPE_FIELDS; ++i) sweep_finish(&shape_fields[i], 1);
    for (i = 0; i < FINISH_FIELDS; ++i) sweep_finish(&finish_fields[i], 0);
    for (i = 0; i < 6; ++i) {
        for (k = 0; k < (i == 0 ? 6 : 2); ++k) {
            fia_finish f = merge_finish();
            const void *rows[2] = {inputs[0], inputs[1]};
            double *const over[4] = {inputs[0], inputs[0] + 1, inputs[1], inputs[1] + 1};
            const void **at = i == 1   ? &f.scale_data
                              : i == 2 ? &f.offset_data
                              : i == 3 ? &rows[0]
                              : i == 4 ? &rows[1]
                                       : &f.sinks;
            if (i == 5 && k == 0) continue; /* no sinks are fine */
            if (i == 0) f.result = k > 1 ? (void *)over[k - 2] : k ? (char *)f.result + 1 : NULL;
            else *at = k ? (const char *)*at + 1 : NULL;
            bad.field = names[i];
            (void)snprintf(bad.value, sizeof(bad.value), "pointer %d", k);
            v = k > 1 ? bad_word(names[i], "laid over") : k ? bad_int(names[i], 1) : bad_word(names[i], "NULL");
            bad.refused += try_finish(&shape, &f, rows[0], rows[1], &v, &report);
        }
    }
    for (i = 1; i < 3; ++i) {
        fia_finish f = merge_finish();
        (i == 1 ? &f.scale : &f.offset)->dtype = FIA_NONE;
        v = bad_word(bad.field = names[i], "given");
        bad.refused += try_finish(&shape, &f, inputs[0], inputs[1], &v, &report);
    }
    v = bad_word(bad.field = "finish", "NULL");
    bad.refused += try_finish(&shape, NULL, inputs[0], inputs[1], &v, &report);
    v = bad_word(bad.field = "shape", "NULL");
    {
        const fia_finish f = merge_finish();
        bad.refused += try_finish(NULL, &f, inputs[0], inputs[1], &v, &report);
    }
    check_outputs_untouched();
    assert_int_equal(bad.failures, 0);
}

/* ---- contexts ---- */

static int try_table(fia_context *context, const fia_kernels *table, verdict v) {
    const fia_context before = context ? *context : (fia_context){0};
    fia_report report;
    int refused;
    bad.field = v.names[0];
    soil_report(&report);
    refused = check_verdict(fia_context_add(context, table, &report), &report, &v);
    if (context && memcmp(&before, context, sizeof(before)) != 0) bad_fail("the context was changed", NULL, NULL);
    return refused;
}

static void every_field_of_a_context(void **state) {
    static const int32_t counts[] = {INT32_MIN, -1, 0, FIA_MAX_TABLES + 1, 1000, INT32_MAX};
    fia_context context;
    fia_kernels table;
    fia_plan base, plan;
    fia_report report;
    verdict v;
    values list;
    int i;
    (void)state;
    plan_and_run(0, &base);
    bad.call = "contexts";
    fia_context_init(&context);
    table = *context.table[0];
    bad.refused += try_table(NULL, &table, bad_word("context", "NULL"));
    bad.refused += try_table(&context, NULL, bad_word("table", "NULL"));
    integer_extremes(&list, FIA_VERSION, 32);
    for (i = 0; i < list.n; ++i) {
        show_value(list.at[i]);
        table = *context.table[0];
        table.version = (uint32_t)list.at[i];
        if (table.version != FIA_VERSION) bad.refused += try_table(&context, &table, bad_int("version", table.version));
        table = *context.table[0];
        table.plan_bytes = (uint32_t)list.at[i];
        if (table.plan_bytes != sizeof(fia_plan))
            bad.refused += try_table(&context, &table, bad_int("plan_bytes", table.plan_bytes));
    }
    table = *context.table[0];
    for (i = 0; i < 6; ++i) { /* a context that nothing filled */
        fia_context_init(&context);
        context.n_tables = counts[i];
        show_value(counts[i]);
        v = bad_int("n_tables", counts[i]);
        if (counts[i] != 0) bad.refused += try_table(&context, &table, v);
        memset(&plan, BAD_CANARY, sizeof(plan));
        soil_report(&report);
        bad.refused += check_verdict(fia_plan_make(&context, &call.problem, 1, &plan, &report), &report, &v);
        check_canary(&plan, sizeof(plan), "the plan was written");
    }
    fia_context_init(&context);
    for (i = 1; i < FIA_MAX_TABLES; ++i) assert_int_equal(fia_context_add(&context, &table, &report), FIA_OK);
    bad.refused += try_table(&context, &table, bad_int("n_tables", FIA_MAX_TABLES));
    assert_int_equal(bad.failures, 0);
}

static void enough_was_refused(void **state) {
    (void)state;
    printf(
        "engine door: %ld distinct (call, field, value) refused by name, %ld taken; %ld sentences, %ld values in them; "
        "seed %llu\n",
        bad.refused, bad.taken, bad.sentences, bad.values, (unsigned long long)bad.seed);
    assert_true(bad.refused >= 10000 && bad.values == bad.sentences);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_of_a_problem), cmocka_unit_test(pairs_of_fields_of_a_problem),
        cmocka_unit_test(arguments_of_plan_make),   cmocka_unit_test(every_field_of_an_io),
        cmocka_unit_test(every_field_of_a_job),     cmocka_unit_test(a_workspace_without_a_verdict_is_refused),
        cmocka_unit_test(every_field_of_workers),   cmocka_unit_test(arguments_of_a_phase),
        cmocka_unit_test(every_field_of_a_merge),   cmocka_unit_test(every_field_of_a_finish),
        cmocka_unit_test(every_field_of_a_context), cmocka_unit_test(enough_was_refused)};
    bad.seed = seed_of_environment(BAD_SEED);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
