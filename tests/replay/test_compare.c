/* SPDX-License-Identifier: MIT */
/* The parts of fia-replay that no operator of this build reaches, or not with every input. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "compare.h"
#include "dtype.h"
#include "text.h"

static compare_result compare_rows(fia_dtype dtype, const void *got, const void *want, int64_t rows, int64_t columns,
                                   compare_rule rule) {
    call_output output;
    st_tensor expected;
    compare_result result;
    memset(&output, 0, sizeof(output));
    memset(&expected, 0, sizeof(expected));
    output.name = "out";
    output.tensor.data = (void *)(uintptr_t)got;
    output.tensor.dtype = dtype;
    output.tensor.ndim = expected.ndim = 2;
    output.tensor.shape[0] = expected.shape[0] = rows;
    output.tensor.shape[1] = expected.shape[1] = columns;
    expected.type = dtype_by_code(dtype);
    expected.data = (void *)(uintptr_t)want;
    compare_output(&output, &expected, &rule, &result);
    return result;
}

static compare_result compare_sets(const int32_t *got, const int32_t *want, int64_t rows, int64_t columns,
                                   double max_bad) {
    compare_rule rule = {COMPARE_SET, 0, 0, 0};
    rule.max_bad = max_bad;
    return compare_rows(FIA_I32, got, want, rows, columns, rule);
}

static void sets_ignore_the_order_within_a_row(void **state) {
    const int32_t got[] = {3, 1, 2, -1, 5, 4, 6, 7}, want[] = {1, 2, 3, -1, 4, 5, 6, 7};
    const int32_t moved[] = {4, 1, 2, -1, 5, 3, 6, 7};
    (void)state;
    assert_int_equal(compare_sets(got, want, 2, 4, 0).failed, 0);
    assert_int_equal(compare_sets(moved, want, 2, 4, 0).bad, 2);
    assert_int_equal(compare_sets(moved, want, 2, 4, 0).failed, 1);
    assert_int_equal(compare_sets(moved, want, 2, 4, 0.25).failed, 0);
}

static void sets_count_duplicates_and_fillers(void **state) {
    const int32_t want[] = {1, 1, 2, -1}, once[] = {1, 2, 3, -1}, fewer[] = {1, 1, -1, -1}, more[] = {1, 1, 2, 3};
    (void)state;
    assert_int_equal(compare_sets(once, want, 1, 4, 0).bad, 1);
    assert_int_equal(compare_sets(fewer, want, 1, 4, 0).bad, 1);
    assert_int_equal(compare_sets(more, want, 1, 4, 0).bad, 1);
}

static void sets_refuse_an_index_after_a_filler(void **state) {
    const int32_t want[] = {1, 2, -1, -1}, got[] = {1, -1, 2, -1};
    (void)state;
    assert_int_equal(compare_sets(got, want, 1, 4, 1).bad, 0);
    assert_int_equal(compare_sets(got, want, 1, 4, 1).failed, 1);
    assert_non_null(strstr(compare_sets(got, want, 1, 4, 1).why.text, "follows a -1"));
}

static void close_takes_the_edge_of_the_tolerance(void **state) {
    const double want[] = {-4, 0, 8}, got[] = {-4.5, 0.25, 8.5}, far[] = {-4.5, 0.25, 9};
    const compare_rule rule = {COMPARE_CLOSE, 0.0625, 0.25, 0};
    compare_result result = compare_rows(FIA_F64, got, want, 1, 3, rule);
    (void)state;
    assert_int_equal(result.failed, 0);
    assert_true(result.max_abs == 0.5);
    assert_true(result.max_rel == 0.125);
    assert_int_equal(compare_rows(FIA_F64, far, want, 1, 3, rule).bad, 1);
}

static void nan_and_infinity_pass_against_themselves_only(void **state) {
    const float values[] = {NAN, INFINITY, -INFINITY, 1};
    const compare_rule rule = {COMPARE_CLOSE, 1, 1000, 0};
    int i, j;
    (void)state;
    for (i = 0; i < 4; ++i) {
        for (j = 0; j < 4; ++j) {
            assert_int_equal(compare_rows(FIA_F32, &values[i], &values[j], 1, 1, rule).failed, i != j);
        }
    }
}

static void exact_tells_integers_apart_that_a_double_cannot(void **state) {
    const int64_t a = INT64_C(9007199254740993), b = INT64_C(9007199254740992);
    const compare_rule rule = {COMPARE_EXACT, 1, 1, 0};
    (void)state;
    assert_int_equal(compare_rows(FIA_I64, &a, &b, 1, 1, rule).bad, 1);
    assert_int_equal(compare_rows(FIA_I64, &a, &a, 1, 1, rule).bad, 0);
}

static void small_floats_widen_exactly(void **state) {
    static const struct {
        fia_dtype dtype;
        uint16_t bits;
        double value;
    } cases[] = {
        {FIA_F16, 0x3C00, 1.0},         {FIA_F16, 0x0001, 0x1p-24},     {FIA_F16, 0xFBFF, -65504.0},
        {FIA_F16, 0x0400, 0x1p-14},     {FIA_F16, 0x03FF, 0x1.FF8p-15}, {FIA_F16, 0x7C00, INFINITY},
        {FIA_F16, 0xFC00, -INFINITY},   {FIA_BF16, 0x3F80, 1.0},        {FIA_BF16, 0x0001, 0x1p-133},
        {FIA_BF16, 0x7F7F, 0x1.FEp127}, {FIA_BF16, 0xFF80, -INFINITY},  {FIA_F8_E4M3, 0x38, 1.0},
        {FIA_F8_E4M3, 0x01, 0x1p-9},    {FIA_F8_E4M3, 0x7E, 448.0},     {FIA_F8_E4M3, 0xFE, -448.0},
        {FIA_F8_E5M2, 0x3C, 1.0},       {FIA_F8_E5M2, 0x01, 0x1p-16},   {FIA_F8_E5M2, 0x7B, 57344.0},
        {FIA_F8_E5M2, 0xFC, -INFINITY},
    };
    const uint16_t half_nan = 0x7E00, brain_nan = 0xFFC0;
    const uint8_t e4m3_nan = 0x7F, e5m2_nan = 0x7D;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); ++i) {
        uint8_t byte = (uint8_t)cases[i].bits;
        int small = dtype_by_code(cases[i].dtype)->bytes == 1;
        const void *data = small ? (const void *)&byte : (const void *)&cases[i].bits;
        assert_true(dtype_widen(cases[i].dtype, data, 0) == cases[i].value);
    }
    assert_true(isnan(dtype_widen(FIA_F16, &half_nan, 0)));
    assert_true(isnan(dtype_widen(FIA_BF16, &brain_nan, 0)));
    assert_true(isnan(dtype_widen(FIA_F8_E4M3, &e4m3_nan, 0)));
    assert_true(isnan(dtype_widen(FIA_F8_E5M2, &e5m2_nan, 0)));
}

static void ones_of_every_type_widen_to_one(void **state) {
    static const char *const names[] = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2",
                                        "I64", "I32", "I16", "I8",   "U8",      "BOOL"};
    size_t i;
    (void)state;
    for (i = 0; i < sizeof(names) / sizeof(names[0]); ++i) {
        const dtype_info *type = dtype_by_name(names[i]);
        assert_non_null(type);
        assert_true(dtype_widen(type->dtype, &type->one, 0) == 1.0);
    }
}

static void sizes_that_overflow_are_found_behind_a_zero(void **state) {
    const int64_t fits[] = {INT64_C(1) << 31, INT64_C(1) << 31}, over[] = {0, INT64_C(1) << 31, INT64_C(1) << 32};
    (void)state;
    assert_true(dtype_tensor_bytes(1, 2, fits) == INT64_C(1) << 62);
    assert_true(dtype_tensor_bytes(2, 2, fits) == -1);
    assert_true(dtype_tensor_bytes(1, 3, over) == -1);
    assert_true(dtype_tensor_bytes(8, 0, NULL) == 8);
    assert_true(dtype_tensor_bytes(8, 1, over) == 0);
}

static void attribute_text_is_parsed_whole(void **state) {
    int64_t n, list[3];
    double x;
    int flag;
    (void)state;
    assert_int_equal(parse_int("-9223372036854775808", &n), 0);
    assert_true(n == INT64_MIN);
    assert_int_equal(parse_int("9223372036854775808", &n), -1);
    assert_int_equal(parse_int("+1", &n), -1);
    assert_int_equal(parse_int("0x10", &n), -1);
    assert_int_equal(parse_float("-inf", &x), 0);
    assert_true(isinf(x) && x < 0);
    assert_int_equal(parse_float("0x1p-3", &x), 0);
    assert_int_equal(parse_float(" 1", &x), -1);
    assert_int_equal(parse_bool("1", &flag), 0);
    assert_int_equal(parse_bool("10", &flag), -1);
    assert_int_equal(text_list_count(""), 0);
    assert_int_equal(text_list_count("3,-7,12"), 3);
    assert_int_equal(parse_int_list("3,-7,12", list), 0);
    assert_true(list[0] == 3 && list[1] == -7 && list[2] == 12);
    assert_int_equal(parse_int_list(",1", list), -1);
    assert_int_equal(parse_int_list("1,2,", list), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_ignore_the_order_within_a_row),
        cmocka_unit_test(sets_count_duplicates_and_fillers),
        cmocka_unit_test(sets_refuse_an_index_after_a_filler),
        cmocka_unit_test(close_takes_the_edge_of_the_tolerance),
        cmocka_unit_test(nan_and_infinity_pass_against_themselves_only),
        cmocka_unit_test(exact_tells_integers_apart_that_a_double_cannot),
        cmocka_unit_test(small_floats_widen_exactly),
        cmocka_unit_test(ones_of_every_type_widen_to_one),
        cmocka_unit_test(sizes_that_overflow_are_found_behind_a_zero),
        cmocka_unit_test(attribute_text_is_parsed_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
