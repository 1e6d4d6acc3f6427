/* SPDX-License-Identifier: MIT
 *
 * Plans a call and runs it once in a workspace that is dirty; workers: NULL for a serial run.
 */
#ifndef FIA_TEST_PLAN_AND_RUN_H
#define FIA_TEST_PLAN_AND_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fia.h"

/* A parallel_for of one thread. */
static inline void in_turn(void *pool, int n, fia_task task, void *task_data) {
    int i;
    (void)pool;
    for (i = 0; i < n; ++i) task(task_data, i);
}

static inline fia_status plan_and_run(const fia_context *context, const fia_problem *p, const fia_io *io,
                                      const fia_workers *workers, fia_report *report) {
    fia_plan plan;
    fia_job job;
    fia_status status = fia_plan_make(context, p, workers ? workers->n : 1, &plan, report);
    if (status != FIA_OK) return status;
    job.plan = &plan;
    job.io = io;
    job.workspace_bytes = plan.workspace_bytes;
    job.workspace = malloc(plan.workspace_bytes + 1);
    assert_non_null(job.workspace);
    memset(job.workspace, 0xff, plan.workspace_bytes);
    status = fia_run(&job, workers, report);
    free(job.workspace);
    fia_plan_release(&plan);
    return status;
}

#endif
