/* SPDX-License-Identifier: MIT
 *
 * fia.h - dense attention for CPUs: one header, C99 and C++11, x86-64 and ARM.
 *
 *   out = softmax(scale * Q K^T + bias, under masks) V      for f32, f16 and bf16, mixed freely
 *
 * Three ways to build
 *   1. declarations   #include "fia.h" anywhere: costs nothing, needs no SIMDe.
 *   2. bodies         in exactly one C or C++ file:
 *                         #define FIA_IMPLEMENTATION
 *                         #include "fia.h"
 *                     compiled for the CPU (-O2 -march=native -ffp-contract=off), SIMDe on the include path, -lm.
 *                     Contraction joins products and sums where the compiler likes, one way here and another there:
 *                     without the flag equal bits (over workers, pages, batches) are not promised.
 *   3. private copy   #define FIA_STATIC before the two lines above: every function is static.
 *
 * Two doors
 *   engine door       fia_problem -> fia_plan_make -> fia_run: strides, page tables, masks as an engine has them.
 *   operator doors    fia_fused_infer_attention_score_v2_*: the parameter names of torch_npu, tensors as arguments.
 *
 * The way of one query row, five functions in the rooms named behind them; what stands between hands the work out:
 *   fia_run (R15) -> fia_attend_item_ (R13e), a share of the work, chunk by chunk
 *   -> fia_tile_step_ (R12), or fia_stream_piece_ (R13e) for few rows: scores, modifiers, weights, values of a block
 *   -> fia_softmax_block_ (R12), or fia_softmax_piece_ (R11): the online softmax
 *   -> fia_finish_rows_ (R13d): sink, division, LSE, cast
 *
 * Axes: B sequences, Hq query heads, Hkv KV heads, G = Hq / Hkv, Sq query rows, Skv keys, D key dim, Dr rope dim,
 *       Dv value dim, P page size. Query head h reads KV head h / G. Strides are bytes, named <axis>_bytes.
 *
 * Numerics: q, K and V are widened to f32, never rounded; sums are f32, with FMA where the CPU has it; exp is within
 *   1 ulp (1.5 without FMA); LSE is the natural log. Error of an f32 output row, |out - exact| / |exact|: rms below
 *   2e-6 on normal data. f16 and bf16 outputs are rounded once, to nearest even. Overflow as in f32: logits in base 2,
 *   and weights of up to 16 times V or V's scales. NaN and infinities that a row keeps follow IEEE; a NaN result is
 *   always the positive quiet NaN, and a sum of values that is 0 is +0.
 * Cost: a decode step reads K and V rows inside the bounds once per KV head, in place, from memory: Hkv * Skv *
 *   (D + Dr + Dv) elements; more than 8 query rows per KV head take them from the first cache again. Prefill widens
 *   them once per few hundred query rows. Every kept (query head, row, key) takes 2 (D + Dr + Dv) flops.
 *
 * Macro               default      set by      effect
 * FIA_IMPLEMENTATION  off          one file    bodies
 * FIA_STATIC          off          that file   bodies are static; no symbol leaves the file
 * FIA_API             extern       anyone      linkage of public functions (a DLL export, say)
 * FIA_TARGET          best         builds      name of this copy: picks nothing, is printed by fia_explain
 * FIA_SCALAR          off          builds      4, 8 or 16: plain C lanes of that width, no SIMDe
 * FIA_CHUNK           512          tests       base of the chunk rule, a multiple of 32
 * FIA_BACKEND_H       off          builds      header with a backend record (see fia_backend)
 *
 * Contents:  grep -n '^/\* ==== ' fia.h
 *   R1 config   R2 types   R3 functions
 *   R4 compiler R5 lanes R6 math R7 codecs R8 keys R9 row state R10 modifiers R11 stream R12 tiles
 *   R13 drivers (a layout, b phase 0, c gathering, d items, e attend)
 *   R14 context R15 engine api R16 operator doors
 */
#ifndef FIA_H_INCLUDED
#define FIA_H_INCLUDED

/* ==== R1 config ============================================================================== */
/* Versions and linkage. The version stands here and nowhere else. */

#include <stddef.h>
#include <stdint.h>

#define FIA_VERSION_MAJOR 0
#define FIA_VERSION_MINOR 1
#define FIA_VERSION_PATCH 0
#define FIA_VERSION (FIA_VERSION_MAJOR * 1000000 + FIA_VERSION_MINOR * 1000 + FIA_VERSION_PATCH)

#ifdef FIA_STATIC
#define FIA_STATIC_FROM_THE_START_
#endif
#ifndef FIA_API
#ifdef FIA_STATIC
#define FIA_API static
#else
#define FIA_API extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==== R2 types =============================================================================== */
/* fia_problem, fia_io, contexts and operator arguments have an _init function, their defaults are not all zero; other
 * structures are zeroed before they are filled. Nothing here owns memory. */

/* ---- status, element types, tensors ---- */

/** What a call says. Every other value than FIA_OK comes with a sentence in the fia_report. */
typedef enum fia_status {
    FIA_OK = 0,
    FIA_ERR_ARGUMENT = 1,     /**< wrong: no build will take this argument */
    FIA_ERR_NOT_IN_BUILD = 2, /**< right, but this build lacks a codec, a header or a feature that it needs */
    FIA_ERR_BACKEND = 3       /**< the backend took the call and failed */
} fia_status;

/** Filled by every call that can fail; text is one sentence: argument, its value, what is allowed. */
typedef struct fia_report {
    fia_status status; /**< the same value that the call returned */
    char text[256];    /**< NUL terminated; empty with FIA_OK */
} fia_report;

/** Element types. Codes from FIA_DTYPE_USER up are free for codecs that are added from outside. */
typedef int32_t fia_dtype;
enum {
    FIA_NONE = 0, /**< absent */
    FIA_F32 = 1,
    FIA_F16 = 2,  /**< IEEE binary16 */
    FIA_BF16 = 3, /**< the upper half of an f32 */
    FIA_F64 = 4,
    FIA_I8 = 5,
    FIA_U8 = 6,
    FIA_BOOL = 7, /**< one byte; any non-zero is true */
    FIA_I16 = 8,
    FIA_I32 = 9,
    FIA_I64 = 10,
    FIA_U64 = 11,
    FIA_I4 = 12, /**< two to a byte, low nibble first, signed */
    FIA_F8_E4M3 = 13,
    FIA_F8_E5M2 = 14,
    FIA_HIF8 = 15,
    FIA_DTYPE_USER = 256
};

/** A tensor as the operators take it (the fields of a DLPack DLTensor). Absent: data == NULL and ndim == 0. */
typedef struct fia_tensor {
    void *data;        /**< the element at index 0, aligned to its size; NULL with an ndim: a shape, to plan with */
    fia_dtype dtype;   /**< of the elements; FIA_NONE is refused */
    int32_t ndim;      /**< 0..6 */
    int64_t shape[6];  /**< elements of each axis, outermost first */
    int64_t stride[6]; /**< elements from an index of each axis to the next; 0 broadcasts, negative is allowed */
} fia_tensor;

/** A host list of integers, as torch_npu takes lengths. Absent: data == NULL. */
typedef struct fia_int_list {
    const int64_t *data;
    int64_t count;
} fia_int_list;

/* ---- problem: what a plan is made from ---- */

/** How the rows of one tensor lie. The elements of a row are contiguous, unless piece_elements says otherwise. */
typedef struct fia_view {
    fia_dtype dtype;          /**< stored type; default F32; key_rope, query_rope: unused without a rope pair */
    int32_t piece_elements;   /**< 0: a row is one piece; else a row is cut into pieces of so many (NZ layout) */
    ptrdiff_t sequence_bytes; /**< from a sequence (paged keys: from a page) to the next; unused when packed */
    ptrdiff_t head_bytes;     /**< from a head to the next; 0 broadcasts */
    ptrdiff_t row_bytes;      /**< from a row (a key) to the next */
    ptrdiff_t piece_bytes;    /**< from a piece to the next */
    uint8_t params[64];       /**< for the codec: checked by it when the plan is made, passed to every call of it */
} fia_view;

/** Where the value of a token stands. */
enum {
    FIA_PLACE_ROWS = 0,  /**< as the rows lie: sequence and local token; packed rows: start of the sequence + local
                              token */
    FIA_PLACE_PAGES = 1, /**< where the key form finds the key: page (sequence_bytes apart) and slot */
    FIA_PLACE_LOCAL = 2  /**< sequence and local token, whatever the rows do */
};

/** Scales or offsets of a tensor: (sequence, head, token, channel), any stride 0. A stored x means (x + offset) *
 * scale. At most one of token_bytes and channel_bytes is non-zero; values by channel do not differ by page. */
typedef struct fia_scale_view {
    fia_dtype dtype;          /**< FIA_NONE (default): absent; else F32, F16 or BF16 */
    int32_t place;            /**< FIA_PLACE_*: how a token finds its value */
    ptrdiff_t sequence_bytes; /**< from a sequence (pages: a page) to the next; 0 broadcasts, here and below; unused
                                   with FIA_PLACE_ROWS of packed rows */
    ptrdiff_t head_bytes;     /**< from a head (of the tensor that is scaled) to the next */
    ptrdiff_t token_bytes;    /**< from a row or key (pages: a slot) to the next */
    ptrdiff_t channel_bytes;  /**< from an element of a row to the next */
} fia_scale_view;

/** A term by (sequence, query head, local row, local key): bias, additive mask, drop mask. Keys are contiguous. */
typedef struct fia_mask_view {
    fia_dtype dtype;          /**< FIA_NONE (default): absent; F32/F16/BF16, or BOOL/I8/U8 for drop_mask */
    int32_t reserved;         /**< 0 */
    int64_t rows, keys;       /**< extent of the tensor: the lengths of a run must fit, which phase 0 checks; where
                                   row_bytes is 0 any number of rows fits */
    ptrdiff_t sequence_bytes; /**< 0 broadcasts */
    ptrdiff_t head_bytes;     /**< 0 broadcasts */
    ptrdiff_t row_bytes;      /**< 0 broadcasts */
} fia_mask_view;

/** How a length array is to be read. Values are int32 or int64, read when the job runs. */
enum {
    FIA_LENGTHS_EACH = 0,  /**< (B): one length per sequence; absent: io.kv_rows, else the longest length for all */
    FIA_LENGTHS_ENDS = 1,  /**< (B): running sums, first element = first length (the operators' form) */
    FIA_LENGTHS_STARTS = 2 /**< (B + 1): running sums from 0 (cu_seqlens) */
};

/** How a key position finds its row. */
enum {
    FIA_KEYS_STRIDED = 0, /**< base + sequence * sequence_bytes + key * row_bytes (packed: see kv_packed) */
    FIA_KEYS_LIST = 1,    /**< one base pointer per sequence (io.key_list, io.value_list) */
    FIA_KEYS_PAGED = 2,   /**< io.block_table (B, table_columns): page = table[b][key / page_size], slot = key %
                               page_size */
    FIA_KEYS_USER = 256   /**< first code for key forms that are added from outside */
};

/** Global position of query row 0, where io.q_offset is not given. */
enum {
    FIA_ALIGN_BOTTOM_RIGHT = 0, /**< q_offset = kv_offset + kv_len - q_len: the last row meets the last key */
    FIA_ALIGN_TOP_LEFT = 1      /**< q_offset = kv_offset: row 0 meets key 0 */
};

/** Kernel family of a sequence. */
enum {
    FIA_FAMILY_AUTO = 0,
    FIA_FAMILY_STREAM = 1, /**< few query rows per KV head: stored rows come from memory once, and are read in place */
    FIA_FAMILY_TILE = 2    /**< many: keys are prepared once per block and shared by blocks of query rows */
};

#define FIA_UNBOUNDED INT64_MAX /**< window_left, window_right: no bound on that side */

/**
 * An attention call without its addresses. Score of (row, key), in this order:
 *   q.k + q_rope.k_rope [+ bias, if before the scale] -> * scale [+ bias] -> softcap -> - slope[head] * |row - key|
 *   (ALiBi)
 *   -> + additive_mask * mask_factor[head] -> drops: length, causal, window, -inf in bias or additive mask, drop mask
 * Rows and keys in causal, window and ALiBi are global positions (q_offset, kv_offset of fia_io).
 */
typedef struct fia_problem {
    int64_t n_sequences;  /**< B: most sequences of a run */
    int64_t max_q_len;    /**< longest query length; padded: the rows that a sequence has room for */
    int64_t max_kv_len;   /**< longest kv length; strided and padded: the rows that a sequence has room for */
    int64_t total_q;      /**< packed queries: rows of the whole tensor (T); else unused */
    int64_t total_kv;     /**< packed keys: rows of the whole tensor; else unused */
    int32_t n_q_heads;    /**< Hq */
    int32_t n_kv_heads;   /**< Hkv; divides Hq */
    int32_t dim;          /**< D: elements of a query and key row, 1 .. 65536 */
    int32_t rope_dim;     /**< Dr: elements of a rope row; 0 (default): no rope pair */
    int32_t value_dim;    /**< Dv: elements of a value and output row, 1 .. 65536 */
    int32_t value_in_key; /**< 1: V is the first Dv <= D elements of each key row (MLA); the value view is unused,
                               io.value and io.value_list must be NULL */

    fia_view query, query_rope;    /**< rows of D and Dr elements, Hq heads */
    fia_view key, key_rope, value; /**< rows of D, Dr and Dv elements, Hkv heads */
    fia_view out;       /**< rows of Dv elements, Hq heads; each stride goes past all that smaller ones span */
    int32_t q_packed;   /**< 1: sequences lie one after another along the row axis of query, query_rope, out and
                             lse */
    int32_t kv_packed;  /**< 1: the same for strided keys and values */
    int32_t q_lengths;  /**< FIA_LENGTHS_*: form of io.q_lens */
    int32_t kv_lengths; /**< FIA_LENGTHS_*: form of io.kv_lens */

    int32_t keys;            /**< FIA_KEYS_* or the code of an added key form */
    int32_t pin_family;      /**< FIA_FAMILY_*; AUTO (default): by the sequence's query length, see fia_explain */
    int64_t page_size;       /**< P: keys of a page */
    int64_t n_pages;         /**< pages of the pool: every page id that is followed lies in [0, n_pages) */
    int64_t table_columns;   /**< columns of the block table */
    ptrdiff_t table_bytes;   /**< from a sequence's row of it to the next; 0 (default): they lie side by side */
    int32_t table_broadcast; /**< 1: one row of the block table serves every sequence */
    uint8_t keys_params[64]; /**< for an added key form */

    float scale;               /**< NaN (default): 1 / sqrt(D + Dr) */
    float softcap;             /**< c > 0: s = c * tanh(s / c); 0 (default): off */
    int32_t causal;            /**< 1: keep global key <= global row */
    int32_t align;             /**< FIA_ALIGN_* */
    int32_t bias_before_scale; /**< 1: bias is added before the scale */
    int64_t window_left;  /**< keep global key >= global row - window_left; may be negative; FIA_UNBOUNDED (default) */
    int64_t window_right; /**< keep global key <= global row + window_right; may be negative; FIA_UNBOUNDED
                               (default) */
    fia_mask_view bias;   /**< added to the scores; -inf drops */
    fia_mask_view additive_mask; /**< added last, times mask_factor[head]; a stored -inf drops whatever the factor */
    fia_mask_view drop_mask;     /**< BOOL, I8 or U8: non-zero drops */
    fia_dtype mask_factor;       /**< dtype of io.mask_factor (Hq); FIA_NONE (default): absent, factor 1 */
    fia_dtype alibi_slopes;      /**< dtype of io.alibi_slopes (Hq); FIA_NONE (default): absent */
    fia_dtype sinks;             /**< dtype of io.sinks (Hq); FIA_NONE (default): absent */

    int32_t want_lse;     /**< 1: io.lse is written, f32, natural log, without the sink */
    float lse_empty;      /**< LSE of a row that keeps no key; default -inf, the identity of fia_merge */
    int32_t fill_padding; /**< 1: rows past a sequence's length get 0 and lse_empty; 0 (default): left alone */
    ptrdiff_t lse_sequence_bytes, lse_head_bytes, lse_row_bytes; /**< of io.lse; sequences unused when packed */

    fia_scale_view query_scale;               /**< per query row, FIA_PLACE_ROWS */
    fia_scale_view key_scale, key_offset;     /**< of segment 0; the rope pair has none */
    fia_scale_view value_scale, value_offset; /**< value_in_key: absent, V has the key's */
    fia_scale_view out_scale, out_offset;     /**< multiplier and offset of the output, by (head, channel) */

    int32_t exact;     /**< 1: the most exact kernel of every dtype; 0 (default): the bounds of the README */
    int32_t reserved;  /**< 0 */
    int64_t pin_chunk; /**< keys of a chunk, a multiple of the base; 0 (default): the chunk rule */
} fia_problem;

/* ---- plan, io, job, workers ---- */

/** Integers read when the job runs: int32 or int64, any stride. Absent: data == NULL. */
typedef struct fia_ints {
    const void *data;
    fia_dtype dtype;        /**< FIA_I32 or FIA_I64 */
    int32_t broadcast;      /**< 1: one value for every sequence */
    ptrdiff_t stride_bytes; /**< from a value to the next; 0 (default): they lie side by side */
} fia_ints;

/** All that may change from step to step. */
typedef struct fia_io {
    int64_t n_sequences; /**< sequences of this run, 0 .. the plan's */
    /** Row 0 of head 0 of sequence 0 (padded: (B, Hq, Sq, D or Dr); packed: (T, Hq, ...), by the problem's strides) */
    const void *query, *query_rope;
    /** Strided: as query, (B, Hkv, Skv, D, Dr or Dv); paged: pools of n_pages pages, page 0 first */
    const void *key, *key_rope, *value;
    const void *key_list, *key_rope_list, *value_list; /**< FIA_KEYS_LIST: B base pointers, list_bytes apart */
    ptrdiff_t list_bytes;                              /**< default sizeof(void *) */
    /** FIA_KEYS_LIST: head strides in elements, where they differ by sequence */
    fia_ints key_head_strides, key_rope_head_strides, value_head_strides;
    fia_ints kv_rows; /**< FIA_KEYS_LIST: rows that each sequence has room for, without kv_lens also its length; absent:
                           max_kv_len */
    void *out;        /**< written: (B, Hq, Sq, Dv) by out's strides; NULL where no row is written; overlaps no input */
    float *lse;       /**< written with want_lse: (B, Hq, Sq) by the lse strides; overlaps no input */
    fia_ints q_lens, kv_lens; /**< in the forms of the problem */
    /** Global position of row 0 and of key 0, may be negative; default: align (which knows the kv length of this call
     * alone, so shards of a KV give both), and 0. */
    fia_ints q_offset, kv_offset;
    /** (B, table_columns) by table_bytes: page ids; entries past a length or a bound are not read */
    const int32_t *block_table;
    const void *keys_data;                          /**< for an added key form */
    const void *bias, *additive_mask, *drop_mask;   /**< (B, Hq, rows, keys) by their views */
    const void *mask_factor, *alibi_slopes, *sinks; /**< (Hq), side by side */
    /** (sequence, head, token, channel) by their views; out's: (head, channel) */
    const void *query_scale, *key_scale, *key_offset, *value_scale, *value_offset, *out_scale, *out_offset;
    void *stream; /**< for a backend; unused on a CPU */
} fia_io;

struct fia_context;
struct fia_tile;
struct fia_stream;
struct fia_codec;
struct fia_keys;

/** A prepared call without addresses: plain data, copyable, good for every run within its sizes.
 * Read workspace_bytes and max_workers; the rest belongs to the library. */
typedef struct fia_plan {
    uint32_t version;       /**< FIA_VERSION that made it */
    int32_t max_workers;    /**< workers that may run it at once */
    size_t workspace_bytes; /**< what fia_job needs, any alignment; grows with B, Sq, Skv and max_workers, not with
                                 masks */
    fia_problem problem;
    const struct fia_context *context;
    const struct fia_tile *tile; /**< candidates of both families */
    const struct fia_stream *stream_k, *stream_v, *stream_k_rope;
    const struct fia_codec *codec_q, *codec_q_rope, *codec_k, *codec_k_rope, *codec_v, *codec_out;
    const struct fia_keys *keys;
    int32_t piece_keys;               /**< of the stream family */
    int32_t stream_rows;              /**< most query rows per KV head of a sequence of the stream family */
    int64_t chunk_base;               /**< keys */
    int64_t pool_blocks, pool_chunks; /**< partials of row blocks that a run may cut between chunks */
    uint64_t digest;                  /**< operator doors: of the arguments' shapes, dtypes and strides */
    uint32_t digests[40];             /**< of each argument, to name the one that changed */
    int32_t op;                       /**< operator door that made it; 0: engine door */
    int32_t on_backend;               /**< 1: the backend took it */
    void *backend_data;               /**< the backend's, freed by fia_plan_release */
} fia_plan;

/** One run: a plan, its addresses and its workspace. Runs with different workspaces may share a plan. */
typedef struct fia_job {
    const fia_plan *plan;
    const fia_io *io;
    void *workspace;        /**< any alignment */
    size_t workspace_bytes; /**< >= plan->workspace_bytes */
} fia_job;

/** A task of fia_run: task(task_data, index) with index in [0, n). */
typedef void (*fia_task)(void *task_data, int index);

/** The caller's threads: parallel_for runs task(task_data, 0 .. n-1), any order, any concurrency, and returns when all
 * are done. */
typedef struct fia_workers {
    int n; /**< tasks per phase, 1 .. plan's max_workers */
    void (*parallel_for)(void *pool, int n, fia_task task, void *task_data);
    void *pool;
} fia_workers;

/** Phases of a job, in order, a barrier between them. */
enum { FIA_PHASE_CHECK = 0, FIA_PHASE_ATTEND = 1, FIA_PHASE_FOLD = 2, FIA_PHASES = 3 };

/** Rows that fia_merge and fia_merge_finish work on: f32, (sequences, heads, rows, dim) by strides. */
typedef struct fia_merge_shape {
    int64_t sequences, heads, rows; /**< default 1 each; 0: a checked shape, and nothing is done */
    int32_t dim;                    /**< Dv: elements of a row of O; default 0, to be set in any case */
    int32_t reserved;               /**< 0 */
    ptrdiff_t sequence_bytes, head_bytes, row_bytes;             /**< of O */
    ptrdiff_t lse_sequence_bytes, lse_head_bytes, lse_row_bytes; /**< of LSE */
} fia_merge_shape;

/** What fia_merge_finish does to the merged rows. */
typedef struct fia_finish {
    const void *sinks;                    /**< (heads) or NULL (default) */
    fia_dtype sinks_dtype;                /**< F32, F16 or BF16 with sinks; else FIA_NONE (default) */
    fia_view out;                         /**< dtype and strides of the result */
    fia_scale_view scale, offset;         /**< by (head, channel) */
    const void *scale_data, *offset_data; /**< of those views; NULL (default) where they are absent */
    void *result; /**< (sequences, heads, rows, dim) by `out`; shares no byte with the merged rows */
} fia_finish;

/* ---- what a CPU and a build have ---- */

/** Features of the running CPU, 0 or 1 each, under the names of the targets and of the instruction sets. */
typedef struct fia_cpu {
    uint8_t sse2, v2, v3, v4, avx512_bf16, avx512_vnni, avx512_fp16, amx_bf16, amx_int8, avx_vnni;
    uint8_t neon, fp16, dotprod, fhm, bf16, i8mm, sve;
    uint8_t reserved[15];
} fia_cpu;

/* ---- seams: records that extensions add through a context ---- */

/** Stored rows as codecs and kernels get them: one pointer per row. */
typedef struct fia_rows {
    const char *const *row; /**< n pointers, one per row */
    int32_t n;              /**< rows */
    int32_t elements;       /**< elements of a row */
    int32_t piece_elements; /**< 0: a row is one piece */
    int32_t first;          /**< slot of row 0 on the kernel's grid (bounds shorten a block from the front, too) */
    ptrdiff_t piece_bytes;
    const void *params; /**< the view's 64 bytes */
} fia_rows;

/** A stored element type. Scales outside the row do not belong to it. */
typedef struct fia_codec {
    const char *name;
    fia_dtype dtype;
    int32_t granule;       /**< a row has a multiple of so many elements */
    int32_t granule_bytes; /**< bytes of one granule */
    int32_t alignment;     /**< of a row's address */
    int32_t exact_in_bf16; /**< 1: every value is a bf16, which tile kernels of bf16 pieces go by (`serves`) */
    /** Bytes of a row of so many elements; NULL: elements / granule * granule_bytes. */
    int64_t (*row_bytes)(const fia_view *view, int32_t elements);
    /** Checks and completes a view's params when a plan is made; NULL: they must be zero. A message goes to text. */
    int (*check)(fia_view *view, int32_t elements, char *text, size_t text_bytes);
    /** Widens rows to f32: dst[r * dst_stride + i]. Raw values: offset and scale are applied by the caller. */
    void (*decode)(float *dst, ptrdiff_t dst_stride, const fia_rows *rows);
    /** Writes one output row, x * mul[i] + add[i] (either may be NULL; both are for rows that keep no key). NULL: never
     * an output. */
    void (*store)(char *dst, const float *src, int32_t n, const float *mul, const float *add, const void *params);
} fia_codec;

/** What a key form gets to see. */
typedef struct fia_keys_call {
    const fia_problem *problem;
    const fia_io *io;
    int64_t sequence;                     /**< which sequence */
    int64_t kv_len;                       /**< its keys */
    int64_t q_start, kv_start;            /**< packed: its first row; else 0 */
    int64_t token;                        /**< local query row, where lists are per token; else 0 */
    int64_t position_begin, position_end; /**< local positions that bounds (length, causal, window) let some row keep */
    int32_t kv_head;                      /**< where lists are per token: the KV head */
    int32_t reserved;
} fia_keys_call;

/** n keys that lie row after row: rows row, row + 1, ... of sequence or page `outer`; outer -1: entries that are not
 * followed. */
typedef struct fia_run_of_keys {
    int64_t outer, row;
    int64_t n;
} fia_run_of_keys;

/** An address form of keys. */
typedef struct fia_keys {
    const char *name;
    int32_t code;
    int32_t per_token; /**< 1: every query token has a list of its own, per KV head; 0: a sequence shares its keys */
    /** Entries of every list: then keys are entries, chunks and blocks lie on entries, and `positions` says what they
     * are. NULL: a key per position. */
    int64_t (*entries)(const fia_problem *problem);
    /** Phase 0, once per sequence (per token and head if per_token), for what [first, end) follows. 0, or 1 and a
     * message. May be NULL. */
    int (*check)(const fia_keys_call *call, int64_t first, int64_t end, char *text, size_t text_bytes);
    /** Cuts keys [first, first + n) into at most n runs; returns how many. */
    int64_t (*runs)(const fia_keys_call *call, int64_t first, int64_t n, fia_run_of_keys *runs);
    /** Local key positions of entries [first, first + n), -1: none. Entries outside [position_begin, position_end) are
     * not followed. NULL without entries. */
    void (*positions)(const fia_keys_call *call, int64_t first, int64_t n, int64_t *positions);
} fia_keys;

/** Lines to prefetch while a kernel works: rows of what comes next. */
typedef struct fia_prefetch {
    const char *const *row; /**< n pointers */
    int32_t n;
    int32_t bytes; /**< of each row, for kernels that do not go by elements */
    int32_t level; /**< cache to fetch into: 1; 2 where rows lie so far apart that they would share sets of the
                        first */
} fia_prefetch;

enum {
    FIA_STREAM_KEYS = 32, /**< most keys of a piece of the stream family; 16 where from key to key and from value to
                               value it is over 512 bytes, or G < 4 */
    FIA_STREAM_ROWS = 8   /**< most query rows of a stream kernel */
};

/** A stream kernel of one stored type. Query rows are padded to R = 1, 2, 4 or 8 (index 0..3 of the tables). A piece
 * has 1 to FIA_STREAM_KEYS rows, bounds and drops leave any number; `next` has rows of its own, or none (n = 0). */
typedef struct fia_stream {
    const char *name;
    fia_dtype dtype;
    /** Raw dots, scales and offsets come after: scores[j * R + r] = q[r * q_stride ..] . key row j; room for keys->n
     * rounded up to 16 rows of R scores, those of j >= keys->n are free */
    void (*scores[4])(float *scores, const float *q, ptrdiff_t q_stride, const fia_rows *keys,
                      const fia_prefetch *next);
    /** o[r * o_stride ..] += sum over j of weights[j * R + r] * value row j, in ascending j */
    void (*accumulate[4])(float *o, ptrdiff_t o_stride, const float *weights, const fia_rows *values,
                          const fia_prefetch *next);
} fia_stream;

enum { FIA_OF_KEY = 0, FIA_OF_ROPE = 1, FIA_OF_VALUE = 2 };

/** One block of keys as a tile kernel gets it; in prepare_kv: one super block.
 * Scales: where the kernel does not take them, `decode` applies all of K's and V's. Where it does, it gets them per
 * token (one per head or tensor is spread), those per channel are folded into q and into the output by the caller. */
typedef struct fia_tile_block {
    const fia_problem *problem;
    fia_rows stored[3]; /**< FIA_OF_*: the stored rows of the block's keys, in place (rope: n = 0 without a rope
                             pair) */
    const fia_codec *codec[3];
    const void *prepared;           /**< step: what prepare_kv made of the super block; NULL without it */
    int32_t offset;                 /**< step: first key of the block, counted from the first key of the super block */
    int32_t n;                      /**< keys of the block */
    int32_t rows;                   /**< step: live rows of the row block */
    int32_t plain_begin, plain_end; /**< step: keys of the block that every row keeps; their scores are base-2 logits
                                         without modify */
    float scale_log2;               /**< step: 1, but for kernels with raw_q */
    int32_t nonfinite; /**< step: 1: V of the block may hold NaN or infinity: no dropped key may be multiplied */
    /** n each or NULL; only if the kernel takes scales */
    const float *key_scale, *key_offset, *value_scale, *value_offset;
    int64_t first_key;        /**< local key of key 0 (a list: entry) */
    const int64_t *positions; /**< of the block's keys, where they are not consecutive */
    /** Raw scores [key][stride] of keys [first, first + n) of the block, the first at scores[0] -> base-2 logits with
     * every modifier applied. Dropped keys get -inf. Kept ones are >= -FLT_MAX or NaN: for plain keys the kernel sees to
     * that itself. stride: a multiple of 16, at least rows, at most 1024; scores behind the last row may be
     * written. */
    void (*modify)(const struct fia_tile_block *block, int first, int n, float *scores, int stride);
    /** Widens stored rows [first, first + n) of FIA_OF_* to f32. */
    void (*decode)(const struct fia_tile_block *block, int which, int first, int n, float *dst, ptrdiff_t dst_stride);
    const void *rows_data; /**< for modify and decode */
    const fia_prefetch *next;
} fia_tile_block;

/** A tile kernel: blocks of query rows against blocks of keys. */
typedef struct fia_tile {
    const char *name;
    int32_t rows;         /**< query rows of a row block, at most 64 */
    int32_t keys;         /**< keys of a block */
    int32_t super_keys;   /**< keys prepared at once, a multiple of keys; cut to the chunk where that is shorter */
    int32_t chunk_base;   /**< 0: the body's FIA_CHUNK; else rounded up to a multiple of it */
    int32_t prep_blocks;  /**< row blocks that share one preparation */
    int32_t takes_scales; /**< 1: prepare_kv and step apply per-token scales and offsets */
    int32_t raw_q;        /**< 1: pack_q gets q without the problem's scale (exact in its own type); plain scores
                               times scale_log2 are base-2 logits */
    int32_t stream_rows;  /**< query rows per KV head up to which stream kernels that read keys and values in place are
                               faster; less than FIA_STREAM_ROWS: that many */
    /** Preference for a problem: 0 does not serve it, the highest number wins. */
    int (*serves)(const fia_problem *problem);
    /** Bytes of a packed query block, a prepared super block, a chunk state and scratch, in this order. */
    void (*sizes)(const fia_problem *problem, size_t bytes[4]);
    void (*enter)(const fia_problem *problem); /**< once per phase call of a worker; NULL: nothing */
    void (*leave)(void);
    /** Packs f32 rows q[r * q_stride ..] (D then Dr elements), times all scales; `rows` are live. */
    void (*pack_q)(const fia_problem *problem, void *packed, const float *q, ptrdiff_t q_stride, int32_t rows);
    /** Prepares the keys of a super block once for all rows of a unit. NULL: step reads the rows in place. */
    void (*prepare_kv)(const fia_tile_block *super, void *prepared, void *scratch);
    void (*begin)(const fia_problem *problem, void *state);
    void (*step)(const fia_tile_block *block, const void *packed, void *state, void *scratch);
    /** State -> m (base-2), l, o[r * Dv ..] of `rows` live rows. */
    void (*export_state)(const fia_problem *problem, const void *state, int32_t rows, float *m, float *l, float *o);
    /** into <- into + from, to the bit what folding their exports gives; NULL, or a kernel that takes scales: states
     * are exported after every chunk. */
    void (*fold)(const fia_problem *problem, void *into, const void *from);
} fia_tile;

/** The kernel tables of one header in one build. Of codecs, key forms and streams a later table wins where both serve;
 * of tiles the highest answer of `serves`, and a later table where they are equal. */
typedef struct fia_kernels {
    uint32_t version;    /**< FIA_VERSION */
    uint32_t plan_bytes; /**< sizeof(fia_plan) */
    const char *target;  /**< "x86-64", "v3", "neon", ... */
    const char *name;    /**< "fia", "fia_quant", ... */
    const fia_codec *const *codecs;
    const fia_keys *const *keys;
    const fia_stream *const *streams;
    const fia_tile *const *tiles; /**< each list ends with NULL; NULL: none */
} fia_kernels;

/** Takes planned operator calls as a whole, or declines them. The header that FIA_BACKEND_H names defines
 * `static const fia_backend fia_backend_of_build`. plan->context is set before plan is called. */
typedef struct fia_backend {
    const char *name;
    /** FIA_OK: taken; FIA_ERR_NOT_IN_BUILD: declined, the CPU does it, report->text says why; other: refused. */
    fia_status (*plan)(const char *op, const void *args, fia_plan *plan, fia_report *report);
    fia_status (*run)(const char *op, const fia_plan *plan, const void *args, void *workspace, size_t workspace_bytes,
                      fia_report *report); /**< the stream is in args */
    void (*release)(fia_plan *plan);
} fia_backend;

enum { FIA_MAX_TABLES = 8 };

/** Caller-owned and constant after it is made: the tables of this build and of what was added, and the backend. */
typedef struct fia_context {
    int32_t n_tables;
    int32_t reserved;
    const fia_kernels *table[FIA_MAX_TABLES]; /**< which one wins: see fia_kernels */
    const fia_backend *backend;               /**< NULL: none */
} fia_context;

/* ==== R3 functions =========================================================================== */
/* No call allocates, blocks, prints or keeps a pointer after it returns (the plan keeps the context). */

/* ---- version, texts, CPU ---- */

/** FIA_VERSION of the bodies. */
FIA_API uint32_t fia_version(void);

/** The name of a status: "ok", "wrong argument", ... */
FIA_API const char *fia_status_text(fia_status status);

/** The name of an element type: "f16", ...; "unknown" for a code of no built-in type. */
FIA_API const char *fia_dtype_text(fia_dtype dtype);

/** Bytes of an element of a tensor; 0 for sub-byte and unknown types. */
FIA_API size_t fia_dtype_bytes(fia_dtype dtype);

/** Asks the CPU what it has. Slow in virtual machines: keep the result. */
FIA_API void fia_cpu_detect(fia_cpu *cpu);

/* ---- context ---- */

/** Fills a context with the tables of this build and the backend that FIA_BACKEND_H named. */
FIA_API void fia_context_init(struct fia_context *context);

/** Adds the tables of an extension, which must outlive the context; not while others use it. Returns FIA_ERR_ARGUMENT
 * where the table was built for another version or there is no room. */
FIA_API fia_status fia_context_add(struct fia_context *context, const fia_kernels *table, fia_report *report);

/* ---- engine door ---- */

/** Every field to its default: one sequence, no modifier, dtypes f32, no strides. Lengths and dims are 0, to be set. */
FIA_API void fia_problem_init(fia_problem *problem);

/** Everything absent, one sequence. */
FIA_API void fia_io_init(fia_io *io);

/**
 * Checks a problem and chooses kernels and workspace for it. Constant time.
 * context:     NULL: the built-in one; else it must outlive the plan
 * max_workers: most workers that will run it at once, 1 .. 4096
 * returns:     FIA_OK; FIA_ERR_ARGUMENT; FIA_ERR_NOT_IN_BUILD. The plan is written with FIA_OK only. report may be NULL
 */
FIA_API fia_status fia_plan_make(const struct fia_context *context, const fia_problem *problem, int max_workers,
                                 fia_plan *plan, fia_report *report);

/** Ends a plan that was made; one that was refused is not written. Does nothing on a CPU; a backend may hold an
 * executor there. */
FIA_API void fia_plan_release(fia_plan *plan);

/**
 * Runs a job on the caller's workers, all phases.
 * reads:    q, K/V rows and tables inside the length, causal and window bounds, masks and bias inside the lengths,
 *           scales, io's arrays
 * writes:   out and lse of live rows; the workspace
 * requires: workers NULL (serial) or workers->n <= the plan's max_workers
 * returns:  FIA_OK, or the verdict of phase 0; no output byte is written then
 */
FIA_API fia_status fia_run(const fia_job *job, const fia_workers *workers, fia_report *report);

/**
 * The same for threads that are already running: each calls it with its number; barrier(arg) waits for all nth.
 * requires: nth <= the plan's max_workers, the same for all; jobs of equal content (copies will do), one workspace
 * returns:  when out is complete, the same for all; a NULL in the job or a wrong nth comes back before any barrier
 * threads:  every thread passes the same number of barriers; the next run on the same workspace may follow at once
 */
FIA_API fia_status fia_run_ith(const fia_job *job, int ith, int nth, void (*barrier)(void *arg), void *arg,
                               fia_report *report);

/**
 * Items of a phase, for those who hand them out themselves: a (sequence, KV head) or a part of one, cut where shares of
 * equal work for max_workers end. Phase 0 has one; those of the others are known when it is done (by the phase 0 that
 * ran last in the workspace), 0 before that and after a refusal.
 * returns:  0 for a job that fia_run would refuse, too
 * threads:  a barrier after each phase; this reads the workspace, so nobody may call it when the next phase 0 begins
 */
FIA_API int64_t fia_phase_items(const fia_job *job, int phase);

/**
 * Runs items [begin, end) of one phase.
 * requires: the earlier phases are complete; worker < max_workers, not in use by another call
 * returns:  FIA_OK; the verdict of phase 0 (nothing is done then); FIA_ERR_ARGUMENT for a phase, range or worker that
 *           does not exist, or a job without workspace
 * threads:  items of one phase may run at once with distinct workers
 */
FIA_API fia_status fia_phase_run(const fia_job *job, int phase, int64_t begin, int64_t end, int worker);

/** The verdict of phase 0 with its sentence; FIA_ERR_ARGUMENT where phase 0 was not run in this workspace. */
FIA_API fia_status fia_job_report(const fia_job *job, fia_report *report);

/**
 * Writes what was chosen, as lines "key: value": target, cpu, kernels, codecs, key form, chunk, workspace; with a job
 * whose phase 0 is done also families, chunk, cuts and merge path of that run. job may be NULL; plan NULL: target and
 * cpu only.
 * returns: characters of the whole text (it is cut to bytes - 1 and NUL terminated)
 */
FIA_API size_t fia_explain(const fia_plan *plan, const fia_job *job, char *text, size_t bytes);

/** One sequence, head and row; no strides. dim is 0, to be set. */
FIA_API void fia_merge_shape_init(fia_merge_shape *shape);

/** No sink, no scale; an f32 result without strides. */
FIA_API void fia_finish_init(fia_finish *finish);

/**
 * Folds a part into a running result: out, lse <- merge(out, lse; part_out, part_lse), in the caller's order.
 * O is normalised, LSE natural, without sink; an LSE of -inf or +inf is empty, whatever stands in O: a row that keeps
 * scores of -inf alone is NaN undivided, and 0 after fia_merge_finish.
 * reads:    out, lse, part_out, part_lse, all by `shape`; out and lse overlap nothing
 * writes:   out, lse
 * returns:  FIA_OK; FIA_ERR_ARGUMENT, and nothing is written
 * threads:  any number on distinct rows
 */
FIA_API fia_status fia_merge(const fia_merge_shape *shape, float *out, float *lse, const float *part_out,
                             const float *part_lse, fia_report *report);

/**
 * Applies sink, cast and quantisation to merged rows, once.
 * reads:    out and lse by `shape`, the sinks, scales and offsets of `finish`
 * writes:   finish->result
 * returns:  as fia_plan_make; nothing is written after a refusal
 * threads:  any number on distinct rows
 */
FIA_API fia_status fia_merge_finish(const struct fia_context *context, const fia_merge_shape *shape,
                                    const fia_finish *finish, const float *out, const float *lse, fia_report *report);

/* ---- operator doors ---- */

/** A contiguous tensor over data. */
FIA_API fia_tensor fia_tensor_make(void *data, fia_dtype dtype, int ndim, const int64_t *shape);

/**
 * npu_fused_infer_attention_score_v2. Names and defaults are torch_npu's; a number alone in a comment is the default.
 * Length arguments are host lists, or int32/int64 tensors that are read at run time (the *_tensor fields; one of the
 * two; changing the kind takes a new plan). Optional tensors: data == NULL and ndim == 0 is absent; scalars have shape
 * (1). When a plan is made tensors may have data == NULL with their ndim, dtype and shape set. B sequences, N heads,
 * S1 and S2 rows of query and key, T rows of a packed layout. Outputs share no byte with inputs.
 */
typedef struct fia_fused_infer_attention_score_v2_args {
    fia_tensor query, key, value; /**< by input_layout; paged: key, value are pools */
    /** Instead of key and value: one tensor per sequence, first axis 1, each with its own number of rows; same element
     * type, row length and row stride. Padded layouts, no block_table, no rope; the plan is bound to all shapes. */
    const fia_tensor *key_list, *value_list;
    int64_t list_count;              /**< B of the lists; 0 (default): key and value are taken */
    fia_tensor query_rope, key_rope; /**< as query and key with 64 elements to a row: the second term of the score */
    fia_tensor pse_shift;            /**< (B or 1, N, S1, S2), added after the scale */
    /** bool, int8, uint8: non-zero drops. Modes 0 and 1: (S1, S2), (B or 1, S1, S2) or (B or 1, 1, S1, S2), with one
     * query row also (B or 1, S2); extents may be larger; pages: S2 is columns * block_size. Modes 2 to 4: (2048, 2048)
     * with leading ones, its content is not read and may lie anywhere. In mode 0 one without elements is as none. */
    fia_tensor atten_mask;
    /** Packed layouts (TND, NTD and their pairs): running sums, both needed. Else lengths: one element serves all
     * sequences, elements after the B-th are not read, and with one query row actual_seq_qlen has no effect. Pages:
     * actual_seq_kvlen is needed and always holds lengths. */
    fia_int_list actual_seq_qlen, actual_seq_kvlen;
    fia_tensor actual_seq_qlen_tensor, actual_seq_kvlen_tensor; /**< the same as int32 or int64 (B), read when run;
                                                                     lengths may have a stride of 0: one for all */
    fia_tensor block_table;                                     /**< int32 (B, columns): page ids */
    fia_tensor dequant_scale_query; /**< with int8 query (MLA): f32, the shape of query without D */
    /** With int8 and int4 key and value, which mean (x + offset) * scale; an offset is as its scale. By the quant mode:
     * 0: one value, or one per channel as (H) or (Nkv, D), axes of 1 between; 1: (B, S2); 2: (Nkv); 3: (B, Nkv, S2); 4:
     * (pages, block_size); 5: (pages, Nkv, block_size). f32; with modes 0 and 2 also f16 and bf16. */
    fia_tensor dequant_scale_key, dequant_offset_key, dequant_scale_value, dequant_offset_value;
    fia_tensor dequant_scale_key_rope; /**< reserved: must be absent */
    /** With int8 attention_out = round(out * scale + offset): one value, or one per head and channel, (N * Dv) in all;
     * f32, with bf16 query also bf16. */
    fia_tensor quant_scale_out, quant_offset_out;
    fia_tensor quant_scale_p;        /**< reserved: must be absent */
    fia_tensor learnable_sink;       /**< (N) of query */
    int64_t num_query_heads;         /**< 1 */
    int64_t num_key_value_heads;     /**< 0: num_query_heads */
    double softmax_scale;            /**< 1.0 */
    int64_t pre_tokens, next_tokens; /**< 2147483647 both: no bound; used by modes 0 and 4 */
    const char *input_layout;        /**< "BSH" */
    /** 0 (default): atten_mask, and the tokens from the top left; without a mask everything is kept and tokens have no
     * effect. 1: atten_mask alone. 2: causal from the top left. 3: causal from the bottom right. 4: band from the
     * bottom right. 9: tree mask, not in this build. Modes 1 to 4 need atten_mask. With one query row, not packed and
     * without rope, modes 2 to 4 and the tokens have no effect. */
    int64_t sparse_mode;
    int64_t block_size;                       /**< 0; keys of a page; without block_table of no effect */
    int64_t query_quant_mode;                 /**< 0; 3 with int8 query */
    int64_t key_quant_mode, value_quant_mode; /**< 0; 0 to 5, see the scales: equal, or 0 and 1 */
    int64_t inner_precise;                    /**< 0; 0 to 3 are taken, all with f32 sums and empty rows of 0 */
    int32_t return_softmax_lse;               /**< 0 */
    fia_dtype query_dtype, key_dtype, value_dtype, key_rope_dtype, query_rope_dtype; /**< reserved: FIA_NONE */
    fia_dtype key_shared_prefix_dtype, value_shared_prefix_dtype, dequant_scale_query_dtype, dequant_scale_key_dtype,
        dequant_scale_value_dtype, dequant_scale_key_rope_dtype; /**< reserved: FIA_NONE */
    fia_dtype out_dtype;      /**< FIA_NONE, or FIA_I8 together with quant_scale_out */
    void *stream;             /**< for a backend */
    fia_tensor attention_out; /**< output, contiguous or strided */
    /** Output, f32 (B, N, S1, 1), packed (T, N, 1), whatever the output's layout: natural log, without the sink, +inf
     * for a row without keys. Absent: not written; without return_softmax_lse a tensor of one element gets 0. */
    fia_tensor softmax_lse;
} fia_fused_infer_attention_score_v2_args;

/** Writes the operator's defaults to `args`; tensors absent. */
FIA_API void fia_fused_infer_attention_score_v2_init(fia_fused_infer_attention_score_v2_args *args);

/** Replaces attention_out and softmax_lse of `args` by tensors of the right shape (contiguous, data NULL; LSE absent
 * without return_softmax_lse). The whole call is validated, so everything else must be set. Returns as _plan, but
 * FIA_OK for a right call that is not in this build. */
FIA_API fia_status fia_fused_infer_attention_score_v2_outputs(fia_fused_infer_attention_score_v2_args *args,
                                                              fia_report *report);

/** Validates all arguments and plans the call: shapes, types, strides and attributes are read, no data. context,
 * max_workers, plan and what is returned: as fia_plan_make. */
FIA_API fia_status fia_fused_infer_attention_score_v2_plan(const struct fia_context *context,
                                                           const fia_fused_infer_attention_score_v2_args *args,
                                                           int max_workers, fia_plan *plan, fia_report *report);

/** Lowers the addresses of a call into an io, for those who run phases themselves. Refuses shapes, dtypes, strides that
 * differ from the plan's (FIA_ERR_ARGUMENT, io is not written). The io points into args and its lists, which must
 * outlive the run; what phase 0 then refuses is named as the engine names it; a softmax_lse that was not asked for is
 * not touched. */
FIA_API fia_status fia_fused_infer_attention_score_v2_io(const fia_plan *plan,
                                                         const fia_fused_infer_attention_score_v2_args *args,
                                                         fia_io *io, fia_report *report);

/** Runs a planned call: reads its inputs, writes attention_out and softmax_lse. workspace: plan->workspace_bytes. Rows
 * past a sequence's length get 0 and LSE +inf. Returns and threads as fia_run; nothing is written after a refusal. */
FIA_API fia_status fia_fused_infer_attention_score_v2_run(const fia_plan *plan,
                                                          const fia_fused_infer_attention_score_v2_args *args,
                                                          void *workspace, size_t workspace_bytes,
                                                          const fia_workers *workers, fia_report *report);

/* ---- adapters ---- */

#ifdef _OPENMP
/** parallel_for of an OpenMP team: fia_workers w = {n, fia_openmp_for, NULL}. */
static inline void fia_openmp_for(void *pool, int n, fia_task task, void *task_data) {
    int i;
    (void)pool;
#pragma omp parallel for num_threads(n) schedule(static, 1)
    for (i = 0; i < n; ++i) task(task_data, i);
}
#endif

#ifdef DLPACK_DLPACK_H_
/** Element types that DLPack has, by its codes; as numbers, since older dlpack.h lack some names. */
typedef struct fia_dlpack_type {
    uint8_t code, bits;
    fia_dtype dtype;
} fia_dlpack_type;

static inline const fia_dlpack_type *fia_dlpack_find(int code, int bits, fia_dtype dtype) {
    static const fia_dlpack_type known[] = {{0, 8, FIA_I8},   {0, 16, FIA_I16},  {0, 32, FIA_I32}, {0, 64, FIA_I64},
                                            {1, 8, FIA_U8},   {1, 64, FIA_U64},  {2, 16, FIA_F16}, {2, 32, FIA_F32},
                                            {2, 64, FIA_F64}, {4, 16, FIA_BF16}, {6, 8, FIA_BOOL}};
    size_t i;
    for (i = 0; i < sizeof(known) / sizeof(known[0]); ++i)
        if (known[i].dtype == dtype || (known[i].code == code && known[i].bits == bits)) return &known[i];
    return NULL;
}

/**
 * From DLPack; include dlpack.h, which defines DLPACK_DLPACK_H_, before fia.h. ndim up to 6; strides NULL: contiguous.
 * The element type is FIA_NONE, which every door refuses, where it has no code here or the data is not the CPU's.
 */
static inline fia_tensor fia_tensor_from_dlpack(const DLTensor *t) {
    fia_tensor r = fia_tensor_make(t->data ? (char *)t->data + t->byte_offset : NULL, FIA_NONE, 0, NULL);
    const fia_dlpack_type *type = fia_dlpack_find(t->dtype.code, t->dtype.bits, FIA_NONE);
    uint64_t step = 1; /* sizes that overflow are refused by the doors, not here */
    int i;
    if (type && t->dtype.lanes == 1 && t->device.device_type == kDLCPU) r.dtype = type->dtype;
    r.ndim = t->ndim;
    for (i = t->ndim - 1; i >= 0 && t->ndim <= 6; --i) {
        r.shape[i] = t->shape[i];
        r.stride[i] = t->strides ? t->strides[i] : (int64_t)step;
        step *= (uint64_t)t->shape[i];
    }
    return r;
}

/** To DLPack: the result points into `t`, which must outlive it. bits is 0 where DLPack has no such element type. */
static inline DLTensor fia_tensor_to_dlpack(fia_tensor *t) {
    const fia_dlpack_type *type = t->dtype == FIA_NONE ? NULL : fia_dlpack_find(-1, -1, t->dtype);
    DLTensor r;
    r.data = t->data;
    r.device.device_type = kDLCPU;
    r.device.device_id = 0;
    r.ndim = t->ndim;
    r.dtype.code = type ? type->code : 0;
    r.dtype.bits = type ? type->bits : 0;
    r.dtype.lanes = 1;
    r.shape = t->shape;
    r.strides = t->stride;
    r.byte_offset = 0;
    return r;
}
#endif

#ifdef __cplusplus
}
#endif
/* ---- end of the public part: nothing above needs SIMDe ---- */
#endif /* FIA_H_INCLUDED */
#if defined(FIA_STATIC) && !defined(FIA_STATIC_FROM_THE_START_)
#error "fia.h: FIA_STATIC must be defined before the first #include of fia.h in a file"
#endif

#if defined(FIA_IMPLEMENTATION) && !defined(FIA_IMPLEMENTATION_DONE_)
#define FIA_IMPLEMENTATION_DONE_

/* ==== R4 compiler ============================================================================ */
/* Words that compilers spell differently, checked sizes, and the sentences of reports. */

#include <float.h>
#include <math.h>
#include <string.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "fia.h: -ffast-math removes the infinities that masks are made of"
#endif
#if defined(__ASSOCIATIVE_MATH__)
#error "fia.h: -fassociative-math (-funsafe-math-optimizations, -Ofast) reorders sums whose order is the result"
#endif
#if defined(FIA_BACKEND_H)
#include FIA_BACKEND_H
#define FIA_BACKEND_OF_BUILD_ (&fia_backend_of_build)
#else
#define FIA_BACKEND_OF_BUILD_ NULL
#endif

#ifndef FIA_CHUNK
#define FIA_CHUNK 512
#endif

#if defined(__GNUC__)
#ifdef __OPTIMIZE__
#define FIA_INLINE_ static inline __attribute__((always_inline))
#else
#define FIA_INLINE_ static inline /* at -O0 the locals of all that is inlined would lie side by side on the stack */
#endif
#define FIA_NOINLINE_ __attribute__((noinline))
/* Statements: clang 14 breaks down over an expression of the two at -O0. */
#define FIA_PREFETCH_(p, level)                                                                                        \
    do {                                                                                                               \
        if ((level) > 1) __builtin_prefetch((p), 0, 2);                                                                \
        else __builtin_prefetch((p), 0, 3);                                                                            \
    } while (0)
#elif defined(_MSC_VER)
#define FIA_INLINE_ static __forceinline
#define FIA_NOINLINE_ __declspec(noinline)
#define FIA_PREFETCH_(p, level) ((void)(p), (void)(level))
#else
#define FIA_INLINE_ static inline
#define FIA_NOINLINE_
#define FIA_PREFETCH_(p, level) ((void)(p), (void)(level))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- checked sizes: a sum or product that overflows becomes -1 and stays so ---- */

static int64_t fia_mul_(int64_t a, int64_t b) {
    if (a < 0 || b < 0 || (b != 0 && a > INT64_MAX / b)) return -1;
    return a * b;
}

static int64_t fia_add_(int64_t a, int64_t b) {
    if (a < 0 || b < 0 || a > INT64_MAX - b) return -1;
    return a + b;
}

FIA_INLINE_ int64_t fia_min_(int64_t a, int64_t b) { return a < b ? a : b; }
FIA_INLINE_ int64_t fia_max_(int64_t a, int64_t b) { return a > b ? a : b; }
FIA_INLINE_ int64_t fia_ceil_div_(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Rounds towards minus infinity; b > 0. */
FIA_INLINE_ int64_t fia_floor_div_(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* ---- sentences ---- */

typedef struct fia_text_ {
    char *at;
    size_t room, used; /* used counts what did not fit, too */
} fia_text_;

static void fia_text_char_(fia_text_ *t, char c) {
    if (t->used + 1 < t->room) {
        t->at[t->used] = c;
        t->at[t->used + 1] = 0;
    }
    ++t->used;
}

static void fia_text_str_(fia_text_ *t, const char *s) {
    while (*s) fia_text_char_(t, *s++);
}

static void fia_text_int_(fia_text_ *t, int64_t v) {
    char digits[20];
    int n = 0;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    if (v < 0) fia_text_char_(t, '-');
    do digits[n++] = (char)('0' + (int)(u % 10));
    while (u /= 10);
    while (n) fia_text_char_(t, digits[--n]);
}

/* Six digits of a float, as a whole number and a power of ten: nan, -inf, 42, -15e-7. */
static void fia_text_float_(fia_text_ *t, double v) {
    double size = v < 0 ? -v : v;
    int64_t digits;
    int power = 0;
    if (v < 0) fia_text_char_(t, '-');
    if (!(size <= DBL_MAX)) {
        fia_text_str_(t, v != v ? "nan" : "inf");
        return;
    }
    for (; size >= 1e6; ++power) size /= 10;
    for (; size > 0 && size < 1e5; --power) size *= 10;
    digits = (int64_t)(size + 0.5);
    for (; digits && digits % 10 == 0; ++power) digits /= 10;
    fia_text_int_(t, digits);
    if (!digits || !power) return;
    fia_text_char_(t, 'e');
    fia_text_int_(t, power);
}

/* A text with each '#' replaced by a, then b. */
static void fia_text_fill_(fia_text_ *t, const char *text, int64_t a, int64_t b) {
    for (; *text; ++text) {
        if (*text == '#') {
            fia_text_int_(t, a);
            a = b;
        } else {
            fia_text_char_(t, *text);
        }
    }
}

static void fia_text_join_(char *text, size_t room, const char *a, const char *b) {
    fia_text_ t = {text, room, 0};
    fia_text_str_(&t, a);
    fia_text_str_(&t, b);
}

/* "NAME is VALUE; ALLOWED" with each '#' of allowed replaced by a, then b. value_text wins over value. */
static fia_status fia_say_(fia_report *report, fia_status status, const char *name, const char *value_text,
                           int64_t value, const char *allowed, int64_t a, int64_t b) {
    fia_text_ t = {report ? report->text : NULL, sizeof(report->text), 0};
    if (!report) return status;
    report->status = status;
    fia_text_str_(&t, name);
    fia_text_str_(&t, " is ");
    if (value_text) fia_text_str_(&t, value_text);
    else fia_text_int_(&t, value);
    fia_text_str_(&t, "; ");
    fia_text_fill_(&t, allowed, a, b);
    return status;
}

/* A wrong integer argument: name, value, what is allowed ('#' stands for a, then b). */
static fia_status fia_refuse_(fia_report *report, const char *name, int64_t value, const char *allowed, int64_t a,
                              int64_t b) {
    return fia_say_(report, FIA_ERR_ARGUMENT, name, NULL, value, allowed, a, b);
}

/* A wrong argument whose value is a word: "float64", "absent", "\"BSHD\"". */
static fia_status fia_refuse_text_(fia_report *report, const char *name, const char *value, const char *allowed) {
    return fia_say_(report, FIA_ERR_ARGUMENT, name, value, 0, allowed, 0, 0);
}

static fia_status fia_refuse_float_(fia_report *report, const char *name, double value, const char *allowed) {
    char text[24];
    fia_text_ t = {text, sizeof(text), 0};
    fia_text_float_(&t, value);
    return fia_refuse_text_(report, name, text, allowed);
}

/* A right argument that this build cannot serve. */
static fia_status fia_lacks_(fia_report *report, const char *name, const char *value, const char *lacking) {
    return fia_say_(report, FIA_ERR_NOT_IN_BUILD, name, value, 0, lacking, 0, 0);
}

static fia_status fia_ok_(fia_report *report) {
    if (report) {
        report->status = FIA_OK;
        report->text[0] = 0;
    }
    return FIA_OK;
}

/* ---- element types by name ---- */

FIA_API const char *fia_dtype_text(fia_dtype dtype) {
    static const char *const name[] = {"none", "f32", "f16", "bf16", "f64", "i8",      "u8",      "bool",
                                       "i16",  "i32", "i64", "u64",  "i4",  "f8_e4m3", "f8_e5m2", "hif8"};
    return dtype >= 0 && dtype <= FIA_HIF8 ? name[dtype] : "unknown";
}

/* A wrong element type: its name, or the code where it has none. */
static fia_status fia_refuse_dtype_(fia_report *report, const char *name, fia_dtype dtype, const char *allowed) {
    return fia_say_(report, FIA_ERR_ARGUMENT, name, dtype >= 0 && dtype <= FIA_HIF8 ? fia_dtype_text(dtype) : NULL,
                    dtype, allowed, 0, 0);
}

FIA_API size_t fia_dtype_bytes(fia_dtype dtype) {
    static const unsigned char bytes[] = {0, 4, 2, 2, 8, 1, 1, 1, 2, 4, 8, 8, 0, 1, 1, 1};
    return dtype >= 0 && dtype <= FIA_HIF8 ? bytes[dtype] : 0;
}

/* ==== R5 lanes =============================================================================== */
/* One float vector, fia_vf_, of FIA_LANES = 4, 8 or 16 lanes, never wider than the CPU's registers: AVX-512 16, AVX2 8,
 * SSE and NEON 4; FIA_SCALAR plain C of any of the three. Every other room is written on these operations alone.
 * min/max and comparisons with NaN: fia_vf_max_(a, b) may return either operand, so put what may be NaN second. */

#ifdef __cplusplus
} /* SIMDe brings templates */
#endif

#if defined(FIA_SCALAR)
#define FIA_LANES FIA_SCALAR
#if FIA_LANES != 4 && FIA_LANES != 8 && FIA_LANES != 16
#error "fia.h: FIA_SCALAR is 4, 8 or 16 (lanes of plain C)"
#endif
#else
#ifndef SIMDE_FAST_NANS
#define SIMDE_FAST_NANS
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define FIA_LANES 16
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized" /* gcc 12 warns of its own header in C++ (gcc bug 105593) */
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#include <simde/x86/avx512.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define FIA_LANES 8
#include <simde/x86/avx2.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#else
#define FIA_LANES 4
#include <simde/x86/sse4.1.h>
#if defined(__FMA__)
#include <simde/x86/fma.h>
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define FIA_NEON_ 1
#include <arm_neon.h>
#endif
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifndef FIA_TARGET
#if defined(FIA_SCALAR)
#define FIA_TARGET scalar
#elif FIA_LANES == 16
#define FIA_TARGET v4
#elif FIA_LANES == 8
#define FIA_TARGET v3
#elif defined(FIA_NEON_)
#define FIA_TARGET neon
#elif defined(__SSE4_1__)
#define FIA_TARGET v2
#else
#define FIA_TARGET x86_64
#endif
#endif

#define FIA_SIGN_BIT_ 0x80000000u

FIA_INLINE_ float fia_bits_float_(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

FIA_INLINE_ uint32_t fia_float_bits_(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    return bits;
}

#define FIA_INF_ fia_bits_float_(0x7f800000u)
#define FIA_NAN_BITS_ 0x7fc00000u

/* binary16 to binary32: the exponent is moved by a multiplication, which is exact, denormals included (Giesen's
 * method). */
FIA_INLINE_ float fia_f16_float_(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = (uint32_t)(h & 0x7fffu) << 13;
    float f = fia_bits_float_(rest) * fia_bits_float_(0x77800000u); /* 2^112 */
    if ((h & 0x7c00u) == 0x7c00u) f = fia_bits_float_(rest | 0x7f800000u);
    return fia_bits_float_(fia_float_bits_(f) | sign);
}

/* binary32 to binary16, nearest even. */
FIA_INLINE_ uint16_t fia_float_f16_(float f) {
    uint32_t bits = fia_float_bits_(f), sign = (bits >> 16) & 0x8000u, a = bits & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and above round to infinity */
    if (a < 0x38800000u) {                                   /* denormal: adding 0.5 puts the last bit at 2^-24 */
        uint32_t d = fia_float_bits_(fia_bits_float_(a) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | d);
    }
    a += 0xc8000fffu + ((a >> 13) & 1u); /* exponent - 112, then round */
    return (uint16_t)(sign | (a >> 13));
}

FIA_INLINE_ float fia_bf16_float_(uint16_t h) { return fia_bits_float_((uint32_t)h << 16); }

FIA_INLINE_ uint16_t fia_float_bf16_(float f) {
    uint32_t bits = fia_float_bits_(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

#if defined(FIA_SCALAR)
/* ---- plain C ---- */

typedef struct fia_vf_ {
    float f[FIA_LANES];
} fia_vf_;
typedef struct fia_vm_ {
    uint32_t m[FIA_LANES]; /* 0 or 1 */
} fia_vm_;

#define FIA_EACH_ for (i = 0; i < FIA_LANES; ++i)

FIA_INLINE_ fia_vf_ fia_vf_set1_(float x) {
    fia_vf_ r;
    int i;
    FIA_EACH_ r.f[i] = x;
    return r;
}
FIA_INLINE_ fia_vf_ fia_vf_load_(const float *p) {
    fia_vf_ r;
    memcpy(r.f, p, sizeof(r.f));
    return r;
}
FIA_INLINE_ void fia_vf_store_(float *p, fia_vf_ a) { memcpy(p, a.f, sizeof(a.f)); }
FIA_INLINE_ fia_vf_ fia_vf_add_(fia_vf_ a, fia_vf_ b) {
    int i;
    FIA_EACH_ a.f[i] += b.f[i];
    return a;
}
FIA_INLINE_ fia_vf_ fia_vf_sub_(fia_vf_ a, fia_vf_ b) {
    int i;
    FIA_EACH_ a.f[i] -= b.f[i];
    return a;
}
FIA_INLINE_ fia_vf_ fia_vf_mul_(fia_vf_ a, fia_vf_ b) {
    int i;
    FIA_EACH_ a.f[i] *= b.f[i];
    return a;
}
FIA_INLINE_ fia_vf_ fia_vf_div_(fia_vf_ a, fia_vf_ b) {
    int i;
    FIA_EACH_ a.f[i] /= b.f[i];
    return a;
}
FIA_INLINE_ fia_vf_ fia_vf_fma_(fia_vf_ a, fia_vf_ b, fia_vf_ c) {
    int i;
    FIA_EACH_ c.f[i] += a.f[i] * b.f[i];
    return c;
}
FIA_INLINE_ fia_vf_ fia_vf_max_(fia_vf_ a, fia_vf_ b) {
    int i;
    FIA_EACH_ a.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i];
    return a;
}
FIA_INLINE_ fia_vf_ fia_vf_min_(fia_vf_ a, fia_vf_ b) {
    int i;
    FIA_EACH_ a.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i];
    return a;
}
FIA_INLINE_ fia_vm_ fia_vf_lt_(fia_vf_ a, fia_vf_ b) {
    fia_vm_ r;
    int i;
    FIA_EACH_ r.m[i] = a.f[i] < b.f[i];
    return r;
}
FIA_INLINE_ fia_vm_ fia_vf_eq_(fia_vf_ a, fia_vf_ b) {
    fia_vm_ r;
    int i;
    FIA_EACH_ r.m[i] = a.f[i] == b.f[i];
    return r;
}
FIA_INLINE_ int fia_vm_any_(fia_vm_ a) {
    uint32_t any = 0;
    int i;
    FIA_EACH_ any |= a.m[i];
    return any != 0;
}
FIA_INLINE_ fia_vf_ fia_vf_select_(fia_vm_ m, fia_vf_ a, fia_vf_ b) {
    int i;
    FIA_EACH_ b.f[i] = m.m[i] ? a.f[i] : b.f[i];
    return b;
}
FIA_INLINE_ fia_vf_ fia_vf_abs_(fia_vf_ a) {
    int i;
    FIA_EACH_ a.f[i] = fia_bits_float_(fia_float_bits_(a.f[i]) & ~FIA_SIGN_BIT_);
    return a;
}
FIA_INLINE_ fia_vf_ fia_vf_copysign_(fia_vf_ a, fia_vf_ sign) {
    int i;
    FIA_EACH_ a.f[i] =
        fia_bits_float_((fia_float_bits_(a.f[i]) & ~FIA_SIGN_BIT_) | (fia_float_bits_(sign.f[i]) & FIA_SIGN_BIT_));
    return a;
}
/* a * 2^n where z = n + 1.5 * 2^23, -126 <= n <= 127. */
FIA_INLINE_ fia_vf_ fia_vf_scale_magic_(fia_vf_ a, fia_vf_ z) {
    int i;
    FIA_EACH_ a.f[i] *= fia_bits_float_((fia_float_bits_(z.f[i]) + 127u) << 23);
    return a;
}
FIA_INLINE_ fia_vf_ fia_vf_loadn_(const float *p, int n) {
    fia_vf_ r = fia_vf_set1_(0.0f);
    memcpy(r.f, p, (size_t)n * sizeof(float));
    return r;
}
FIA_INLINE_ void fia_vf_storen_(float *p, fia_vf_ a, int n) { memcpy(p, a.f, (size_t)n * sizeof(float)); }
FIA_INLINE_ fia_vf_ fia_vf_load_halves_(const void *p, float (*widen)(uint16_t h)) {
    uint16_t h[FIA_LANES];
    fia_vf_ r;
    int i;
    memcpy(h, p, sizeof(h));
    FIA_EACH_ r.f[i] = widen(h[i]);
    return r;
}
FIA_INLINE_ fia_vf_ fia_vf_load_f16_(const void *p) { return fia_vf_load_halves_(p, fia_f16_float_); }
FIA_INLINE_ fia_vf_ fia_vf_load_bf16_(const void *p) { return fia_vf_load_halves_(p, fia_bf16_float_); }
FIA_INLINE_ int fia_vm_all_(fia_vm_ a) {
    uint32_t all = 1;
    int i;
    FIA_EACH_ all &= a.m[i];
    return all != 0;
}
FIA_INLINE_ fia_vf_ fia_vf_swap_(fia_vf_ a, int k) {
    fia_vf_ r;
    int i;
    FIA_EACH_ r.f[i] = a.f[i ^ k];
    return r;
}
FIA_INLINE_ fia_vf_ fia_vf_swap1_(fia_vf_ a) { return fia_vf_swap_(a, 1); }
FIA_INLINE_ fia_vf_ fia_vf_swap2_(fia_vf_ a) { return fia_vf_swap_(a, 2); }
#if FIA_LANES >= 8
FIA_INLINE_ fia_vf_ fia_vf_swap4_(fia_vf_ a) { return fia_vf_swap_(a, 4); }
#endif
#if FIA_LANES == 16
FIA_INLINE_ fia_vf_ fia_vf_swap8_(fia_vf_ a) { return fia_vf_swap_(a, 8); }
#endif
/* Lane i: the sum of v[i]: halves, then quarters, ... */
FIA_INLINE_ fia_vf_ fia_vf_sums_(const fia_vf_ *v) {
    fia_vf_ r;
    int i, j, n;
    FIA_EACH_ {
        fia_vf_ a = v[i];
        for (n = FIA_LANES / 2; n > 0; n /= 2)
            for (j = 0; j < n; ++j) a.f[j] += a.f[j + n];
        r.f[i] = a.f[0];
    }
    return r;
}
FIA_INLINE_ void fia_vf_transpose_(fia_vf_ *v) {
    int i, j;
    FIA_EACH_ for (j = 0; j < i; ++j) {
        const float t = v[i].f[j];
        v[i].f[j] = v[j].f[i];
        v[j].f[i] = t;
    }
}
#undef FIA_EACH_

#elif FIA_LANES == 16
/* ---- AVX-512: what Debian's SIMDe 0.7.4 lacks is called natively, which is the same thing here ---- */

typedef simde__m512 fia_vf_;
typedef simde__mmask16 fia_vm_;

FIA_INLINE_ fia_vf_ fia_vf_set1_(float x) { return simde_mm512_set1_ps(x); }
FIA_INLINE_ fia_vf_ fia_vf_load_(const float *p) { return simde_mm512_loadu_ps(p); }
FIA_INLINE_ void fia_vf_store_(float *p, fia_vf_ a) { simde_mm512_storeu_ps(p, a); }
FIA_INLINE_ fia_vf_ fia_vf_add_(fia_vf_ a, fia_vf_ b) { return simde_mm512_add_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_sub_(fia_vf_ a, fia_vf_ b) { return simde_mm512_sub_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_mul_(fia_vf_ a, fia_vf_ b) { return simde_mm512_mul_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_div_(fia_vf_ a, fia_vf_ b) { return simde_mm512_div_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_fma_(fia_vf_ a, fia_vf_ b, fia_vf_ c) { return simde_mm512_fmadd_ps(a, b, c); }
FIA_INLINE_ fia_vf_ fia_vf_max_(fia_vf_ a, fia_vf_ b) { return simde_mm512_max_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_min_(fia_vf_ a, fia_vf_ b) { return simde_mm512_min_ps(a, b); }
FIA_INLINE_ fia_vm_ fia_vf_lt_(fia_vf_ a, fia_vf_ b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
FIA_INLINE_ fia_vm_ fia_vf_eq_(fia_vf_ a, fia_vf_ b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
FIA_INLINE_ int fia_vm_any_(fia_vm_ a) { return a != 0; }
FIA_INLINE_ fia_vf_ fia_vf_select_(fia_vm_ m, fia_vf_ a, fia_vf_ b) { return simde_mm512_mask_blend_ps(m, b, a); }
FIA_INLINE_ fia_vf_ fia_vf_abs_(fia_vf_ a) { return _mm512_abs_ps(a); }
FIA_INLINE_ fia_vf_ fia_vf_copysign_(fia_vf_ a, fia_vf_ sign) {
    const __m512i bit = _mm512_set1_epi32((int)FIA_SIGN_BIT_);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(bit, _mm512_castps_si512(sign), _mm512_castps_si512(a), 0xca));
}
FIA_INLINE_ fia_vf_ fia_vf_scale_magic_(fia_vf_ a, fia_vf_ z) {
    return _mm512_scalef_ps(a, _mm512_sub_ps(z, _mm512_set1_ps(12582912.0f)));
}
FIA_INLINE_ fia_vf_ fia_vf_loadn_(const float *p, int n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
}
FIA_INLINE_ void fia_vf_storen_(float *p, fia_vf_ a, int n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), a);
}
FIA_INLINE_ fia_vf_ fia_vf_load_f16_(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
FIA_INLINE_ fia_vf_ fia_vf_load_bf16_(const void *p) {
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
FIA_INLINE_ void fia_vf_store_f16_(void *p, fia_vf_ a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
FIA_INLINE_ int fia_vm_all_(fia_vm_ a) { return a == 0xffff; }
FIA_INLINE_ fia_vf_ fia_vf_swap1_(fia_vf_ a) { return _mm512_permute_ps(a, 0xb1); }
FIA_INLINE_ fia_vf_ fia_vf_swap2_(fia_vf_ a) { return _mm512_permute_ps(a, 0x4e); }
FIA_INLINE_ fia_vf_ fia_vf_swap4_(fia_vf_ a) { return _mm512_shuffle_f32x4(a, a, 0xb1); }
FIA_INLINE_ fia_vf_ fia_vf_swap8_(fia_vf_ a) { return _mm512_shuffle_f32x4(a, a, 0x4e); }
/* A blend and a shuffle where that gives the same sums as two shuffles: shuffles are what runs out of ports. */
FIA_INLINE_ fia_vf_ fia_sums_halves_(fia_vf_ a, fia_vf_ b) {
    return _mm512_add_ps(simde_mm512_mask_blend_ps(0xff00, a, b), _mm512_shuffle_f32x4(a, b, 0x4e));
}
FIA_INLINE_ fia_vf_ fia_sums_pairs_(fia_vf_ a, fia_vf_ b) {
    return _mm512_add_ps(simde_mm512_mask_blend_ps(0xcccc, a, b), _mm512_shuffle_ps(a, b, 0x4e));
}
/* v[k], v[4 + k], v[8 + k], v[12 + k] end in 128-bit lane k; the arguments are chosen so that lane i is the sum of
 * v[i]. */
FIA_INLINE_ fia_vf_ fia_sums_lanes_(fia_vf_ a, fia_vf_ b, fia_vf_ c, fia_vf_ d) {
    const fia_vf_ x = fia_sums_halves_(a, b), y = fia_sums_halves_(c, d);
    return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x88), _mm512_shuffle_f32x4(x, y, 0xdd));
}
FIA_INLINE_ fia_vf_ fia_vf_sums_(const fia_vf_ *v) {
    const fia_vf_ a =
        fia_sums_pairs_(fia_sums_lanes_(v[0], v[4], v[8], v[12]), fia_sums_lanes_(v[1], v[5], v[9], v[13]));
    const fia_vf_ b =
        fia_sums_pairs_(fia_sums_lanes_(v[2], v[6], v[10], v[14]), fia_sums_lanes_(v[3], v[7], v[11], v[15]));
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}
/* 4 x 4 blocks by unpacking pairs, then the blocks among each other. */
FIA_INLINE_ void fia_vf_transpose_(fia_vf_ *v) {
    fia_vf_ t[16];
    int i;
    for (i = 0; i < 16; i += 4) {
        const fia_vf_ a = _mm512_unpacklo_ps(v[i], v[i + 1]), b = _mm512_unpackhi_ps(v[i], v[i + 1]);
        const fia_vf_ c = _mm512_unpacklo_ps(v[i + 2], v[i + 3]), d = _mm512_unpackhi_ps(v[i + 2], v[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    for (i = 0; i < 4; ++i) {
        const fia_vf_ a = _mm512_shuffle_f32x4(t[i], t[4 + i], 0x88), b = _mm512_shuffle_f32x4(t[i], t[4 + i], 0xdd);
        const fia_vf_ c = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0x88),
                      d = _mm512_shuffle_f32x4(t[8 + i], t[12 + i], 0xdd);
        v[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        v[8 + i] = _mm512_shuffle_f32x4(a, c, 0xdd);
        v[4 + i] = _mm512_shuffle_f32x4(b, d, 0x88);
        v[12 + i] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

#elif FIA_LANES == 8
/* ---- AVX2 + FMA + F16C ---- */

typedef simde__m256 fia_vf_;
typedef simde__m256 fia_vm_;

FIA_INLINE_ fia_vf_ fia_vf_set1_(float x) { return simde_mm256_set1_ps(x); }
FIA_INLINE_ fia_vf_ fia_vf_load_(const float *p) { return simde_mm256_loadu_ps(p); }
FIA_INLINE_ void fia_vf_store_(float *p, fia_vf_ a) { simde_mm256_storeu_ps(p, a); }
FIA_INLINE_ fia_vf_ fia_vf_add_(fia_vf_ a, fia_vf_ b) { return simde_mm256_add_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_sub_(fia_vf_ a, fia_vf_ b) { return simde_mm256_sub_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_mul_(fia_vf_ a, fia_vf_ b) { return simde_mm256_mul_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_div_(fia_vf_ a, fia_vf_ b) { return simde_mm256_div_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_fma_(fia_vf_ a, fia_vf_ b, fia_vf_ c) { return simde_mm256_fmadd_ps(a, b, c); }
FIA_INLINE_ fia_vf_ fia_vf_max_(fia_vf_ a, fia_vf_ b) { return simde_mm256_max_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_min_(fia_vf_ a, fia_vf_ b) { return simde_mm256_min_ps(a, b); }
FIA_INLINE_ fia_vm_ fia_vf_lt_(fia_vf_ a, fia_vf_ b) { return simde_mm256_cmp_ps(a, b, SIMDE_CMP_LT_OQ); }
FIA_INLINE_ fia_vm_ fia_vf_eq_(fia_vf_ a, fia_vf_ b) { return simde_mm256_cmp_ps(a, b, SIMDE_CMP_EQ_OQ); }
FIA_INLINE_ int fia_vm_any_(fia_vm_ a) { return simde_mm256_movemask_ps(a) != 0; }
FIA_INLINE_ int fia_vm_all_(fia_vm_ a) { return simde_mm256_movemask_ps(a) == 0xff; }
FIA_INLINE_ fia_vf_ fia_vf_select_(fia_vm_ m, fia_vf_ a, fia_vf_ b) { return simde_mm256_blendv_ps(b, a, m); }
FIA_INLINE_ fia_vf_ fia_vf_abs_(fia_vf_ a) { return simde_mm256_andnot_ps(simde_mm256_set1_ps(-0.0f), a); }
FIA_INLINE_ fia_vf_ fia_vf_copysign_(fia_vf_ a, fia_vf_ sign) {
    return simde_mm256_or_ps(fia_vf_abs_(a), simde_mm256_and_ps(simde_mm256_set1_ps(-0.0f), sign));
}
FIA_INLINE_ fia_vf_ fia_vf_scale_magic_(fia_vf_ a, fia_vf_ z) {
    simde__m256i n = simde_mm256_add_epi32(simde_mm256_castps_si256(z), simde_mm256_set1_epi32(127));
    return simde_mm256_mul_ps(a, simde_mm256_castsi256_ps(simde_mm256_slli_epi32(n, 23)));
}
FIA_INLINE_ simde__m256i fia_tail_mask_(int n) {
    static const int32_t slide[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return simde_mm256_loadu_si256((const simde__m256i *)(const void *)(slide + 8 - n));
}
FIA_INLINE_ fia_vf_ fia_vf_loadn_(const float *p, int n) { return simde_mm256_maskload_ps(p, fia_tail_mask_(n)); }
FIA_INLINE_ void fia_vf_storen_(float *p, fia_vf_ a, int n) { simde_mm256_maskstore_ps(p, fia_tail_mask_(n), a); }
FIA_INLINE_ fia_vf_ fia_vf_load_f16_(const void *p) {
    return simde_mm256_cvtph_ps(simde_mm_loadu_si128((const simde__m128i *)p));
}
FIA_INLINE_ fia_vf_ fia_vf_load_bf16_(const void *p) {
    simde__m256i w = simde_mm256_cvtepu16_epi32(simde_mm_loadu_si128((const simde__m128i *)p));
    return simde_mm256_castsi256_ps(simde_mm256_slli_epi32(w, 16));
}
FIA_INLINE_ void fia_vf_store_f16_(void *p, fia_vf_ a) {
    simde_mm_storeu_si128((simde__m128i *)p, simde_mm256_cvtps_ph(a, 0));
}
FIA_INLINE_ fia_vf_ fia_vf_swap1_(fia_vf_ a) { return simde_mm256_permute_ps(a, 0xb1); }
FIA_INLINE_ fia_vf_ fia_vf_swap2_(fia_vf_ a) { return simde_mm256_permute_ps(a, 0x4e); }
FIA_INLINE_ fia_vf_ fia_vf_swap4_(fia_vf_ a) { return simde_mm256_permute2f128_ps(a, a, 0x01); }
/* A blend and a shuffle where that gives the same sums as two shuffles: shuffles are what runs out of ports. */
FIA_INLINE_ fia_vf_ fia_sums_halves_(fia_vf_ a, fia_vf_ b) {
    return simde_mm256_add_ps(simde_mm256_blend_ps(a, b, 0xf0), simde_mm256_permute2f128_ps(a, b, 0x21));
}
FIA_INLINE_ fia_vf_ fia_sums_pairs_(fia_vf_ a, fia_vf_ b) {
    return simde_mm256_add_ps(simde_mm256_blend_ps(a, b, 0xcc), simde_mm256_shuffle_ps(a, b, 0x4e));
}
FIA_INLINE_ fia_vf_ fia_vf_sums_(const fia_vf_ *v) {
    const fia_vf_ a = fia_sums_pairs_(fia_sums_halves_(v[0], v[4]), fia_sums_halves_(v[1], v[5]));
    const fia_vf_ b = fia_sums_pairs_(fia_sums_halves_(v[2], v[6]), fia_sums_halves_(v[3], v[7]));
    return simde_mm256_add_ps(simde_mm256_shuffle_ps(a, b, 0x88), simde_mm256_shuffle_ps(a, b, 0xdd));
}
FIA_INLINE_ void fia_vf_transpose_(fia_vf_ *v) {
    fia_vf_ t[8];
    int i;
    for (i = 0; i < 8; i += 4) {
        const fia_vf_ a = simde_mm256_unpacklo_ps(v[i], v[i + 1]), b = simde_mm256_unpackhi_ps(v[i], v[i + 1]);
        const fia_vf_ c = simde_mm256_unpacklo_ps(v[i + 2], v[i + 3]), d = simde_mm256_unpackhi_ps(v[i + 2], v[i + 3]);
        t[i] = simde_mm256_shuffle_ps(a, c, 0x44);
        t[i + 1] = simde_mm256_shuffle_ps(a, c, 0xee);
        t[i + 2] = simde_mm256_shuffle_ps(b, d, 0x44);
        t[i + 3] = simde_mm256_shuffle_ps(b, d, 0xee);
    }
    for (i = 0; i < 4; ++i) {
        v[i] = simde_mm256_permute2f128_ps(t[i], t[4 + i], 0x20);
        v[4 + i] = simde_mm256_permute2f128_ps(t[i], t[4 + i], 0x31);
    }
}

#else
/* ---- SSE2 .. SSE4.2, and NEON through the same names ---- */

typedef simde__m128 fia_vf_;
typedef simde__m128 fia_vm_;

FIA_INLINE_ fia_vf_ fia_vf_set1_(float x) { return simde_mm_set1_ps(x); }
FIA_INLINE_ fia_vf_ fia_vf_load_(const float *p) { return simde_mm_loadu_ps(p); }
FIA_INLINE_ void fia_vf_store_(float *p, fia_vf_ a) { simde_mm_storeu_ps(p, a); }
FIA_INLINE_ fia_vf_ fia_vf_add_(fia_vf_ a, fia_vf_ b) { return simde_mm_add_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_sub_(fia_vf_ a, fia_vf_ b) { return simde_mm_sub_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_mul_(fia_vf_ a, fia_vf_ b) { return simde_mm_mul_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_div_(fia_vf_ a, fia_vf_ b) { return simde_mm_div_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_fma_(fia_vf_ a, fia_vf_ b, fia_vf_ c) {
#if defined(FIA_NEON_)
    return simde__m128_from_neon_f32(
        vfmaq_f32(simde__m128_to_neon_f32(c), simde__m128_to_neon_f32(a), simde__m128_to_neon_f32(b)));
#elif defined(__FMA__)
    return simde_mm_fmadd_ps(a, b, c);
#else
    return simde_mm_add_ps(simde_mm_mul_ps(a, b), c);
#endif
}
FIA_INLINE_ fia_vf_ fia_vf_max_(fia_vf_ a, fia_vf_ b) { return simde_mm_max_ps(a, b); }
FIA_INLINE_ fia_vf_ fia_vf_min_(fia_vf_ a, fia_vf_ b) { return simde_mm_min_ps(a, b); }
FIA_INLINE_ fia_vm_ fia_vf_lt_(fia_vf_ a, fia_vf_ b) { return simde_mm_cmplt_ps(a, b); }
FIA_INLINE_ fia_vm_ fia_vf_eq_(fia_vf_ a, fia_vf_ b) { return simde_mm_cmpeq_ps(a, b); }
FIA_INLINE_ int fia_vm_any_(fia_vm_ a) { return simde_mm_movemask_ps(a) != 0; }
FIA_INLINE_ int fia_vm_all_(fia_vm_ a) { return simde_mm_movemask_ps(a) == 0xf; }
FIA_INLINE_ fia_vf_ fia_vf_select_(fia_vm_ m, fia_vf_ a, fia_vf_ b) {
    return simde_mm_or_ps(simde_mm_and_ps(m, a), simde_mm_andnot_ps(m, b));
}
FIA_INLINE_ fia_vf_ fia_vf_abs_(fia_vf_ a) { return simde_mm_andnot_ps(simde_mm_set1_ps(-0.0f), a); }
FIA_INLINE_ fia_vf_ fia_vf_copysign_(fia_vf_ a, fia_vf_ sign) {
    return simde_mm_or_ps(fia_vf_abs_(a), simde_mm_and_ps(simde_mm_set1_ps(-0.0f), sign));
}
FIA_INLINE_ fia_vf_ fia_vf_scale_magic_(fia_vf_ a, fia_vf_ z) {
    simde__m128i n = simde_mm_add_epi32(simde_mm_castps_si128(z), simde_mm_set1_epi32(127));
    return simde_mm_mul_ps(a, simde_mm_castsi128_ps(simde_mm_slli_epi32(n, 23)));
}
/* Through a copy: SIMDe's masked loads of 128 bits may touch bytes past the end. */
FIA_INLINE_ fia_vf_ fia_vf_loadn_(const float *p, int n) {
    float copy[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    memcpy(copy, p, (size_t)n * sizeof(float));
    return fia_vf_load_(copy);
}
FIA_INLINE_ void fia_vf_storen_(float *p, fia_vf_ a, int n) {
    float copy[4];
    fia_vf_store_(copy, a);
    memcpy(p, copy, (size_t)n * sizeof(float));
}
FIA_INLINE_ fia_vf_ fia_vf_load_bf16_(const void *p) {
    simde__m128i h = simde_mm_loadl_epi64((const simde__m128i *)p);
    return simde_mm_castsi128_ps(simde_mm_unpacklo_epi16(simde_mm_setzero_si128(), h));
}
FIA_INLINE_ fia_vf_ fia_vf_load_f16_(const void *p) {
#if defined(FIA_NEON_)
    uint16x4_t h = vreinterpret_u16_u8(vld1_u8((const uint8_t *)p));
    return simde__m128_from_neon_f32(vcvt_f32_f16(vreinterpret_f16_u16(h)));
#else
    /* the vector form of fia_f16_float_ */
    const simde__m128i h =
        simde_mm_unpacklo_epi16(simde_mm_loadl_epi64((const simde__m128i *)p), simde_mm_setzero_si128());
    const simde__m128i rest = simde_mm_slli_epi32(simde_mm_and_si128(h, simde_mm_set1_epi32(0x7fff)), 13);
    const simde__m128i sign = simde_mm_slli_epi32(simde_mm_and_si128(h, simde_mm_set1_epi32(0x8000)), 16);
    const simde__m128i big = simde_mm_cmpgt_epi32(rest, simde_mm_set1_epi32(0x0f7fffff)); /* infinity and NaN */
    simde__m128i f = simde_mm_castps_si128(
        simde_mm_mul_ps(simde_mm_castsi128_ps(rest), simde_mm_castsi128_ps(simde_mm_set1_epi32(0x77800000))));
    f = simde_mm_or_si128(simde_mm_andnot_si128(big, f),
                          simde_mm_and_si128(big, simde_mm_or_si128(rest, simde_mm_set1_epi32(0x7f800000))));
    return simde_mm_castsi128_ps(simde_mm_or_si128(f, sign));
#endif
}
#if defined(FIA_NEON_)
FIA_INLINE_ void fia_vf_store_f16_(void *p, fia_vf_ a) {
    vst1_u8((uint8_t *)p, vreinterpret_u8_f16(vcvt_f16_f32(simde__m128_to_neon_f32(a))));
}
#endif
FIA_INLINE_ fia_vf_ fia_vf_swap1_(fia_vf_ a) { return simde_mm_shuffle_ps(a, a, 0xb1); }
FIA_INLINE_ fia_vf_ fia_vf_swap2_(fia_vf_ a) { return simde_mm_shuffle_ps(a, a, 0x4e); }
FIA_INLINE_ fia_vf_ fia_sums_pairs_(fia_vf_ a, fia_vf_ b) {
    return simde_mm_add_ps(simde_mm_movelh_ps(a, b), simde_mm_movehl_ps(b, a));
}
FIA_INLINE_ fia_vf_ fia_vf_sums_(const fia_vf_ *v) {
    const fia_vf_ a = fia_sums_pairs_(v[0], v[1]), b = fia_sums_pairs_(v[2], v[3]);
    return simde_mm_add_ps(simde_mm_shuffle_ps(a, b, 0x88), simde_mm_shuffle_ps(a, b, 0xdd));
}
FIA_INLINE_ void fia_vf_transpose_(fia_vf_ *v) {
    const fia_vf_ a = simde_mm_unpacklo_ps(v[0], v[1]), b = simde_mm_unpackhi_ps(v[0], v[1]);
    const fia_vf_ c = simde_mm_unpacklo_ps(v[2], v[3]), d = simde_mm_unpackhi_ps(v[2], v[3]);
    v[0] = simde_mm_movelh_ps(a, c);
    v[1] = simde_mm_movehl_ps(c, a);
    v[2] = simde_mm_movelh_ps(b, d);
    v[3] = simde_mm_movehl_ps(d, b);
}
#endif

/* ---- on top of the above, for every width ---- */

FIA_INLINE_ fia_vf_ fia_vf_zero_(void) { return fia_vf_set1_(0.0f); }

/* Keeps a loaded vector in its register, where gcc would repeat the load in every use; clang does so by itself. */
FIA_INLINE_ void fia_vf_pin_(fia_vf_ *a) {
#if defined(FIA_SCALAR) || !defined(__GNUC__) || defined(__clang__)
    (void)a;
#elif defined(FIA_NEON_)
    __asm__("" : "+w"(*a));
#elif FIA_LANES == 16
    __asm__("" : "+v"(*a));
#else
    __asm__("" : "+x"(*a));
#endif
}

FIA_INLINE_ void fia_vf_store_halves_(void *p, fia_vf_ a, uint16_t (*narrow)(float f)) {
    float f[FIA_LANES];
    uint16_t h[FIA_LANES];
    int i;
    fia_vf_store_(f, a);
    for (i = 0; i < FIA_LANES; ++i) h[i] = narrow(f[i]);
    memcpy(p, h, sizeof(h));
}
#if defined(FIA_SCALAR) || (FIA_LANES == 4 && !defined(FIA_NEON_))
FIA_INLINE_ void fia_vf_store_f16_(void *p, fia_vf_ a) { fia_vf_store_halves_(p, a, fia_float_f16_); }
#endif
FIA_INLINE_ void fia_vf_store_bf16_(void *p, fia_vf_ a) { fia_vf_store_halves_(p, a, fia_float_bf16_); }

/* ==== R6 math ================================================================================ */
/* exp2 within 1 ulp (1.5 without FMA), tanh within 3 ulp, log in double. No call into libm, no errno.
 * Results below 2^-126 are 0: denormals cost an assist per use on several CPUs. */

#define FIA_LOG2E_ 1.4426950408889634f
#define FIA_LN2_ 0.6931471805599453

/* 2^t for t <= 127. t = n + r, n = round(t), r in [-1/2, 1/2]; 2^r by a minimax polynomial of degree 6 with p(0) = 1
 * (own Remez fit, relative error 2.6e-9). NaN stays NaN, -inf gives 0. */
FIA_INLINE_ fia_vf_ fia_vf_exp2_(fia_vf_ t) {
    const fia_vf_ magic = fia_vf_set1_(12582912.0f); /* 1.5 * 2^23: the sum's low bits are round(t) */
    const fia_vf_ lowest = fia_vf_set1_(-126.0f);
    const fia_vf_ u = fia_vf_max_(lowest, t);
    const fia_vf_ z = fia_vf_add_(u, magic);
    const fia_vf_ r = fia_vf_sub_(u, fia_vf_sub_(z, magic));
    fia_vf_ p = fia_vf_set1_(fia_bits_float_(0x39222000u));            /* 0x1.444000p-13 */
    p = fia_vf_fma_(p, r, fia_vf_set1_(fia_bits_float_(0x3aafa460u))); /* 0x1.5f48c0p-10 */
    p = fia_vf_fma_(p, r, fia_vf_set1_(fia_bits_float_(0x3c1d950eu))); /* 0x1.3b2a1cp-7 */
    p = fia_vf_fma_(p, r, fia_vf_set1_(fia_bits_float_(0x3d635766u))); /* 0x1.c6aeccp-5 */
    p = fia_vf_fma_(p, r, fia_vf_set1_(fia_bits_float_(0x3e75fdf0u))); /* 0x1.ebfbe0p-3 */
    p = fia_vf_fma_(p, r, fia_vf_set1_(fia_bits_float_(0x3f317218u))); /* 0x1.62e430p-1 */
    p = fia_vf_fma_(p, r, fia_vf_set1_(1.0f));
    return fia_vf_select_(fia_vf_lt_(t, lowest), fia_vf_zero_(), fia_vf_scale_magic_(p, z));
}

/* One value of fia_vf_exp2_. */
static float fia_exp2_(float t) {
    float lane[FIA_LANES];
    fia_vf_store_(lane, fia_vf_exp2_(fia_vf_set1_(t)));
    return lane[0];
}

/* tanh: |x| < 0.625 odd polynomial (own Remez fit, relative error 4e-9), else 1 - 2 / (exp(2|x|) + 1). */
FIA_INLINE_ fia_vf_ fia_vf_tanh_(fia_vf_ x) {
    const fia_vf_ one = fia_vf_set1_(1.0f), a = fia_vf_abs_(x);
    const fia_vf_ x2 = fia_vf_mul_(x, x);
    fia_vf_ p = fia_vf_set1_(fia_bits_float_(0xbbbb560eu)); /* -0x1.76ac1cp-8 */
    fia_vf_ e;
    p = fia_vf_fma_(p, x2, fia_vf_set1_(fia_bits_float_(0x3ca92b6cu))); /* 0x1.5256d8p-6 */
    p = fia_vf_fma_(p, x2, fia_vf_set1_(fia_bits_float_(0xbd5c2224u))); /* -0x1.b84448p-5 */
    p = fia_vf_fma_(p, x2, fia_vf_set1_(fia_bits_float_(0x3e0883b4u))); /* 0x1.110768p-3 */
    p = fia_vf_fma_(p, x2, fia_vf_set1_(fia_bits_float_(0xbeaaaa9au))); /* -0x1.555534p-2 */
    p = fia_vf_fma_(fia_vf_mul_(p, x2), x, x);
    e = fia_vf_exp2_(fia_vf_min_(fia_vf_set1_(60.0f), fia_vf_mul_(a, fia_vf_set1_(2.0f * FIA_LOG2E_))));
    e = fia_vf_sub_(one, fia_vf_div_(fia_vf_set1_(2.0f), fia_vf_add_(e, one)));
    return fia_vf_select_(fia_vf_lt_(a, fia_vf_set1_(0.625f)), p, fia_vf_copysign_(e, x));
}

/* ln x for finite x > 0: x = m 2^e, m in [0.70, 1.41]; ln m = 2 atanh((m - 1) / (m + 1)). NaN and +inf are returned. */
static double fia_log_(float x) {
    uint32_t bits = fia_float_bits_(x);
    int e = 0;
    double f, f2, sum = 0.0;
    int k;
    if (!(x < FIA_INF_)) return x;
    if (bits < 0x00800000u) {
        bits = fia_float_bits_(x * 8388608.0f);
        e = -23;
    }
    e += (int)((bits - 0x3f3504f3u) >> 23) - (bits < 0x3f3504f3u ? 512 : 0);
    bits -= (uint32_t)((int32_t)((bits - 0x3f3504f3u) & 0xff800000u));
    f = (double)fia_bits_float_(bits);
    f = (f - 1.0) / (f + 1.0);
    f2 = f * f;
    for (k = 17; k >= 1; k -= 2) sum = sum * f2 + 1.0 / k;
    return 2.0 * f * sum + e * FIA_LN2_;
}

/* ==== R7 codecs ============================================================================== */
/* Stored element types. A loader is the constant that stream kernels are stamped with; a codec is the record that the
 * other rooms call. Further types come from extension headers through fia_context_add. */

typedef struct fia_loader_ {
    int bytes;                              /* of an element */
    fia_vf_ (*load)(const void *p);         /* FIA_LANES elements, any alignment */
    fia_vf_ (*loadn)(const void *p, int n); /* 0 < n < FIA_LANES, the rest 0 */
} fia_loader_;

FIA_INLINE_ fia_vf_ fia_load_f32_(const void *p) { return fia_vf_load_((const float *)p); }
FIA_INLINE_ fia_vf_ fia_loadn_f32_(const void *p, int n) { return fia_vf_loadn_((const float *)p, n); }
FIA_INLINE_ fia_vf_ fia_loadn_halves_(fia_vf_ (*load)(const void *p), const void *p, int n) {
    char copy[FIA_LANES * 2] = {0};
    memcpy(copy, p, (size_t)n * 2);
    return load(copy);
}
FIA_INLINE_ fia_vf_ fia_loadn_f16_(const void *p, int n) { return fia_loadn_halves_(fia_vf_load_f16_, p, n); }
FIA_INLINE_ fia_vf_ fia_loadn_bf16_(const void *p, int n) { return fia_loadn_halves_(fia_vf_load_bf16_, p, n); }

static const fia_loader_ fia_loader_f32_ = {4, fia_load_f32_, fia_loadn_f32_};
static const fia_loader_ fia_loader_f16_ = {2, fia_vf_load_f16_, fia_loadn_f16_};
static const fia_loader_ fia_loader_bf16_ = {2, fia_vf_load_bf16_, fia_loadn_bf16_};

/* Widens n contiguous elements. */
FIA_INLINE_ void fia_widen_(const fia_loader_ *from, float *dst, const char *src, int n) {
    int i = 0;
    for (; i + FIA_LANES <= n; i += FIA_LANES) fia_vf_store_(dst + i, from->load(src + (ptrdiff_t)i * from->bytes));
    if (i < n) fia_vf_storen_(dst + i, from->loadn(src + (ptrdiff_t)i * from->bytes, n - i), n - i);
}

enum {
    FIA_LINE_ = 64 /* bytes of a cache line */,
    FIA_DECODE_AHEAD_ = 16 /* rows that are asked for before they are widened */
};

FIA_INLINE_ void fia_decode_rows_(const fia_loader_ *from, float *dst, ptrdiff_t dst_stride, const fia_rows *rows) {
    const int whole = !rows->piece_elements || rows->piece_elements > rows->elements;
    const int piece = whole ? rows->elements : rows->piece_elements;
    int r, i, k;
    for (r = 0; r < rows->n; ++r, dst += dst_stride) {
        if (r + FIA_DECODE_AHEAD_ < rows->n)
            for (i = 0; i < piece * from->bytes; i += FIA_LINE_) FIA_PREFETCH_(rows->row[r + FIA_DECODE_AHEAD_] + i, 1);
        for (i = 0, k = 0; i < rows->elements; i += piece, ++k)
            fia_widen_(from, dst + i, rows->row[r] + k * rows->piece_bytes, (int)fia_min_(piece, rows->elements - i));
    }
}

static void fia_decode_f32_(float *dst, ptrdiff_t dst_stride, const fia_rows *rows) {
    fia_decode_rows_(&fia_loader_f32_, dst, dst_stride, rows);
}
static void fia_decode_f16_(float *dst, ptrdiff_t dst_stride, const fia_rows *rows) {
    fia_decode_rows_(&fia_loader_f16_, dst, dst_stride, rows);
}
static void fia_decode_bf16_(float *dst, ptrdiff_t dst_stride, const fia_rows *rows) {
    fia_decode_rows_(&fia_loader_bf16_, dst, dst_stride, rows);
}

/* Narrows one row, x * mul + add, through a block of lanes; the last block goes through a copy. */
FIA_INLINE_ void fia_store_row_(void (*store)(void *p, fia_vf_ a), int bytes, char *dst, const float *src, int n,
                                const float *mul, const float *add) {
    int i;
    for (i = 0; i < n; i += FIA_LANES, dst += (ptrdiff_t)FIA_LANES * bytes) {
        const int left = n - i;
        fia_vf_ x = left < FIA_LANES ? fia_vf_loadn_(src + i, left) : fia_vf_load_(src + i);
        if (mul) x = fia_vf_mul_(x, left < FIA_LANES ? fia_vf_loadn_(mul + i, left) : fia_vf_load_(mul + i));
        if (add) x = fia_vf_add_(x, left < FIA_LANES ? fia_vf_loadn_(add + i, left) : fia_vf_load_(add + i));
        if (left < FIA_LANES) {
            char copy[FIA_LANES * 4];
            store(copy, x);
            memcpy(dst, copy, (size_t)left * (size_t)bytes);
        } else {
            store(dst, x);
        }
    }
}

FIA_INLINE_ void fia_vf_store_f32_(void *p, fia_vf_ a) { fia_vf_store_((float *)p, a); }

static void fia_store_f32_(char *dst, const float *src, int32_t n, const float *mul, const float *add,
                           const void *params) {
    (void)params;
    fia_store_row_(fia_vf_store_f32_, 4, dst, src, n, mul, add);
}
static void fia_store_f16_(char *dst, const float *src, int32_t n, const float *mul, const float *add,
                           const void *params) {
    (void)params;
    fia_store_row_(fia_vf_store_f16_, 2, dst, src, n, mul, add);
}
static void fia_store_bf16_(char *dst, const float *src, int32_t n, const float *mul, const float *add,
                            const void *params) {
    (void)params;
    fia_store_row_(fia_vf_store_bf16_, 2, dst, src, n, mul, add);
}

static const fia_codec fia_codec_f32_ = {"f32", FIA_F32, 1, 4, 4, 0, NULL, NULL, fia_decode_f32_, fia_store_f32_};
static const fia_codec fia_codec_f16_ = {"f16", FIA_F16, 1, 2, 2, 0, NULL, NULL, fia_decode_f16_, fia_store_f16_};
static const fia_codec fia_codec_bf16_ = {"bf16", FIA_BF16, 1, 2, 2, 1, NULL, NULL, fia_decode_bf16_, fia_store_bf16_};

/* Bytes of an element of a float table or of a mask. */
FIA_INLINE_ int64_t fia_float_bytes_(fia_dtype dtype) {
    return dtype == FIA_F32 ? 4 : dtype == FIA_F16 || dtype == FIA_BF16 ? 2 : 1;
}

/* One value of a small float table (a scale, a sink, a slope): F32, F16 or BF16. */
static float fia_value_(fia_dtype dtype, const void *p) {
    uint16_t h;
    float f;
    if (dtype == FIA_F32) {
        memcpy(&f, p, 4);
        return f;
    }
    memcpy(&h, p, 2);
    return dtype == FIA_F16 ? fia_f16_float_(h) : fia_bf16_float_(h);
}

/* n consecutive values of a float table. */
static void fia_values_(fia_dtype dtype, float *dst, const void *p, int n) {
    const char *src = (const char *)p;
    if (dtype == FIA_F32) memcpy(dst, src, (size_t)n * 4);
    else if (dtype == FIA_F16) fia_widen_(&fia_loader_f16_, dst, src, n);
    else fia_widen_(&fia_loader_bf16_, dst, src, n);
}

/* ==== R8 keys ================================================================================ */
/* Address forms: a range of key positions becomes runs of places {outer, row}; a stream (K, rope, V, a scale) turns a
 * place into its own pointer. Nothing else knows how a cache is addressed. */

static int64_t fia_ints_at_(const fia_ints *ints, int64_t i) {
    const ptrdiff_t step = ints->stride_bytes ? ints->stride_bytes : ints->dtype == FIA_I64 ? 8 : 4;
    const char *p = (const char *)ints->data + (ints->broadcast ? 0 : i * step);
    if (ints->dtype == FIA_I64) {
        int64_t v;
        memcpy(&v, p, 8);
        return v;
    } else {
        int32_t v;
        memcpy(&v, p, 4);
        return v;
    }
}

static int64_t fia_strided_runs_(const fia_keys_call *call, int64_t first, int64_t n, fia_run_of_keys *runs) {
    runs->outer = call->sequence;
    runs->row = call->kv_start + first;
    runs->n = n;
    return 1;
}

/* The sequence's row of the block table; the plan set table_bytes. */
static const int32_t *fia_table_row_(const fia_keys_call *call) {
    return (const int32_t *)(const void *)((const char *)call->io->block_table +
                                           call->sequence * call->problem->table_bytes);
}

static int64_t fia_paged_runs_(const fia_keys_call *call, int64_t first, int64_t n, fia_run_of_keys *runs) {
    const int64_t size = call->problem->page_size;
    const int32_t *table = fia_table_row_(call);
    int64_t column = first / size, slot = first % size, count = 0;
    for (; n > 0; ++count, ++column, slot = 0) {
        runs[count].outer = table[column];
        runs[count].row = slot;
        runs[count].n = fia_min_(n, size - slot);
        n -= runs[count].n;
    }
    return count;
}

/* Only the ids of pages that hold a key of [first, end) are looked at. */
static int fia_paged_check_(const fia_keys_call *call, int64_t first, int64_t end, char *text, size_t text_bytes) {
    const fia_problem *p = call->problem;
    const int32_t *table = fia_table_row_(call);
    int64_t column;
    for (column = first / p->page_size; column * p->page_size < end; ++column) {
        if (table[column] < 0 || table[column] >= p->n_pages) {
            fia_text_ t = {text, text_bytes, 0};
            fia_text_fill_(&t, "block_table[#][#", call->sequence, column);
            fia_text_fill_(&t, "] is #; page ids lie in [0, #)", table[column], p->n_pages);
            return 1;
        }
    }
    return 0;
}

static const fia_keys fia_keys_strided_ = {"strided", FIA_KEYS_STRIDED, 0, NULL, NULL, fia_strided_runs_, NULL};
static const fia_keys fia_keys_list_ = {"list", FIA_KEYS_LIST, 0, NULL, NULL, fia_strided_runs_, NULL};
static const fia_keys fia_keys_paged_ = {"paged", FIA_KEYS_PAGED, 0, NULL, fia_paged_check_, fia_paged_runs_, NULL};

/* ==== R9 row state =========================================================================== */
/* A row's partial result: m (largest base-2 logit), l = sum 2^(s - m), o = sum 2^(s - m) v. l = 0 if and only if no key
 * is kept (m = -inf then): the identity of fold. A kept score of -inf is carried as -FLT_MAX, so that -inf means
 * dropped. */

#define FIA_KEPT_MIN_ (-FLT_MAX)

typedef struct fia_partial_ {
    float *m, *l, *o; /* o[r * value_dim + i] */
} fia_partial_;

FIA_INLINE_ size_t fia_partial_floats_(int64_t rows, int64_t value_dim) { return (size_t)(rows * (value_dim + 2)); }

static fia_partial_ fia_partial_at_(float *floats, int64_t rows) {
    const fia_partial_ p = {floats, floats + rows, floats + 2 * rows};
    return p;
}

/* Nobody reads the outputs of an empty state. */
static void fia_partial_clear_(fia_partial_ p, int rows) {
    int r;
    for (r = 0; r < rows; ++r) {
        p.m[r] = -FIA_INF_;
        p.l[r] = 0.0f;
    }
}

/* x = x * a over n floats. */
static void fia_scale_row_(float *x, float a, int n) {
    const fia_vf_ va = fia_vf_set1_(a);
    int i = 0;
    for (; i + FIA_LANES <= n; i += FIA_LANES) fia_vf_store_(x + i, fia_vf_mul_(fia_vf_load_(x + i), va));
    for (; i < n; ++i) x[i] *= a;
}

/* x = x * weight over n floats of a result. Zeros become positive and NaN gets one bit pattern: their signs and payload
 * would tell which path met them; a key of weight 0 is added in one and left out in another. */
static void fia_weigh_result_(float *x, float weight, int n) {
    const fia_vf_ w = fia_vf_set1_(weight), nan = fia_vf_set1_(fia_bits_float_(FIA_NAN_BITS_));
    int i = 0;
    for (; i + FIA_LANES <= n; i += FIA_LANES) {
        const fia_vf_ y = fia_vf_mul_(fia_vf_add_(fia_vf_load_(x + i), fia_vf_zero_()), w);
        fia_vf_store_(x + i, fia_vf_select_(fia_vf_eq_(y, y), y, nan));
    }
    for (; i < n; ++i) {
        const float y = (x[i] + 0.0f) * weight;
        x[i] = y == y ? y : fia_bits_float_(FIA_NAN_BITS_);
    }
}

/* x = x * a + y * b over n floats. */
static void fia_blend_(float *x, float a, const float *y, float b, int n) {
    const fia_vf_ va = fia_vf_set1_(a), vb = fia_vf_set1_(b);
    int i = 0;
    for (; i + FIA_LANES <= n; i += FIA_LANES)
        fia_vf_store_(x + i, fia_vf_fma_(fia_vf_load_(y + i), vb, fia_vf_mul_(fia_vf_load_(x + i), va)));
    if (i < n)
        fia_vf_storen_(
            x + i, fia_vf_fma_(fia_vf_loadn_(y + i, n - i), vb, fia_vf_mul_(fia_vf_loadn_(x + i, n - i), va)), n - i);
}

/* into <- into + part, chunk after chunk from left to right: the only order in which chunks meet. */
static void fia_partial_fold_(fia_partial_ into, fia_partial_ part, int rows, int value_dim) {
    int r;
    for (r = 0; r < rows; ++r) {
        float *o = into.o + (ptrdiff_t)r * value_dim;
        const float *po = part.o + (ptrdiff_t)r * value_dim;
        if (part.l[r] == 0.0f) continue;
        if (into.l[r] == 0.0f) {
            into.m[r] = part.m[r];
            into.l[r] = part.l[r];
            memcpy(o, po, (size_t)value_dim * sizeof(float));
        } else {
            const float m = into.m[r] > part.m[r] ? into.m[r] : part.m[r];
            const float a = fia_exp2_(into.m[r] - m), b = fia_exp2_(part.m[r] - m);
            into.m[r] = m;
            fia_blend_(into.l + r, a, part.l + r, b, 1);
            fia_blend_(o, a, po, b, value_dim);
        }
    }
}

/* What is left to do with a row that keeps a key: out = o * weight. sink is natural, -inf: none. */
static float fia_state_weight_(float m, float l, float sink) {
    const float none = -FIA_INF_, s = sink * FIA_LOG2E_, top = m > s ? m : s;
    float a;
    if (sink == none) return m == FIA_KEPT_MIN_ ? none - none : 1.0f / l; /* 0 / 0 as IEEE has it */
    if (sink == FIA_INF_ || m == FIA_KEPT_MIN_) return 0.0f;
    a = fia_exp2_(m - top);
    return a / (l * a + fia_exp2_(s - top));
}

/* Its LSE, without the sink. */
static float fia_state_lse_(float m, float l) {
    const double lse = (double)m * FIA_LN2_ + fia_log_(l);
    if (m == FIA_KEPT_MIN_ && l == l) return -FIA_INF_; /* every kept score was -inf: sum exp(s) = 0 */
    return lse == lse ? (float)lse : fia_bits_float_(FIA_NAN_BITS_);
}

/* ==== R10 modifiers ========================================================================== */
/* Everything that happens to a score between q.k and exp, and which keys a row keeps. Scores lie [key][row]; keys are
 * consecutive from a first local key, or have positions (gathered lists). */

enum {
    FIA_MAX_ROWS_ = 64,       /* most rows of a row block */
    FIA_MODIFY_KEYS_ = 64,    /* most keys that are modified at once, */
    FIA_MODIFY_FLOATS_ = 1536 /* and most scores */
};

/* A sequence as phase 0 found it. Positions are global, lengths and starts are rows. */
typedef struct fia_sequence_ {
    int64_t index;
    int64_t q_len, kv_len;
    int64_t q_start, kv_start; /* packed: first row of the tensor */
    int64_t q_pos, kv_pos;     /* global position of row 0 and key 0 */
    int64_t chunk;             /* keys of a chunk */
    int64_t first_unit, n_units;
    int64_t cost_before; /* of all sequences before this one */
    int32_t family;
    int32_t blocks; /* row blocks per KV head (per list, where lists are per token) */
} fia_sequence_;

/* The live rows of one row block: which token and head each is, and which keys its bounds keep. */
typedef struct fia_row_block_ {
    const fia_problem *problem;
    const fia_io *io;
    const fia_sequence_ *sequence;
    int rows;
    int natural;      /* 1: modifiers take scores in natural units */
    int finite;       /* 1: so are the factors of an additive mask: where that is 0, nothing happens */
    int every;        /* 1: something but bounds happens to scores: modifiers run on every block */
    float raw_factor; /* 1, or what raw scores are multiplied by first */
    int kv_head;
    int64_t any_lo, any_hi; /* keys that some row keeps lie in [any_lo, any_hi) */
    int64_t all_lo, all_hi; /* keys that every row keeps, by bounds */
    /* By row; behind the last row as the lanes of a vector of scores want it: repeated (stream), the last row's. */
    int32_t head[FIA_MAX_ROWS_];
    int64_t token[FIA_MAX_ROWS_], lo[FIA_MAX_ROWS_], hi[FIA_MAX_ROWS_];
    float slope[FIA_MAX_ROWS_], factor[FIA_MAX_ROWS_];
    /* Tile kernels: of this chunk, and of the chunks before where the kernel folds them itself. */
    void *state, *running;
} fia_row_block_;

/* Scores need natural units where something but drops happens to them. */
FIA_INLINE_ int fia_is_natural_(const fia_problem *p) {
    return p->bias.dtype != FIA_NONE || p->softcap > 0.0f || p->alibi_slopes != FIA_NONE ||
           p->additive_mask.dtype != FIA_NONE;
}

/* What a raw dot product is multiplied by before it reaches modifiers (natural) or exp2 (else): folded into q. */
static float fia_q_factor_(const fia_problem *p) {
    const double base2 = (double)p->scale * 1.4426950408889634;
    if (!fia_is_natural_(p)) return (float)(base2 > FLT_MAX ? FLT_MAX : base2 < -FLT_MAX ? -FLT_MAX : base2);
    return p->bias.dtype != FIA_NONE && p->bias_before_scale ? 1.0f : p->scale;
}

/* ---- scores ---- */

/* Scores of n keys x the rows of a block and what happens to them: [key][stride], rows side by side. stride divides a
 * vector or is a multiple of one; whole vectors are read and written. Lanes behind the last row do as the row block's
 * arrays say. */
typedef struct fia_scores_ {
    const fia_row_block_ *rb;
    int64_t first_key;        /* local */
    const int64_t *positions; /* local, of keys that are not consecutive; negative: no key. NULL: consecutive */
    int n, stride;
    int keys, width;        /* of a step: a vector of several keys, or all vectors of one key */
    float *x, *term, *drop; /* scores; what is added next; 1 where a key is dropped. drop: NULL: nowhere */
} fia_scores_;

/* x = (x + term * factor) * scale; factor by lane, or NULL: 1. drop: keys are dropped where the term is -inf, by
 * selection: what is added there is 0; NULL: the term is finite. */
static void fia_scores_add_(const fia_scores_ *s, float *drop, const float *factor, float scale) {
    const fia_vf_ c = fia_vf_set1_(scale), none = fia_vf_set1_(-FIA_INF_), one = fia_vf_set1_(1.0f);
    int j, v;
    for (v = 0; v < s->width; v += FIA_LANES) {
        const fia_vf_ f = factor ? fia_vf_load_(factor + v) : one;
        for (j = 0; j < s->n; j += s->keys) {
            const int i = j * s->stride + v;
            fia_vf_ t = fia_vf_load_(s->term + i);
            if (drop) {
                const fia_vm_ m = fia_vf_eq_(t, none);
                fia_vf_store_(drop + i, fia_vf_select_(m, one, fia_vf_load_(drop + i)));
                t = fia_vf_select_(m, fia_vf_zero_(), t);
            }
            fia_vf_store_(s->x + i, fia_vf_mul_(fia_vf_fma_(t, f, fia_vf_load_(s->x + i)), c));
        }
    }
}

static void fia_scores_softcap_(const fia_scores_ *s, float cap) {
    const fia_vf_ c = fia_vf_set1_(cap);
    int j, v;
    for (j = 0; j < s->n; j += s->keys)
        for (v = 0; v < s->width; v += FIA_LANES) {
            float *x = s->x + j * s->stride + v;
            fia_vf_store_(x, fia_vf_mul_(c, fia_vf_tanh_(fia_vf_div_(fia_vf_load_(x), c))));
        }
}

/* ---- terms by row and key ---- */

FIA_INLINE_ const char *fia_mask_row_(const fia_row_block_ *rb, const fia_mask_view *view, const void *base, int r) {
    return (const char *)base + rb->sequence->index * view->sequence_bytes + rb->head[r] * view->head_bytes +
           rb->token[r] * view->row_bytes;
}

/* n bytes repeat a pattern of 1, 2, 4 or 8 of them. */
static int fia_bytes_repeat_(const char *p, int64_t n, uint64_t pattern) {
    uint64_t word = pattern;
    for (; n >= 8 && word == pattern; n -= 8, p += 8) memcpy(&word, p, 8);
    if (word == pattern) memcpy(&word, p, (size_t)n);
    return word == pattern;
}

/* A row of a term drops all of n keys: every byte set, or every value -inf. */
static int fia_mask_drops_all_(const fia_mask_view *view, const char *row, int n) {
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = UINT64_C(0x8080808080808080);
    uint64_t word;
    if (view->dtype == FIA_F32) return fia_bytes_repeat_(row, 4 * n, UINT64_C(0xff800000ff800000));
    if (view->dtype == FIA_F16) return fia_bytes_repeat_(row, 2 * n, UINT64_C(0xfc00fc00fc00fc00));
    if (view->dtype == FIA_BF16) return fia_bytes_repeat_(row, 2 * n, UINT64_C(0xff80ff80ff80ff80));
    for (; n >= 8; n -= 8, row += 8) {
        memcpy(&word, row, 8);
        if (((word - ones) & ~word & tops) != 0) return 0; /* some byte is 0 */
    }
    while (n > 0 && row[n - 1]) --n;
    return n == 0;
}

/* A term that the problem has is not 0 at all of these keys. */
static int fia_scores_sees_(const fia_scores_ *s, const fia_mask_view *view, const void *base) {
    const int bytes = (int)fia_float_bytes_(view->dtype);
    const char *row, *last = NULL;
    int r;
    if (view->dtype == FIA_NONE || s->positions) return view->dtype != FIA_NONE;
    for (r = 0; r < s->rb->rows; ++r, last = row) {
        row = fia_mask_row_(s->rb, view, base, r) + s->first_key * bytes;
        if (row != last && !fia_bytes_repeat_(row, (int64_t)s->n * bytes, 0)) return 1;
    }
    return 0;
}

/* A row of a mask at n keys, widened; of a drop mask 1 and 0. Keys without a position read as 0. */
static void fia_mask_line_(const fia_scores_ *s, const fia_mask_view *view, const char *row, float *line) {
    const int bytes = (int)fia_float_bytes_(view->dtype);
    int j;
    if (bytes > 1 && !s->positions) {
        fia_values_(view->dtype, line, row + s->first_key * bytes, s->n);
        return;
    }
    for (j = 0; j < s->n; ++j) {
        const int64_t at = s->positions ? s->positions[j] : s->first_key + j;
        line[j] = at < 0 ? 0.0f : bytes > 1 ? fia_value_(view->dtype, row + at * bytes) : row[at] != 0;
    }
}

/* dst[key][0 .. rows) = line[row][key]. distinct: 1 where all lines are one. */
static void fia_scores_set_(const fia_scores_ *s, const float *const *line, int rows, int distinct, float *dst) {
    fia_vf_ t[FIA_LANES];
    int j, r;
    if (distinct == 1) { /* what reaches past a key, the next one writes again */
        for (j = 0; j < s->n; ++j) fia_vf_store_(dst + j * s->stride, fia_vf_set1_(line[0][j]));
        return;
    }
    if (rows < FIA_LANES) {
        for (j = 0; j < s->n; ++j)
            for (r = 0; r < rows; ++r) dst[j * s->stride + r] = line[r][j];
        return;
    }
    for (j = 0; j < s->n; j += FIA_LANES) {
        for (r = 0; r < FIA_LANES; ++r) t[r] = fia_vf_load_(line[r] + j);
        fia_vf_transpose_(t);
        for (r = 0; r < FIA_LANES && j + r < s->n; ++r) fia_vf_store_(dst + (j + r) * s->stride, t[r]);
    }
}

/* dst = a mask's values. */
static void fia_scores_mask_(const fia_scores_ *s, const fia_mask_view *view, const void *base, float *dst) {
    const int rows = s->stride < FIA_LANES ? s->stride : FIA_LANES;
    float room[16][FIA_MODIFY_KEYS_ + 16];
    const float *line[16];
    int v, r, distinct;
    for (v = 0; v < s->width; v += FIA_LANES) {
        const char *row = NULL, *last = NULL;
        for (r = 0, distinct = 0; r < rows; ++r, last = row) {
            row = fia_mask_row_(s->rb, view, base, v + r);
            if (r == 0 || row != last) fia_mask_line_(s, view, row, room[distinct++]);
            line[r] = room[distinct - 1];
        }
        fia_scores_set_(s, line, rows, distinct, dst + v);
    }
}

/* term = -|row - key|, rounded once. */
static void fia_scores_distances_(const fia_scores_ *s) {
    const fia_row_block_ *rb = s->rb;
    const int rows = s->stride < s->width ? s->stride : s->width;
    const int64_t origin = rb->sequence->q_pos - rb->sequence->kv_pos - s->first_key, exact = (int64_t)1 << 23;
    float place[FIA_MAX_ROWS_];
    int j, r, v, near = !s->positions;
    for (r = 0; r < s->width; ++r) {
        const int64_t at = origin + rb->token[r] - (r / s->stride);
        near &= at < exact && at > -exact;
        place[r] = (float)at;
    }
    for (v = 0; near && v < s->width; v += FIA_LANES)
        for (j = 0; j < s->n; j += s->keys) {
            const fia_vf_ d = fia_vf_sub_(fia_vf_load_(place + v), fia_vf_set1_((float)j));
            fia_vf_store_(s->term + j * s->stride + v, fia_vf_sub_(fia_vf_zero_(), fia_vf_abs_(d)));
        }
    for (j = 0; !near && j < s->n; ++j)
        for (r = 0; r < rows; ++r) {
            const int64_t d = origin + rb->token[r] - (s->positions ? s->positions[j] - s->first_key : j);
            s->term[j * s->stride + r] = -(float)(d < 0 ? -d : d);
        }
}

/* ---- all of it, in order ---- */

/* Natural scores through bias, softcap, ALiBi and additive mask (masked: where that is not 0). */
static void fia_scores_natural_(const fia_scores_ *s, int masked) {
    const fia_row_block_ *rb = s->rb;
    const fia_problem *p = rb->problem;
    if (p->bias.dtype != FIA_NONE) {
        fia_scores_mask_(s, &p->bias, rb->io->bias, s->term);
        fia_scores_add_(s, s->drop, NULL, p->bias_before_scale ? p->scale : 1.0f);
    }
    if (p->softcap > 0.0f) fia_scores_softcap_(s, p->softcap);
    if (p->alibi_slopes != FIA_NONE) {
        fia_scores_distances_(s);
        fia_scores_add_(s, NULL, rb->slope, 1.0f);
    }
    if (masked) {
        fia_scores_mask_(s, &p->additive_mask, rb->io->additive_mask, s->term);
        fia_scores_add_(s, s->drop, rb->factor, 1.0f);
    }
}

/* Bounds of keys that are not consecutive. */
static void fia_scores_drop_by_position_(const fia_scores_ *s) {
    const fia_row_block_ *rb = s->rb;
    const int rows = s->stride < s->width ? s->stride : s->width;
    int j, r;
    for (j = 0; j < s->n; ++j)
        for (r = 0; r < rows; ++r)
            if (s->positions[j] < rb->lo[r] || s->positions[j] >= rb->hi[r]) s->drop[j * s->stride + r] = 1.0f;
}

/* Base-2 logits: natural scores times log2 e, kept away from the codes of "dropped" and "kept -inf". */
FIA_INLINE_ fia_vf_ fia_to_base2_(fia_vf_ s) {
    const fia_vf_ least = fia_vf_set1_(fia_bits_float_(0xff7ffffeu)); /* the float above -FLT_MAX */
    const fia_vf_ t = fia_vf_max_(least, fia_vf_mul_(s, fia_vf_set1_(FIA_LOG2E_)));
    return fia_vf_select_(fia_vf_eq_(s, fia_vf_set1_(-FIA_INF_)), fia_vf_set1_(FIA_KEPT_MIN_), t);
}

/* Scores -> base-2 logits; keys that bounds or drop leave out get -inf. */
static void fia_scores_finish_(const fia_scores_ *s) {
    const fia_row_block_ *rb = s->rb;
    const int bounded = !s->positions && (s->first_key < rb->all_lo || s->first_key + s->n > rb->all_hi);
    const fia_vf_ none = fia_vf_set1_(-FIA_INF_), least = fia_vf_set1_(FIA_KEPT_MIN_);
    const fia_vf_ factor = fia_vf_set1_(rb->raw_factor);
    float lo[FIA_MAX_ROWS_], hi[FIA_MAX_ROWS_];
    int j, v, r;
    for (r = 0; bounded && r < s->width; ++r) { /* counted from the key at j = 0 of the lane */
        lo[r] = (float)(fia_min_(s->n, fia_max_(0, rb->lo[r] - s->first_key)) - r / s->stride);
        hi[r] = (float)(fia_min_(s->n, fia_max_(0, rb->hi[r] - s->first_key)) - r / s->stride);
    }
    for (j = 0; j < s->n; j += s->keys) {
        const fia_vf_ at = fia_vf_set1_((float)j);
        for (v = 0; v < s->width; v += FIA_LANES) {
            float *x = s->x + j * s->stride + v;
            fia_vf_ t = fia_vf_load_(x);
            t = rb->natural ? fia_to_base2_(t) : fia_vf_max_(least, fia_vf_mul_(t, factor));
            if (s->drop)
                t = fia_vf_select_(fia_vf_lt_(fia_vf_zero_(), fia_vf_load_(s->drop + j * s->stride + v)), none, t);
            if (bounded) {
                t = fia_vf_select_(fia_vf_lt_(at, fia_vf_load_(lo + v)), none, t);
                t = fia_vf_select_(fia_vf_lt_(at, fia_vf_load_(hi + v)), t, none);
            }
            fia_vf_store_(x, t);
        }
    }
}

static void fia_scores_modify_(fia_scores_ *s) {
    const fia_row_block_ *rb = s->rb;
    const fia_problem *p = rb->problem;
    const int dropped = fia_scores_sees_(s, &p->drop_mask, rb->io->drop_mask);
    const int masked = p->additive_mask.dtype != FIA_NONE &&
                       (!rb->finite || fia_scores_sees_(s, &p->additive_mask, rb->io->additive_mask));
    float term[FIA_MODIFY_FLOATS_ + 16], drop[FIA_MODIFY_FLOATS_ + 16];
    s->keys = s->stride < FIA_LANES ? FIA_LANES / s->stride : 1;
    s->width = s->stride < FIA_LANES ? FIA_LANES : (rb->rows + FIA_LANES - 1) / FIA_LANES * FIA_LANES;
    s->term = term;
    s->drop = s->positions || dropped || masked || p->bias.dtype != FIA_NONE ? drop : NULL;
    if (s->drop) memset(drop, 0, ((size_t)(s->n * s->stride) + 16) * sizeof(float));
    if (dropped) fia_scores_mask_(s, &p->drop_mask, rb->io->drop_mask, drop);
    if (s->positions) fia_scores_drop_by_position_(s);
    if (rb->natural) {
        if (rb->raw_factor != 1.0f) fia_scale_row_(s->x, rb->raw_factor, s->n * s->stride);
        fia_scores_natural_(s, masked);
    }
    fia_scores_finish_(s);
}

/* Asks for a term's values at keys [first_key, first_key + n) of all rows. Inline: gcc takes a function that only
 * prefetches for one without effect, and leaves out its calls. */
FIA_INLINE_ void fia_prefetch_term_(const fia_row_block_ *rb, const fia_mask_view *view, const void *base,
                                    int64_t first_key, int n) {
    const char *row, *last = NULL;
    int r, i;
    if (view->dtype == FIA_NONE) return;
    for (r = 0; r < rb->rows; ++r, last = row) {
        row = fia_mask_row_(rb, view, base, r) + first_key * fia_float_bytes_(view->dtype);
        for (i = 0; row != last && i < n * fia_float_bytes_(view->dtype); i += FIA_LINE_) FIA_PREFETCH_(row + i, 2);
    }
}

FIA_INLINE_ void fia_prefetch_terms_(const fia_row_block_ *rb, int64_t first_key, int n) {
    const fia_problem *p = rb->problem;
    fia_prefetch_term_(rb, &p->bias, rb->io->bias, first_key, n);
    fia_prefetch_term_(rb, &p->additive_mask, rb->io->additive_mask, first_key, n);
    fia_prefetch_term_(rb, &p->drop_mask, rb->io->drop_mask, first_key, n);
}

/* Scores of a block, [key][stride] -> base-2 logits; dropped keys get -inf. stride: a power of two, or a multiple of
 * 16 or of a vector. The last vector is read and written whole. */
static void fia_modify_scores_(const fia_row_block_ *rb, int64_t first_key, const int64_t *positions, int n,
                               float *scores, int stride) {
    const int step = stride > FIA_MODIFY_FLOATS_ / FIA_MODIFY_KEYS_ ? FIA_MODIFY_FLOATS_ / stride : FIA_MODIFY_KEYS_;
    int j;
    for (j = 0; j < n; j += step) {
        fia_scores_ s;
        s.rb = rb;
        s.first_key = first_key + j;
        s.positions = positions ? positions + j : NULL;
        s.n = (int)fia_min_(n - j, step);
        s.stride = stride;
        s.x = scores + j * stride;
        fia_scores_modify_(&s);
    }
}

/* ---- blocks that dense masks drop as a whole ---- */

/* One term drops every key [first_key, first_key + n) of every row: the block need not be read. */
static int fia_term_drops_block_(const fia_row_block_ *rb, const fia_mask_view *view, const void *base,
                                 int64_t first_key, int n) {
    const char *row, *last = NULL;
    int r;
    if (view->dtype == FIA_NONE) return 0;
    for (r = 0; r < rb->rows; ++r, last = row) {
        row = fia_mask_row_(rb, view, base, r) + first_key * fia_float_bytes_(view->dtype);
        if (row != last && !fia_mask_drops_all_(view, row, n)) return 0;
    }
    return 1;
}

static int fia_block_dropped_(const fia_row_block_ *rb, int64_t first_key, const int64_t *positions, int n) {
    const fia_problem *p = rb->problem;
    if (positions) return 0;
    return fia_term_drops_block_(rb, &p->drop_mask, rb->io->drop_mask, first_key, n) ||
           fia_term_drops_block_(rb, &p->additive_mask, rb->io->additive_mask, first_key, n);
}

/* ==== R11 stream ============================================================================= */
/* Kernels for few query rows per KV head: K and V rows are read once, in place, in pieces of FIA_STREAM_KEYS, and serve
 * the whole GQA group. Scores lie [key][row] with rows padded to 1, 2, 4 or 8, so that exp runs on whole vectors.
 * Per (row, key) every variant adds along i in the same order; per row keys enter sums and outputs in ascending
 * order. Prefetches are spread: as much of the next piece is asked for as is read of this one; bursts would wait for each
 * other. */

#if defined(__clang__)
/* A plain "unroll" leaves some loops, and their arrays in memory. */
#define FIA_UNROLL_ _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define FIA_UNROLL_ _Pragma("GCC unroll 16")
#else
#define FIA_UNROLL_
#endif

/* Accumulators that a kernel keeps in registers: half of the register file. */
#if FIA_LANES == 16 || defined(FIA_NEON_)
#define FIA_ACC_ 16
#else
#define FIA_ACC_ 8
#endif

enum { FIA_WAY_ = 4096 /* bytes of a first cache over its ways: rows that far apart share sets */ };

static const fia_prefetch fia_no_prefetch_ = {NULL, 0, 0, 1};

/* ---- scores ---- */

/* One vector of elements of `keys` rows against `rows` query rows. */
FIA_INLINE_ void fia_stream_step_(const fia_loader_ *from, const int keys, const int rows, fia_vf_ *acc, const float *q,
                                  ptrdiff_t q_stride, const char *const *key, ptrdiff_t at) {
    fia_vf_ x[FIA_STREAM_ROWS];
    int j, r;
    FIA_UNROLL_ for (r = 0; r < rows; ++r) {
        x[r] = fia_vf_load_(q + r * q_stride);
        if (keys > 1) fia_vf_pin_(&x[r]);
    }
    FIA_UNROLL_ for (j = 0; j < keys; ++j) {
        const fia_vf_ k = from->load(key[j] + at);
        FIA_UNROLL_ for (r = 0; r < rows; ++r) acc[j * rows + r] = fia_vf_fma_(k, x[r], acc[j * rows + r]);
    }
}

/* Products of `keys` rows with `rows` query rows, into dots[key * rows + row], whose lanes are not yet added. next:
 * `keys` rows or NULL. */
FIA_INLINE_ void fia_stream_dots_(const fia_loader_ *from, const int keys, const int rows, fia_vf_ *dots,
                                  const float *q, ptrdiff_t q_stride, const char *const *key, const char *const *next,
                                  int level, int n) {
    const int line = FIA_LINE_ / from->bytes;
    fia_vf_ acc[FIA_ACC_]; /* of its own: compilers keep that in registers */
    int i, c, j, r;
    FIA_UNROLL_ for (j = 0; j < keys * rows; ++j) acc[j] = fia_vf_zero_();
    for (i = 0; i < n; i += line) {
        if (next) {
            FIA_UNROLL_ for (j = 0; j < keys; ++j) FIA_PREFETCH_(next[j] + (ptrdiff_t)i * from->bytes, level);
        }
        if (i + line > n) break;
        FIA_UNROLL_ for (c = 0; c < line; c += FIA_LANES)
            fia_stream_step_(from, keys, rows, acc, q + i + c, q_stride, key, (ptrdiff_t)(i + c) * from->bytes);
    }
    for (; i + FIA_LANES <= n; i += FIA_LANES)
        fia_stream_step_(from, keys, rows, acc, q + i, q_stride, key, (ptrdiff_t)i * from->bytes);
    if (i < n) {
        FIA_UNROLL_ for (j = 0; j < keys; ++j) {
            const fia_vf_ k = from->loadn(key[j] + (ptrdiff_t)i * from->bytes, n - i);
            FIA_UNROLL_ for (r = 0; r < rows; ++r) acc[j * rows + r] =
                fia_vf_fma_(k, fia_vf_loadn_(q + r * q_stride + i, n - i), acc[j * rows + r]);
        }
    }
    FIA_UNROLL_ for (j = 0; j < keys * rows; ++j) dots[j] = acc[j];
}

FIA_INLINE_ void fia_stream_scores_(const fia_loader_ *from, const int rows, float *scores, const float *q,
                                    ptrdiff_t q_stride, const fia_rows *keys, const fia_prefetch *next) {
    /* some: keys that are multiplied side by side. 16 lanes have the registers for sixteen (or eight, with two rows);
     * these take a tenth longer from memory than two after two. Fewer lanes show no difference. */
    const int step = FIA_ACC_ / rows, some = FIA_LANES == 16 && rows <= 2 ? 2 : step;
    const char *padded[FIA_STREAM_KEYS], *const *key = keys->row;
    int i, j;
    if (keys->n % step) { /* the last group repeats a row; its scores are free */
        for (j = 0; j < FIA_STREAM_KEYS; ++j) padded[j] = keys->row[j < keys->n ? j : keys->n - 1];
        key = padded;
    }
    for (j = 0; j < keys->n; j += step) {
        const char *const *ask = j + step <= next->n ? next->row + j : NULL;
        fia_vf_ dots[FIA_ACC_];
        FIA_UNROLL_ for (i = 0; i < step; i += some)
            fia_stream_dots_(from, some, rows, dots + i * rows, q, q_stride, key + j + i, ask ? ask + i : NULL,
                             next->level, keys->elements);
        FIA_UNROLL_ for (i = 0; i < step * rows; i += FIA_LANES)
            fia_vf_store_(scores + j * rows + i, fia_vf_sums_(dots + i));
    }
}

/* ---- accumulate ---- */

/* o[r][i0 .. i0 + vectors * lanes) += sum of weights * values. next: rows to ask for; block: they are one, which the
 * passes ask for from its begin to its end; or NULL. */
FIA_INLINE_ void fia_stream_add_(const fia_loader_ *from, const int vectors, const int rows, float *o,
                                 ptrdiff_t o_stride, const float *weights, const fia_rows *values,
                                 const char *const *next, const char *block, int level, ptrdiff_t i0) {
    const int width = vectors * FIA_LANES * from->bytes;
    fia_vf_ acc[FIA_ACC_];
    int c, j, r;
    if (block) block += i0 * values->n * from->bytes;
    else if (i0 * from->bytes % FIA_LINE_) next = NULL; /* asked for by the pass before */
    FIA_UNROLL_ for (r = 0; r < rows; ++r) FIA_UNROLL_ for (c = 0; c < vectors; ++c) acc[r * vectors + c] =
        fia_vf_load_(o + r * o_stride + i0 + c * FIA_LANES);
    for (j = 0; j < values->n; ++j) {
        const char *v = values->row[j] + i0 * from->bytes;
        fia_vf_ x[FIA_ACC_];
        if (next) {
            const char *ask = block ? block + j * width : next[j] + i0 * from->bytes;
            FIA_UNROLL_ for (c = 0; c < width; c += FIA_LINE_) FIA_PREFETCH_(ask + c, level);
        }
        FIA_UNROLL_ for (c = 0; c < vectors; ++c) {
            x[c] = from->load(v + (ptrdiff_t)c * FIA_LANES * from->bytes);
            if (rows > 1) fia_vf_pin_(&x[c]);
        }
        FIA_UNROLL_ for (r = 0; r < rows; ++r) {
            const fia_vf_ w = fia_vf_set1_(weights[j * rows + r]);
            FIA_UNROLL_ for (c = 0; c < vectors; ++c) acc[r * vectors + c] = fia_vf_fma_(w, x[c], acc[r * vectors + c]);
        }
    }
    FIA_UNROLL_ for (r = 0; r < rows; ++r) FIA_UNROLL_ for (c = 0; c < vectors; ++c)
        fia_vf_store_(o + r * o_stride + i0 + c * FIA_LANES, acc[r * vectors + c]);
}

/* The last n < FIA_LANES elements of a row. */
FIA_INLINE_ void fia_stream_add_tail_(const fia_loader_ *from, const int rows, float *o, ptrdiff_t o_stride,
                                      const float *weights, const fia_rows *values, ptrdiff_t i0, int n) {
    int j, r;
    for (r = 0; r < rows; ++r) {
        fia_vf_ acc = fia_vf_loadn_(o + r * o_stride + i0, n);
        for (j = 0; j < values->n; ++j)
            acc = fia_vf_fma_(fia_vf_set1_(weights[j * rows + r]), from->loadn(values->row[j] + i0 * from->bytes, n),
                              acc);
        fia_vf_storen_(o + r * o_stride + i0, acc, n);
    }
}

FIA_INLINE_ void fia_stream_accumulate_(const fia_loader_ *from, const int rows, float *o, ptrdiff_t o_stride,
                                        const float *weights, const fia_rows *values, const fia_prefetch *next) {
    const int vectors = FIA_ACC_ / rows > 8 ? 8 : FIA_ACC_ / rows, width = vectors * FIA_LANES, n = values->elements;
    const char *const *row = values->n <= next->n ? next->row : NULL;
    /* Memory is faster in order; with narrower passes at the end of rows, or within a line, rows go side by side. That
     * the first and the last row lie as if all adjoined is enough for prefetches. */
    const char *block = row && n % width == 0 && width * from->bytes >= FIA_LINE_ &&
                                (uintptr_t)row[values->n - 1] - (uintptr_t)row[0] ==
                                    (uintptr_t)((values->n - 1) * (ptrdiff_t)n * from->bytes)
                            ? row[0]
                            : NULL;
    int i = 0;
    for (; i + width <= n; i += width)
        fia_stream_add_(from, vectors, rows, o, o_stride, weights, values, row, block, next->level, i);
    for (; i + FIA_LANES <= n; i += FIA_LANES)
        fia_stream_add_(from, 1, rows, o, o_stride, weights, values, row, NULL, next->level, i);
    if (i < n) fia_stream_add_tail_(from, rows, o, o_stride, weights, values, i, n - i);
}

/* ---- instances: fia_stream_<pass>_<codec>_r<rows>_ ---- */

#define FIA_STAMP_STREAM_(type, rows)                                                                                  \
    static void fia_stream_scores_##type##_r##rows##_(float *s, const float *q, ptrdiff_t qs, const fia_rows *k,       \
                                                      const fia_prefetch *next) {                                      \
        fia_stream_scores_(&fia_loader_##type##_, rows, s, q, qs, k, next);                                            \
    }                                                                                                                  \
    static void fia_stream_accumulate_##type##_r##rows##_(float *o, ptrdiff_t os, const float *w, const fia_rows *v,   \
                                                          const fia_prefetch *next) {                                  \
        fia_stream_accumulate_(&fia_loader_##type##_, rows, o, os, w, v, next);                                        \
    }
#define FIA_STREAM_INSTANCES_(X, type) X(type, 1) X(type, 2) X(type, 4) X(type, 8)
FIA_STREAM_INSTANCES_(FIA_STAMP_STREAM_, f32)
FIA_STREAM_INSTANCES_(FIA_STAMP_STREAM_, f16)
FIA_STREAM_INSTANCES_(FIA_STAMP_STREAM_, bf16)

#define FIA_STREAM_SCORES_(type, rows) fia_stream_scores_##type##_r##rows##_,
#define FIA_STREAM_ACCUMULATE_(type, rows) fia_stream_accumulate_##type##_r##rows##_,
#define FIA_STREAM_RECORD_(type, code)                                                                                 \
    static const fia_stream fia_stream_##type##_ = {"stream_" #type,                                                   \
                                                    code,                                                              \
                                                    {FIA_STREAM_INSTANCES_(FIA_STREAM_SCORES_, type)},                 \
                                                    {FIA_STREAM_INSTANCES_(FIA_STREAM_ACCUMULATE_, type)}};
FIA_STREAM_RECORD_(f32, FIA_F32)
FIA_STREAM_RECORD_(f16, FIA_F16)
FIA_STREAM_RECORD_(bf16, FIA_BF16)

/* ---- softmax of a piece ---- */

/* Folds lanes onto each other until lane i holds the maximum or sum of all lanes j with j % rows == i % rows. */
FIA_INLINE_ fia_vf_ fia_fold_lanes_(fia_vf_ (*onto)(fia_vf_ a, fia_vf_ b), fia_vf_ x, int rows) {
#if FIA_LANES == 16
    if (rows <= 8) x = onto(fia_vf_swap8_(x), x);
#endif
#if FIA_LANES >= 8
    if (rows <= 4) x = onto(fia_vf_swap4_(x), x);
#endif
    if (rows <= 2) x = onto(fia_vf_swap2_(x), x);
    if (rows <= 1) x = onto(fia_vf_swap1_(x), x);
    return x;
}

/* The maximum that weights refer to moves on when a score passes it by more than this, in log2: what was summed is
 * rescaled about once per chunk, and weights are at most 16. FlashAttention-4 does so, with 8. */
#define FIA_LAG_ 4.0f

/* A chunk's state of one row block: m (what weights refer to) and l by row (repeated to whole vectors). */
typedef struct fia_stream_state_ {
    float m[16], l[16];
} fia_stream_state_;

/* p[0] becomes the sum of n vectors: i with i + n / 2, then + n / 4, ... */
FIA_INLINE_ void fia_sum_halves_(fia_vf_ *p, const int n, const int half) {
    int i;
    if (n <= half) return;
    FIA_UNROLL_ for (i = 0; i < half; ++i) p[i] = fia_vf_add_(p[i], p[i + half]);
}

/* fia_softmax_piece_ for the rows of one vector; their scores are n vectors, period floats apart. */
FIA_INLINE_ int fia_softmax_vector_(float *state_m, float *state_l, const int n, int period, int rows, float *scores,
                                    float *alpha, float factor, float floor) {
    const fia_vf_ least = fia_vf_set1_(floor), scale = fia_vf_set1_(factor), old = fia_vf_load_(state_m);
    fia_vf_ p[16], top, m = old, a = fia_vf_set1_(1.0f);
    int i, grew = 0;
    FIA_UNROLL_ for (i = 0; i < n; ++i) p[i] = fia_vf_mul_(fia_vf_load_(scores + i * period), scale);
    top = p[0];
    FIA_UNROLL_ for (i = 1; i < n; ++i) top = fia_vf_max_(top, p[i]);
    top = fia_vf_max_(least, top);
    /* A branch: weights need not wait for the maximum that hardly ever moves. -inf - -inf: stays. */
    if (fia_vm_any_(fia_vf_lt_(fia_vf_set1_(FIA_LAG_), fia_vf_sub_(top, old)))) {
        m = fia_fold_lanes_(fia_vf_max_, top, rows);
        m = fia_vf_select_(fia_vf_lt_(fia_vf_set1_(FIA_LAG_), fia_vf_sub_(m, old)), m, old);
        a = fia_vf_exp2_(fia_vf_sub_(old, fia_vf_max_(fia_vf_set1_(FIA_KEPT_MIN_), m)));
        a = fia_vf_select_(fia_vf_eq_(old, m), fia_vf_set1_(1.0f), a);
        fia_vf_store_(state_m, m);
        grew = fia_vm_any_(fia_vf_lt_(old, m));
    }
    fia_vf_store_(alpha, a);
    top = fia_vf_max_(fia_vf_set1_(FIA_KEPT_MIN_), m);
    FIA_UNROLL_ for (i = 0; i < n; ++i) {
        p[i] = fia_vf_exp2_(fia_vf_sub_(fia_vf_max_(least, p[i]), top));
        fia_vf_store_(scores + i * period, p[i]);
    }
    fia_sum_halves_(p, n, 8);
    fia_sum_halves_(p, n, 4);
    fia_sum_halves_(p, n, 2);
    fia_sum_halves_(p, n, 1);
    fia_vf_store_(state_l, fia_vf_fma_(fia_vf_load_(state_l), a, fia_fold_lanes_(fia_vf_add_, p[0], rows)));
    return grew;
}

enum { FIA_STREAM_STEP_ = 16 }; /* keys by which the online softmax moves on */

/* Scores [key][rows] of FIA_STREAM_STEP_ keys (-inf: dropped) -> weights in place; m and l move on; alpha[r] rescales
 * o. floor: scores below it are raised to it. Returns 1 if some alpha differs from 1.
 * Sums pair key j with j + 8, then + 4, ..., whatever `rows` is. */
static int fia_softmax_piece_(fia_stream_state_ *state, int rows, float *scores, float *alpha, float factor,
                              float floor) {
    const int period = rows > FIA_LANES ? rows : FIA_LANES, n = FIA_STREAM_STEP_ * rows / period;
    int v, grew = 0;
    for (v = 0; v < period; v += FIA_LANES) {
        float *m = state->m + v, *l = state->l + v, *s = scores + v, *a = alpha + v;
        switch (n) { /* constants, so that few vectors stay in registers */
        case 1: grew |= fia_softmax_vector_(m, l, 1, period, rows, s, a, factor, floor); break;
        case 2: grew |= fia_softmax_vector_(m, l, 2, period, rows, s, a, factor, floor); break;
        case 4: grew |= fia_softmax_vector_(m, l, 4, period, rows, s, a, factor, floor); break;
        case 8: grew |= fia_softmax_vector_(m, l, 8, period, rows, s, a, factor, floor); break;
        default: grew |= fia_softmax_vector_(m, l, 16, period, rows, s, a, factor, floor);
        }
    }
    return grew;
}

/* ==== R12 tiles ============================================================================== */
/* The generic tile kernel on lanes: scores and outputs lie transposed, lanes are query rows, so that max, sum and
 * rescale are vertical and neither K nor V is packed: a key's element is broadcast against a vector of query rows.
 * Register tile: FIA_TILE_KEYS_ keys (or value elements) x up to 3 vectors of rows. Keys enter in ascending order.
 * packed q: [i][R] f32; prepared: K rows [key][D + Dr], V rows [key][Dv], f32; state: m[R], l[R], o[Dv][R]. */

#define FIA_TILE_VECTORS_ 3
#define FIA_TILE_ROWS_ (FIA_TILE_VECTORS_ * FIA_LANES)
#define FIA_TILE_KEYS_ (FIA_ACC_ / 2)

enum {
    FIA_TILE_BLOCK_ = FIA_CHUNK < 64 ? FIA_CHUNK : 64,
    FIA_TILE_SUPER_ = FIA_CHUNK < 256 ? FIA_CHUNK : 256,
    FIA_TILE_PAD_ = 8, /* rows of zeros behind the prepared keys: register tiles read whole groups */
    /* Widening the keys pays from so many rows on; measured with D from 64 to 576, f32, f16 and bf16 keys. */
    FIA_TILE_STREAM_ROWS_ = FIA_LANES == 16  ? 40
                            : FIA_LANES == 8 ? 16
                                             : FIA_STREAM_ROWS
};

/* Floats of a query or key row: D, and Dr of the rope pair. */
FIA_INLINE_ int fia_dot_width_(const fia_problem *p) { return p->dim + p->rope_dim; }

/* V of the prepared super block: its own rows, or the front of the key rows. */
FIA_INLINE_ const float *fia_tile_values_(const fia_problem *p, const float *prepared, ptrdiff_t *stride) {
    const ptrdiff_t width = fia_dot_width_(p);
    *stride = p->value_in_key ? width : p->value_dim;
    return p->value_in_key ? prepared : prepared + (FIA_TILE_SUPER_ + FIA_TILE_PAD_) * width;
}

/* ---- register tiles ---- */

/* scores[key][FIA_TILE_ROWS_] of one group of keys, times factor, not below floor: k[key * k_stride + i] broadcast
 * against q[i][rows]. */
FIA_INLINE_ void fia_tile_dots_(const int vectors, float *scores, const float *q, const float *k, ptrdiff_t k_stride,
                                int n, float factor, float floor) {
    const fia_vf_ least = fia_vf_set1_(floor), scale = fia_vf_set1_(factor);
    fia_vf_ acc[FIA_TILE_KEYS_ * FIA_TILE_VECTORS_];
    int i, j, v;
    FIA_UNROLL_ for (j = 0; j < FIA_TILE_KEYS_; ++j) FIA_UNROLL_ for (v = 0; v < vectors; ++v)
        acc[j * FIA_TILE_VECTORS_ + v] = fia_vf_zero_();
    for (i = 0; i < n; ++i, q += FIA_TILE_ROWS_, ++k) {
        fia_vf_ x[FIA_TILE_VECTORS_];
        FIA_UNROLL_ for (v = 0; v < vectors; ++v) {
            x[v] = fia_vf_load_(q + v * FIA_LANES);
            fia_vf_pin_(&x[v]); /* else gcc repeats the load in every fma: three loads a cycle, where a CPU has two */
        }
        FIA_UNROLL_ for (j = 0; j < FIA_TILE_KEYS_; ++j) {
            const fia_vf_ b = fia_vf_set1_(k[j * k_stride]);
            FIA_UNROLL_ for (v = 0; v < vectors; ++v) acc[j * FIA_TILE_VECTORS_ + v] =
                fia_vf_fma_(b, x[v], acc[j * FIA_TILE_VECTORS_ + v]);
        }
    }
    FIA_UNROLL_ for (j = 0; j < FIA_TILE_KEYS_; ++j) FIA_UNROLL_ for (v = 0; v < vectors; ++v)
        fia_vf_store_(scores + j * FIA_TILE_ROWS_ + v * FIA_LANES,
                      fia_vf_max_(least, fia_vf_mul_(acc[j * FIA_TILE_VECTORS_ + v], scale)));
}

/* o[i][rows] = o * alpha + sum over keys of v[key * v_stride + i] * weights[key][rows], for `width` elements i. */
FIA_INLINE_ void fia_tile_add_(const int vectors, const int width, float *o, const float *alpha, const float *weights,
                               const float *v0, ptrdiff_t v_stride, int n) {
    fia_vf_ acc[FIA_TILE_KEYS_ * FIA_TILE_VECTORS_];
    int i, j, v;
    FIA_UNROLL_ for (i = 0; i < width; ++i) FIA_UNROLL_ for (v = 0; v < vectors; ++v) {
        fia_vf_ x = fia_vf_load_(o + i * FIA_TILE_ROWS_ + v * FIA_LANES);
        if (alpha) x = fia_vf_mul_(x, fia_vf_load_(alpha + v * FIA_LANES));
        acc[i * FIA_TILE_VECTORS_ + v] = x;
    }
    for (j = 0; j < n; ++j, weights += FIA_TILE_ROWS_, v0 += v_stride) {
        fia_vf_ x[FIA_TILE_VECTORS_];
        FIA_UNROLL_ for (v = 0; v < vectors; ++v) {
            x[v] = fia_vf_load_(weights + v * FIA_LANES);
            fia_vf_pin_(&x[v]);
        }
        FIA_UNROLL_ for (i = 0; i < width; ++i) {
            const fia_vf_ b = fia_vf_set1_(v0[i]);
            FIA_UNROLL_ for (v = 0; v < vectors; ++v) acc[i * FIA_TILE_VECTORS_ + v] =
                fia_vf_fma_(b, x[v], acc[i * FIA_TILE_VECTORS_ + v]);
        }
    }
    FIA_UNROLL_ for (i = 0; i < width; ++i) FIA_UNROLL_ for (v = 0; v < vectors; ++v)
        fia_vf_store_(o + i * FIA_TILE_ROWS_ + v * FIA_LANES, acc[i * FIA_TILE_VECTORS_ + v]);
}

/* The same where V may be NaN or infinite and some keys are dropped: those (weight < 0) are left out, row by row. */
static FIA_NOINLINE_ void fia_tile_add_select_(float *o, const float *alpha, const float *weights, const float *values,
                                               ptrdiff_t v_stride, int n, int value_dim) {
    int i, j, v;
    for (v = 0; v < FIA_TILE_ROWS_; v += FIA_LANES)
        for (i = 0; i < value_dim; ++i) {
            fia_vf_ acc = fia_vf_load_(o + i * FIA_TILE_ROWS_ + v);
            if (alpha) acc = fia_vf_mul_(acc, fia_vf_load_(alpha + v));
            for (j = 0; j < n; ++j) {
                const fia_vf_ w = fia_vf_load_(weights + j * FIA_TILE_ROWS_ + v);
                const fia_vf_ more = fia_vf_fma_(fia_vf_set1_(values[j * v_stride + i]), w, acc);
                acc = fia_vf_select_(fia_vf_lt_(w, fia_vf_zero_()), acc, more);
            }
            fia_vf_store_(o + i * FIA_TILE_ROWS_ + v, acc);
        }
}

/* ---- softmax of a block ---- */

/* Scores -> weights in place; m, l move on, alpha[row] rescales o. Returns 1 if some alpha differs from 1.
 * mark: dropped keys get the weight -1 instead of 0. */
FIA_INLINE_ int fia_softmax_block_(const int vectors, float *m, float *l, float *alpha, float *scores, int n,
                                   int mark) {
    const fia_vf_ least = fia_vf_set1_(FIA_KEPT_MIN_);
    int j, v, grew = 0;
    for (v = 0; v < vectors * FIA_LANES; v += FIA_LANES) {
        const fia_vf_ old = fia_vf_load_(m + v);
        fia_vf_ top = old, a, base, sum = fia_vf_zero_();
        for (j = 0; j < n; ++j) top = fia_vf_max_(top, fia_vf_load_(scores + j * FIA_TILE_ROWS_ + v));
        base = fia_vf_max_(least, top);
        a = fia_vf_exp2_(fia_vf_sub_(old, base));
        a = fia_vf_select_(fia_vf_eq_(old, top), fia_vf_set1_(1.0f), a);
        grew |= !fia_vm_all_(fia_vf_eq_(old, top));
        fia_vf_store_(m + v, top);
        fia_vf_store_(alpha + v, a);
        for (j = 0; j < n; ++j) {
            float *s = scores + j * FIA_TILE_ROWS_ + v;
            const fia_vf_ x = fia_vf_load_(s);
            fia_vf_ p = fia_vf_exp2_(fia_vf_sub_(x, base));
            sum = fia_vf_add_(sum, p);
            if (mark) p = fia_vf_select_(fia_vf_eq_(x, fia_vf_set1_(-FIA_INF_)), fia_vf_set1_(-1.0f), p);
            fia_vf_store_(s, p);
        }
        fia_vf_store_(l + v, fia_vf_fma_(fia_vf_load_(l + v), a, sum));
    }
    return grew;
}

/* ---- the record ---- */

FIA_INLINE_ void fia_tile_step_vectors_(const int vectors, const fia_tile_block *b, const float *q, float *state,
                                        float *scores) {
    const fia_problem *p = b->problem;
    const int width = fia_dot_width_(p), n = b->n;
    const float *keys = (const float *)b->prepared, *values;
    float *m = state, *l = state + FIA_TILE_ROWS_, *o = state + 2 * FIA_TILE_ROWS_;
    /* plain keys in whole groups; the others keep their raw scores, -inf included, for modify */
    const int end = b->plain_end == n ? n : b->plain_end / FIA_TILE_KEYS_ * FIA_TILE_KEYS_;
    const int begin = (int)fia_min_(end, (b->plain_begin + FIA_TILE_KEYS_ - 1) / FIA_TILE_KEYS_ * FIA_TILE_KEYS_);
    float alpha[FIA_TILE_ROWS_];
    ptrdiff_t v_stride;
    int i, j, grew;
    values = fia_tile_values_(p, keys, &v_stride) + b->offset * v_stride;
    keys += (ptrdiff_t)b->offset * width;
    for (j = 0; j < n; j += FIA_TILE_KEYS_) {
        const int plain = j >= begin && j < end;
        fia_tile_dots_(vectors, scores + j * FIA_TILE_ROWS_, q, keys + (ptrdiff_t)j * width, width, width,
                       plain ? b->scale_log2 : 1.0f, plain ? FIA_KEPT_MIN_ : -FIA_INF_);
    }
    if (begin > 0) b->modify(b, 0, begin, scores, FIA_TILE_ROWS_);
    if (end < n) b->modify(b, end, n - end, scores + end * FIA_TILE_ROWS_, FIA_TILE_ROWS_);
    grew = fia_softmax_block_(vectors, m, l, alpha, scores, n, b->nonfinite);
    if (b->nonfinite) {
        fia_tile_add_select_(o, grew ? alpha : NULL, scores, values, v_stride, n, p->value_dim);
        return;
    }
    for (i = 0; i + FIA_TILE_KEYS_ <= p->value_dim; i += FIA_TILE_KEYS_)
        fia_tile_add_(vectors, FIA_TILE_KEYS_, o + i * FIA_TILE_ROWS_, grew ? alpha : NULL, scores, values + i,
                      v_stride, n);
    for (; i < p->value_dim; ++i)
        fia_tile_add_(vectors, 1, o + i * FIA_TILE_ROWS_, grew ? alpha : NULL, scores, values + i, v_stride, n);
}

static void fia_tile_step_(const fia_tile_block *b, const void *packed, void *state, void *scratch) {
    const float *q = (const float *)packed;
    float *s = (float *)state, *scores = (float *)scratch;
    if (b->nonfinite || b->rows > 2 * FIA_LANES) fia_tile_step_vectors_(3, b, q, s, scores);
    else if (b->rows > FIA_LANES) fia_tile_step_vectors_(2, b, q, s, scores);
    else fia_tile_step_vectors_(1, b, q, s, scores);
}

static int fia_tile_serves_(const fia_problem *p) {
    (void)p;
    return 1;
}

static void fia_tile_sizes_(const fia_problem *p, size_t bytes[4]) {
    const size_t width = (size_t)fia_dot_width_(p), value = (size_t)p->value_dim;
    const size_t keys = FIA_TILE_SUPER_ + FIA_TILE_PAD_;
    bytes[0] = width * FIA_TILE_ROWS_ * sizeof(float);
    bytes[1] = keys * (p->value_in_key ? width : width + value) * sizeof(float);
    bytes[2] = (value + 2) * FIA_TILE_ROWS_ * sizeof(float);
    bytes[3] = (size_t)(FIA_TILE_BLOCK_ + FIA_TILE_PAD_) * FIA_TILE_ROWS_ * sizeof(float);
}

/* dst[c][r] = src[r][c] for `rows` rows of n; behind them what is left of dst_stride becomes 0. */
static void fia_tile_transpose_(float *dst, int dst_stride, const float *src, ptrdiff_t src_stride, int rows, int n) {
    fia_vf_ t[FIA_LANES];
    int r, i, k;
    for (r = 0; r < dst_stride; r += FIA_LANES)
        for (i = 0; i < n; i += FIA_LANES) {
            const int left = n - i < FIA_LANES ? n - i : FIA_LANES;
            for (k = 0; k < FIA_LANES; ++k) {
                const float *s = src + (r + k) * src_stride + i;
                t[k] = r + k >= rows ? fia_vf_zero_() : left < FIA_LANES ? fia_vf_loadn_(s, left) : fia_vf_load_(s);
            }
            fia_vf_transpose_(t);
            for (k = 0; k < left; ++k) {
                float *d = dst + (ptrdiff_t)(i + k) * dst_stride + r;
                if (dst_stride - r < FIA_LANES) fia_vf_storen_(d, t[k], dst_stride - r);
                else fia_vf_store_(d, t[k]);
            }
        }
}

static void fia_tile_pack_q_(const fia_problem *p, void *packed, const float *q, ptrdiff_t q_stride, int32_t rows) {
    fia_tile_transpose_((float *)packed, FIA_TILE_ROWS_, q, q_stride, rows, fia_dot_width_(p));
}

static void fia_tile_prepare_(const fia_tile_block *super, void *prepared, void *scratch) {
    const fia_problem *p = super->problem;
    const ptrdiff_t width = fia_dot_width_(p);
    float *k = (float *)prepared;
    ptrdiff_t v_stride;
    float *v = k + (fia_tile_values_(p, k, &v_stride) - k);
    (void)scratch;
    super->decode(super, FIA_OF_KEY, 0, super->n, k, width);
    if (p->rope_dim) super->decode(super, FIA_OF_ROPE, 0, super->n, k + p->dim, width);
    memset(k + super->n * width, 0, (size_t)(FIA_TILE_PAD_ * width) * sizeof(float));
    if (!p->value_in_key) super->decode(super, FIA_OF_VALUE, 0, super->n, v, v_stride);
}

static void fia_tile_begin_(const fia_problem *p, void *state) {
    float *m = (float *)state;
    int r;
    for (r = 0; r < FIA_TILE_ROWS_; ++r) m[r] = -FIA_INF_;
    memset(m + FIA_TILE_ROWS_, 0, (size_t)(p->value_dim + 1) * FIA_TILE_ROWS_ * sizeof(float));
}

static void fia_tile_export_(const fia_problem *p, const void *state, int32_t rows, float *m, float *l, float *o) {
    const float *s = (const float *)state;
    memcpy(m, s, (size_t)rows * sizeof(float));
    memcpy(l, s + FIA_TILE_ROWS_, (size_t)rows * sizeof(float));
    fia_tile_transpose_(o, p->value_dim, s + 2 * FIA_TILE_ROWS_, FIA_TILE_ROWS_, p->value_dim, rows);
}

/* fia_partial_fold_ on lanes: the same operations, row by row. */
static void fia_tile_fold_(const fia_problem *p, void *into, const void *from) {
    float *x = (float *)into;
    const float *y = (const float *)from;
    int r, i;
    for (r = 0; r < FIA_TILE_ROWS_; r += FIA_LANES) {
        const fia_vf_ m1 = fia_vf_load_(x + r), m2 = fia_vf_load_(y + r), m = fia_vf_max_(m1, m2);
        const fia_vf_ l1 = fia_vf_load_(x + FIA_TILE_ROWS_ + r), l2 = fia_vf_load_(y + FIA_TILE_ROWS_ + r);
        const fia_vf_ a = fia_vf_exp2_(fia_vf_sub_(m1, m)), b = fia_vf_exp2_(fia_vf_sub_(m2, m));
        const fia_vm_ none1 = fia_vf_eq_(l1, fia_vf_zero_()), none2 = fia_vf_eq_(l2, fia_vf_zero_());
        fia_vf_store_(x + r, fia_vf_select_(none2, m1, fia_vf_select_(none1, m2, m)));
        for (i = 1; i < p->value_dim + 2; ++i) { /* l, then every output element */
            float *at = x + (ptrdiff_t)i * FIA_TILE_ROWS_ + r;
            const fia_vf_ old = fia_vf_load_(at), more = fia_vf_load_(y + (ptrdiff_t)i * FIA_TILE_ROWS_ + r);
            const fia_vf_ sum = fia_vf_fma_(more, b, fia_vf_mul_(old, a));
            fia_vf_store_(at, fia_vf_select_(none2, old, fia_vf_select_(none1, more, sum)));
        }
    }
}

static const fia_tile fia_tile_lanes_ = {"lanes",
                                         FIA_TILE_ROWS_,
                                         FIA_TILE_BLOCK_,
                                         FIA_TILE_SUPER_,
                                         0,
                                         384 / FIA_TILE_ROWS_,
                                         0,
                                         1,
                                         FIA_TILE_STREAM_ROWS_,
                                         fia_tile_serves_,
                                         fia_tile_sizes_,
                                         NULL,
                                         NULL,
                                         fia_tile_pack_q_,
                                         fia_tile_prepare_,
                                         fia_tile_begin_,
                                         fia_tile_step_,
                                         fia_tile_export_,
                                         fia_tile_fold_};

/* ==== R13a drivers: layout =================================================================== */
/* The phases of a job. Phase 0 checks lengths and tables and lays the work out (R13b); phase 1 attends, item by item;
 * phase 2 folds the row blocks that were cut between chunks (R13e). All sizes come from one layout function
 * (fia_layout_).
 * Unit: a sequence, one KV head (or all, where a key's heads lie side by side), and row blocks that share prepared
 * keys. Item: a unit, or what lies between two cuts of it. A cut is a point (unit, row block, chunk). */

#define FIA_SPAN_LIMIT_ ((int64_t)1 << 60) /* sizes and offsets stay below, so that sums of a few cannot overflow */
#define FIA_FARTHEST_ ((int64_t)1 << 62)   /* no row and key lie farther apart: 2^61 + 2^60, and lengths */

enum {
    FIA_MAX_CHUNKS_ = 32,
    FIA_STREAM_PREP_ = 32,                        /* row blocks of a stream unit */
    FIA_TOGETHER_BLOCKS_ = FIA_LANES < 16 ? 2 : 1 /* most row blocks of a head where heads go together */
};

typedef struct fia_cut_ {
    int64_t unit;
    int32_t block, chunk; /* the item behind the cut begins here */
    int32_t ordinal;      /* of the row block among those cut between chunks; -1: the cut lies between row blocks */
} fia_cut_;

typedef struct fia_cut_block_ {
    int64_t unit;
    int32_t block, chunk; /* partials stand in slots 0, chunk, chunk + 1, ... */
} fia_cut_block_;

#define FIA_DONE_ 0x46494131u /* tells a header from what lay in the workspace before */

/* Where everything lies in a workspace. One function computes it, for the size and for the binding. */
typedef struct fia_layout_ {
    size_t sequences, cuts, shares, cut_blocks, pool, workers;
    size_t partial_floats, packed_bytes, state_bytes, worker_bytes, total;
    int64_t pool_blocks, pool_chunks;
    size_t q_rows, packed, state, fold, part, scratch, prepared, decoded, rows, gather,
        out; /* offsets in a worker's share */
} fia_layout_;

/* What phase 0 leaves for the other phases. */
typedef struct fia_header_ {
    fia_report verdict;
    int64_t n_sequences;
    int64_t n_units, n_cuts, n_fills, n_cut_blocks;
    int64_t n_stream, n_tile; /* sequences of each family, for explain */
    int32_t cut_width;        /* row blocks that a cut between chunks goes across */
    uint32_t done;            /* FIA_DONE_ after phase 0 */
    fia_layout_ layout;       /* of the plan that phase 0 ran for */
} fia_header_;

typedef struct fia_bound_job_ {
    const fia_plan *plan;
    const fia_problem *problem;
    const fia_io *io;
    char *base;
    fia_layout_ layout;
    fia_header_ *header;
    fia_sequence_ *sequences;
    fia_cut_ *cuts;
    int64_t *shares; /* first item of each worker's share, max_workers + 1 */
    fia_cut_block_ *cut_blocks;
    float *pool;
} fia_bound_job_;

/* ---- sizes ---- */

FIA_INLINE_ int fia_group_(const fia_problem *p) { return p->n_q_heads / p->n_kv_heads; }

/* Bytes that a stride goes, whatever its direction. That of an axis of one index may be anything: it is cut. */
static int64_t fia_step_size_(ptrdiff_t stride) {
    const int64_t step = fia_min_(fia_max_(stride, -FIA_SPAN_LIMIT_), FIA_SPAN_LIMIT_);
    return step < 0 ? -step : step;
}

/* All heads of a key lie side by side: they are read key piece outer, heads inner. */
static int fia_heads_together_(const fia_problem *p, const fia_keys *keys) {
    const int64_t head = fia_step_size_(p->key.head_bytes), row = fia_step_size_(p->key.row_bytes);
    return !keys->per_token && p->n_kv_heads > 1 && head != 0 && head < row;
}

FIA_INLINE_ size_t fia_align_up_(size_t n) { return (n + 63) & ~(size_t)63; }

/* Bytes, or SIZE_MAX where they overflow; every factor is positive. */
static size_t fia_bytes_(int64_t a, int64_t b, int64_t c) {
    const int64_t n = fia_mul_(fia_mul_(a, b), c);
    return n < 0 || (uint64_t)n > (uint64_t)(SIZE_MAX >> 2) ? SIZE_MAX : (size_t)n;
}

/* Adds a part of `bytes` behind *end; returns its offset. Saturates. */
static size_t fia_part_(size_t *end, size_t bytes) {
    const size_t at = *end;
    if (at > SIZE_MAX / 4 || bytes > SIZE_MAX / 4) *end = SIZE_MAX;
    else *end = fia_align_up_(at + bytes);
    return at;
}

/* Stream kernels take 1, 2, 4 or 8 rows. Of 5 and 6 rows at the end 4 go alone: 8 take a third longer where arithmetic
 * counts, but on 16 lanes memory does. */
FIA_INLINE_ int fia_stream_splits_(int64_t rows) {
    const int64_t rest = rows % FIA_STREAM_ROWS;
    return FIA_LANES < 16 && (rest == 5 || rest == 6);
}

/* Query rows of a KV head that share keys: of all tokens, or of one. fia_plan_kernels_ bounds the product. */
FIA_INLINE_ int64_t fia_head_rows_(const fia_plan *plan, int64_t q_len) {
    return (plan->keys->per_token ? 1 : q_len) * fia_group_(&plan->problem);
}

/* Stream serves few rows per KV head, tiles more. Depends on the sequence alone. */
static int fia_family_(const fia_plan *plan, int64_t q_len) {
    if (plan->problem.pin_family != FIA_FAMILY_AUTO) return plan->problem.pin_family;
    return fia_head_rows_(plan, q_len) <= plan->stream_rows ? FIA_FAMILY_STREAM : FIA_FAMILY_TILE;
}

/* Some sequence may have so many rows per KV head that the tile family takes it. */
static int fia_tiles_possible_(const fia_plan *plan) {
    return fia_family_(plan, plan->problem.max_q_len) == FIA_FAMILY_TILE;
}

/* Most rows of a row block. */
static int64_t fia_most_rows_(const fia_plan *plan) {
    return fia_tiles_possible_(plan) ? fia_max_(plan->tile->rows, FIA_STREAM_ROWS) : (int64_t)FIA_STREAM_ROWS;
}

/* Most row blocks that a unit of either family has: what shares a preparation, or all that the longest query gives. */
static int64_t fia_unit_blocks_(const fia_plan *plan) {
    const fia_problem *p = &plan->problem;
    const int64_t rows = fia_head_rows_(plan, p->max_q_len);
    const int64_t tile = fia_min_(plan->tile->prep_blocks, rows / plan->tile->rows + 1);
    int64_t stream = fia_min_(FIA_STREAM_PREP_, rows / FIA_STREAM_ROWS + 2);
    if (fia_heads_together_(p, plan->keys)) stream = fia_max_(stream, (int64_t)FIA_TOGETHER_BLOCKS_ * p->n_kv_heads);
    return fia_tiles_possible_(plan) ? fia_max_(stream, tile) : stream;
}

FIA_INLINE_ int fia_super_keys_(const fia_plan *plan) {
    return (int)fia_min_(plan->tile->super_keys, plan->chunk_base);
}

/* Keys whose row pointers are held at once. */
FIA_INLINE_ int64_t fia_gather_keys_(const fia_plan *plan) {
    return fia_tiles_possible_(plan) ? fia_max_(fia_super_keys_(plan), FIA_STREAM_KEYS) : (int64_t)FIA_STREAM_KEYS;
}

typedef struct fia_gather_ {
    const fia_problem *problem;
    const fia_io *io;
    const fia_codec *codec[3];
    const fia_view *view[3];
    fia_keys_call call;
    int64_t first, n; /* keys (a list: entries) */
    int64_t n_runs;
    int kv_head;
    int takes_scales;
    int slot;    /* of key 0 on the kernel's grid */
    int widened; /* bits: streams whose rows the worker holds as f32 */
    /* By stream: a place is base + outer * outer_bytes + KV head * head_bytes + row * the view's row_bytes. */
    const char *base[3];
    ptrdiff_t outer_bytes[3], head_bytes[3];
    int32_t row_bytes[3]; /* of what a key's row holds; 0 in pieces */
    fia_run_of_keys *runs;
    int64_t *positions;   /* NULL unless the form is a list */
    const char **rows[3]; /* pointers of this KV head */
    fia_rows stored[3];   /* rows [0, n) as they lie */
    float *scale[4];      /* key scale, key offset, value scale, value offset: per token, or NULL */
    float *token_room;    /* room for those, room_keys each */
    int64_t room_keys;
    float *channel; /* room for one row of channel values */
} fia_gather_;

/* What a row block of the stream family carries through a chunk, and what folds K's scales and offsets into its scores:
 * s = scale[j] * (dot + constant[r] + offset[j] * q_sum[r]). */
typedef struct fia_stream_block_ {
    fia_stream_state_ state;
    float constant[FIA_STREAM_ROWS], q_sum[FIA_STREAM_ROWS];
    float weight_sum[FIA_STREAM_ROWS],
        offset_sum[FIA_STREAM_ROWS]; /* V offsets: sums of weights, of weights times offsets */
} fia_stream_block_;

/* That and the outputs of its rows. */
FIA_INLINE_ size_t fia_stream_bytes_(const fia_problem *p) {
    return fia_align_up_(sizeof(fia_stream_block_)) +
           fia_align_up_((size_t)p->value_dim * FIA_STREAM_ROWS * sizeof(float));
}

/* Room of one gather: what fia_gather_bind_ lays out. */
static size_t fia_gather_bytes_(const fia_plan *plan) {
    const fia_problem *p = &plan->problem;
    const size_t key = sizeof(fia_run_of_keys) + sizeof(int64_t) + 3 * sizeof(char *) + 4 * sizeof(float);
    const size_t channels = (size_t)(p->dim + p->rope_dim + p->value_dim + 32);
    return fia_align_up_((size_t)fia_gather_keys_(plan) * key + channels * sizeof(float));
}

static void fia_worker_layout_(const fia_plan *plan, fia_layout_ *at) {
    const fia_problem *p = &plan->problem;
    const int64_t blocks = fia_unit_blocks_(plan), rows = fia_most_rows_(plan);
    const int64_t width = (int64_t)p->dim + p->rope_dim;
    size_t bytes[4] = {0, 0, 0, 0}, end = 0;
    if (fia_tiles_possible_(plan)) plan->tile->sizes(p, bytes);
    at->q_rows = fia_part_(&end, fia_bytes_(fia_max_(blocks * FIA_STREAM_ROWS, rows), width + 16, sizeof(float)));
    at->packed_bytes = fia_align_up_(bytes[0]);
    at->state_bytes = fia_align_up_(bytes[2]);
    if (at->state_bytes < fia_stream_bytes_(p)) at->state_bytes = fia_stream_bytes_(p);
    at->packed = fia_part_(&end, fia_bytes_(blocks, (int64_t)at->packed_bytes, 1));
    at->state = fia_part_(&end, fia_bytes_(2 * blocks, (int64_t)at->state_bytes, 1));
    at->fold = fia_part_(&end, fia_bytes_(blocks, (int64_t)fia_align_up_(at->partial_floats * sizeof(float)), 1));
    at->part = fia_part_(&end, at->partial_floats * sizeof(float));
    at->scratch = fia_part_(&end, bytes[3]);
    at->prepared = fia_part_(&end, bytes[1]);
    at->decoded = fia_part_(&end, fia_bytes_(FIA_STREAM_KEYS * 4, fia_max_(width, p->value_dim) + 16, sizeof(float)));
    at->rows = fia_part_(&end, fia_bytes_(blocks, sizeof(fia_row_block_), 1));
    at->gather = fia_part_(&end, 2 * fia_gather_bytes_(plan));
    at->out = fia_part_(&end, fia_bytes_(3, (int64_t)p->value_dim + 16, sizeof(float)));
    at->worker_bytes = end;
}

/* The only place that knows where things lie. */
static void fia_layout_make_(const fia_plan *plan, fia_layout_ *at) {
    const fia_problem *p = &plan->problem;
    const int64_t w = plan->max_workers;
    size_t end = fia_align_up_(sizeof(fia_header_));
    memset(at, 0, sizeof(*at));
    at->pool_blocks = plan->pool_blocks;
    at->pool_chunks = plan->pool_chunks;
    at->partial_floats = fia_partial_floats_(fia_most_rows_(plan), p->value_dim);
    fia_worker_layout_(plan, at);
    at->sequences = fia_part_(&end, fia_bytes_(p->n_sequences, sizeof(fia_sequence_), 1));
    at->cuts = fia_part_(&end, fia_bytes_(w, sizeof(fia_cut_), 1));
    at->shares = fia_part_(&end, fia_bytes_(w + 1, sizeof(int64_t), 1));
    at->cut_blocks = fia_part_(&end, fia_bytes_(at->pool_blocks, sizeof(fia_cut_block_), 1));
    at->pool =
        fia_part_(&end, fia_bytes_(at->pool_blocks, at->pool_chunks, (int64_t)(at->partial_floats * sizeof(float))));
    at->workers = fia_part_(&end, fia_bytes_(w, (int64_t)at->worker_bytes, 1)); /* SIZE_MAX stays that */
    at->total = end == SIZE_MAX ? SIZE_MAX : end + 64; /* any alignment of the caller's pointer */
}

static void fia_bind_(const fia_job *job, fia_bound_job_ *b) {
    const uintptr_t at = (uintptr_t)job->workspace;
    b->plan = job->plan;
    b->problem = &job->plan->problem;
    b->io = job->io;
    b->base = (char *)job->workspace + (size_t)((64 - at % 64) % 64);
    fia_layout_make_(b->plan, &b->layout);
    b->header = (fia_header_ *)(void *)b->base;
    b->sequences = (fia_sequence_ *)(void *)(b->base + b->layout.sequences);
    b->cuts = (fia_cut_ *)(void *)(b->base + b->layout.cuts);
    b->shares = (int64_t *)(void *)(b->base + b->layout.shares);
    b->cut_blocks = (fia_cut_block_ *)(void *)(b->base + b->layout.cut_blocks);
    b->pool = (float *)(void *)(b->base + b->layout.pool);
}

static fia_partial_ fia_pool_slot_(const fia_bound_job_ *b, int64_t ordinal, int64_t chunk, int rows) {
    return fia_partial_at_(b->pool + (size_t)(ordinal * b->layout.pool_chunks + chunk) * b->layout.partial_floats,
                           rows);
}

/* ---- geometry of sequences, units and row blocks ---- */

/* Keys of a sequence as chunks count them: positions, or entries of a list. */
static int64_t fia_n_keys_(const fia_plan *plan, const fia_sequence_ *s) {
    if (plan->keys->entries) return s->kv_len > 0 ? plan->keys->entries(&plan->problem) : 0;
    return s->kv_len;
}

/* Place of key 0 on the chunk and block grid. */
FIA_INLINE_ int64_t fia_grid_(const fia_plan *plan, const fia_sequence_ *s) {
    return plan->keys->entries ? 0 : s->kv_pos;
}

/* Local keys that the bounds of some row of tokens [first, last] keep lie in [lo, hi): length, causal, window. */
static void fia_span_bounds_(const fia_problem *p, const fia_sequence_ *s, int64_t first, int64_t last, int64_t *lo,
                             int64_t *hi) {
    const int64_t at = s->q_pos - s->kv_pos, right = p->causal ? fia_min_(p->window_right, 0) : p->window_right;
    *lo = p->window_left == FIA_UNBOUNDED ? 0 : fia_max_(0, at + first - p->window_left);
    *hi = right == FIA_UNBOUNDED ? s->kv_len : fia_min_(s->kv_len, at + last + right + 1);
    if (*lo >= *hi || (p->window_left != FIA_UNBOUNDED && right != FIA_UNBOUNDED && right < -p->window_left))
        *lo = *hi = 0;
}

/* A unit: its sequence, list (token), and row blocks, counted from the first of kv_head and on through later heads. */
typedef struct fia_unit_ {
    const fia_sequence_ *sequence;
    int64_t token; /* that owns the list; 0 */
    int kv_head, first_block, blocks;
} fia_unit_;

/* How the row blocks of a list make units: in lines, each of one KV head, or of all where heads go together. */
typedef struct fia_lines_ {
    int64_t n, blocks;   /* lines of the list, row blocks of a line */
    int64_t size, units; /* row blocks of a unit, units of a line */
} fia_lines_;

static fia_lines_ fia_lines_of_(const fia_plan *plan, const fia_sequence_ *s) {
    const int stream = s->family == FIA_FAMILY_STREAM, heads = plan->problem.n_kv_heads;
    const int together = stream && s->blocks <= FIA_TOGETHER_BLOCKS_ && fia_heads_together_(&plan->problem, plan->keys);
    fia_lines_ line;
    line.n = together ? 1 : heads;
    line.blocks = (int64_t)s->blocks * (together ? heads : 1);
    line.size = stream ? FIA_STREAM_PREP_ : plan->tile->prep_blocks;
    if (together) line.size = fia_max_(line.blocks, 1);
    line.units = fia_ceil_div_(line.blocks, line.size);
    return line;
}

static void fia_unit_at_(const fia_bound_job_ *b, int64_t index, fia_unit_ *u) {
    int64_t low = 0, high = b->header->n_sequences - 1;
    fia_lines_ line;
    while (low < high) { /* the last sequence that begins at or before the unit */
        const int64_t mid = (low + high + 1) / 2;
        if (b->sequences[mid].first_unit <= index) low = mid;
        else high = mid - 1;
    }
    u->sequence = b->sequences + low;
    line = fia_lines_of_(b->plan, u->sequence);
    index -= u->sequence->first_unit;
    u->first_block = (int)(index % line.units * line.size);
    u->blocks = (int)fia_min_(line.size, line.blocks - u->first_block);
    u->kv_head = (int)(index / line.units % line.n);
    u->token = index / line.units / line.n;
}

/* Row blocks of a KV head with so many rows. */
static int64_t fia_head_blocks_(const fia_plan *plan, int family, int64_t rows) {
    return family == FIA_FAMILY_STREAM ? fia_ceil_div_(rows, FIA_STREAM_ROWS) + fia_stream_splits_(rows)
                                       : fia_ceil_div_(rows, plan->tile->rows);
}

/* Rows of a row block, and keys that some of them may read. */
typedef struct fia_span_ {
    int64_t row, lo, hi; /* first row; keys [lo, hi) */
    int rows;
} fia_span_;

/* Of row block `block` of a KV head. Lists are read by entry, whatever the bounds. */
static fia_span_ fia_block_span_(const fia_plan *plan, const fia_sequence_ *s, int64_t base_token, int64_t block) {
    const int64_t group = fia_group_(&plan->problem), all = fia_head_rows_(plan, s->q_len);
    const int stream = s->family == FIA_FAMILY_STREAM, split = stream && fia_stream_splits_(all);
    const int64_t size = stream ? FIA_STREAM_ROWS : plan->tile->rows, last = all / size;
    fia_span_ span;
    span.row = block * size - (split && block > last ? FIA_STREAM_ROWS / 2 : 0);
    span.rows = (int)fia_min_(split && block == last ? FIA_STREAM_ROWS / 2 : size, all - span.row);
    fia_span_bounds_(&plan->problem, s, base_token + span.row / group, base_token + (span.row + span.rows - 1) / group,
                     &span.lo, &span.hi);
    if (plan->keys->entries && span.lo < span.hi) {
        span.lo = 0;
        span.hi = fia_n_keys_(plan, s);
    }
    return span;
}

/* Chunks [*first, *end) of the sequence that keys [lo, hi) touch, counted from the sequence's first. */
static void fia_chunk_range_(const fia_plan *plan, const fia_sequence_ *s, int64_t lo, int64_t hi, int64_t *first,
                             int64_t *end) {
    const int64_t grid = fia_grid_(plan, s), base = fia_floor_div_(grid, s->chunk);
    *first = *end = 0;
    if (lo >= hi) return;
    *first = fia_floor_div_(grid + lo, s->chunk) - base;
    *end = fia_floor_div_(grid + hi - 1, s->chunk) - base + 1;
}

/* ==== R13b drivers: phase 0 ================================================================== */
/* Whatever a run brings is checked before anything is written; then the work is cut into items. */

/* ---- check ---- */

static int64_t fia_length_at_(const fia_ints *ints, int form, int64_t b, int64_t longest, int64_t *start) {
    int64_t before, end;
    if (!ints->data) return longest;
    if (form == FIA_LENGTHS_EACH) return fia_ints_at_(ints, b);
    before = form == FIA_LENGTHS_STARTS ? fia_ints_at_(ints, b) : b ? fia_ints_at_(ints, b - 1) : 0;
    end = fia_ints_at_(ints, form == FIA_LENGTHS_STARTS ? b + 1 : b);
    *start = before < 0 || end < 0 ? 0 : before; /* a negative sum is refused, and nothing overflows */
    return before < 0 || end < 0 ? fia_min_(before, end) : end - before;
}

/* The sentence shows what stands in the array: a length, or with `sums` the running sum at its end. total: rows of all
 * sequences; not packed: INT64_MAX. */
static fia_status fia_check_length_(fia_report *report, const char *name, int sums, int64_t length, int64_t start,
                                    int64_t longest, int64_t total) {
    const int64_t given = sums ? start + length : length;
    if (length < 0)
        return fia_refuse_(report, name, given,
                           sums ? "running sums do not decrease, the one before is #" : "lengths are not negative",
                           start, 0);
    if (length > longest)
        return fia_refuse_(report, name, given,
                           sums ? "lengths are at most #, the running sum before is #" : "lengths are at most #",
                           longest, start);
    if (length > total - start)
        return fia_refuse_(report, name, given,
                           sums ? "the rows of all sequences are at most #"
                                : "the rows of all sequences are at most #, # come before",
                           total, start);
    return FIA_OK;
}

/* Refuses field `field` of `view`. */
static fia_status fia_refuse_field_(fia_report *report, const char *view, const char *field, int64_t value,
                                    const char *allowed, int64_t a) {
    char name[64];
    fia_text_join_(name, sizeof(name), view, field);
    return fia_refuse_(report, name, value, allowed, a, 0);
}

static fia_status fia_check_mask_(fia_report *report, const char *name, const fia_mask_view *view,
                                  const fia_sequence_ *s) {
    if (view->dtype == FIA_NONE || s->q_len == 0 || s->kv_len == 0) return FIA_OK;
    if (view->row_bytes && s->q_len > view->rows)
        return fia_refuse_field_(report, name, ".rows", view->rows, "a sequence has # query rows", s->q_len);
    if (s->kv_len > view->keys)
        return fia_refuse_field_(report, name, ".keys", view->keys, "a sequence has # keys", s->kv_len);
    return FIA_OK;
}

/* Steps of a stride that stay within what cannot overflow. */
static int fia_span_ok_(int64_t stride, int64_t count) {
    const int64_t all = stride == INT64_MIN ? -1 : fia_mul_(stride < 0 ? -stride : stride, fia_max_(count - 1, 0));
    return all >= 0 && all <= FIA_SPAN_LIMIT_;
}

typedef struct fia_ints_check_ {
    const char *name;
    const fia_ints *ints;
    int form, used;
} fia_ints_check_;

static fia_status fia_check_ints_(const fia_ints_check_ *c, int64_t n, fia_report *report) {
    const fia_ints *x = c->ints;
    if (!x->data && c->form != FIA_LENGTHS_EACH && n > 0)
        return fia_refuse_text_(report, c->name, "absent", "the plan takes running sums");
    if (!x->data) return FIA_OK;
    if (!c->used) return fia_refuse_text_(report, c->name, "given", "the plan was made without it");
    if (x->dtype != FIA_I32 && x->dtype != FIA_I64)
        return fia_refuse_dtype_(report, c->name, x->dtype, "the array must be i32 or i64");
    if (x->broadcast < 0 || x->broadcast > 1 || (x->broadcast && c->form != FIA_LENGTHS_EACH))
        return fia_refuse_(report, c->name, x->broadcast, "broadcast must be 0, or 1 where values are not running sums",
                           0, 0);
    if (!x->broadcast && !fia_span_ok_(x->stride_bytes, n + (c->form == FIA_LENGTHS_STARTS)))
        return fia_refuse_(report, c->name, x->stride_bytes,
                           "with this stride_bytes the array would span more than 2^60 bytes", 0, 0);
    if (c->form == FIA_LENGTHS_STARTS && n > 0 && fia_ints_at_(x, 0) != 0)
        return fia_refuse_(report, c->name, fia_ints_at_(x, 0), "the first of these running sums must be 0", 0, 0);
    return FIA_OK;
}

/* Integer arrays by themselves: what reading them needs, and arrays that the plan cannot do without. */
static fia_status fia_check_lists_(const fia_problem *p, const fia_io *io, fia_report *report) {
    const int list = p->keys == FIA_KEYS_LIST || p->keys >= FIA_KEYS_USER;
    const fia_ints_check_ table[] = {
        {"q_lens", &io->q_lens, p->q_lengths, 1},
        {"kv_lens", &io->kv_lens, p->kv_lengths, 1},
        {"q_offset", &io->q_offset, FIA_LENGTHS_EACH, 1},
        {"kv_offset", &io->kv_offset, FIA_LENGTHS_EACH, 1},
        {"kv_rows", &io->kv_rows, FIA_LENGTHS_EACH, list},
        {"key_head_strides", &io->key_head_strides, FIA_LENGTHS_EACH, list},
        {"key_rope_head_strides", &io->key_rope_head_strides, FIA_LENGTHS_EACH, list && p->rope_dim},
        {"value_head_strides", &io->value_head_strides, FIA_LENGTHS_EACH, list && !p->value_in_key}};
    size_t i;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); ++i)
        if (fia_check_ints_(&table[i], io->n_sequences, report)) return FIA_ERR_ARGUMENT;
    if (p->keys == FIA_KEYS_LIST && !fia_span_ok_(io->list_bytes, io->n_sequences))
        return fia_refuse_(report, "list_bytes", io->list_bytes, "the lists would span more than 2^60 bytes", 0, 0);
    return FIA_OK;
}

/* One address: present where it is needed, absent where the plan has no use for it, aligned to its element. */
static fia_status fia_check_address_(fia_report *report, const char *name, const void *data, int planned, int needed,
                                     int64_t alignment) {
    if (data && !planned) return fia_refuse_text_(report, name, "given", "the plan was made without it");
    if (!data && needed) return fia_refuse_text_(report, name, "NULL", "the plan was made with it");
    if (data && alignment > 1 && (uintptr_t)data % (uintptr_t)alignment)
        return fia_refuse_(report, name, (int64_t)((uintptr_t)data % (uintptr_t)alignment),
                           "the address must be a multiple of # bytes (the value is the rest)", alignment, 0);
    return FIA_OK;
}

/* rows: 1 some query row is live, 2 padding is written; keys: some key may be read. */
static fia_status fia_check_addresses_(const fia_plan *plan, const fia_io *io, int rows, int keys, fia_report *report) {
    const fia_problem *p = &plan->problem;
    const int list = p->keys == FIA_KEYS_LIST, paged = p->keys == FIA_KEYS_PAGED, user = p->keys >= FIA_KEYS_USER;
    const int value = !p->value_in_key, rope = p->rope_dim > 0;
    const struct {
        const char *name;
        const void *data;
        int planned, live; /* live: what the plan was made with is needed */
        int64_t alignment;
    } stream[] = {{"query", io->query, 1, rows & 1, plan->codec_q->alignment},
                  {"query_rope", io->query_rope, rope, rows & 1, rope ? plan->codec_q_rope->alignment : 1},
                  {"out", io->out, 1, rows, plan->codec_out->alignment},
                  {"lse", io->lse, p->want_lse, rows, 4},
                  {"key", io->key, !list, keys, plan->codec_k->alignment},
                  {"value", io->value, !list && value, keys, plan->codec_v->alignment},
                  {"key_rope", io->key_rope, !list && rope, keys, rope ? plan->codec_k_rope->alignment : 1},
                  {"key_list", io->key_list, list, keys, 1},
                  {"value_list", io->value_list, list && value, keys, 1},
                  {"key_rope_list", io->key_rope_list, list && rope, keys, 1},
                  {"block_table", io->block_table, paged || user, keys && paged, 4},
                  {"keys_data", io->keys_data, user, 0, 1}};
    const struct {
        const char *name;
        const void *data;
        fia_dtype dtype;
    } term[] = {{"bias", io->bias, p->bias.dtype},
                {"additive_mask", io->additive_mask, p->additive_mask.dtype},
                {"drop_mask", io->drop_mask, p->drop_mask.dtype},
                {"mask_factor", io->mask_factor, p->mask_factor},
                {"alibi_slopes", io->alibi_slopes, p->alibi_slopes},
                {"sinks", io->sinks, p->sinks},
                {"query_scale", io->query_scale, p->query_scale.dtype},
                {"key_scale", io->key_scale, p->key_scale.dtype},
                {"key_offset", io->key_offset, p->key_offset.dtype},
                {"value_scale", io->value_scale, p->value_scale.dtype},
                {"value_offset", io->value_offset, p->value_offset.dtype},
                {"out_scale", io->out_scale, p->out_scale.dtype},
                {"out_offset", io->out_offset, p->out_offset.dtype}};
    size_t i;
    for (i = 0; i < sizeof(stream) / sizeof(stream[0]); ++i)
        if (fia_check_address_(report, stream[i].name, stream[i].data, stream[i].planned,
                               stream[i].planned && stream[i].live, stream[i].alignment))
            return FIA_ERR_ARGUMENT;
    for (i = 0; i < sizeof(term) / sizeof(term[0]); ++i)
        if (fia_check_address_(report, term[i].name, term[i].data, term[i].dtype != FIA_NONE,
                               keys && term[i].dtype != FIA_NONE, fia_float_bytes_(term[i].dtype)))
            return FIA_ERR_ARGUMENT;
    return FIA_OK;
}

FIA_INLINE_ int64_t fia_row_bytes_(const fia_codec *codec, const fia_view *view, int32_t elements) {
    return codec->row_bytes ? codec->row_bytes(view, elements) : elements / codec->granule * codec->granule_bytes;
}

static const char *const fia_stride_names_[3] = {"sequence_bytes", "head_bytes", "row_bytes"};

/* Strides of sequence, head and row, and how many there are of each. */
typedef struct fia_strides_ {
    const char *view; /* what stands before the names */
    ptrdiff_t stride[3];
    int64_t count[3], unit;
} fia_strides_;

/* Bytes of rows that leave none out between them; 0: they do, or there is no row. */
typedef struct fia_area_ {
    uintptr_t low, high;
} fia_area_;

/* From the inside to the outside each stride is what lies inside of it, or 0. Of up to six axes. */
static fia_area_ fia_area_of_(const void *base, const ptrdiff_t *stride, const int64_t *count, int axes,
                              int64_t bytes) {
    int64_t down = 0, up = bytes;
    fia_area_ area = {0, 0};
    int i, k, left = 0;
    int done[6];
    for (i = 0; i < axes; ++i) {
        if (!base || count[i] < 1) return area;
        done[i] = stride[i] == 0 || count[i] == 1;
        left += !done[i];
    }
    for (k = left; k > 0; --k)
        for (i = 0; i < axes; ++i) {
            if (done[i] || fia_step_size_(stride[i]) != up - down) continue;
            if (stride[i] < 0) down += stride[i] * (count[i] - 1);
            else up += stride[i] * (count[i] - 1);
            done[i] = 1;
            --left;
        }
    if (!base || left > 0) return area;
    area.low = (uintptr_t)base + (uintptr_t)down;
    area.high = (uintptr_t)base + (uintptr_t)up;
    return area;
}

FIA_INLINE_ int fia_areas_meet_(fia_area_ a, fia_area_ b) { return a.low && b.low && a.low < b.high && b.low < a.high; }

static fia_strides_ fia_out_strides_(const fia_view *view, int64_t outer, int64_t heads, int64_t rows) {
    const fia_strides_ s = {"out.", {view->sequence_bytes, view->head_bytes, view->row_bytes}, {outer, heads, rows}, 1};
    return s;
}

static fia_strides_ fia_lse_strides_(const fia_problem *p, int64_t outer, int64_t rows) {
    const fia_strides_ s = {
        "lse_", {p->lse_sequence_bytes, p->lse_head_bytes, p->lse_row_bytes}, {outer, p->n_q_heads, rows}, 4};
    return s;
}

/* Rows of `bytes` bytes that are written lie apart: from the inside to the outside, a stride is at least what lies
 * inside of it. The strides are known to stay within 2^60 bytes. axes: bits of those that are looked at. */
static fia_status fia_check_apart_(fia_report *report, const fia_strides_ *s, int axes, int64_t bytes) {
    int64_t size[3];
    int done[3] = {!(axes & 1), !(axes & 2), !(axes & 4)}, k, i, least;
    if (s->count[0] < 1 || s->count[1] < 1 || s->count[2] < 1) return FIA_OK;
    for (i = 0; i < 3; ++i) size[i] = fia_step_size_(s->stride[i]);
    for (k = 0; k < 3; ++k) {
        for (least = -1, i = 0; i < 3; ++i)
            if (!done[i] && s->count[i] > 1 && (least < 0 || size[i] < size[least])) least = i;
        if (least < 0) break;
        done[least] = 1;
        if (size[least] < bytes)
            return fia_refuse_field_(report, s->view, fia_stride_names_[least], s->stride[least],
                                     "rows that are written must lie apart, # bytes here", bytes);
        bytes += size[least] * (s->count[least] - 1);
    }
    return FIA_OK;
}

/* Rows of out and lse lie apart, and not over an input: not at its address, and without a byte in common where rows
 * leave none out. q_rows, kv_rows: as fia_check_sequence_ left them. */
static fia_status fia_check_overlap_(const fia_plan *plan, const fia_io *io, int64_t q_rows, int64_t kv_rows,
                                     fia_report *report) {
    const fia_problem *p = &plan->problem;
    const void *const input[] = {io->query,        io->key,          io->value,         io->query_rope, io->key_rope,
                                 io->block_table,  io->bias,         io->additive_mask, io->drop_mask,  io->mask_factor,
                                 io->alibi_slopes, io->sinks,        io->query_scale,   io->key_scale,  io->key_offset,
                                 io->value_scale,  io->value_offset, io->out_scale,     io->out_offset};
    const fia_view *const view[5] = {&p->query, &p->key, &p->value, &p->query_rope, &p->key_rope};
    const fia_codec *const codec[5] = {plan->codec_q, plan->codec_k, plan->codec_v, plan->codec_q_rope,
                                       plan->codec_k_rope};
    const int32_t elements[5] = {p->dim, p->dim, p->value_dim, p->rope_dim, p->rope_dim};
    const int paged = p->keys != FIA_KEYS_STRIDED;
    const int64_t rows[3] = {p->q_packed ? 1 : io->n_sequences, p->n_q_heads,
                             !p->fill_padding ? q_rows
                             : p->q_packed    ? p->total_q
                                              : p->max_q_len};
    const int64_t count[2][3] = {{rows[0], rows[1], q_rows},
                                 {paged          ? p->n_pages
                                  : p->kv_packed ? 1
                                                 : io->n_sequences,
                                  p->n_kv_heads, paged ? p->page_size : kv_rows}};
    const fia_strides_ out_strides = fia_out_strides_(&p->out, rows[0], rows[1], rows[2]),
                       lse_strides = fia_lse_strides_(p, rows[0], rows[2]);
    fia_area_ out, lse, area;
    int i;
    if (fia_check_apart_(report, &out_strides, 7, fia_row_bytes_(plan->codec_out, &p->out, p->value_dim)) ||
        (p->want_lse && fia_check_apart_(report, &lse_strides, 7, 4)))
        return FIA_ERR_ARGUMENT;
    out = fia_area_of_(io->out, out_strides.stride, rows, 3, fia_row_bytes_(plan->codec_out, &p->out, p->value_dim));
    lse = fia_area_of_(p->want_lse ? io->lse : NULL, lse_strides.stride, rows, 3, 4);
    for (i = 0; i < (int)(sizeof(input) / sizeof(input[0])); ++i) {
        area.low = area.high = 0;
        if (kv_rows == 0 && i != 0 && i != 3) continue; /* without keys queries alone are read */
        if (i < 5 && input[i] && !view[i]->piece_elements) {
            const ptrdiff_t strides[3] = {view[i]->sequence_bytes, view[i]->head_bytes, view[i]->row_bytes};
            area = fia_area_of_(input[i], strides, count[i == 1 || i == 2 || i == 4], 3,
                                fia_row_bytes_(codec[i], view[i], elements[i]));
        }
        if (input[i] && (input[i] == io->out || fia_areas_meet_(out, area)))
            return fia_refuse_text_(report, "out", "laid over an input", "outputs share no byte with it");
        if (input[i] && (input[i] == io->lse || fia_areas_meet_(lse, area)))
            return fia_refuse_text_(report, "lse", "laid over an input", "outputs share no byte with it");
    }
    if (p->want_lse && (io->out == (const void *)io->lse || fia_areas_meet_(out, lse)))
        return fia_refuse_text_(report, "lse", "laid over out", "outputs share no byte");
    return FIA_OK;
}

/* Base pointers and head strides of a sequence with its own. */
static fia_status fia_check_base_(const fia_bound_job_ *b, const fia_sequence_ *s, fia_report *report) {
    const fia_problem *p = b->problem;
    const fia_io *io = b->io;
    const void *const list[3] = {io->key_list, io->key_rope_list, io->value_list}; /* none that the plan lacks */
    const fia_ints *const strides[3] = {&io->key_head_strides, &io->key_rope_head_strides, &io->value_head_strides};
    static const char *const name[3][2] = {{"key_list", "key_head_strides"},
                                           {"key_rope_list", "key_rope_head_strides"},
                                           {"value_list", "value_head_strides"}};
    const fia_codec *const codec[3] = {b->plan->codec_k, b->plan->codec_k_rope, b->plan->codec_v};
    const char *base;
    int i;
    if (p->keys != FIA_KEYS_LIST || s->q_len == 0 || s->kv_len == 0) return FIA_OK;
    for (i = 0; i < 3; ++i) {
        if (!list[i]) continue;
        memcpy(&base, (const char *)list[i] + s->index * io->list_bytes, sizeof(base));
        if (fia_check_address_(report, name[i][0], base, 1, 1, codec[i]->alignment)) return FIA_ERR_ARGUMENT;
        if (strides[i]->data) {
            const int64_t stride = fia_ints_at_(strides[i], s->index);
            if (stride % codec[i]->granule ||
                !fia_span_ok_(stride, (int64_t)codec[i]->granule_bytes * (p->n_kv_heads - 1) + 1))
                return fia_refuse_(report, name[i][1], stride,
                                   "must be a multiple of # elements, and heads must span less than 2^60 bytes",
                                   codec[i]->granule, 0);
        }
    }
    return FIA_OK;
}

/* Lengths and positions of sequence b; q_next and kv_next: rows of the packed sequences so far, or of the longest
 * one. */
static fia_status fia_check_sequence_(const fia_bound_job_ *b, int64_t index, int64_t *q_next, int64_t *kv_next,
                                      fia_sequence_ *s, fia_report *report) {
    const fia_problem *p = b->problem;
    const fia_io *io = b->io;
    int64_t room = p->max_kv_len;
    s->index = index;
    s->q_start = *q_next;
    s->kv_start = *kv_next;
    s->q_len = fia_length_at_(&io->q_lens, p->q_lengths, index, p->max_q_len, &s->q_start);
    s->kv_len = fia_length_at_(&io->kv_lens, p->kv_lengths, index, p->max_kv_len, &s->kv_start);
    if (p->keys == FIA_KEYS_LIST && io->kv_rows.data) {
        const int64_t rows = fia_ints_at_(&io->kv_rows, index);
        if (rows < 0) return fia_refuse_(report, "kv_rows", rows, "must not be negative", 0, 0);
        if (rows > room && !io->kv_lens.data)
            return fia_refuse_(report, "kv_rows", rows, "without kv_lens it is the length, and lengths are at most #",
                               room, 0);
        room = fia_min_(room, rows);
        if (!io->kv_lens.data) s->kv_len = room;
    }
    if (fia_check_length_(report, "q_lens", p->q_lengths != FIA_LENGTHS_EACH, s->q_len, s->q_start, p->max_q_len,
                          p->q_packed ? p->total_q : INT64_MAX) ||
        fia_check_length_(report, "kv_lens", p->kv_lengths != FIA_LENGTHS_EACH, s->kv_len, s->kv_start, room,
                          p->kv_packed ? p->total_kv : INT64_MAX))
        return FIA_ERR_ARGUMENT;
    *q_next = p->q_packed ? s->q_start + s->q_len : fia_max_(*q_next, s->q_len);
    *kv_next = p->kv_packed ? s->kv_start + s->kv_len : fia_max_(*kv_next, s->kv_len);
    if (!p->q_packed) s->q_start = 0;
    if (!p->kv_packed) s->kv_start = 0;
    s->kv_pos = io->kv_offset.data ? fia_ints_at_(&io->kv_offset, index) : 0;
    if (s->kv_pos > FIA_SPAN_LIMIT_ || s->kv_pos < -FIA_SPAN_LIMIT_)
        return fia_refuse_(report, "kv_offset", s->kv_pos, "positions lie within 2^60", 0, 0);
    s->q_pos = io->q_offset.data ? fia_ints_at_(&io->q_offset, index)
                                 : s->kv_pos + (p->align == FIA_ALIGN_TOP_LEFT ? 0 : s->kv_len - s->q_len);
    if (s->q_pos > 2 * FIA_SPAN_LIMIT_ || s->q_pos < -2 * FIA_SPAN_LIMIT_)
        return fia_refuse_(report, "q_offset", s->q_pos, "positions lie within 2^61", 0, 0);
    if (fia_check_mask_(report, "bias", &p->bias, s) ||
        fia_check_mask_(report, "additive_mask", &p->additive_mask, s) ||
        fia_check_mask_(report, "drop_mask", &p->drop_mask, s))
        return FIA_ERR_ARGUMENT;
    return FIA_OK;
}

/* Bounds of a list's owner, for the key form. */
static void fia_keys_call_(const fia_bound_job_ *b, const fia_sequence_ *s, int64_t token, int kv_head,
                           fia_keys_call *call) {
    const int64_t first = b->plan->keys->per_token ? token : 0, last = b->plan->keys->per_token ? token : s->q_len - 1;
    memset(call, 0, sizeof(*call));
    call->problem = b->problem;
    call->io = b->io;
    call->sequence = s->index;
    call->kv_len = s->kv_len;
    call->q_start = s->q_start;
    call->kv_start = s->kv_start;
    call->token = token;
    call->kv_head = kv_head;
    fia_span_bounds_(b->problem, s, first, last, &call->position_begin, &call->position_end);
}

/* Page ids and list entries that the run will follow. */
static fia_status fia_check_keys_(const fia_bound_job_ *b, const fia_sequence_ *s, fia_report *report) {
    const fia_keys *keys = b->plan->keys;
    const int64_t lists = keys->per_token ? s->q_len : 1, heads = keys->per_token ? b->problem->n_kv_heads : 1;
    int64_t token, head;
    if (!keys->check || s->q_len == 0) return FIA_OK;
    for (token = 0; token < lists; ++token) {
        for (head = 0; head < heads; ++head) {
            fia_keys_call call;
            char text[sizeof(report->text)];
            fia_keys_call_(b, s, token, (int)head, &call);
            if (call.position_begin >= call.position_end) continue;
            text[0] = 0;
            if (keys->check(&call, keys->entries ? 0 : call.position_begin,
                            keys->entries ? fia_n_keys_(b->plan, s) : call.position_end, text, sizeof(text))) {
                memcpy(report->text, text, sizeof(text));
                report->text[sizeof(text) - 1] = 0;
                return report->status = FIA_ERR_ARGUMENT;
            }
        }
    }
    return FIA_OK;
}

/* ---- lay out ---- */

/* The chunk rule: base * 2^k with the smallest k that cuts the sequence's keys into at most 32 cells of the grid. */
static int64_t fia_chunk_(const fia_plan *plan, const fia_sequence_ *s) {
    const int64_t n = fia_n_keys_(plan, s), grid = fia_grid_(plan, s);
    int64_t chunk = plan->chunk_base;
    if (plan->problem.pin_chunk) return plan->problem.pin_chunk;
    while (n > 0 && fia_floor_div_(grid + n - 1, chunk) - fia_floor_div_(grid, chunk) + 1 > FIA_MAX_CHUNKS_) chunk *= 2;
    return chunk;
}

/* Work of a row block: visible keys times rows, and something for what every block costs. */
static int64_t fia_block_cost_(const fia_plan *plan, const fia_sequence_ *s, int64_t block) {
    const fia_span_ at = fia_block_span_(plan, s, 0, block);
    return (fia_min_(at.hi - at.lo, 1 << 24) + 16) * (at.rows < 8 ? 8 : at.rows); /* capped: sums must not overflow */
}

static int64_t fia_head_cost_(const fia_plan *plan, const fia_sequence_ *s) {
    int64_t cost = 0, block;
    for (block = 0; block < s->blocks; ++block) cost += fia_block_cost_(plan, s, block);
    return cost;
}

/* Family, chunk and units of a sequence; returns its cost, at most 2^60: beyond, shares are less even. */
static int64_t fia_lay_sequence_(const fia_bound_job_ *b, fia_sequence_ *s, int64_t first_unit) {
    const fia_plan *plan = b->plan;
    const int64_t lists = plan->keys->per_token ? s->q_len : s->q_len > 0;
    fia_lines_ line;
    int64_t cost;
    s->family = fia_family_(plan, s->q_len);
    s->chunk = fia_chunk_(plan, s);
    s->blocks = (int32_t)fia_head_blocks_(plan, s->family, fia_head_rows_(plan, s->q_len));
    line = fia_lines_of_(plan, s);
    s->first_unit = first_unit;
    s->n_units = lists * line.n * line.units;
    cost = fia_mul_(lists * b->problem->n_kv_heads, fia_head_cost_(plan, s));
    return cost < 0 ? FIA_SPAN_LIMIT_ : fia_min_(cost, FIA_SPAN_LIMIT_);
}

/* The point at `cost` from the start of a sequence: unit, row block in it, chunk in that. */
static void fia_point_at_(const fia_bound_job_ *b, const fia_sequence_ *s, int64_t cost, int64_t share, fia_cut_ *cut) {
    const fia_plan *plan = b->plan;
    const fia_lines_ line = fia_lines_of_(plan, s);
    const int64_t head_cost = fia_head_cost_(plan, s), head = cost / head_cost;
    int64_t block = 0, of_block, first, end, chunk;
    fia_span_ span;
    cost %= head_cost;
    while ((of_block = fia_block_cost_(plan, s, block)) <= cost) {
        cost -= of_block;
        ++block;
    }
    span = fia_block_span_(plan, s, 0, block);
    fia_chunk_range_(plan, s, span.lo, span.hi, &first, &end);
    chunk = first + (cost * (end - first) + of_block / 2) / of_block;
    if (of_block < share / 32) chunk = cost * 2 < of_block ? first : end; /* small blocks are not worth a cut */
    if (chunk <= first) chunk = 0;
    if (chunk >= end) {
        chunk = 0;
        ++block;
    }
    block += head * s->blocks;
    cut->unit = s->first_unit + block / line.blocks * line.units + block % line.blocks / line.size;
    cut->block = (int32_t)(block % line.blocks % line.size);
    cut->chunk = (int32_t)chunk;
}

/* Row blocks that a cut between chunks goes across: of the one unit of a call, with all heads and many chunks
 * [*first, *end), all of them, which keeps every worker's reads in one stretch; else one. */
static int fia_cut_width_(const fia_bound_job_ *b, int64_t *first, int64_t *end) {
    fia_span_ span;
    fia_unit_ u;
    if (b->header->n_units != 1 || b->header->n_sequences != 1 || b->plan->max_workers == 1) return 1;
    fia_unit_at_(b, 0, &u);
    span = fia_block_span_(b->plan, u.sequence, 0, 0);
    fia_chunk_range_(b->plan, u.sequence, span.lo, span.hi, first, end);
    return u.blocks > u.sequence->blocks && *end - *first >= 4 * (int64_t)b->plan->max_workers ? u.blocks : 1;
}

/* Appends a cut, unless the place is the last one or the start of a unit; notes the row blocks that it cuts. */
static void fia_cut_add_(const fia_bound_job_ *b, const fia_cut_ *at, int64_t share) {
    fia_header_ *h = b->header;
    const fia_cut_ *last = h->n_cuts ? b->cuts + h->n_cuts - 1 : NULL;
    const int again = last && last->unit == at->unit && last->block == at->block;
    if ((at->block > 0 || at->chunk > 0) && !(again && last->chunk == at->chunk)) {
        const int noted = again && last->chunk > 0;
        fia_cut_ *cut = b->cuts + h->n_cuts++;
        int k;
        *cut = *at;
        cut->ordinal = at->chunk == 0 ? -1 : noted ? last->ordinal : (int32_t)h->n_cut_blocks;
        for (k = 0; k < h->cut_width && at->chunk > 0 && !noted; ++k) {
            fia_cut_block_ *block = b->cut_blocks + h->n_cut_blocks++;
            block->unit = at->unit;
            block->block = at->block + k;
            block->chunk = at->chunk;
        }
    }
    b->shares[share] = at->unit + h->n_cuts;
}

/* Lays the work on a line, cuts it into equal shares, and moves each cut to a place that is allowed. */
static void fia_lay_out_(const fia_bound_job_ *b, int64_t total) {
    fia_header_ *h = b->header;
    const int64_t w = b->plan->max_workers;
    const int64_t share_cost = fia_max_(total / w, 1);
    int64_t i, at = 0, first = 0, end = 0;
    h->cut_width = fia_cut_width_(b, &first, &end);
    b->shares[0] = 0;
    for (i = 1; i < w; ++i) {
        const int64_t cost = total / w * i + total % w * i / w;
        fia_cut_ cut;
        memset(&cut, 0, sizeof(cut));
        while (at + 1 < h->n_sequences && b->sequences[at + 1].cost_before <= cost) ++at;
        if (h->cut_width > 1) cut.chunk = (int32_t)(first + (end - first) * i / w);
        else if (total > 0) /* the sequence has units: one without costs nothing, and is passed */
            fia_point_at_(b, b->sequences + at, cost - b->sequences[at].cost_before, share_cost, &cut);
        fia_cut_add_(b, &cut, i);
    }
    b->shares[w] = h->n_units + h->n_cuts + h->n_fills;
}

/* Verdict and work of a run. Nothing but the workspace is written. */
static fia_status fia_phase_check_(const fia_bound_job_ *b) {
    fia_header_ *h = b->header;
    fia_report *report = &h->verdict;
    const int64_t n = b->io->n_sequences;
    int64_t i, q_next = 0, kv_next = 0, units = 0, cost = 0;
    int rows = 0, keys = 0;
    if (n < 0 || n > b->problem->n_sequences)
        return fia_refuse_(report, "n_sequences", n, "the plan was made for 0 to #", b->problem->n_sequences, 0);
    if (fia_check_lists_(b->problem, b->io, report)) return report->status;
    for (i = 0; i < n; ++i) {
        if (fia_check_sequence_(b, i, &q_next, &kv_next, b->sequences + i, report)) return report->status;
        rows |= b->sequences[i].q_len > 0;
        keys |= b->sequences[i].q_len > 0 && b->sequences[i].kv_len > 0;
    }
    if (b->problem->fill_padding &&
        (b->problem->q_packed ? b->problem->total_q > 0 : n > 0 && b->problem->max_q_len > 0))
        rows |= 2;
    if (fia_check_addresses_(b->plan, b->io, rows, keys, report) ||
        (rows && fia_check_overlap_(b->plan, b->io, q_next, kv_next, report)))
        return report->status;
    for (i = 0; i < n; ++i)
        if (fia_check_base_(b, b->sequences + i, report) || fia_check_keys_(b, b->sequences + i, report))
            return report->status;
    for (i = 0; i < n; ++i) {
        fia_sequence_ *s = b->sequences + i;
        s->cost_before = cost;
        cost = fia_min_(cost + fia_lay_sequence_(b, s, units), FIA_SPAN_LIMIT_);
        units += s->n_units;
        if (s->n_units > 0 && s->family == FIA_FAMILY_STREAM) ++h->n_stream;
        if (s->n_units > 0 && s->family == FIA_FAMILY_TILE) ++h->n_tile;
    }
    h->n_sequences = n;
    h->n_units = units;
    h->n_fills = rows & 2 ? (b->problem->q_packed ? 1 : n) : 0;
    fia_lay_out_(b, cost);
    return FIA_OK;
}

/* ==== R13c drivers: gathering ================================================================ */
/* Pointers, positions and scales of the keys that come next, for kernels of both families. */

/* Where each stream of stored rows begins for the sequence of g. */
static void fia_gather_streams_(fia_gather_ *g) {
    const fia_io *io = g->io;
    const int inside = g->problem->value_in_key;
    const void *const base[3] = {io->key, io->key_rope, inside ? io->key : io->value};
    const void *const list[3] = {io->key_list, io->key_rope_list, inside ? io->key_list : io->value_list};
    const fia_ints *const strides[3] = {&io->key_head_strides, &io->key_rope_head_strides,
                                        inside ? &io->key_head_strides : &io->value_head_strides};
    int k;
    for (k = 0; k < 3; ++k) {
        g->head_bytes[k] = g->view[k]->head_bytes;
        g->outer_bytes[k] = g->view[k]->sequence_bytes;
        g->base[k] = (const char *)base[k];
        g->row_bytes[k] = 0;
        if (g->codec[k] && !g->view[k]->piece_elements)
            g->row_bytes[k] = (k == FIA_OF_VALUE ? g->problem->value_dim : g->problem->dim) / g->codec[k]->granule *
                              g->codec[k]->granule_bytes;
        if (g->problem->keys != FIA_KEYS_LIST || !list[k] || !g->codec[k]) continue;
        memcpy(&g->base[k], (const char *)list[k] + g->call.sequence * io->list_bytes, sizeof(g->base[k]));
        g->outer_bytes[k] = 0;
        if (strides[k]->data)
            g->head_bytes[k] =
                (ptrdiff_t)((uint64_t)(fia_ints_at_(strides[k], g->call.sequence) / g->codec[k]->granule) *
                            (uint64_t)g->codec[k]->granule_bytes); /* unchecked, and unused, where there is no key */
    }
}

/* Pointers to n rows that lie stride bytes apart; eight at a time, which compilers turn into vectors. The stride of a
 * single row may be any: no pointer past it is made. */
FIA_INLINE_ void fia_row_pointers_(const char **rows, const char *p, ptrdiff_t stride, int64_t n) {
    int64_t j;
    int i;
    for (j = 0; j + 8 <= n; j += 8) {
        const char *at = p + j * stride;
        for (i = 0; i < 8; ++i) rows[j + i] = at + i * stride;
    }
    for (; j < n; ++j) rows[j] = p + j * stride;
}

/* Row pointers; entries that are not followed borrow the row of one that is. Returns 0 if none is followed. */
FIA_INLINE_ int fia_gather_rows_(fia_gather_ *g, int which) {
    const ptrdiff_t outer_bytes = g->outer_bytes[which], row_bytes = g->view[which]->row_bytes;
    const char *base = g->base[which] + g->kv_head * g->head_bytes[which], *any = NULL, **rows = g->rows[which];
    int64_t r, j, n = 0;
    for (r = 0; r < g->n_runs; n += g->runs[r++].n) {
        const fia_run_of_keys *run = g->runs + r;
        if (run->outer < 0) {
            for (j = 0; j < run->n; ++j) rows[n + j] = NULL;
            continue;
        }
        any = base + run->outer * outer_bytes + run->row * row_bytes;
        fia_row_pointers_(rows + n, any, row_bytes, run->n);
    }
    if (!any) return 0;
    if (g->positions)
        for (j = 0; j < n; ++j)
            if (!rows[j]) rows[j] = any;
    g->stored[which].n = (int32_t)n;
    g->stored[which].first = g->slot;
    return 1;
}

/* One value per token of keys [first, first + n) of the gather, from a scale or offset view without channels. */
static void fia_token_values_(const fia_gather_ *g, const fia_scale_view *view, const void *data, int first, int n,
                              float *dst) {
    const char *base = (const char *)data + g->kv_head * view->head_bytes;
    const int64_t start = view->place == FIA_PLACE_LOCAL ? 0 : g->call.kv_start;
    int64_t r, at = -first;
    int j;
    if (view->place == FIA_PLACE_PAGES) {
        for (r = 0; r < g->n_runs; ++r)
            for (j = 0; j < g->runs[r].n; ++j, ++at)
                if (at >= 0 && at < n)
                    dst[at] = g->runs[r].outer < 0
                                  ? 0.0f
                                  : fia_value_(view->dtype, base + g->runs[r].outer * view->sequence_bytes +
                                                                (g->runs[r].row + j) * view->token_bytes);
        return;
    }
    base += g->call.sequence * view->sequence_bytes;
    for (j = 0; j < n; ++j) {
        const int64_t position = g->positions ? g->positions[first + j] : g->first + first + j;
        dst[j] = position < 0 || position >= g->call.kv_len
                     ? 0.0f
                     : fia_value_(view->dtype, base + (start + position) * view->token_bytes);
    }
}

/* n channel values of a scale or offset view; zeros where a run without any key leaves them out. */
static void fia_channel_values_(const fia_scale_view *view, const void *data, int64_t sequence, int64_t head, int n,
                                float *dst) {
    const char *p = (const char *)data;
    int i;
    if (!p) {
        memset(dst, 0, (size_t)n * sizeof(float));
        return;
    }
    p += head * view->head_bytes + sequence * view->sequence_bytes;
    for (i = 0; i < n; ++i) dst[i] = fia_value_(view->dtype, p + i * view->channel_bytes);
}

/* Scale and offset views of a stream; the rope pair has none, V inside the key has the key's. */
typedef struct fia_scales_ {
    const fia_scale_view *scale, *offset;
    const void *scale_data, *offset_data;
} fia_scales_;

static fia_scales_ fia_scales_of_(const fia_problem *p, const fia_io *io, int which) {
    static const fia_scale_view none = {FIA_NONE, 0, 0, 0, 0, 0};
    fia_scales_ s;
    const int key = which == FIA_OF_KEY || p->value_in_key;
    s.scale = which == FIA_OF_ROPE ? &none : key ? &p->key_scale : &p->value_scale;
    s.offset = which == FIA_OF_ROPE ? &none : key ? &p->key_offset : &p->value_offset;
    s.scale_data = key ? io->key_scale : io->value_scale;
    s.offset_data = key ? io->key_offset : io->value_offset;
    return s;
}

FIA_INLINE_ int fia_per_token_(const fia_scale_view *view) {
    return view->dtype != FIA_NONE && view->channel_bytes == 0;
}
FIA_INLINE_ int fia_per_channel_(const fia_scale_view *view) {
    return view->dtype != FIA_NONE && view->channel_bytes != 0;
}

/* Keys [first, first + n) of g's list for its KV head. Returns 0 where nothing of them is followed. */
FIA_INLINE_ int fia_gather_head_(fia_gather_ *g, int kv_head) {
    const fia_problem *p = g->problem;
    int which;
    g->kv_head = kv_head;
    if (!fia_gather_rows_(g, FIA_OF_KEY)) return 0;
    if (p->rope_dim) fia_gather_rows_(g, FIA_OF_ROPE);
    fia_gather_rows_(g, FIA_OF_VALUE);
    g->widened = 0;
    for (which = 0; which < 4; ++which) g->scale[which] = NULL;
    return 1;
}

FIA_INLINE_ void fia_gather_find_(fia_gather_ *g, const fia_keys *keys, int64_t first, int64_t n) {
    g->first = first;
    g->n = n;
    if (g->positions) {
        int64_t j;
        keys->positions(&g->call, first, n, g->positions);
        for (j = 0; j < n; ++j)
            if (g->positions[j] < g->call.position_begin || g->positions[j] >= g->call.position_end)
                g->positions[j] = -1;
    }
    g->n_runs = keys->runs(&g->call, first, n, g->runs);
}

/* Rows [first, first + n) of the gather. */
static fia_rows fia_gather_block_(const fia_gather_ *g, int which, int first, int n) {
    fia_rows r = g->stored[which];
    r.row += first;
    r.first += first;
    r.n = which == FIA_OF_ROPE && !g->problem->rope_dim ? 0 : n;
    return r;
}

/* dst rows = (dst + offset) * scale, per channel (one row of values for all) or per token. */
static void fia_apply_scales_(const fia_gather_ *g, int which, int first, int n, int elements, float *dst,
                              ptrdiff_t stride) {
    const fia_scales_ s = fia_scales_of_(g->problem, g->io, which);
    float token[FIA_STREAM_KEYS];
    int scale, j, i;
    for (scale = 0; scale < 2; ++scale) {
        const fia_scale_view *view = scale ? s.scale : s.offset;
        const void *data = scale ? s.scale_data : s.offset_data;
        const int channel = fia_per_channel_(view);
        if (view->dtype == FIA_NONE) continue;
        if (channel) fia_channel_values_(view, data, g->call.sequence, g->kv_head, elements, g->channel);
        for (j = 0; j < n; ++j) {
            float *row = dst + j * stride, one;
            if (!channel && j % FIA_STREAM_KEYS == 0)
                fia_token_values_(g, view, data, first + j, (int)fia_min_(n - j, FIA_STREAM_KEYS), token);
            one = channel ? 0.0f : token[j % FIA_STREAM_KEYS];
            if (scale && channel)
                for (i = 0; i < elements; ++i) row[i] *= g->channel[i];
            else if (channel)
                for (i = 0; i < elements; ++i) row[i] += g->channel[i];
            else if (scale)
                for (i = 0; i < elements; ++i) row[i] *= one;
            else
                for (i = 0; i < elements; ++i) row[i] += one;
        }
    }
}

/* A super block of keys and a row block: what modify and decode of a tile block see. */
typedef struct fia_super_ {
    const fia_row_block_ *rows;
    fia_gather_ *gather;
    int scanned, nonfinite; /* 1: V was looked at; it holds a NaN or an infinity */
} fia_super_;

static void fia_block_modify_(const fia_tile_block *block, int first, int n, float *scores, int stride) {
    const fia_super_ *super = (const fia_super_ *)block->rows_data;
    fia_modify_scores_(super->rows, block->first_key + first, block->positions ? block->positions + first : NULL, n,
                       scores, stride);
}

static void fia_block_decode_(const fia_tile_block *block, int which, int first, int n, float *dst,
                              ptrdiff_t dst_stride) {
    const fia_gather_ *g = ((const fia_super_ *)block->rows_data)->gather;
    const fia_rows rows = fia_gather_block_(g, which, block->offset + first, n);
    block->codec[which]->decode(dst, dst_stride, &rows);
    if (!g->takes_scales) fia_apply_scales_(g, which, block->offset + first, n, rows.elements, dst, dst_stride);
}

/* ==== R13d drivers: items ==================================================================== */
/* What a worker holds while it does an item, and how a finished row leaves it. */

typedef struct fia_worker_ {
    const fia_bound_job_ *job;
    const fia_plan *plan;
    const fia_problem *problem;
    const fia_io *io;
    char *base;
    fia_row_block_ *blocks;
    fia_gather_ gather[2]; /* this piece and the next, for prefetching */
    float *q_rows, *decoded, *out;
    fia_partial_ part;
    char *fold; /* one partial per row block */
    size_t fold_bytes;
    int64_t next_unit; /* that the worker goes on with after the rectangle at hand; -1: not known */
} fia_worker_;

static void fia_gather_bind_(fia_worker_ *w, fia_gather_ *g, char *at) {
    const int64_t keys = fia_gather_keys_(w->plan);
    int k;
    memset(g, 0, sizeof(*g));
    g->problem = w->problem;
    g->io = w->io;
    g->codec[FIA_OF_KEY] = w->plan->codec_k;
    g->codec[FIA_OF_ROPE] = w->plan->codec_k_rope;
    g->codec[FIA_OF_VALUE] = w->plan->codec_v;
    g->view[FIA_OF_KEY] = &w->problem->key;
    g->view[FIA_OF_ROPE] = &w->problem->key_rope;
    g->view[FIA_OF_VALUE] = &w->problem->value;
    g->runs = (fia_run_of_keys *)(void *)at;
    at += (size_t)keys * sizeof(fia_run_of_keys);
    g->positions = w->plan->keys->entries ? (int64_t *)(void *)at : NULL;
    at += (size_t)keys * sizeof(int64_t);
    for (k = 0; k < 3; ++k, at += (size_t)keys * sizeof(char *)) {
        fia_rows *r = &g->stored[k];
        g->rows[k] = (const char **)(void *)at;
        r->row = g->rows[k];
        r->elements = k == FIA_OF_KEY    ? w->problem->dim
                      : k == FIA_OF_ROPE ? w->problem->rope_dim
                                         : w->problem->value_dim;
        r->piece_elements = g->view[k]->piece_elements;
        r->piece_bytes = g->view[k]->piece_bytes;
        r->params = g->view[k]->params;
    }
    g->token_room = (float *)(void *)at;
    g->room_keys = keys;
    at += (size_t)keys * 4 * sizeof(float);
    g->channel = (float *)(void *)at;
}

static void fia_worker_bind_(const fia_bound_job_ *b, int worker, fia_worker_ *w) {
    const fia_layout_ *at = &b->layout;
    w->job = b;
    w->plan = b->plan;
    w->problem = b->problem;
    w->io = b->io;
    w->base = b->base + at->workers + (size_t)worker * at->worker_bytes;
    w->blocks = (fia_row_block_ *)(void *)(w->base + at->rows);
    fia_gather_bind_(w, &w->gather[0], w->base + at->gather);
    fia_gather_bind_(w, &w->gather[1], w->base + at->gather + fia_gather_bytes_(b->plan));
    w->q_rows = (float *)(void *)(w->base + at->q_rows);
    w->decoded = (float *)(void *)(w->base + at->decoded);
    w->out = (float *)(void *)(w->base + at->out);
    w->part.m = (float *)(void *)(w->base + at->part);
    w->fold = w->base + at->fold;
    w->fold_bytes = fia_align_up_(at->partial_floats * sizeof(float));
}

FIA_INLINE_ fia_partial_ fia_fold_at_(const fia_worker_ *w, int k, int rows) {
    return fia_partial_at_((float *)(void *)(w->fold + (size_t)k * w->fold_bytes), rows);
}

/* Rows of a stream block are padded to 1, 2, 4 or 8: index of that in the kernel tables. */
FIA_INLINE_ int fia_rows_index_(int rows) { return rows > 4 ? 3 : rows > 2 ? 2 : rows > 1; }

/* One of a value per query head, or `none`: a run without any key may leave the array out. */
static float fia_head_value_(fia_dtype dtype, const void *data, int64_t head, float none) {
    if (dtype == FIA_NONE || !data) return none;
    return fia_value_(dtype, (const char *)data + head * fia_float_bytes_(dtype));
}

/* Key heads, tokens and bounds of a row block. */
static void fia_row_block_make_(const fia_worker_ *w, const fia_unit_ *u, int k, fia_row_block_ *rb) {
    const fia_problem *p = w->problem;
    const fia_sequence_ *s = u->sequence;
    const int group = fia_group_(p), block = u->first_block + k, head = block / s->blocks;
    const fia_span_ span = fia_block_span_(w->plan, s, u->token, block - head * s->blocks);
    const int padded = s->family == FIA_FAMILY_STREAM ? 1 << fia_rows_index_(span.rows) : FIA_MAX_ROWS_;
    int r;
    rb->problem = p;
    rb->io = w->io;
    rb->sequence = s;
    rb->natural = fia_is_natural_(p);
    rb->finite = 1;
    rb->every = rb->natural || p->drop_mask.dtype != FIA_NONE || w->plan->keys->entries;
    rb->raw_factor = s->family == FIA_FAMILY_STREAM || w->plan->tile->raw_q ? fia_q_factor_(p) : 1.0f;
    rb->kv_head = u->kv_head + head;
    rb->rows = span.rows;
    rb->any_lo = span.lo;
    rb->any_hi = span.hi;
    rb->all_lo = 0;
    rb->all_hi = s->kv_len;
    for (r = 0; r < rb->rows; ++r) {
        const int64_t row = span.row + r;
        rb->token[r] = u->token + row / group;
        rb->head[r] = (int32_t)(rb->kv_head * group + row % group);
        fia_span_bounds_(p, s, rb->token[r], rb->token[r], &rb->lo[r], &rb->hi[r]);
        rb->all_lo = fia_max_(rb->all_lo, rb->lo[r]);
        rb->all_hi = fia_min_(rb->all_hi, rb->hi[r]);
        rb->slope[r] = fia_head_value_(p->alibi_slopes, w->io->alibi_slopes, rb->head[r], 0.0f);
        rb->factor[r] = fia_head_value_(p->mask_factor, w->io->mask_factor, rb->head[r], 1.0f);
        rb->finite &= rb->factor[r] - rb->factor[r] == 0.0f;
    }
    for (r = rb->rows; r < (rb->rows > 16 ? FIA_MAX_ROWS_ : 16); ++r) { /* the lanes behind the last row */
        const int like = (int)fia_min_(r & (padded - 1), rb->rows - 1);
        rb->head[r] = rb->head[like];
        rb->token[r] = rb->token[like];
        rb->lo[r] = rb->lo[like];
        rb->hi[r] = rb->hi[like];
        rb->slope[r] = rb->slope[like];
        rb->factor[r] = rb->factor[like];
    }
}

/* Query rows of a block as f32, D then Dr elements, times every factor that is known before the dot product.
 * channel: fold K's channel scale in as well. */
static void fia_query_rows_(const fia_worker_ *w, const fia_row_block_ *rb, int fold_channels, float *dst) {
    const fia_problem *p = w->problem;
    const fia_io *io = w->io;
    const float factor = rb->raw_factor == 1.0f ? fia_q_factor_(p) : 1.0f; /* or the kernel and modify apply it */
    const int width = fia_dot_width_(p);
    const fia_view *const views[2] = {&p->query, &p->query_rope};
    const void *const bases[2] = {io->query, io->query_rope};
    const char *from[FIA_MAX_ROWS_];
    float *channel = w->gather[0].channel;
    int r, i;
    for (i = 0; i < 1 + (p->rope_dim > 0); ++i) {
        fia_rows rows = {NULL, 0, 0, 0, 0, 0, NULL};
        for (r = 0; r < rb->rows; ++r)
            from[r] = (const char *)bases[i] + rb->sequence->index * views[i]->sequence_bytes +
                      rb->head[r] * views[i]->head_bytes + (rb->sequence->q_start + rb->token[r]) * views[i]->row_bytes;
        rows.row = from;
        rows.n = rb->rows;
        rows.elements = i ? p->rope_dim : p->dim;
        rows.params = views[i]->params;
        (i ? w->plan->codec_q_rope : w->plan->codec_q)->decode(dst + (i ? p->dim : 0), width, &rows);
    }
    for (r = 0; r < rb->rows; ++r, dst += width) {
        const int64_t row = rb->sequence->q_start + rb->token[r];
        if (p->query_scale.dtype != FIA_NONE && io->query_scale) {
            const float scale =
                fia_value_(p->query_scale.dtype,
                           (const char *)io->query_scale + rb->sequence->index * p->query_scale.sequence_bytes +
                               rb->head[r] * p->query_scale.head_bytes + row * p->query_scale.token_bytes);
            fia_scale_row_(dst, scale, p->dim);
        }
        if (factor != 1.0f) fia_scale_row_(dst, factor, width);
        if (fold_channels && fia_per_channel_(&p->key_scale)) {
            fia_channel_values_(&p->key_scale, io->key_scale, rb->sequence->index, rb->kv_head, p->dim, channel);
            for (i = 0; i < p->dim; ++i) dst[i] *= channel[i];
        }
    }
}

/* ---- finish: rows to out and lse ---- */

/* Multiplier and offset of an output row, if it has any. */
static void fia_out_scales_(const fia_problem *p, const fia_io *io, int head, float *room, const float **mul,
                            const float **add) {
    *mul = *add = NULL;
    if (p->out_scale.dtype != FIA_NONE) {
        fia_channel_values_(&p->out_scale, io->out_scale, 0, head, p->value_dim, room);
        *mul = room;
    }
    if (p->out_offset.dtype != FIA_NONE) {
        fia_channel_values_(&p->out_offset, io->out_offset, 0, head, p->value_dim, room + p->value_dim);
        *add = room + p->value_dim;
    }
}

static void fia_write_row_(const fia_worker_ *w, int64_t sequence, int64_t head, int64_t row, const float *o,
                           const float *mul, const float *add, float lse) {
    const fia_problem *p = w->problem;
    w->plan->codec_out->store((char *)w->io->out + sequence * p->out.sequence_bytes + head * p->out.head_bytes +
                                  row * p->out.row_bytes,
                              o, p->value_dim, mul, add, p->out.params);
    if (p->want_lse)
        memcpy((char *)w->io->lse + sequence * p->lse_sequence_bytes + head * p->lse_head_bytes +
                   row * p->lse_row_bytes,
               &lse, sizeof(lse));
}

static void fia_finish_rows_(const fia_worker_ *w, const fia_row_block_ *rb, fia_partial_ state) {
    const fia_problem *p = w->problem;
    const fia_io *io = w->io;
    const fia_sequence_ *s = rb->sequence;
    int r;
    for (r = 0; r < rb->rows; ++r) {
        float *o = state.o + (ptrdiff_t)r * p->value_dim;
        float lse = p->lse_empty;
        const float *mul = NULL, *add = NULL;
        if (state.l[r] == 0.0f) {
            memset(o, 0, (size_t)p->value_dim * sizeof(float));
        } else {
            const float sink = fia_head_value_(p->sinks, io->sinks, rb->head[r], -FIA_INF_);
            if (p->want_lse) lse = fia_state_lse_(state.m[r], state.l[r]);
            fia_weigh_result_(o, fia_state_weight_(state.m[r], state.l[r], sink), p->value_dim);
            fia_out_scales_(p, io, rb->head[r], w->out, &mul, &add);
        }
        fia_write_row_(w, s->index, rb->head[r], s->q_start + rb->token[r], o, mul, add, lse);
    }
}

/* ---- a rectangle of an item: row blocks [first, end) x chunks [chunk, chunk_end) ---- */

typedef struct fia_rect_ {
    int first, end;
    int64_t chunk, chunk_end;
    int64_t ordinal; /* of block `first` in the pool; -1: not cut between chunks */
} fia_rect_;

/* After the last chunk: rows that are complete are finished, others leave their fold in slot 0. */
static void fia_rect_done_(const fia_worker_ *w, const fia_rect_ *rect) {
    int k;
    for (k = rect->first; k < rect->end; ++k) {
        const int rows = w->blocks[k].rows;
        const fia_partial_ fold = fia_fold_at_(w, k, rows);
        if (rect->ordinal < 0) {
            fia_finish_rows_(w, w->blocks + k, fold);
        } else if (rect->chunk == 0) {
            const fia_partial_ slot = fia_pool_slot_(w->job, rect->ordinal + k - rect->first, 0, rows);
            memcpy(slot.m, fold.m, fia_partial_floats_(rows, w->problem->value_dim) * sizeof(float));
        }
    }
}

/* Keys of chunk `chunk` of the sequence, in local keys. */
static void fia_chunk_keys_(const fia_plan *plan, const fia_sequence_ *s, int64_t chunk, int64_t *lo, int64_t *hi) {
    const int64_t grid = fia_grid_(plan, s);
    *lo = (fia_floor_div_(grid, s->chunk) + chunk) * s->chunk - grid;
    *hi = *lo + s->chunk;
}

/* ==== R13e drivers: attend =================================================================== */
/* ---- tile family ---- */

/* Room for FIA_STREAM_KEYS widened rows of FIA_OF_*; 3: of the scan for values that are not finite. */
FIA_INLINE_ float *fia_widened_(const fia_worker_ *w, int which) {
    return w->decoded + which * (fia_max_(fia_dot_width_(w->problem), w->problem->value_dim) + 16) * FIA_STREAM_KEYS;
}

/* V of keys [first, first + n) of the gather holds a NaN or an infinity. */
static int fia_values_nonfinite_(const fia_worker_ *w, const fia_gather_ *g, int first, int n) {
    const ptrdiff_t stride = w->problem->value_dim;
    float *dst = fia_widened_(w, 3);
    int j, i, m;
    for (j = 0; j < n; j += FIA_STREAM_KEYS) {
        fia_rows rows;
        int64_t left;
        m = (int)fia_min_(n - j, FIA_STREAM_KEYS);
        rows = fia_gather_block_(g, FIA_OF_VALUE, first + j, m);
        g->codec[FIA_OF_VALUE]->decode(dst, stride, &rows);
        fia_apply_scales_(g, FIA_OF_VALUE, first + j, m, rows.elements, dst, stride);
        left = m * stride;
        for (i = 0; left > 0; i += FIA_LANES, left -= FIA_LANES) {
            const fia_vf_ x = left < FIA_LANES ? fia_vf_loadn_(dst + i, (int)left) : fia_vf_load_(dst + i);
            if (!fia_vm_all_(fia_vf_eq_(fia_vf_sub_(x, x), fia_vf_zero_()))) return 1;
        }
    }
    return 0;
}

static void fia_tile_block_make_(const fia_worker_ *w, const fia_super_ *super, int first, int n,
                                 fia_tile_block *block) {
    const fia_gather_ *g = super->gather;
    int k;
    memset(block, 0, sizeof(*block));
    block->problem = w->problem;
    for (k = 0; k < 3; ++k) {
        block->stored[k] = fia_gather_block_(g, k, first, n);
        block->codec[k] = g->codec[k];
    }
    block->prepared = w->plan->tile->prepare_kv ? w->base + w->job->layout.prepared : NULL;
    block->offset = first;
    block->n = n;
    block->key_scale = g->scale[0] ? g->scale[0] + first : NULL;
    block->key_offset = g->scale[1] ? g->scale[1] + first : NULL;
    block->value_scale = g->scale[2] ? g->scale[2] + first : NULL;
    block->value_offset = g->scale[3] ? g->scale[3] + first : NULL;
    block->first_key = g->first + first;
    block->positions = g->positions ? g->positions + first : NULL;
    block->modify = fia_block_modify_;
    block->decode = fia_block_decode_;
    block->next = &fia_no_prefetch_;
    block->rows_data = super;
}

/* Per-token scales for kernels that take them. */
static void fia_gather_scales_(fia_gather_ *g) {
    int i;
    for (i = 0; g->takes_scales && i < 4; ++i) {
        const fia_scales_ s = fia_scales_of_(g->problem, g->io, i < 2 ? FIA_OF_KEY : FIA_OF_VALUE);
        const fia_scale_view *view = i % 2 ? s.offset : s.scale;
        if (!fia_per_token_(view)) continue;
        g->scale[i] = g->token_room + i * g->room_keys;
        fia_token_values_(g, view, i % 2 ? s.offset_data : s.scale_data, 0, (int)g->n, g->scale[i]);
    }
}

/* Steps row block k through the key blocks of a super block. after: the row block that is next, or NULL. */
static void fia_tile_rows_(const fia_worker_ *w, fia_super_ *super, int k, const fia_row_block_ *after) {
    const fia_plan *plan = w->plan;
    const fia_gather_ *g = super->gather;
    const fia_row_block_ *rb = w->blocks + k;
    const fia_sequence_ *s = rb->sequence;
    const int64_t keys = fia_min_(plan->tile->keys, plan->chunk_base), grid = fia_grid_(plan, s);
    const int64_t lo = fia_max_(rb->any_lo, g->first), hi = fia_min_(rb->any_hi, g->first + g->n);
    int64_t at, end;
    int which;
    super->rows = rb;
    for (at = lo; at < hi; at = end) {
        fia_tile_block block;
        end = fia_min_(hi, (fia_floor_div_(grid + at, keys) + 1) * keys - grid);
        if (after && !g->positions) fia_prefetch_terms_(after, at, (int)(end - at));
        if (fia_block_dropped_(rb, at, g->positions, (int)(end - at))) continue;
        fia_tile_block_make_(w, super, (int)(at - g->first), (int)(end - at), &block);
        for (which = 0; which < 3; ++which)
            block.stored[which].first = (int32_t)(grid + at - fia_floor_div_(grid + at, keys) * keys);
        block.rows = rb->rows;
        block.scale_log2 = rb->raw_factor;
        block.plain_begin = (int32_t)(fia_min_(fia_max_(rb->all_lo, at), end) - at);
        block.plain_end = (int32_t)(fia_max_(fia_min_(rb->all_hi, end), at) - at);
        if (rb->every || block.plain_begin >= block.plain_end) block.plain_begin = block.plain_end = 0;
        if (block.plain_end - block.plain_begin < block.n) {
            if (!super->scanned) super->nonfinite = fia_values_nonfinite_(w, g, 0, (int)g->n);
            super->scanned = 1;
            block.nonfinite = super->nonfinite;
        }
        plan->tile->step(&block, w->base + w->job->layout.packed + (size_t)k * w->job->layout.packed_bytes, rb->state,
                         w->base + w->job->layout.scratch);
    }
}

/* One super block: gather, prepare, then every row block that sees it. */
static void fia_tile_super_(fia_worker_ *w, const fia_rect_ *rect, const fia_unit_ *u, int64_t first, int64_t end) {
    const fia_tile *tile = w->plan->tile;
    const int64_t super_keys = fia_super_keys_(w->plan), grid = fia_grid_(w->plan, u->sequence);
    fia_gather_ *g = &w->gather[0];
    fia_super_ super = {NULL, g, 0, 0};
    int k;
    g->takes_scales = tile->takes_scales;
    g->slot = (int)(grid + first - fia_floor_div_(grid + first, super_keys) * super_keys);
    fia_gather_find_(g, w->plan->keys, first, end - first);
    if (!fia_gather_head_(g, u->kv_head)) return;
    fia_gather_scales_(g);
    if (tile->prepare_kv) {
        fia_tile_block block;
        fia_tile_block_make_(w, &super, 0, (int)g->n, &block);
        tile->prepare_kv(&block, w->base + w->job->layout.prepared, w->base + w->job->layout.scratch);
    }
    for (k = rect->first; k < rect->end; ++k)
        if (w->blocks[k].any_lo < end && w->blocks[k].any_hi > first)
            fia_tile_rows_(w, &super, k, k + 1 < rect->end ? w->blocks + k + 1 : NULL);
}

/* V's channel scales and offsets, for kernels that leave them to the caller: o = (o + offset * l) * scale. */
static void fia_export_channels_(const fia_worker_ *w, const fia_row_block_ *rb, fia_partial_ part,
                                 const float *weight_sum, const float *offset_sum) {
    const fia_scales_ v = fia_scales_of_(w->problem, w->io, FIA_OF_VALUE);
    const int n = w->problem->value_dim;
    float *channel = w->gather[0].channel;
    int r, i;
    if (v.scale->dtype == FIA_NONE && v.offset->dtype == FIA_NONE) return;
    if (fia_per_channel_(v.offset))
        fia_channel_values_(v.offset, v.offset_data, rb->sequence->index, rb->kv_head, n, channel);
    for (r = 0; r < rb->rows; ++r) {
        float *o = part.o + (ptrdiff_t)r * n;
        if (part.l[r] == 0.0f) continue;
        for (i = 0; i < n && offset_sum; ++i) o[i] += offset_sum[r];
        if (fia_per_channel_(v.offset))
            for (i = 0; i < n; ++i) o[i] += channel[i] * weight_sum[r];
    }
    if (!fia_per_channel_(v.scale)) return;
    fia_channel_values_(v.scale, v.scale_data, rb->sequence->index, rb->kv_head, n, channel);
    for (r = 0; r < rb->rows; ++r)
        for (i = 0; i < n; ++i) part.o[(ptrdiff_t)r * n + i] *= channel[i];
}

/* Query rows packed, states at hand. */
static void fia_tile_begin_rows_(const fia_worker_ *w, int k) {
    const fia_layout_ *at = &w->job->layout;
    fia_row_block_ *rb = w->blocks + k;
    fia_query_rows_(w, rb, w->plan->tile->takes_scales, w->q_rows);
    w->plan->tile->pack_q(w->problem, w->base + at->packed + (size_t)k * at->packed_bytes, w->q_rows,
                          fia_dot_width_(w->problem), rb->rows);
    rb->state = w->base + at->state + (size_t)(2 * k) * at->state_bytes;
    rb->running = w->base + at->state + (size_t)(2 * k + 1) * at->state_bytes;
}

static void fia_tile_export_rows_(const fia_worker_ *w, const fia_row_block_ *rb, const void *state,
                                  fia_partial_ part) {
    w->plan->tile->export_state(w->problem, state, rb->rows, part.m, part.l, part.o);
    if (w->plan->tile->takes_scales) fia_export_channels_(w, rb, part, part.l, NULL);
}

/* Rows that are not cut between chunks stay in the kernel's own form until their last chunk; [from, to) is done. */
static void fia_tile_fold_state_(const fia_worker_ *w, int k, int64_t from, int64_t to) {
    fia_row_block_ *rb = w->blocks + k;
    if (from <= rb->any_lo) {
        void *swap = rb->running;
        rb->running = rb->state;
        rb->state = swap;
    } else {
        w->plan->tile->fold(w->problem, rb->running, rb->state);
    }
    if (to >= rb->any_hi) fia_tile_export_rows_(w, rb, rb->running, fia_fold_at_(w, k, rb->rows));
}

/* Keys [first, end) of a chunk, super block after super block. */
static void fia_tile_chunk_(fia_worker_ *w, const fia_unit_ *u, const fia_rect_ *rect, int64_t first, int64_t end) {
    const int64_t super_keys = fia_super_keys_(w->plan), grid = fia_grid_(w->plan, u->sequence);
    int64_t next;
    for (; first < end; first = next) {
        next = fia_min_(end, (fia_floor_div_(grid + first, super_keys) + 1) * super_keys - grid);
        fia_tile_super_(w, rect, u, first, next);
    }
}

/* ---- stream family ---- */

FIA_INLINE_ fia_stream_block_ *fia_stream_block_at_(const fia_worker_ *w, int k) {
    return (fia_stream_block_ *)(void *)(w->base + w->job->layout.state + (size_t)k * w->job->layout.state_bytes);
}

/* Outputs of the block's rows, value_dim apart. */
FIA_INLINE_ float *fia_stream_out_(const fia_worker_ *w, int k) {
    return (float *)(void *)((char *)fia_stream_block_at_(w, k) + fia_align_up_(sizeof(fia_stream_block_)));
}

FIA_INLINE_ float *fia_stream_q_(const fia_worker_ *w, int k) {
    return w->q_rows + (ptrdiff_t)k * FIA_STREAM_ROWS * fia_dot_width_(w->problem);
}

/* Converts the query rows of a block and sums what K's offsets need. */
static void fia_stream_begin_rows_(const fia_worker_ *w, int k) {
    const fia_problem *p = w->problem;
    const fia_row_block_ *rb = w->blocks + k;
    fia_stream_block_ *sb = fia_stream_block_at_(w, k);
    const int width = fia_dot_width_(p);
    float *q = fia_stream_q_(w, k), *channel = w->gather[0].channel;
    int r, i;
    fia_query_rows_(w, rb, 1, q);
    memset(q + (ptrdiff_t)rb->rows * width, 0, (size_t)(FIA_STREAM_ROWS - rb->rows) * (size_t)width * sizeof(float));
    memset(sb->constant, 0, sizeof(sb->constant));
    if (p->key_offset.dtype == FIA_NONE) return;
    if (fia_per_channel_(&p->key_offset))
        fia_channel_values_(&p->key_offset, w->io->key_offset, rb->sequence->index, rb->kv_head, p->dim, channel);
    for (r = 0; r < FIA_STREAM_ROWS; ++r) {
        float sum = 0.0f, constant = 0.0f;
        for (i = 0; i < p->dim; ++i) {
            sum += q[r * width + i];
            if (fia_per_channel_(&p->key_offset)) constant += q[r * width + i] * channel[i];
        }
        sb->q_sum[r] = sum;
        sb->constant[r] = constant;
    }
}

static void fia_stream_begin_chunk_(const fia_worker_ *w, int k) {
    fia_stream_block_ *sb = fia_stream_block_at_(w, k);
    int i;
    for (i = 0; i < 16; ++i) sb->state.m[i] = -FIA_INF_;
    memset(sb->state.l, 0, sizeof(sb->state.l));
    memset(sb->weight_sum, 0, sizeof(sb->weight_sum));
    memset(sb->offset_sum, 0, sizeof(sb->offset_sum));
    memset(fia_stream_out_(w, k), 0,
           ((size_t)w->problem->value_dim << fia_rows_index_(w->blocks[k].rows)) * sizeof(float));
}

/* Room for a stream of rows in another form than the stored one. */
typedef struct fia_row_room_ {
    fia_rows rows;
    const char *pointers[FIA_STREAM_KEYS];
} fia_row_room_;

/* A stream of rows as the kernels take it: in place, or widened where no kernel reads the stored form. */
FIA_INLINE_ const fia_rows *fia_stream_rows_(const fia_worker_ *w, fia_gather_ *g, int which, const fia_stream *kernel,
                                             fia_row_room_ *room) {
    const fia_rows *stored = &g->stored[which];
    float *dst = fia_widened_(w, which);
    int j;
    if (kernel->dtype == g->view[which]->dtype && !stored->piece_elements) return stored;
    if (!(g->widened >> which & 1)) g->codec[which]->decode(dst, stored->elements, stored);
    g->widened |= 1 << which;
    room->rows = *stored;
    room->rows.row = room->pointers;
    room->rows.piece_elements = 0;
    for (j = 0; j < stored->n; ++j) room->pointers[j] = (const char *)(dst + (ptrdiff_t)j * stored->elements);
    return &room->rows;
}

/* Raw dots -> scores: the rope term, then K's scales and offsets. */
static void fia_stream_scale_scores_(const fia_worker_ *w, const fia_gather_ *g, const fia_stream_block_ *sb,
                                     int padded, float *scores) {
    const fia_scales_ s = fia_scales_of_(w->problem, w->io, FIA_OF_KEY);
    float scale[FIA_STREAM_KEYS], offset[FIA_STREAM_KEYS];
    int j, r;
    const int n = (int)g->n;
    if (s.scale->dtype == FIA_NONE && s.offset->dtype == FIA_NONE) return;
    for (j = 0; j < n; ++j) {
        scale[j] = 1.0f;
        offset[j] = 0.0f;
    }
    if (fia_per_token_(s.scale)) fia_token_values_(g, s.scale, s.scale_data, 0, n, scale);
    if (fia_per_token_(s.offset)) fia_token_values_(g, s.offset, s.offset_data, 0, n, offset);
    for (j = 0; j < n; ++j)
        for (r = 0; r < padded; ++r) {
            float x = scores[j * padded + r] + sb->constant[r];
            if (s.offset->dtype != FIA_NONE) x += offset[j] * sb->q_sum[r];
            scores[j * padded + r] = x * scale[j];
        }
}

/* Weights -> weights times V's token scales; sums for V's offsets. Dropped keys stay 0, whatever their scale; kept ones
 * are multiplied even where the weight is 0. kept: as below. */
static void fia_stream_scale_weights_(const fia_worker_ *w, const fia_gather_ *g, fia_stream_block_ *sb, int padded,
                                      float *weights, const unsigned char *kept, int first, int n) {
    const fia_scales_ s = fia_scales_of_(w->problem, w->io, FIA_OF_VALUE);
    float scale[FIA_STREAM_KEYS], offset[FIA_STREAM_KEYS];
    int j, r;
    if (s.scale->dtype == FIA_NONE && s.offset->dtype == FIA_NONE) return;
    for (j = 0; j < n; ++j) {
        scale[j] = 1.0f;
        offset[j] = 0.0f;
    }
    if (fia_per_token_(s.scale)) fia_token_values_(g, s.scale, s.scale_data, first, n, scale);
    if (fia_per_token_(s.offset)) fia_token_values_(g, s.offset, s.offset_data, first, n, offset);
    for (j = 0; j < n; ++j)
        for (r = 0; r < padded; ++r) {
            float *x = weights + j * padded + r;
            if (kept && !(kept[j] >> r & 1)) continue;
            *x *= scale[j];
            if (s.offset->dtype == FIA_NONE) continue;
            sb->weight_sum[r] += *x;
            sb->offset_sum[r] += *x * offset[j];
        }
}

/* Adds the values of keys [first, first + n) of a piece; rows: of the whole piece. kept[j]: the rows that keep key j,
 * a bit each; NULL: all do. Keys that all rows drop are left out; where a row drops a key that another keeps, and V is
 * not finite, each row adds its own keys alone: same sums, same order. */
static void fia_stream_add_values_(const fia_worker_ *w, const fia_gather_ *g, int k, int padded, float *weights,
                                   const unsigned char *kept, fia_rows rows, int first, int n, fia_prefetch next) {
    const fia_stream *kernel = w->plan->stream_v;
    const char *some[FIA_STREAM_KEYS], *const *all = rows.row + first;
    float packed[FIA_STREAM_KEYS * FIA_STREAM_ROWS], *o = fia_stream_out_(w, k);
    const int dim = w->problem->value_dim, live = w->blocks[k].rows;
    int j, r, mixed = 0;
    if (next.n > first) next.row += first; /* each part of a piece asks for the same part of the next */
    next.n = next.n > first ? next.n - first : 0;
    weights += first * padded;
    kept = kept ? kept + first : NULL;
    fia_stream_scale_weights_(w, g, fia_stream_block_at_(w, k), padded, weights, kept, first, n);
    rows.row = all;
    rows.n = n;
    if (!kept) {
        kernel->accumulate[fia_rows_index_(padded)](o, dim, weights, &rows, &next);
        return;
    }
    for (j = 0; j < n; ++j) mixed |= kept[j] != 0 && kept[j] != (1 << live) - 1;
    rows.row = some;
    if (mixed && fia_values_nonfinite_(w, g, first, n)) {
        for (r = 0; r < live; ++r) {
            for (j = 0, rows.n = 0; j < n; ++j)
                if (kept[j] >> r & 1) {
                    packed[rows.n] = weights[j * padded + r];
                    some[rows.n++] = all[j];
                }
            if (rows.n) kernel->accumulate[0](o + (ptrdiff_t)r * dim, dim, packed, &rows, &next);
        }
        return;
    }
    for (j = 0, rows.n = 0; j < n; ++j)
        if (kept[j]) {
            memcpy(packed + rows.n * padded, weights + j * padded, (size_t)padded * sizeof(float));
            some[rows.n++] = all[j];
        }
    if (rows.n) kernel->accumulate[fia_rows_index_(padded)](o, dim, packed, &rows, &next);
}

/* What was summed so far under another maximum. */
static void fia_stream_rescale_(const fia_worker_ *w, int k, const float *alpha) {
    fia_stream_block_ *sb = fia_stream_block_at_(w, k);
    const int dim = w->problem->value_dim;
    int r;
    for (r = 0; r < w->blocks[k].rows; ++r) {
        if (alpha[r] == 1.0f) continue;
        fia_scale_row_(fia_stream_out_(w, k) + (ptrdiff_t)r * dim, alpha[r], dim);
        sb->weight_sum[r] *= alpha[r];
        sb->offset_sum[r] *= alpha[r];
    }
}

/* Dots of a piece with the block's rows, times K's scales: q.k + q_rope.k_rope. */
static void fia_stream_dots_of_(const fia_worker_ *w, fia_gather_ *g, int k, int index, float *scores,
                                const fia_prefetch *next) {
    const int width = fia_dot_width_(w->problem), n = (int)g->n << index;
    float rope[FIA_STREAM_KEYS * FIA_STREAM_ROWS];
    fia_row_room_ room;
    int i;
    w->plan->stream_k->scores[index](scores, fia_stream_q_(w, k), width,
                                     fia_stream_rows_(w, g, FIA_OF_KEY, w->plan->stream_k, &room), next);
    fia_stream_scale_scores_(w, g, fia_stream_block_at_(w, k), 1 << index, scores);
    if (!w->problem->rope_dim) return;
    w->plan->stream_k_rope->scores[index](rope, fia_stream_q_(w, k) + w->problem->dim, width,
                                          fia_stream_rows_(w, g, FIA_OF_ROPE, w->plan->stream_k_rope, &room),
                                          &fia_no_prefetch_);
    for (i = 0; i < n; ++i) scores[i] += rope[i];
}

/* Logits of a piece -> kept[key], a bit for each row that keeps the key. Returns 0 only where all rows keep all keys. */
static int fia_stream_kept_(const float *logits, int n, int padded, int rows, unsigned char *kept) {
    const fia_vf_ none = fia_vf_set1_(-FIA_INF_);
    int i, j, r, drops = n * padded % FIA_LANES != 0; /* no whole vectors: look at each */
    for (i = 0; !drops && i < n * padded; i += FIA_LANES)
        drops = fia_vm_any_(fia_vf_eq_(fia_vf_load_(logits + i), none));
    if (!drops) return 0;
    for (j = 0; j < n; ++j)
        for (r = 0, kept[j] = 0; r < rows; ++r)
            if (logits[j * padded + r] != -FIA_INF_) kept[j] = (unsigned char)(kept[j] | 1 << r);
    return 1;
}

/* One row block against one piece of keys: scores, modifiers, online softmax, values. Scores stand at the keys' slots
 * of the piece's grid, and the softmax moves on by FIA_STREAM_STEP_ slots however long the piece is: the same keys meet
 * in its sums wherever bounds cut a piece, and however far apart rows lie. */
static void fia_stream_piece_(const fia_worker_ *w, fia_gather_ *g, int k, const fia_prefetch *next_k,
                              const fia_prefetch *next_v) {
    const fia_row_block_ *rb = w->blocks + k;
    fia_stream_block_ *sb = fia_stream_block_at_(w, k);
    const int index = fia_rows_index_(rb->rows), padded = 1 << index, n = (int)g->n, keys = w->plan->piece_keys;
    const int partial = rb->every || n < keys || g->first < rb->all_lo || g->first + n > rb->all_hi;
    const float factor = partial ? 1.0f : rb->raw_factor, floor = partial ? -FIA_INF_ : FIA_KEPT_MIN_;
    float piece[2 * FIA_STREAM_KEYS * FIA_STREAM_ROWS], alpha[16], *scores = piece + g->slot * padded;
    unsigned char kept[FIA_STREAM_KEYS];
    const fia_rows *values;
    fia_row_room_ room;
    int i, slot, done, added = 0, drops = 0;
    if (partial && fia_block_dropped_(rb, g->first, g->positions, n)) return;
    fia_stream_dots_of_(w, g, k, index, scores, next_k);
    if (partial) {
        fia_modify_scores_(rb, g->first, g->positions, n, scores, padded);
        drops = fia_stream_kept_(scores, n, padded, rb->rows, kept);
    }
    for (i = 0; i < g->slot * padded; ++i) piece[i] = -FIA_INF_;
    for (i = (g->slot + n) * padded; i < keys * padded; ++i) piece[i] = -FIA_INF_;
    values = fia_stream_rows_(w, g, FIA_OF_VALUE, w->plan->stream_v, &room);
    for (slot = 0; slot < keys; slot += FIA_STREAM_STEP_) {
        if (!fia_softmax_piece_(&sb->state, padded, piece + slot * padded, alpha, factor, floor)) continue;
        done = (int)fia_max_(added, fia_min_(slot - g->slot, n)); /* keys whose weights are of the old maximum */
        if (done > added)
            fia_stream_add_values_(w, g, k, padded, scores, drops ? kept : NULL, *values, added, done - added, *next_v);
        added = done;
        fia_stream_rescale_(w, k, alpha);
    }
    if (n > added)
        fia_stream_add_values_(w, g, k, padded, scores, drops ? kept : NULL, *values, added, n - added, *next_v);
}

/* Chunk state of a row block as a partial, with V's channel scales and offsets. */
static fia_partial_ fia_stream_export_(const fia_worker_ *w, int k) {
    fia_stream_block_ *sb = fia_stream_block_at_(w, k);
    const fia_scales_ v = fia_scales_of_(w->problem, w->io, FIA_OF_VALUE);
    const fia_partial_ part = {sb->state.m, sb->state.l, fia_stream_out_(w, k)};
    fia_export_channels_(w, w->blocks + k, part, sb->weight_sum, fia_per_token_(v.offset) ? sb->offset_sum : NULL);
    return part;
}

/* The walk of a rectangle: pieces of keys [first, end) outer, row blocks (heads) inner. */
typedef struct fia_walk_ {
    int64_t first, end; /* of the piece that comes next, and of the walk */
    int block;          /* row block that comes next */
    int gather;         /* that holds the keys of the row block found last */
    int found;          /* that row block; -1: the walk is over */
} fia_walk_;

/* Moves to the next piece and row block that have to do with each other; returns the block, -1 at the end. Blocks of one
 * head share a gather, else the other one takes the keys. */
static int fia_stream_next_(fia_worker_ *w, const fia_rect_ *rect, const fia_unit_ *u, fia_walk_ *walk) {
    const int64_t grid = fia_grid_(w->plan, u->sequence), keys = w->plan->piece_keys;
    const fia_gather_ *last = &w->gather[walk->gather];
    fia_gather_ *g = &w->gather[walk->gather ^ 1];
    while (walk->first < walk->end) {
        const int64_t cell = walk->first - ((grid + walk->first) & (keys - 1)); /* keys is a power of two */
        const int64_t end = fia_min_(walk->end, cell + keys), n = end - walk->first;
        const int held = last->first == walk->first && last->n == n;
        while (walk->block < rect->end) {
            const int k = walk->block++;
            if (w->blocks[k].any_lo >= end || w->blocks[k].any_hi <= walk->first) continue;
            if (held && last->kv_head == w->blocks[k].kv_head) return k;
            if (g->first != walk->first || g->n != n) {
                g->slot = (int)(walk->first - cell);
                fia_gather_find_(g, w->plan->keys, walk->first, n);
            }
            if (!fia_gather_head_(g, w->blocks[k].kv_head)) continue;
            walk->gather ^= 1;
            return k;
        }
        walk->first = end;
        walk->block = rect->first;
    }
    return -1;
}

/* Rows of a stream as lines to prefetch. */
static fia_prefetch fia_prefetch_of_(const fia_gather_ *g, int which) {
    const ptrdiff_t step = g->view[which]->row_bytes;
    const fia_prefetch next = {g->rows[which], (int32_t)g->n, g->row_bytes[which],
                               step >= FIA_WAY_ || step <= -FIA_WAY_ ? 2 : 1};
    return next;
}

/* g takes the first piece of the unit that the worker goes on with; NULL where that has no piece for streams. */
static const fia_gather_ *fia_gather_ahead_(const fia_worker_ *w, fia_gather_ *g) {
    fia_unit_ u;
    fia_span_ span;
    if (w->next_unit < 0) return NULL;
    fia_unit_at_(w->job, w->next_unit, &u);
    span = fia_block_span_(w->plan, u.sequence, u.token, u.first_block);
    if (u.sequence->family != FIA_FAMILY_STREAM || span.lo >= span.hi) return NULL;
    fia_keys_call_(w->job, u.sequence, u.token, u.kv_head, &g->call);
    fia_gather_streams_(g);
    fia_gather_find_(g, w->plan->keys, span.lo, fia_min_(span.hi - span.lo, w->plan->piece_keys));
    return fia_gather_head_(g, u.kv_head) ? g : NULL;
}

/* Keys of a chunk before `to`, piece after piece; while the keys of a piece are worked on the next keys are fetched,
 * then the next values. */
static void fia_stream_chunk_(fia_worker_ *w, const fia_unit_ *u, const fia_rect_ *rect, fia_walk_ *walk, int64_t to) {
    while (walk->found >= 0 && w->gather[walk->gather].first < to) {
        const int now = walk->found;
        fia_gather_ *here = &w->gather[walk->gather];
        const fia_gather_ *there;
        fia_prefetch keys = fia_no_prefetch_, values = fia_no_prefetch_;
        walk->found = fia_stream_next_(w, rect, u, walk);
        there = walk->found >= 0 ? &w->gather[walk->gather] : fia_gather_ahead_(w, &w->gather[walk->gather ^ 1]);
        if (there && there != here) {
            keys = fia_prefetch_of_(there, FIA_OF_KEY);
            values = fia_prefetch_of_(there, FIA_OF_VALUE);
        }
        fia_stream_piece_(w, here, now, &keys, &values);
    }
}

/* ---- phase 1: attend ---- */

/* A chunk, keys [from, to), of row block k is done: its partial goes into the running fold, or apart. */
static void fia_chunk_done_(const fia_worker_ *w, const fia_rect_ *rect, int k, int64_t c, int64_t from, int64_t to) {
    const fia_tile *tile = w->plan->tile;
    const fia_row_block_ *rb = w->blocks + k;
    const int stream = rb->sequence->family == FIA_FAMILY_STREAM;
    fia_partial_ part = fia_partial_at_(w->part.m, rb->rows), into = fia_fold_at_(w, k, rb->rows);
    if (rb->any_lo >= to || rb->any_hi <= from) return;
    if (!stream && tile->fold && !tile->takes_scales && rect->ordinal < 0) {
        fia_tile_fold_state_(w, k, from, to);
        return;
    }
    if (stream) part = fia_stream_export_(w, k);
    else fia_tile_export_rows_(w, rb, rb->state, part);
    if (rect->chunk > 0) {
        into = fia_pool_slot_(w->job, rect->ordinal + k - rect->first, c, rb->rows);
        fia_partial_clear_(into, rb->rows);
    }
    fia_partial_fold_(into, part, rb->rows, w->problem->value_dim);
}

/* Row blocks of a rectangle, and what says where their keys lie. Keys that some of them see lie in [*lo, *hi). */
static void fia_rect_begin_(fia_worker_ *w, const fia_unit_ *u, const fia_rect_ *rect, int64_t *lo, int64_t *hi) {
    int k;
    *lo = INT64_MAX;
    *hi = 0;
    for (k = rect->first; k < rect->end; ++k) {
        fia_row_block_ *rb = w->blocks + k;
        fia_row_block_make_(w, u, k, rb);
        if (u->sequence->family == FIA_FAMILY_STREAM) fia_stream_begin_rows_(w, k);
        else fia_tile_begin_rows_(w, k);
        fia_partial_clear_(fia_fold_at_(w, k, rb->rows), rb->rows);
        if (rb->any_lo >= rb->any_hi) continue;
        *lo = fia_min_(*lo, rb->any_lo);
        *hi = fia_max_(*hi, rb->any_hi);
    }
    for (k = 0; k < 2; ++k) {
        fia_keys_call_(w->job, u->sequence, u->token, u->kv_head, &w->gather[k].call);
        fia_gather_streams_(&w->gather[k]);
        w->gather[k].n = 0; /* no piece is held */
    }
}

/* A rectangle, chunk after chunk. */
static void fia_attend_rect_(fia_worker_ *w, const fia_unit_ *u, const fia_rect_ *rect) {
    const int stream = u->sequence->family == FIA_FAMILY_STREAM;
    int64_t lo, hi, c, c_end, from, to;
    fia_walk_ walk;
    int k;
    if (rect->first >= rect->end) return;
    fia_rect_begin_(w, u, rect, &lo, &hi);
    if (hi - lo <= w->plan->piece_keys) w->next_unit = -1; /* a single piece is not worth looking ahead */
    fia_chunk_range_(w->plan, u->sequence, lo, hi, &c, &c_end);
    c = fia_max_(c, rect->chunk);
    c_end = fia_min_(c_end, rect->chunk_end);
    fia_chunk_keys_(w->plan, u->sequence, c, &from, &to);
    walk.first = fia_max_(from, lo);
    fia_chunk_keys_(w->plan, u->sequence, c_end - 1, &from, &to);
    walk.end = fia_min_(to, hi); /* not behind walk.first where there is no chunk */
    walk.block = rect->first;
    walk.gather = 0;
    walk.found = stream ? fia_stream_next_(w, rect, u, &walk) : -1;
    for (; c < c_end; ++c) {
        fia_chunk_keys_(w->plan, u->sequence, c, &from, &to);
        for (k = rect->first; k < rect->end; ++k) {
            if (stream) fia_stream_begin_chunk_(w, k);
            else w->plan->tile->begin(w->problem, w->blocks[k].state);
        }
        if (stream) fia_stream_chunk_(w, u, rect, &walk, to);
        else fia_tile_chunk_(w, u, rect, fia_max_(from, lo), fia_min_(to, hi));
        for (k = rect->first; k < rect->end; ++k) fia_chunk_done_(w, rect, k, c, from, to);
    }
    fia_rect_done_(w, rect);
}

/* Padding rows of a sequence (packed: of the whole tensor): 0 and lse_empty. */
static void fia_fill_item_(const fia_worker_ *w, int64_t index) {
    const fia_problem *p = w->problem;
    const int64_t n = w->io->n_sequences;
    int64_t row = 0, end = p->q_packed ? p->total_q : p->max_q_len;
    int h;
    if (p->q_packed && n > 0) row = w->job->sequences[n - 1].q_start + w->job->sequences[n - 1].q_len;
    if (!p->q_packed) row = w->job->sequences[index].q_len;
    memset(w->part.m, 0, w->job->layout.partial_floats * sizeof(float));
    for (; row < end; ++row)
        for (h = 0; h < p->n_q_heads; ++h) fia_write_row_(w, index, h, row, w->part.m, NULL, NULL, p->lse_empty);
}

/* Cuts that begin at or before item i. */
static int64_t fia_cuts_before_(const fia_bound_job_ *b, int64_t item) {
    int64_t low = 0, high = b->header->n_cuts;
    while (low < high) {
        const int64_t mid = (low + high) / 2;
        if (b->cuts[mid].unit + mid + 1 <= item) low = mid + 1;
        else high = mid;
    }
    return low;
}

/* An item: a unit, or what lies between two of its cuts; at most three rectangles. more: the next item is this worker's,
 * too. */
static void fia_attend_item_(fia_worker_ *w, int64_t item, int more) {
    const fia_bound_job_ *b = w->job;
    const fia_header_ *h = b->header;
    const int64_t before = fia_cuts_before_(b, item), unit = item - before;
    const fia_cut_ *begin = before > 0 && b->cuts[before - 1].unit == unit ? b->cuts + before - 1 : NULL;
    const fia_cut_ *end = before < h->n_cuts && b->cuts[before].unit == unit ? b->cuts + before : NULL;
    const int width = h->cut_width;
    int block = begin ? begin->block : 0;
    fia_unit_ u;
    fia_unit_at_(b, unit, &u);
    w->next_unit = -1;
    if (begin && begin->chunk > 0) {
        const fia_rect_ head = {block, block + width, begin->chunk, end && end->block == block ? end->chunk : INT64_MAX,
                                begin->ordinal};
        fia_attend_rect_(w, &u, &head);
        block += width;
    }
    {
        const fia_rect_ whole = {block, end ? end->block : u.blocks, 0, INT64_MAX, -1};
        if (more && !end && unit + 1 < h->n_units) w->next_unit = unit + 1;
        fia_attend_rect_(w, &u, &whole);
    }
    if (end && end->chunk > 0 && end->block >= block) {
        const fia_rect_ tail = {end->block, end->block + width, 0, end->chunk, end->ordinal};
        fia_attend_rect_(w, &u, &tail);
    }
}

/* ---- phase 2: fold ---- */

/* A row block that was cut between chunks: slot 0 holds the fold of its first chunks, each later chunk stands apart. */
static void fia_fold_item_(fia_worker_ *w, int64_t ordinal) {
    const fia_bound_job_ *b = w->job;
    const fia_cut_block_ *cut = b->cut_blocks + ordinal;
    fia_row_block_ *rb = w->blocks;
    fia_partial_ into;
    fia_unit_ u;
    int64_t c, first, end;
    fia_unit_at_(b, cut->unit, &u);
    fia_row_block_make_(w, &u, cut->block, rb);
    fia_chunk_range_(b->plan, u.sequence, rb->any_lo, rb->any_hi, &first, &end);
    into = fia_pool_slot_(b, ordinal, 0, rb->rows);
    for (c = fia_max_(first, cut->chunk); c < end; ++c)
        fia_partial_fold_(into, fia_pool_slot_(b, ordinal, c, rb->rows), rb->rows, w->problem->value_dim);
    fia_finish_rows_(w, rb, into);
}

/* ==== R14 context ============================================================================ */
/* The kernel tables of this body, the built-in context, and what the CPU has. */

static const fia_codec *const fia_codecs_[] = {&fia_codec_f32_, &fia_codec_f16_, &fia_codec_bf16_, NULL};
static const fia_keys *const fia_key_forms_[] = {&fia_keys_strided_, &fia_keys_list_, &fia_keys_paged_, NULL};
static const fia_stream *const fia_streams_[] = {&fia_stream_f32_, &fia_stream_f16_, &fia_stream_bf16_, NULL};
static const fia_tile *const fia_tiles_[] = {&fia_tile_lanes_, NULL};

#define FIA_TEXT_(x) #x
#define FIA_TARGET_TEXT_(x) FIA_TEXT_(x)

static const fia_kernels fia_kernels_built_in_ = {FIA_VERSION,  sizeof(fia_plan), FIA_TARGET_TEXT_(FIA_TARGET),
                                                  "fia",        fia_codecs_,      fia_key_forms_,
                                                  fia_streams_, fia_tiles_};

static const fia_context fia_context_built_in_ = {1, 0, {&fia_kernels_built_in_}, FIA_BACKEND_OF_BUILD_};

static const fia_context *fia_context_or_default_(const fia_context *context) {
    return context ? context : &fia_context_built_in_;
}

FIA_API void fia_context_init(fia_context *context) { *context = fia_context_built_in_; }

FIA_API fia_status fia_context_add(fia_context *context, const fia_kernels *table, fia_report *report) {
    if (!context) return fia_refuse_text_(report, "context", "NULL", "must point to a context");
    if (!table) return fia_refuse_text_(report, "table", "NULL", "must point to kernel tables");
    if (table->version != FIA_VERSION)
        return fia_refuse_(report, "table->version", table->version, "this build has #", FIA_VERSION, 0);
    if (table->plan_bytes != sizeof(fia_plan))
        return fia_refuse_(report, "table->plan_bytes", table->plan_bytes, "this build has #",
                           (int64_t)sizeof(fia_plan), 0);
    if (context->n_tables < 1 || context->n_tables >= FIA_MAX_TABLES)
        return fia_refuse_(report, "context->n_tables", context->n_tables,
                           "a context from fia_context_init holds at most # tables", FIA_MAX_TABLES, 0);
    context->table[context->n_tables++] = table;
    return fia_ok_(report);
}

/* A context that fia_context_init made. */
static fia_status fia_check_context_(const fia_context *context, fia_report *report) {
    int t;
    if (context->n_tables < 1 || context->n_tables > FIA_MAX_TABLES)
        return fia_refuse_(report, "context->n_tables", context->n_tables,
                           "a context from fia_context_init holds # to # tables", 1, FIA_MAX_TABLES);
    for (t = 0; t < context->n_tables; ++t)
        if (!context->table[t])
            return fia_refuse_(report, "context->table", t, "this is the number of a table that is NULL", 0, 0);
    return FIA_OK;
}

/* Look-ups: the table that was added last wins. */
static const fia_codec *fia_find_codec_(const fia_context *context, fia_dtype dtype) {
    const fia_codec *const *c;
    int t;
    for (t = context->n_tables - 1; t >= 0; --t)
        for (c = context->table[t]->codecs; c && *c; ++c)
            if ((*c)->dtype == dtype) return *c;
    return NULL;
}

static const fia_keys *fia_find_keys_(const fia_context *context, int32_t code) {
    const fia_keys *const *k;
    int t;
    for (t = context->n_tables - 1; t >= 0; --t)
        for (k = context->table[t]->keys; k && *k; ++k)
            if ((*k)->code == code) return *k;
    return NULL;
}

/* The stream kernel of a stored type; without one, rows are widened for the f32 kernel. */
static const fia_stream *fia_find_stream_(const fia_context *context, fia_dtype dtype) {
    const fia_stream *const *s;
    int t;
    for (t = context->n_tables - 1; t >= 0; --t)
        for (s = context->table[t]->streams; s && *s; ++s)
            if ((*s)->dtype == dtype) return *s;
    return &fia_stream_f32_;
}

static const fia_tile *fia_find_tile_(const fia_context *context, const fia_problem *p) {
    const int by_channel = fia_per_channel_(&p->key_offset) || fia_per_channel_(&p->value_offset);
    const fia_tile *best = NULL;
    const fia_tile *const *k;
    int t, score, best_score = 0;
    for (t = context->n_tables - 1; t >= 0; --t)
        for (k = context->table[t]->tiles; k && *k; ++k) {
            if (((*k)->takes_scales && by_channel) || (*k)->rows > FIA_MAX_ROWS_ || (*k)->rows < 1) continue;
            score = (*k)->serves(p);
            if (score > best_score) {
                best = *k;
                best_score = score;
            }
        }
    return best;
}

/* ---- the CPU ---- */

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
#include <cpuid.h>

/* Feature bits: Intel SDM vol. 2A, CPUID leaves 1, 7 and 7.1; register state: XCR0. */
static void fia_cpu_detect_here_(fia_cpu *cpu) {
    uint32_t a, b, c, d, c1, high, xcr0 = 0, a71 = 0;
    int ymm, zmm, tiles;
    if (!__get_cpuid(1, &a, &b, &c1, &d)) return;
    cpu->sse2 = (d >> 26) & 1;
    cpu->v2 = cpu->sse2 && (c1 >> 20 & 1) && (c1 >> 23 & 1) && (c1 >> 9 & 1); /* SSE4.2, POPCNT, SSSE3 */
    if (c1 >> 27 & 1) __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    ymm = (xcr0 & 0x06) == 0x06;
    zmm = (xcr0 & 0xe6) == 0xe6;
    tiles = (xcr0 & 0x60000) == 0x60000;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    cpu->v3 = cpu->v2 && ymm && (c1 >> 12 & 1) && (c1 >> 29 & 1) && (c1 >> 22 & 1) && /* FMA, F16C, MOVBE */
              (b >> 5 & 1) && (b >> 3 & 1) && (b >> 8 & 1);                           /* AVX2, BMI1, BMI2 */
    cpu->v4 = cpu->v3 && zmm && (b >> 16 & 1) && (b >> 17 & 1) && (b >> 28 & 1) && (b >> 30 & 1) && (b >> 31 & 1);
    cpu->avx512_vnni = cpu->v4 && (c >> 11 & 1);
    cpu->avx512_fp16 = cpu->v4 && (d >> 23 & 1);
    cpu->amx_bf16 = tiles && (d >> 22 & 1) && (d >> 24 & 1);
    cpu->amx_int8 = tiles && (d >> 25 & 1) && (d >> 24 & 1);
    if (a >= 1 && __get_cpuid_count(7, 1, &a71, &b, &c, &d)) {
        cpu->avx_vnni = cpu->v3 && (a71 >> 4 & 1);
        cpu->avx512_bf16 = cpu->v4 && (a71 >> 5 & 1);
    }
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

/* Bits of AT_HWCAP and AT_HWCAP2: Linux, Documentation/arch/arm64/elf_hwcaps.rst. */
static void fia_cpu_detect_here_(fia_cpu *cpu) {
    const unsigned long cap = getauxval(16), cap2 = getauxval(26);
    cpu->neon = cap >> 1 & 1;
    cpu->fp16 = cap >> 10 & 1;
    cpu->dotprod = cap >> 20 & 1;
    cpu->sve = cap >> 22 & 1;
    cpu->fhm = cap >> 23 & 1;
    cpu->i8mm = cap2 >> 13 & 1;
    cpu->bf16 = cap2 >> 14 & 1;
}
#else
static void fia_cpu_detect_here_(fia_cpu *cpu) { (void)cpu; }
#endif

FIA_API void fia_cpu_detect(fia_cpu *cpu) {
    memset(cpu, 0, sizeof(*cpu));
    fia_cpu_detect_here_(cpu);
}

/* ==== R15 engine api ========================================================================= */
/* Validation, plan, the thin forms of a run, explain and merge. */

FIA_API uint32_t fia_version(void) { return FIA_VERSION; }

FIA_API const char *fia_status_text(fia_status status) {
    switch (status) {
    case FIA_OK: return "ok";
    case FIA_ERR_ARGUMENT: return "wrong argument";
    case FIA_ERR_NOT_IN_BUILD: return "not in this build";
    case FIA_ERR_BACKEND: return "backend failed";
    }
    return "unknown status";
}

FIA_API void fia_problem_init(fia_problem *p) {
    memset(p, 0, sizeof(*p));
    p->n_sequences = 1;
    p->n_q_heads = p->n_kv_heads = 1;
    p->query.dtype = p->query_rope.dtype = p->key.dtype = p->key_rope.dtype = p->value.dtype = p->out.dtype = FIA_F32;
    p->scale = fia_bits_float_(0x7fc00000u);
    p->window_left = p->window_right = FIA_UNBOUNDED;
    p->lse_empty = -FIA_INF_;
}

FIA_API void fia_io_init(fia_io *io) {
    memset(io, 0, sizeof(*io));
    io->n_sequences = 1;
    io->list_bytes = (ptrdiff_t)sizeof(void *);
}

/* ---- validation: what a plan is refused for, field by field ---- */

typedef struct fia_range_ {
    const char *name;
    int64_t value, low, high;
} fia_range_;

static fia_status fia_check_ranges_(fia_report *report, const fia_range_ *range, size_t n) {
    size_t i;
    for (i = 0; i < n; ++i)
        if (range[i].value < range[i].low || range[i].value > range[i].high)
            return fia_refuse_(report, range[i].name, range[i].value, "must lie in [#, #]", range[i].low,
                               range[i].high);
    return FIA_OK;
}

#define FIA_CHECK_RANGES_(report, table) fia_check_ranges_(report, table, sizeof(table) / sizeof((table)[0]))

enum { FIA_MAX_DIM_ = 1 << 16, FIA_MAX_HEADS_ = 1 << 20 };

static fia_status fia_check_sizes_(const fia_problem *p, int max_workers, fia_report *report) {
    const int64_t most = FIA_SPAN_LIMIT_;
    const fia_range_ table[] = {{"max_workers", max_workers, 1, 4096},
                                {"n_sequences", p->n_sequences, 0, most},
                                {"max_q_len", p->max_q_len, 0, most},
                                {"max_kv_len", p->max_kv_len, 0, most},
                                {"q_packed", p->q_packed, 0, 1},
                                {"kv_packed", p->kv_packed, 0, 1},
                                {"total_q", p->q_packed ? p->total_q : 0, 0, most},
                                {"total_kv", p->kv_packed ? p->total_kv : 0, 0, most},
                                {"n_q_heads", p->n_q_heads, 1, FIA_MAX_HEADS_},
                                {"n_kv_heads", p->n_kv_heads, 1, FIA_MAX_HEADS_},
                                {"dim", p->dim, 1, FIA_MAX_DIM_},
                                {"rope_dim", p->rope_dim, 0, FIA_MAX_DIM_},
                                {"value_dim", p->value_dim, 1, FIA_MAX_DIM_},
                                {"value_in_key", p->value_in_key, 0, 1},
                                {"q_lengths", p->q_lengths, FIA_LENGTHS_EACH, FIA_LENGTHS_STARTS},
                                {"kv_lengths", p->kv_lengths, FIA_LENGTHS_EACH, FIA_LENGTHS_STARTS},
                                {"pin_family", p->pin_family, FIA_FAMILY_AUTO, FIA_FAMILY_TILE},
                                {"causal", p->causal, 0, 1},
                                {"align", p->align, FIA_ALIGN_BOTTOM_RIGHT, FIA_ALIGN_TOP_LEFT},
                                {"bias_before_scale", p->bias_before_scale, 0, 1},
                                {"want_lse", p->want_lse, 0, 1},
                                {"fill_padding", p->fill_padding, 0, 1},
                                {"exact", p->exact, 0, 1},
                                {"reserved", p->reserved, 0, 0},
                                {"pin_chunk", p->pin_chunk, 0, most}};
    if (FIA_CHECK_RANGES_(report, table)) return FIA_ERR_ARGUMENT;
    if (p->n_q_heads % p->n_kv_heads)
        return fia_refuse_(report, "n_q_heads", p->n_q_heads, "must be a multiple of n_kv_heads #", p->n_kv_heads, 0);
    if (p->value_in_key && p->value_dim > p->dim)
        return fia_refuse_(report, "value_dim", p->value_dim, "a value inside the key has at most dim # elements",
                           p->dim, 0);
    if (p->kv_packed && p->keys != FIA_KEYS_STRIDED)
        return fia_refuse_(report, "kv_packed", 1, "only strided keys are packed", 0, 0);
    if (!(p->scale != p->scale) && !(p->scale <= FLT_MAX && p->scale >= -FLT_MAX))
        return fia_refuse_float_(report, "scale", p->scale, "must be finite, or NaN for 1 / sqrt(D + Dr)");
    if (!(p->softcap >= 0.0f && p->softcap <= FLT_MAX))
        return fia_refuse_float_(report, "softcap", p->softcap, "must be 0 (off) or positive and finite");
    return FIA_OK;
}

/* A codec for a view, or why there is none. */
static fia_status fia_check_codec_(const fia_context *context, const char *name, fia_dtype dtype,
                                   const fia_codec **codec, fia_report *report) {
    *codec = fia_find_codec_(context, dtype);
    if (*codec) return FIA_OK;
    if (dtype == FIA_I8 || (dtype >= FIA_I4 && dtype <= FIA_HIF8))
        return fia_lacks_(report, name, fia_dtype_text(dtype),
                          "this element type is not in this build yet (fia_quant.h is to bring it)");
    if (dtype >= FIA_DTYPE_USER)
        return fia_say_(report, FIA_ERR_NOT_IN_BUILD, name, NULL, dtype,
                        "no table of this context has a codec of this code", 0, 0);
    return fia_refuse_dtype_(report, name, dtype, "must be f32, f16 or bf16, or a type with a codec");
}

/* One stride: a multiple of `unit`, and `count` values span less than what could overflow. */
static fia_status fia_check_stride_(fia_report *report, const char *view, const char *field, ptrdiff_t stride,
                                    int64_t count, int64_t unit) {
    if (stride % unit) return fia_refuse_field_(report, view, field, stride, "must be a multiple of # bytes", unit);
    if (fia_span_ok_(stride, count)) return FIA_OK;
    return fia_refuse_field_(report, view, field, stride,
                             "the tensor would span more than 2^60 bytes (# steps of this stride)", count);
}

static fia_status fia_check_strides_(fia_report *report, const fia_strides_ *s) {
    int i;
    for (i = 0; i < 3; ++i)
        if (fia_check_stride_(report, s->view, fia_stride_names_[i], s->stride[i], s->count[i], s->unit))
            return FIA_ERR_ARGUMENT;
    return FIA_OK;
}

typedef struct fia_view_check_ {
    const char *name;
    fia_view *view;
    const fia_codec **codec; /* becomes that of the view */
    int32_t elements;        /* 0: no such rows */
    int64_t outer, heads, rows;
    int output, pieces_allowed;
} fia_view_check_;

static fia_status fia_check_view_(const fia_context *context, const fia_view_check_ *c, fia_report *report) {
    fia_view *v = c->view;
    const fia_codec *codec;
    char name[48], text[160] = "";
    fia_status status;
    int64_t unit;
    int i;
    fia_text_join_(name, sizeof(name), c->name, ".dtype");
    status = fia_check_codec_(context, name, v->dtype, c->codec, report);
    if (status) return status;
    codec = *c->codec;
    unit = codec->row_bytes ? codec->alignment : codec->granule_bytes;
    if (c->elements % codec->granule)
        return fia_refuse_field_(report, c->name, " elements", c->elements,
                                 "must be a multiple of # for this element type", codec->granule);
    if (v->piece_elements < 0 || (v->piece_elements > 0 && (!c->pieces_allowed || v->piece_elements % codec->granule)))
        return fia_refuse_field_(report, c->name, ".piece_elements", v->piece_elements,
                                 c->pieces_allowed ? "must be 0 or a positive multiple of #" : "must be 0 here (#)",
                                 codec->granule);
    if (fia_check_stride_(report, c->name, ".sequence_bytes", v->sequence_bytes, c->outer, unit) ||
        fia_check_stride_(report, c->name, ".head_bytes", v->head_bytes, c->heads, unit) ||
        fia_check_stride_(report, c->name, ".row_bytes", v->row_bytes, c->rows, unit) ||
        fia_check_stride_(report, c->name, ".piece_bytes", v->piece_bytes, v->piece_elements ? c->elements : 0, unit))
        return FIA_ERR_ARGUMENT;
    if (c->output && !codec->store)
        return fia_refuse_text_(report, name, fia_dtype_text(v->dtype), "this element type is never an output");
    if (codec->check && codec->check(v, c->elements, text, sizeof(text)))
        return fia_refuse_text_(report, c->name, "not what its codec takes", text);
    for (i = 0; i < (int)sizeof(v->params) && !codec->check; ++i)
        if (v->params[i])
            return fia_refuse_field_(report, c->name, ".params", v->params[i],
                                     "must be zero for this element type (byte value)", 0);
    return FIA_OK;
}

/* No row of out and of lse shares a byte with the next one along an axis. Phase 0 looks at several axes together: how
 * many sequences and rows there are, only a run knows. */
static fia_status fia_check_steps_(const fia_plan *plan, fia_report *report) {
    const fia_problem *p = &plan->problem;
    const int64_t outer = p->q_packed ? 1 : p->n_sequences, rows = p->q_packed ? p->total_q : p->max_q_len;
    const fia_strides_ out = fia_out_strides_(&p->out, outer, p->n_q_heads, rows),
                       lse = fia_lse_strides_(p, outer, rows);
    int i;
    if (p->want_lse && fia_check_strides_(report, &lse)) return FIA_ERR_ARGUMENT;
    for (i = 0; i < 3; ++i)
        if (fia_check_apart_(report, &out, 1 << i, fia_row_bytes_(plan->codec_out, &p->out, p->value_dim)) ||
            (p->want_lse && fia_check_apart_(report, &lse, 1 << i, 4)))
            return FIA_ERR_ARGUMENT;
    return FIA_OK;
}

static fia_status fia_check_views_(const fia_context *context, fia_plan *plan, fia_report *report) {
    fia_problem *p = &plan->problem;
    const int64_t q_outer = p->q_packed ? 1 : p->n_sequences, q_rows = p->q_packed ? p->total_q : p->max_q_len;
    const int paged = p->keys != FIA_KEYS_STRIDED && p->keys != FIA_KEYS_LIST;
    const int64_t k_outer = paged ? p->n_pages : p->keys == FIA_KEYS_LIST || p->kv_packed ? 1 : p->n_sequences;
    const int64_t k_rows = paged ? p->page_size : p->kv_packed ? p->total_kv : p->max_kv_len;
    const int32_t dv = p->value_in_key ? 0 : p->value_dim, dr = p->rope_dim;
    const fia_view_check_ table[] = {
        {"query", &p->query, &plan->codec_q, p->dim, q_outer, p->n_q_heads, q_rows, 0, 0},
        {"key", &p->key, &plan->codec_k, p->dim, k_outer, p->n_kv_heads, k_rows, 0, 1},
        {"out", &p->out, &plan->codec_out, p->value_dim, q_outer, p->n_q_heads, q_rows, 1, 0},
        {"value", &p->value, &plan->codec_v, dv, k_outer, p->n_kv_heads, k_rows, 0, 1},
        {"query_rope", &p->query_rope, &plan->codec_q_rope, dr, q_outer, p->n_q_heads, q_rows, 0, 0},
        {"key_rope", &p->key_rope, &plan->codec_k_rope, dr, k_outer, p->n_kv_heads, k_rows, 0, 1}};
    fia_status status = FIA_OK;
    int i;
    for (i = 0; i < 6 && status == FIA_OK; ++i)
        if (table[i].elements) status = fia_check_view_(context, &table[i], report);
    if (status != FIA_OK) return status;
    if (p->value_in_key) { /* from here on the plan's value view is that of the key */
        plan->codec_v = plan->codec_k;
        p->value = p->key;
    }
    if (p->value_in_key && p->value_dim % plan->codec_k->granule)
        return fia_refuse_(report, "value_dim", p->value_dim, "must be a multiple of # for this element type",
                           plan->codec_k->granule, 0);
    return fia_check_steps_(plan, report);
}

static fia_status fia_check_mask_view_(const char *name, const fia_mask_view *v, const fia_problem *p, int drop,
                                       fia_report *report) {
    const int is_float = v->dtype == FIA_F32 || v->dtype == FIA_F16 || v->dtype == FIA_BF16;
    const int is_byte = v->dtype == FIA_BOOL || v->dtype == FIA_I8 || v->dtype == FIA_U8;
    const int64_t unit = fia_float_bytes_(v->dtype);
    if (v->reserved) return fia_refuse_field_(report, name, ".reserved", v->reserved, "must be 0", 0);
    if (v->dtype == FIA_NONE) return FIA_OK;
    if (drop ? !is_byte : !is_float)
        return fia_refuse_dtype_(report, name, v->dtype,
                                 drop ? "the dtype must be bool, i8 or u8" : "the dtype must be f32, f16 or bf16");
    if (v->rows < 0 || v->rows > FIA_SPAN_LIMIT_)
        return fia_refuse_field_(report, name, ".rows", v->rows, "must lie in [0, #]", FIA_SPAN_LIMIT_);
    if (v->keys < 0 || v->keys > FIA_SPAN_LIMIT_)
        return fia_refuse_field_(report, name, ".keys", v->keys, "must lie in [0, #]", FIA_SPAN_LIMIT_);
    if (fia_check_stride_(report, name, ".sequence_bytes", v->sequence_bytes, p->n_sequences, unit) ||
        fia_check_stride_(report, name, ".head_bytes", v->head_bytes, p->n_q_heads, unit) ||
        fia_check_stride_(report, name, ".row_bytes", v->row_bytes, v->rows, unit))
        return FIA_ERR_ARGUMENT;
    return FIA_OK;
}

static fia_status fia_check_float_(const char *name, fia_dtype dtype, fia_report *report) {
    if (dtype == FIA_NONE || dtype == FIA_F32 || dtype == FIA_F16 || dtype == FIA_BF16) return FIA_OK;
    return fia_refuse_dtype_(report, name, dtype, "must be f32, f16 or bf16, or none");
}

/* How many values a scale view may hold along each axis; places: bits of FIA_PLACE_*. Axes without values have stride
 * 0. */
typedef struct fia_scale_check_ {
    const char *name;
    const fia_scale_view *view;
    int64_t sequences, heads, tokens, channels;
    int places;
} fia_scale_check_;

static fia_status fia_check_scale_view_(const fia_scale_check_ *c, fia_report *report) {
    const fia_scale_view *v = c->view;
    const int64_t unit = fia_float_bytes_(v->dtype);
    if (fia_check_float_(c->name, v->dtype, report)) return FIA_ERR_ARGUMENT;
    if (v->dtype == FIA_NONE) return FIA_OK;
    if (v->place < FIA_PLACE_ROWS || v->place > FIA_PLACE_LOCAL || !(c->places >> v->place & 1))
        return fia_refuse_field_(report, c->name, ".place", v->place,
                                 "must be a FIA_PLACE_* code that these rows have; pages need paged keys", 0);
    if (v->sequence_bytes && !c->sequences)
        return fia_refuse_field_(report, c->name, ".sequence_bytes", v->sequence_bytes, "must be 0 here", 0);
    if (v->sequence_bytes && v->channel_bytes && v->place == FIA_PLACE_PAGES)
        return fia_refuse_field_(report, c->name, ".sequence_bytes", v->sequence_bytes,
                                 "must be 0 beside channel_bytes: values by channel do not differ by page", 0);
    if (v->token_bytes && (!c->tokens || v->channel_bytes))
        return fia_refuse_field_(report, c->name, ".token_bytes", v->token_bytes,
                                 c->tokens ? "must be 0 where channel_bytes is not" : "must be 0 here", 0);
    if (v->channel_bytes && !c->channels)
        return fia_refuse_field_(report, c->name, ".channel_bytes", v->channel_bytes, "must be 0 here", 0);
    if (fia_check_stride_(report, c->name, ".sequence_bytes", v->sequence_bytes, c->sequences, unit) ||
        fia_check_stride_(report, c->name, ".head_bytes", v->head_bytes, c->heads, unit) ||
        fia_check_stride_(report, c->name, ".token_bytes", v->token_bytes, c->tokens, unit) ||
        fia_check_stride_(report, c->name, ".channel_bytes", v->channel_bytes, c->channels, unit))
        return FIA_ERR_ARGUMENT;
    return FIA_OK;
}

/* The scale or offset of keys or values. */
static fia_status fia_check_kv_scale_(const char *name, const fia_scale_view *view, const fia_problem *p,
                                      int64_t channels, fia_report *report) {
    const int paged = p->keys == FIA_KEYS_PAGED || p->keys >= FIA_KEYS_USER,
              by_page = paged && view->place == FIA_PLACE_PAGES;
    const int packed = p->kv_packed && view->place == FIA_PLACE_ROWS;
    const int places = 1 << FIA_PLACE_ROWS | 1 << FIA_PLACE_LOCAL | paged << FIA_PLACE_PAGES;
    const int64_t outer = by_page ? p->n_pages : packed ? 1 : p->n_sequences;
    const int64_t rows = by_page ? p->page_size : packed ? p->total_kv : p->max_kv_len;
    const fia_scale_check_ c = {name, view, fia_max_(outer, 1), p->n_kv_heads, fia_max_(rows, 1), channels, places};
    return fia_check_scale_view_(&c, report);
}

static fia_status fia_check_scales_(const fia_problem *p, fia_report *report) {
    const int rows = 1 << FIA_PLACE_ROWS;
    const fia_scale_check_ table[] = {{"query_scale", &p->query_scale, p->q_packed ? 1 : fia_max_(p->n_sequences, 1),
                                       p->n_q_heads, fia_max_(p->q_packed ? p->total_q : p->max_q_len, 1), 0, rows},
                                      {"out_scale", &p->out_scale, 0, p->n_q_heads, 0, p->value_dim, rows},
                                      {"out_offset", &p->out_offset, 0, p->n_q_heads, 0, p->value_dim, rows}};
    int i;
    for (i = 0; i < 3; ++i)
        if (fia_check_scale_view_(&table[i], report)) return FIA_ERR_ARGUMENT;
    if (fia_check_kv_scale_("key_scale", &p->key_scale, p, p->dim, report) ||
        fia_check_kv_scale_("key_offset", &p->key_offset, p, p->dim, report) ||
        fia_check_kv_scale_("value_scale", &p->value_scale, p, p->value_dim, report) ||
        fia_check_kv_scale_("value_offset", &p->value_offset, p, p->value_dim, report))
        return FIA_ERR_ARGUMENT;
    if (p->value_in_key && (p->value_scale.dtype != FIA_NONE || p->value_offset.dtype != FIA_NONE))
        return fia_refuse_text_(report, p->value_scale.dtype != FIA_NONE ? "value_scale" : "value_offset", "given",
                                "a value inside the key has the key's");
    return FIA_OK;
}

static fia_status fia_check_modifiers_(const fia_problem *p, fia_report *report) {
    if (fia_check_mask_view_("bias", &p->bias, p, 0, report) ||
        fia_check_mask_view_("additive_mask", &p->additive_mask, p, 0, report) ||
        fia_check_mask_view_("drop_mask", &p->drop_mask, p, 1, report) ||
        fia_check_float_("mask_factor", p->mask_factor, report) ||
        fia_check_float_("alibi_slopes", p->alibi_slopes, report) || fia_check_float_("sinks", p->sinks, report))
        return FIA_ERR_ARGUMENT;
    if (p->mask_factor != FIA_NONE && p->additive_mask.dtype == FIA_NONE)
        return fia_refuse_text_(report, "mask_factor", "given", "it multiplies additive_mask, which is absent");
    return fia_check_scales_(p, report);
}

static fia_status fia_check_key_form_(const fia_context *context, fia_plan *plan, fia_report *report) {
    const fia_problem *p = &plan->problem;
    const fia_range_ table[] = {{"page_size", p->page_size, 1, FIA_SPAN_LIMIT_},
                                {"n_pages", p->n_pages, 0, INT32_MAX},
                                {"table_columns", p->table_columns, 0, FIA_SPAN_LIMIT_},
                                {"table_broadcast", p->table_broadcast, 0, 1}};
    int64_t room;
    int i;
    plan->keys = fia_find_keys_(context, p->keys);
    if (!plan->keys && p->keys >= FIA_KEYS_USER)
        return fia_say_(report, FIA_ERR_NOT_IN_BUILD, "keys", NULL, p->keys,
                        "no table of this context has a key form of this code", 0, 0);
    if (!plan->keys) return fia_refuse_(report, "keys", p->keys, "must be a FIA_KEYS_* code", 0, 0);
    for (i = 0; i < (int)sizeof(p->keys_params) && p->keys < FIA_KEYS_USER; ++i)
        if (p->keys_params[i])
            return fia_refuse_(report, "keys_params", p->keys_params[i], "must be zero for this key form (byte value)",
                               0, 0);
    if (p->keys != FIA_KEYS_PAGED) return FIA_OK;
    if (FIA_CHECK_RANGES_(report, table)) return FIA_ERR_ARGUMENT;
    room = fia_mul_(fia_mul_(p->table_columns, p->n_sequences), 4);
    if (room < 0 || room > FIA_SPAN_LIMIT_)
        return fia_refuse_(report, "table_columns", p->table_columns,
                           "the table of # sequences would span more than 2^60 bytes", p->n_sequences, 0);
    if (fia_check_stride_(report, "table", "_bytes", p->table_bytes, p->n_sequences, 4)) return FIA_ERR_ARGUMENT;
    room = fia_mul_(p->table_columns, p->page_size);
    if (room >= 0 && p->max_kv_len > room)
        return fia_refuse_(report, "max_kv_len", p->max_kv_len, "the block table has room for # keys", room, 0);
    return FIA_OK;
}

/* ---- plan ---- */

/* 1 if the compiler reorders sums; a compiler that says so by a macro was refused before. */
static int fia_reorders_(void) {
    volatile float large = 1e30f, small = 1.0f;
    const float a = large, b = small;
    return (a + b) - a == b;
}

/* Packed rows lie no sequence apart. */
static void fia_clear_unused_(fia_problem *p) {
    fia_view *const view[6] = {&p->query, &p->query_rope, &p->out, &p->key, &p->key_rope, &p->value};
    fia_scale_view *const scale[4] = {&p->key_scale, &p->key_offset, &p->value_scale, &p->value_offset};
    int i;
    for (i = 0; i < 6; ++i)
        if (i < 3 ? p->q_packed : p->kv_packed) view[i]->sequence_bytes = 0;
    for (i = 0; i < 4; ++i)
        if (p->kv_packed && scale[i]->place == FIA_PLACE_ROWS) scale[i]->sequence_bytes = 0;
    if (p->q_packed) p->query_scale.sequence_bytes = p->lse_sequence_bytes = 0;
}

/* Windows past every position are no windows; rows of one piece have no next one; the defaults of scale and
 * table_bytes. */
static void fia_normalise_(fia_problem *p) {
    fia_view *const view[6] = {&p->query, &p->query_rope, &p->out, &p->key, &p->key_rope, &p->value};
    int i;
    for (i = 0; i < 6; ++i)
        if (view[i]->piece_elements == 0) view[i]->piece_bytes = 0;
    if (p->table_broadcast) p->table_bytes = 0;
    else if (p->keys == FIA_KEYS_PAGED && p->table_bytes == 0) p->table_bytes = (ptrdiff_t)p->table_columns * 4;
    if (p->window_left > FIA_FARTHEST_) p->window_left = FIA_UNBOUNDED;
    if (p->window_right > FIA_FARTHEST_) p->window_right = FIA_UNBOUNDED;
    p->window_left = fia_max_(p->window_left, -FIA_FARTHEST_);
    p->window_right = fia_max_(p->window_right, -FIA_FARTHEST_);
    if (p->scale != p->scale) p->scale = (float)(1.0 / sqrt((double)p->dim + p->rope_dim));
}

/* Partials that a run may need: DESIGN's pool, from shapes alone. */
static void fia_plan_pool_(fia_plan *plan) {
    const fia_problem *p = &plan->problem;
    const int64_t keys = plan->keys->entries ? plan->keys->entries(p) : p->max_kv_len;
    const int64_t chunk = p->pin_chunk ? p->pin_chunk : plan->chunk_base;
    const int64_t group = fia_group_(p), rows = p->max_q_len * group; /* fia_plan_kernels_ bounds the product */
    const int64_t per_head = fia_ceil_div_(rows, fia_min_(plan->tile->rows, FIA_STREAM_ROWS)) + 1;
    const int64_t blocks = fia_mul_(fia_mul_(p->n_sequences, p->n_kv_heads),
                                    plan->keys->per_token ? fia_mul_(p->max_q_len, group) : per_head);
    int64_t most = plan->max_workers;
    if (fia_heads_together_(p, plan->keys)) most = fia_max_(most, (int64_t)FIA_TOGETHER_BLOCKS_ * p->n_kv_heads);
    plan->pool_blocks = plan->max_workers == 1 ? 0 : blocks < 0 ? most : fia_min_(blocks, most);
    plan->pool_chunks = keys / chunk + 2;
    if (!p->pin_chunk) plan->pool_chunks = fia_min_(plan->pool_chunks, FIA_MAX_CHUNKS_);
}

/* Bytes from one row of a view to the next, of a row itself where rows overlap. */
static int64_t fia_row_pitch_(const fia_codec *codec, const fia_view *view, int32_t elements) {
    return fia_max_(fia_step_size_(view->row_bytes), fia_row_bytes_(codec, view, elements));
}

/* Keys of a piece. Short pieces read evenly; long ones cost less where arithmetic counts, as long as their rows lie so
 * close that a piece and the next one fit the first cache: rows far apart, of other heads between, would share its
 * sets. */
static int fia_piece_keys_(const fia_plan *plan) {
    const fia_problem *p = &plan->problem;
    const int64_t step =
        fia_row_pitch_(plan->codec_k, &p->key, p->dim) + fia_row_pitch_(plan->codec_v, &p->value, p->value_dim);
    return fia_group_(p) >= 4 && step <= 512 ? FIA_STREAM_KEYS : FIA_STREAM_KEYS / 2;
}

/* Stream kernels, and most query rows per KV head of their family. It reads keys again for every FIA_STREAM_ROWS of
 * them, which pays for some while, unless no kernel reads their type. Pieces do not count: results must not depend on
 * how keys lie. */
static void fia_plan_streams_(const fia_context *context, fia_plan *plan) {
    const fia_problem *p = &plan->problem;
    const fia_view *const view[3] = {&p->key, &p->key_rope, &p->value};
    const fia_stream **const stream[3] = {&plan->stream_k, &plan->stream_k_rope, &plan->stream_v};
    int i, read = 1;
    for (i = 0; i < 3; ++i) {
        *stream[i] = fia_find_stream_(context, view[i]->dtype);
        if (i != FIA_OF_ROPE || p->rope_dim) read &= (*stream[i])->dtype == view[i]->dtype;
        if (view[i]->piece_elements) *stream[i] = &fia_stream_f32_;
    }
    plan->stream_rows = read ? (int)fia_max_(plan->tile->stream_rows, FIA_STREAM_ROWS) : FIA_STREAM_ROWS;
}

static fia_status fia_plan_kernels_(const fia_context *context, fia_plan *plan, fia_report *report) {
    const fia_problem *p = &plan->problem;
    int64_t most;
    plan->tile = fia_find_tile_(context, p);
    if (!plan->tile) return fia_lacks_(report, "problem", "right", "no tile kernel of this context serves it");
    fia_plan_streams_(context, plan);
    plan->piece_keys = fia_piece_keys_(plan);
    plan->chunk_base = fia_ceil_div_(fia_max_(plan->tile->chunk_base, 1), FIA_CHUNK) * FIA_CHUNK;
    if (p->pin_chunk % plan->chunk_base)
        return fia_refuse_(report, "pin_chunk", p->pin_chunk, "must be a multiple of # keys", plan->chunk_base, 0);
    if (p->pin_chunk && p->max_kv_len / p->pin_chunk >= INT32_MAX - 1)
        return fia_refuse_(report, "pin_chunk", p->pin_chunk, "max_kv_len # is more than 2^31 of them", p->max_kv_len,
                           0);
    most = (INT32_MAX - 1) * fia_min_(plan->tile->rows, FIA_STREAM_ROWS) / fia_group_(p); /* blocks are int32 */
    if (p->max_q_len > most)
        return fia_refuse_(report, "max_q_len", p->max_q_len,
                           "a KV head has at most # rows for each of its # query heads", most, fia_group_(p));
    return FIA_OK;
}

FIA_API fia_status fia_plan_make(const fia_context *context, const fia_problem *problem, int max_workers,
                                 fia_plan *plan, fia_report *report) {
    fia_plan made;
    fia_layout_ layout;
    fia_status status;
    context = fia_context_or_default_(context);
    if (!problem) return fia_refuse_text_(report, "problem", "NULL", "must point to a problem");
    if (!plan) return fia_refuse_text_(report, "plan", "NULL", "must point to room for a plan");
    if (fia_reorders_()) return fia_lacks_(report, "build", "-fassociative-math", "sums must keep their order");
    memset(&made, 0, sizeof(made));
    made.version = FIA_VERSION;
    made.max_workers = max_workers;
    made.problem = *problem;
    made.context = context;
    fia_clear_unused_(&made.problem);
    if ((status = fia_check_context_(context, report)) != FIA_OK ||
        (status = fia_check_sizes_(&made.problem, max_workers, report)) != FIA_OK ||
        (status = fia_check_key_form_(context, &made, report)) != FIA_OK ||
        (status = fia_check_views_(context, &made, report)) != FIA_OK ||
        (status = fia_check_modifiers_(&made.problem, report)) != FIA_OK)
        return status;
    fia_normalise_(&made.problem);
    if ((status = fia_plan_kernels_(context, &made, report)) != FIA_OK) return status;
    fia_plan_pool_(&made);
    fia_layout_make_(&made, &layout);
    if (layout.total == SIZE_MAX && fia_bytes_(problem->n_sequences, sizeof(fia_sequence_), 1) == SIZE_MAX)
        return fia_refuse_(report, "n_sequences", problem->n_sequences, "the workspace would overflow", 0, 0);
    if (layout.total == SIZE_MAX)
        return fia_refuse_(report, "max_workers", max_workers,
                           "the workspace would overflow, with dim # and value_dim #", problem->dim,
                           problem->value_dim);
    made.workspace_bytes = layout.total;
    *plan = made;
    return fia_ok_(report);
}

FIA_API void fia_plan_release(fia_plan *plan) {
    if (plan && plan->on_backend && plan->context && plan->context->backend && plan->context->backend->release)
        plan->context->backend->release(plan);
    if (plan) plan->on_backend = 0;
}

/* ---- phases ---- */

/* What can be said of a job without its workspace. */
static fia_status fia_check_job_(const fia_job *job, fia_report *report) {
    if (!job) return fia_refuse_text_(report, "job", "NULL", "must point to a job");
    if (!job->plan) return fia_refuse_text_(report, "plan", "NULL", "a job needs a plan");
    if (job->plan->version != FIA_VERSION)
        return fia_refuse_(report, "plan", job->plan->version, "it was not made by this version (#)", FIA_VERSION, 0);
    if (job->plan->on_backend) return fia_refuse_text_(report, "plan", "on the backend", "such a plan runs as a whole");
    if (!job->io) return fia_refuse_text_(report, "io", "NULL", "a job needs an io");
    if (!job->workspace) return fia_refuse_text_(report, "workspace", "NULL", "a job needs a workspace");
    if (job->workspace_bytes < job->plan->workspace_bytes)
        return fia_refuse_(report, "workspace_bytes", (int64_t)job->workspace_bytes, "the plan needs # bytes",
                           (int64_t)job->plan->workspace_bytes, 0);
    return FIA_OK;
}

static void fia_phase_begin_(const fia_bound_job_ *b) {
    memset(b->header, 0, sizeof(*b->header)); /* the verdict: FIA_OK */
    fia_phase_check_(b);
    b->header->layout = b->layout;
    b->header->done = FIA_DONE_;
}

/* The workspace holds what phase 0 left for this plan, or for one with the same layout. */
static int fia_is_laid_out_(const fia_bound_job_ *b) {
    const fia_layout_ *mine = &b->layout, *its = &b->header->layout;
    return b->header->done == FIA_DONE_ && mine->total == its->total && mine->cuts == its->cuts &&
           mine->cut_blocks == its->cut_blocks && mine->workers == its->workers &&
           mine->worker_bytes == its->worker_bytes;
}

/* The verdict that lies in the workspace. */
static fia_status fia_verdict_(const fia_bound_job_ *b, fia_report *report) {
    if (!fia_is_laid_out_(b)) return fia_refuse_text_(report, "workspace", "without a verdict", "phase 0 comes first");
    if (report) *report = b->header->verdict;
    return b->header->verdict.status;
}

FIA_API int64_t fia_phase_items(const fia_job *job, int phase) {
    fia_bound_job_ b;
    if (fia_check_job_(job, NULL)) return 0;
    if (phase == FIA_PHASE_CHECK) return 1;
    fia_bind_(job, &b);
    if (fia_verdict_(&b, NULL) != FIA_OK) return 0;
    if (phase == FIA_PHASE_ATTEND) return b.header->n_units + b.header->n_cuts + b.header->n_fills;
    return phase == FIA_PHASE_FOLD ? b.header->n_cut_blocks : 0;
}

FIA_API fia_status fia_phase_run(const fia_job *job, int phase, int64_t begin, int64_t end, int worker) {
    fia_bound_job_ b;
    fia_worker_ w;
    int64_t i;
    const fia_status status = fia_check_job_(job, NULL);
    if (status) return status;
    if (worker < 0 || worker >= job->plan->max_workers || phase < 0 || phase >= FIA_PHASES || begin < 0 || end < begin)
        return FIA_ERR_ARGUMENT;
    if (phase == FIA_PHASE_CHECK && end > 1) return FIA_ERR_ARGUMENT;
    if (phase == FIA_PHASE_CHECK && begin == end) return FIA_OK; /* another worker has the item */
    fia_bind_(job, &b);
    if (phase == FIA_PHASE_CHECK) fia_phase_begin_(&b);
    if (phase == FIA_PHASE_CHECK || fia_verdict_(&b, NULL) != FIA_OK) return fia_verdict_(&b, NULL);
    if (end > fia_phase_items(job, phase)) return FIA_ERR_ARGUMENT;
    if (begin == end) return FIA_OK;
    fia_worker_bind_(&b, worker, &w);
    if (phase == FIA_PHASE_FOLD) {
        for (i = begin; i < end; ++i) fia_fold_item_(&w, i);
        return FIA_OK;
    }
    if (b.header->n_tile && b.plan->tile->enter) b.plan->tile->enter(b.problem);
    for (i = begin; i < end; ++i) {
        if (i < b.header->n_units + b.header->n_cuts) fia_attend_item_(&w, i, i + 1 < end);
        else fia_fill_item_(&w, i - b.header->n_units - b.header->n_cuts);
    }
    if (b.header->n_tile && b.plan->tile->leave) b.plan->tile->leave();
    return FIA_OK;
}

FIA_API fia_status fia_job_report(const fia_job *job, fia_report *report) {
    fia_bound_job_ b;
    const fia_status status = fia_check_job_(job, report);
    if (status) return status;
    fia_bind_(job, &b);
    return fia_verdict_(&b, report);
}

/* ---- the thin forms of a run ---- */

/* Items of share t of n: phase 1 by the balance that phase 0 found, phase 2 evenly. */
static fia_status fia_run_share_(const fia_job *job, int phase, int t, int n) {
    const int64_t items = fia_phase_items(job, phase);
    int64_t begin = items * t / n, end = items * (t + 1) / n;
    fia_bound_job_ b;
    if (phase == FIA_PHASE_ATTEND) {
        const int64_t w = job->plan->max_workers;
        fia_bind_(job, &b);
        begin = b.shares[w * t / n];
        end = b.shares[w * (t + 1) / n];
    }
    return fia_phase_run(job, phase, begin, end, t);
}

typedef struct fia_shared_run_ {
    const fia_job *job;
    int phase, n;
} fia_shared_run_;

static void fia_shared_task_(void *data, int index) {
    const fia_shared_run_ *run = (const fia_shared_run_ *)data;
    fia_run_share_(run->job, run->phase, index, run->n);
}

FIA_API fia_status fia_run(const fia_job *job, const fia_workers *workers, fia_report *report) {
    fia_shared_run_ run;
    fia_status status = fia_check_job_(job, report);
    if (status) return status;
    if (workers && (workers->n < 1 || workers->n > job->plan->max_workers))
        return fia_refuse_(report, "workers->n", workers->n, "must lie in [1, #]", job->plan->max_workers, 0);
    if (workers && workers->n > 1 && !workers->parallel_for)
        return fia_refuse_text_(report, "workers->parallel_for", "NULL", "several workers need it");
    run.job = job;
    run.n = workers ? workers->n : 1;
    fia_phase_run(job, FIA_PHASE_CHECK, 0, 1, 0);
    status = fia_job_report(job, report);
    for (run.phase = FIA_PHASE_ATTEND; status == FIA_OK && run.phase < FIA_PHASES; ++run.phase) {
        if (fia_phase_items(job, run.phase) == 0) continue;
        if (run.n > 1) workers->parallel_for(workers->pool, run.n, fia_shared_task_, &run);
        else fia_shared_task_(&run, 0);
    }
    return status;
}

FIA_API fia_status fia_run_ith(const fia_job *job, int ith, int nth, void (*barrier)(void *arg), void *arg,
                               fia_report *report) {
    int64_t folds;
    fia_status status = fia_check_job_(job, report);
    if (status) return status;
    if (nth < 1 || nth > job->plan->max_workers)
        return fia_refuse_(report, "nth", nth, "must lie in [1, #]", job->plan->max_workers, 0);
    if (ith < 0 || ith >= nth) return fia_refuse_(report, "ith", ith, "must lie in [0, nth = #)", nth, 0);
    if (nth > 1 && !barrier) return fia_refuse_text_(report, "barrier", "NULL", "several threads need one");
    if (ith == 0) fia_phase_run(job, FIA_PHASE_CHECK, 0, 1, 0);
    if (nth > 1) barrier(arg);
    status = fia_job_report(job, report);
    folds = fia_phase_items(job, FIA_PHASE_FOLD);
    if (fia_phase_items(job, FIA_PHASE_ATTEND) > 0) fia_run_share_(job, FIA_PHASE_ATTEND, ith, nth);
    /* Also where there was nothing to do: behind the last barrier nobody reads the workspace. */
    if (nth > 1) barrier(arg);
    if (folds == 0) return status;
    fia_run_share_(job, FIA_PHASE_FOLD, ith, nth);
    if (nth > 1) barrier(arg);
    return status;
}

/* ---- explain ---- */

/* 1 if the compiler joined a product and a sum that were written apart: (1 + e)(1 - e) - 1 is -e^2 then, else 0. */
static int fia_contracts_(void) {
    volatile float a = 1.0f + 1.0f / 8192.0f, b = 1.0f - 1.0f / 8192.0f, c = -1.0f;
    return a * b + c != 0.0f;
}

static void fia_explain_cpu_(fia_text_ *t) {
    fia_cpu cpu;
    const char *best;
    fia_cpu_detect(&cpu);
    best = cpu.v4        ? "v4"
           : cpu.v3      ? "v3"
           : cpu.v2      ? "v2"
           : cpu.sse2    ? "x86_64"
           : cpu.fhm     ? "neon_fhm"
           : cpu.dotprod ? "neon_dot"
           : cpu.neon    ? "neon"
                         : "unknown";
    fia_text_str_(t, "target: ");
    fia_text_str_(t, FIA_TARGET_TEXT_(FIA_TARGET));
    fia_text_fill_(t, "\nlanes: #\ncpu: ", FIA_LANES, 0);
    fia_text_str_(t, best);
    if (cpu.avx512_bf16) fia_text_str_(t, " avx512_bf16");
    if (cpu.avx512_vnni) fia_text_str_(t, " avx512_vnni");
    if (cpu.amx_bf16) fia_text_str_(t, " amx_bf16");
    if (cpu.bf16) fia_text_str_(t, " bf16");
    if (cpu.i8mm) fia_text_str_(t, " i8mm");
    fia_text_str_(t,
                  fia_contracts_() ? "\ncontraction: on (compile with -ffp-contract=off)\n" : "\ncontraction: off\n");
}

static void fia_explain_name_(fia_text_ *t, const char *key, const char *name, const char *end) {
    fia_text_str_(t, key);
    fia_text_str_(t, name);
    fia_text_str_(t, end);
}

/* Families, cuts and folds of a run whose phase 0 is done. */
static void fia_explain_run_(fia_text_ *t, const fia_job *job) {
    fia_bound_job_ b;
    int64_t i, by_rows = 0, chunk = 0;
    fia_bind_(job, &b);
    if (fia_verdict_(&b, NULL) != FIA_OK) return;
    for (i = 0; i < b.header->n_sequences; ++i) chunk = fia_max_(chunk, b.sequences[i].chunk);
    for (i = 0; i < b.header->n_cuts; ++i) by_rows += b.cuts[i].ordinal < 0;
    fia_text_fill_(t, "families: stream #, tile #\n", b.header->n_stream, b.header->n_tile);
    fia_text_fill_(t, "longest chunk: #\n", chunk, 0);
    fia_text_fill_(t, "cuts: none #, rows #", b.header->n_cuts == 0, by_rows);
    fia_text_fill_(t, b.header->cut_width > 1 ? ", all blocks by chunks #\n" : ", chunks #\n",
                   b.header->n_cuts - by_rows, 0);
    fia_text_fill_(t, "merge: in phase 1 #, in phase 2 #\n", b.header->n_units > 0, b.header->n_cut_blocks);
    fia_text_fill_(t, "items: #\n", b.header->n_units + b.header->n_cuts + b.header->n_fills, 0);
}

FIA_API size_t fia_explain(const fia_plan *plan, const fia_job *job, char *text, size_t bytes) {
    fia_text_ t = {text, text ? bytes : 0, 0};
    if (t.room) text[0] = 0;
    fia_explain_cpu_(&t);
    if (!plan) return t.used;
    if (plan->on_backend && plan->context && plan->context->backend)
        fia_explain_name_(&t, "backend: ", plan->context->backend->name, "\n");
    if (!plan->keys) return t.used; /* a plan of the backend alone */
    fia_explain_name_(&t, "stream kernel: keys ", plan->stream_k->name, "");
    fia_explain_name_(&t, ", values ", plan->stream_v->name, "\n");
    fia_explain_name_(&t, "tile kernel: ", plan->tile->name, "\n");
    fia_explain_name_(&t, "codecs: query ", plan->codec_q->name, "");
    fia_explain_name_(&t, ", keys ", plan->codec_k->name, "");
    fia_explain_name_(&t, ", values ", plan->codec_v->name, "");
    fia_explain_name_(&t, ", out ", plan->codec_out->name, "\n");
    fia_explain_name_(&t, "key form: ", plan->keys->name, plan->problem.key.piece_elements ? " in pieces\n" : "\n");
    fia_text_fill_(&t, "stream up to rows per KV head: #\nchunk base: #\n", plan->stream_rows, plan->chunk_base);
    fia_text_fill_(&t, "workers: #\nworkspace: #\n", plan->max_workers, (int64_t)plan->workspace_bytes);
    if (job && fia_check_job_(job, NULL) == FIA_OK) fia_explain_run_(&t, job);
    return t.used;
}

FIA_API fia_tensor fia_tensor_make(void *data, fia_dtype dtype, int ndim, const int64_t *shape) {
    fia_tensor t;
    int64_t step = 1;
    int i;
    memset(&t, 0, sizeof(t));
    t.data = data;
    t.dtype = dtype;
    t.ndim = ndim;
    for (i = ndim - 1; i >= 0 && ndim <= 6; --i) {
        t.shape[i] = shape[i];
        t.stride[i] = step;
        step = (int64_t)((uint64_t)step * (uint64_t)shape[i]); /* what overflows is refused where the tensor is used */
    }
    return t;
}

/* ---- merge of shards ---- */

/* Of O, or of LSE. */
static fia_strides_ fia_merge_strides_(const fia_merge_shape *s, int lse) {
    const fia_strides_ strides = {lse ? "lse_" : "",
                                  {lse ? s->lse_sequence_bytes : s->sequence_bytes,
                                   lse ? s->lse_head_bytes : s->head_bytes, lse ? s->lse_row_bytes : s->row_bytes},
                                  {s->sequences, s->heads, s->rows},
                                  4};
    return strides;
}

/* written: out and lse are, so their rows must lie apart. */
static fia_status fia_check_merge_(const fia_merge_shape *s, int written, fia_report *report) {
    const fia_range_ table[] = {{"sequences", s->sequences, 0, FIA_SPAN_LIMIT_},
                                {"heads", s->heads, 0, FIA_SPAN_LIMIT_},
                                {"rows", s->rows, 0, FIA_SPAN_LIMIT_},
                                {"dim", s->dim, 1, FIA_MAX_DIM_},
                                {"reserved", s->reserved, 0, 0}};
    const fia_strides_ o = fia_merge_strides_(s, 0), lse = fia_merge_strides_(s, 1);
    if (FIA_CHECK_RANGES_(report, table) || fia_check_strides_(report, &o) || fia_check_strides_(report, &lse) ||
        (written && (fia_check_apart_(report, &o, 7, (int64_t)s->dim * 4) || fia_check_apart_(report, &lse, 7, 4))))
        return FIA_ERR_ARGUMENT;
    return FIA_OK;
}

/* An address of a merge, which has no plan. */
static fia_status fia_check_place_(fia_report *report, const char *name, const void *data, int64_t alignment) {
    if (!data) return fia_refuse_text_(report, name, "NULL", "must point to data");
    return fia_check_address_(report, name, data, 1, 1, alignment);
}

/* One row: the state (lse, o) takes in a part. Both are natural and normalised. */
static void fia_merge_row_(float *o, float *lse, const float *part_o, float part_lse, int n) {
    float m, a, b, sum;
    if (part_lse == -FIA_INF_ || part_lse == FIA_INF_) return;
    if (*lse == -FIA_INF_ || *lse == FIA_INF_) {
        memcpy(o, part_o, (size_t)n * sizeof(float));
        *lse = part_lse;
        return;
    }
    m = *lse > part_lse ? *lse : part_lse;
    a = fia_exp2_((*lse - m) * FIA_LOG2E_);
    b = fia_exp2_((part_lse - m) * FIA_LOG2E_);
    sum = a + b;
    fia_blend_(o, a / sum, part_o, b / sum, n);
    *lse = (float)(m + fia_log_(sum));
}

/* What is written shares no byte with anything else, as far as rows leave none out; addresses differ in any case. */
static fia_status fia_check_merge_places_(const fia_merge_shape *s, const float *out, const float *lse,
                                          const float *part_out, const float *part_lse, fia_report *report) {
    static const char *const name[4] = {"out", "lse", "part_out", "part_lse"};
    static const int pair[5][2] = {{0, 2}, {0, 3}, {1, 3}, {1, 2}, {1, 0}};
    const float *const data[4] = {out, lse, part_out, part_lse};
    fia_area_ area[4];
    char value[24];
    int i;
    for (i = 0; i < 4; ++i) {
        const fia_strides_ rows = fia_merge_strides_(s, i & 1);
        if (fia_check_place_(report, name[i], data[i], 4)) return FIA_ERR_ARGUMENT;
        area[i] = fia_area_of_(data[i], rows.stride, rows.count, 3, i & 1 ? 4 : (int64_t)s->dim * 4);
    }
    for (i = 0; i < 5; ++i) {
        const int a = pair[i][0], b = pair[i][1];
        if (data[a] != data[b] && !fia_areas_meet_(area[a], area[b])) continue;
        fia_text_join_(value, sizeof(value), "laid over ", name[b]);
        return fia_refuse_text_(report, name[a], value, "what is written shares no byte with it");
    }
    return FIA_OK;
}

FIA_API void fia_merge_shape_init(fia_merge_shape *shape) {
    memset(shape, 0, sizeof(*shape));
    shape->sequences = shape->heads = shape->rows = 1;
}

FIA_API void fia_finish_init(fia_finish *finish) {
    memset(finish, 0, sizeof(*finish));
    finish->out.dtype = FIA_F32;
}

FIA_API fia_status fia_merge(const fia_merge_shape *shape, float *out, float *lse, const float *part_out,
                             const float *part_lse, fia_report *report) {
    int64_t b, h, r;
    if (!shape) return fia_refuse_text_(report, "shape", "NULL", "must point to a shape");
    if (fia_check_merge_(shape, 1, report)) return FIA_ERR_ARGUMENT;
    if (shape->sequences == 0 || shape->heads == 0 || shape->rows == 0) return fia_ok_(report);
    if (fia_check_merge_places_(shape, out, lse, part_out, part_lse, report)) return FIA_ERR_ARGUMENT;
    for (b = 0; b < shape->sequences; ++b)
        for (h = 0; h < shape->heads; ++h)
            for (r = 0; r < shape->rows; ++r) {
                const int64_t at = b * shape->sequence_bytes + h * shape->head_bytes + r * shape->row_bytes;
                const int64_t l = b * shape->lse_sequence_bytes + h * shape->lse_head_bytes + r * shape->lse_row_bytes;
                fia_merge_row_((float *)(void *)((char *)out + at), (float *)(void *)((char *)lse + l),
                               (const float *)(const void *)((const char *)part_out + at),
                               *(const float *)(const void *)((const char *)part_lse + l), shape->dim);
            }
    return fia_ok_(report);
}

/* One merged row -> result: weight of the sink, then multiplier, offset and cast. */
static void fia_merge_finish_row_(const fia_codec *codec, const fia_finish *f, const float *o, float lse, int64_t head,
                                  int n, char *dst, const fia_view *view) {
    const float sink = fia_head_value_(f->sinks_dtype, f->sinks, head, -FIA_INF_);
    const int empty = lse == -FIA_INF_ || lse == FIA_INF_;
    float x[64], mul[64], add[64], weight = 1.0f;
    int i, m;
    if (!empty && sink != -FIA_INF_) {
        const float top = lse > sink ? lse : sink, a = fia_exp2_((lse - top) * FIA_LOG2E_);
        weight = sink == FIA_INF_ ? 0.0f : a / (a + fia_exp2_((sink - top) * FIA_LOG2E_));
    }
    for (i = 0; i < n; i += 64, dst += 64 / codec->granule * codec->granule_bytes) {
        m = (int)fia_min_(n - i, 64);
        memset(x, 0, sizeof(x));
        if (!empty) {
            memcpy(x, o + i, (size_t)m * sizeof(float));
            fia_weigh_result_(x, weight, m);
        }
        if (f->scale.dtype != FIA_NONE)
            fia_channel_values_(&f->scale, (const char *)f->scale_data + i * f->scale.channel_bytes, 0, head, m, mul);
        if (f->offset.dtype != FIA_NONE)
            fia_channel_values_(&f->offset, (const char *)f->offset_data + i * f->offset.channel_bytes, 0, head, m,
                                add);
        codec->store(dst, x, m, !empty && f->scale.dtype != FIA_NONE ? mul : NULL,
                     !empty && f->offset.dtype != FIA_NONE ? add : NULL, view->params);
    }
}

/* Everything about a finish but its addresses. view: finish->out, completed by its codec. */
static fia_status fia_check_finish_(const fia_context *context, const fia_merge_shape *s, const fia_finish *f,
                                    fia_view *view, const fia_codec **codec, fia_report *report) {
    const fia_view_check_ out = {"out", view, codec, s->dim, s->sequences, s->heads, s->rows, 1, 0};
    const fia_strides_ strides = fia_out_strides_(view, s->sequences, s->heads, s->rows);
    const fia_scale_check_ scale = {"scale", &f->scale, 0, s->heads, 0, s->dim, 1 << FIA_PLACE_ROWS};
    const fia_scale_check_ offset = {"offset", &f->offset, 0, s->heads, 0, s->dim, 1 << FIA_PLACE_ROWS};
    fia_status status = fia_check_context_(context, report);
    if (status == FIA_OK) status = fia_check_view_(context, &out, report);
    if (status != FIA_OK) return status;
    if (fia_check_apart_(report, &strides, 7, fia_row_bytes_(*codec, view, s->dim)) ||
        fia_check_scale_view_(&scale, report) || fia_check_scale_view_(&offset, report) ||
        fia_check_float_("sinks_dtype", f->sinks_dtype, report))
        return FIA_ERR_ARGUMENT;
    if (!f->sinks && f->sinks_dtype != FIA_NONE)
        return fia_refuse_text_(report, "sinks", "NULL", "sinks_dtype is given, so they are needed");
    if (f->sinks && f->sinks_dtype == FIA_NONE)
        return fia_refuse_text_(report, "sinks_dtype", "none", "sinks are given, so it must be f32, f16 or bf16");
    if (f->scale_data && f->scale.dtype == FIA_NONE)
        return fia_refuse_text_(report, "scale_data", "given", "scale has no dtype, so it must be NULL");
    if (f->offset_data && f->offset.dtype == FIA_NONE)
        return fia_refuse_text_(report, "offset_data", "given", "offset has no dtype, so it must be NULL");
    return FIA_OK;
}

/* The addresses of a finish with at least one row. */
static fia_status fia_check_finish_places_(const fia_merge_shape *s, const fia_finish *f, const fia_codec *codec,
                                           const fia_view *view, const float *out, const float *lse,
                                           fia_report *report) {
    const fia_strides_ rows = fia_merge_strides_(s, 0), lses = fia_merge_strides_(s, 1),
                       results = fia_out_strides_(view, s->sequences, s->heads, s->rows);
    const fia_area_ result =
        fia_area_of_(f->result, results.stride, results.count, 3, fia_row_bytes_(codec, view, s->dim));
    if (fia_check_place_(report, "out", out, 4) || fia_check_place_(report, "lse", lse, 4) ||
        fia_check_place_(report, "result", f->result, codec->alignment) ||
        fia_check_address_(report, "sinks", f->sinks, 1, 0, fia_float_bytes_(f->sinks_dtype)) ||
        (f->scale.dtype != FIA_NONE &&
         fia_check_place_(report, "scale_data", f->scale_data, fia_float_bytes_(f->scale.dtype))) ||
        (f->offset.dtype != FIA_NONE &&
         fia_check_place_(report, "offset_data", f->offset_data, fia_float_bytes_(f->offset.dtype))))
        return FIA_ERR_ARGUMENT;
    if (f->result == (const void *)out || f->result == (const void *)lse ||
        fia_areas_meet_(result, fia_area_of_(out, rows.stride, rows.count, 3, (int64_t)s->dim * 4)) ||
        fia_areas_meet_(result, fia_area_of_(lse, lses.stride, lses.count, 3, 4)))
        return fia_refuse_text_(report, "result", "laid over out or lse", "it shares no byte with them");
    return FIA_OK;
}

FIA_API fia_status fia_merge_finish(const fia_context *context, const fia_merge_shape *shape, const fia_finish *finish,
                                    const float *out, const float *lse, fia_report *report) {
    const fia_codec *codec;
    fia_view view;
    int64_t b, h, r;
    fia_status status;
    if (!finish) return fia_refuse_text_(report, "finish", "NULL", "must point to a finish");
    if (!shape) return fia_refuse_text_(report, "shape", "NULL", "must point to a shape");
    if (fia_check_merge_(shape, 0, report)) return FIA_ERR_ARGUMENT;
    view = finish->out;
    status = fia_check_finish_(fia_context_or_default_(context), shape, finish, &view, &codec, report);
    if (status != FIA_OK || shape->sequences == 0 || shape->heads == 0 || shape->rows == 0)
        return status == FIA_OK ? fia_ok_(report) : status;
    if (fia_check_finish_places_(shape, finish, codec, &view, out, lse, report)) return FIA_ERR_ARGUMENT;
    for (b = 0; b < shape->sequences; ++b)
        for (h = 0; h < shape->heads; ++h)
            for (r = 0; r < shape->rows; ++r) {
                const int64_t at = b * shape->sequence_bytes + h * shape->head_bytes + r * shape->row_bytes;
                const int64_t l = b * shape->lse_sequence_bytes + h * shape->lse_head_bytes + r * shape->lse_row_bytes;
                char *dst = (char *)finish->result + b * view.sequence_bytes + h * view.head_bytes + r * view.row_bytes;
                fia_merge_finish_row_(codec, finish, (const float *)(const void *)((const char *)out + at),
                                      *(const float *)(const void *)((const char *)lse + l), h, shape->dim, dst, &view);
            }
    return fia_ok_(report);
}

/* ==== R16 operator doors ===================================================================== */
/* A door checks every argument of its operator by name and lowers the call into one fia_problem and one fia_io; the
 * engine does the rest. What only a run knows (values of length tensors, page ids) is refused in phase 0; its sentence
 * then gets the operator's names. A valid call that nothing here computes is "not in this build" after all arguments
 * were checked, and a backend may still take it. Helpers of fused_infer_attention_score_v2 begin with fia_v2_. */

typedef fia_fused_infer_attention_score_v2_args fia_v2_args_;

/* ---- names of the operator ---- */

typedef struct fia_v2_field_ {
    char name[32];
    size_t at, bytes; /* in the arguments */
} fia_v2_field_;

/* clang-format off */
#define FIA_V2_FIELD_(name) {#name, offsetof(fia_v2_args_, name), sizeof(((fia_v2_args_ *)NULL)->name)}

/* Every tensor argument, outputs last. */
enum {
    FIA_V2_QUERY_, FIA_V2_KEY_, FIA_V2_VALUE_, FIA_V2_QUERY_ROPE_, FIA_V2_KEY_ROPE_, FIA_V2_PSE_, FIA_V2_MASK_,
    FIA_V2_QLENS_, FIA_V2_KVLENS_, FIA_V2_TABLE_, FIA_V2_SCALE_Q_, FIA_V2_SCALE_K_, FIA_V2_OFFSET_K_, FIA_V2_SCALE_V_,
    FIA_V2_OFFSET_V_, FIA_V2_SCALE_K_ROPE_, FIA_V2_SCALE_OUT_, FIA_V2_OFFSET_OUT_, FIA_V2_SCALE_P_, FIA_V2_SINK_,
    FIA_V2_OUT_, FIA_V2_LSE_, FIA_V2_TENSORS_
};

/* The tensors, then the attributes whose change makes another call. */
static const fia_v2_field_ fia_v2_fields_[] = {
    FIA_V2_FIELD_(query), FIA_V2_FIELD_(key), FIA_V2_FIELD_(value), FIA_V2_FIELD_(query_rope), FIA_V2_FIELD_(key_rope),
    FIA_V2_FIELD_(pse_shift), FIA_V2_FIELD_(atten_mask),
    {"actual_seq_qlen", offsetof(fia_v2_args_, actual_seq_qlen_tensor), sizeof(fia_tensor)},
    {"actual_seq_kvlen", offsetof(fia_v2_args_, actual_seq_kvlen_tensor), sizeof(fia_tensor)},
    FIA_V2_FIELD_(block_table),
    FIA_V2_FIELD_(dequant_scale_query), FIA_V2_FIELD_(dequant_scale_key), FIA_V2_FIELD_(dequant_offset_key),
    FIA_V2_FIELD_(dequant_scale_value), FIA_V2_FIELD_(dequant_offset_value), FIA_V2_FIELD_(dequant_scale_key_rope),
    FIA_V2_FIELD_(quant_scale_out), FIA_V2_FIELD_(quant_offset_out), FIA_V2_FIELD_(quant_scale_p),
    FIA_V2_FIELD_(learnable_sink), FIA_V2_FIELD_(attention_out), FIA_V2_FIELD_(softmax_lse),

    FIA_V2_FIELD_(softmax_scale), FIA_V2_FIELD_(num_query_heads), FIA_V2_FIELD_(num_key_value_heads),
    FIA_V2_FIELD_(pre_tokens), FIA_V2_FIELD_(next_tokens), FIA_V2_FIELD_(sparse_mode), FIA_V2_FIELD_(block_size),
    FIA_V2_FIELD_(query_quant_mode), FIA_V2_FIELD_(key_quant_mode), FIA_V2_FIELD_(value_quant_mode),
    FIA_V2_FIELD_(inner_precise), FIA_V2_FIELD_(return_softmax_lse), FIA_V2_FIELD_(out_dtype),
    FIA_V2_FIELD_(input_layout)
};

/* Reserved element types: none may be set. */
static const fia_v2_field_ fia_v2_reserved_[] = {
    FIA_V2_FIELD_(query_dtype), FIA_V2_FIELD_(key_dtype), FIA_V2_FIELD_(value_dtype), FIA_V2_FIELD_(key_rope_dtype),
    FIA_V2_FIELD_(query_rope_dtype), FIA_V2_FIELD_(key_shared_prefix_dtype), FIA_V2_FIELD_(value_shared_prefix_dtype),
    FIA_V2_FIELD_(dequant_scale_query_dtype), FIA_V2_FIELD_(dequant_scale_key_dtype),
    FIA_V2_FIELD_(dequant_scale_value_dtype), FIA_V2_FIELD_(dequant_scale_key_rope_dtype)
};
enum {
    FIA_V2_ARGUMENTS_ = (int)(sizeof(fia_v2_fields_) / sizeof(fia_v2_fields_[0])),
    FIA_V2_RESERVED_ = (int)(sizeof(fia_v2_reserved_) / sizeof(fia_v2_reserved_[0]))
};

/* Names of the engine and what the operator calls it. */
static const char fia_v2_names_[][2][28] = {
    {"n_sequences", "query's sequence count"}, {"max_q_len", "query's row count"}, {"total_q", "query's row count"},
    {"dim", "query's row length"}, {"max_kv_len", "key's row count"}, {"total_kv", "key's row count"},
    {"n_pages", "key's page count"}, {"key_list", "key"}, {"kv_rows", "key's row count"}, {"key_head_strides", "key"},
    {"value_dim", "value's row length"}, {"value_list", "value"}, {"value_head_strides", "value"},
    {"rope_dim", "query_rope's row length"}, {"n_q_heads", "num_query_heads"}, {"n_kv_heads", "num_key_value_heads"},
    {"out", "attention_out"}, {"lse", "softmax_lse"}, {"lse_sequence_bytes", "softmax_lse"},
    {"lse_head_bytes", "softmax_lse"}, {"lse_row_bytes", "softmax_lse"}, {"q_lens", "actual_seq_qlen"},
    {"kv_lens", "actual_seq_kvlen"}, {"page_size", "block_size"}, {"table_columns", "block_table's row length"},
    {"table_bytes", "block_table"}, {"bias", "pse_shift"}, {"drop_mask", "atten_mask"}, {"sinks", "learnable_sink"},
    {"key_scale", "dequant_scale_key"}, {"key_offset", "dequant_offset_key"}, {"value_scale", "dequant_scale_value"},
    {"value_offset", "dequant_offset_value"}, {"out_scale", "quant_scale_out"}, {"out_offset", "quant_offset_out"},
};
/* clang-format on */

static int fia_v2_in_name_(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

/* Gives a sentence of the engine the operator's name of the field that it begins with. */
static void fia_v2_rename_(fia_report *report) {
    const int n = (int)(sizeof(fia_v2_names_) / sizeof(fia_v2_names_[0]));
    fia_report old;
    int i, k;
    if (!report) return;
    old = *report;
    for (i = 0; i < n; ++i) {
        const char *name = fia_v2_names_[i][0];
        for (k = 0; name[k] && name[k] == old.text[k]; ++k) {}
        if (name[k] || fia_v2_in_name_(old.text[k])) continue;
        fia_text_join_(report->text, sizeof(report->text), fia_v2_names_[i][1], old.text + k);
    }
}

/* ---- layouts ---- */

/* Axes of a tensor: sequence, row, head; -1: none. Without a head axis heads lie side by side in the last one. */
typedef struct fia_v2_form_ {
    int8_t rank, sequence, row, head;
    int8_t packed; /* sequences one after another along the row axis */
} fia_v2_form_;

enum { FIA_V2_BSH_, FIA_V2_BSND_, FIA_V2_BNSD_, FIA_V2_TND_, FIA_V2_NTD_, FIA_V2_NSD_, FIA_V2_NBSD_ };

static const fia_v2_form_ fia_v2_forms_[] = {
    {3, 0, 1, -1, 0}, {4, 0, 1, 2, 0},  {4, 0, 2, 1, 0}, {3, -1, 0, 1, 1},
    {3, -1, 1, 0, 1}, {3, -1, 1, 0, 0}, {4, 1, 2, 0, 0},
};

/* Pools of pages by rank less 3: (pages, rows, H), (pages, heads, rows, D), NZ (pages, heads, D / c0, rows, c0). */
static const fia_v2_form_ fia_v2_pools_[] = {{3, 0, 1, -1, 0}, {4, 0, 2, 1, 0}, {5, 0, 3, 1, 0}};

typedef struct fia_v2_layout_ {
    char name[12];
    int8_t in, out; /* forms of the inputs and of attention_out */
} fia_v2_layout_;

static const fia_v2_layout_ fia_v2_layouts_[] = {
    {"BSH", FIA_V2_BSH_, FIA_V2_BSH_},         {"BSND", FIA_V2_BSND_, FIA_V2_BSND_},
    {"BNSD", FIA_V2_BNSD_, FIA_V2_BNSD_},      {"BNSD_BSND", FIA_V2_BNSD_, FIA_V2_BSND_},
    {"BSH_BNSD", FIA_V2_BSH_, FIA_V2_BNSD_},   {"BSND_BNSD", FIA_V2_BSND_, FIA_V2_BNSD_},
    {"BSH_NBSD", FIA_V2_BSH_, FIA_V2_NBSD_},   {"BSND_NBSD", FIA_V2_BSND_, FIA_V2_NBSD_},
    {"BNSD_NBSD", FIA_V2_BNSD_, FIA_V2_NBSD_}, {"TND", FIA_V2_TND_, FIA_V2_TND_},
    {"NTD", FIA_V2_NTD_, FIA_V2_NTD_},         {"TND_NTD", FIA_V2_TND_, FIA_V2_NTD_},
    {"NTD_TND", FIA_V2_NTD_, FIA_V2_TND_},     {"NSD", FIA_V2_NSD_, FIA_V2_NSD_},
};

/* ---- a call while it is checked and lowered ---- */

typedef struct fia_v2_call_ {
    const fia_v2_args_ *args;
    const fia_tensor *t[FIA_V2_TENSORS_]; /* key and value: of lists, the one that is looked at */
    fia_problem *problem;
    fia_report *report;
    fia_status status; /* of the first refusal; before it FIA_ERR_NOT_IN_BUILD once something valid is not there yet */
    const fia_v2_form_ *in, *out;
    int64_t B, S1, S2; /* sequences; rows and keys that a sequence has room for (packed: of the whole tensor) */
    int64_t Nq, Nkv, D, Dv, Dr;
    int64_t listed_rows; /* bits of tensors: one of their list had two rows or more */
    int paged, listed;
    int empty;                     /* query has no element: nothing is computed */
    int keeps_all;                 /* one query row, no rope, not packed: sparse_mode and tokens are without effect */
    fia_tensor made_out, made_lse; /* outputs of this call, data NULL */
} fia_v2_call_;

static int fia_v2_given_(const fia_tensor *t) { return t->data != NULL || t->ndim != 0; }

static int fia_v2_has_(const fia_v2_call_ *c, int i) { return fia_v2_given_(c->t[i]); }

static void fia_v2_begin_(fia_v2_call_ *c, const fia_v2_args_ *args, fia_problem *problem, fia_report *report) {
    int i;
    memset(c, 0, sizeof(*c));
    c->args = args;
    c->problem = problem;
    c->report = report;
    for (i = 0; i < FIA_V2_TENSORS_; ++i) {
        c->t[i] = (const fia_tensor *)(const void *)((const char *)(const void *)args + fia_v2_fields_[i].at);
    }
}

static fia_dtype fia_v2_reserved_dtype_(const fia_v2_args_ *args, int i) {
    return *(const fia_dtype *)(const void *)((const char *)(const void *)args + fia_v2_reserved_[i].at);
}

/* Elements of a tensor that fia_v2_tensor_ let through: no product overflows. */
static int64_t fia_v2_numel_(const fia_tensor *t) {
    int64_t n = 1;
    int i;
    for (i = 0; i < t->ndim; ++i) n *= t->shape[i];
    return n;
}

/* Bytes from an element to the next along an axis; 0 where there is no such axis or it has one element. */
static ptrdiff_t fia_v2_step_(const fia_tensor *t, int axis) {
    if (axis < 0 || t->shape[axis] < 2) return 0;
    return (ptrdiff_t)(t->stride[axis] * (int64_t)fia_dtype_bytes(t->dtype));
}

/* ---- checks: 1, or 0 after a refusal; joined by && they stop at the first ---- */

static int fia_v2_bad_(fia_v2_call_ *c, int i, const char *value, const char *allowed) {
    c->status = fia_refuse_text_(c->report, fia_v2_fields_[i].name, value, allowed);
    return 0;
}

static int fia_v2_bad_int_(fia_v2_call_ *c, const char *name, int64_t value, const char *allowed, int64_t a,
                           int64_t b) {
    c->status = fia_refuse_(c->report, name, value, allowed, a, b);
    return 0;
}

static int fia_v2_bad_shape_(fia_v2_call_ *c, int i, int axis, const char *allowed, int64_t a) {
    char name[48], field[] = ".shape[0]";
    field[7] = (char)('0' + axis);
    fia_text_join_(name, sizeof(name), fia_v2_fields_[i].name, field);
    return fia_v2_bad_int_(c, name, c->t[i]->shape[axis], allowed, a, 0);
}

static int fia_v2_bad_stride_(fia_v2_call_ *c, int i, int axis, const char *allowed) {
    char name[48], field[] = ".stride[0]";
    field[8] = (char)('0' + axis);
    fia_text_join_(name, sizeof(name), fia_v2_fields_[i].name, field);
    return fia_v2_bad_int_(c, name, c->t[i]->stride[axis], allowed, 0, 0);
}

static int fia_v2_range_(fia_v2_call_ *c, const char *name, int64_t value, int64_t first, int64_t last) {
    if (value >= first && value <= last) return 1;
    return fia_v2_bad_int_(c, name, value, first == last ? "# is needed" : "# to # are allowed", first, last);
}

static int fia_v2_need_(fia_v2_call_ *c, int i, const char *why) {
    return fia_v2_has_(c, i) || fia_v2_bad_(c, i, "absent", why);
}

static int fia_v2_need_none_(fia_v2_call_ *c, int i, const char *why) {
    return !fia_v2_has_(c, i) || fia_v2_bad_(c, i, "given", why);
}

static int fia_v2_count_(fia_v2_call_ *c, int i, int64_t want, const char *why) {
    const int64_t n = fia_v2_numel_(c->t[i]);
    return n == want || fia_v2_bad_int_(c, fia_v2_fields_[i].name, n, why, want, 0);
}

static int fia_v2_axis_(fia_v2_call_ *c, int i, int axis, int64_t want, const char *why) {
    return c->t[i]->shape[axis] == want || fia_v2_bad_shape_(c, i, axis, why, want);
}

static int fia_v2_sequences_(fia_v2_call_ *c, int i, int axis) {
    return fia_v2_axis_(c, i, axis, c->B, c->in->packed ? "actual_seq_qlen has # elements" : "query has # sequences");
}

static int fia_v2_heads_(fia_v2_call_ *c, int i, int axis, int64_t heads) {
    const int of_query = i == FIA_V2_QUERY_ || i == FIA_V2_QUERY_ROPE_ || i == FIA_V2_PSE_ || i == FIA_V2_SINK_;
    return fia_v2_axis_(c, i, axis, heads, of_query ? "num_query_heads needs #" : "num_key_value_heads needs #");
}

static int fia_v2_rank_(fia_v2_call_ *c, int i, int first, int last, const char *why) {
    char name[48];
    if (c->t[i]->ndim >= first && c->t[i]->ndim <= last) return 1;
    fia_text_join_(name, sizeof(name), fia_v2_fields_[i].name, ".ndim");
    return fia_v2_bad_int_(c, name, c->t[i]->ndim, why, first, last);
}

/* The last axis is contiguous. */
static int fia_v2_last_(fia_v2_call_ *c, int i) {
    const int last = c->t[i]->ndim - 1;
    return c->t[i]->shape[last] < 2 || c->t[i]->stride[last] == 1 ||
           fia_v2_bad_stride_(c, i, last, "the last axis must be contiguous, stride 1");
}

static int fia_v2_contiguous_(fia_v2_call_ *c, int i) {
    const fia_tensor *t = c->t[i];
    int64_t step = 1;
    int axis;
    for (axis = t->ndim - 1; axis >= 0; --axis) {
        if (t->shape[axis] > 1 && t->stride[axis] != step) return fia_v2_bad_stride_(c, i, axis, "it is contiguous");
        step *= t->shape[axis];
    }
    return 1;
}

/* Sets of element types, by bit. */
enum {
    FIA_V2_F32_ = 1 << FIA_F32,
    FIA_V2_FLOAT_ = FIA_V2_F32_ | 1 << FIA_F16 | 1 << FIA_BF16,
    FIA_V2_BYTE_ = 1 << FIA_BOOL | 1 << FIA_I8 | 1 << FIA_U8
};

static int fia_v2_is_(fia_dtype dtype, int set) { return dtype > 0 && dtype < 16 && (set >> dtype & 1); }

static int fia_v2_bad_dtype_(fia_v2_call_ *c, const char *name, fia_dtype dtype, const char *allowed) {
    c->status = fia_refuse_dtype_(c->report, name, dtype, allowed);
    return 0;
}

static int fia_v2_type_(fia_v2_call_ *c, int i, int set, const char *allowed) {
    return fia_v2_is_(c->t[i]->dtype, set) || fia_v2_bad_dtype_(c, fia_v2_fields_[i].name, c->t[i]->dtype, allowed);
}

/* Names the largest extent or stride of a tensor that is too large. */
static int fia_v2_bad_span_(fia_v2_call_ *c, int i, int of_shape) {
    const fia_tensor *t = c->t[i];
    const int64_t *of = of_shape ? t->shape : t->stride;
    const char *most = "the tensor may span 2^60 bytes";
    uint64_t largest = 0;
    int axis, far = 0;
    for (axis = 0; axis < t->ndim; ++axis) {
        const uint64_t size = of[axis] < 0 ? 0 - (uint64_t)of[axis] : (uint64_t)of[axis];
        if (t->shape[axis] < 2 || size <= largest) continue;
        largest = size;
        far = axis;
    }
    return of_shape ? fia_v2_bad_shape_(c, i, far, most, 0) : fia_v2_bad_stride_(c, i, far, most);
}

/* Extents and strides of one tensor: nothing negative, nothing whose bytes overflow. */
static int fia_v2_tensor_(fia_v2_call_ *c, int i) {
    const fia_tensor *t = c->t[i];
    const int64_t bytes = (int64_t)fia_dtype_bytes(t->dtype);
    int64_t all = bytes, span = bytes;
    int axis;
    if (!fia_v2_rank_(c, i, 1, 6, "# to # axes are allowed")) return 0;
    if (!bytes)
        return fia_v2_bad_dtype_(c, fia_v2_fields_[i].name, t->dtype, "an element type of whole bytes is needed");
    for (axis = 0; axis < t->ndim; ++axis) {
        const int64_t n = t->shape[axis];
        int64_t stride = t->stride[axis];
        if (n < 0) return fia_v2_bad_shape_(c, i, axis, "an extent is # or more", 0);
        all = fia_mul_(all, n);
        if (n < 2) continue;
        stride = stride == INT64_MIN ? -1 : stride < 0 ? -stride : stride;
        span = fia_add_(span, fia_mul_(fia_mul_(stride, n - 1), bytes));
    }
    if (all < 0 || all > FIA_SPAN_LIMIT_ || (uint64_t)all > SIZE_MAX / 2) return fia_v2_bad_span_(c, i, 1);
    if (span < 0 || span > FIA_SPAN_LIMIT_ || (uint64_t)span > SIZE_MAX / 2) return fia_v2_bad_span_(c, i, 0);
    return 1;
}

/* ---- attributes ---- */

static int fia_v2_find_layout_(fia_v2_call_ *c) {
    const int n = (int)(sizeof(fia_v2_layouts_) / sizeof(fia_v2_layouts_[0]));
    const char *given = c->args->input_layout;
    char shown[40]; /* as much of a wrong name as fits into a sentence */
    int i, k;
    for (i = 0; given && i < n; ++i) {
        const char *name = fia_v2_layouts_[i].name;
        for (k = 0; name[k] && name[k] == given[k]; ++k) {}
        if (name[k] != given[k]) continue;
        c->in = &fia_v2_forms_[fia_v2_layouts_[i].in];
        c->out = &fia_v2_forms_[fia_v2_layouts_[i].out];
        return 1;
    }
    for (k = 0; given && given[k] && k < (int)sizeof(shown) - 1; ++k) shown[k] = given[k];
    shown[k] = 0;
    c->status = fia_refuse_text_(c->report, "input_layout", given ? shown : "NULL",
                                 "BSH, BSND, BNSD, BNSD_BSND, BSH_BNSD, BSND_BNSD, BSH_NBSD, BSND_NBSD, BNSD_NBSD, "
                                 "TND, NTD, TND_NTD, NTD_TND or NSD is allowed");
    return 0;
}

/* Attributes that concern no tensor, and what is reserved. */
static int fia_v2_check_attributes_(fia_v2_call_ *c) {
    const fia_v2_args_ *a = c->args;
    const char *reserved = "it is reserved and must be absent";
    int i, ok;
    if (!(a->softmax_scale >= -FLT_MAX && a->softmax_scale <= FLT_MAX)) {
        c->status = fia_refuse_float_(c->report, "softmax_scale", a->softmax_scale,
                                      "a finite float within the range of f32 is needed");
        return 0;
    }
    c->problem->scale = (float)a->softmax_scale;
    ok = fia_v2_range_(c, "inner_precise", a->inner_precise, 0, 3) &&
         fia_v2_range_(c, "return_softmax_lse", a->return_softmax_lse, 0, 1) &&
         fia_v2_range_(c, "key_quant_mode", a->key_quant_mode, 0, 5) &&
         fia_v2_range_(c, "value_quant_mode", a->value_quant_mode, 0, 5) &&
         fia_v2_range_(c, "block_size", a->block_size, 0, INT64_MAX) &&
         fia_v2_range_(c, "num_query_heads", a->num_query_heads, 1, INT32_MAX) &&
         fia_v2_range_(c, "num_key_value_heads", a->num_key_value_heads, 0, INT32_MAX) &&
         fia_v2_need_none_(c, FIA_V2_SCALE_K_ROPE_, reserved) && fia_v2_need_none_(c, FIA_V2_SCALE_P_, reserved);
    if (ok && a->query_quant_mode != 0 && a->query_quant_mode != 3) {
        ok = fia_v2_bad_int_(c, "query_quant_mode", a->query_quant_mode, "# or # is allowed", 0, 3);
    }
    if (ok && (a->sparse_mode < 0 || a->sparse_mode > 4) && a->sparse_mode != 9) {
        ok = fia_v2_bad_int_(c, "sparse_mode", a->sparse_mode, "# to # and 9 are allowed", 0, 4);
    }
    for (i = 0; i < FIA_V2_RESERVED_ && ok; ++i) {
        const fia_dtype dtype = fia_v2_reserved_dtype_(a, i);
        if (dtype != FIA_NONE) return fia_v2_bad_dtype_(c, fia_v2_reserved_[i].name, dtype, reserved);
    }
    for (i = 0; i < FIA_V2_TENSORS_ && ok; ++i) ok = !fia_v2_has_(c, i) || fia_v2_tensor_(c, i);
    return ok;
}

/* ---- rows of query, key, value and rope tensors ---- */

/* Elements of a row where the last axis holds `heads` of them side by side. */
static int fia_v2_row_dim_(fia_v2_call_ *c, int i, int64_t heads, int64_t *dim) {
    const int of_query = i == FIA_V2_QUERY_ || i == FIA_V2_QUERY_ROPE_;
    const char *why = of_query ? "num_query_heads needs a multiple of #" : "num_key_value_heads needs a multiple of #";
    const fia_tensor *t = c->t[i];
    const int last = t->ndim - 1;
    if (t->shape[last] % heads) return fia_v2_bad_shape_(c, i, last, why, heads);
    *dim = fia_mul_(t->shape[last] / heads, t->dtype == FIA_I32 ? 8 : 1); /* int4: eight to an int32 */
    if (*dim < 0 || *dim > INT32_MAX) return fia_v2_bad_shape_(c, i, last, "a row has at most # elements", INT32_MAX);
    if (*dim == 0 && !c->empty) return fia_v2_bad_shape_(c, i, last, "a row has # element or more", 1);
    return fia_v2_last_(c, i);
}

/* Strides of a tensor in one of the forms; heads share the last axis where the form has no head axis. */
static void fia_v2_set_view_(fia_view *view, const fia_tensor *t, const fia_v2_form_ *form, int64_t heads) {
    const int64_t last = t->shape[t->ndim - 1];
    view->dtype = t->dtype == FIA_I32 ? FIA_I4 : t->dtype;
    view->sequence_bytes = fia_v2_step_(t, form->sequence);
    view->row_bytes = fia_v2_step_(t, form->row);
    if (form->head >= 0) view->head_bytes = fia_v2_step_(t, form->head);
    else view->head_bytes = heads > 1 ? (ptrdiff_t)(last / heads * (int64_t)fia_dtype_bytes(t->dtype)) : 0;
}

/* A query-like or key-like tensor in the form of input_layout. */
static int fia_v2_lower_rows_(fia_v2_call_ *c, int i, int64_t heads, fia_view *view, int64_t *dim) {
    const fia_v2_form_ *f = c->in;
    const int of_list = c->listed && i != FIA_V2_QUERY_;
    if (!fia_v2_rank_(c, i, f->rank, f->rank, "input_layout without block_table needs # axes")) return 0;
    if (of_list && !fia_v2_axis_(c, i, f->sequence, 1, "tensors of a list have # sequence")) return 0;
    if (!of_list && f->sequence >= 0 && !fia_v2_sequences_(c, i, f->sequence)) return 0;
    if (f->head >= 0 && !fia_v2_heads_(c, i, f->head, heads)) return 0;
    if (!fia_v2_row_dim_(c, i, f->head >= 0 ? 1 : heads, dim)) return 0;
    fia_v2_set_view_(view, c->t[i], f, heads);
    return 1;
}

static int fia_v2_lower_query_(fia_v2_call_ *c) {
    const fia_tensor *q = c->t[FIA_V2_QUERY_];
    const fia_v2_form_ *f = c->in;
    if (!fia_v2_need_(c, FIA_V2_QUERY_, "it is required") ||
        !fia_v2_type_(c, FIA_V2_QUERY_, FIA_V2_FLOAT_ | 1 << FIA_I8, "f32, f16, bf16 or i8 is allowed") ||
        !fia_v2_rank_(c, FIA_V2_QUERY_, f->rank, f->rank, "input_layout needs # axes")) {
        return 0;
    }
    c->Nq = c->args->num_query_heads;
    c->Nkv = c->args->num_key_value_heads ? c->args->num_key_value_heads : c->Nq;
    if (f->head >= 0 && q->shape[f->head] != c->Nq) {
        return fia_v2_bad_int_(c, "num_query_heads", c->Nq, "query has # heads", q->shape[f->head], 0);
    }
    if (c->Nq % c->Nkv) {
        return fia_v2_bad_int_(c, "num_key_value_heads", c->Nkv, "it must divide num_query_heads, #", c->Nq, 0);
    }
    c->empty = fia_v2_numel_(q) == 0;
    c->B = f->sequence >= 0 ? q->shape[f->sequence] : 1;
    c->S1 = q->shape[f->row];
    c->problem->q_packed = f->packed;
    c->keeps_all = !f->packed && c->S1 == 1 && !fia_v2_has_(c, FIA_V2_QUERY_ROPE_);
    return fia_v2_lower_rows_(c, FIA_V2_QUERY_, c->Nq, &c->problem->query, &c->D);
}

/* ---- lengths ---- */

/* A length argument, as list or tensor (i is its tensor); count -1: absent. */
static int fia_v2_read_ints_(fia_v2_call_ *c, int i, fia_ints *ints, int64_t *count) {
    const fia_int_list *list = i == FIA_V2_QLENS_ ? &c->args->actual_seq_qlen : &c->args->actual_seq_kvlen;
    const fia_tensor *t = c->t[i];
    memset(ints, 0, sizeof(*ints));
    *count = -1;
    if (list->data) {
        ints->data = list->data;
        ints->dtype = FIA_I64;
        ints->stride_bytes = (ptrdiff_t)sizeof(int64_t);
        *count = list->count;
        if ((uintptr_t)list->data % sizeof(int64_t))
            return fia_v2_bad_(c, i, "misaligned", "a list lies at a multiple of its element's bytes");
        if (!fia_v2_need_none_(c, i, "a list or a tensor is allowed, not both")) return 0;
        return *count >= 0 || fia_v2_bad_int_(c, fia_v2_fields_[i].name, *count, "this is its element count", 0, 0);
    }
    if (!fia_v2_has_(c, i)) return 1;
    ints->data = t->data;
    ints->dtype = t->dtype;
    ints->stride_bytes = fia_v2_step_(t, 0);
    ints->broadcast = ints->stride_bytes == 0;
    *count = t->shape[0];
    return fia_v2_type_(c, i, 1 << FIA_I64 | 1 << FIA_I32, "i64 or i32 is allowed") &&
           fia_v2_rank_(c, i, 1, 1, "# axis is needed");
}

/* How many lengths there are; packed queries learn their B from it. */
static int fia_v2_lower_counts_(fia_v2_call_ *c) {
    const char *same = "this is its element count, # are needed as in actual_seq_qlen";
    const char *some = "this is its element count, # or more is needed";
    const char *padded = "this is its element count, 1 or at least # are needed, the sequences of query";
    const int packed = c->in->packed;
    const char *apart = "running sums lie apart"; /* lengths may all be one element */
    fia_ints q, kv;
    int64_t nq, nkv;
    if (!fia_v2_read_ints_(c, FIA_V2_QLENS_, &q, &nq)) return 0;
    if (!fia_v2_read_ints_(c, FIA_V2_KVLENS_, &kv, &nkv)) return 0;
    c->paged = fia_v2_has_(c, FIA_V2_TABLE_);
    c->problem->q_lengths = packed ? FIA_LENGTHS_ENDS : FIA_LENGTHS_EACH;
    c->problem->kv_packed = packed && !c->paged;
    c->problem->kv_lengths = c->problem->kv_packed ? FIA_LENGTHS_ENDS : FIA_LENGTHS_EACH;
    if (packed && q.broadcast && nq > 1) return fia_v2_bad_stride_(c, FIA_V2_QLENS_, 0, apart);
    if (c->problem->kv_packed && kv.broadcast && nkv > 1) return fia_v2_bad_stride_(c, FIA_V2_KVLENS_, 0, apart);
    if (packed && nq < 0) return fia_v2_bad_(c, FIA_V2_QLENS_, "absent", "packed layouts need it");
    if (packed && nkv < 0) return fia_v2_bad_(c, FIA_V2_KVLENS_, "absent", "packed layouts need it");
    if (c->paged && nkv < 0) return fia_v2_bad_(c, FIA_V2_KVLENS_, "absent", "block_table needs it");
    if (packed) {
        c->B = nq;
        if (nq < 1 && !c->empty) return fia_v2_bad_int_(c, "actual_seq_qlen", nq, some, 1, 0);
        return nkv == nq || fia_v2_bad_int_(c, "actual_seq_kvlen", nkv, same, nq, 0);
    }
    if (c->S1 == 1) nq = -1; /* one query row: without effect */
    if (nq >= 0 && nq != 1 && nq < c->B) return fia_v2_bad_int_(c, "actual_seq_qlen", nq, padded, c->B, 0);
    return nkv < 0 || nkv == 1 || nkv >= c->B || fia_v2_bad_int_(c, "actual_seq_kvlen", nkv, padded, c->B, 0);
}

/* Values of a host list; those of tensors are only there when the job runs. */
static int fia_v2_check_list_(fia_v2_call_ *c, int i) {
    const int of_query = i == FIA_V2_QLENS_;
    const char *rows = of_query ? "element # must lie in 0 .. #, the rows of query"
                                : "element # must lie in 0 .. #, the rows of key or block_table";
    const char *sums = "element # of running sums is at least #, the one before";
    const char *name = fia_v2_fields_[i].name;
    const fia_int_list *list = of_query ? &c->args->actual_seq_qlen : &c->args->actual_seq_kvlen;
    const int ends = (of_query ? c->problem->q_lengths : c->problem->kv_lengths) == FIA_LENGTHS_ENDS;
    int64_t b, last = 0, most = of_query ? c->S1 : c->S2;
    if (of_query && !c->in->packed && c->S1 == 1) return 1; /* one query row that is not packed: without effect */
    for (b = 0; list->data && b < c->B && b < list->count; ++b) {
        const int64_t v = list->data[b];
        if (c->listed && !of_query) most = c->args->key_list[b].shape[c->in->row];
        if (v < 0 || v > most) return fia_v2_bad_int_(c, name, v, rows, b, most);
        if (ends && v < last) return fia_v2_bad_int_(c, name, v, sums, b, last);
        last = v;
    }
    return 1;
}

/* ---- keys and values ---- */

/* A pool of pages by its own rank. That of key sets how many pages there are. */
static int fia_v2_lower_pool_(fia_v2_call_ *c, int i, fia_view *view, int64_t *dim) {
    const fia_tensor *t = c->t[i];
    const int64_t rows = c->args->block_size, run = 32 / (int64_t)fia_dtype_bytes(t->dtype);
    const int of_key = i == FIA_V2_KEY_;
    const fia_v2_form_ *f;
    if (!fia_v2_rank_(c, i, 3, 5, "pools have # (BnBsH), 4 (BnNBsD) or # axes (NZ)")) return 0;
    f = &fia_v2_pools_[t->ndim - 3];
    if (of_key && t->shape[f->row] != rows) {
        return fia_v2_bad_int_(c, "block_size", rows, "pages of key have # rows", t->shape[f->row], 0);
    }
    if (of_key) c->problem->n_pages = t->shape[0];
    if (!fia_v2_axis_(c, i, 0, c->problem->n_pages, "key has # pages")) return 0;
    if (!fia_v2_axis_(c, i, f->row, rows, "block_size is #")) return 0;
    if (f->head >= 0 && !fia_v2_heads_(c, i, f->head, c->Nkv)) return 0;
    if (!fia_v2_row_dim_(c, i, f->head >= 0 ? 1 : c->Nkv, dim)) return 0;
    fia_v2_set_view_(view, t, f, c->Nkv);
    if (t->ndim < 5) return 1;
    if (!fia_v2_axis_(c, i, 4, run, "pieces of NZ pools have 32 bytes, # elements")) return 0;
    if (t->shape[2] > 1) view->piece_elements = (int32_t)*dim;
    view->piece_bytes = fia_v2_step_(t, 2);
    *dim = fia_mul_(*dim, t->shape[2]);
    if (*dim < 0 || *dim > INT32_MAX) return fia_v2_bad_shape_(c, i, 2, "a row has at most # elements", INT32_MAX);
    return *dim > 0 || c->empty || fia_v2_bad_shape_(c, i, 2, "a row has # piece or more", 1);
}

static int fia_v2_lower_table_(fia_v2_call_ *c) {
    const fia_tensor *t = c->t[FIA_V2_TABLE_];
    const int64_t rows = c->args->block_size;
    fia_problem *p = c->problem;
    if (!fia_v2_type_(c, FIA_V2_TABLE_, 1 << FIA_I32, "i32 is needed")) return 0;
    if (!fia_v2_rank_(c, FIA_V2_TABLE_, 2, 2, "# axes are needed")) return 0;
    if (!fia_v2_sequences_(c, FIA_V2_TABLE_, 0) || !fia_v2_last_(c, FIA_V2_TABLE_)) return 0;
    if (rows < 1) return fia_v2_bad_int_(c, "block_size", rows, "block_table needs # or more", 1, 0);
    c->S2 = fia_mul_(t->shape[1], rows);
    if (c->S2 < 0) return fia_v2_bad_int_(c, "block_size", rows, "times # columns it overflows", t->shape[1], 0);
    p->keys = FIA_KEYS_PAGED;
    p->table_columns = t->shape[1];
    p->table_bytes = fia_v2_step_(t, 0);
    p->table_broadcast = p->table_bytes == 0;
    p->page_size = rows;
    return 1;
}

/* A pool of pages, or a tensor with as many rows as key. */
static int fia_v2_lower_keys_(fia_v2_call_ *c, int i, fia_view *view, int64_t *dim) {
    if (c->paged) return fia_v2_lower_pool_(c, i, view, dim);
    if (!fia_v2_lower_rows_(c, i, c->Nkv, view, dim)) return 0;
    if (i == FIA_V2_KEY_) c->S2 = c->t[i]->shape[c->in->row];
    return fia_v2_axis_(c, i, c->in->row, c->S2, "key has # rows");
}

/* One tensor of a list, which must fit to those before: same row length and row stride, any number of rows. */
static int fia_v2_lower_listed_(fia_v2_call_ *c, int i, int64_t b, fia_view *view, int64_t *dim) {
    const fia_tensor *list = i == FIA_V2_KEY_ ? c->args->key_list : c->args->value_list;
    const char *name = fia_v2_fields_[i].name;
    const fia_view before = *view;
    const int64_t first = *dim;
    int known;
    c->t[i] = &list[b];
    if (!fia_v2_need_(c, i, "a list has a tensor for every sequence") || !fia_v2_tensor_(c, i)) return 0;
    if (!fia_v2_type_(c, i, 1 << list[0].dtype, "a list has one element type")) return 0;
    if (!fia_v2_lower_rows_(c, i, c->Nkv, view, dim)) return 0;
    if (b > 0 && *dim != first)
        return fia_v2_bad_shape_(c, i, c->in->rank - 1, "rows of a list have # elements", first);
    /* The engine counts head strides in stored elements, an int4 tensor in int32. */
    if (b > 0 && view->head_bytes != before.head_bytes && view->dtype == FIA_I4)
        c->status = fia_lacks_(c->report, name, "an int4 list with several head strides", "not in this build yet");
    known = c->listed_rows >> i & 1; /* tensors with one row have no row stride: the first longer one sets it */
    if (list[b].shape[c->in->row] < 2) view->row_bytes = before.row_bytes;
    else c->listed_rows |= (int64_t)1 << i;
    if (b > 0) view->head_bytes = before.head_bytes;
    if (known && view->row_bytes != before.row_bytes) {
        c->status = fia_lacks_(c->report, name, "a list with several row strides", "not in this build yet");
        view->row_bytes = before.row_bytes;
    }
    return 1;
}

static int fia_v2_lower_lists_(fia_v2_call_ *c, int64_t *key_dim) {
    const char *no = "it cannot go with lists of key and value";
    const char *layout = "lists need a BSH, BSND or BNSD input_layout";
    const fia_v2_args_ *a = c->args;
    const int row = c->in->row;
    int64_t b;
    int ok = fia_v2_need_none_(c, FIA_V2_TABLE_, no) && fia_v2_need_none_(c, FIA_V2_QUERY_ROPE_, no);
    if (ok && c->in->sequence < 0) ok = fia_v2_bad_(c, FIA_V2_KEY_, "a list", layout);
    for (b = 0; b < c->B && ok; ++b) {
        ok = fia_v2_lower_listed_(c, FIA_V2_KEY_, b, &c->problem->key, key_dim) &&
             fia_v2_lower_listed_(c, FIA_V2_VALUE_, b, &c->problem->value, &c->Dv) &&
             fia_v2_axis_(c, FIA_V2_VALUE_, row, a->key_list[b].shape[row], "key has # rows");
        if (ok) c->S2 = fia_max_(c->S2, a->key_list[b].shape[row]);
    }
    c->problem->keys = FIA_KEYS_LIST;
    return ok;
}

/* Whether key and value are tensors or lists; of lists the first tensors stand for all. */
static int fia_v2_find_kv_(fia_v2_call_ *c) {
    const char *both = "a tensor or a list is allowed, not both";
    const char *length = "# are needed: a tensor for every sequence of query";
    const fia_v2_args_ *a = c->args;
    int64_t n;
    c->listed = a->key_list || a->value_list;
    if (c->listed) {
        if (!fia_v2_need_none_(c, FIA_V2_KEY_, both) || !fia_v2_need_none_(c, FIA_V2_VALUE_, both)) return 0;
        if (!a->key_list) return fia_v2_bad_(c, FIA_V2_KEY_, "absent", "value is a list, so must key be");
        if (!a->value_list) return fia_v2_bad_(c, FIA_V2_VALUE_, "absent", "key is a list, so must value be");
    }
    n = c->listed ? c->B : 0;
    if (a->list_count != n) return fia_v2_bad_int_(c, "list_count", a->list_count, length, n, 0);
    if (n > 0) {
        c->t[FIA_V2_KEY_] = a->key_list;
        c->t[FIA_V2_VALUE_] = a->value_list;
    }
    return 1;
}

static int fia_v2_lower_kv_(fia_v2_call_ *c) {
    const int types = FIA_V2_FLOAT_ | 1 << FIA_I8 | 1 << FIA_I32;
    const char *dims = "this is its row length by num_key_value_heads, query has # by num_query_heads";
    const int full = c->t[FIA_V2_QUERY_]->dtype == FIA_I8;
    fia_problem *p = c->problem;
    int64_t key_dim = 0;
    int ok;
    if (!fia_v2_find_kv_(c)) return 0;
    if (c->listed && c->B == 0) return 1;
    if (!fia_v2_need_(c, FIA_V2_KEY_, "it is required") || !fia_v2_need_(c, FIA_V2_VALUE_, "it is required") ||
        (full && !fia_v2_type_(c, FIA_V2_KEY_, 1 << FIA_I8, "int8 query needs i8")) ||
        !fia_v2_type_(c, FIA_V2_KEY_, types, "f32, f16, bf16, i8 or i32 (int4) is allowed") ||
        !fia_v2_type_(c, FIA_V2_VALUE_, 1 << c->t[FIA_V2_KEY_]->dtype, "the element type of key is needed")) {
        return 0;
    }
    if (c->listed) ok = fia_v2_lower_lists_(c, &key_dim);
    else
        ok = (!c->paged || fia_v2_lower_table_(c)) && fia_v2_lower_keys_(c, FIA_V2_KEY_, &p->key, &key_dim) &&
             fia_v2_lower_keys_(c, FIA_V2_VALUE_, &p->value, &c->Dv);
    return ok && (key_dim == c->D || fia_v2_bad_int_(c, "key", key_dim, dims, c->D, 0));
}

static int fia_v2_lower_rope_(fia_v2_call_ *c) {
    const fia_dtype query = c->t[FIA_V2_QUERY_]->dtype, rope = c->t[FIA_V2_QUERY_ROPE_]->dtype;
    const fia_dtype key = c->problem->key.dtype;
    const int q_types = fia_v2_is_(query, FIA_V2_FLOAT_) ? 1 << query : FIA_V2_FLOAT_;
    const char *pair = "query_rope and key_rope go together", *dims = "this is its row length, query_rope has #";
    int64_t key_dim = 0;
    if (!fia_v2_has_(c, FIA_V2_QUERY_ROPE_) && !fia_v2_has_(c, FIA_V2_KEY_ROPE_)) return 1;
    return fia_v2_need_(c, FIA_V2_QUERY_ROPE_, pair) && fia_v2_need_(c, FIA_V2_KEY_ROPE_, pair) &&
           fia_v2_type_(c, FIA_V2_QUERY_ROPE_, q_types, "the element type of query is needed, a float") &&
           fia_v2_type_(c, FIA_V2_KEY_ROPE_, 1 << (fia_v2_is_(key, FIA_V2_FLOAT_) ? key : rope),
                        "the element type of key is needed, of query_rope where key is quantised") &&
           fia_v2_lower_rows_(c, FIA_V2_QUERY_ROPE_, c->Nq, &c->problem->query_rope, &c->Dr) &&
           fia_v2_axis_(c, FIA_V2_QUERY_ROPE_, c->in->row, c->S1, "query has # rows") &&
           fia_v2_lower_keys_(c, FIA_V2_KEY_ROPE_, &c->problem->key_rope, &key_dim) &&
           (key_dim == c->Dr || fia_v2_bad_int_(c, "key_rope", key_dim, dims, c->Dr, 0));
}

/* ---- masks, windows, pse_shift, learnable_sink ---- */

/* A term by (sequence, head, row, key) from the axes of a tensor, -1: none. A run compares packed lengths with it. */
static int fia_v2_lower_term_(fia_v2_call_ *c, int i, fia_mask_view *view, int sequence, int head, int row) {
    const char *keys = c->paged ? "the # keys of block_table times block_size must fit" : "the # rows of key must fit";
    const fia_tensor *t = c->t[i];
    const int key = t->ndim - 1;
    if (!fia_v2_last_(c, i)) return 0;
    if (sequence >= 0 && t->shape[sequence] != 1 && !fia_v2_sequences_(c, i, sequence)) return 0;
    if (!c->in->packed && row >= 0 && t->shape[row] < c->S1) {
        return fia_v2_bad_shape_(c, i, row, "the # rows of query must fit", c->S1);
    }
    if (!c->in->packed && t->shape[key] < c->S2) return fia_v2_bad_shape_(c, i, key, keys, c->S2);
    view->dtype = t->dtype;
    view->rows = row >= 0 ? t->shape[row] : 1;
    view->keys = t->shape[key];
    view->sequence_bytes = fia_v2_step_(t, sequence);
    view->head_bytes = fia_v2_step_(t, head);
    view->row_bytes = fia_v2_step_(t, row);
    if (row >= 0 && t->shape[row] < 2) /* no broadcast: a run has as many rows at most */
        view->row_bytes = (ptrdiff_t)(t->shape[key] * (int64_t)fia_dtype_bytes(t->dtype));
    return 1;
}

/* Modes 0 and 1: (S1, S2), at one query row (B, S2); (B, S1, S2); (B, 1, S1, S2); B may be 1. */
static int fia_v2_lower_full_mask_(fia_v2_call_ *c) {
    const int rank = c->t[FIA_V2_MASK_]->ndim;
    const int by_sequence = rank > 2 || (c->S1 == 1 && !c->in->packed);
    if (!fia_v2_rank_(c, FIA_V2_MASK_, 2, 4, "# to # axes are allowed")) return 0;
    if (rank == 4 && !fia_v2_axis_(c, FIA_V2_MASK_, 1, 1, "# is needed, masks have no head axis")) return 0;
    return fia_v2_lower_term_(c, FIA_V2_MASK_, &c->problem->drop_mask, by_sequence ? 0 : -1, -1,
                              rank > 2 || !by_sequence ? rank - 2 : -1);
}

/* Modes 2 to 4: the causal matrix of the operator. Its content is known, so only its shape is looked at. */
static int fia_v2_check_compressed_(fia_v2_call_ *c) {
    const char *why = "sparse_mode 2, 3 and 4 need #, of (1, 1, 2048, 2048)";
    const int rank = c->t[FIA_V2_MASK_]->ndim;
    int axis, ok = fia_v2_rank_(c, FIA_V2_MASK_, 2, 4, "# to # axes are allowed");
    for (axis = 0; axis < rank && ok; ++axis) ok = fia_v2_axis_(c, FIA_V2_MASK_, axis, axis < rank - 2 ? 1 : 2048, why);
    return ok;
}

/* Mode 9: (B, S1, S1), packed: the blocks of all sequences one after another. */
static int fia_v2_check_tree_(fia_v2_call_ *c) {
    const char *no = "it cannot go with sparse_mode 9", *why = "sparse_mode 9 needs #, the rows of query";
    const int rank = c->in->packed ? 1 : 3;
    c->status = fia_lacks_(c->report, "sparse_mode", "9", "tree masks are not in this build yet");
    return fia_v2_need_none_(c, FIA_V2_PSE_, no) && fia_v2_need_none_(c, FIA_V2_SCALE_OUT_, no) &&
           fia_v2_rank_(c, FIA_V2_MASK_, rank, rank, "sparse_mode 9 needs # axes") &&
           (rank == 1 || (fia_v2_sequences_(c, FIA_V2_MASK_, 0) && fia_v2_axis_(c, FIA_V2_MASK_, 1, c->S1, why) &&
                          fia_v2_axis_(c, FIA_V2_MASK_, 2, c->S1, why)));
}

static int64_t fia_v2_clip_(int64_t tokens) { return fia_max_(INT32_MIN, fia_min_(tokens, INT32_MAX)); }

/* Modes 0 (with a mask) and 4: refuses windows that keep no key of any row. */
static int fia_v2_lower_window_(fia_v2_call_ *c) {
    const char *sum = "with next_tokens # no row keeps a key, their sum must be # or more";
    const char *most = "no row keeps a key, more than # is needed";
    const int64_t pre = fia_v2_clip_(c->args->pre_tokens), next = fia_v2_clip_(c->args->next_tokens);
    const int band = c->args->sparse_mode == 4;
    /* Mode 0 counts from row 0 and key 0, mode 4 from the last ones, where rows and keys change places. */
    const int64_t n_next = band ? c->S2 : c->S1, n_pre = band ? c->S1 : c->S2;
    if (pre + next < 0) return fia_v2_bad_int_(c, "pre_tokens", c->args->pre_tokens, sum, next, 0);
    if (next < 0 && n_next > 0 && -next >= n_next)
        return fia_v2_bad_int_(c, "next_tokens", c->args->next_tokens, most, -n_next, 0);
    if (pre < 0 && n_pre > 0 && -pre >= n_pre)
        return fia_v2_bad_int_(c, "pre_tokens", c->args->pre_tokens, most, -n_pre, 0);
    c->problem->window_left = pre == INT32_MAX ? FIA_UNBOUNDED : pre;
    c->problem->window_right = next == INT32_MAX ? FIA_UNBOUNDED : next;
    c->problem->align = band ? FIA_ALIGN_BOTTOM_RIGHT : FIA_ALIGN_TOP_LEFT;
    return 1;
}

/* In mode 0 a mask without elements is none; tokens are without effect then. */
static int fia_v2_masks_(const fia_v2_call_ *c) {
    return fia_v2_has_(c, FIA_V2_MASK_) && (c->args->sparse_mode != 0 || fia_v2_numel_(c->t[FIA_V2_MASK_]) > 0);
}

static int fia_v2_lower_mask_(fia_v2_call_ *c) {
    const int64_t mode = c->args->sparse_mode;
    int ok;
    if (!fia_v2_has_(c, FIA_V2_MASK_)) {
        if (mode == 0) return 1; /* tokens are without effect */
        c->status = fia_say_(c->report, FIA_ERR_ARGUMENT, "atten_mask", "absent", 0, "sparse_mode # needs it", mode, 0);
        return 0;
    }
    if (!fia_v2_type_(c, FIA_V2_MASK_, FIA_V2_BYTE_, "bool, i8 or u8 is allowed")) return 0;
    if (!fia_v2_masks_(c)) return 1;
    if (mode == 9) ok = fia_v2_check_tree_(c);
    else ok = mode >= 2 ? fia_v2_check_compressed_(c) : fia_v2_lower_full_mask_(c);
    if (!ok || c->keeps_all) return ok;
    if (mode == 2 || mode == 3) {
        c->problem->causal = 1;
        c->problem->align = mode == 2 ? FIA_ALIGN_TOP_LEFT : FIA_ALIGN_BOTTOM_RIGHT;
    }
    return mode == 0 || mode == 4 ? fia_v2_lower_window_(c) : 1;
}

static int fia_v2_lower_pse_(fia_v2_call_ *c) {
    if (!fia_v2_has_(c, FIA_V2_PSE_)) return 1;
    return fia_v2_type_(c, FIA_V2_PSE_, FIA_V2_FLOAT_, "f32, f16 or bf16 is allowed") &&
           fia_v2_rank_(c, FIA_V2_PSE_, 4, 4, "# axes are needed, (B or 1, Nq, rows, keys)") &&
           fia_v2_heads_(c, FIA_V2_PSE_, 1, c->Nq) && fia_v2_lower_term_(c, FIA_V2_PSE_, &c->problem->bias, 0, 1, 2);
}

static int fia_v2_lower_sink_(fia_v2_call_ *c) {
    if (!fia_v2_has_(c, FIA_V2_SINK_)) return 1;
    c->problem->sinks = c->t[FIA_V2_SINK_]->dtype;
    return fia_v2_type_(c, FIA_V2_SINK_, FIA_V2_FLOAT_, "f32, f16 or bf16 is allowed") &&
           fia_v2_rank_(c, FIA_V2_SINK_, 1, 1, "# axis is needed") && fia_v2_heads_(c, FIA_V2_SINK_, 0, c->Nq) &&
           fia_v2_last_(c, FIA_V2_SINK_);
}

/* ---- quantisation ---- */

/* Mode 0: one value, (H), or (Nkv, D) with axes of one element anywhere before D. */
static int fia_v2_lower_channels_(fia_v2_call_ *c, int i, int64_t dim, fia_scale_view *view) {
    const char *why = "key_quant_mode and value_quant_mode 0 need one value, or # as (H) or (Nkv, D)";
    const fia_tensor *t = c->t[i];
    const int last = t->ndim - 1;
    int axis, head = -1, others = 0;
    if (fia_v2_numel_(t) == 1) return 1;
    for (axis = 0; axis < last; ++axis) {
        if (t->shape[axis] == 1) continue;
        ++others;
        head = axis;
    }
    view->channel_bytes = fia_v2_step_(t, last);
    view->head_bytes = others ? fia_v2_step_(t, head) : (ptrdiff_t)dim * view->channel_bytes;
    if (others == 0 && t->shape[last] == c->Nkv * dim) return 1;
    if (others == 1 && t->shape[last] == dim && t->shape[head] == c->Nkv) return 1;
    return fia_v2_bad_shape_(c, i, last, why, c->Nkv * dim);
}

/* Modes 1 (B, S), 3 (B, Nkv, S), 4 (pages, rows), 5 (pages, Nkv, rows). S of packed keys is compared when they run. */
static int fia_v2_lower_tokens_(fia_v2_call_ *c, int i, int64_t mode, fia_scale_view *view) {
    const fia_tensor *t = c->t[i];
    const int per_head = mode == 3 || mode == 5, paged = mode >= 4;
    const int first = mode == 1 && t->ndim == 3 && t->shape[0] == 1; /* (1, B, S) is (B, S) */
    const int rank = 2 + per_head + first, last = rank - 1;
    if (paged && !fia_v2_need_(c, FIA_V2_TABLE_, "key_quant_mode 4 and 5 need it")) return 0;
    if (!fia_v2_rank_(c, i, rank, rank, "key_quant_mode or value_quant_mode needs # axes")) return 0;
    if (per_head && !fia_v2_heads_(c, i, 1, c->Nkv)) return 0;
    if (paged && !(fia_v2_axis_(c, i, 0, c->problem->n_pages, "key has # pages") &&
                   fia_v2_axis_(c, i, last, c->args->block_size, "block_size is #"))) {
        return 0;
    }
    if (!paged && !fia_v2_sequences_(c, i, first)) return 0;
    if (!paged && !c->problem->kv_packed && t->shape[last] < c->S2) {
        return fia_v2_bad_shape_(c, i, last, "the # keys of a sequence must fit", c->S2);
    }
    view->place = paged ? FIA_PLACE_PAGES : FIA_PLACE_LOCAL;
    view->sequence_bytes = fia_v2_step_(t, first);
    view->head_bytes = per_head ? fia_v2_step_(t, 1) : 0;
    view->token_bytes = fia_v2_step_(t, last);
    return 1;
}

/* The scale or offset of key or value; dim: elements of a row of it. */
static int fia_v2_lower_scale_(fia_v2_call_ *c, int i, int64_t mode, int64_t dim, fia_scale_view *view) {
    const char *types = "f32 is allowed, f16 and bf16 with key_quant_mode and value_quant_mode 0 and 2";
    const int by_token = mode == 1 || mode >= 3;
    if (!fia_v2_type_(c, i, by_token ? FIA_V2_F32_ : FIA_V2_FLOAT_, types)) return 0;
    view->dtype = c->t[i]->dtype;
    if (mode == 0) return fia_v2_lower_channels_(c, i, dim, view);
    if (by_token) return fia_v2_lower_tokens_(c, i, mode, view);
    view->head_bytes = fia_v2_step_(c->t[i], 0);
    return fia_v2_rank_(c, i, 1, 1, "key_quant_mode and value_quant_mode 2 need # axis") &&
           fia_v2_heads_(c, i, 0, c->Nkv);
}

/* An offset has the element type and the shape of its scale. */
static int fia_v2_check_offset_(fia_v2_call_ *c, int i, int scale) {
    const fia_tensor *t = c->t[scale];
    char type[64], rank[64], extent[64];
    int axis, ok;
    fia_text_join_(type, sizeof(type), "the element type is that of ", fia_v2_fields_[scale].name);
    fia_text_join_(rank, sizeof(rank), fia_v2_fields_[scale].name, " has # axes");
    fia_text_join_(extent, sizeof(extent), fia_v2_fields_[scale].name, " has #");
    ok = fia_v2_type_(c, i, 1 << t->dtype, type) && fia_v2_rank_(c, i, t->ndim, t->ndim, rank);
    for (axis = 0; axis < t->ndim && ok; ++axis) ok = fia_v2_axis_(c, i, axis, t->shape[axis], extent);
    return ok;
}

/* int8 or int4 key and value under a float query. */
static int fia_v2_lower_antiquant_(fia_v2_call_ *c) {
    const int64_t key = c->args->key_quant_mode, value = c->args->value_quant_mode;
    const char *modes = "value_quant_mode is #; both are equal, or 0 and 1";
    const char *pair = "dequant_offset_key and dequant_offset_value go together";
    fia_problem *p = c->problem;
    if (key != value && !(key == 0 && value == 1)) return fia_v2_bad_int_(c, "key_quant_mode", key, modes, value, 0);
    if (!fia_v2_need_(c, FIA_V2_SCALE_K_, "int8 and int4 key needs it")) return 0;
    if (!fia_v2_need_(c, FIA_V2_SCALE_V_, "int8 and int4 value needs it")) return 0;
    if (!fia_v2_lower_scale_(c, FIA_V2_SCALE_K_, key, c->D, &p->key_scale)) return 0;
    if (!fia_v2_lower_scale_(c, FIA_V2_SCALE_V_, value, c->Dv, &p->value_scale)) return 0;
    if (!fia_v2_has_(c, FIA_V2_OFFSET_K_) && !fia_v2_has_(c, FIA_V2_OFFSET_V_)) return 1;
    return fia_v2_need_(c, FIA_V2_OFFSET_K_, pair) && fia_v2_need_(c, FIA_V2_OFFSET_V_, pair) &&
           fia_v2_check_offset_(c, FIA_V2_OFFSET_K_, FIA_V2_SCALE_K_) &&
           fia_v2_check_offset_(c, FIA_V2_OFFSET_V_, FIA_V2_SCALE_V_) &&
           fia_v2_lower_scale_(c, FIA_V2_OFFSET_K_, key, c->D, &p->key_offset) &&
           fia_v2_lower_scale_(c, FIA_V2_OFFSET_V_, value, c->Dv, &p->value_offset);
}

/* query, key, value int8 with a float rope pair (MLA): a scale per query row and head, one each for key and value. */
static int fia_v2_check_full_quant_(fia_v2_call_ *c) {
    static const int scales[3] = {FIA_V2_SCALE_Q_, FIA_V2_SCALE_K_, FIA_V2_SCALE_V_};
    static const int barred[3] = {FIA_V2_OFFSET_K_, FIA_V2_OFFSET_V_, FIA_V2_SCALE_OUT_};
    const char *need = "int8 query needs it", *count = "this is its element count, # is needed";
    const char *why = "full int8 attention is not in this build yet (fia_quant.h is to bring it)";
    const fia_v2_args_ *a = c->args;
    const int axes = c->in->head < 0 ? c->in->rank : c->in->rank - 1; /* those of query without D */
    int i, ok = fia_v2_range_(c, "query_quant_mode", a->query_quant_mode, 3, 3) &&
                fia_v2_range_(c, "key_quant_mode", a->key_quant_mode, 0, 0) &&
                fia_v2_range_(c, "value_quant_mode", a->value_quant_mode, 0, 0) &&
                fia_v2_need_(c, FIA_V2_QUERY_ROPE_, need);
    for (i = 0; i < 3 && ok; ++i) {
        ok = fia_v2_need_(c, scales[i], need) && fia_v2_type_(c, scales[i], FIA_V2_F32_, "f32 is needed") &&
             fia_v2_need_none_(c, barred[i], "it cannot go with int8 query");
    }
    ok = ok && fia_v2_count_(c, FIA_V2_SCALE_K_, 1, count) && fia_v2_count_(c, FIA_V2_SCALE_V_, 1, count) &&
         fia_v2_rank_(c, FIA_V2_SCALE_Q_, axes, axes, "# axes are needed, those of query without D");
    for (i = 0; i < axes && ok; ++i) {
        const int64_t want = c->in->head < 0 && i == axes - 1 ? c->Nq : c->t[FIA_V2_QUERY_]->shape[i];
        ok = fia_v2_axis_(c, FIA_V2_SCALE_Q_, i, want, "query has #");
    }
    if (ok) c->status = fia_lacks_(c->report, "query", "i8", why);
    return ok;
}

static int fia_v2_lower_quant_(fia_v2_call_ *c) {
    const char *no = "only int8 and int4 key and value take it";
    if (c->t[FIA_V2_QUERY_]->dtype == FIA_I8) return fia_v2_check_full_quant_(c);
    if (!fia_v2_range_(c, "query_quant_mode", c->args->query_quant_mode, 0, 0)) return 0;
    if (!fia_v2_need_none_(c, FIA_V2_SCALE_Q_, "only int8 query takes it")) return 0;
    if (!fia_v2_is_(c->problem->key.dtype, FIA_V2_FLOAT_)) return fia_v2_lower_antiquant_(c);
    return fia_v2_range_(c, "key_quant_mode", c->args->key_quant_mode, 0, 0) &&
           fia_v2_range_(c, "value_quant_mode", c->args->value_quant_mode, 0, 0) &&
           fia_v2_need_none_(c, FIA_V2_SCALE_K_, no) && fia_v2_need_none_(c, FIA_V2_SCALE_V_, no) &&
           fia_v2_need_none_(c, FIA_V2_OFFSET_K_, no) && fia_v2_need_none_(c, FIA_V2_OFFSET_V_, no);
}

/* int8 output: one multiplier, or one per head and channel whatever the written shape. */
static int fia_v2_lower_post_quant_(fia_v2_call_ *c) {
    const char *count = "this is its element count, 1 or # are allowed, num_query_heads rows of value";
    const fia_tensor *t = c->t[FIA_V2_SCALE_OUT_];
    const fia_dtype out = c->args->out_dtype;
    const int bf16 = c->t[FIA_V2_QUERY_]->dtype == FIA_BF16;
    fia_scale_view *view = &c->problem->out_scale;
    if (out != FIA_NONE && out != FIA_I8) return fia_v2_bad_dtype_(c, "out_dtype", out, "i8 or none is allowed");
    if (!fia_v2_has_(c, FIA_V2_SCALE_OUT_)) {
        if (out == FIA_I8) return fia_v2_bad_(c, FIA_V2_SCALE_OUT_, "absent", "out_dtype i8 needs it");
        return fia_v2_need_none_(c, FIA_V2_OFFSET_OUT_, "it needs quant_scale_out");
    }
    if (!fia_v2_type_(c, FIA_V2_SCALE_OUT_, FIA_V2_F32_ | (bf16 ? 1 << FIA_BF16 : 0),
                      "f32 is allowed, and bf16 with a bf16 query"))
        return 0;
    if (!fia_v2_contiguous_(c, FIA_V2_SCALE_OUT_)) return 0;
    if (fia_v2_numel_(t) != 1 && !fia_v2_count_(c, FIA_V2_SCALE_OUT_, fia_mul_(c->Nq, c->Dv), count)) return 0;
    view->dtype = t->dtype;
    if (fia_v2_numel_(t) > 1) {
        view->channel_bytes = (ptrdiff_t)fia_dtype_bytes(t->dtype);
        view->head_bytes = (ptrdiff_t)c->Dv * view->channel_bytes;
    }
    if (!fia_v2_has_(c, FIA_V2_OFFSET_OUT_)) return 1;
    c->problem->out_offset = *view;
    return fia_v2_check_offset_(c, FIA_V2_OFFSET_OUT_, FIA_V2_SCALE_OUT_) && fia_v2_contiguous_(c, FIA_V2_OFFSET_OUT_);
}

/* ---- outputs ---- */

/* The outputs as contiguous tensors; no LSE: absent. */
static int fia_v2_make_outputs_(fia_v2_call_ *c) {
    const fia_v2_form_ *f = c->out;
    const int int8_query = c->t[FIA_V2_QUERY_]->dtype == FIA_I8, packed = c->in->packed;
    const fia_dtype dtype = c->t[int8_query ? FIA_V2_QUERY_ROPE_ : FIA_V2_QUERY_]->dtype;
    const int64_t rows = packed ? c->S1 : fia_mul_(c->B, c->S1);
    const int64_t lse[4] = {packed ? c->S1 : c->B, c->Nq, packed ? 1 : c->S1, 1};
    int64_t shape[6] = {0};
    if (fia_mul_(fia_mul_(fia_mul_(rows, c->Nq), fia_max_(c->Dv, 1)), 4) < 0) {
        return fia_v2_bad_(c, FIA_V2_OUT_, "too large", "its bytes must fit into the address space");
    }
    shape[f->rank - 1] = f->head >= 0 ? c->Dv : c->Nq * c->Dv;
    shape[f->row] = c->S1;
    if (f->sequence >= 0) shape[f->sequence] = c->B;
    if (f->head >= 0) shape[f->head] = c->Nq;
    c->made_out = fia_tensor_make(NULL, fia_v2_has_(c, FIA_V2_SCALE_OUT_) ? FIA_I8 : dtype, f->rank, shape);
    if (c->args->return_softmax_lse) c->made_lse = fia_tensor_make(NULL, FIA_F32, packed ? 3 : 4, lse);
    return 1;
}

/* A given output has the element type and shape of the one that was made up. */
static int fia_v2_check_output_(fia_v2_call_ *c, int i, const fia_tensor *made) {
    const char *by = made->dtype == FIA_I8 ? " is needed, by quant_scale_out" : " is needed, by query";
    const fia_tensor *t = c->t[i];
    char allowed[48];
    int axis, ok;
    fia_text_join_(allowed, sizeof(allowed), fia_dtype_text(made->dtype), i == FIA_V2_OUT_ ? by : " is needed");
    ok = fia_v2_type_(c, i, 1 << made->dtype, allowed) && fia_v2_rank_(c, i, made->ndim, made->ndim, "it has # axes");
    for (axis = 0; axis < made->ndim && ok; ++axis) {
        ok = fia_v2_axis_(c, i, axis, made->shape[axis], "query, value and input_layout give #") &&
             (c->empty || t->shape[axis] < 2 || t->stride[axis] ||
              fia_v2_bad_stride_(c, i, axis, "elements of outputs lie apart"));
    }
    return ok;
}

/* Rows that are written lie apart along each axis; a run looks at axes together. */
static int fia_v2_apart_(fia_v2_call_ *c, int i, int64_t elements) {
    const fia_tensor *t = c->t[i];
    int axis;
    if (fia_v2_numel_(t) == 0) return 1;
    for (axis = 0; axis < t->ndim - (i == FIA_V2_OUT_); ++axis) {
        const int64_t stride = t->stride[axis];
        if (t->shape[axis] > 1 && stride < elements && stride > -elements)
            return fia_v2_bad_stride_(c, i, axis, "rows that are written must lie apart");
    }
    return 1;
}

/* Without any output the contiguous ones are planned; an LSE alone that is left out is not written. */
static int fia_v2_lower_outputs_(fia_v2_call_ *c) {
    const fia_tensor *out = c->t[FIA_V2_OUT_], *lse = c->t[FIA_V2_LSE_];
    const int packed = c->in->packed, want = c->args->return_softmax_lse;
    const int has_out = fia_v2_given_(out), has_lse = fia_v2_given_(lse);
    const char *count = "this is its element count, without return_softmax_lse # or none is allowed";
    fia_problem *p = c->problem;
    if (has_lse && want && !fia_v2_check_output_(c, FIA_V2_LSE_, &c->made_lse)) return 0;
    if (has_lse && !want &&
        !(fia_v2_type_(c, FIA_V2_LSE_, FIA_V2_F32_, "f32 is needed") &&
          (fia_v2_numel_(lse) == 0 || fia_v2_count_(c, FIA_V2_LSE_, 1, count)))) {
        return 0;
    }
    if (has_out && !(fia_v2_check_output_(c, FIA_V2_OUT_, &c->made_out) && fia_v2_last_(c, FIA_V2_OUT_))) return 0;
    if (has_out && !fia_v2_apart_(c, FIA_V2_OUT_, c->Dv)) return 0;
    if (has_lse && want && !fia_v2_apart_(c, FIA_V2_LSE_, 1)) return 0;
    if (has_out || has_lse) c->made_lse = *lse;
    if (has_out) c->made_out = *out;
    fia_v2_set_view_(&p->out, &c->made_out, c->out, c->Nq);
    p->want_lse = want && fia_v2_given_(&c->made_lse);
    if (p->want_lse) {
        p->lse_sequence_bytes = packed ? 0 : fia_v2_step_(&c->made_lse, 0);
        p->lse_head_bytes = fia_v2_step_(&c->made_lse, 1);
        p->lse_row_bytes = fia_v2_step_(&c->made_lse, packed ? 0 : 2);
    }
    return 1;
}

/* ---- lengths of a run ---- */

static int fia_v2_set_lengths_(fia_v2_call_ *c, const fia_problem *p, fia_io *io) {
    const fia_v2_args_ *a = c->args;
    int64_t nq, nkv;
    if (!fia_v2_read_ints_(c, FIA_V2_QLENS_, &io->q_lens, &nq)) return 0;
    if (!fia_v2_read_ints_(c, FIA_V2_KVLENS_, &io->kv_lens, &nkv)) return 0;
    io->q_lens.broadcast = p->q_lengths == FIA_LENGTHS_EACH && (io->q_lens.broadcast || nq == 1);
    io->kv_lens.broadcast = p->kv_lengths == FIA_LENGTHS_EACH && (io->kv_lens.broadcast || nkv == 1);
    if (!p->q_packed && p->max_q_len == 1) memset(&io->q_lens, 0, sizeof(io->q_lens)); /* without effect */
    if (p->keys != FIA_KEYS_LIST) return 1;
    io->kv_rows.data = &a->key_list[0].shape[c->in->row];
    io->kv_rows.dtype = FIA_I64;
    io->kv_rows.stride_bytes = (ptrdiff_t)sizeof(fia_tensor);
    if (!io->kv_lens.data) io->kv_lens = io->kv_rows;
    if (c->in->head >= 0 && p->n_kv_heads > 1 && p->key.dtype != FIA_I4) {
        io->key_head_strides = io->kv_rows;
        io->key_head_strides.data = &a->key_list[0].stride[c->in->head];
        io->value_head_strides = io->kv_rows;
        io->value_head_strides.data = &a->value_list[0].stride[c->in->head];
    }
    return 1;
}

/* Whether the window leaves a query row without keys; an int8 output with an offset is refused then. */
static int fia_v2_leaves_row_(const fia_v2_args_ *a, int64_t L1, int64_t L2) {
    const int64_t pre = fia_v2_clip_(a->pre_tokens), next = fia_v2_clip_(a->next_tokens);
    if (a->sparse_mode == 0) return L1 - L2 - pre > 0 || next < 0;
    if (a->sparse_mode == 3) return L2 < L1;
    return a->sparse_mode == 4 && (pre < 0 || next + L2 - L1 < 0);
}

/* Rules that tie lengths to other arguments than their own tensor; the engine knows none of them. */
static int fia_v2_check_values_(fia_v2_call_ *c, const fia_problem *p, const fia_io *io) {
    static const int scales[2] = {FIA_V2_SCALE_K_, FIA_V2_SCALE_V_};
    const char *window = "sparse_mode, pre_tokens and next_tokens must leave every row a key, not so in sequence #";
    const fia_v2_args_ *a = c->args;
    const int keeps_all = !p->q_packed && p->max_q_len == 1 && p->rope_dim == 0;
    const int offset = fia_v2_has_(c, FIA_V2_OFFSET_OUT_) && fia_v2_masks_(c) && !keeps_all;
    const int tokens = p->kv_packed && (a->value_quant_mode == 1 || a->value_quant_mode == 3);
    int64_t b, start;
    int k;
    for (b = 0; (offset || tokens) && b < p->n_sequences; ++b) {
        const int64_t L1 = fia_length_at_(&io->q_lens, p->q_lengths, b, p->max_q_len, &start);
        const int64_t L2 = fia_length_at_(&io->kv_lens, p->kv_lengths, b, p->max_kv_len, &start);
        if (L1 < 0 || L2 < 0 || L1 > p->max_q_len || L2 > p->max_kv_len) continue; /* phase 0 will say so */
        if (offset && L1 > 0 && fia_v2_leaves_row_(a, L1, L2)) {
            c->status = fia_say_(c->report, FIA_ERR_ARGUMENT, "quant_offset_out", "given", 0, window, b, 0);
            return 0;
        }
        for (k = a->key_quant_mode == 0; tokens && k < 2; ++k) {
            const int last = c->t[scales[k]]->ndim - 1;
            if (c->t[scales[k]]->shape[last] >= L2) continue;
            return fia_v2_bad_shape_(c, scales[k], last, "the # keys of a sequence must fit", L2);
        }
    }
    return 1;
}

/* ---- the whole call ---- */

static void fia_v2_set_sizes_(const fia_v2_call_ *c) {
    fia_problem *p = c->problem;
    p->n_sequences = c->B;
    p->max_q_len = c->S1;
    p->max_kv_len = c->S2;
    p->total_q = c->S1;
    p->total_kv = c->S2;
    p->n_q_heads = (int32_t)c->Nq;
    p->n_kv_heads = (int32_t)c->Nkv;
    p->dim = (int32_t)c->D;
    p->rope_dim = (int32_t)c->Dr;
    p->value_dim = (int32_t)c->Dv;
    p->lse_empty = INFINITY;
    p->fill_padding = 1;
}

/* Checks every argument and fills the problem. FIA_ERR_NOT_IN_BUILD: all is right, but the CPU engine cannot do it. */
static fia_status fia_v2_lower_(fia_v2_call_ *c, const fia_v2_args_ *args, fia_problem *problem, fia_report *report) {
    fia_io io;
    fia_problem_init(problem);
    fia_v2_begin_(c, args, problem, report);
    if (!fia_v2_check_attributes_(c) || !fia_v2_find_layout_(c) || !fia_v2_lower_query_(c) ||
        !fia_v2_lower_counts_(c) || !fia_v2_lower_kv_(c) || !fia_v2_check_list_(c, FIA_V2_QLENS_) ||
        !fia_v2_check_list_(c, FIA_V2_KVLENS_) || !fia_v2_lower_rope_(c) || !fia_v2_lower_mask_(c) ||
        !fia_v2_lower_pse_(c) || !fia_v2_lower_sink_(c) || !fia_v2_lower_quant_(c) || !fia_v2_lower_post_quant_(c) ||
        !fia_v2_make_outputs_(c) || !fia_v2_lower_outputs_(c)) {
        return c->status;
    }
    fia_v2_set_sizes_(c);
    if (!c->empty && !fia_v2_has_(c, FIA_V2_QLENS_) && !fia_v2_has_(c, FIA_V2_KVLENS_)) { /* all lengths are known */
        fia_io_init(&io);
        if (!fia_v2_set_lengths_(c, problem, &io) || !fia_v2_check_values_(c, problem, &io)) return c->status;
    }
    return c->status;
}

/* ---- digest ---- */

static uint64_t fia_v2_mix_(uint64_t h, uint64_t v) {
    h = (h ^ v) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ (h >> 29);
}

static uint64_t fia_v2_mix_tensor_(uint64_t h, const fia_tensor *t) {
    int i;
    h = fia_v2_mix_(h, (uint64_t)(uint32_t)t->dtype << 32 | (uint32_t)t->ndim);
    for (i = 0; i < t->ndim && i < 6; ++i) {
        h = fia_v2_mix_(h, (uint64_t)t->shape[i]);
        h = fia_v2_mix_(h, t->shape[i] > 1 ? (uint64_t)t->stride[i] : 0); /* one that is never taken: any */
    }
    return h;
}

static uint64_t fia_v2_mix_attribute_(const fia_v2_args_ *a, int i) {
    const void *at = (const char *)(const void *)a + fia_v2_fields_[i].at;
    const char *layout = a->input_layout;
    uint64_t h = 0;
    int k;
    if (at == &a->input_layout) {
        for (k = 0; layout && k < 16 && layout[k]; ++k) h = fia_v2_mix_(h, (unsigned char)layout[k]);
        return h;
    }
    memcpy(&h, at, fia_v2_fields_[i].bytes);
    return fia_v2_mix_(0, h);
}

/* Tensors of the lists that a planned call has; a list of another length is not looked at. */
static int64_t fia_v2_list_length_(const fia_problem *p, const fia_v2_args_ *a) {
    const int listed = p->keys == FIA_KEYS_LIST && a->key_list && a->value_list && a->list_count == p->n_sequences;
    return listed ? a->list_count : 0;
}

/* A tensor argument, or the lists that stand for it. */
static uint64_t fia_v2_mix_argument_(const fia_problem *p, const fia_v2_call_ *c, int i) {
    const fia_v2_args_ *a = c->args;
    const fia_tensor *list = i == FIA_V2_KEY_ ? a->key_list : i == FIA_V2_VALUE_ ? a->value_list : NULL;
    const int64_t listed = list ? fia_v2_list_length_(p, a) : 0;
    uint64_t h = fia_v2_has_(c, i) ? fia_v2_mix_tensor_(1, c->t[i]) : 0;
    int64_t b;
    if (i == FIA_V2_QLENS_)
        h = fia_v2_mix_(h, a->actual_seq_qlen.data ? (uint64_t)a->actual_seq_qlen.count : UINT64_MAX);
    if (i == FIA_V2_KVLENS_)
        h = fia_v2_mix_(h, a->actual_seq_kvlen.data ? (uint64_t)a->actual_seq_kvlen.count : UINT64_MAX);
    if (i == FIA_V2_KEY_) h = fia_v2_mix_(h, (uint64_t)a->list_count);
    h = fia_v2_mix_(h, list != NULL);
    for (b = 0; b < listed; ++b) h = fia_v2_mix_tensor_(h, &list[b]);
    return h;
}

/* Of shapes, element types, strides, counts and attributes; out and lse stand for the outputs. each: by argument. */
static uint64_t fia_v2_digest_(const fia_problem *p, const fia_v2_args_ *a, const fia_tensor *out,
                               const fia_tensor *lse, uint32_t each[FIA_V2_ARGUMENTS_]) {
    uint64_t h = 0, one;
    fia_v2_call_ c;
    int i;
    fia_v2_begin_(&c, a, NULL, NULL);
    c.t[FIA_V2_OUT_] = out;
    c.t[FIA_V2_LSE_] = lse;
    for (i = 0; i < FIA_V2_ARGUMENTS_; ++i) {
        one = i < FIA_V2_TENSORS_ ? fia_v2_mix_argument_(p, &c, i) : fia_v2_mix_attribute_(a, i);
        h = fia_v2_mix_(h, one);
        each[i] = (uint32_t)(one >> 32);
    }
    for (i = 0; i < FIA_V2_RESERVED_; ++i) h = fia_v2_mix_(h, (uint32_t)fia_v2_reserved_dtype_(a, i));
    return h;
}

/* Another call than the planned one: wrong by itself, or right and in which argument different. */
static fia_status fia_v2_refuse_change_(const fia_plan *plan, const fia_v2_args_ *args, const uint32_t *each,
                                        fia_report *report) {
    const char *name = "args";
    fia_problem now;
    fia_v2_call_ c;
    int i;
    const fia_status s = fia_v2_lower_(&c, args, &now, report);
    if (s == FIA_ERR_ARGUMENT) return s;
    for (i = FIA_V2_ARGUMENTS_ - 1; i >= 0; --i)
        if (each[i] != plan->digests[i]) name = fia_v2_fields_[i].name;
    return fia_refuse_text_(report, name, "not as planned",
                            "shapes, element types, strides, counts and attributes must be the plan's");
}

/* ---- addresses ---- */

/* Bytes of a tensor without holes; 0: it has some. */
static fia_area_ fia_v2_area_(const fia_tensor *t) {
    ptrdiff_t stride[6];
    int axis;
    for (axis = 0; axis < t->ndim; ++axis) stride[axis] = fia_v2_step_(t, axis);
    return fia_area_of_(t->data, stride, t->shape, t->ndim, (int64_t)fia_dtype_bytes(t->dtype));
}

/* A tensor with elements has data, aligned, and no output lies over it. */
static int fia_v2_check_address_(fia_v2_call_ *c, int i) {
    const char *aligned = "this is its misalignment, data lies at a multiple of #";
    const fia_tensor *t = c->t[i];
    const int64_t bytes = (int64_t)fia_dtype_bytes(t->dtype);
    int64_t off;
    char value[48];
    int out;
    if (!fia_v2_given_(t) || fia_v2_numel_(t) == 0) return 1;
    if (!t->data) return fia_v2_bad_(c, i, "NULL", "it has elements and needs data");
    off = (int64_t)((uintptr_t)t->data % (uintptr_t)bytes);
    if (off) return fia_v2_bad_int_(c, fia_v2_fields_[i].name, off, aligned, bytes, 0);
    if (i == FIA_V2_MASK_ && c->args->sparse_mode >= 2) return 1; /* a shape alone: its content is not read */
    for (out = FIA_V2_OUT_; out <= FIA_V2_LSE_ && out != i; ++out) {
        if (!fia_areas_meet_(fia_v2_area_(c->t[out]), fia_v2_area_(t))) continue;
        fia_text_join_(value, sizeof(value), "laid over ", fia_v2_fields_[i].name);
        return fia_v2_bad_(c, out, value, "outputs share no byte with another tensor");
    }
    return 1;
}

/* The plan is this door's, the call is the planned one, the addresses are usable. */
static fia_status fia_v2_check_run_(fia_v2_call_ *c, const fia_plan *plan, const fia_v2_args_ *args,
                                    fia_report *report) {
    const char *version = "this is its version, the library's is #", *op = "this is its operator, # is needed";
    uint32_t each[FIA_V2_ARGUMENTS_];
    int64_t b;
    int i, ok;
    if (!plan) return fia_refuse_text_(report, "plan", "NULL", "a plan is needed");
    if (!args) return fia_refuse_text_(report, "args", "NULL", "arguments are needed");
    if (plan->version != FIA_VERSION) return fia_refuse_(report, "plan", plan->version, version, FIA_VERSION, 0);
    if (plan->op != 1) return fia_refuse_(report, "plan", plan->op, op, 1, 0);
    if (plan->digest != fia_v2_digest_(&plan->problem, args, &args->attention_out, &args->softmax_lse, each)) {
        return fia_v2_refuse_change_(plan, args, each, report);
    }
    fia_v2_begin_(c, args, NULL, report);
    ok = fia_v2_find_layout_(c);
    for (i = 0; i < FIA_V2_TENSORS_ && ok; ++i) ok = fia_v2_check_address_(c, i);
    for (b = 0; b < fia_v2_list_length_(&plan->problem, args) && ok; ++b) {
        c->t[FIA_V2_KEY_] = &args->key_list[b];
        c->t[FIA_V2_VALUE_] = &args->value_list[b];
        ok = fia_v2_check_address_(c, FIA_V2_KEY_) && fia_v2_check_address_(c, FIA_V2_VALUE_);
    }
    return c->status;
}

/* The io of a call that fia_v2_check_run_ let through. */
static fia_status fia_v2_make_io_(fia_v2_call_ *c, const fia_problem *p, fia_io *io) {
    const fia_v2_args_ *a = c->args;
    fia_io_init(io);
    io->n_sequences = fia_v2_numel_(&a->query) ? p->n_sequences : 0;
    if (io->n_sequences == 0) return fia_ok_(c->report);
    io->query = a->query.data;
    io->query_rope = a->query_rope.data;
    io->key = a->key.data;
    io->key_rope = a->key_rope.data;
    io->value = a->value.data;
    if (p->keys == FIA_KEYS_LIST) {
        io->key_list = &a->key_list[0].data;
        io->value_list = &a->value_list[0].data;
        io->list_bytes = (ptrdiff_t)sizeof(fia_tensor);
    }
    io->out = a->attention_out.data;
    if (p->want_lse) io->lse = (float *)a->softmax_lse.data;
    io->block_table = (const int32_t *)a->block_table.data;
    io->bias = a->pse_shift.data;
    if (p->drop_mask.dtype != FIA_NONE) io->drop_mask = a->atten_mask.data;
    io->sinks = a->learnable_sink.data;
    io->key_scale = a->dequant_scale_key.data;
    io->key_offset = a->dequant_offset_key.data;
    io->value_scale = a->dequant_scale_value.data;
    io->value_offset = a->dequant_offset_value.data;
    io->out_scale = a->quant_scale_out.data;
    io->out_offset = a->quant_offset_out.data;
    io->stream = a->stream;
    return fia_v2_set_lengths_(c, p, io) && fia_v2_check_values_(c, p, io) ? fia_ok_(c->report) : c->status;
}

/* ---- the door ---- */

FIA_API void fia_fused_infer_attention_score_v2_init(fia_fused_infer_attention_score_v2_args *args) {
    memset(args, 0, sizeof(*args));
    args->num_query_heads = 1;
    args->softmax_scale = 1.0;
    args->pre_tokens = INT32_MAX;
    args->next_tokens = INT32_MAX;
    args->input_layout = "BSH";
}

FIA_API fia_status fia_fused_infer_attention_score_v2_outputs(fia_fused_infer_attention_score_v2_args *args,
                                                              fia_report *report) {
    fia_v2_args_ inputs;
    fia_problem problem;
    fia_v2_call_ c;
    fia_status s;
    if (!args) return fia_refuse_text_(report, "args", "NULL", "arguments are needed");
    inputs = *args;
    memset(&inputs.attention_out, 0, sizeof(inputs.attention_out));
    memset(&inputs.softmax_lse, 0, sizeof(inputs.softmax_lse));
    s = fia_v2_lower_(&c, &inputs, &problem, report);
    if (s == FIA_ERR_ARGUMENT) return s;
    args->attention_out = c.made_out;
    args->softmax_lse = c.made_lse;
    return fia_ok_(report);
}

/* Asks the backend; s is the engine's verdict on made, which holds where the backend declines. */
static fia_status fia_v2_offer_(const fia_v2_args_ *args, fia_plan *made, fia_status s, fia_report *report) {
    fia_plan offered = *made;
    fia_report answer;
    fia_status b;
    if (!made->context->backend) return s;
    (void)fia_ok_(&answer);
    offered.workspace_bytes = 0;
    b = made->context->backend->plan("fused_infer_attention_score_v2", args, &offered, &answer);
    if (b == FIA_ERR_NOT_IN_BUILD) return s;
    if (b == FIA_OK) {
        offered.on_backend = 1;
        *made = offered;
    } else if (report) {
        *report = answer;
        report->status = b;
    }
    return b;
}

FIA_API fia_status fia_fused_infer_attention_score_v2_plan(const struct fia_context *context,
                                                           const fia_fused_infer_attention_score_v2_args *args,
                                                           int max_workers, fia_plan *plan, fia_report *report) {
    fia_problem problem;
    fia_plan made;
    fia_v2_call_ c;
    fia_status s;
    if (!args) return fia_refuse_text_(report, "args", "NULL", "arguments are needed");
    if (!plan) return fia_refuse_text_(report, "plan", "NULL", "room for a plan is needed");
    if (max_workers < 1 || max_workers > 4096) {
        return fia_refuse_(report, "max_workers", max_workers, "# to # are allowed", 1, 4096);
    }
    s = fia_v2_lower_(&c, args, &problem, report);
    if (s == FIA_ERR_ARGUMENT) return s;
    if (c.empty) { /* a call that writes nothing: any small problem serves, it is run with 0 sequences */
        fia_problem_init(&problem);
        problem.max_q_len = 1;
        problem.max_kv_len = 1;
        problem.dim = 1;
        problem.value_dim = 1;
        s = FIA_OK;
    }
    memset(&made, 0, sizeof(made)); /* where the engine lacks it: a plan for the backend alone */
    made.version = FIA_VERSION;
    made.max_workers = max_workers;
    made.problem = problem;
    made.context = fia_context_or_default_(context);
    if (s == FIA_OK) {
        s = fia_plan_make(context, &problem, max_workers, &made, report);
        if (s != FIA_OK) fia_v2_rename_(report);
        if (s != FIA_OK && s != FIA_ERR_NOT_IN_BUILD) return s;
    }
    made.op = 1;
    made.digest = fia_v2_digest_(&made.problem, args, &c.made_out, &c.made_lse, made.digests);
    if (!c.empty) s = fia_v2_offer_(args, &made, s, report);
    if (s != FIA_OK) return s;
    *plan = made;
    return fia_ok_(report);
}

FIA_API fia_status fia_fused_infer_attention_score_v2_io(const fia_plan *plan,
                                                         const fia_fused_infer_attention_score_v2_args *args,
                                                         fia_io *io, fia_report *report) {
    fia_v2_call_ c;
    fia_io made;
    fia_status s = fia_v2_check_run_(&c, plan, args, report);
    if (s != FIA_OK) return s;
    if (!io) return fia_refuse_text_(report, "io", "NULL", "room for an io is needed");
    if (plan->on_backend) return fia_refuse_text_(report, "plan", "on the backend", "such a plan runs as a whole");
    s = fia_v2_make_io_(&c, &plan->problem, &made);
    if (s == FIA_OK) *io = made;
    return s;
}

FIA_API fia_status fia_fused_infer_attention_score_v2_run(const fia_plan *plan,
                                                          const fia_fused_infer_attention_score_v2_args *args,
                                                          void *workspace, size_t workspace_bytes,
                                                          const fia_workers *workers, fia_report *report) {
    fia_v2_call_ c;
    fia_job job;
    fia_io io;
    fia_status s = fia_v2_check_run_(&c, plan, args, report);
    if (s != FIA_OK) return s;
    if (plan->on_backend) {
        const fia_backend *backend = fia_context_or_default_(plan->context)->backend;
        if (workspace_bytes < plan->workspace_bytes || (!workspace && plan->workspace_bytes)) {
            return fia_refuse_(report, "workspace_bytes", workspace ? (int64_t)workspace_bytes : 0,
                               "the plan needs # bytes", (int64_t)plan->workspace_bytes, 0);
        }
        (void)fia_ok_(report);
        s = backend->run("fused_infer_attention_score_v2", plan, args, workspace, workspace_bytes, report);
        if (report) report->status = s;
        return s;
    }
    s = fia_v2_make_io_(&c, &plan->problem, &io);
    if (s != FIA_OK) return s;
    job.plan = plan;
    job.io = &io;
    job.workspace = workspace;
    job.workspace_bytes = workspace_bytes;
    if (fia_v2_numel_(&args->query)) s = fia_run(&job, workers, report);
    if (s != FIA_OK) fia_v2_rename_(report);
    else if (!args->return_softmax_lse && fia_v2_given_(&args->softmax_lse) && fia_v2_numel_(&args->softmax_lse) == 1) {
        *(float *)args->softmax_lse.data = 0;
    }
    return s;
}

#ifdef __cplusplus
}
#endif
#endif /* FIA_IMPLEMENTATION */

/*
 * MIT License
 *
 * Copyright (c) 2026 The FIA authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy
 * of this software and associated documentation files (the "Software"), to deal
 * in the Software without restriction, including without limitation the rights
 * to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
 * copies of the Software, and to permit persons to whom the Software is
 * furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all
 * copies or substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
 * IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
 * FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
 * AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
 * LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
 * SOFTWARE.
 */
