/* SPDX-License-Identifier: MIT */
/* Tensors from and to DLPack, with the header of Debian's libdlpack-dev. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dlpack/dlpack.h>

#include "fia.h"

static float data[64];
static int64_t shape[2] = {3, 4};

static DLTensor tensor(int code, int bits) {
    DLTensor t;
    memset(&t, 0, sizeof t);
    t.data = data;
    t.device.device_type = kDLCPU;
    t.ndim = 2;
    t.dtype.code = (uint8_t)code;
    t.dtype.bits = (uint8_t)bits;
    t.dtype.lanes = 1;
    t.shape = shape;
    return t;
}

static void every_element_type_goes_there_and_back(void **state) {
    static const struct {
        int code, bits;
        fia_dtype dtype;
    } type[] = {{kDLInt, 8, FIA_I8},     {kDLInt, 16, FIA_I16},     {kDLInt, 32, FIA_I32},   {kDLInt, 64, FIA_I64},
                {kDLUInt, 8, FIA_U8},    {kDLUInt, 64, FIA_U64},    {kDLFloat, 16, FIA_F16}, {kDLFloat, 32, FIA_F32},
                {kDLFloat, 64, FIA_F64}, {kDLBfloat, 16, FIA_BF16}, {6, 8, FIA_BOOL}};
    size_t i;
    (void)state;
    for (i = 0; i < sizeof type / sizeof type[0]; ++i) {
        const DLTensor t = tensor(type[i].code, type[i].bits);
        fia_tensor made = fia_tensor_from_dlpack(&t);
        DLTensor back = fia_tensor_to_dlpack(&made);
        assert_int_equal(made.dtype, type[i].dtype);
        assert_int_equal(back.dtype.code, type[i].code);
        assert_int_equal(back.dtype.bits, type[i].bits);
        assert_int_equal(back.dtype.lanes, 1);
    }
}

static void strides_and_offsets_are_kept(void **state) {
    int64_t strides[2] = {1, 3};
    DLTensor t = tensor(kDLFloat, 32), back;
    fia_tensor made = fia_tensor_from_dlpack(&t);
    (void)state;
    assert_int_equal(made.ndim, 2);
    assert_int_equal(made.shape[0], 3);
    assert_int_equal(made.shape[1], 4);
    assert_int_equal(made.stride[0], 4);
    assert_int_equal(made.stride[1], 1);
    t.strides = strides;
    t.byte_offset = 8;
    made = fia_tensor_from_dlpack(&t);
    assert_ptr_equal(made.data, data + 2);
    assert_int_equal(made.stride[0], 1);
    assert_int_equal(made.stride[1], 3);
    back = fia_tensor_to_dlpack(&made);
    assert_ptr_equal(back.data, data + 2);
    assert_int_equal(back.ndim, 2);
    assert_int_equal(back.shape[1], 4);
    assert_int_equal(back.strides[1], 3);
    assert_int_equal(back.device.device_type, kDLCPU);
}

static void what_has_no_type_here_has_none(void **state) {
    DLTensor t = tensor(kDLFloat, 32);
    fia_tensor none = fia_tensor_make(data, FIA_NONE, 1, shape);
    (void)state;
    t.dtype.lanes = 4;
    assert_int_equal(fia_tensor_from_dlpack(&t).dtype, FIA_NONE);
    t = tensor(kDLFloat, 32);
    t.device.device_type = kDLExtDev;
    assert_int_equal(fia_tensor_from_dlpack(&t).dtype, FIA_NONE);
    t = tensor(kDLUInt, 32);
    assert_int_equal(fia_tensor_from_dlpack(&t).dtype, FIA_NONE);
    assert_int_equal(fia_tensor_to_dlpack(&none).dtype.bits, 0);
}

/* The doors refuse such sizes; the conversion only carries them. */
static void sizes_that_overflow_are_carried(void **state) {
    int64_t huge[3] = {2, INT64_MAX, INT64_MAX};
    DLTensor t;
    fia_tensor r;
    (void)state;
    memset(&t, 0, sizeof t);
    t.ndim = 3;
    t.shape = huge;
    t.byte_offset = 16;
    r = fia_tensor_from_dlpack(&t);
    assert_int_equal(r.shape[1], INT64_MAX);
    assert_int_equal(r.stride[1], INT64_MAX);
    assert_null(r.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_type_goes_there_and_back), cmocka_unit_test(strides_and_offsets_are_kept),
        cmocka_unit_test(what_has_no_type_here_has_none), cmocka_unit_test(sizes_that_overflow_are_carried)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
