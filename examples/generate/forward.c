/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include "model.h"

#include "half.h"

#include <math.h>
#include <time.h>

double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- arithmetic ---- */

enum {
    BLOCK = 256,         /* columns that are widened at once; a multiple of Q8_0's 32 */
    TEAM_WORTH = 1 << 17 /* multiply-adds below which waking a team costs more than it gains */
};

/* Widens n elements of a stored row, from element i on; i and n are multiples of the type's block. */
static void widen(const matrix *w, int row, int i, int n, float *dst) {
    const size_t first = (size_t)row * (size_t)w->columns + (size_t)i;
    int j, b;
    if (w->type == GGUF_TENSOR_F32) {
        memcpy(dst, w->data + 4 * first, 4 * (size_t)n);
    } else if (w->type == GGUF_TENSOR_F16) {
        const uint16_t *src = (const uint16_t *)(const void *)(w->data + 2 * first);
#pragma omp simd
        for (j = 0; j < n; ++j) dst[j] = float_from_f16(src[j]);
    } else {
        for (b = 0; b < n / 32; ++b) { /* 34 bytes: f16 scale, 32 int8 */
            const uint8_t *block = w->data + 34 * (first / 32 + (size_t)b);
            const int8_t *q = (const int8_t *)(block + 2);
            const float scale = float_from_f16((uint16_t)(block[0] | block[1] << 8));
#pragma omp simd
            for (j = 0; j < 32; ++j) dst[32 * b + j] = scale * (float)q[j];
        }
    }
}

static float dot(const float *a, const float *b, int n) {
    float sum = 0;
    int i;
#pragma omp simd reduction(+ : sum)
    for (i = 0; i < n; ++i) sum += a[i] * b[i];
    return sum;
}

/* y (n, w.rows) = x (n, w.columns) times w transposed. A thread owns rows of w: the sums do not depend on the team. */
static void multiply(const matrix *w, const float *x, int n, float *y, int threads) {
    const int team = (double)n * w->rows * w->columns < TEAM_WORTH ? 1 : threads;
    int r;
#pragma omp parallel for num_threads(team) if (team > 1) schedule(static)
    for (r = 0; r < w->rows; ++r) {
        float wide[BLOCK];
        int i, t;
        for (t = 0; t < n; ++t) y[(size_t)t * (size_t)w->rows + (size_t)r] = 0;
        for (i = 0; i < w->columns; i += BLOCK) {
            const int part = w->columns - i < BLOCK ? w->columns - i : BLOCK;
            widen(w, r, i, part, wide);
            for (t = 0; t < n; ++t)
                y[(size_t)t * (size_t)w->rows + (size_t)r] += dot(x + (size_t)t * (size_t)w->columns + i, wide, part);
        }
    }
    (void)team; /* without OpenMP */
}

/* y = x / rms(x) * weight, row by row; y may be x. */
static void normalise(const float *x, const float *weight, int n, int width, float eps, float *y) {
    int t, i;
    for (t = 0; t < n; ++t, x += width, y += width) {
        const float scale = 1.0f / sqrtf(dot(x, x, width) / (float)width + eps);
        for (i = 0; i < width; ++i) y[i] = x[i] * scale * weight[i];
    }
}

/* Angles of the step's rows: pair i of a row at position p turns by p * base^(-2i / rope_dim). */
static void angles(model *m, const kv_cache *kv, int n_sequences, const int32_t *n_rows) {
    const int half = m->rope_dim / 2;
    float *c = m->cosines, *s = m->sines;
    int i, j, sequence;
    for (sequence = 0; sequence < n_sequences; ++sequence)
        for (j = 0; j < n_rows[sequence]; ++j)
            for (i = 0; i < half; ++i) {
                double angle = (kv_position(kv, sequence) + j) * pow(m->rope_base, -2.0 * i / m->rope_dim);
                *c++ = (float)cos(angle);
                *s++ = (float)sin(angle);
            }
}

/* Turns the adjacent pairs (2i, 2i + 1) of x (n, heads, dim). */
static void rotate(const model *m, float *x, int n, int heads) {
    const int half = m->rope_dim / 2;
    int t, h, i;
    for (t = 0; t < n; ++t)
        for (h = 0; h < heads; ++h, x += m->key_dim)
            for (i = 0; i < half; ++i) {
                const float c = m->cosines[t * half + i], s = m->sines[t * half + i];
                const float a = x[2 * i], b = x[2 * i + 1];
                x[2 * i] = a * c - b * s;
                x[2 * i + 1] = a * s + b * c;
            }
}

static void add(float *x, const float *y, size_t n) {
    size_t i;
    for (i = 0; i < n; ++i) x[i] += y[i];
}

/* gate <- silu(gate) * up */
static void swiglu(float *gate, const float *up, size_t n) {
    size_t i;
    for (i = 0; i < n; ++i) gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

/* ---- the forward pass ---- */

static int attention(model *m, const layer *l, int index, kv_cache *kv, int n, error *e) {
    double start;
    int bad;
    normalise(m->x, l->attn_norm, n, m->width, m->norm_eps, m->normed);
    multiply(&l->q, m->normed, n, m->q, m->threads);
    multiply(&l->k, m->normed, n, m->k, m->threads);
    multiply(&l->v, m->normed, n, m->v, m->threads);
    rotate(m, m->q, n, m->n_q_heads);
    rotate(m, m->k, n, m->n_kv_heads);
    start = seconds();
    kv_store(kv, index, m->k, m->v);
    bad = kv_attend(kv, index, m->q, m->attended, e);
    m->attention_seconds += seconds() - start;
    multiply(&l->o, m->attended, n, m->normed, m->threads);
    add(m->x, m->normed, (size_t)n * (size_t)m->width);
    return bad;
}

static void feed_forward(model *m, const layer *l, int n) {
    normalise(m->x, l->ffn_norm, n, m->width, m->norm_eps, m->normed);
    multiply(&l->gate, m->normed, n, m->gate, m->threads);
    multiply(&l->up, m->normed, n, m->up, m->threads);
    swiglu(m->gate, m->up, (size_t)n * (size_t)m->ff);
    multiply(&l->down, m->gate, n, m->normed, m->threads);
    add(m->x, m->normed, (size_t)n * (size_t)m->width);
}

int model_step(model *m, kv_cache *kv, int n_sequences, const int32_t *n_rows, const int32_t *tokens, float *logits,
               error *e) {
    const size_t width = (size_t)m->width;
    int n = 0, last = 0, i, s;
    for (s = 0; s < n_sequences; ++s) {
        if (n_rows[s] < 0 || n_rows[s] > m->max_rows - n) return fail(e, "a step has more than %d rows", m->max_rows);
        n += n_rows[s];
    }
    for (i = 0; i < n; ++i) {
        if (tokens[i] < 0 || tokens[i] >= m->n_vocab)
            return fail(e, "token %d; allowed: 0 to %d", (int)tokens[i], m->n_vocab - 1);
        widen(&m->embedding, tokens[i], 0, m->width, m->x + (size_t)i * width);
    }
    if (kv_begin(kv, n_rows, e)) return -1;
    angles(m, kv, n_sequences, n_rows);
    for (i = 0; i < m->n_layers; ++i) {
        if (attention(m, &m->layers[i], i, kv, n, e)) return -1;
        feed_forward(m, &m->layers[i], n);
    }
    for (s = 0, n = 0; s < n_sequences; ++s) { /* only the last row of a sequence predicts a new token */
        last += n_rows[s];
        if (n_rows[s])
            normalise(m->x + (size_t)(last - 1) * width, m->output_norm, 1, m->width, m->norm_eps,
                      m->normed + (size_t)n++ * width);
    }
    multiply(&m->output, m->normed, n, logits, m->threads);
    return 0;
}
