# SPDX-License-Identifier: MIT
#
# Tests of the seams: each adds something from outside the header, by hand and through the random cross product.
# FIA_EXT_TESTS: one program each, linked and called as the program of random cases is (arguments of case_main).
set(FIA_EXT_TESTS ext_codec ext_tile ext_keys ext_backend)
set(FIA_EXT_COUNT_ext_codec 1000)
set(FIA_EXT_COUNT_ext_tile 600)
set(FIA_EXT_COUNT_ext_keys 800)
set(FIA_EXT_COUNT_ext_backend 50)

# Bodies with a backend compiled in. Without the macro not a byte of a backend may be in the object: see ext_symbols.
find_program(FIA_NM NAMES ${CMAKE_NM} nm)
add_executable(ext_backend_built_in ${CMAKE_CURRENT_LIST_DIR}/ext_backend_built_in.c)
target_compile_definitions(ext_backend_built_in PRIVATE FIA_BACKEND_H="ext_backend_header.h")
target_compile_options(ext_backend_built_in PRIVATE -O2 -ffp-contract=off)
target_include_directories(ext_backend_built_in PRIVATE ${CMAKE_CURRENT_LIST_DIR} ${CMAKE_CURRENT_LIST_DIR}/..)
target_link_libraries(ext_backend_built_in PRIVATE m)
add_test(NAME ext_backend_built_in COMMAND ext_backend_built_in)
