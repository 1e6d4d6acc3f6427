/* SPDX-License-Identifier: MIT
 *
 * The engine door: a small call of any form with up to three words of its problem overwritten, and lengths, offsets,
 * page ids and strides that may be wrong. Where the plan is taken the call runs on buffers of exactly the size that
 * strides and extents say, twice: by fia_run alone, then by several workers in any form of a run. The bits are the
 * same, or nothing is written.
 */
#define _XOPEN_SOURCE 600 /* barriers */
#include <math.h>
#include <pthread.h>

#include "fuzz.h"

typedef struct engine {
    fuzz_bytes in;
    fuzz_memory memory;
    fia_problem problem;
    fia_io io;
    fia_plan plan;
    int64_t n; /* sequences that the buffers have room for */
    int64_t q_rows, k_rows;
    const void *list[3][8]; /* of keys, rope keys, values */
    fuzz_output out, lse;
    int workers;
} engine;

/* ---- the problem ---- */

/* Strides of (outer, heads, rows): heads outside of rows or inside, with gaps, reversed, or broadcast. */
static void draw_view(fuzz_bytes *f, fia_view *v, int64_t heads, int64_t rows, int32_t elements, int is_input) {
    const int head_major = (int)fuzz_between(f, 0, 1);
    int64_t row;
    v->dtype = fuzz_float(f);
    row = elements * fuzz_size(v->dtype) + (fuzz_chance(f, 4) ? fuzz_size(v->dtype) : 0);
    v->head_bytes = (ptrdiff_t)(head_major ? rows * row : row);
    v->row_bytes = (ptrdiff_t)(head_major ? row : heads * row);
    v->sequence_bytes = (ptrdiff_t)(heads * rows * row);
    if (fuzz_chance(f, 6)) v->row_bytes = -v->row_bytes;
    if (fuzz_chance(f, 6)) v->sequence_bytes = -v->sequence_bytes;
    if (is_input && fuzz_chance(f, 6)) v->head_bytes = 0;
}

static void draw_pieces(fuzz_bytes *f, fia_view *v, int64_t heads, int64_t rows, int32_t elements) {
    const int32_t piece = (int32_t)fuzz_between(f, 1, 16);
    const int64_t bytes = piece * fuzz_size(v->dtype), pieces = (elements + piece - 1) / piece;
    if (!fuzz_chance(f, 3)) return;
    v->piece_elements = piece;
    v->row_bytes = (ptrdiff_t)bytes;
    v->piece_bytes = (ptrdiff_t)(rows * bytes);
    v->head_bytes = (ptrdiff_t)(pieces * rows * bytes);
    v->sequence_bytes = (ptrdiff_t)(heads * pieces * rows * bytes);
}

static void draw_sizes(fuzz_bytes *f, fia_problem *p) {
    p->n_sequences = fuzz_between(f, 0, 4);
    p->max_q_len = fuzz_chance(f, 3) ? fuzz_between(f, 0, 70) : fuzz_between(f, 0, 5);
    p->max_kv_len = fuzz_chance(f, 3) ? fuzz_between(f, 0, 150) : fuzz_between(f, 0, 20);
    p->n_kv_heads = (int32_t)fuzz_between(f, 1, 3);
    p->n_q_heads = p->n_kv_heads * (int32_t)fuzz_between(f, 1, 5);
    p->dim = (int32_t)fuzz_between(f, 1, 40);
    p->rope_dim = fuzz_chance(f, 4) ? (int32_t)fuzz_between(f, 1, 20) : 0;
    p->value_dim = (int32_t)fuzz_between(f, 1, 40);
    p->value_in_key = fuzz_chance(f, 4);
    if (p->value_in_key && p->value_dim > p->dim) p->value_dim = p->dim;
    p->keys = (int32_t)fuzz_between(f, FIA_KEYS_STRIDED, FIA_KEYS_PAGED);
    p->q_packed = fuzz_chance(f, 3);
    p->kv_packed = p->keys == FIA_KEYS_STRIDED && fuzz_chance(f, 3);
    p->total_q = p->n_sequences * p->max_q_len;
    p->total_kv = p->n_sequences * p->max_kv_len;
    p->q_lengths = fuzz_chance(f, 3) ? (int32_t)fuzz_between(f, 0, 2) : FIA_LENGTHS_EACH;
    p->kv_lengths = fuzz_chance(f, 3) ? (int32_t)fuzz_between(f, 0, 2) : FIA_LENGTHS_EACH;
    if (p->keys != FIA_KEYS_PAGED) return;
    p->page_size = fuzz_between(f, 1, 9);
    p->table_columns = (p->max_kv_len + p->page_size - 1) / p->page_size + fuzz_chance(f, 4);
    p->n_pages = fuzz_between(f, 0, 6);
    p->table_broadcast = fuzz_chance(f, 4);
    if (fuzz_chance(f, 4)) p->table_bytes = -4 * p->table_columns; /* from the last row to the first */
}

static void draw_views(fuzz_bytes *f, fia_problem *p) {
    const int64_t q = p->q_packed ? p->total_q : p->max_q_len, hq = p->n_q_heads, hk = p->n_kv_heads;
    const int64_t k = p->keys == FIA_KEYS_PAGED ? p->page_size : p->kv_packed ? p->total_kv : p->max_kv_len;
    draw_view(f, &p->query, hq, q, p->dim, 1);
    draw_view(f, &p->query_rope, hq, q, p->rope_dim, 1);
    draw_view(f, &p->out, hq, q, p->value_dim, 0);
    draw_view(f, &p->key, hk, k, p->dim, 1);
    draw_view(f, &p->key_rope, hk, k, p->rope_dim, 1);
    draw_view(f, &p->value, hk, k, p->value_dim, 1);
    draw_pieces(f, &p->key, hk, k, p->dim);
    draw_pieces(f, &p->key_rope, hk, k, p->rope_dim);
    draw_pieces(f, &p->value, hk, k, p->value_dim);
    p->want_lse = fuzz_chance(f, 2);
    p->lse_row_bytes = 4;
    p->lse_head_bytes = (ptrdiff_t)(4 * q);
    p->lse_sequence_bytes = (ptrdiff_t)(4 * q * hq);
}

static void draw_mask(fuzz_bytes *f, fia_mask_view *v, const fia_problem *p, int drop) {
    int64_t bytes;
    if (!fuzz_chance(f, 4)) return;
    v->dtype = drop ? FIA_BOOL : fuzz_float(f);
    bytes = fuzz_size(v->dtype);
    v->rows = p->max_q_len + fuzz_between(f, 0, 2) - 1;
    v->keys = p->max_kv_len + fuzz_between(f, 0, 2) - (v->rows > p->max_q_len);
    v->row_bytes = (ptrdiff_t)(fuzz_chance(f, 4) ? 0 : v->keys * bytes);
    v->head_bytes = (ptrdiff_t)(fuzz_chance(f, 2) ? 0 : v->rows * v->keys * bytes);
    v->sequence_bytes = (ptrdiff_t)(fuzz_chance(f, 2) ? 0 : p->n_q_heads * v->rows * v->keys * bytes);
}

/* tokens or channels 0: the view has no such axis. places: FIA_PLACE_* up to this one. */
static void draw_scale(fuzz_bytes *f, fia_scale_view *v, int64_t heads, int64_t tokens, int64_t channels, int places) {
    int64_t bytes;
    if (!fuzz_chance(f, 6)) return;
    v->dtype = fuzz_float(f);
    v->place = (int32_t)fuzz_between(f, 0, places) * (places == 1 ? FIA_PLACE_LOCAL : 1);
    bytes = fuzz_size(v->dtype);
    if (tokens && fuzz_chance(f, 2)) v->token_bytes = (ptrdiff_t)bytes;
    else if (channels && fuzz_chance(f, 2)) v->channel_bytes = (ptrdiff_t)bytes;
    bytes *= v->token_bytes ? tokens : v->channel_bytes ? channels : 1;
    if (fuzz_chance(f, 2)) v->head_bytes = (ptrdiff_t)bytes;
    if (tokens && fuzz_chance(f, 2)) v->sequence_bytes = (ptrdiff_t)(heads * bytes);
}

/* Half of the calls have none. */
static void draw_scales(fuzz_bytes *f, fia_problem *p) {
    const int paged = p->keys == FIA_KEYS_PAGED, places = paged ? 2 : 1;
    const int64_t keys = paged ? p->page_size : p->kv_packed ? p->total_kv : p->max_kv_len;
    if (fuzz_chance(f, 2)) return;
    draw_scale(f, &p->query_scale, p->n_q_heads, p->q_packed ? p->total_q : p->max_q_len, 0, 0);
    draw_scale(f, &p->key_scale, p->n_kv_heads, keys, p->dim, places);
    draw_scale(f, &p->key_offset, p->n_kv_heads, keys, p->dim, places);
    draw_scale(f, &p->out_scale, p->n_q_heads, 0, p->value_dim, 0);
    draw_scale(f, &p->out_offset, p->n_q_heads, 0, p->value_dim, 0);
    if (p->value_in_key) return;
    draw_scale(f, &p->value_scale, p->n_kv_heads, keys, p->value_dim, places);
    draw_scale(f, &p->value_offset, p->n_kv_heads, keys, p->value_dim, places);
}

static void draw_modifiers(fuzz_bytes *f, fia_problem *p) {
    p->causal = fuzz_chance(f, 2);
    p->align = fuzz_chance(f, 3);
    p->bias_before_scale = fuzz_chance(f, 3);
    p->softcap = fuzz_chance(f, 4) ? 5.0f : 0.0f;
    p->fill_padding = fuzz_chance(f, 3);
    p->exact = fuzz_chance(f, 4);
    p->pin_family = fuzz_chance(f, 2) ? (int32_t)fuzz_between(f, 1, 2) : 0;
    p->pin_chunk = fuzz_chance(f, 4) ? 32 * fuzz_between(f, 1, 4) : 0;
    if (fuzz_chance(f, 3)) p->window_left = fuzz_between(f, -5, 40);
    if (fuzz_chance(f, 3)) p->window_right = fuzz_between(f, -5, 40);
    draw_mask(f, &p->bias, p, 0);
    draw_mask(f, &p->additive_mask, p, 0);
    draw_mask(f, &p->drop_mask, p, 1);
    if (p->additive_mask.dtype && fuzz_chance(f, 2)) p->mask_factor = fuzz_float(f);
    if (fuzz_chance(f, 4)) p->alibi_slopes = fuzz_float(f);
    if (fuzz_chance(f, 4)) p->sinks = fuzz_float(f);
    draw_scales(f, p);
}

static void draw_problem(fuzz_bytes *f, fia_problem *p) {
    int pokes = fuzz_chance(f, 2) ? (int)fuzz_between(f, 1, 3) : 0;
    fia_problem_init(p);
    draw_sizes(f, p);
    draw_views(f, p);
    draw_modifiers(f, p);
    while (pokes--) fuzz_poke(f, p, sizeof(*p));
}

/* ---- buffers ---- */

/* Rows of a view; pieces are an axis of their own, of which the last may be shorter. */
static void *view_buffer(engine *e, const fia_view *v, int64_t outer, int64_t heads, int64_t rows, int32_t elements) {
    const int64_t bytes = fuzz_size(v->dtype), piece = v->piece_elements ? v->piece_elements : elements;
    const int64_t pieces = piece ? (elements + piece - 1) / piece : 0, tail = elements - (pieces - 1) * piece;
    const int shorter = pieces == 1 || v->piece_bytes >= piece * bytes;
    const fuzz_axis axis[4] = {
        {outer, v->sequence_bytes}, {heads, v->head_bytes}, {rows, v->row_bytes}, {pieces, v->piece_bytes}};
    return fuzz_buffer(&e->memory, axis, 4, (double)((shorter ? tail : piece) * bytes));
}

static const void *mask_buffer(engine *e, const fia_mask_view *v) {
    const fuzz_axis axis[3] = {
        {e->n, v->sequence_bytes}, {e->problem.n_q_heads, v->head_bytes}, {v->row_bytes ? v->rows : 1, v->row_bytes}};
    return v->dtype ? fuzz_buffer(&e->memory, axis, 3, (double)v->keys * (double)fuzz_size(v->dtype)) : NULL;
}

/* keys: of keys or values, else of query rows. */
static const void *scale_buffer(engine *e, const fia_scale_view *v, int64_t heads, int64_t channels, int keys) {
    const fia_problem *p = &e->problem;
    const int packed = v->place == FIA_PLACE_ROWS && (keys ? p->kv_packed : p->q_packed);
    const int pages = v->place == FIA_PLACE_PAGES;
    int64_t tokens = keys ? p->max_kv_len : p->max_q_len;
    int i;
    fuzz_axis axis[4] = {{pages    ? p->n_pages
                          : packed ? 1
                                   : e->n,
                          v->sequence_bytes},
                         {heads, v->head_bytes},
                         {0, v->token_bytes},
                         {channels, v->channel_bytes}};
    if (packed) tokens = keys ? p->total_kv : p->total_q;
    axis[2].count = pages ? p->page_size : tokens;
    for (i = 0; i < 4; ++i)
        if (!axis[i].bytes) axis[i].count = 1; /* one value for all, also where there are none */
    return v->dtype ? fuzz_buffer(&e->memory, axis, 4, (double)fuzz_size(v->dtype)) : NULL;
}

static const void *head_buffer(engine *e, fia_dtype dtype) {
    return dtype ? fuzz_room(&e->memory, (double)e->problem.n_q_heads * (double)fuzz_size(dtype)) : NULL;
}

static void make_modifier_buffers(engine *e) {
    const fia_problem *p = &e->problem;
    fia_io *io = &e->io;
    fia_scale_view of_out[2];
    int i;
    io->bias = mask_buffer(e, &p->bias);
    io->additive_mask = mask_buffer(e, &p->additive_mask);
    io->drop_mask = mask_buffer(e, &p->drop_mask);
    io->mask_factor = head_buffer(e, p->mask_factor);
    io->alibi_slopes = head_buffer(e, p->alibi_slopes);
    io->sinks = head_buffer(e, p->sinks);
    io->query_scale = scale_buffer(e, &p->query_scale, p->n_q_heads, 1, 0);
    io->key_scale = scale_buffer(e, &p->key_scale, p->n_kv_heads, p->dim, 1);
    io->key_offset = scale_buffer(e, &p->key_offset, p->n_kv_heads, p->dim, 1);
    io->value_scale = scale_buffer(e, &p->value_scale, p->n_kv_heads, p->value_dim, 1);
    io->value_offset = scale_buffer(e, &p->value_offset, p->n_kv_heads, p->value_dim, 1);
    of_out[0] = p->out_scale;
    of_out[1] = p->out_offset;
    for (i = 0; i < 2; ++i) of_out[i].sequence_bytes = of_out[i].token_bytes = 0;
    io->out_scale = scale_buffer(e, &of_out[0], p->n_q_heads, p->value_dim, 0);
    io->out_offset = scale_buffer(e, &of_out[1], p->n_q_heads, p->value_dim, 0);
}

/* ---- integer arrays ---- */

static void put_int(const fia_ints *x, int64_t i, int64_t value) {
    char *at = (char *)(uintptr_t)x->data + (x->broadcast ? 0 : i * (int64_t)x->stride_bytes);
    const int32_t narrow = (int32_t)(uint32_t)(uint64_t)value;
    if (x->dtype == FIA_I32) memcpy(at, &narrow, 4);
    else memcpy(at, &value, 8);
}

/* An array of count values in some dtype, with some stride; side by side is what a stride of 0 says. */
static void make_ints(engine *e, fia_ints *x, int64_t count, int may_broadcast) {
    fuzz_bytes *f = &e->in;
    fuzz_axis axis;
    x->dtype = fuzz_chance(f, 2) ? FIA_I32 : FIA_I64;
    x->broadcast = may_broadcast && fuzz_chance(f, 4);
    x->stride_bytes = (ptrdiff_t)(fuzz_size(x->dtype) * (fuzz_chance(f, 4) ? fuzz_between(f, -2, 3) : 1));
    if (!x->stride_bytes) x->stride_bytes = (ptrdiff_t)fuzz_size(x->dtype);
    axis.count = x->broadcast ? 1 : count;
    axis.bytes = x->stride_bytes;
    x->data = fuzz_buffer(&e->memory, &axis, 1, (double)fuzz_size(x->dtype));
}

static void make_lengths(engine *e, fia_ints *x, int form, int64_t longest) {
    fuzz_bytes *f = &e->in;
    const int starts = form == FIA_LENGTHS_STARTS;
    int64_t i, sum = 0;
    if (form == FIA_LENGTHS_EACH && fuzz_chance(f, 3)) return;
    make_ints(e, x, e->n + starts, form == FIA_LENGTHS_EACH);
    if (!x->data) return;
    if (starts) put_int(x, 0, fuzz_chance(f, 16) ? fuzz_extreme(f) : 0);
    for (i = 0; i < e->n; ++i) {
        const int64_t length = fuzz_chance(f, 16) ? fuzz_extreme(f) : fuzz_between(f, 0, longest);
        sum = form == FIA_LENGTHS_EACH ? length : (int64_t)((uint64_t)sum + (uint64_t)length);
        put_int(x, i + starts, sum);
    }
    if (x->stride_bytes == fuzz_size(x->dtype) && fuzz_chance(f, 2)) x->stride_bytes = 0;
}

static void make_offsets(engine *e, fia_ints *x) {
    int64_t i;
    if (!fuzz_chance(&e->in, 3)) return;
    make_ints(e, x, e->n, 1);
    for (i = 0; x->data && i < e->n; ++i)
        put_int(x, i, fuzz_chance(&e->in, 6) ? fuzz_extreme(&e->in) : fuzz_between(&e->in, -20, 100));
}

/* ---- keys ---- */

/* One part of a key list: a buffer per sequence, some with a head stride of their own. */
static const void *make_list(engine *e, const fia_view *view, int32_t elements, int part, fia_ints *strides,
                             const int64_t *rows) {
    const int own = fuzz_chance(&e->in, 3);
    int64_t i;
    if (own) make_ints(e, strides, e->n, 1);
    for (i = 0; i < e->n && !e->memory.too_large; ++i) {
        fia_view v = *view;
        if (own) {
            const int64_t stride = strides->broadcast ? 7 : fuzz_between(&e->in, 0, 4) * elements;
            put_int(strides, i, stride);
            v.head_bytes = (ptrdiff_t)(stride * fuzz_size(v.dtype));
        }
        e->list[part][i] = view_buffer(e, &v, 1, e->problem.n_kv_heads, rows[i], elements);
        if (fuzz_chance(&e->in, 32)) e->list[part][i] = NULL;
    }
    return e->list[part];
}

static void make_lists(engine *e) {
    const fia_problem *p = &e->problem;
    fia_io *io = &e->io;
    int64_t rows[8], i;
    const int limited = fuzz_chance(&e->in, 2);
    if (limited) make_ints(e, &io->kv_rows, e->n, 0);
    for (i = 0; i < e->n; ++i) rows[i] = limited ? fuzz_between(&e->in, 0, p->max_kv_len) : p->max_kv_len;
    for (i = 0; io->kv_rows.data && i < e->n; ++i) put_int(&io->kv_rows, i, rows[i]);
    io->key_list = make_list(e, &p->key, p->dim, 0, &io->key_head_strides, rows);
    if (p->rope_dim) io->key_rope_list = make_list(e, &p->key_rope, p->rope_dim, 1, &io->key_rope_head_strides, rows);
    if (!p->value_in_key) io->value_list = make_list(e, &p->value, p->value_dim, 2, &io->value_head_strides, rows);
}

/* Rows of the table stand where the problem says, whatever its stride. */
static void make_table(engine *e) {
    const fia_problem *p = &e->problem;
    const int64_t step = p->table_broadcast ? 0 : p->table_bytes ? p->table_bytes : p->table_columns * 4;
    const double far = e->n > 1 ? (double)(e->n - 1) * (double)step : 0;
    char *room = (char *)fuzz_room(&e->memory, fabs(far) + (e->n > 0 ? 4.0 * (double)p->table_columns : 0));
    int64_t b, i;
    if (room && step < 0) room -= (int64_t)far;
    for (b = 0; room && b < e->n; ++b)
        for (i = 0; i < p->table_columns; ++i)
            ((int32_t *)(void *)(room + b * step))[i] =
                fuzz_chance(&e->in, 64)
                    ? (int32_t)fuzz_extreme(&e->in)
                    : (int32_t)fuzz_between(&e->in, 0, p->n_pages && p->n_pages < 100 ? p->n_pages - 1 : 0);
    e->io.block_table = (const int32_t *)(const void *)room;
}

static void make_keys(engine *e) {
    const fia_problem *p = &e->problem;
    const int paged = p->keys == FIA_KEYS_PAGED;
    const int64_t outer = paged ? p->n_pages : p->kv_packed ? 1 : e->n;
    const int64_t rows = paged ? p->page_size : p->kv_packed ? p->total_kv : p->max_kv_len;
    if (p->keys == FIA_KEYS_LIST) {
        make_lists(e);
        return;
    }
    e->io.key = view_buffer(e, &p->key, outer, p->n_kv_heads, rows, p->dim);
    if (p->rope_dim) e->io.key_rope = view_buffer(e, &p->key_rope, outer, p->n_kv_heads, rows, p->rope_dim);
    if (!p->value_in_key) e->io.value = view_buffer(e, &p->value, outer, p->n_kv_heads, rows, p->value_dim);
    if (paged) make_table(e);
}

/* ---- queries and outputs ---- */

static void make_rows(engine *e) {
    const fia_problem *p = &e->problem;
    const int64_t outer = p->q_packed ? 1 : e->n, rows = p->q_packed ? p->total_q : p->max_q_len, heads = p->n_q_heads;
    fia_view lse = p->out;
    lse.dtype = FIA_F32;
    lse.sequence_bytes = p->lse_sequence_bytes;
    lse.head_bytes = p->lse_head_bytes;
    lse.row_bytes = p->lse_row_bytes;
    e->io.query = view_buffer(e, &p->query, outer, heads, rows, p->dim);
    if (p->rope_dim) e->io.query_rope = view_buffer(e, &p->query_rope, outer, heads, rows, p->rope_dim);
    e->io.out = view_buffer(e, &p->out, outer, heads, rows, p->value_dim);
    if (e->memory.too_large) return;
    e->out = fuzz_output_of(&e->memory);
    if (!p->want_lse) return;
    e->io.lse = (float *)view_buffer(e, &lse, outer, heads, rows, 1);
    if (e->memory.too_large) return;
    e->lse = fuzz_output_of(&e->memory);
}

/* One wrong thing in an io whose buffers stand. */
static void spoil_io(engine *e) {
    fia_io *io = &e->io;
    const void **const pointers[] = {&io->query, &io->key,       &io->value,    &io->bias,    &io->drop_mask,
                                     &io->sinks, &io->key_scale, &io->key_rope, &io->key_list};
    if (!fuzz_chance(&e->in, 16)) return;
    switch (fuzz_between(&e->in, 0, 4)) {
    case 0: *pointers[fuzz_between(&e->in, 0, FUZZ_COUNT(pointers) - 1)] = NULL; break;
    case 1: io->n_sequences = fuzz_chance(&e->in, 2) ? -1 : e->problem.n_sequences + 1; break;
    case 2: io->out = NULL; break;
    case 3: io->q_lens.dtype = (fia_dtype)fuzz_extreme(&e->in) | 1; break; /* neither FIA_I32 nor FIA_I64 */
    default: io->kv_lens.broadcast = 2; break;
    }
}

/* ---- run ---- */

static void last_first(void *pool, int n, fia_task task, void *task_data) {
    (void)pool;
    while (n--) task(task_data, n);
}

/* Items of each phase in stretches from the last to the first, by any worker. */
static fia_status run_phases(engine *e, const fia_job *job, fia_report *report) {
    const fia_status verdict = fia_phase_run(job, FIA_PHASE_CHECK, 0, 1, 0);
    int phase;
    for (phase = FIA_PHASE_ATTEND; phase < FIA_PHASES; ++phase) {
        int64_t end = fia_phase_items(job, phase), begin;
        FUZZ_CHECK(verdict == FIA_OK || end == 0, "items after a refusal");
        FUZZ_CHECK(fia_phase_run(job, phase, 0, end + 1, 0) != FIA_OK, "an item that does not exist");
        for (; end > 0; end = begin) {
            const int worker = (int)fuzz_between(&e->in, 0, e->plan.max_workers - 1);
            begin = fuzz_between(&e->in, 0, end - 1);
            FUZZ_CHECK(fia_phase_run(job, phase, begin, end, worker) == FIA_OK, "items that exist");
        }
    }
    FUZZ_CHECK(fia_job_report(job, report) == verdict, report->text);
    return verdict;
}

typedef struct thread_run {
    const fia_job *job;
    pthread_barrier_t *barrier;
    int ith, nth;
    fia_status status;
    fia_report report;
} thread_run;

static void wait_for_all(void *barrier) { pthread_barrier_wait((pthread_barrier_t *)barrier); }

static void *run_thread(void *arg) {
    thread_run *t = (thread_run *)arg;
    t->status = fia_run_ith(t->job, t->ith, t->nth, wait_for_all, t->barrier, &t->report);
    return NULL;
}

static fia_status run_threads(const fia_job *job, int nth, fia_report *report) {
    enum { MOST = 8 };
    pthread_barrier_t barrier;
    pthread_t id[MOST];
    thread_run t[MOST];
    int i;
    FUZZ_CHECK(nth <= MOST && !pthread_barrier_init(&barrier, NULL, (unsigned)nth), "threads");
    for (i = 0; i < nth; ++i) {
        t[i].job = job;
        t[i].barrier = &barrier;
        t[i].ith = i;
        t[i].nth = nth;
        FUZZ_CHECK(!pthread_create(&id[i], NULL, run_thread, &t[i]), "threads");
    }
    for (i = 0; i < nth; ++i) {
        pthread_join(id[i], NULL);
        FUZZ_CHECK(t[i].status == t[0].status && !strcmp(t[i].report.text, t[0].report.text), t[i].report.text);
    }
    pthread_barrier_destroy(&barrier);
    *report = t[0].report;
    return t[0].status;
}

enum { BY_RUN, BY_PHASES, BY_THREADS, FORMS };

static fia_status run(engine *e, int form, int workers, fia_report *report) {
    const fia_workers team = {workers, last_first, NULL};
    fia_job job;
    fia_status status;
    job.plan = &e->plan;
    job.io = &e->io;
    job.workspace_bytes = e->plan.workspace_bytes;
    job.workspace = fuzz_room(&e->memory, (double)job.workspace_bytes);
    if (!job.workspace) return FIA_ERR_ARGUMENT;
    if (form == BY_PHASES) status = run_phases(e, &job, report);
    else if (form == BY_THREADS && workers <= 8) status = run_threads(&job, workers, report);
    else status = fia_run(&job, &team, report);
    fuzz_check_report(status, report);
    return status;
}

static void run_twice(engine *e) {
    const int form = (int)fuzz_between(&e->in, 0, FORMS - 1);
    fia_report report;
    void *out, *lse;
    fia_status status = run(e, BY_RUN, 1, &report);
    if (e->memory.too_large) return;
    if (status != FIA_OK) {
        FUZZ_CHECK(run(e, form, e->plan.max_workers, &report) == status || e->memory.too_large, report.text);
        fuzz_check_untouched(e->out.low, e->out.bytes, report.text);
        if (e->lse.low) fuzz_check_untouched(e->lse.low, e->lse.bytes, report.text);
        return;
    }
    out = fuzz_copy(&e->memory, &e->out);
    lse = fuzz_copy(&e->memory, &e->lse);
    if (e->memory.too_large) return;
    memset(e->out.low, FUZZ_CANARY, e->out.bytes);
    if (e->lse.low) memset(e->lse.low, FUZZ_CANARY, e->lse.bytes);
    status = run(e, form, e->plan.max_workers, &report);
    if (e->memory.too_large) return;
    FUZZ_CHECK(status == FIA_OK, report.text);
    FUZZ_CHECK(!memcmp(out, e->out.low, e->out.bytes), "other bits with other workers");
    FUZZ_CHECK(!e->lse.low || !memcmp(lse, e->lse.low, e->lse.bytes), "another lse with other workers");
}

static int is_small(const fia_problem *p) {
    const double rows = (double)p->n_sequences * (double)p->max_q_len * p->n_q_heads;
    const double each = (double)p->dim + p->rope_dim + p->value_dim;
    return rows * each * ((double)p->max_kv_len + 1) <= FUZZ_MOST_WORK && p->n_sequences <= 8;
}

static void use_plan(engine *e) {
    const fia_problem *p = &e->problem;
    if (!is_small(p) || e->plan.workspace_bytes > FUZZ_MOST_BYTES) return;
    fia_io_init(&e->io);
    e->n = fuzz_chance(&e->in, 4) ? fuzz_between(&e->in, 0, p->n_sequences) : p->n_sequences;
    e->io.n_sequences = e->n;
    make_lengths(e, &e->io.q_lens, p->q_lengths, p->max_q_len);
    make_lengths(e, &e->io.kv_lens, p->kv_lengths, p->max_kv_len);
    make_offsets(e, &e->io.q_offset);
    make_offsets(e, &e->io.kv_offset);
    make_keys(e);
    make_modifier_buffers(e);
    make_rows(e);
    spoil_io(e);
    if (!e->memory.too_large) run_twice(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fia_report report;
    fia_status status;
    engine e;
    memset(&e, 0, sizeof(e));
    e.in = fuzz_begin(data, size);
    e.memory.state = e.in.state;
    draw_problem(&e.in, &e.problem);
    e.workers = fuzz_chance(&e.in, 16) ? (int)(int32_t)fuzz_extreme(&e.in) : (int)fuzz_between(&e.in, 1, 5);
    memset(&e.plan, FUZZ_CANARY, sizeof(e.plan));
    status = fia_plan_make(NULL, &e.problem, e.workers, &e.plan, &report);
    fuzz_check_report(status, &report);
    if (status != FIA_OK) fuzz_check_untouched(&e.plan, sizeof(e.plan), "a refused plan is written");
    else use_plan(&e);
    if (status == FIA_OK) fia_plan_release(&e.plan);
    fuzz_free(&e.memory);
    return 0;
}
