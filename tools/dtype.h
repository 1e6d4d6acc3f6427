/* SPDX-License-Identifier: MIT */
/* Element types of replay files: names, sizes, widening to double. */
#ifndef REPLAY_DTYPE_H
#define REPLAY_DTYPE_H

#include <stddef.h>
#include <stdint.h>

#include "fia.h"

typedef struct dtype_info {
    const char *name; /**< as safetensors spells it */
    fia_dtype dtype;
    size_t bytes; /**< of an element */
    uint64_t one; /**< the bits of 1, little-endian */
} dtype_info;

/** NULL: no element type of replay files. */
const dtype_info *dtype_by_name(const char *name);
const dtype_info *dtype_by_code(fia_dtype dtype);

/** Element i of data as a double: exact for every type but I64. */
double dtype_widen(fia_dtype dtype, const void *data, size_t i);

/** 1: an integer type or BOOL. */
int dtype_is_integer(fia_dtype dtype);

/** Element i of integer data. */
int64_t dtype_integer(fia_dtype dtype, const void *data, size_t i);

/** Bytes of a tensor, or -1 where the product overflows; a dimension of 0 does not hide an overflow of the others. */
int64_t dtype_tensor_bytes(size_t element_bytes, int ndim, const int64_t *shape);

#endif
