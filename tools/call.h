/* SPDX-License-Identifier: MIT */
/* One operator call: how the names of a replay file become the arguments of a library call. */
#ifndef REPLAY_CALL_H
#define REPLAY_CALL_H

#include "fia.h"
#include "safetensors.h"
#include "text.h"

typedef enum call_status {
    CALL_OK,
    CALL_REFUSED, /**< the library says no: see call.report */
    CALL_UNUSABLE /**< the file is no call of this operator: see call.why */
} call_status;

/** What a name of the file is to the operator, and which member of its arguments it fills. */
typedef enum field_kind {
    FIELD_END,
    FIELD_TENSOR,  /**< fia_tensor; also by triu.NAME */
    FIELD_TENSORS, /**< the same, or NAME.0, NAME.1, ... : list_at is a const fia_tensor *, count_at an int64_t */
    FIELD_INT,     /**< int64_t */
    FIELD_INTS,    /**< a list as text: fia_int_list; or as an I32 or I64 tensor: fia_tensor at list_at */
    FIELD_FLOAT,   /**< double */
    FIELD_BOOL,    /**< int32_t */
    FIELD_TEXT,    /**< const char * */
    FIELD_ELEMENT, /**< fia_dtype, spelled as in safetensors: "BF16" */
    FIELD_DTYPE    /**< fia_dtype, spelled as in torch: "int8" */
} field_kind;

typedef struct call_field {
    const char *name;
    field_kind kind;
    size_t at, list_at, count_at; /**< offsets in the argument structure */
} call_field;

enum { CALL_MAX_OUTPUTS = 4 };

typedef struct call_output {
    const char *name;
    fia_tensor tensor;
    size_t bytes;
} call_output;

typedef struct replay_call {
    const st_file *file;
    int max_workers;
    const fia_workers *workers; /**< NULL: serial */
    int expect_error;
    call_output outputs[CALL_MAX_OUTPUTS];
    int n_outputs;
    fia_plan plan;
    int planned; /**< 1: the plan is to be released */
    void *workspace;
    void *arguments; /**< the operator's own */
    fia_report report;
    reason why;
    void **blocks; /**< everything that call_alloc gave */
    size_t n_blocks;
} replay_call;

/** An operator that this program can run. */
typedef struct call_operator {
    const char *name;
    const call_field *fields;               /**< ends with FIELD_END */
    const char *const *outputs;             /**< ends with NULL */
    call_status (*plan)(replay_call *call); /**< binds the arguments, makes the outputs, plans */
    call_status (*run)(replay_call *call);
} call_operator;

/** Every operator that this program can run; ends with NULL. */
extern const call_operator *const call_operators[];
extern const call_operator call_attention;
extern const call_operator call_fia_v2;

/** 1: an operator that exists, but not in this build. */
int call_is_known_operator(const char *name);

/** Checks that every name of the file means something to the operator. 0, or -1 with the reason. */
int call_check_names(const st_file *file, const call_operator *op, reason *why);

/** Fills the members that the file names; the others keep their defaults. */
call_status call_bind(replay_call *call, const call_field *fields, void *arguments);

/** Memory that lives as long as the call; exactly so many bytes. NULL: none left (call.why is set). */
void *call_alloc(replay_call *call, size_t bytes);

/** Adds an output of this shape over memory of its own, filled with a pattern that is no result. */
call_status call_add_output(replay_call *call, const char *name, fia_tensor *tensor);

/** 1: no output byte differs from the pattern. */
int call_outputs_untouched(const replay_call *call);

/** Makes the workspace of the plan, filled with NaNs. */
call_status call_make_workspace(replay_call *call);

/** Translates a status of the library. */
call_status call_result(fia_status status);

/** Frees everything. */
void call_end(replay_call *call);

#endif
