/* SPDX-License-Identifier: MIT
 *
 * Calls that between them meet both families, every built-in type, key bounds at odd places, every modifier and (with
 * FIA_CHUNK=32) every part of the chunk rule.
 */
#ifndef FIA_TEST_CALL_SCENARIOS_H
#define FIA_TEST_CALL_SCENARIOS_H

#include "call.h"

static inline void scenario_heads(call_spec *s, int32_t kv, int32_t group, int32_t D, int32_t Dv) {
    s->Hkv = kv;
    s->G = group;
    s->D = D;
    s->Dv = Dv;
}

static inline void scenario_dtypes(call_spec *s, fia_dtype q, fia_dtype k, fia_dtype v, fia_dtype out) {
    s->q = q;
    s->k = k;
    s->v = v;
    s->out = out;
}

static inline void scenario_sequence(call_spec *s, int64_t q_len, int64_t kv_len, int64_t q_offset, int64_t kv_offset) {
    call_sequence *one = &s->sequence[s->n++];
    memset(one, 0, sizeof *one);
    one->id = s->n;
    one->q_len = q_len;
    one->kv_len = kv_len;
    one->q_offset = q_offset;
    one->kv_offset = kv_offset;
}

/* Decode steps, one of them longer than 32 chunks: 2 and 4 chunks of the base to a chunk. */
static inline void scenario_decode_long(call_spec *s) {
    scenario_heads(s, 1, 3, 16, 24);
    scenario_dtypes(s, FIA_F32, FIA_F16, FIA_F16, FIA_F32);
    scenario_sequence(s, 1, 1401, 0, 0);
    scenario_sequence(s, 1, 77, 0, 0);
    scenario_sequence(s, 1, 2100, 0, 0);
}

/* One sequence whose heads lie side by side: its keys are cut for all heads at once. */
static inline void scenario_decode_alone(call_spec *s) {
    scenario_heads(s, 3, 2, 16, 24);
    scenario_dtypes(s, FIA_F32, FIA_BF16, FIA_F16, FIA_F32);
    scenario_sequence(s, 1, 1010, 2000, 900);
    s->offsets = 1;
}

static inline void scenario_decode_heads_of_one(call_spec *s) {
    scenario_heads(s, 3, 1, 17, 19);
    scenario_sequence(s, 1, 300, 0, 0);
    scenario_sequence(s, 1, 1, 0, 0);
    scenario_sequence(s, 2, 65, 0, 0);
    s->causal = 1;
}

/* A shard that begins at an odd global key, with a window of odd width. */
static inline void scenario_decode_window_offset(call_spec *s) {
    scenario_heads(s, 2, 4, 16, 16);
    scenario_dtypes(s, FIA_BF16, FIA_BF16, FIA_BF16, FIA_BF16);
    scenario_sequence(s, 1, 611, 12345 + 613, 12345);
    scenario_sequence(s, 2, 1100, 1000, -77);
    s->offsets = s->causal = 1;
    s->window_left = 501;
    s->sinks = FIA_F32;
}

static inline void scenario_decode_modifiers(call_spec *s) {
    scenario_heads(s, 2, 2, 32, 24);
    scenario_dtypes(s, FIA_F16, FIA_F16, FIA_BF16, FIA_F32);
    scenario_sequence(s, 3, 203, 0, 0);
    scenario_sequence(s, 1, 90, 0, 0);
    s->bias = FIA_F16;
    s->additive = FIA_F32;
    s->factor = FIA_F32;
    s->drop = FIA_BOOL;
    s->slopes = FIA_F32;
    s->softcap = 5;
}

static inline void scenario_decode_rope_value_in_key(call_spec *s) {
    scenario_heads(s, 1, 8, 48, 32);
    scenario_dtypes(s, FIA_BF16, FIA_BF16, FIA_BF16, FIA_F32);
    s->Dr = 16;
    s->value_in_key = 1;
    scenario_sequence(s, 1, 500, 0, 0);
    scenario_sequence(s, 1, 33, 0, 0);
}

static inline void scenario_prefill_causal(call_spec *s) {
    scenario_heads(s, 2, 2, 32, 32);
    scenario_dtypes(s, FIA_F32, FIA_F16, FIA_F16, FIA_F32);
    scenario_sequence(s, 61, 61, 0, 0);
    scenario_sequence(s, 40, 333, 0, 0);
    scenario_sequence(s, 9, 9, 0, 0);
    s->causal = 1;
    s->sinks = FIA_F16;
}

static inline void scenario_prefill_window_offset(call_spec *s) {
    scenario_heads(s, 1, 3, 19, 21);
    scenario_sequence(s, 37, 170, 999 + 150, 999);
    scenario_sequence(s, 50, 90, -5, -33);
    s->offsets = s->causal = 1;
    s->window_left = 45;
}

/* Wider than two blocks of keys: where a row's keys begin and end is seen in its bits unless the grid is global. */
static inline void scenario_prefill_wide_window(call_spec *s) {
    scenario_heads(s, 1, 2, 16, 16);
    scenario_sequence(s, 40, 420, 777 + 380, 777);
    scenario_sequence(s, 33, 201, 90, -41);
    s->offsets = s->causal = 1;
    s->window_left = 155;
}

static inline void scenario_prefill_band(call_spec *s) {
    scenario_heads(s, 2, 1, 16, 16);
    scenario_dtypes(s, FIA_BF16, FIA_BF16, FIA_BF16, FIA_F16);
    scenario_sequence(s, 70, 100, 3, 0);
    scenario_sequence(s, 33, 35, 0, 7);
    s->offsets = 1;
    s->window_left = 20;
    s->window_right = -3;
}

static inline void scenario_prefill_modifiers(call_spec *s) {
    scenario_heads(s, 2, 2, 20, 12);
    scenario_dtypes(s, FIA_F16, FIA_BF16, FIA_F16, FIA_BF16);
    scenario_sequence(s, 30, 77, 0, 0);
    scenario_sequence(s, 25, 40, 0, 0);
    s->bias = FIA_F32;
    s->bias_before_scale = 1;
    s->additive = FIA_BF16;
    s->drop = FIA_U8;
    s->slopes = FIA_F16;
    s->softcap = 3;
    s->causal = 1;
}

static inline void scenario_prefill_mask_long(call_spec *s) {
    scenario_heads(s, 1, 1, 16, 16);
    scenario_sequence(s, 30, 1300, 0, 0);
    scenario_sequence(s, 20, 64, 0, 0);
    s->drop = FIA_I8;
}

static inline void scenario_prefill_rope(call_spec *s) {
    scenario_heads(s, 1, 2, 32, 32);
    s->Dr = 16;
    s->value_in_key = 1;
    scenario_dtypes(s, FIA_F16, FIA_F16, FIA_F16, FIA_F16);
    scenario_sequence(s, 45, 130, 0, 0);
    scenario_sequence(s, 20, 20, 0, 0);
    s->causal = 1;
}

/* Rows of keys lie close head-major and far apart token-major, on either side of where pieces change their length. */
static inline void scenario_decode_wide_group(call_spec *s) {
    scenario_heads(s, 4, 5, 40, 40);
    scenario_dtypes(s, FIA_F16, FIA_F16, FIA_F16, FIA_F32);
    scenario_sequence(s, 1, 333, 3, 0);
    scenario_sequence(s, 1, 50, 0, 0);
    s->causal = 1;
    s->sinks = FIA_F32;
}

/* Six rows per KV head go in two blocks, where lanes are few; their tokens see different keys. */
static inline void scenario_tokens_alone(call_spec *s) {
    scenario_heads(s, 3, 2, 24, 24);
    scenario_dtypes(s, FIA_F32, FIA_F16, FIA_F16, FIA_F32);
    scenario_sequence(s, 3, 900, 0, 0);
    s->causal = 1;
    s->window_left = 700;
}

static inline void scenario_both_families(call_spec *s) {
    scenario_heads(s, 2, 2, 24, 24);
    scenario_dtypes(s, FIA_F32, FIA_BF16, FIA_F32, FIA_F32);
    scenario_sequence(s, 1, 400, 0, 0);
    scenario_sequence(s, 60, 200, 0, 0);
    scenario_sequence(s, 0, 50, 0, 0);
    scenario_sequence(s, 3, 0, 0, 0);
    scenario_sequence(s, 4, 70, 0, 0);
    s->causal = 1;
}

enum { SCENARIOS = 16 };

static inline const char *scenario_name(int k) {
    static const char *const name[SCENARIOS] = {
        "decode over more than 32 chunks",
        "decode of one sequence",
        "decode, a query head per KV head",
        "decode with a window at an odd offset",
        "decode with every modifier",
        "decode with rope, values in keys",
        "causal prefill",
        "prefill with a window at an odd offset",
        "prefill with a wide window at an odd offset",
        "prefill with a band",
        "prefill with every modifier",
        "prefill over more than 32 chunks with a mask",
        "prefill with rope, values in keys",
        "both families in a batch",
        "decode of a wide group",
        "tokens of one sequence",
    };
    return name[k];
}

/** Scenario k of SCENARIOS. */
static inline void scenario_spec(int k, call_spec *spec) {
    static void (*const set[SCENARIOS])(call_spec *) = {
        scenario_decode_long,          scenario_decode_alone,          scenario_decode_heads_of_one,
        scenario_decode_window_offset, scenario_decode_modifiers,      scenario_decode_rope_value_in_key,
        scenario_prefill_causal,       scenario_prefill_window_offset, scenario_prefill_wide_window,
        scenario_prefill_band,         scenario_prefill_modifiers,     scenario_prefill_mask_long,
        scenario_prefill_rope,         scenario_both_families,         scenario_decode_wide_group,
        scenario_tokens_alone,
    };
    call_spec_init(spec);
    spec->n = 0;
    set[k](spec);
}

#endif
