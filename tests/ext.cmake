# SPDX-License-Identifier: MIT
#
# Tests of the seams: each adds something from outside the header, by hand and through the random cross product.
# FIA_EXT_TESTS: one program each, linked and called as the program of random cases is (arguments of case_main).
set(FIA_EXT_TESTS ext_codec ext_tile ext_keys ext_backend)
set(FIA_EXT_COUNT_ext_codec 2000)
set(FIA_EXT_COUNT_ext_tile 2000)
set(FIA_EXT_COUNT_ext_keys 2000)
set(FIA_EXT_COUNT_ext_backend 50)

# With chunks of 512 a super block of the tile kernels holds several blocks.
foreach(target ${FIA_MACHINE_TARGETS})
    fia_program(ext_tile ${target} 512)
    fia_test(ext_tile.${target}.512 ${target} 50 $<TARGET_FILE:ext_tile_${target}_512> --target ${target} --chunk 512 --count 50
             --best-count 200)
endforeach()
fia_program(ext_tile native 32 tsan)
fia_test(ext_tile.native.tsan native 100 $<TARGET_FILE:ext_tile_native_tsan_32> --target native --chunk 32 --count 100 --threads)

# A backend that is compiled in; and without the macro no symbol of it is in the bodies.
add_executable(ext_backend_built_in ext_backend_built_in.c)
target_link_libraries(ext_backend_built_in PRIVATE fia)
target_include_directories(ext_backend_built_in PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(ext_backend_built_in PRIVATE FIA_BACKEND_H="ext_backend_header.h")
target_compile_options(ext_backend_built_in PRIVATE -O2 -ffp-contract=off ${FIA_WARNINGS})
set_target_properties(ext_backend_built_in PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
add_test(NAME ext_backend.built_in COMMAND ext_backend_built_in)
add_test(NAME ext_backend.symbols COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/ext_symbols.sh $<TARGET_OBJECTS:bodies_scalar4_512>
         $<TARGET_OBJECTS:ext_backend_built_in>)
