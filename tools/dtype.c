/* SPDX-License-Identifier: MIT */
#include "dtype.h"

#include <math.h>
#include <string.h>

static const dtype_info table[] = {
    {"F64", FIA_F64, 8, 0x3FF0000000000000u},
    {"F32", FIA_F32, 4, 0x3F800000u},
    {"F16", FIA_F16, 2, 0x3C00u},
    {"BF16", FIA_BF16, 2, 0x3F80u},
    {"F8_E4M3", FIA_F8_E4M3, 1, 0x38u},
    {"F8_E5M2", FIA_F8_E5M2, 1, 0x3Cu},
    {"I64", FIA_I64, 8, 1},
    {"I32", FIA_I32, 4, 1},
    {"I16", FIA_I16, 2, 1},
    {"I8", FIA_I8, 1, 1},
    {"U8", FIA_U8, 1, 1},
    {"BOOL", FIA_BOOL, 1, 1},
};

const dtype_info *dtype_by_name(const char *name) {
    size_t i;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); ++i) {
        if (!strcmp(table[i].name, name)) return &table[i];
    }
    return NULL;
}

const dtype_info *dtype_by_code(fia_dtype dtype) {
    size_t i;
    for (i = 0; i < sizeof(table) / sizeof(table[0]); ++i) {
        if (table[i].dtype == dtype) return &table[i];
    }
    return NULL;
}

/* Sign, exponent, mantissa; without infinities (e4m3fn) only the all-ones pattern is NaN. */
static double widen_small(uint32_t bits, int exponent_bits, int mantissa_bits, int has_infinity) {
    uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
    uint32_t exponent = (bits >> mantissa_bits) & ((1u << exponent_bits) - 1);
    uint32_t top = (1u << exponent_bits) - 1;
    int unit = 1 - ((1 << (exponent_bits - 1)) - 1) - mantissa_bits; /* exponent of the last place of a denormal */
    double value;
    if (exponent == top && has_infinity) value = mantissa ? (double)NAN : (double)INFINITY;
    else if (exponent == top && mantissa == (1u << mantissa_bits) - 1) value = (double)NAN;
    else if (exponent == 0) value = ldexp((double)mantissa, unit);
    else value = ldexp((double)(mantissa | (1u << mantissa_bits)), (int)exponent - 1 + unit);
    return (bits >> (exponent_bits + mantissa_bits)) & 1 ? -value : value;
}

static uint16_t read_u16(const void *data, size_t i) {
    uint16_t bits;
    memcpy(&bits, (const char *)data + 2 * i, sizeof(bits));
    return bits;
}

double dtype_widen(fia_dtype dtype, const void *data, size_t i) {
    switch (dtype) {
    case FIA_F64: return ((const double *)data)[i];
    case FIA_F32: return (double)((const float *)data)[i];
    case FIA_F16: return widen_small(read_u16(data, i), 5, 10, 1);
    case FIA_BF16: return widen_small(read_u16(data, i), 8, 7, 1);
    case FIA_F8_E4M3: return widen_small(((const uint8_t *)data)[i], 4, 3, 0);
    case FIA_F8_E5M2: return widen_small(((const uint8_t *)data)[i], 5, 2, 1);
    default: return (double)dtype_integer(dtype, data, i);
    }
}

int dtype_is_integer(fia_dtype dtype) {
    return dtype == FIA_I64 || dtype == FIA_I32 || dtype == FIA_I16 || dtype == FIA_I8 || dtype == FIA_U8 ||
           dtype == FIA_BOOL;
}

int64_t dtype_integer(fia_dtype dtype, const void *data, size_t i) {
    switch (dtype) {
    case FIA_I64: return ((const int64_t *)data)[i];
    case FIA_I32: return ((const int32_t *)data)[i];
    case FIA_I16: return ((const int16_t *)data)[i];
    case FIA_I8: return ((const int8_t *)data)[i];
    default: return ((const uint8_t *)data)[i];
    }
}

int64_t dtype_tensor_bytes(size_t element_bytes, int ndim, const int64_t *shape) {
    int64_t bytes = (int64_t)element_bytes;
    int empty = 0, i;
    for (i = 0; i < ndim; ++i) {
        if (shape[i] < 0) return -1;
        if (shape[i] == 0) {
            empty = 1;
            continue;
        }
        if (bytes > INT64_MAX / shape[i]) return -1;
        bytes *= shape[i];
    }
    return empty ? 0 : bytes;
}
