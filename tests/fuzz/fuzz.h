/* SPDX-License-Identifier: MIT
 *
 * What the fuzz targets share: numbers drawn from the input, buffers of exactly the size that strides and extents say,
 * and the checks of a refusal. A failed check aborts, which the fuzzer reports with the input that led to it.
 */
#ifndef FIA_FUZZ_H
#define FIA_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fia.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_MOST_BYTES = 1 << 20, FUZZ_MOST_WORK = 1 << 21, FUZZ_BLOCKS = 96, FUZZ_CANARY = 0xa5 };

#define FUZZ_CHECK(condition, text)                                                                                    \
    do {                                                                                                               \
        if (condition) break;                                                                                          \
        (void)fprintf(stderr, "%s:%d: %s [%s]\n", __FILE__, __LINE__, #condition, text);                               \
        abort();                                                                                                       \
    } while (0)

#define FUZZ_COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* ---- numbers ---- */

/* Where the bytes of the input have ended, a generator goes on that they seed: short inputs make whole calls, too. */
typedef struct fuzz_bytes {
    const uint8_t *at;
    size_t left;
    uint32_t state;
} fuzz_bytes;

static inline uint8_t fuzz_next(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (uint8_t)(*state >> 24);
}

static inline fuzz_bytes fuzz_begin(const uint8_t *data, size_t size) {
    fuzz_bytes f = {data, size, 2166136261u};
    size_t i;
    for (i = 0; i < size; ++i) f.state = (f.state ^ data[i]) * 16777619u; /* FNV-1a */
    return f;
}

static inline uint64_t fuzz_take(fuzz_bytes *f, int bytes) {
    uint64_t value = 0;
    while (bytes--) {
        value = value << 8 | (f->left ? *f->at++ : fuzz_next(&f->state));
        if (f->left) --f->left;
    }
    return value;
}

static inline int64_t fuzz_between(fuzz_bytes *f, int64_t low, int64_t high) {
    return low + (int64_t)(fuzz_take(f, high - low > 255 ? 4 : 1) % (uint64_t)(high - low + 1));
}

/* 1 out of n; not for a byte of 0. */
static inline int fuzz_chance(fuzz_bytes *f, int n) { return fuzz_take(f, 1) % (uint64_t)n == (uint64_t)n - 1; }

/* Small numbers, ends of integer types, and what overflows when it is multiplied. */
static inline int64_t fuzz_extreme(fuzz_bytes *f) {
    static const int64_t ends[] = {0,
                                   1,
                                   -1,
                                   2,
                                   4,
                                   255,
                                   65536,
                                   INT32_MAX,
                                   INT32_MIN,
                                   (int64_t)1 << 32,
                                   (int64_t)1 << 60,
                                   ((int64_t)1 << 60) + 1,
                                   INT64_MAX / 2,
                                   INT64_MAX,
                                   INT64_MIN,
                                   0x7fc00000};
    const uint64_t i = fuzz_take(f, 1);
    if (i % 4 == 0) return (int64_t)fuzz_take(f, 8);
    return i % 4 == 1 ? (int64_t)(i / 4) - 16 : ends[i / 4 % FUZZ_COUNT(ends)];
}

/* Overwrites an aligned word of a structure, 4 or 8 bytes. */
static inline void fuzz_poke(fuzz_bytes *f, void *at, size_t bytes) {
    const size_t place = (size_t)fuzz_take(f, 2) % (bytes / 4) * 4;
    const int64_t value = fuzz_extreme(f);
    const int32_t word = (int32_t)(uint32_t)(uint64_t)value;
    if (place % 8 == 0 && bytes - place >= 8 && fuzz_chance(f, 2)) memcpy((char *)at + place, &value, 8);
    else memcpy((char *)at + place, &word, 4);
}

static inline fia_dtype fuzz_float(fuzz_bytes *f) {
    static const fia_dtype types[] = {FIA_F32, FIA_F16, FIA_BF16};
    return types[fuzz_between(f, 0, 2)];
}

static inline int64_t fuzz_size(fia_dtype dtype) { return (int64_t)fia_dtype_bytes(dtype); }

/* ---- memory ---- */

/* Everything that one input allocated. too_large: some buffer would be; the input is given up. */
typedef struct fuzz_memory {
    void *block[FUZZ_BLOCKS];
    size_t bytes[FUZZ_BLOCKS];
    int n, too_large;
    uint32_t state; /* of the numbers that buffers are filled with */
} fuzz_memory;

/* Bytes of a generator: any bit pattern of any type, NaN and infinities among them, but mostly finite ones. */
static inline void fuzz_fill(fuzz_memory *m, void *at, size_t bytes) {
    size_t i;
    for (i = 0; i < bytes; ++i) ((unsigned char *)at)[i] = fuzz_next(&m->state);
}

static inline void *fuzz_room(fuzz_memory *m, double bytes) {
    void *at;
    if (bytes > FUZZ_MOST_BYTES || m->n == FUZZ_BLOCKS) {
        m->too_large = 1;
        return NULL;
    }
    at = malloc((size_t)bytes);
    FUZZ_CHECK(at, "out of memory");
    fuzz_fill(m, at, (size_t)bytes);
    m->bytes[m->n] = (size_t)bytes;
    m->block[m->n++] = at;
    return at;
}

static inline void fuzz_free(fuzz_memory *m) {
    while (m->n) free(m->block[--m->n]);
}

/* One axis of a buffer. */
typedef struct fuzz_axis {
    int64_t count, bytes;
} fuzz_axis;

/* The element at index 0 of a buffer from its lowest to its highest byte; items are what lies at an index. */
static inline void *fuzz_buffer(fuzz_memory *m, const fuzz_axis *axis, int n, double item) {
    double down = 0, up = item;
    char *at;
    int i;
    for (i = 0; i < n; ++i) {
        const double span = (double)(axis[i].count - 1) * (double)axis[i].bytes;
        if (axis[i].count < 1) return fuzz_room(m, 0);
        if (span < 0) down -= span;
        else up += span;
    }
    at = (char *)fuzz_room(m, down + up);
    return at ? at + (size_t)down : NULL;
}

/* ---- checks ---- */

static inline void fuzz_check_report(fia_status status, const fia_report *report) {
    FUZZ_CHECK(memchr(report->text, 0, sizeof(report->text)), "the text has no end");
    FUZZ_CHECK(report->status == status, report->text);
    FUZZ_CHECK((status == FIA_OK) == !report->text[0], report->text);
    FUZZ_CHECK(status == FIA_OK || strstr(report->text, "; "), report->text);
}

static inline void fuzz_check_untouched(const void *at, size_t bytes, const char *what) {
    const unsigned char *byte = (const unsigned char *)at;
    size_t i;
    for (i = 0; i < bytes; ++i) FUZZ_CHECK(byte[i] == FUZZ_CANARY, what);
}

/* A buffer that is written: its canaries, and what the first run left. */
typedef struct fuzz_output {
    void *low; /* its lowest byte */
    size_t bytes;
} fuzz_output;

/* Fills the newest block with canaries. */
static inline fuzz_output fuzz_output_of(const fuzz_memory *m) {
    fuzz_output out = {m->block[m->n - 1], m->bytes[m->n - 1]};
    memset(out.low, FUZZ_CANARY, out.bytes);
    return out;
}

static inline void *fuzz_copy(fuzz_memory *m, const fuzz_output *output) {
    void *copy = fuzz_room(m, (double)output->bytes);
    if (copy && output->bytes) memcpy(copy, output->low, output->bytes);
    return copy;
}

#endif
