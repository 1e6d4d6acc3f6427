/* SPDX-License-Identifier: MIT
 *
 * Bodies compiled with -DFIA_BACKEND_H="ext_backend_header.h": the backend sits in the built-in context, is asked about
 * operator calls, and a call that it declines runs on the CPU. Exit status 0: so it is.
 */
#define FIA_IMPLEMENTATION
#include "fia.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int ext_backend_asked;

int main(void) {
    enum { D = 4 };
    float q[D] = {1, 0, 0, 0}, k[D] = {1, 2, 3, 4}, v[D] = {5, 6, 7, 8}, out[D] = {0, 0, 0, 0};
    const int64_t shape[3] = {1, 1, D};
    fia_fused_infer_attention_score_v2_args args;
    fia_context context;
    fia_plan plan;
    fia_report report;
    fia_status status;
    void *workspace;
    fia_context_init(&context);
    if (!context.backend || strcmp(context.backend->name, "ext_backend_header") != 0) {
        fprintf(stderr, "the built-in context lacks the backend\n");
        return 1;
    }
    fia_fused_infer_attention_score_v2_init(&args);
    args.query = fia_tensor_make(q, FIA_F32, 3, shape);
    args.key = fia_tensor_make(k, FIA_F32, 3, shape);
    args.value = fia_tensor_make(v, FIA_F32, 3, shape);
    args.attention_out = fia_tensor_make(out, FIA_F32, 3, shape);
    status = fia_fused_infer_attention_score_v2_plan(NULL, &args, 1, &plan, &report);
    if (status != FIA_OK || ext_backend_asked != 1) {
        fprintf(stderr, "status %d, asked %d times: %s\n", (int)status, ext_backend_asked, report.text);
        return 1;
    }
    workspace = malloc(plan.workspace_bytes + 1);
    if (!workspace) return 1;
    status = fia_fused_infer_attention_score_v2_run(&plan, &args, workspace, plan.workspace_bytes, NULL, &report);
    free(workspace);
    fia_plan_release(&plan);
    if (status != FIA_OK || out[0] != 5.0f || out[3] != 8.0f) {
        fprintf(stderr, "status %d, output %g %g %g %g: %s\n", (int)status, out[0], out[1], out[2], out[3],
                report.text);
        return 1;
    }
    return 0;
}
