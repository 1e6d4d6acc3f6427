/* SPDX-License-Identifier: MIT
 *
 * Rooms R5 lanes, R6 math and R7 codecs of one target, as a table against plain C: each operation with NaN, infinities,
 * subnormals and signed zeros, loads and stores of every length at the end of a page, all values of f16 and bf16, sums
 * in their order, the error bounds of exp2, tanh and log. The bodies are part of this file: compiled once per target.
 *     test_lanes [--small]    --small: a tenth of the points, for emulated CPUs
 * SEED=n changes the random numbers, FILTER=text takes the tests that have it in their name.
 */
#define _DEFAULT_SOURCE
#define FIA_STATIC
#define FIA_IMPLEMENTATION
#include "fia.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oracle.h"
#include "seed.h"

enum { L = FIA_LANES };

#if !defined(FIA_SCALAR) && (FIA_LANES >= 8 || defined(__FMA__) || defined(FIA_NEON_))
#define FUSED 1
#else
#define FUSED 0
#endif

/* ---- complaints ---- */

static int failures, points_divisor = 1;
static const char *running;

/* Prints the first complaints of a test. */
static void complain(const char *what, double a, double b, double c, double got, double want) {
    if (++failures <= 20)
        printf("FAILED %s: %s of %.9g (%a), %.9g, %.9g gives %.9g (%a), expected %.9g (%a)\n", running, what, a, a, b,
               c, got, got, want, want);
}

static int same_bits(float a, float b) { return fia_float_bits_(a) == fia_float_bits_(b) || (a != a && b != b); }

static void check(const char *what, double a, double b, double c, float got, float want) {
    if (!same_bits(got, want)) complain(what, a, b, c, got, want);
}

/* ---- numbers ---- */

static uint64_t seed; /* SEED, 0 by default */

static uint64_t mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15) * (seed + 1);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Special numbers first, then any bits, then numbers of the size of scores. */
static float number(uint64_t i) {
    static const uint32_t special[] = {0x00000000u, 0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u,
                                       0xffc12345u, 0x00000001u, 0x80000001u, 0x007fffffu, 0x00800000u,
                                       0x80800000u, 0x7f7fffffu, 0xff7fffffu, 0x3f800000u, 0xbf800000u,
                                       0x3f800001u, 0x4b800000u, 0x33800000u, 0x7f7ffffeu, 0xc2fc0000u};
    const uint64_t x = mix(i), n = sizeof special / sizeof special[0];
    if (x % 3 == 0) return fia_bits_float_(special[(x >> 8) % n]);
    if (x % 3 == 1) return fia_bits_float_((uint32_t)(x >> 16));
    return (float)((double)(int64_t)(x >> 20) / (double)((int64_t)1 << 40) - 8);
}

static fia_vf_ vector(uint64_t i, float *lane) {
    int k;
    for (k = 0; k < L; ++k) lane[k] = number(i * 16 + (uint64_t)k);
    return fia_vf_load_(lane);
}

enum { ROUNDS = 20000 };

/* ---- operations, lane by lane ---- */

typedef fia_vf_ (*two_op)(fia_vf_ a, fia_vf_ b);

static fia_vf_ op_add(fia_vf_ a, fia_vf_ b) { return fia_vf_add_(a, b); }
static fia_vf_ op_sub(fia_vf_ a, fia_vf_ b) { return fia_vf_sub_(a, b); }
static fia_vf_ op_mul(fia_vf_ a, fia_vf_ b) { return fia_vf_mul_(a, b); }
static fia_vf_ op_div(fia_vf_ a, fia_vf_ b) { return fia_vf_div_(a, b); }
static fia_vf_ op_max(fia_vf_ a, fia_vf_ b) { return fia_vf_max_(a, b); }
static fia_vf_ op_min(fia_vf_ a, fia_vf_ b) { return fia_vf_min_(a, b); }
static fia_vf_ op_copysign(fia_vf_ a, fia_vf_ b) { return fia_vf_copysign_(a, b); }
static float c_add(float a, float b) { return a + b; }
static float c_sub(float a, float b) { return a - b; }
static float c_mul(float a, float b) { return a * b; }
static float c_div(float a, float b) { return a / b; }
static float c_max(float a, float b) { return a > b ? a : b; }
static float c_min(float a, float b) { return a < b ? a : b; }
static float c_copysign(float a, float b) {
    return fia_bits_float_((fia_float_bits_(a) & 0x7fffffffu) | (fia_float_bits_(b) & 0x80000000u));
}

/* max and min of NaN: the second operand is kept if it is the NaN, else either; zeros of both signs are equal. */
static int is_extreme(float a, float b, float got, float want) {
    if (b != b) return got != got;
    if (a != a) return got != got || got == b;
    return got == want;
}

static void test_two_operands(void) {
    static const struct {
        const char *name;
        two_op op;
        float (*plain)(float, float);
        int extreme;
    } table[] = {{"add", op_add, c_add, 0},
                 {"sub", op_sub, c_sub, 0},
                 {"mul", op_mul, c_mul, 0},
                 {"div", op_div, c_div, 0},
                 {"max", op_max, c_max, 1},
                 {"min", op_min, c_min, 1},
                 {"copysign", op_copysign, c_copysign, 0}};
    float a[L], b[L], got[L];
    size_t t;
    int i, k;
    for (t = 0; t < sizeof table / sizeof table[0]; ++t)
        for (i = 0; i < ROUNDS; ++i) {
            const fia_vf_ va = vector((uint64_t)i, a), vb = vector((uint64_t)i + ROUNDS, b);
            fia_vf_store_(got, table[t].op(va, vb));
            for (k = 0; k < L; ++k) {
                const float want = table[t].plain(a[k], b[k]);
                if (table[t].extreme ? is_extreme(a[k], b[k], got[k], want) : same_bits(got[k], want)) continue;
                complain(table[t].name, a[k], b[k], 0, got[k], want);
            }
        }
}

static void test_fma_abs_select(void) {
    float a[L], b[L], c[L], got[L];
    int i, k;
    for (i = 0; i < ROUNDS; ++i) {
        const fia_vf_ va = vector((uint64_t)i, a), vb = vector((uint64_t)i + ROUNDS, b),
                      vc = vector((uint64_t)i + 2 * ROUNDS, c);
        const fia_vm_ less = fia_vf_lt_(va, vb), equal = fia_vf_eq_(va, vb);
        fia_vf_ pinned = va;
        int any = 0, all = 1;
        fia_vf_store_(got, fia_vf_fma_(va, vb, vc));
        for (k = 0; k < L; ++k)
            check("fma", a[k], b[k], c[k], got[k], FUSED ? fmaf(a[k], b[k], c[k]) : a[k] * b[k] + c[k]);
        fia_vf_store_(got, fia_vf_abs_(va));
        for (k = 0; k < L; ++k) check("abs", a[k], 0, 0, got[k], fia_bits_float_(fia_float_bits_(a[k]) & 0x7fffffffu));
        fia_vf_store_(got, fia_vf_select_(less, vb, vc));
        for (k = 0; k < L; ++k) check("select by lt", a[k], b[k], c[k], got[k], a[k] < b[k] ? b[k] : c[k]);
        fia_vf_store_(got, fia_vf_select_(equal, vb, vc));
        for (k = 0; k < L; ++k) check("select by eq", a[k], b[k], c[k], got[k], a[k] == b[k] ? b[k] : c[k]);
        for (k = 0; k < L; ++k) any |= a[k] < b[k], all &= a[k] < b[k];
        check("any", i, 0, 0, fia_vm_any_(less) != 0, (float)any);
        check("all", i, 0, 0, fia_vm_all_(less) != 0, (float)all);
        check("all of all", i, 0, 0, fia_vm_all_(fia_vf_eq_(fia_vf_zero_(), fia_vf_zero_())) != 0, 1);
        fia_vf_pin_(&pinned);
        fia_vf_store_(got, pinned);
        for (k = 0; k < L; ++k) check("pin", a[k], 0, 0, got[k], a[k]);
        fia_vf_store_(got, fia_vf_set1_(a[0]));
        for (k = 0; k < L; ++k) check("set1", a[0], 0, 0, got[k], a[0]);
    }
    /* one lane alone must be seen by any and all */
    for (k = 0; k < L; ++k) {
        for (i = 0; i < L; ++i) a[i] = i == k, b[i] = i != k;
        check("any of one", k, 0, 0, fia_vm_any_(fia_vf_lt_(fia_vf_zero_(), fia_vf_load_(a))) != 0, 1);
        check("all but one", k, 0, 0, fia_vm_all_(fia_vf_lt_(fia_vf_zero_(), fia_vf_load_(b))) != 0, 0);
    }
    check("any of none", 0, 0, 0, fia_vm_any_(fia_vf_lt_(fia_vf_zero_(), fia_vf_zero_())) != 0, 0);
}

/* a * 2^n where z = n + 1.5 * 2^23. */
static void test_scale_magic(void) {
    float a[L], got[L];
    int n, k;
    for (n = -126; n <= 127; ++n) {
        for (k = 0; k < L; ++k) a[k] = 0.7f + 0.7f * (float)(mix((uint64_t)(n + 200) * 16 + (uint64_t)k) % 1000) / 1000;
        fia_vf_store_(got, fia_vf_scale_magic_(fia_vf_load_(a), fia_vf_set1_(12582912.0f + (float)n)));
        for (k = 0; k < L; ++k) check("scale_magic", a[k], n, 0, got[k], (float)ldexp((double)a[k], n));
    }
}

/* ---- across lanes ---- */

/* Halves, then quarters, ...: the order of fia_vf_sums_ for every width. */
static float plain_sum(const float *lane) {
    float x[16];
    int n, k;
    memcpy(x, lane, L * sizeof(float));
    for (n = L / 2; n > 0; n /= 2)
        for (k = 0; k < n; ++k) x[k] = x[k] + x[k + n];
    return x[0];
}

static void test_across_lanes(void) {
    float lane[L][L], got[L];
    fia_vf_ v[L];
    int i, j, k;
    for (i = 0; i < ROUNDS / 8; ++i) {
        for (j = 0; j < L; ++j) v[j] = vector((uint64_t)(i * L + j), lane[j]);
        fia_vf_store_(got, fia_vf_sums_(v));
        for (j = 0; j < L; ++j) check("sums", i, j, 0, got[j], plain_sum(lane[j]));
        fia_vf_store_(got, fia_vf_swap1_(v[0]));
        for (k = 0; k < L; ++k) check("swap1", i, k, 0, got[k], lane[0][k ^ 1]);
        fia_vf_store_(got, fia_vf_swap2_(v[0]));
        for (k = 0; k < L; ++k) check("swap2", i, k, 0, got[k], lane[0][k ^ 2]);
#if FIA_LANES >= 8
        fia_vf_store_(got, fia_vf_swap4_(v[0]));
        for (k = 0; k < L; ++k) check("swap4", i, k, 0, got[k], lane[0][k ^ 4]);
#endif
#if FIA_LANES == 16
        fia_vf_store_(got, fia_vf_swap8_(v[0]));
        for (k = 0; k < L; ++k) check("swap8", i, k, 0, got[k], lane[0][k ^ 8]);
#endif
        fia_vf_transpose_(v);
        for (j = 0; j < L; ++j) {
            fia_vf_store_(got, v[j]);
            for (k = 0; k < L; ++k) check("transpose", i, j, k, got[k], lane[k][j]);
        }
    }
}

/* ---- memory: every length, before a page that may not be touched ---- */

static char *page_end;

static void make_page(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *at = (char *)mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == (char *)MAP_FAILED || mprotect(at + page, page, PROT_READ | PROT_WRITE) != 0) abort();
    page_end = at + 2 * page;
}

static void test_loads_and_stores(void) {
    float a[L], got[L];
    int n, k;
    for (n = 0; n <= L; ++n) {
        float *at = (float *)(void *)(page_end - (size_t)n * 4);
        const fia_vf_ v = vector((uint64_t)n + 77, a);
        memcpy(at, a, (size_t)n * 4);
        fia_vf_store_(got, fia_vf_loadn_(at, n));
        for (k = 0; k < L; ++k) check("loadn", n, k, 0, got[k], k < n ? a[k] : 0.0f);
        memset(page_end - 4 * L, 0x5a, 4 * L);
        fia_vf_storen_(at, v, n);
        memcpy(got, page_end - 4 * L, 4 * L);
        for (k = 0; k < L; ++k)
            check("storen", n, k, 0, got[k], k < L - n ? fia_bits_float_(0x5a5a5a5au) : a[k - (L - n)]);
    }
    for (n = 0; n < 64; ++n) { /* any alignment */
        char *at = page_end - 4 * L - n;
        const fia_vf_ v = vector((uint64_t)n + 900, a);
        memset(page_end - 4 * L - 64, 0x5a, 4 * L + 64);
        fia_vf_store_((float *)(void *)at, v);
        fia_vf_store_(got, fia_vf_load_((const float *)(const void *)at));
        for (k = 0; k < L; ++k) check("store and load", n, k, 0, got[k], a[k]);
        check("byte before a store", n, 0, 0, (float)(unsigned char)at[-1], 0x5a);
        for (k = 0; k < n; ++k) check("byte behind a store", n, 0, 0, (float)(unsigned char)page_end[-1 - k], 0x5a);
    }
}

/* Rows of every length: stored before the end of a page, with multiplier and offset, and decoded from there. */
static void test_rows(void) {
    static const fia_codec *const codecs[3] = {&fia_codec_f32_, &fia_codec_f16_, &fia_codec_bf16_};
    float x[80], mul[80], add[80], *wide = (float *)malloc(80 * sizeof(float));
    int c, n, i, round;
    if (!wide) abort();
    for (i = 0; i < 80; ++i) {
        x[i] = (float)((int)(mix((uint64_t)i) % 2000) - 1000) / 64;
        mul[i] = (float)(1 + i % 5) / 2;
        add[i] = (float)(i % 7) - 3;
    }
    for (c = 0; c < 3; ++c)
        for (n = 1; n <= 70; ++n)
            for (round = 0; round < 4; ++round) {
                const fia_codec *codec = codecs[c];
                const size_t bytes = (size_t)n * (size_t)codec->granule_bytes;
                char *at = page_end - bytes;
                const char *row = at;
                fia_rows rows = {NULL, 1, 0, 0, 0, 0, NULL};
                char before = 0;
                float expected[80];
                rows.row = &row;
                rows.elements = n;
                memset(at - 8, 0x5a, 8);
                codec->store(at, x, n, round & 1 ? mul : NULL, round & 2 ? add : NULL, NULL);
                for (i = 0; i < 8; ++i) before |= (char)(at[-1 - i] != 0x5a);
                check("bytes before a row", n, c, 0, before, 0);
                for (i = 0; i < n; ++i) {
                    char stored[4];
                    const float y = (round & 1 ? x[i] * mul[i] : x[i]) + (round & 2 ? add[i] : 0);
                    oracle_encode(codec->dtype, y, stored, 0);
                    expected[i] = (float)oracle_decode(codec->dtype, stored, 0);
                    check("stored element", n, i, c, (float)oracle_decode(codec->dtype, at, i), expected[i]);
                }
                for (i = 0; i < 80; ++i) wide[i] = -77;
                codec->decode(wide, 80, &rows);
                for (i = 0; i < 80; ++i) check("decoded element", n, i, c, wide[i], i < n ? expected[i] : -77);
            }
    free(wide);
}

/* Rows in pieces: element i of piece k. */
static void test_pieces(void) {
    uint16_t memory[3][2][16];
    const char *row[3];
    float got[3][40];
    int r, i;
    for (i = 0; i < 96; ++i) (&memory[0][0][0])[i] = fia_float_f16_((float)i);
    for (r = 0; r < 3; ++r) row[r] = (const char *)memory + r * 8; /* four elements apart */
    {
        const fia_rows rows = {row, 3, 8, 4, 0, 64, NULL};
        memset(got, 0, sizeof got);
        fia_codec_f16_.decode(got[0], 40, &rows);
    }
    for (r = 0; r < 3; ++r)
        for (i = 0; i < 8; ++i) check("element of a piece", r, i, 0, got[r][i], (float)(r * 4 + i % 4 + i / 4 * 32));
}

/* ---- narrow types: all values, both ways ---- */

static void test_all_narrow_values(void) {
    uint16_t h[L], back[L];
    float got[L];
    int i, k;
    for (i = 0; i < 65536; i += L) {
        for (k = 0; k < L; ++k) h[k] = (uint16_t)(i + k);
        fia_vf_store_(got, fia_vf_load_f16_(h));
        for (k = 0; k < L; ++k) {
            check("f16 of lanes", h[k], 0, 0, got[k], (float)oracle_decode(FIA_F16, h, k));
            check("f16", h[k], 0, 0, fia_f16_float_(h[k]), (float)oracle_decode(FIA_F16, h, k));
        }
        fia_vf_store_f16_(back, fia_vf_load_(got));
        for (k = 0; k < L; ++k) {
            const int is_nan = (h[k] & 0x7fff) > 0x7c00, still = (back[k] & 0x7fff) > 0x7c00;
            if (is_nan ? !still : back[k] != h[k]) complain("f16 there and back", h[k], 0, 0, back[k], h[k]);
        }
        fia_vf_store_(got, fia_vf_load_bf16_(h));
        for (k = 0; k < L; ++k) {
            check("bf16 of lanes", h[k], 0, 0, got[k], (float)oracle_decode(FIA_BF16, h, k));
            check("bf16", h[k], 0, 0, fia_bf16_float_(h[k]), (float)oracle_decode(FIA_BF16, h, k));
        }
        fia_vf_store_bf16_(back, fia_vf_load_(got));
        for (k = 0; k < L; ++k) {
            const int is_nan = (h[k] & 0x7fff) > 0x7f80, still = (back[k] & 0x7fff) > 0x7f80;
            if (is_nan ? !still : back[k] != h[k]) complain("bf16 there and back", h[k], 0, 0, back[k], h[k]);
        }
    }
}

static void check_narrowed(const char *what, float x, fia_dtype dtype, uint16_t got) {
    const uint16_t infinite = dtype == FIA_F16 ? 0x7c00 : 0x7f80;
    uint16_t want;
    if (x != x) {
        if ((got & 0x7fff) <= infinite) complain(what, x, 0, 0, got, infinite);
        return;
    }
    oracle_encode(dtype, x, &want, 0);
    if (got != want) complain(what, x, 0, 0, got, want);
}

static void narrow(const float *x) {
    uint16_t f16[L], bf16[L];
    int k;
    fia_vf_store_f16_(f16, fia_vf_load_(x));
    fia_vf_store_bf16_(bf16, fia_vf_load_(x));
    for (k = 0; k < L; ++k) {
        check_narrowed("to f16, lanes", x[k], FIA_F16, f16[k]);
        check_narrowed("to f16", x[k], FIA_F16, fia_float_f16_(x[k]));
        check_narrowed("to bf16, lanes", x[k], FIA_BF16, bf16[k]);
        check_narrowed("to bf16", x[k], FIA_BF16, fia_float_bf16_(x[k]));
    }
}

/* Ties and their neighbours for every pair of neighbouring values, then any bits. */
static void test_rounding_to_narrow_types(void) {
    static const uint32_t low[8] = {0x0000, 0x0001, 0x7fff, 0x8000, 0x8001, 0xc000, 0xffff, 0x4000};
    float x[16];
    uint64_t i;
    int k;
    for (i = 0; i < 65536; ++i) {
        for (k = 0; k < 8; ++k) x[k] = fia_bits_float_((uint32_t)i << 16 | low[k]);
        for (k = 0; k < 8; ++k) { /* around the tie above f16 value i */
            const double here = oracle_decode(FIA_F16, &(uint16_t){(uint16_t)i}, 0),
                         next = oracle_decode(FIA_F16, &(uint16_t){(uint16_t)(i + 1)}, 0);
            const float tie = (float)((here + next) / 2);
            x[8 + k] = tie == tie && fabsf(tie) <= 65536 ? fia_bits_float_(fia_float_bits_(tie) + (uint32_t)(k - 4))
                                                         : 65519.996f + (float)k * 0.00390625f;
        }
        for (k = 0; k < 16; k += L) narrow(x + k);
    }
    for (i = 0; i < 2000000 / (uint64_t)points_divisor / L; ++i) {
        for (k = 0; k < L; ++k) x[k] = fia_bits_float_((uint32_t)mix(i * 16 + (uint64_t)k));
        narrow(x);
    }
}

/* ---- math ---- */

/* Distance in units of the last place of want. */
static double ulps(float got, double want) {
    int exponent;
    if (got == want) return 0;
    frexp(want, &exponent);
    if (exponent < -125) exponent = -125;
    return fabs((double)got - want) / ldexp(1, exponent - 24);
}

typedef struct worst {
    double error, at;
} worst;

static void note(worst *w, double error, double at) {
    if (error > w->error || error != error) w->error = error, w->at = at;
}

static void exp2_points(const float *t, worst *w) {
    float got[L];
    int k;
    fia_vf_store_(got, fia_vf_exp2_(fia_vf_load_(t)));
    for (k = 0; k < L; ++k) {
        if (t[k] < -126) check("exp2 below 2^-126", t[k], 0, 0, got[k], 0);
        else note(w, ulps(got[k], exp2((double)t[k])), t[k]);
    }
}

static void test_exp2(void) {
    const double bound = FUSED ? 1.0 : 1.5;
    const uint64_t n = 4000000 / (uint64_t)points_divisor;
    worst w = {0, 0};
    float t[L], got[L];
    uint64_t i;
    int k;
    for (i = 0; i < n; i += L) { /* even steps over all that has a result */
        for (k = 0; k < L; ++k) t[k] = (float)(-160 + 287 * (double)(i + (uint64_t)k) / (double)n);
        exp2_points(t, &w);
    }
    for (i = 0; i < n; i += L) { /* near 0, where most weights are */
        for (k = 0; k < L; ++k) t[k] = (float)(-2 + 4 * (double)(i + (uint64_t)k) / (double)n);
        exp2_points(t, &w);
    }
    for (i = 0; i < n; i += L) { /* any exponent */
        for (k = 0; k < L; ++k) {
            t[k] = fia_bits_float_((uint32_t)mix(i + (uint64_t)k));
            if (!(t[k] <= 127)) t[k] = -1.0f / (float)(i + 3);
        }
        exp2_points(t, &w);
    }
    printf("exp2: worst %.3f ulp at %a\n", w.error, w.at);
    if (!(w.error <= bound)) complain("exp2", w.at, 0, 0, w.error, bound);
    for (i = 0; i < 254; ++i) { /* whole numbers are exact */
        fia_vf_store_(got, fia_vf_exp2_(fia_vf_set1_((float)i - 126)));
        for (k = 0; k < L; ++k) check("exp2", (double)i - 126, 0, 0, got[k], (float)ldexp(1, (int)i - 126));
        check("exp2 of one", (double)i - 126, 0, 0, fia_exp2_((float)i - 126), got[0]);
    }
    check("exp2", -INFINITY, 0, 0, fia_exp2_(-INFINITY), 0);
    check("exp2", -FLT_MAX, 0, 0, fia_exp2_(-FLT_MAX), 0);
    check("exp2", -126.00001, 0, 0, fia_exp2_(-126.00001f), 0);
    check("exp2", NAN, 0, 0, fia_exp2_(NAN), NAN);
    check("exp2", -NAN, 0, 0, fia_exp2_(-NAN), NAN);
    for (k = 0; k < L; ++k) t[k] = k == 2 ? NAN : k == 1 ? -INFINITY : -1;
    fia_vf_store_(got, fia_vf_exp2_(fia_vf_load_(t)));
    for (k = 0; k < L; ++k) check("exp2 beside NaN", k, 0, 0, got[k], k == 2 ? NAN : k == 1 ? 0.0f : 0.5f);
}

static void test_tanh(void) {
    const uint64_t n = 3000000 / (uint64_t)points_divisor;
    worst w = {0, 0};
    float x[L], got[L], mirrored[L];
    uint64_t i;
    int k;
    for (i = 0; i < n; i += L) {
        for (k = 0; k < L; ++k)
            x[k] = i % 3 == 0 ? fia_bits_float_((uint32_t)mix(i + (uint64_t)k))
                              : (float)(-12 + 24 * (double)(i + (uint64_t)k) / (double)n);
        fia_vf_store_(got, fia_vf_tanh_(fia_vf_load_(x)));
        for (k = 0; k < L; ++k) {
            if (x[k] != x[k]) check("tanh", x[k], 0, 0, got[k], NAN);
            else note(&w, ulps(got[k], tanh((double)x[k])), x[k]);
            x[k] = -x[k];
        }
        fia_vf_store_(mirrored, fia_vf_tanh_(fia_vf_load_(x)));
        for (k = 0; k < L; ++k)
            if (x[k] != 0) check("tanh of the mirrored", x[k], 0, 0, mirrored[k], -got[k]);
    }
    printf("tanh: worst %.3f ulp at %a\n", w.error, w.at);
    if (!(w.error <= 3)) complain("tanh", w.at, 0, 0, w.error, 3);
    for (k = 0; k < L; ++k) x[k] = k % 4 == 0 ? INFINITY : k % 4 == 1 ? -INFINITY : k % 4 == 2 ? NAN : -0.0f;
    fia_vf_store_(got, fia_vf_tanh_(fia_vf_load_(x)));
    for (k = 0; k < L; ++k)
        check("tanh", x[k], 0, 0, k % 4 == 3 ? -fabsf(got[k]) : got[k], k % 4 == 0 ? 1 : k % 4 == 1 ? -1 : x[k]);
}

static void test_log(void) {
    worst w = {0, 0};
    uint32_t bits, step = 4001 * (uint32_t)points_divisor;
    int k;
    for (bits = 1; bits < 0x7f800000u; bits += bits < 0x00800000u ? step / 8 : step) {
        const double x = (double)fia_bits_float_(bits);
        note(&w, fabs(fia_log_((float)x) - log(x)) / (1 + fabs(log(x))), x);
    }
    for (k = -100; k <= 100; ++k) { /* beside 1 and beside the border of the reduction */
        const float one = fia_bits_float_((uint32_t)(0x3f800000 + k)),
                    root = fia_bits_float_((uint32_t)(0x3f3504f3 + k));
        note(&w, fabs(fia_log_(one) - log((double)one)) / (1 + fabs(log((double)one))), one);
        note(&w, fabs(fia_log_(root) - log((double)root)) / (1 + fabs(log((double)root))), root);
    }
    note(&w, fabs(fia_log_(FLT_MAX) - log((double)FLT_MAX)) / 88, FLT_MAX);
    printf("log: worst %.3g of 1 + |log x| at %a\n", w.error, w.at);
    if (!(w.error <= 1e-14)) complain("log", w.at, 0, 0, w.error, 1e-14);
    check("log", INFINITY, 0, 0, (float)fia_log_(INFINITY), INFINITY);
    check("log", NAN, 0, 0, (float)fia_log_(NAN), NAN);
    check("log", 1, 0, 0, (float)fia_log_(1), 0);
}

/* ---- all ---- */

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } test[] = {{"operations of two operands", test_two_operands},
                {"fma, abs, masks", test_fma_abs_select},
                {"scale by a power of two", test_scale_magic},
                {"sums, swaps, transpose", test_across_lanes},
                {"loads and stores", test_loads_and_stores},
                {"rows", test_rows},
                {"rows in pieces", test_pieces},
                {"all narrow values", test_all_narrow_values},
                {"rounding to narrow types", test_rounding_to_narrow_types},
                {"exp2", test_exp2},
                {"tanh", test_tanh},
                {"log", test_log}};
    const char *filter = getenv("FILTER");
    size_t i;
    int done = 0;
    if (argc > 1 && strcmp(argv[1], "--small") == 0) points_divisor = 10;
    make_page();
    seed = seed_of_environment(0);
    printf("SEED=%llu, %d lanes, %s multiply-add\n", (unsigned long long)seed, L, FUSED ? "fused" : "two-step");
    for (i = 0; i < sizeof test / sizeof test[0]; ++i) {
        const int before = failures;
        running = test[i].name;
        if (filter && !strstr(running, filter)) continue;
        test[i].run();
        ++done;
        printf("%s %s\n", failures == before ? "ok    " : "FAILED", running);
    }
    printf("%d tests, %d failures\n", done, failures);
    if (!done) printf("FAILED: no test has \"%s\" in its name\n", filter);
    return failures != 0 || !done;
}
