/* SPDX-License-Identifier: MIT */
#include "text.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int reason_set(reason *why, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why->text, sizeof(why->text), format, arguments);
    va_end(arguments);
    return -1;
}

int parse_int(const char *text, int64_t *value) {
    char *end;
    long long parsed;
    if (*text != '-' && !isdigit((unsigned char)*text)) return -1;
    errno = 0;
    parsed = strtoll(text, &end, 10);
    if (errno || end == text || *end) return -1;
    *value = parsed;
    return 0;
}

int parse_float(const char *text, double *value) {
    char *end;
    if (!*text || isspace((unsigned char)*text)) return -1;
    *value = strtod(text, &end);
    return end == text || *end ? -1 : 0;
}

int parse_bool(const char *text, int *value) {
    if ((text[0] != '0' && text[0] != '1') || text[1]) return -1;
    *value = text[0] == '1';
    return 0;
}

size_t text_list_count(const char *text) {
    size_t n = *text ? 1 : 0;
    for (; *text; ++text) n += *text == ',';
    return n;
}

int parse_int_list(const char *text, int64_t *values) {
    while (*text) {
        char item[32];
        size_t n = strcspn(text, ",");
        if (n >= sizeof(item)) return -1;
        memcpy(item, text, n);
        item[n] = 0;
        if (parse_int(item, values++)) return -1;
        text += n;
        if (*text == ',' && !*++text) return -1;
    }
    return 0;
}

/* Overlong forms, surrogates and codes past U+10FFFF are none. */
size_t utf8_sequence(const unsigned char *s, size_t n) {
    size_t length = s[0] < 0x80 ? 1 : s[0] >= 0xC2 && s[0] < 0xE0 ? 2 : s[0] >= 0xE0 && s[0] < 0xF0 ? 3 : 4, i;
    if (s[0] >= 0x80 && (s[0] < 0xC2 || s[0] > 0xF4)) return 0;
    if (length > n) return 0;
    for (i = 1; i < length; ++i) {
        if ((s[i] & 0xC0) != 0x80) return 0;
    }
    if (s[0] == 0xE0 && s[1] < 0xA0) return 0;
    if (s[0] == 0xED && s[1] > 0x9F) return 0;
    if (s[0] == 0xF0 && s[1] < 0x90) return 0;
    if (s[0] == 0xF4 && s[1] > 0x8F) return 0;
    return length;
}

char *text_as_utf8(const char *text) {
    size_t n = strlen(text), i = 0, length;
    char *copy = malloc(n + 1);
    if (!copy) return NULL;
    memcpy(copy, text, n + 1);
    while (i < n) {
        length = utf8_sequence((const unsigned char *)copy + i, n - i);
        if (!length) copy[i] = '?';
        i += length ? length : 1;
    }
    return copy;
}

void print_clean(FILE *to, const char *text) {
    for (; *text; ++text) (void)fputc(iscntrl((unsigned char)*text) ? '?' : *text, to);
}
