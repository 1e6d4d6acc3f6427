/* SPDX-License-Identifier: MIT
 *
 * The fp64 oracle: attention as the comment of fia_problem says it, row by row, in four plain passes
 * (scores, modifiers, softmax, values). It shares no code with the bodies of fia.h.
 */
#ifndef FIA_TEST_ORACLE_H
#define FIA_TEST_ORACLE_H

#include "fia.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Where keys and values come from, if not from the places that problem and io name. Any member may be NULL.
 * b is the sequence, h the KV head, j the local key position, i the element (of a key: D elements, then Dr of the rope).
 */
typedef struct oracle_source {
    double (*key)(const void *data, int64_t b, int32_t h, int64_t j, int32_t i);
    double (*value)(const void *data, int64_t b, int32_t h, int64_t j, int32_t i);
    /** Gathered lists: entries of the list of local row r, and the key position of an entry; -1: none. */
    int64_t (*entries)(const void *data, int64_t b, int32_t h, int64_t r);
    int64_t (*position)(const void *data, int64_t b, int32_t h, int64_t r, int64_t entry);
    const void *data;
} oracle_source;

typedef struct oracle_call {
    const fia_problem *problem;
    const fia_io *io;
    const oracle_source *source; /**< NULL: problem and io */
} oracle_call;

/** One sequence of a call: where its rows and keys begin (packed tensors), how many there are, and their global places. */
typedef struct oracle_sequence {
    int64_t index;
    int64_t q_start, q_len, kv_start, kv_len;
    int64_t q_offset, kv_offset;
} oracle_sequence;

/** What is known of a row beside its output. */
typedef struct oracle_row_info {
    double lse;     /**< natural log, without the sink; lse_empty where nothing is kept */
    int64_t kept;   /**< keys that the row keeps */
    double mass;    /**< largest magnitude that a weighty logit went through: |q.k * scale|, |bias|, |ALiBi|, |mask| */
    double reach;   /**< largest |q| * |k| * scale of a kept key: what the partial sums of its dot product may reach */
    double largest; /**< largest finite |v| of a kept key */
    double spread;  /**< sum of p * |v| over |sum of p * v|, as norms: how much cancels */
} oracle_row_info;

/** Scratch that grows and is used again: the converted keys and values of one (sequence, KV head). */
typedef struct oracle_work {
    double *keys, *norms, *values, *scores, *row;
    float *row32, *scores32;
    unsigned char *loaded;
    size_t keys_room, norms_room, values_room, scores_room, row_room, row32_room, scores32_room, loaded_room;
    int64_t sequence, key_rows;
    int32_t kv_head;
} oracle_work;

/** Element `index` of an array of a stored type (f32, f16, bf16, integers, 4-bit integers), widened. */
double oracle_decode(fia_dtype dtype, const void *data, int64_t index);

/** Stores a number as an element; rounds to nearest even, integers saturate. */
void oracle_encode(fia_dtype dtype, double value, void *data, int64_t index);

/** Half of the gap between the values of a stored float type around x; 0 for f32 (its rounding is in the bounds). */
double oracle_half_ulp(fia_dtype dtype, double x);

void oracle_find_sequence(const oracle_call *call, int64_t b, oracle_sequence *s);

/** 1 if length, causal and window let local row r see local key j. */
int oracle_in_bounds(const oracle_call *call, const oracle_sequence *s, int64_t r, int64_t j);

/** 1 if some row of the sequence sees key j by length, causal and window. */
int oracle_any_row_in_bounds(const oracle_call *call, const oracle_sequence *s, int64_t j);

/** 1 if row r of query head h keeps key j: bounds, drop mask, -inf in bias and additive mask. */
int oracle_keeps(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, int64_t j);

void oracle_work_init(oracle_work *work);
void oracle_work_free(oracle_work *work);

/** Forgets the converted keys; call it when problem, io or data have changed. */
void oracle_work_reset(oracle_work *work);

/** Output row (Dv elements, before any rounding to the output's type) of query head h, local row r. */
void oracle_row(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, oracle_work *work, double *out,
                oracle_row_info *info);

/** The same as a naive program computes it: f32 scalars, index order, expf, one accumulator. */
void oracle_row_naive(const oracle_call *call, const oracle_sequence *s, int32_t h, int64_t r, oracle_work *work,
                      float *out, float *lse);

#ifdef __cplusplus
}
#endif
#endif
