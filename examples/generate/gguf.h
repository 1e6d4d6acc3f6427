/* SPDX-License-Identifier: MIT
 *
 * Reads a GGUF file (versions 2 and 3): metadata keys and tensors of type F32, F16 and Q8_0.
 * The file is not trusted: every length, count, offset and type is checked before it is used, and the first wrong one
 * is named in the error. What gguf_parse lets through can be read without further checks.
 */
#ifndef GENERATE_GGUF_H
#define GENERATE_GGUF_H

#include <stddef.h>
#include <stdint.h>

/** One sentence about what went wrong. */
typedef struct error {
    char text[256];
} error;

/** Writes the sentence; returns -1, so that "return fail(e, ...)" ends a function. */
int fail(error *e, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/** Characters inside the file: not NUL terminated, any bytes. */
typedef struct gguf_string {
    const char *at;
    size_t length;
} gguf_string;

typedef enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
} gguf_type;

/** A metadata entry. Its value lies unaligned in the file; the gguf_get functions read it. */
typedef struct gguf_key {
    gguf_string name;
    gguf_type type;
    gguf_type element;    /* of an array; arrays of arrays are refused */
    uint64_t count;       /* elements of an array, else 1 */
    const uint8_t *value; /* the first element */
    size_t bytes;         /* of all elements */
} gguf_key;

enum { GGUF_TENSOR_F32 = 0, GGUF_TENSOR_F16 = 1, GGUF_TENSOR_Q8_0 = 8 };

typedef struct gguf_tensor {
    gguf_string name;
    int type;        /* GGUF_TENSOR_* */
    int n_dims;      /* 1 .. 4 */
    uint64_t dim[4]; /* dim[0] is the contiguous one; 1 past n_dims */
    uint64_t offset; /* from the start of the tensor data */
    const uint8_t *data;
    size_t bytes;
} gguf_tensor;

typedef struct gguf_file {
    uint8_t *bytes; /* the whole file; NULL where the caller keeps it */
    gguf_key *keys;
    gguf_tensor *tensors;
    uint64_t n_keys, n_tensors;
} gguf_file;

/** Reads a file into memory and parses it. 0, or -1 and the error; gguf_close in both cases. */
int gguf_open(gguf_file *file, const char *path, error *e);

/** Parses a file in memory (aligned to 8 bytes), which must outlive `file`. 0, or -1; gguf_close in both cases. */
int gguf_parse(gguf_file *file, const uint8_t *data, size_t size, error *e);

void gguf_close(gguf_file *file);

/** A key or tensor by name; NULL if there is none. */
const gguf_key *gguf_find_key(const gguf_file *file, const char *name);
const gguf_tensor *gguf_find_tensor(const gguf_file *file, const char *name);

/** Values by key: 0, or -1 if the key has another type or lies outside [low, high]. *value is left alone where the key
 * is absent, so it holds the default. To demand a key, test gguf_need first. */
int gguf_get_int(const gguf_file *file, const char *name, int64_t low, int64_t high, int64_t *value, error *e);
int gguf_get_float(const gguf_file *file, const char *name, float *value, error *e);
int gguf_get_bool(const gguf_file *file, const char *name, int *value, error *e);
int gguf_get_string(const gguf_file *file, const char *name, gguf_string *value, error *e);
int gguf_need(const gguf_file *file, const char *name, error *e);

/** An array of `element`; *key is NULL where it is absent. */
int gguf_get_array(const gguf_file *file, const char *name, gguf_type element, const gguf_key **key, error *e);

/** Element i of an F32 or I32 array. */
float gguf_float_at(const gguf_key *array, uint64_t i);
int32_t gguf_int_at(const gguf_key *array, uint64_t i);

/** Walks a string array: *at starts with array->value; called at most array->count times. */
gguf_string gguf_next_string(const uint8_t **at);

int gguf_string_is(gguf_string s, const char *text);

/** A copy that is safe to print: at most 63 characters, '?' for what is not plain ASCII. Returns `text`. */
const char *gguf_printable(gguf_string s, char text[64]);

#endif
