/* SPDX-License-Identifier: MIT
 *
 * A private copy: this file is compiled twice, with PART 1 and 2, into one program.
 */
#define FIA_STATIC
#define FIA_IMPLEMENTATION
#include "fia.h"

#include <stdio.h>

#define NAME_OF(part) part_##part
#define NAME(part) NAME_OF(part)

int NAME(PART)(void);

/* One row, two keys of weights 1/2: the mean of the values. */
int NAME(PART)(void) {
    static char workspace[1 << 20];
    const float q[4] = {0, 0, 0, 0}, k[8] = {1, 2, 3, 4, 5, 6, 7, 8}, v[8] = {1, 2, 3, 4, 3, 4, 5, 6};
    float out[4] = {0, 0, 0, 0};
    fia_problem problem;
    fia_plan plan;
    fia_io io;
    fia_job job;
    fia_report report;
    fia_problem_init(&problem);
    problem.max_q_len = 1;
    problem.max_kv_len = 2;
    problem.n_q_heads = problem.n_kv_heads = 1;
    problem.dim = problem.value_dim = 4;
    problem.key.row_bytes = problem.value.row_bytes = 16;
    if (fia_plan_make(NULL, &problem, 1, &plan, &report) != FIA_OK || plan.workspace_bytes > sizeof workspace) {
        printf("plan: %s\n", report.text);
        return 1;
    }
    fia_io_init(&io);
    io.n_sequences = 1;
    io.query = q;
    io.key = k;
    io.value = v;
    io.out = out;
    job.plan = &plan;
    job.io = &io;
    job.workspace = workspace;
    job.workspace_bytes = plan.workspace_bytes;
    if (fia_run(&job, NULL, &report) != FIA_OK) {
        printf("run: %s\n", report.text);
        return 1;
    }
    fia_plan_release(&plan);
    printf("part %d: %g %g %g %g\n", PART, (double)out[0], (double)out[1], (double)out[2], (double)out[3]);
    return !(out[0] > 1.999f && out[0] < 2.001f && out[3] > 4.999f && out[3] < 5.001f);
}

#if PART == 1
int part_2(void);
int main(void) { return part_1() || part_2(); }
#endif
