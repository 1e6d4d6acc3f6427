/* SPDX-License-Identifier: MIT */
/* cc -O2 -march=native -ffp-contract=off -I. examples/00_readme.c -lm */
#define FIA_IMPLEMENTATION
#include "fia.h"
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 1, KEYS = 1000, HEADS = 8, KV_HEADS = 2, D = 64 }; /* one decode step, GQA, K and V token-major */

int main(void) {
    static float q[ROWS][HEADS][D], k[KEYS][KV_HEADS][D], v[KEYS][KV_HEADS][D], out[ROWS][HEADS][D];
    fia_problem p;
    fia_plan plan;
    fia_report report;
    fia_io io;
    fia_job job;
    for (int i = 0; i < KEYS * KV_HEADS * D; ++i) (&k[0][0][0])[i] = (&v[0][0][0])[i] = 1.0f;
    fia_problem_init(&p);
    p.max_q_len = ROWS, p.max_kv_len = KEYS, p.n_q_heads = HEADS, p.n_kv_heads = KV_HEADS, p.dim = p.value_dim = D;
    p.query.head_bytes = p.out.head_bytes = sizeof q[0][0], p.query.row_bytes = p.out.row_bytes = sizeof q[0];
    p.key.head_bytes = p.value.head_bytes = sizeof k[0][0], p.key.row_bytes = p.value.row_bytes = sizeof k[0];
    p.causal = 1;
    if (fia_plan_make(NULL, &p, 1, &plan, &report)) return puts(report.text), 1;
    fia_io_init(&io);
    io.query = q, io.key = k, io.value = v, io.out = out;
    job.plan = &plan, job.io = &io, job.workspace = malloc(plan.workspace_bytes),
    job.workspace_bytes = plan.workspace_bytes;
    if (fia_run(&job, NULL, &report)) return puts(report.text), 1;
    printf("out[0][0][0] = %g\n", out[0][0][0]);
    free(job.workspace);
    return out[0][0][0] != 1.0f;
}
