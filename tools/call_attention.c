/* SPDX-License-Identifier: MIT */
/* op = attention: a call of the engine door. What the file says in tensors becomes views of a fia_problem. */
#include <math.h>
#include <string.h>

#include "call.h"

typedef struct attention_args {
    const char *layout, *page_layout;
    fia_tensor query, key, value, query_rope, key_rope, block_table;
    fia_tensor bias, additive_mask, drop_mask, alibi_slopes, mask_factor, sinks;
    fia_int_list q_lens, kv_lens, q_offset, kv_offset;
    fia_tensor q_lens_tensor, kv_lens_tensor, q_offset_tensor, kv_offset_tensor;
    int64_t value_dim, window_left, window_right;
    double scale, softcap;
    int32_t causal, bias_before_scale;
    fia_dtype out_dtype;
    fia_problem problem;
    fia_io io;
} attention_args;

#define AT(member) offsetof(attention_args, member), 0, 0
#define TENSOR(member)                                                                                                 \
    { #member, FIELD_TENSOR, AT(member) }
#define INTS(member)                                                                                                   \
    { #member, FIELD_INTS, offsetof(attention_args, member), offsetof(attention_args, member##_tensor), 0 }

static const call_field fields[] = {
    {"layout", FIELD_TEXT, AT(layout)},
    {"page_layout", FIELD_TEXT, AT(page_layout)},
    TENSOR(query),
    TENSOR(key),
    TENSOR(value),
    TENSOR(query_rope),
    TENSOR(key_rope),
    TENSOR(block_table),
    TENSOR(bias),
    TENSOR(additive_mask),
    TENSOR(drop_mask),
    TENSOR(alibi_slopes),
    TENSOR(mask_factor),
    TENSOR(sinks),
    INTS(q_lens),
    INTS(kv_lens),
    INTS(q_offset),
    INTS(kv_offset),
    {"value_dim", FIELD_INT, AT(value_dim)},
    {"window_left", FIELD_INT, AT(window_left)},
    {"window_right", FIELD_INT, AT(window_right)},
    {"scale", FIELD_FLOAT, AT(scale)},
    {"softcap", FIELD_FLOAT, AT(softcap)},
    {"causal", FIELD_BOOL, AT(causal)},
    {"bias_before_scale", FIELD_BOOL, AT(bias_before_scale)},
    {"out_dtype", FIELD_ELEMENT, AT(out_dtype)},
    {NULL, FIELD_END, 0, 0, 0},
};

static const char *const outputs[] = {"out", "lse", NULL};

enum { ABSENT = -1 };
#define NO_VALUE_DIM INT64_MIN

/* Which axis of a tensor is what; the elements are the last one. */
typedef struct axes {
    int ndim, outer, row, head; /* outer: sequence or page; ABSENT when packed */
} axes;

/* ---- refusals: shapes that the engine door cannot see, because it takes views ---- */

static call_status refuse(replay_call *call, const char *name, const char *value, const char *allowed) {
    call->report.status = FIA_ERR_ARGUMENT;
    (void)snprintf(call->report.text, sizeof(call->report.text), "%s is %s; %s", name, value ? value : "absent",
                   allowed);
    return CALL_REFUSED;
}

static call_status refuse_size(replay_call *call, const char *name, const char *what, int64_t value, int64_t allowed) {
    call->report.status = FIA_ERR_ARGUMENT;
    (void)snprintf(call->report.text, sizeof(call->report.text), "%s: %s is %lld; must be %lld", name, what,
                   (long long)value, (long long)allowed);
    return CALL_REFUSED;
}

static int is_absent(const fia_tensor *tensor) { return !tensor->data && !tensor->ndim; }

/* A size of -1 may be anything. */
static call_status check_shape(replay_call *call, const char *name, const fia_tensor *tensor, const axes *ax,
                               const int64_t sizes[4]) {
    static const char *const words[] = {"outermost size", "rows", "heads", "elements of a row"};
    int at[4], i;
    if (is_absent(tensor)) return refuse(call, name, NULL, "the call needs it");
    if (tensor->ndim != ax->ndim) return refuse_size(call, name, "rank", tensor->ndim, ax->ndim);
    at[0] = ax->outer;
    at[1] = ax->row;
    at[2] = ax->head;
    at[3] = ax->ndim - 1;
    for (i = 0; i < 4; ++i) {
        if (at[i] == ABSENT || sizes[i] < 0 || tensor->shape[at[i]] == sizes[i]) continue;
        return refuse_size(call, name, words[i], tensor->shape[at[i]], sizes[i]);
    }
    if (tensor->shape[ax->head] > INT32_MAX || tensor->shape[ax->ndim - 1] > INT32_MAX) {
        return refuse(call, name, "too large", "heads and elements of a row are at most 2147483647");
    }
    return CALL_OK;
}

static call_status check_vector(replay_call *call, const char *name, const fia_tensor *tensor, int64_t n) {
    if (is_absent(tensor)) return CALL_OK;
    if (tensor->ndim != 1) return refuse_size(call, name, "rank", tensor->ndim, 1);
    return tensor->shape[0] == n ? CALL_OK : refuse_size(call, name, "count", tensor->shape[0], n);
}

/* ---- layouts ---- */

static call_status query_axes(replay_call *call, const char *layout, axes *ax) {
    static const axes bshd = {4, 0, 1, 2}, bhsd = {4, 0, 2, 1}, thd = {3, ABSENT, 0, 1};
    if (!strcmp(layout, "bshd")) *ax = bshd;
    else if (!strcmp(layout, "bhsd")) *ax = bhsd;
    else if (!strcmp(layout, "thd")) *ax = thd;
    else return refuse(call, "layout", layout, "must be bshd, bhsd or thd");
    return CALL_OK;
}

static call_status key_axes(replay_call *call, const attention_args *args, const axes *query, axes *ax) {
    static const axes pshd = {4, 0, 1, 2}, phsd = {4, 0, 2, 1};
    *ax = *query;
    if (is_absent(&args->block_table)) {
        return args->page_layout ? refuse(call, "page_layout", args->page_layout, "it needs block_table") : CALL_OK;
    }
    if (args->page_layout && !strcmp(args->page_layout, "pshd")) *ax = pshd;
    else if (args->page_layout && !strcmp(args->page_layout, "phsd")) *ax = phsd;
    else return refuse(call, "page_layout", args->page_layout, "with block_table it must be pshd or phsd");
    return CALL_OK;
}

static void set_view(fia_view *view, const fia_tensor *tensor, const axes *ax) {
    ptrdiff_t bytes = (ptrdiff_t)fia_dtype_bytes(tensor->dtype);
    view->dtype = tensor->dtype;
    view->sequence_bytes = ax->outer == ABSENT ? 0 : (ptrdiff_t)tensor->stride[ax->outer] * bytes;
    view->row_bytes = (ptrdiff_t)tensor->stride[ax->row] * bytes;
    view->head_bytes = (ptrdiff_t)tensor->stride[ax->head] * bytes;
}

/* ---- lengths and offsets ---- */

/* A list of the file, in text or as a tensor, as io takes it. *count is -1 where it is absent. */
static call_status set_ints(replay_call *call, const char *name, const fia_int_list *list, const fia_tensor *tensor,
                            fia_ints *ints, int64_t *count) {
    *count = -1;
    if (list->data) {
        ints->data = list->data;
        ints->dtype = FIA_I64;
        ints->stride_bytes = (ptrdiff_t)sizeof(int64_t);
        *count = list->count;
    } else if (!is_absent(tensor)) {
        if (tensor->dtype != FIA_I32 && tensor->dtype != FIA_I64) {
            return refuse(call, name, dtype_by_code(tensor->dtype)->name, "must be I32 or I64");
        }
        if (tensor->ndim != 1) return refuse_size(call, name, "rank", tensor->ndim, 1);
        ints->data = tensor->data;
        ints->dtype = tensor->dtype;
        ints->stride_bytes = (ptrdiff_t)fia_dtype_bytes(tensor->dtype);
        *count = tensor->shape[0];
    }
    return CALL_OK;
}

/* Every list has one value per sequence; packed queries have as many sequences as q_lens says. */
static call_status set_lists(replay_call *call, attention_args *args) {
    fia_problem *p = &args->problem;
    fia_io *io = &args->io;
    const struct {
        const char *name;
        const fia_int_list *list;
        const fia_tensor *tensor;
        fia_ints *ints;
    } lists[] = {
        {"q_lens", &args->q_lens, &args->q_lens_tensor, &io->q_lens},
        {"kv_lens", &args->kv_lens, &args->kv_lens_tensor, &io->kv_lens},
        {"q_offset", &args->q_offset, &args->q_offset_tensor, &io->q_offset},
        {"kv_offset", &args->kv_offset, &args->kv_offset_tensor, &io->kv_offset},
    };
    size_t i;
    for (i = 0; i < sizeof(lists) / sizeof(lists[0]); ++i) {
        int64_t count;
        call_status status = set_ints(call, lists[i].name, lists[i].list, lists[i].tensor, lists[i].ints, &count);
        if (status != CALL_OK) return status;
        if (i == 0 && p->q_packed) {
            if (count < 0) return refuse(call, "q_lens", NULL, "layout thd needs it");
            p->n_sequences = count;
        }
        if (count >= 0 && count != p->n_sequences) {
            return refuse_size(call, lists[i].name, "count", count, p->n_sequences);
        }
    }
    if ((p->q_packed || !is_absent(&args->block_table)) && !io->kv_lens.data) {
        return refuse(call, "kv_lens", NULL, "layout thd and block_table need it");
    }
    io->n_sequences = p->n_sequences;
    return CALL_OK;
}

/* The longest length, but no more than there is room for: a longer one is the library's to refuse. */
static int64_t longest(const fia_ints *ints, int64_t n, int64_t room) {
    int64_t most = 0, i;
    if (!ints->data) return room;
    for (i = 0; i < n; ++i) {
        int64_t length = dtype_integer(ints->dtype, ints->data, (size_t)i);
        if (length > most) most = length;
    }
    return most < room ? most : room;
}

/* ---- the problem, part by part ---- */

static call_status set_query(replay_call *call, attention_args *args, const axes *ax) {
    fia_problem *p = &args->problem;
    const fia_tensor *q = &args->query;
    call_status status = check_shape(call, "query", q, ax, (const int64_t[]){-1, -1, -1, -1});
    if (status != CALL_OK) return status;
    p->n_sequences = ax->outer == ABSENT ? 0 : q->shape[ax->outer];
    p->n_q_heads = (int32_t)q->shape[ax->head];
    p->dim = (int32_t)q->shape[ax->ndim - 1];
    p->q_packed = ax->outer == ABSENT;
    p->total_q = p->q_packed ? q->shape[ax->row] : 0;
    set_view(&p->query, q, ax);
    args->io.query = q->data;
    status = set_lists(call, args);
    if (status != CALL_OK) return status;
    p->max_q_len = longest(&args->io.q_lens, p->n_sequences, q->shape[ax->row]);
    return CALL_OK;
}

static call_status set_pages(replay_call *call, attention_args *args, const axes *ax, int64_t *room) {
    fia_problem *p = &args->problem;
    const fia_tensor *table = &args->block_table;
    if (table->dtype != FIA_I32) return refuse(call, "block_table", dtype_by_code(table->dtype)->name, "must be I32");
    if (table->ndim != 2) return refuse_size(call, "block_table", "rank", table->ndim, 2);
    if (table->shape[0] != p->n_sequences) {
        return refuse_size(call, "block_table", "rows", table->shape[0], p->n_sequences);
    }
    p->keys = FIA_KEYS_PAGED;
    p->page_size = args->key.shape[ax->row];
    p->n_pages = args->key.shape[ax->outer];
    p->table_columns = table->shape[1];
    args->io.block_table = table->data;
    *room = p->page_size && p->table_columns > INT64_MAX / p->page_size ? INT64_MAX : p->table_columns * p->page_size;
    return CALL_OK;
}

static call_status set_key(replay_call *call, attention_args *args, const axes *ax) {
    fia_problem *p = &args->problem;
    const fia_tensor *k = &args->key;
    int paged = !is_absent(&args->block_table);
    int64_t room;
    call_status status =
        check_shape(call, "key", k, ax, (const int64_t[]){paged ? -1 : p->n_sequences, -1, -1, p->dim});
    if (status != CALL_OK) return status;
    room = k->shape[ax->row];
    if (paged) status = set_pages(call, args, ax, &room);
    if (status != CALL_OK) return status;
    p->kv_packed = ax->outer == ABSENT;
    p->total_kv = p->kv_packed ? k->shape[ax->row] : 0;
    p->n_kv_heads = (int32_t)k->shape[ax->head];
    p->max_kv_len = longest(&args->io.kv_lens, p->n_sequences, room);
    set_view(&p->key, k, ax);
    args->io.key = k->data;
    return CALL_OK;
}

static call_status set_rope(replay_call *call, attention_args *args, const axes *query, const axes *key) {
    fia_problem *p = &args->problem;
    const int64_t *q = args->query.shape, *k = args->key.shape;
    call_status status;
    if (is_absent(&args->query_rope) && is_absent(&args->key_rope)) return CALL_OK;
    status = check_shape(call, "query_rope", &args->query_rope, query,
                         (const int64_t[]){q[0], q[query->row], p->n_q_heads, -1});
    if (status != CALL_OK) return status;
    p->rope_dim = (int32_t)args->query_rope.shape[query->ndim - 1];
    status = check_shape(call, "key_rope", &args->key_rope, key,
                         (const int64_t[]){k[0], k[key->row], p->n_kv_heads, p->rope_dim});
    if (status != CALL_OK) return status;
    set_view(&p->query_rope, &args->query_rope, query);
    set_view(&p->key_rope, &args->key_rope, key);
    args->io.query_rope = args->query_rope.data;
    args->io.key_rope = args->key_rope.data;
    return CALL_OK;
}

static call_status set_value(replay_call *call, attention_args *args, const axes *ax) {
    fia_problem *p = &args->problem;
    const int64_t *k = args->key.shape;
    const fia_tensor *v = &args->value;
    char text[24];
    call_status status;
    (void)snprintf(text, sizeof(text), "%lld", (long long)args->value_dim);
    if (is_absent(v)) {
        if (args->value_dim == NO_VALUE_DIM) return refuse(call, "value_dim", NULL, "without value it is needed");
        if (args->value_dim < 1 || args->value_dim > p->dim) {
            return refuse(call, "value_dim", text, "must be 1 .. elements of a key row");
        }
        p->value_in_key = 1;
        p->value_dim = (int32_t)args->value_dim;
        return CALL_OK;
    }
    status = check_shape(call, "value", v, ax, (const int64_t[]){k[0], k[ax->row], p->n_kv_heads, -1});
    if (status != CALL_OK) return status;
    p->value_dim = (int32_t)v->shape[ax->ndim - 1];
    if (args->value_dim != NO_VALUE_DIM && args->value_dim != p->value_dim) {
        return refuse(call, "value_dim", text, "beside value it must be the elements of a value row");
    }
    set_view(&p->value, v, ax);
    args->io.value = v->data;
    return CALL_OK;
}

static call_status set_mask(replay_call *call, const char *name, const fia_tensor *tensor, fia_mask_view *view,
                            const void **data) {
    const attention_args *args = call->arguments;
    ptrdiff_t bytes = (ptrdiff_t)fia_dtype_bytes(tensor->dtype);
    int64_t sequences = args->problem.n_sequences, heads = args->problem.n_q_heads;
    if (is_absent(tensor)) return CALL_OK;
    if (tensor->ndim != 4) return refuse_size(call, name, "rank", tensor->ndim, 4);
    if (tensor->shape[0] != 1 && tensor->shape[0] != sequences) {
        return refuse_size(call, name, "outermost size", tensor->shape[0], sequences);
    }
    if (tensor->shape[1] != 1 && tensor->shape[1] != heads) {
        return refuse_size(call, name, "heads", tensor->shape[1], heads);
    }
    view->dtype = tensor->dtype;
    view->rows = tensor->shape[2];
    view->keys = tensor->shape[3];
    view->sequence_bytes = tensor->shape[0] == 1 ? 0 : (ptrdiff_t)tensor->stride[0] * bytes;
    view->head_bytes = tensor->shape[1] == 1 ? 0 : (ptrdiff_t)tensor->stride[1] * bytes;
    view->row_bytes = (ptrdiff_t)tensor->stride[2] * bytes;
    *data = tensor->data;
    return CALL_OK;
}

static call_status set_per_head(replay_call *call, const char *name, const fia_tensor *tensor, fia_dtype *dtype,
                                const void **data) {
    const attention_args *args = call->arguments;
    *dtype = is_absent(tensor) ? FIA_NONE : tensor->dtype;
    *data = tensor->data;
    return check_vector(call, name, tensor, args->problem.n_q_heads);
}

static call_status set_modifiers(replay_call *call, attention_args *args) {
    fia_problem *p = &args->problem;
    fia_io *io = &args->io;
    call_status status = set_mask(call, "bias", &args->bias, &p->bias, &io->bias);
    if (status == CALL_OK) {
        status = set_mask(call, "additive_mask", &args->additive_mask, &p->additive_mask, &io->additive_mask);
    }
    if (status == CALL_OK) status = set_mask(call, "drop_mask", &args->drop_mask, &p->drop_mask, &io->drop_mask);
    if (status == CALL_OK) {
        status = set_per_head(call, "mask_factor", &args->mask_factor, &p->mask_factor, &io->mask_factor);
    }
    if (status == CALL_OK) {
        status = set_per_head(call, "alibi_slopes", &args->alibi_slopes, &p->alibi_slopes, &io->alibi_slopes);
    }
    if (status == CALL_OK) status = set_per_head(call, "sinks", &args->sinks, &p->sinks, &io->sinks);
    if (status == CALL_OK && st_metadata(call->file, "scale") && isnan(args->scale))
        status = refuse(call, "scale", st_metadata(call->file, "scale"), "a number is needed");
    if (status == CALL_OK && args->softcap > 0 && (float)args->softcap == 0)
        status = refuse(call, "softcap", st_metadata(call->file, "softcap"), "it is 0 as f32, which means off");
    p->scale = (float)args->scale;
    p->softcap = (float)args->softcap;
    p->causal = args->causal;
    p->window_left = args->window_left;
    p->window_right = args->window_right;
    p->bias_before_scale = args->bias_before_scale;
    return status;
}

/* out as the query with Dv elements; lse (B, Hq, Sq) or (T, Hq). Both hold their empty values before the run. */
static call_status set_outputs(replay_call *call, attention_args *args, const axes *ax) {
    fia_problem *p = &args->problem;
    const int64_t *q = args->query.shape;
    int64_t out_shape[4], lse_shape[3];
    fia_tensor out, lse;
    size_t i;
    memcpy(out_shape, q, sizeof(out_shape));
    out_shape[ax->ndim - 1] = p->value_dim;
    lse_shape[0] = q[0];
    lse_shape[1] = p->n_q_heads;
    lse_shape[2] = p->q_packed ? 1 : q[ax->row];
    out = fia_tensor_make(NULL, args->out_dtype, ax->ndim, out_shape);
    lse = fia_tensor_make(NULL, FIA_F32, p->q_packed ? 2 : 3, lse_shape);
    if (call_add_output(call, outputs[0], &out) != CALL_OK || call_add_output(call, outputs[1], &lse) != CALL_OK) {
        return CALL_UNUSABLE;
    }
    set_view(&p->out, &out, ax);
    p->want_lse = 1;
    p->lse_sequence_bytes = p->q_packed ? 0 : (ptrdiff_t)(lse.stride[0] * (int64_t)sizeof(float));
    p->lse_head_bytes = (ptrdiff_t)(lse.stride[1] * (int64_t)sizeof(float));
    p->lse_row_bytes = (ptrdiff_t)((p->q_packed ? lse.stride[0] : lse.stride[2]) * (int64_t)sizeof(float));
    args->io.out = out.data;
    args->io.lse = lse.data;
    if (call->expect_error) return CALL_OK;
    memset(out.data, 0, call->outputs[0].bytes);
    for (i = 0; i < call->outputs[1].bytes / sizeof(float); ++i) ((float *)lse.data)[i] = -INFINITY;
    return CALL_OK;
}

/* ---- the call ---- */

static call_status lower(replay_call *call, attention_args *args) {
    axes query, key;
    call_status status = query_axes(call, args->layout, &query);
    if (status == CALL_OK) status = key_axes(call, args, &query, &key);
    if (status == CALL_OK) status = set_query(call, args, &query);
    if (status == CALL_OK) status = set_key(call, args, &key);
    if (status == CALL_OK) status = set_rope(call, args, &query, &key);
    if (status == CALL_OK) status = set_value(call, args, &key);
    if (status == CALL_OK) status = set_modifiers(call, args);
    if (status == CALL_OK) status = set_outputs(call, args, &query);
    return status;
}

/* The library names fields of the problem; the file knows the tensors that they came from. */
static call_status library_result(replay_call *call, fia_status status) {
    static const char *const names[][2] = {
        {"n_sequences", "query"},
        {"max_q_len", "query"},
        {"total_q", "query"},
        {"n_q_heads", "query"},
        {"dim", "query"},
        {"max_kv_len", "key"},
        {"total_kv", "key"},
        {"n_kv_heads", "key"},
        {"rope_dim", "query_rope"},
        {"page_size", "key"},
        {"n_pages", "key"},
        {"out.dtype", "out_dtype"},
        {"table_columns", "block_table"},
    };
    fia_report old = call->report;
    size_t i;
    for (i = 0; status != FIA_OK && i < sizeof(names) / sizeof(names[0]); ++i) {
        size_t n = strlen(names[i][0]);
        if (strncmp(old.text, names[i][0], n) || old.text[n] != ' ') continue;
        (void)snprintf(call->report.text, sizeof(call->report.text), "%s: %.200s", names[i][1], old.text);
    }
    return status == FIA_OK ? CALL_OK : CALL_REFUSED;
}

static call_status plan(replay_call *call) {
    attention_args *args = call_alloc(call, sizeof(*args));
    call_status status;
    if (!args) return CALL_UNUSABLE;
    call->arguments = args;
    memset(args, 0, sizeof(*args));
    args->layout = "bshd";
    args->value_dim = NO_VALUE_DIM;
    args->window_left = args->window_right = FIA_UNBOUNDED;
    args->scale = (double)NAN;
    args->out_dtype = FIA_F32;
    fia_problem_init(&args->problem);
    fia_io_init(&args->io);
    status = call_bind(call, fields, args);
    if (status == CALL_OK) status = lower(call, args);
    if (status == CALL_OK) {
        const fia_status made = fia_plan_make(NULL, &args->problem, call->max_workers, &call->plan, &call->report);
        status = library_result(call, made);
    }
    if (status != CALL_OK) return status;
    call->planned = 1;
    return call_make_workspace(call);
}

static call_status run(replay_call *call) {
    const attention_args *args = call->arguments;
    fia_job job;
    job.plan = &call->plan;
    job.io = &args->io;
    job.workspace = call->workspace;
    job.workspace_bytes = call->plan.workspace_bytes;
    return library_result(call, fia_run(&job, call->workers, &call->report));
}

const call_operator call_attention = {"attention", fields, outputs, plan, run};
