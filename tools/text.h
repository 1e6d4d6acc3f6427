/* SPDX-License-Identifier: MIT */
/* One-line reasons, and strict parsing of the text attributes of a replay file. */
#ifndef REPLAY_TEXT_H
#define REPLAY_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** Why something was refused: one line, cut where it is too long. */
typedef struct reason {
    char text[320];
} reason;

#if defined(__GNUC__)
#define REPLAY_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define REPLAY_PRINTF(text, first)
#endif

/** Fills the reason and returns -1, so that a check can return the call. */
int reason_set(reason *why, const char *format, ...) REPLAY_PRINTF(2, 3);

/** Each takes the whole string, without blanks around it. Returns 0, or -1 when it is not such a value. */
int parse_int(const char *text, int64_t *value);
int parse_float(const char *text, double *value);
int parse_bool(const char *text, int *value);

/** Parses "3,7,12" into values (room for text_list_count of them). Returns 0 or -1. */
int parse_int_list(const char *text, int64_t *values);

/** How many values a comma-separated list has; "" has none. */
size_t text_list_count(const char *text);

/** Bytes of the UTF-8 sequence at s, of n bytes at most; 0 where there is none. */
size_t utf8_sequence(const unsigned char *s, size_t n);

/** A copy with '?' for bytes that are no UTF-8, to be freed; NULL: out of memory. */
char *text_as_utf8(const char *text);

/** Prints text that a file brought: control characters become '?'. */
void print_clean(FILE *to, const char *text);

#endif
