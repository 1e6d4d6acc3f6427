/* SPDX-License-Identifier: MIT */
/* op = fused_infer_attention_score_v2: names of the file are members of the operator's arguments. */
#include <string.h>

#include "call.h"

typedef fia_fused_infer_attention_score_v2_args v2_args;

#define AT(member) offsetof(v2_args, member), 0, 0
#define TENSOR(member)                                                                                                 \
    { #member, FIELD_TENSOR, AT(member) }
#define INT(member)                                                                                                    \
    { #member, FIELD_INT, AT(member) }
#define DTYPE(member)                                                                                                  \
    { #member, FIELD_DTYPE, AT(member) }
#define INTS(member)                                                                                                   \
    { #member, FIELD_INTS, offsetof(v2_args, member), offsetof(v2_args, member##_tensor), 0 }
#define TENSORS(member)                                                                                                \
    {                                                                                                                  \
#member, FIELD_TENSORS, offsetof(v2_args, member), offsetof(v2_args, member##_list),                           \
            offsetof(v2_args, list_count)                                                                              \
    }

static const call_field fields[] = {
    TENSOR(query),
    TENSORS(key),
    TENSORS(value),
    TENSOR(query_rope),
    TENSOR(key_rope),
    TENSOR(pse_shift),
    TENSOR(atten_mask),
    INTS(actual_seq_qlen),
    INTS(actual_seq_kvlen),
    TENSOR(block_table),
    TENSOR(dequant_scale_query),
    TENSOR(dequant_scale_key),
    TENSOR(dequant_offset_key),
    TENSOR(dequant_scale_value),
    TENSOR(dequant_offset_value),
    TENSOR(dequant_scale_key_rope),
    TENSOR(quant_scale_out),
    TENSOR(quant_offset_out),
    TENSOR(quant_scale_p),
    TENSOR(learnable_sink),
    INT(num_query_heads),
    INT(num_key_value_heads),
    {"softmax_scale", FIELD_FLOAT, AT(softmax_scale)},
    INT(pre_tokens),
    INT(next_tokens),
    {"input_layout", FIELD_TEXT, AT(input_layout)},
    INT(sparse_mode),
    INT(block_size),
    INT(query_quant_mode),
    INT(key_quant_mode),
    INT(value_quant_mode),
    INT(inner_precise),
    {"return_softmax_lse", FIELD_BOOL, AT(return_softmax_lse)},
    DTYPE(query_dtype),
    DTYPE(key_dtype),
    DTYPE(value_dtype),
    DTYPE(key_rope_dtype),
    DTYPE(query_rope_dtype),
    DTYPE(key_shared_prefix_dtype),
    DTYPE(value_shared_prefix_dtype),
    DTYPE(dequant_scale_query_dtype),
    DTYPE(dequant_scale_key_dtype),
    DTYPE(dequant_scale_value_dtype),
    DTYPE(dequant_scale_key_rope_dtype),
    DTYPE(out_dtype),
    {NULL, FIELD_END, 0, 0, 0},
};

static const char *const outputs[] = {"attention_out", "softmax_lse", NULL};

static call_status plan(replay_call *call) {
    v2_args *args = call_alloc(call, sizeof(*args));
    const int64_t one = 1;
    call_status status;
    if (!args) return CALL_UNUSABLE;
    call->arguments = args;
    fia_fused_infer_attention_score_v2_init(args);
    status = call_bind(call, fields, args);
    if (status == CALL_OK) status = call_result(fia_fused_infer_attention_score_v2_outputs(args, &call->report));
    if (status == CALL_OK) status = call_add_output(call, outputs[0], &args->attention_out);
    /* torch_npu returns two tensors either way: without the flag the second is one 0 */
    if (!args->return_softmax_lse) args->softmax_lse = fia_tensor_make(NULL, FIA_F32, 1, &one);
    if (status == CALL_OK) status = call_add_output(call, outputs[1], &args->softmax_lse);
    if (status != CALL_OK) return status;
    status =
        call_result(fia_fused_infer_attention_score_v2_plan(NULL, args, call->max_workers, &call->plan, &call->report));
    if (status != CALL_OK) return status;
    call->planned = 1;
    return call_make_workspace(call);
}

static call_status run(replay_call *call) {
    size_t bytes = call->plan.workspace_bytes;
    return call_result(fia_fused_infer_attention_score_v2_run(&call->plan, call->arguments, call->workspace, bytes,
                                                              call->workers, &call->report));
}

const call_operator call_fia_v2 = {"fused_infer_attention_score_v2", fields, outputs, plan, run};
