/* SPDX-License-Identifier: MIT */
#include "call.h"

#include <stdlib.h>
#include <string.h>

/* A file of a few bytes can ask for any size: a block may have this much, and so many times what the file stores. */
#ifndef BLOCK_BYTES
#define BLOCK_BYTES ((size_t)1 << 30)
#endif
#define BLOCK_FACTOR 16

/* ---- operators ---- */

const call_operator *const call_operators[] = {&call_attention, &call_fia_v2, NULL};

/* The operators of torch_npu's attention layer; one that is not above is not in this build. */
static const char *const known_operators[] = {
    "advance_step_flashattn",
    "chunk_gated_delta_rule",
    "dense_lightning_indexer_grad_kl_loss",
    "dense_lightning_indexer_softmax_lse",
    "fused_infer_attention_score",
    "fusion_attention",
    "fusion_attention_grad",
    "fusion_attention_grad_v2",
    "fusion_attention_grad_v3",
    "fusion_attention_v2",
    "fusion_attention_v3",
    "gelu_mul",
    "grouped_matmul_swiglu_quant_v2",
    "incre_flash_attention",
    "kv_quant_sparse_flash_attention",
    "lightning_indexer",
    "lightning_indexer_grad",
    "mla_prolog",
    "mla_prolog_v2",
    "mla_prolog_v3",
    "mla_prolog_v3_functional",
    "prompt_flash_attention",
    "quant_lightning_indexer",
    "recurrent_gated_delta_rule",
    "recurrent_gated_delta_rule_functional",
    "sim_exponential_",
    "sparse_flash_attention",
    "sparse_flash_attention_antiquant",
    "sparse_lightning_indexer_grad_kl_loss",
};

int call_is_known_operator(const char *name) {
    size_t i;
    for (i = 0; i < sizeof(known_operators) / sizeof(known_operators[0]); ++i) {
        if (!strcmp(known_operators[i], name)) return 1;
    }
    return 0;
}

/* ---- memory ---- */

static size_t stored_bytes(const st_file *file) {
    size_t i, bytes = 0;
    for (i = 0; i < file->n_tensors; ++i) bytes += (size_t)(file->tensors[i].end - file->tensors[i].begin);
    return bytes;
}

void *call_alloc(replay_call *call, size_t bytes) {
    void **blocks, *block;
    if (bytes > BLOCK_BYTES && (bytes - BLOCK_BYTES) / BLOCK_FACTOR > stored_bytes(call->file)) {
        (void)reason_set(&call->why, "the call needs %zu bytes in one block; too much for a file of this size", bytes);
        return NULL;
    }
    blocks = realloc(call->blocks, (call->n_blocks + 1) * sizeof(*blocks));
    block = malloc(bytes);
    if (blocks) call->blocks = blocks;
    if (!blocks || !block) {
        free(block);
        (void)reason_set(&call->why, "out of memory (%zu bytes)", bytes);
        return NULL;
    }
    call->blocks[call->n_blocks++] = block;
    return block;
}

/* NaN in every float type: a result that is not written shows. A refused call is checked against finite bytes. */
static int fill_byte(const replay_call *call) { return call->expect_error ? 0xA5 : 0xFF; }

call_status call_add_output(replay_call *call, const char *name, fia_tensor *tensor) {
    call_output *output = &call->outputs[call->n_outputs];
    const dtype_info *type = dtype_by_code(tensor->dtype);
    int64_t bytes = type ? dtype_tensor_bytes(type->bytes, tensor->ndim, tensor->shape) : -1;
    if (bytes < 0) {
        (void)reason_set(&call->why, "%s: its size overflows, or it has no element type of a file", name);
        return CALL_UNUSABLE;
    }
    tensor->data = call_alloc(call, (size_t)bytes);
    if (!tensor->data) return CALL_UNUSABLE;
    memset(tensor->data, fill_byte(call), (size_t)bytes);
    output->name = name;
    output->tensor = *tensor;
    output->bytes = (size_t)bytes;
    ++call->n_outputs;
    return CALL_OK;
}

int call_outputs_untouched(const replay_call *call) {
    int i;
    size_t j;
    for (i = 0; i < call->n_outputs; ++i) {
        const unsigned char *bytes = call->outputs[i].tensor.data;
        for (j = 0; j < call->outputs[i].bytes; ++j) {
            if (bytes[j] != fill_byte(call)) return 0;
        }
    }
    return 1;
}

call_status call_make_workspace(replay_call *call) {
    call->workspace = call_alloc(call, call->plan.workspace_bytes);
    if (!call->workspace) return CALL_UNUSABLE;
    memset(call->workspace, 0xFF, call->plan.workspace_bytes);
    return CALL_OK;
}

call_status call_result(fia_status status) { return status == FIA_OK ? CALL_OK : CALL_REFUSED; }

void call_end(replay_call *call) {
    size_t i;
    if (call->planned) fia_plan_release(&call->plan);
    for (i = 0; i < call->n_blocks; ++i) free(call->blocks[i]);
    free(call->blocks);
    call->blocks = NULL;
    call->n_blocks = 0;
}

/* ---- names ---- */

/* The index of "key.7" for the name "key", or -1. */
static int64_t list_index(const char *text, const char *name) {
    size_t n = strlen(name);
    int64_t index;
    if (strncmp(text, name, n) || text[n] != '.' || parse_int(text + n + 1, &index) || index < 0) return -1;
    if (text[n + 1] == '0' && text[n + 2]) return -1;
    return index;
}

static const st_tensor *list_item(const st_file *file, const char *name, int64_t index) {
    char text[80];
    (void)snprintf(text, sizeof(text), "%s.%lld", name, (long long)index);
    return st_find(file, text);
}

static int is_output(const call_operator *op, const char *name) {
    const char *const *output;
    for (output = op->outputs; *output; ++output) {
        if (!strcmp(*output, name)) return 1;
    }
    return 0;
}

static int check_tensor_name(const st_file *file, const call_operator *op, const char *name, reason *why) {
    const call_field *field;
    if (!strncmp(name, "expect.", 7)) {
        return is_output(op, name + 7) ? 0 : reason_set(why, "tensor \"%s\": no output of %s", name, op->name);
    }
    for (field = op->fields; field->kind != FIELD_END; ++field) {
        int64_t index = field->kind == FIELD_TENSORS ? list_index(name, field->name) : -1;
        int takes_tensor = field->kind == FIELD_TENSOR || field->kind == FIELD_TENSORS || field->kind == FIELD_INTS;
        if (takes_tensor && !strcmp(field->name, name)) return 0;
        if (index < 0) continue;
        if (index > 0 && !list_item(file, field->name, index - 1)) {
            return reason_set(why, "tensor \"%s\": there is no %s.%lld", name, field->name, (long long)index - 1);
        }
        if (st_find(file, field->name)) return reason_set(why, "tensor \"%s\" stands beside \"%s\"", name, field->name);
        return 0;
    }
    return reason_set(why, "unknown tensor \"%s\" for %s", name, op->name);
}

/* rtol.NAME and the like: 1 where the key has this prefix and NAME is an output, -1 where NAME is none. */
static int output_rule(const call_operator *op, const char *key, reason *why) {
    static const char *const prefixes[] = {"rtol.", "atol.", "max_bad.", "compare."};
    size_t i;
    for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); ++i) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(key, prefixes[i], n)) continue;
        return is_output(op, key + n) ? 1 : reason_set(why, "\"%s\": no output of %s", key, op->name);
    }
    return 0;
}

static int check_attribute_name(const st_file *file, const call_operator *op, const char *key, reason *why) {
    static const char *const common[] = {"op", "note", "expect_error", "expect_error_arg"};
    const call_field *field;
    size_t i;
    int rule = output_rule(op, key, why);
    if (rule) return rule < 0 ? -1 : 0;
    for (i = 0; i < sizeof(common) / sizeof(common[0]); ++i) {
        if (!strcmp(key, common[i])) return 0;
    }
    for (field = op->fields; field->kind != FIELD_END; ++field) {
        if (field->kind == FIELD_TENSOR) {
            if (strncmp(key, "triu.", 5) || strcmp(key + 5, field->name)) continue;
            return st_find(file, field->name) ? reason_set(why, "\"%s\" stands beside the tensor", key) : 0;
        }
        if (field->kind == FIELD_TENSORS || strcmp(key, field->name)) continue;
        if (field->kind == FIELD_INTS && st_find(file, key)) {
            return reason_set(why, "\"%s\" is an attribute and a tensor", key);
        }
        return 0;
    }
    return reason_set(why, "unknown attribute \"%s\" for %s", key, op->name);
}

int call_check_names(const st_file *file, const call_operator *op, reason *why) {
    size_t i;
    for (i = 0; i < file->n_tensors; ++i) {
        if (check_tensor_name(file, op, file->tensors[i].name, why)) return -1;
    }
    for (i = 0; i < file->n_metadata; ++i) {
        if (check_attribute_name(file, op, file->metadata[i].key, why)) return -1;
    }
    return 0;
}

/* ---- values ---- */

/* The value of an attribute went wrong: says which and what it should have been. */
static call_status bad_value(replay_call *call, const call_field *field, const char *text, const char *what) {
    (void)reason_set(&call->why, "attribute %s = \"%s\": %s", field->name, text, what);
    return CALL_UNUSABLE;
}

static fia_tensor tensor_of(const st_tensor *tensor) {
    return fia_tensor_make(tensor->data, tensor->type->dtype, tensor->ndim, tensor->shape);
}

/* Parses "BOOL:1,1,2048,2048" into type and shape. */
static int parse_triu(const char *text, const dtype_info **type, fia_tensor *tensor) {
    const char *colon = strchr(text, ':');
    char name[16];
    size_t n = colon ? (size_t)(colon - text) : sizeof(name), dims;
    if (n >= sizeof(name)) return -1;
    memcpy(name, text, n);
    name[n] = 0;
    *type = dtype_by_name(name);
    dims = text_list_count(colon + 1);
    if (!*type || dims < 2 || dims > ST_MAX_DIMS || parse_int_list(colon + 1, tensor->shape)) return -1;
    tensor->ndim = (int32_t)dims;
    return 0;
}

/* Ones strictly above the diagonal of the last two axes. */
static void fill_triu(const dtype_info *type, const fia_tensor *tensor, int64_t bytes) {
    int64_t columns = tensor->shape[tensor->ndim - 1], rows = tensor->shape[tensor->ndim - 2], i, j;
    int64_t n = bytes / (int64_t)type->bytes;
    memset(tensor->data, 0, (size_t)bytes);
    for (i = 0; columns && i < n / columns; ++i) {
        char *row = (char *)tensor->data + i * columns * (int64_t)type->bytes;
        for (j = i % rows + 1; j < columns; ++j) memcpy(row + j * (int64_t)type->bytes, &type->one, type->bytes);
    }
}

static call_status bind_triu(replay_call *call, const call_field *field, const char *text, fia_tensor *tensor) {
    const dtype_info *type;
    fia_tensor shape;
    int64_t bytes;
    void *data;
    memset(&shape, 0, sizeof(shape));
    if (parse_triu(text, &type, &shape)) return bad_value(call, field, text, "triu takes DTYPE:d0,d1,...");
    bytes = dtype_tensor_bytes(type->bytes, shape.ndim, shape.shape);
    if (bytes < 0) return bad_value(call, field, text, "the element count overflows");
    data = call_alloc(call, (size_t)bytes);
    if (!data) return CALL_UNUSABLE;
    *tensor = fia_tensor_make(data, type->dtype, shape.ndim, shape.shape);
    fill_triu(type, tensor, bytes);
    return CALL_OK;
}

static call_status bind_tensor(replay_call *call, const call_field *field, fia_tensor *tensor) {
    char key[96];
    const st_tensor *stored = st_find(call->file, field->name);
    const char *triu;
    if (stored) {
        *tensor = tensor_of(stored);
        return CALL_OK;
    }
    (void)snprintf(key, sizeof(key), "triu.%s", field->name);
    triu = st_metadata(call->file, key);
    return triu ? bind_triu(call, field, triu, tensor) : CALL_OK;
}

/* How many tensors the longest of the lists has. */
static int64_t longest_list(const st_file *file, const call_field *fields) {
    const call_field *field;
    int64_t longest = 0;
    for (field = fields; field->kind != FIELD_END; ++field) {
        if (field->kind != FIELD_TENSORS) continue;
        while (list_item(file, field->name, longest)) ++longest;
    }
    return longest;
}

/* A list that is shorter than another ends with absent tensors: the operator has one count for all. */
static call_status bind_tensors(replay_call *call, const call_field *field, int64_t longest, char *arguments) {
    const fia_tensor *absent = (const fia_tensor *)(const void *)(arguments + field->at);
    fia_tensor *list;
    int64_t i;
    if (st_find(call->file, field->name)) {
        return bind_tensor(call, field, (fia_tensor *)(void *)(arguments + field->at));
    }
    if (!list_item(call->file, field->name, 0)) return CALL_OK;
    list = call_alloc(call, (size_t)longest * sizeof(*list));
    if (!list) return CALL_UNUSABLE;
    for (i = 0; i < longest; ++i) {
        const st_tensor *stored = list_item(call->file, field->name, i);
        list[i] = stored ? tensor_of(stored) : *absent;
    }
    memcpy(arguments + field->list_at, &list, sizeof(list));
    memcpy(arguments + field->count_at, &longest, sizeof(longest));
    return CALL_OK;
}

static call_status bind_ints(replay_call *call, const call_field *field, const char *text, char *arguments) {
    const st_tensor *stored = st_find(call->file, field->name);
    fia_int_list list;
    int64_t *values;
    if (stored) {
        *(fia_tensor *)(void *)(arguments + field->list_at) = tensor_of(stored);
        return CALL_OK;
    }
    if (!text) return CALL_OK;
    list.count = (int64_t)text_list_count(text);
    values = call_alloc(call, (size_t)list.count * sizeof(*values));
    if (!values) return CALL_UNUSABLE;
    if (parse_int_list(text, values)) return bad_value(call, field, text, "takes integers, comma-separated");
    list.data = values;
    memcpy(arguments + field->at, &list, sizeof(list));
    return CALL_OK;
}

static call_status bind_dtype(replay_call *call, const call_field *field, const char *text, fia_dtype *dtype) {
    const dtype_info *type = dtype_by_name(text);
    if (field->kind == FIELD_ELEMENT) {
        if (!type) return bad_value(call, field, text, "takes an element type such as F32");
        *dtype = type->dtype;
    } else if (!strcmp(text, "int8")) {
        *dtype = FIA_I8;
    } else if (!strcmp(text, "float8_e4m3fn")) {
        *dtype = FIA_F8_E4M3;
    } else if (!strcmp(text, "hifloat8")) {
        *dtype = FIA_HIF8;
    } else {
        return bad_value(call, field, text, "takes int8, float8_e4m3fn or hifloat8");
    }
    return CALL_OK;
}

static call_status bind_text(replay_call *call, const call_field *field, const char *text, char *at) {
    int flag;
    switch (field->kind) {
    case FIELD_INT:
        return parse_int(text, (int64_t *)(void *)at) ? bad_value(call, field, text, "takes an integer") : CALL_OK;
    case FIELD_FLOAT:
        return parse_float(text, (double *)(void *)at) ? bad_value(call, field, text, "takes a number") : CALL_OK;
    case FIELD_BOOL:
        if (parse_bool(text, &flag)) return bad_value(call, field, text, "takes 0 or 1");
        *(int32_t *)(void *)at = flag;
        return CALL_OK;
    case FIELD_TEXT: memcpy(at, &text, sizeof(text)); return CALL_OK;
    default: return bind_dtype(call, field, text, (fia_dtype *)(void *)at);
    }
}

call_status call_bind(replay_call *call, const call_field *fields, void *arguments) {
    int64_t longest = longest_list(call->file, fields);
    const call_field *field;
    for (field = fields; field->kind != FIELD_END; ++field) {
        char *at = (char *)arguments + field->at;
        const char *text = st_metadata(call->file, field->name);
        call_status status = CALL_OK;
        if (field->kind == FIELD_TENSOR) status = bind_tensor(call, field, (fia_tensor *)(void *)at);
        else if (field->kind == FIELD_TENSORS) status = bind_tensors(call, field, longest, arguments);
        else if (field->kind == FIELD_INTS) status = bind_ints(call, field, text, arguments);
        else if (text) status = bind_text(call, field, text, at);
        if (status != CALL_OK) return status;
    }
    return CALL_OK;
}
