/* SPDX-License-Identifier: MIT
 *
 * The backend seam: one backend that counts and declines, one that takes every operator call as a whole.
 */
#include "ext_common.h"

typedef struct counts {
    int plans, runs, releases;
    const void *stream, *workspace;
    size_t workspace_bytes;
    char op[64];
    const fia_context *context;
} counts;

static counts seen;

static fia_status declining_plan(const char *op, const void *args, fia_plan *plan, fia_report *report) {
    (void)args;
    ++seen.plans;
    seen.context = plan->context;
    snprintf(seen.op, sizeof(seen.op), "%s", op);
    if (report) snprintf(report->text, sizeof(report->text), "query is on the host; this backend takes device memory");
    return FIA_ERR_NOT_IN_BUILD;
}

static fia_status declining_run(const char *op, const fia_plan *plan, const void *args, void *workspace,
                                size_t workspace_bytes, fia_report *report) {
    (void)op, (void)plan, (void)args, (void)workspace, (void)workspace_bytes, (void)report;
    ++seen.runs;
    return FIA_ERR_BACKEND;
}

static void declining_release(fia_plan *plan) {
    (void)plan;
    ++seen.releases;
}

static const fia_backend declining = {"ext_declining", declining_plan, declining_run, declining_release};

/* ---- takes everything: the output is all sevens ---- */

enum { TAKING_WORKSPACE = 12345 };

static fia_status taking_plan(const char *op, const void *args, fia_plan *plan, fia_report *report) {
    (void)args, (void)report;
    ++seen.plans;
    snprintf(seen.op, sizeof(seen.op), "%s", op);
    seen.context = plan->context;
    plan->workspace_bytes = TAKING_WORKSPACE;
    plan->backend_data = malloc(1);
    return FIA_OK;
}

static fia_status taking_run(const char *op, const fia_plan *plan, const void *args, void *workspace,
                             size_t workspace_bytes, fia_report *report) {
    const fia_fused_infer_attention_score_v2_args *a = (const fia_fused_infer_attention_score_v2_args *)args;
    float *out = (float *)a->attention_out.data;
    int64_t n = 1, i;
    (void)op;
    ++seen.runs;
    seen.stream = a->stream;
    seen.workspace = workspace;
    seen.workspace_bytes = workspace_bytes;
    if (!plan->backend_data || !out) {
        snprintf(report->text, sizeof(report->text), "attention_out is absent; this backend needs one");
        return FIA_ERR_BACKEND;
    }
    for (i = 0; i < a->attention_out.ndim; ++i) n *= a->attention_out.shape[i];
    for (i = 0; i < n; ++i) out[i] = 7.0f;
    return FIA_OK;
}

static void taking_release(fia_plan *plan) {
    ++seen.releases;
    free(plan->backend_data);
    plan->backend_data = NULL;
}

static const fia_backend taking = {"ext_taking", taking_plan, taking_run, taking_release};

/* ---- an operator call: BSH, 1 sequence, 3 rows, 5 keys, 2 heads of 8 ---- */

enum { ROWS = 3, KEYS = 5, HEADS = 2, DIM = 8 };

typedef struct small_call {
    fia_fused_infer_attention_score_v2_args args;
    float q[ROWS * HEADS * DIM], k[KEYS * HEADS * DIM], v[KEYS * HEADS * DIM], out[ROWS * HEADS * DIM];
} small_call;

static void small_make(small_call *c) {
    const int64_t rows[3] = {1, ROWS, HEADS * DIM}, keys[3] = {1, KEYS, HEADS * DIM};
    case_random random = case_random_of(9);
    int i;
    memset(&seen, 0, sizeof(seen));
    for (i = 0; i < ROWS * HEADS * DIM; ++i) c->q[i] = (float)case_normal(&random);
    for (i = 0; i < KEYS * HEADS * DIM; ++i) c->k[i] = (float)case_normal(&random);
    for (i = 0; i < KEYS * HEADS * DIM; ++i) c->v[i] = (float)case_normal(&random);
    memset(c->out, 0, sizeof(c->out));
    fia_fused_infer_attention_score_v2_init(&c->args);
    c->args.query = fia_tensor_make(c->q, FIA_F32, 3, rows);
    c->args.key = fia_tensor_make(c->k, FIA_F32, 3, keys);
    c->args.value = fia_tensor_make(c->v, FIA_F32, 3, keys);
    c->args.attention_out = fia_tensor_make(c->out, FIA_F32, 3, rows);
    c->args.num_query_heads = HEADS;
}

static fia_status small_run(small_call *c, const fia_context *context, fia_report *report) {
    fia_plan plan;
    void *workspace;
    fia_status status = fia_fused_infer_attention_score_v2_plan(context, &c->args, 1, &plan, report);
    if (status != FIA_OK) return status;
    workspace = malloc(plan.workspace_bytes + 1);
    assert_non_null(workspace);
    status = fia_fused_infer_attention_score_v2_run(&plan, &c->args, workspace, plan.workspace_bytes, NULL, report);
    free(workspace);
    fia_plan_release(&plan);
    return status;
}

static fia_context context_of(const fia_backend *backend) {
    fia_context context;
    fia_context_init(&context);
    context.backend = backend;
    return context;
}

static void a_build_without_a_backend_header_has_none(void **state) {
    fia_context context;
    (void)state;
    fia_context_init(&context);
    assert_null(context.backend);
}

static void a_declined_call_runs_on_the_cpu(void **state) {
    const fia_context context = context_of(&declining);
    small_call with, without;
    fia_report report;
    (void)state;
    small_make(&without);
    assert_int_equal(small_run(&without, NULL, &report), FIA_OK);
    assert_int_equal(seen.plans, 0);
    small_make(&with);
    assert_int_equal(small_run(&with, &context, &report), FIA_OK);
    assert_int_equal(report.status, FIA_OK);
    assert_int_equal(report.text[0], 0);
    assert_int_equal(seen.plans, 1);
    assert_int_equal(seen.runs, 0);
    assert_int_equal(seen.releases, 0);
    assert_string_equal(seen.op, "fused_infer_attention_score_v2");
    assert_ptr_equal(seen.context, &context);
    assert_memory_equal(with.out, without.out, sizeof(with.out));
}

static void a_taken_call_never_reaches_the_cpu(void **state) {
    const fia_context context = context_of(&taking);
    small_call c;
    fia_plan plan;
    fia_report report;
    char text[1024], *workspace;
    int i;
    (void)state;
    small_make(&c);
    c.args.stream = &seen;
    assert_int_equal(fia_fused_infer_attention_score_v2_plan(&context, &c.args, 2, &plan, &report), FIA_OK);
    assert_int_equal(plan.on_backend, 1);
    assert_int_equal(plan.workspace_bytes, TAKING_WORKSPACE);
    fia_explain(&plan, NULL, text, sizeof(text));
    assert_non_null(strstr(text, "ext_taking"));
    workspace = (char *)malloc(plan.workspace_bytes);
    assert_non_null(workspace);
    assert_int_equal(
        fia_fused_infer_attention_score_v2_run(&plan, &c.args, workspace, plan.workspace_bytes - 1, NULL, &report),
        FIA_ERR_ARGUMENT);
    assert_int_equal(seen.runs, 0);
    for (i = 0; i < 2; ++i)
        assert_int_equal(
            fia_fused_infer_attention_score_v2_run(&plan, &c.args, workspace, plan.workspace_bytes, NULL, &report),
            FIA_OK);
    assert_int_equal(seen.runs, 2);
    assert_ptr_equal(seen.stream, &seen);
    assert_ptr_equal(seen.workspace, workspace);
    assert_int_equal(seen.workspace_bytes, TAKING_WORKSPACE);
    for (i = 0; i < ROWS * HEADS * DIM; ++i) assert_true(c.out[i] == 7.0f);
    fia_plan_release(&plan);
    assert_int_equal(seen.releases, 1);
    free(workspace);
}

static void a_backend_that_fails_says_so(void **state) {
    const fia_context context = context_of(&taking);
    small_call c;
    fia_plan plan;
    fia_report report;
    char workspace[TAKING_WORKSPACE];
    (void)state;
    small_make(&c);
    assert_int_equal(fia_fused_infer_attention_score_v2_plan(&context, &c.args, 1, &plan, &report), FIA_OK);
    free(plan.backend_data);
    plan.backend_data = NULL;
    assert_int_equal(
        fia_fused_infer_attention_score_v2_run(&plan, &c.args, workspace, sizeof(workspace), NULL, &report),
        FIA_ERR_BACKEND);
    assert_int_equal(report.status, FIA_ERR_BACKEND);
    assert_true(strlen(report.text) > 0);
    fia_plan_release(&plan);
}

static void wrong_arguments_are_refused_before_a_backend_is_asked(void **state) {
    const fia_context context = context_of(&taking);
    small_call c;
    fia_plan plan;
    fia_report report;
    (void)state;
    small_make(&c);
    c.args.num_query_heads = 3;
    assert_int_equal(fia_fused_infer_attention_score_v2_plan(&context, &c.args, 1, &plan, &report), FIA_ERR_ARGUMENT);
    assert_int_equal(seen.plans, 0);
}

/* A device may have what the CPU lacks in this build. */
static void a_call_that_the_build_lacks_is_offered(void **state) {
    const fia_context context = context_of(&taking);
    const int64_t keys[3] = {1, KEYS, HEADS * DIM}, one[1] = {1};
    float scale = 0.5f;
    small_call c;
    fia_plan plan;
    fia_report report;
    (void)state;
    small_make(&c);
    c.args.key = fia_tensor_make(c.k, FIA_I8, 3, keys);
    c.args.value = fia_tensor_make(c.v, FIA_I8, 3, keys);
    c.args.dequant_scale_key = c.args.dequant_scale_value = fia_tensor_make(&scale, FIA_F32, 1, one);
    assert_int_equal(fia_fused_infer_attention_score_v2_plan(NULL, &c.args, 1, &plan, &report), FIA_ERR_NOT_IN_BUILD);
    assert_int_equal(fia_fused_infer_attention_score_v2_plan(&context, &c.args, 1, &plan, &report), FIA_OK);
    assert_int_equal(seen.plans, 1);
    fia_plan_release(&plan);
}

static void a_stream_changes_nothing_on_a_cpu(void **state) {
    small_call with, without;
    fia_report report;
    (void)state;
    small_make(&without);
    small_make(&with);
    with.args.stream = (void *)(uintptr_t)1; /* whoever follows it faults */
    assert_int_equal(small_run(&without, NULL, &report), FIA_OK);
    assert_int_equal(small_run(&with, NULL, &report), FIA_OK);
    assert_memory_equal(with.out, without.out, sizeof(with.out));
}

/* ---- the cross product: the engine door asks no backend ---- */

static int after(test_case *c, FILE *log) {
    (void)c;
    if (seen.plans == 0 && seen.runs == 0 && seen.releases == 0) return 0;
    fprintf(log, "the backend was asked %d times, ran %d, released %d\n", seen.plans, seen.runs, seen.releases);
    return 1;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_build_without_a_backend_header_has_none),
        cmocka_unit_test(a_declined_call_runs_on_the_cpu),
        cmocka_unit_test(a_taken_call_never_reaches_the_cpu),
        cmocka_unit_test(a_backend_that_fails_says_so),
        cmocka_unit_test(wrong_arguments_are_refused_before_a_backend_is_asked),
        cmocka_unit_test(a_call_that_the_build_lacks_is_offered),
        cmocka_unit_test(a_stream_changes_nothing_on_a_cpu),
    };
    const fia_context context = context_of(&taking);
    case_hook hook;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    memset(&seen, 0, sizeof(seen));
    memset(&hook, 0, sizeof(hook));
    hook.name = "ext_backend";
    hook.context = &context;
    hook.after = after;
    return case_main(argc, argv, &hook) || failed;
}
