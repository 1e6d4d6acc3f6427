/* SPDX-License-Identifier: MIT
 *
 * 16-bit floats, in plain C. Loops over these functions have no branch that stops a compiler from vectorising them.
 */
#ifndef GENERATE_HALF_H
#define GENERATE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint32_t bits_of_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

/* f16 |sign 1|exponent 5|fraction 10|: shifted into an f32, the exponent is 112 too small; multiplying mends that and
 * makes denormals normal. Infinity and NaN have exponent 31 and get the f32's highest one. */
static inline float float_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = (uint32_t)(h & 0x7fff) << 13;
    uint32_t finite = bits_of_float(float_from_bits(rest) * 0x1p112f);
    return float_from_bits(sign | (rest >= 0x0f800000 ? rest | 0x7f800000 : finite));
}

/* Rounds to nearest, ties to even: for normals in the integer, for denormals by adding a float whose last place is
 * the f16's. Too large becomes infinity, NaN stays NaN. */
static inline uint16_t f16_from_float(float f) {
    uint32_t bits = bits_of_float(f), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    uint32_t small = bits_of_float(float_from_bits(rest) + 0.5f) - 0x3f000000;
    uint32_t normal = (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13;
    uint32_t special = rest > 0x7f800000 ? 0x7e00 : 0x7c00;
    return (uint16_t)(sign | (rest >= 0x477ff000 ? special : rest < 0x38800000 ? small : normal));
}

/* bf16 is the upper half of an f32. */
static inline uint16_t bf16_from_float(float f) {
    uint32_t bits = bits_of_float(f);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? (bits >> 16 | 0x40) : rounded);
}

#endif
