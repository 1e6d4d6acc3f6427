/* SPDX-License-Identifier: MIT
 *
 * A prompt, causal: at once, and in two parts. The rows of a part stand at the end of the keys that are there
 * (bottom-right alignment), so the second part sees the keys of the first, and one plan serves all.
 *   cc -std=c99 -O2 -march=native -ffp-contract=off -DFIA_IMPLEMENTATION -I. examples/02_prefill_causal.c -lm
 */
#include "fia.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { H = 4, D = 80, ROWS = 300, PART = 173 };

/* Token-major, as a projection writes them: (row, head, D). */
static float q[ROWS][H][D], k[ROWS][H][D], v[ROWS][H][D], once[ROWS][H][D], parts[ROWS][H][D];

static fia_status plan_prompt(fia_plan *plan, fia_report *report) {
    fia_problem p;
    fia_problem_init(&p);
    p.n_q_heads = p.n_kv_heads = H;
    p.dim = p.value_dim = D;
    p.max_q_len = p.max_kv_len = ROWS;
    p.causal = 1; /* keep key <= row, in global positions */
    p.query.row_bytes = p.key.row_bytes = p.value.row_bytes = p.out.row_bytes = sizeof(q[0]);
    p.query.head_bytes = p.key.head_bytes = p.value.head_bytes = p.out.head_bytes = sizeof(q[0][0]);
    return fia_plan_make(NULL, &p, 1, plan, report);
}

/* Rows [begin, end) over keys [0, end). */
static fia_status attend(const fia_plan *plan, void *workspace, int32_t begin, int32_t end, float (*out)[H][D],
                         fia_report *report) {
    const int32_t rows = end - begin;
    fia_io io;
    fia_job job;
    fia_io_init(&io);
    io.n_sequences = 1;
    io.query = q[begin];
    io.key = k;
    io.value = v;
    io.out = out[begin];
    io.q_lens.data = &rows;
    io.kv_lens.data = &end;
    io.q_lens.dtype = io.kv_lens.dtype = FIA_I32;
    job.plan = plan;
    job.io = &io;
    job.workspace = workspace;
    job.workspace_bytes = plan->workspace_bytes;
    return fia_run(&job, NULL, report);
}

/* Row r of head h in plain loops. */
static void naive_row(int r, int h, double *o) {
    double sum = 0;
    int i, j;
    for (i = 0; i < D; ++i) o[i] = 0;
    for (j = 0; j <= r; ++j) {
        double s = 0, weight;
        for (i = 0; i < D; ++i) s += (double)q[r][h][i] * k[j][h][i];
        sum += weight = exp(s / sqrt(D));
        for (i = 0; i < D; ++i) o[i] += weight * v[j][h][i];
    }
    for (i = 0; i < D; ++i) o[i] /= sum;
}

static double compare(float (*out)[H][D]) {
    double worst = 0, o[D];
    int r, h, i;
    for (r = 0; r < ROWS; ++r)
        for (h = 0; h < H; ++h) {
            naive_row(r, h, o);
            for (i = 0; i < D; ++i) worst = fmax(worst, fabs(o[i] - out[r][h][i]));
        }
    return worst;
}

static void fill(float *x, size_t n) {
    while (n--) *x++ = (float)rand() / (float)RAND_MAX * 2 - 1;
}

int main(void) {
    fia_plan plan;
    fia_report report;
    void *workspace;
    int bad;
    double worst_once, worst_parts;
    fill(&q[0][0][0], sizeof(q) / sizeof(float));
    fill(&k[0][0][0], sizeof(k) / sizeof(float));
    fill(&v[0][0][0], sizeof(v) / sizeof(float));

    if (plan_prompt(&plan, &report) != FIA_OK) return puts(report.text), 1;
    workspace = malloc(plan.workspace_bytes);
    bad = attend(&plan, workspace, 0, ROWS, once, &report) || attend(&plan, workspace, 0, PART, parts, &report) ||
          attend(&plan, workspace, PART, ROWS, parts, &report);
    free(workspace);
    fia_plan_release(&plan);
    if (bad) return puts(report.text), 1;

    worst_once = compare(once);
    worst_parts = compare(parts);
    printf("%d causal rows: largest error %.1e at once, %.1e in two parts\n", ROWS, worst_once, worst_parts);
    return worst_once < 1e-6 && worst_parts < 1e-6 ? 0 : 1;
}
