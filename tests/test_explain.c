/* SPDX-License-Identifier: MIT */
/* What fia_explain says, and the small questions: version, names, sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fia.h"

static void plan_of_one_row(fia_plan *plan) {
    fia_problem p;
    fia_report report;
    fia_problem_init(&p);
    p.max_q_len = p.max_kv_len = 1;
    p.dim = p.value_dim = 8;
    p.key.dtype = p.value.dtype = FIA_F16;
    assert_int_equal(fia_plan_make(NULL, &p, 1, plan, &report), FIA_OK);
    assert_string_equal(report.text, "");
}

static void names_every_choice(void **state) {
    static const char *const key[] = {"target: ", "lanes: ",    "cpu: ",        "stream kernel: ", "tile kernel: ",
                                      "codecs: ", "key form: ", "chunk base: ", "workspace: "};
    char text[2048];
    fia_plan plan;
    size_t i, n;
    (void)state;
    plan_of_one_row(&plan);
    n = fia_explain(&plan, NULL, text, sizeof text);
    assert_int_equal(n, strlen(text));
    for (i = 0; i < sizeof key / sizeof key[0]; ++i) assert_non_null(strstr(text, key[i]));
    assert_null(strstr(text, "families: "));
}

static void bodies_are_built_without_contraction(void **state) {
    char text[2048];
    (void)state;
    fia_explain(NULL, NULL, text, sizeof text);
    assert_non_null(strstr(text, "contraction: off"));
}

enum { MOST_HEADS = 65 };

/* What fia_explain says after a run of one token, its heads alike, on keys that are all one row. */
static void explain_run(const fia_plan *plan, int64_t kv_offset, char *text, size_t bytes) {
    float q[8] = {0}, out[MOST_HEADS * 8];
    uint16_t kv[8] = {0};
    fia_io io;
    fia_job job;
    fia_io_init(&io);
    io.query = q;
    io.key = io.value = kv;
    io.out = out;
    io.kv_offset.data = &kv_offset;
    io.kv_offset.dtype = FIA_I64;
    job.plan = plan;
    job.io = &io;
    job.workspace_bytes = plan->workspace_bytes;
    job.workspace = malloc(job.workspace_bytes);
    assert_non_null(job.workspace);
    assert_int_equal(fia_run(&job, NULL, NULL), FIA_OK);
    fia_explain(plan, &job, text, bytes);
    free(job.workspace);
}

static void tells_what_a_run_did(void **state) {
    char text[2048];
    fia_plan plan;
    (void)state;
    plan_of_one_row(&plan);
    explain_run(&plan, 0, text, sizeof text);
    assert_non_null(strstr(text, "families: stream 1, tile 0"));
}

static int64_t number_behind(const char *text, const char *key) {
    const char *at = strstr(text, key);
    assert_non_null(at);
    return strtoll(at + strlen(key), NULL, 10);
}

/* The chunk that a run on n keys takes, by what fia_explain says. */
static int64_t chunk_of(int64_t n, int64_t kv_offset, int64_t *base) {
    char text[2048];
    fia_problem p;
    fia_plan plan;
    fia_problem_init(&p);
    p.max_q_len = 1;
    p.max_kv_len = n;
    p.dim = p.value_dim = 8;
    p.key.dtype = p.value.dtype = FIA_F16;
    assert_int_equal(fia_plan_make(NULL, &p, 1, &plan, NULL), FIA_OK);
    explain_run(&plan, kv_offset, text, sizeof text);
    *base = number_behind(text, "chunk base: ");
    return number_behind(text, "longest chunk: ");
}

/* base * 2^k with the smallest k that gives at most 32 chunks on the grid of global keys. */
static void chunks_are_as_short_as_the_rule_says(void **state) {
    static const int64_t around[] = {-1, 0, 1};
    int64_t base, k, i, offset;
    (void)state;
    chunk_of(1, 0, &base);
    for (k = 0; k < 5; ++k)
        for (i = 0; i < 3; ++i)
            for (offset = -1; offset <= base + 1; offset += base / 2 + 1) {
                const int64_t n = (32 * base << k) + around[i], first = offset < 0 ? 7 * base - 1 : offset;
                int64_t chunk = base;
                while ((first + n - 1) / chunk - first / chunk + 1 > 32) chunk *= 2;
                assert_int_equal(chunk_of(n, first, &base), chunk);
            }
}

/* The family of a token whose `heads` query heads share one KV head; pieces: keys that lie in pieces. */
static void family_of(int heads, int pieces, char *text, size_t bytes) {
    fia_problem p;
    fia_plan plan;
    fia_problem_init(&p);
    p.max_q_len = p.max_kv_len = 1;
    p.n_q_heads = heads;
    p.dim = p.value_dim = 8;
    p.key.dtype = p.value.dtype = FIA_F16;
    p.out.head_bytes = 8 * sizeof(float);
    p.key.piece_elements = pieces ? 4 : 0;
    p.key.piece_bytes = 8;
    assert_int_equal(fia_plan_make(NULL, &p, 1, &plan, NULL), FIA_OK);
    explain_run(&plan, 0, text, bytes);
}

static void few_rows_per_head_are_the_stream_familys(void **state) {
    char text[2048];
    int pieces, most;
    (void)state;
    family_of(1, 0, text, sizeof text);
    most = (int)number_behind(text, "stream up to rows per KV head: ");
    for (pieces = 0; pieces <= 1; ++pieces) {
        assert_true(most >= FIA_STREAM_ROWS && most < MOST_HEADS);
        family_of(most, pieces, text, sizeof text);
        assert_non_null(strstr(text, "families: stream 1, tile 0"));
        family_of(most + 1, pieces, text, sizeof text);
        assert_non_null(strstr(text, "families: stream 0, tile 1"));
    }
}

#if defined(__GNUC__) && defined(__x86_64__)
static void the_cpu_has_what_the_compiler_library_finds(void **state) {
    fia_cpu cpu;
    const int v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    const int v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const int v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl");
    (void)state;
    fia_cpu_detect(&cpu);
    assert_int_equal(cpu.sse2, 1);
    assert_int_equal(cpu.v2, v2);
    assert_int_equal(cpu.v3, v3);
    assert_int_equal(cpu.v4, v4);
    assert_int_equal(cpu.avx512_vnni, v4 && __builtin_cpu_supports("avx512vnni"));
    assert_int_equal(cpu.avx512_bf16, v4 && __builtin_cpu_supports("avx512bf16"));
    assert_int_equal(cpu.neon, 0);
}
#endif

static void cuts_the_text_and_returns_its_length(void **state) {
    char text[2048], room[16];
    size_t n;
    (void)state;
    n = fia_explain(NULL, NULL, text, sizeof text);
    memset(room, 'x', sizeof room);
    assert_int_equal(fia_explain(NULL, NULL, room, 10), n);
    assert_int_equal(strlen(room), 9);
    assert_memory_equal(room, text, 9);
    assert_int_equal(room[10], 'x');
    assert_int_equal(fia_explain(NULL, NULL, NULL, 0), n);
}

static void plans_are_small_and_versions_agree(void **state) {
    (void)state;
    assert_true(sizeof(fia_plan) <= 2048);
    assert_int_equal(fia_version(), FIA_VERSION);
    assert_string_equal(fia_status_text(FIA_ERR_NOT_IN_BUILD), "not in this build");
    assert_string_equal(fia_dtype_text(FIA_BF16), "bf16");
    assert_int_equal(fia_dtype_bytes(FIA_I4), 0);
    assert_int_equal(fia_dtype_bytes(FIA_I64), 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_every_choice),
        cmocka_unit_test(bodies_are_built_without_contraction),
        cmocka_unit_test(tells_what_a_run_did),
        cmocka_unit_test(chunks_are_as_short_as_the_rule_says),
        cmocka_unit_test(few_rows_per_head_are_the_stream_familys),
#if defined(__GNUC__) && defined(__x86_64__)
        cmocka_unit_test(the_cpu_has_what_the_compiler_library_finds),
#endif
        cmocka_unit_test(cuts_the_text_and_returns_its_length),
        cmocka_unit_test(plans_are_small_and_versions_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
