/* SPDX-License-Identifier: MIT
 *
 * The public part in every dialect: included twice, first in the file, everything named.
 */
#include "fia.h"
#include "fia.h"

#ifdef FIA_IMPLEMENTATION
#error "the public part alone is meant"
#endif
#ifdef SIMDE_VERSION
#error "the public part must not need SIMDe"
#endif

typedef void (*any_function)(void);

/* A plan is promised to be no larger than 2 KiB. */
typedef char plan_is_small[sizeof(fia_plan) <= 2048 ? 1 : -1];

int public_part(fia_problem *problem, fia_io *io, fia_plan *plan, fia_job *job, fia_report *report);

int public_part(fia_problem *problem, fia_io *io, fia_plan *plan, fia_job *job, fia_report *report) {
    fia_fused_infer_attention_score_v2_args args;
    fia_workers workers = {1, 0, 0};
    fia_cpu cpu;
    fia_context context;
    plan_is_small small = {0};
    fia_problem_init(problem);
    fia_io_init(io);
    fia_cpu_detect(&cpu);
    fia_context_init(&context);
    fia_fused_infer_attention_score_v2_init(&args);
    args.query = fia_tensor_make(0, FIA_F16, 0, 0);
    job->plan = plan;
    job->io = io;
    if (fia_plan_make(&context, problem, 1, plan, report) != FIA_OK) return 1;
    if (fia_run(job, &workers, report) != FIA_OK) return 2;
    fia_plan_release(plan);
    return (int)fia_version() + small[0];
}
