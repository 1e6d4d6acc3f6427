/* SPDX-License-Identifier: MIT
 *
 * A server's step: three sequences over one pool of KV pages. One brings a prompt of 40 tokens, one decodes a token,
 * one rests. Queries are packed one sequence after another; pages lie anywhere, the block table finds them.
 *   cc -std=c99 -O2 -march=native -ffp-contract=off -DFIA_IMPLEMENTATION -I. examples/03_paged_gqa.c -lm
 */
#include "fia.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { B = 3, HQ = 6, HKV = 2, D = 64, P = 16, PAGES = 64, COLUMNS = 20, ROWS = 41 };

static const int32_t q_lens[B] = {40, 1, 0}, kv_lens[B] = {40, 301, 77};
static float q[ROWS][HQ][D], out[ROWS][HQ][D];
static uint16_t key[PAGES][HKV][P][D], value[PAGES][HKV][P][D]; /* bf16: the upper half of an f32 */
static int32_t table[B][COLUMNS];

static fia_status attend(fia_report *report) {
    fia_problem p;
    fia_plan plan;
    fia_io io;
    fia_job job;
    fia_status status;
    fia_problem_init(&p);
    p.n_sequences = B;
    p.max_q_len = p.total_q = ROWS; /* packed: rows of the tensor, all sequences together */
    p.q_packed = 1;
    p.max_kv_len = COLUMNS * P;
    p.n_q_heads = HQ;
    p.n_kv_heads = HKV;
    p.dim = p.value_dim = D;
    p.causal = 1;
    p.query.row_bytes = p.out.row_bytes = sizeof(q[0]);
    p.query.head_bytes = p.out.head_bytes = sizeof(q[0][0]);
    p.keys = FIA_KEYS_PAGED;
    p.page_size = P;
    p.n_pages = PAGES;
    p.table_columns = COLUMNS;
    p.key.dtype = p.value.dtype = FIA_BF16;
    p.key.sequence_bytes = p.value.sequence_bytes = sizeof(key[0]); /* from page to page */
    p.key.head_bytes = p.value.head_bytes = sizeof(key[0][0]);
    p.key.row_bytes = p.value.row_bytes = sizeof(key[0][0][0]);
    if ((status = fia_plan_make(NULL, &p, 1, &plan, report)) != FIA_OK) return status;

    fia_io_init(&io);
    io.n_sequences = B;
    io.query = q;
    io.key = key;
    io.value = value;
    io.out = out;
    io.block_table = &table[0][0];
    io.q_lens.data = q_lens;
    io.kv_lens.data = kv_lens;
    io.q_lens.dtype = io.kv_lens.dtype = FIA_I32;
    io.q_lens.stride_bytes = io.kv_lens.stride_bytes = sizeof(int32_t);
    job.plan = &plan;
    job.io = &io;
    job.workspace_bytes = plan.workspace_bytes;
    job.workspace = malloc(job.workspace_bytes);
    status = fia_run(&job, NULL, report);
    free(job.workspace);
    fia_plan_release(&plan);
    return status;
}

static float widen(uint16_t h) {
    union {
        uint32_t bits;
        float f;
    } u;
    u.bits = (uint32_t)h << 16;
    return u.f;
}

/* The largest difference from plain loops: row i of sequence b, which sees keys [0, n). */
static double compare_row(int b, int row, int n) {
    double worst = 0;
    int h, j, x;
    for (h = 0; h < HQ; ++h) {
        double o[D] = {0}, sum = 0;
        for (j = 0; j < n; ++j) {
            const int32_t page = table[b][j / P];
            double s = 0, weight;
            for (x = 0; x < D; ++x) s += (double)q[row][h][x] * widen(key[page][h / (HQ / HKV)][j % P][x]);
            sum += weight = exp(s / sqrt(D));
            for (x = 0; x < D; ++x) o[x] += weight * widen(value[page][h / (HQ / HKV)][j % P][x]);
        }
        for (x = 0; x < D; ++x) worst = fmax(worst, fabs(o[x] / sum - out[row][h][x]));
    }
    return worst;
}

int main(void) {
    fia_report report;
    double worst = 0;
    int b, i, row = 0, page = 0;
    for (i = 0; i < ROWS * HQ * D; ++i) (&q[0][0][0])[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    for (i = 0; i < PAGES * HKV * P * D; ++i) { /* bf16 numbers of magnitude 0.25 to 1 */
        (&key[0][0][0][0])[i] = (uint16_t)((rand() & 1) << 15 | 0x3e80 | (rand() & 0xff));
        (&value[0][0][0][0])[i] = (uint16_t)((rand() & 1) << 15 | 0x3e80 | (rand() & 0xff));
    }
    for (b = 0; b < B; ++b)
        for (i = 0; i * P < kv_lens[b]; ++i) table[b][i] = (page += 37) % PAGES; /* 37 is odd: no page twice */
    if (attend(&report) != FIA_OK) return puts(report.text), 1;
    for (b = 0; b < B; ++b)
        for (i = 0; i < q_lens[b]; ++i) worst = fmax(worst, compare_row(b, row++, kv_lens[b] - q_lens[b] + i + 1));
    printf("%d sequences over %d pages: largest error %.1e\n", B, PAGES, worst);
    return worst < 1e-6 ? 0 : 1;
}
