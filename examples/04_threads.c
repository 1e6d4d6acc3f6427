/* SPDX-License-Identifier: MIT
 *
 * The caller's threads, three ways: none; an OpenMP team, through the callback of fia_run; and threads that run
 * already and meet at a barrier (the ith/nth form of inference engines). The bits are the same each time.
 *   cc -std=c99 -O2 -march=native -ffp-contract=off -fopenmp -DFIA_IMPLEMENTATION -I. examples/04_threads.c -lm -pthread
 */
#define _POSIX_C_SOURCE 200112L /* pthread_barrier_t */
#include "fia.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { H = 4, D = 64, ROWS = 3, KEYS = 5000, THREADS = 3 };

static float q[H][ROWS][D], k[H][KEYS][D], v[H][KEYS][D], out[3][H][ROWS][D];

typedef struct member { /* what a thread knows */
    const fia_job *job;
    pthread_barrier_t *barrier;
    int ith;
    fia_report report;
} member;

static void wait_for_all(void *barrier) { pthread_barrier_wait((pthread_barrier_t *)barrier); }

static void *work(void *arg) {
    member *m = (member *)arg;
    fia_run_ith(m->job, m->ith, THREADS, wait_for_all, m->barrier, &m->report);
    return NULL;
}

static fia_status run_on_own_threads(const fia_job *job, fia_report *report) {
    pthread_barrier_t barrier;
    pthread_t thread[THREADS];
    member m[THREADS];
    int i;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (i = 0; i < THREADS; ++i) {
        m[i].job = job, m[i].barrier = &barrier, m[i].ith = i;
        if (i && pthread_create(&thread[i], NULL, work, &m[i])) abort();
    }
    work(&m[0]); /* this thread is one of them */
    for (i = 1; i < THREADS; ++i) pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&barrier);
    *report = m[0].report; /* every thread gets the same verdict */
    return report->status;
}

static fia_status run_three_ways(fia_report *report) {
    const fia_workers workers = {THREADS, fia_openmp_for, NULL};
    fia_problem p;
    fia_plan plan;
    fia_io io;
    fia_job job;
    fia_status status;
    fia_problem_init(&p);
    p.n_q_heads = p.n_kv_heads = H;
    p.dim = p.value_dim = D;
    p.max_q_len = ROWS;
    p.max_kv_len = KEYS;
    p.query.row_bytes = p.key.row_bytes = p.value.row_bytes = p.out.row_bytes = D * sizeof(float);
    p.query.head_bytes = p.out.head_bytes = sizeof(q[0]);
    p.key.head_bytes = p.value.head_bytes = sizeof(k[0]);
    if ((status = fia_plan_make(NULL, &p, THREADS, &plan, report)) != FIA_OK) return status; /* room for 3 workers */
    fia_io_init(&io);
    io.n_sequences = 1;
    io.query = q;
    io.key = k;
    io.value = v;
    job.plan = &plan;
    job.io = &io;
    job.workspace_bytes = plan.workspace_bytes;
    job.workspace = malloc(job.workspace_bytes);

    io.out = out[0];
    status = fia_run(&job, NULL, report);
    io.out = out[1];
    if (status == FIA_OK) status = fia_run(&job, &workers, report);
    io.out = out[2];
    if (status == FIA_OK) status = run_on_own_threads(&job, report);
    free(job.workspace);
    fia_plan_release(&plan);
    return status;
}

/* One output row in plain loops; the largest difference. */
static double compare(int h, int r) {
    double o[D] = {0}, sum = 0, worst = 0;
    int i, j;
    for (j = 0; j < KEYS; ++j) {
        double s = 0, weight;
        for (i = 0; i < D; ++i) s += (double)q[h][r][i] * k[h][j][i];
        sum += weight = exp(s / sqrt(D));
        for (i = 0; i < D; ++i) o[i] += weight * v[h][j][i];
    }
    for (i = 0; i < D; ++i) worst = fmax(worst, fabs(o[i] / sum - out[0][h][r][i]));
    return worst;
}

static void fill(float *x, size_t n) {
    while (n--) *x++ = (float)rand() / (float)RAND_MAX * 2 - 1;
}

int main(void) {
    fia_report report;
    double worst = 0;
    int i, same;
    fill(&q[0][0][0], sizeof(q) / sizeof(float));
    fill(&k[0][0][0], sizeof(k) / sizeof(float));
    fill(&v[0][0][0], sizeof(v) / sizeof(float));
    if (run_three_ways(&report) != FIA_OK) return puts(report.text), 1;
    for (i = 0; i < H * ROWS; ++i) worst = fmax(worst, compare(i / ROWS, i % ROWS));
    same = !memcmp(out[0], out[1], sizeof(out[0])) && !memcmp(out[0], out[2], sizeof(out[0]));
    printf("largest error %.1e; %s bits on %d threads\n", worst, same ? "the same" : "OTHER", THREADS);
    return same && worst < 1e-6 ? 0 : 1;
}
