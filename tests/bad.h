/* SPDX-License-Identifier: MIT
 *
 * What the tests of bad arguments share. A verdict is the list of rules that a call breaks; the library has to agree
 * with it: take the call where no rule is broken, else refuse it in one sentence that names an argument of a broken
 * rule and, wherever the test knows it, the value that was given.
 */
#ifndef FIA_TEST_BAD_H
#define FIA_TEST_BAD_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fia.h"
#include "seed.h"

#define BAD_SEED UINT64_C(20261121)

enum { BAD_RULES = 64, BAD_VALUES = 64, BAD_CANARY = 0xa5 };

/* ---- verdicts ---- */

/* What a value is, which says how a sentence shows it. Tests may add kinds of their own from KINDS on. */
typedef enum field_kind { UNKNOWN, BYTE, INT32, INT64, FLOAT, DOUBLE, DTYPE, WORD, KINDS } field_kind;

typedef struct shown {
    field_kind kind;
    int64_t number; /* INT64, DTYPE */
    const char *word;
} shown;

typedef struct verdict {
    int wrong, lacks, maybe; /* broken rules by kind; maybe: the call may be refused or not */
    int n;
    const char *names[BAD_RULES]; /* alternatives separated by '|' */
    shown values[BAD_RULES];
} verdict;

static inline void verdict_note(verdict *v, int *kind, int broken, const char *names, shown value) {
    if (!broken) return;
    ++*kind;
    if (v->n >= BAD_RULES) return;
    v->names[v->n] = names;
    v->values[v->n++] = value;
}

static inline shown shown_as(field_kind kind, int64_t number, const char *word) {
    shown g;
    g.kind = kind;
    g.number = number;
    g.word = word;
    return g;
}

static inline void wrong_if(verdict *v, int broken, const char *names) {
    verdict_note(v, &v->wrong, broken, names, shown_as(UNKNOWN, 0, NULL));
}
static inline void lacks_if(verdict *v, int broken, const char *names) {
    verdict_note(v, &v->lacks, broken, names, shown_as(UNKNOWN, 0, NULL));
}
static inline void maybe_if(verdict *v, int broken, const char *names) {
    verdict_note(v, &v->maybe, broken, names, shown_as(UNKNOWN, 0, NULL));
}

/* The same with the value that the sentence has to show. A word stands for all that begin with it. */
static inline void wrong_int(verdict *v, int broken, const char *names, int64_t value) {
    verdict_note(v, &v->wrong, broken, names, shown_as(INT64, value, NULL));
}
static inline void wrong_type(verdict *v, int broken, const char *names, fia_dtype value) {
    verdict_note(v, &v->wrong, broken, names, shown_as(DTYPE, value, NULL));
}
static inline void wrong_word(verdict *v, int broken, const char *names, const char *value) {
    verdict_note(v, &v->wrong, broken, names, shown_as(WORD, 0, value));
}
static inline void range_rule(verdict *v, const char *name, int64_t value, int64_t low, int64_t high) {
    wrong_int(v, value < low || value > high, name, value);
}

/* A call with one fault. */
static inline verdict bad_int(const char *names, int64_t value) {
    verdict v;
    memset(&v, 0, sizeof(v));
    wrong_int(&v, 1, names, value);
    return v;
}
static inline verdict bad_word(const char *names, const char *value) {
    verdict v;
    memset(&v, 0, sizeof(v));
    wrong_word(&v, 1, names, value);
    return v;
}

/* An address is absent, given where there is none, or off by some bytes: of these the sentence shows the rest. */
static inline void address_rule(verdict *v, const char *name, const void *data, int planned, int needed, int64_t unit) {
    const int64_t rest = (int64_t)((uintptr_t)data % (uintptr_t)unit);
    wrong_word(v, data && !planned, name, "given");
    wrong_word(v, !data && needed, name, "NULL");
    wrong_int(v, data && planned && rest, name, rest);
}

/* ---- failures: printed, counted, and asserted at the end of a test ---- */

typedef struct bad_state {
    const char *call, *field; /* what is tried */
    char value[48];
    long refused, taken, failures; /* distinct (call, field, value) that were refused and taken */
    long sentences, values;        /* all sentences, and those whose value was compared */
    int compared;                  /* the last one was */
    uint64_t seed;
} bad_state;

static bad_state bad;

static inline void bad_fail(const char *what, const fia_report *report, const verdict *v) {
    int i;
    if (++bad.failures > 60) return;
    printf("FAIL %s, %s = %s: %s", bad.call, bad.field, bad.value, what);
    if (report) printf(" [status %d: %.252s]", (int)report->status, report->text);
    for (i = 0; v && i < v->n; ++i) printf(i ? ", %s" : " expected: %s", v->names[i]);
    printf("\n");
}

static inline int is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

/* 1 if the text has the name as a whole word. */
static inline int has_name(const char *text, const char *name, size_t n) {
    const char *at;
    for (at = text; *at; ++at) {
        if (strncmp(at, name, n) != 0 || is_word(at[n])) continue;
        if (at == text || !is_word(at[-1])) return 1;
    }
    return 0;
}

static inline int has_any_name(const char *text, const char *names) {
    for (;;) {
        const size_t n = strcspn(names, "|");
        if (has_name(text, names, n)) return 1;
        if (!names[n]) return 0;
        names += n + 1;
    }
}

/* ---- values in sentences ---- */

/* 1 if a text shows this value and then "; ". */
static inline int shows_text(const char *text, const char *want) {
    const size_t n = strlen(want);
    return strncmp(text, want, n) == 0 && text[n] == ';';
}

static inline int shows_int(const char *text, int64_t value) {
    char want[32];
    (void)snprintf(want, sizeof(want), "%lld", (long long)value);
    return shows_text(text, want);
}

static inline int shows_dtype(const char *text, int64_t code) {
    return code >= 0 && code <= FIA_HIF8 ? shows_text(text, fia_dtype_text((fia_dtype)code)) : shows_int(text, code);
}

/* Six digits are enough. */
static inline int shows_float(const char *text, double value) {
    char *end;
    const double x = strtod(text, &end);
    if (end == text || *end != ';') return 0;
    return x == value || (isnan(x) && isnan(value)) || fabs(x - value) <= 1e-5 * fabs(value);
}

/* The value of a field at an address. */
static inline int shows_field(const char *text, field_kind kind, const void *at) {
    int64_t wide = 0;
    int32_t narrow = 0;
    float single = 0;
    double two = 0;
    switch (kind) {
    case BYTE: return shows_int(text, *(const unsigned char *)at);
    case INT32: memcpy(&narrow, at, sizeof(narrow)); return shows_int(text, narrow);
    case INT64: memcpy(&wide, at, sizeof(wide)); return shows_int(text, wide);
    case FLOAT: memcpy(&single, at, sizeof(single)); return shows_float(text, single);
    case DOUBLE: memcpy(&two, at, sizeof(two)); return shows_float(text, two);
    case DTYPE: memcpy(&narrow, at, sizeof(narrow)); return shows_dtype(text, narrow) || shows_text(text, "given");
    default: return 0;
    }
}

/* A sentence cut in parts, and what was found out about its value. */
typedef struct value_check {
    const fia_report *report;
    const char *subject, *value; /* behind "->", and behind " is " */
    size_t n;                    /* length of the subject */
    int known, unknown, right;
} value_check;

static inline value_check begin_value(const fia_report *report) {
    value_check c;
    const char *is = strstr(report->text, " is "), *arrow = strstr(report->text, "->");
    memset(&c, 0, sizeof(c));
    c.report = report;
    c.subject = is && arrow && arrow < is ? arrow + 2 : report->text;
    c.n = is ? (size_t)(is - c.subject) : 0;
    c.value = is ? is + 4 : report->text;
    c.unknown = !is || strncmp(c.value, "not as planned; ", 16) == 0;
    return c;
}

/* 1 if the sentence speaks of the field `name`: by this name, or as the whole of which it is an element, the type or
 * the count. */
static inline int is_subject(const value_check *c, const char *name) {
    if (strncmp(name, c->subject, c->n) != 0) return 0;
    name += c->n;
    return !*name || *name == '[' || strcmp(name, ".dtype") == 0 || strcmp(name, ".count") == 0;
}

static inline void note_value(value_check *c, int known, int right) {
    if (known) c->known = 1;
    else c->unknown = 1;
    c->right |= right;
}

/* Where several values are possible, one of them has to be there; where one is unknown, nothing is said. */
static inline void end_value(const value_check *c, const verdict *v) {
    if (!c->known || (c->unknown && !c->right)) return;
    bad.values += !bad.compared;
    bad.compared = 1;
    if (!c->right) bad_fail("its value is not in the text", c->report, v);
}

/* The value of the broken rules that the sentence may be about; places in a table stand in brackets. */
static inline void check_rule_values(const fia_report *report, const verdict *v) {
    value_check c = begin_value(report);
    int i;
    const size_t n = strcspn(c.subject, "[ ");
    for (i = 0; i < v->n; ++i) {
        const shown *g = &v->values[i];
        const char *name = v->names[i];
        for (; *name; name += strcspn(name, "|"), name += *name == '|') {
            if (strcspn(name, "|") != n || strncmp(name, c.subject, n) != 0) continue;
            note_value(&c, g->kind != UNKNOWN,
                       g->kind == INT64   ? shows_int(c.value, g->number)
                       : g->kind == DTYPE ? shows_dtype(c.value, g->number)
                       : g->kind == WORD  ? strncmp(c.value, g->word, strlen(g->word)) == 0
                                          : 0);
        }
    }
    end_value(&c, v);
}

/* A sentence: NUL terminated, "NAME is VALUE; ALLOWED", nothing of it lost. */
static inline void check_sentence(const fia_report *report, const verdict *v) {
    const char *end = (const char *)memchr(report->text, 0, sizeof(report->text)), *part;
    int i;
    ++bad.sentences;
    bad.compared = 0;
    if (!end) {
        bad_fail("the text has no end", NULL, v);
        return;
    }
    if (end - report->text >= (ptrdiff_t)sizeof(report->text) - 1) bad_fail("the text was cut", report, v);
    part = strstr(report->text, " is ");
    if (!part || part == report->text || !strstr(part, "; ") || !strstr(part, "; ")[2])
        bad_fail("not a sentence", report, v);
    if (v) check_rule_values(report, v);
    for (i = 0; v && i < v->n; ++i)
        if (has_any_name(report->text, v->names[i])) return;
    if (v && v->n) bad_fail("no argument of a broken rule is named", report, v);
}

/* Fills a report with what no call leaves in it. */
static inline void soil_report(fia_report *report) { memset(report, BAD_CANARY, sizeof(*report)); }

/* Compares what a call said with the verdict; returns 1 if it was refused. */
static inline int check_verdict(fia_status status, const fia_report *report, const verdict *v) {
    if (report->status != status) bad_fail("report->status is not what was returned", report, v);
    if (status == FIA_OK) {
        if (report->text[0]) bad_fail("a text without an error", report, v);
        if (v->wrong || v->lacks) bad_fail("taken", NULL, v);
        return 0;
    }
    if (status != FIA_ERR_ARGUMENT && status != FIA_ERR_NOT_IN_BUILD) bad_fail("another status", report, v);
    if (!v->n) bad_fail("refused, though no rule is broken", report, v);
    else if (status == FIA_ERR_NOT_IN_BUILD && !v->lacks) bad_fail("wrong is not \"not in this build\"", report, v);
    else if (status == FIA_ERR_ARGUMENT && !v->wrong && !v->maybe)
        bad_fail("\"not in this build\" is not wrong", report, v);
    check_sentence(report, v);
    return 1;
}

static inline void check_canary(const void *data, size_t bytes, const char *what) {
    const unsigned char *p = (const unsigned char *)data;
    size_t i;
    for (i = 0; i < bytes && p[i] == BAD_CANARY; ++i) {}
    if (i < bytes) bad_fail(what, NULL, NULL);
}

/* ---- values ---- */

typedef struct values {
    int n;
    int64_t at[BAD_VALUES];
} values;

static inline void add_value(values *v, int64_t value) {
    int i;
    for (i = 0; i < v->n; ++i)
        if (v->at[i] == value) return;
    if (v->n < BAD_VALUES) v->at[v->n++] = value;
}

/* Extremes of an integer field that holds `now`, `bits` wide, and what stands around that value. */
static inline void integer_extremes(values *v, int64_t now, int bits) {
    static const int64_t small[] = {0, 1, -1, 2, 3, -2, 5, 7, 15, 33};
    static const int64_t large[] = {INT32_MAX, INT32_MIN, 1 << 16, (1 << 16) + 1, 1 << 20, (1 << 20) + 1, -(1 << 20)};
    const int64_t wide[] = {INT64_MAX,
                            INT64_MIN,
                            INT64_MAX - 1,
                            INT64_MIN + 1,
                            INT64_C(1) << 31,
                            INT64_C(1) << 32,
                            (INT64_C(1) << 60) + 4,
                            -(INT64_C(1) << 60) - 4,
                            INT64_C(1) << 62,
                            (INT64_C(1) << 61) / 3 * 4};
    size_t i;
    v->n = 0;
    for (i = 0; i < sizeof(small) / sizeof(small[0]); ++i) add_value(v, small[i]);
    for (i = 0; i < sizeof(large) / sizeof(large[0]); ++i) add_value(v, large[i]);
    for (i = 0; bits == 64 && i < sizeof(wide) / sizeof(wide[0]); ++i) add_value(v, wide[i]);
    if (now > INT32_MIN / 2 && now < INT32_MAX / 2) {
        add_value(v, now + 1);
        add_value(v, now - 1);
        add_value(v, now * 2);
        add_value(v, -now);
        add_value(v, now / 2);
    }
}

/* Every built-in code, and codes of nothing. */
static inline void dtype_extremes(values *v) {
    int64_t code;
    v->n = 0;
    for (code = -2; code <= 20; ++code) add_value(v, code);
    add_value(v, FIA_DTYPE_USER - 1);
    add_value(v, FIA_DTYPE_USER);
    add_value(v, INT32_MAX);
    add_value(v, INT32_MIN);
}

/* Bits of floats: NaN, infinities, the largest, denormals, zeros, negatives. */
static inline void float_extremes(values *v) {
    static const uint32_t bits[] = {0x7fc00000u, 0xffc00001u, 0x7f800001u, 0x7f800000u, 0xff800000u,
                                    0x7f7fffffu, 0xff7fffffu, 0x00000001u, 0x80000001u, 0x00000000u,
                                    0x80000000u, 0x3f800000u, 0xbf800000u, 0x42280000u};
    size_t i;
    v->n = 0;
    for (i = 0; i < sizeof(bits) / sizeof(bits[0]); ++i) add_value(v, (int64_t)bits[i]);
}

static inline void show_value(int64_t value) { (void)snprintf(bad.value, sizeof(bad.value), "%lld", (long long)value); }

/* ---- random numbers: splitmix64 ---- */

static inline uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline int random_below(uint64_t *state, int n) { return (int)(next_random(state) % (uint64_t)n); }

/* ---- strides ---- */

#define BAD_SPAN (INT64_C(1) << 60) /* offsets within a tensor, lengths and positions stay below */

/* 1 if `count` steps of a stride leave the span. */
static inline int too_far(int64_t stride, int64_t count) {
    const int64_t size = stride == INT64_MIN ? INT64_MAX : stride < 0 ? -stride : stride;
    return stride == INT64_MIN || (count > 1 && size > BAD_SPAN / (count - 1));
}

/* 1 if rows of `bytes` bytes at the nests of three strides are not all apart: from the inside to the outside, a stride
 * is at least what lies inside of it. */
static inline int rows_overlap(int64_t bytes, const int64_t stride[3], const int64_t count[3]) {
    int64_t inside = bytes;
    int done[3] = {0, 0, 0}, k, i, least;
    if (count[0] <= 0 || count[1] <= 0 || count[2] <= 0) return 0;
    for (k = 0; k < 3; ++k) {
        least = -1;
        for (i = 0; i < 3; ++i)
            if (!done[i] && count[i] > 1 && (least < 0 || llabs(stride[i]) < llabs(stride[least]))) least = i;
        if (least < 0) break;
        done[least] = 1;
        if (llabs(stride[least]) < inside) return 1;
        inside += llabs(stride[least]) * (count[least] - 1);
    }
    return 0;
}

#endif
