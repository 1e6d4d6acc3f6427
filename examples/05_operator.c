/* SPDX-License-Identifier: MIT
 *
 * A call of torch_npu.npu_fused_infer_attention_score_v2 on a CPU: BSND tensors of f16, GQA, lengths per sequence, causal
 * from the bottom right (sparse_mode 3 with its compressed mask), LSE. In torch_npu:
 *   out, lse = npu_fused_infer_attention_score_v2(query, key, value, num_query_heads=8, num_key_value_heads=2,
 *       input_layout="BSND", softmax_scale=1/8, actual_seq_qlen=[5, 3], actual_seq_kvlen=[40, 17],
 *       sparse_mode=3, atten_mask=mask, return_softmax_lse=True)
 *   cc -std=c99 -O2 -march=native -ffp-contract=off -DFIA_IMPLEMENTATION -I. examples/05_operator.c -lm
 */
#include "fia.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { B = 2, N = 8, NKV = 2, D = 64, S1 = 5, S2 = 40 };

static uint16_t query[B][S1][N][D], key[B][S2][NKV][D], value[B][S2][NKV][D]; /* f16 */
static uint16_t attention_out[B][S1][N][D];
static float softmax_lse[B][N][S1]; /* its fourth axis is 1 */

static double f16(uint16_t h) { return (h & 0x8000 ? -1 : 1) * ldexp(1024 + (h & 1023), (h >> 10 & 31) - 25); }

/* Normal numbers between +-0.5 and +-1. */
static void fill(uint16_t *x, size_t n) {
    size_t i;
    for (i = 0; i < n; ++i) x[i] = (uint16_t)(0x3800 + rand() % 1024 + (rand() % 2 ? 0x8000 : 0));
}

/* Row s of head n in plain loops, on the first q_len rows and kv_len keys; returns its LSE. */
static double naive_row(int b, int n, int s, int q_len, int kv_len, double *o) {
    double sum = 0, x, weight;
    int i, j;
    for (i = 0; i < D; ++i) o[i] = 0;
    for (j = 0; j <= s + kv_len - q_len; ++j) {
        for (i = 0, x = 0; i < D; ++i) x += f16(query[b][s][n][i]) * f16(key[b][j][n / (N / NKV)][i]);
        sum += weight = exp(x / 8);
        for (i = 0; i < D; ++i) o[i] += weight * f16(value[b][j][n / (N / NKV)][i]);
    }
    for (i = 0; i < D; ++i) o[i] /= sum;
    return log(sum);
}

static double largest_error(const int64_t *q_lens, const int64_t *kv_lens) {
    double o[D], lse, worst = 0;
    int b, n, s, i;
    for (b = 0; b < B; ++b)
        for (n = 0; n < N; ++n)
            for (s = 0; s < q_lens[b]; ++s) {
                lse = naive_row(b, n, s, (int)q_lens[b], (int)kv_lens[b], o);
                worst = fmax(worst, fabs(lse - softmax_lse[b][n][s]));
                for (i = 0; i < D; ++i) worst = fmax(worst, fabs(f16(attention_out[b][s][n][i]) - o[i]));
            }
    return worst;
}

int main(void) {
    static const int64_t q_lens[B] = {5, 3}, kv_lens[B] = {40, 17};
    static const int64_t q_shape[4] = {B, S1, N, D}, kv_shape[4] = {B, S2, NKV, D}, mask_shape[2] = {2048, 2048};
    static unsigned char mask[2048][2048]; /* modes 2 to 4 check its shape and never read it */
    fia_fused_infer_attention_score_v2_args args;
    fia_plan plan;
    fia_report report;
    fia_status status;
    void *workspace;
    double error;
    fill(&query[0][0][0][0], sizeof(query) / 2);
    fill(&key[0][0][0][0], sizeof(key) / 2);
    fill(&value[0][0][0][0], sizeof(value) / 2);

    fia_fused_infer_attention_score_v2_init(&args);
    args.query = fia_tensor_make(query, FIA_F16, 4, q_shape);
    args.key = fia_tensor_make(key, FIA_F16, 4, kv_shape);
    args.value = fia_tensor_make(value, FIA_F16, 4, kv_shape);
    args.atten_mask = fia_tensor_make(mask, FIA_BOOL, 2, mask_shape);
    args.actual_seq_qlen.data = q_lens, args.actual_seq_qlen.count = B;
    args.actual_seq_kvlen.data = kv_lens, args.actual_seq_kvlen.count = B;
    args.input_layout = "BSND";
    args.num_query_heads = N, args.num_key_value_heads = NKV;
    args.softmax_scale = 1.0 / 8;
    args.sparse_mode = 3;
    args.return_softmax_lse = 1;
    if (fia_fused_infer_attention_score_v2_outputs(&args, &report)) return puts(report.text), 1; /* their shapes */
    args.attention_out.data = attention_out;
    args.softmax_lse.data = softmax_lse;

    if (fia_fused_infer_attention_score_v2_plan(NULL, &args, 1, &plan, &report)) return puts(report.text), 1;
    workspace = malloc(plan.workspace_bytes);
    if (!workspace) return 1;
    status = fia_fused_infer_attention_score_v2_run(&plan, &args, workspace, plan.workspace_bytes, NULL, &report);
    free(workspace);
    fia_plan_release(&plan);
    if (status) return puts(report.text), 1;
    error = largest_error(q_lens, kv_lens);
    printf("largest difference from plain loops: %.2g\n", error);
    return !(error < 2e-3); /* half a step of f16 beside 1 is 5e-4 */
}
