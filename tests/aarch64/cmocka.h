/* SPDX-License-Identifier: MIT
 *
 * What our tests use of cmocka, for programs that are cross compiled: Debian has no cmocka for a machine that is only
 * emulated. The first assertion that fails ends the program. Everywhere else the tests run on cmocka itself.
 */
#ifndef FIA_TEST_CMOCKA_STAND_IN_H
#define FIA_TEST_CMOCKA_STAND_IN_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
};

__attribute__((noreturn)) static inline void stand_in_fail(const char *what, const char *file, int line) {
    printf("%s:%d: %s\n[  FAILED  ]\n", file, line, what);
    fflush(stdout);
    exit(1);
}

static inline int stand_in_run(const struct CMUnitTest *tests, size_t n) {
    size_t i;
    for (i = 0; i < n; ++i) {
        void *state = NULL;
        printf("[ RUN      ] %s\n", tests[i].name);
        fflush(stdout);
        tests[i].test(&state);
    }
    printf("[  PASSED  ] %d test(s).\n", (int)n);
    return 0;
}

#define STAND_IN_CHECK(holds) ((holds) ? (void)0 : stand_in_fail(#holds, __FILE__, __LINE__))
#define assert_true(x) STAND_IN_CHECK((x) != 0)
#define assert_null(x) STAND_IN_CHECK((x) == NULL)
#define assert_non_null(x) STAND_IN_CHECK((x) != NULL)
#define assert_ptr_equal(a, b) STAND_IN_CHECK((const void *)(a) == (const void *)(b))
#define assert_int_equal(a, b) STAND_IN_CHECK((int64_t)(a) == (int64_t)(b))
#define assert_int_not_equal(a, b) STAND_IN_CHECK((int64_t)(a) != (int64_t)(b))
#define assert_string_equal(a, b) STAND_IN_CHECK(strcmp((a), (b)) == 0)
#define assert_memory_equal(a, b, n) STAND_IN_CHECK(memcmp((a), (b), (n)) == 0)
#define fail_msg(...) (printf(__VA_ARGS__), stand_in_fail("fail_msg", __FILE__, __LINE__))
#define print_message(...) printf(__VA_ARGS__)
#define print_error(...) printf(__VA_ARGS__)
#define cmocka_unit_test(function)                                                                                     \
    { #function, function }
#define cmocka_set_test_filter(pattern) ((void)(pattern))
#define cmocka_run_group_tests(tests, setup, teardown) stand_in_run((tests), sizeof(tests) / sizeof((tests)[0]))

#endif
