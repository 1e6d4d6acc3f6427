/* SPDX-License-Identifier: MIT
 *
 * One decode step: 8 query heads share the 2 KV heads (GQA) of an f16 cache.
 *   cc -std=c99 -O2 -march=native -ffp-contract=off -I. examples/01_decode_token.c -lm && ./a.out
 */
#define FIA_IMPLEMENTATION /* this file gets the bodies */
#include "fia.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { HQ = 8, HKV = 2, D = 64, ROOM = 1024 };

static float q[HQ][D], out[HQ][D];
static uint16_t key[HKV][ROOM][D], value[HKV][ROOM][D]; /* f16 */

/* Attends over the first `len` keys; 0 if all went well. */
static int decode_token(int32_t len) {
    fia_problem p;
    fia_plan plan;
    fia_io io;
    fia_job job;
    fia_report report;

    fia_problem_init(&p); /* what stays from step to step: sizes, types, strides */
    p.n_q_heads = HQ;
    p.n_kv_heads = HKV;
    p.dim = p.value_dim = D;
    p.max_q_len = 1;
    p.max_kv_len = ROOM;
    p.key.dtype = p.value.dtype = FIA_F16; /* query and out are f32 by default, the scale is 1 / sqrt(D) */
    p.query.head_bytes = p.out.head_bytes = sizeof(q[0]);
    p.key.head_bytes = p.value.head_bytes = sizeof(key[0]);
    p.key.row_bytes = p.value.row_bytes = sizeof(key[0][0]);
    if (fia_plan_make(NULL, &p, 1, &plan, &report) != FIA_OK) return puts(report.text), 1;

    fia_io_init(&io); /* what may change: addresses and lengths */
    io.n_sequences = 1;
    io.query = q;
    io.key = key;
    io.value = value;
    io.out = out;
    io.kv_lens.data = &len;
    io.kv_lens.dtype = FIA_I32;

    job.plan = &plan;
    job.io = &io;
    job.workspace_bytes = plan.workspace_bytes;
    job.workspace = malloc(job.workspace_bytes);
    if (fia_run(&job, NULL, &report) != FIA_OK) return puts(report.text), 1;
    free(job.workspace);
    fia_plan_release(&plan);
    return 0;
}

/* The f16 numbers of this example are normal: a sign, 5 bits of exponent, 10 of fraction. */
static double widen(uint16_t h) { return ldexp((h & 1023) + 1024, (h >> 10 & 31) - 25) * (h >> 15 ? -1 : 1); }
static uint16_t random_f16(void) { return (uint16_t)((rand() & 1) << 15 | 13 << 10 | (rand() & 2047)); }

/* The same in plain loops; the largest difference. */
static double compare(int len) {
    double worst = 0;
    int h, i, j;
    for (h = 0; h < HQ; ++h) {
        double o[D] = {0}, sum = 0;
        for (j = 0; j < len; ++j) {
            double s = 0, weight;
            for (i = 0; i < D; ++i) s += q[h][i] * widen(key[h / (HQ / HKV)][j][i]);
            sum += weight = exp(s / sqrt(D));
            for (i = 0; i < D; ++i) o[i] += weight * widen(value[h / (HQ / HKV)][j][i]);
        }
        for (i = 0; i < D; ++i) worst = fmax(worst, fabs(o[i] / sum - out[h][i]));
    }
    return worst;
}

int main(void) {
    int h, j, i;
    double worst;
    for (h = 0; h < HQ; ++h)
        for (i = 0; i < D; ++i) q[h][i] = (float)rand() / (float)RAND_MAX - 0.5f;
    for (h = 0; h < HKV; ++h)
        for (j = 0; j < ROOM; ++j)
            for (i = 0; i < D; ++i) key[h][j][i] = random_f16(), value[h][j][i] = random_f16();
    if (decode_token(777)) return 1;
    worst = compare(777);
    printf("one token, %d heads over %d KV heads: largest error %.1e\n", HQ, HKV, worst);
    return worst < 1e-6 ? 0 : 1;
}
