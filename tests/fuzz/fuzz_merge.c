/* SPDX-License-Identifier: MIT
 *
 * fia_merge and fia_merge_finish: shapes and finishes of any form with some words overwritten, on buffers of exactly the
 * size that strides and extents say. What is refused writes nothing, and an empty part changes nothing.
 */
#include <math.h>

#include "fuzz.h"

typedef struct merging {
    fuzz_bytes in;
    fuzz_memory memory;
    fia_merge_shape shape;
    fia_finish finish;
    void *base[2][2]; /* O and LSE of the running result and of the part, index 0 of each */
    fuzz_output out, lse, part_lse;
} merging;

/* Strides of (sequences, heads, rows) of `row` bytes: heads outside of rows or inside, with gaps, reversed, or broadcast. */
static void draw_strides(fuzz_bytes *f, const fia_merge_shape *s, int64_t row, int64_t unit, ptrdiff_t stride[3]) {
    const int head_major = (int)fuzz_between(f, 0, 1);
    if (fuzz_chance(f, 4)) row += unit;
    stride[0] = (ptrdiff_t)(s->heads * s->rows * row);
    stride[1] = (ptrdiff_t)(head_major ? s->rows * row : row);
    stride[2] = (ptrdiff_t)(head_major ? row : s->heads * row);
    if (fuzz_chance(f, 6)) stride[fuzz_between(f, 0, 2)] *= -1;
    if (fuzz_chance(f, 12)) stride[fuzz_between(f, 0, 2)] = 0;
}

static void draw_shape(fuzz_bytes *f, fia_merge_shape *s) {
    ptrdiff_t stride[3];
    fia_merge_shape_init(s);
    s->sequences = fuzz_between(f, 0, 3);
    s->heads = fuzz_between(f, 0, 4);
    s->rows = fuzz_between(f, 0, 5);
    s->dim = (int32_t)(fuzz_chance(f, 4) ? fuzz_between(f, 1, 200) : fuzz_between(f, 1, 20));
    draw_strides(f, s, s->dim * 4, 4, stride);
    s->sequence_bytes = stride[0];
    s->head_bytes = stride[1];
    s->row_bytes = stride[2];
    draw_strides(f, s, 4, 4, stride);
    s->lse_sequence_bytes = stride[0];
    s->lse_head_bytes = stride[1];
    s->lse_row_bytes = stride[2];
}

/* ---- buffers ---- */

static void *make_buffer(merging *m, const ptrdiff_t stride[3], int64_t item, fuzz_output *newest) {
    const fia_merge_shape *s = &m->shape;
    const fuzz_axis axis[3] = {{s->sequences, stride[0]}, {s->heads, stride[1]}, {s->rows, stride[2]}};
    void *at = fuzz_buffer(&m->memory, axis, 3, (double)item);
    if (m->memory.too_large) return NULL;
    newest->low = m->memory.block[m->memory.n - 1];
    newest->bytes = m->memory.bytes[m->memory.n - 1];
    return at;
}

/* Buffers of a shape that was taken. */
static void make_rows(merging *m) {
    const fia_merge_shape *s = &m->shape;
    const ptrdiff_t o[3] = {s->sequence_bytes, s->head_bytes, s->row_bytes};
    const ptrdiff_t lse[3] = {s->lse_sequence_bytes, s->lse_head_bytes, s->lse_row_bytes};
    fuzz_output unused;
    m->base[0][0] = make_buffer(m, o, (int64_t)s->dim * 4, &m->out);
    m->base[0][1] = make_buffer(m, lse, 4, &m->lse);
    m->base[1][0] = make_buffer(m, o, (int64_t)s->dim * 4, &unused);
    m->base[1][1] = make_buffer(m, lse, 4, &m->part_lse);
}

static const void *scale_buffer(merging *m, const fia_scale_view *v) {
    const fuzz_axis axis[2] = {{v->head_bytes ? m->shape.heads : 1, v->head_bytes},
                               {v->channel_bytes ? m->shape.dim : 1, v->channel_bytes}};
    return v->dtype ? fuzz_buffer(&m->memory, axis, 2, (double)fuzz_size(v->dtype)) : NULL;
}

/* ---- merge ---- */

static fia_status merge(merging *m, fia_report *report) {
    const fia_status status = fia_merge(&m->shape, (float *)m->base[0][0], (float *)m->base[0][1],
                                        (const float *)m->base[1][0], (const float *)m->base[1][1], report);
    fuzz_check_report(status, report);
    return status;
}

/* Every LSE of the part is that of no key. */
static void empty_part(merging *m) {
    const float none = fuzz_chance(&m->in, 2) ? -INFINITY : INFINITY;
    size_t i;
    for (i = 0; i + 4 <= m->part_lse.bytes; i += 4) memcpy((char *)m->part_lse.low + i, &none, 4);
}

static void run_merge(merging *m) {
    const int spoiled = fuzz_chance(&m->in, 16) ? (int)fuzz_between(&m->in, 0, 3) : -1;
    fia_report report;
    void *out, *lse;
    fia_status status;
    if (spoiled >= 0) m->base[spoiled / 2][spoiled % 2] = NULL;
    if (fuzz_chance(&m->in, 16)) m->base[1][0] = m->base[0][0];
    out = fuzz_copy(&m->memory, &m->out);
    lse = fuzz_copy(&m->memory, &m->lse);
    if (m->memory.too_large) return;
    status = merge(m, &report);
    if (status == FIA_OK) {
        memcpy(out, m->out.low, m->out.bytes);
        memcpy(lse, m->lse.low, m->lse.bytes);
        empty_part(m);
        FUZZ_CHECK(merge(m, &report) == FIA_OK, report.text);
    }
    FUZZ_CHECK(!memcmp(out, m->out.low, m->out.bytes) && !memcmp(lse, m->lse.low, m->lse.bytes),
               status == FIA_OK ? "an empty part changed a result" : report.text);
}

/* ---- finish ---- */

static void draw_scale(fuzz_bytes *f, const fia_merge_shape *s, fia_scale_view *v) {
    if (!fuzz_chance(f, 2)) return;
    v->dtype = fuzz_float(f);
    if (fuzz_chance(f, 2)) v->channel_bytes = (ptrdiff_t)fuzz_size(v->dtype);
    if (fuzz_chance(f, 2)) v->head_bytes = (ptrdiff_t)(fuzz_size(v->dtype) * (v->channel_bytes ? s->dim : 1));
}

static void draw_finish(fuzz_bytes *f, const fia_merge_shape *s, fia_finish *finish) {
    ptrdiff_t stride[3];
    fia_finish_init(finish);
    finish->out.dtype = fuzz_float(f);
    draw_strides(f, s, s->dim * fuzz_size(finish->out.dtype), fuzz_size(finish->out.dtype), stride);
    finish->out.sequence_bytes = stride[0];
    finish->out.head_bytes = stride[1];
    finish->out.row_bytes = stride[2];
    draw_scale(f, s, &finish->scale);
    draw_scale(f, s, &finish->offset);
    if (fuzz_chance(f, 2)) finish->sinks_dtype = fuzz_float(f);
}

static void draw(merging *m) {
    fia_finish *f = &m->finish;
    int pokes = fuzz_chance(&m->in, 2) ? (int)fuzz_between(&m->in, 1, 3) : 0;
    draw_shape(&m->in, &m->shape);
    draw_finish(&m->in, &m->shape, f);
    while (pokes--) {
        if (fuzz_chance(&m->in, 2)) fuzz_poke(&m->in, &m->shape, sizeof(m->shape));
        else fuzz_poke(&m->in, f, sizeof(*f));
    }
    f->sinks = f->scale_data = f->offset_data = NULL; /* what is taken gets buffers */
    f->result = NULL;
}

static fia_status finish_rows(const merging *m, fia_report *report) {
    const fia_status status = fia_merge_finish(NULL, &m->shape, &m->finish, (const float *)m->base[0][0],
                                               (const float *)m->base[0][1], report);
    fuzz_check_report(status, report);
    return status;
}

/* A finish whose words are right is refused for its addresses only. */
static int is_taken(merging *m) {
    static const float some[64];
    fia_finish f = m->finish;
    fia_merge_shape s = m->shape;
    fia_report report;
    fia_status status;
    s.sequences = 0;
    if (f.sinks_dtype) f.sinks = some;
    status = fia_merge_finish(NULL, &s, &f, NULL, NULL, &report);
    fuzz_check_report(status, &report);
    return status == FIA_OK;
}

static void run_finish(merging *m) {
    fia_finish *f = &m->finish;
    const ptrdiff_t stride[3] = {f->out.sequence_bytes, f->out.head_bytes, f->out.row_bytes};
    fuzz_output result;
    fia_report report;
    f->scale_data = scale_buffer(m, &f->scale);
    f->offset_data = scale_buffer(m, &f->offset);
    if (f->sinks_dtype) f->sinks = fuzz_room(&m->memory, (double)m->shape.heads * (double)fuzz_size(f->sinks_dtype));
    f->result = make_buffer(m, stride, m->shape.dim * fuzz_size(f->out.dtype), &result);
    if (m->memory.too_large) return;
    (void)fuzz_output_of(&m->memory);
    if (fuzz_chance(&m->in, 16)) f->result = NULL;
    if (finish_rows(m, &report) != FIA_OK) fuzz_check_untouched(result.low, result.bytes, report.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fia_merge_shape none;
    fia_report report;
    fia_status status;
    merging m;
    memset(&m, 0, sizeof(m));
    m.in = fuzz_begin(data, size);
    m.memory.state = m.in.state;
    draw(&m);
    status = fia_merge(&m.shape, NULL, NULL, NULL, NULL, &report);
    fuzz_check_report(status, &report);
    none = m.shape;
    if (none.sequences > 0) none.sequences = 0; /* words are checked, addresses are not */
    status = fia_merge(&none, NULL, NULL, NULL, NULL, &report);
    fuzz_check_report(status, &report);
    if (status == FIA_OK) make_rows(&m);
    if (status == FIA_OK && !m.memory.too_large) {
        run_merge(&m);
        if (!m.memory.too_large && is_taken(&m)) run_finish(&m);
    }
    fuzz_free(&m.memory);
    return 0;
}
