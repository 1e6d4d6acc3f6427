# SPDX-License-Identifier: MIT
# Compile checks as tests: see check.sh. The bodies of every target are compiled by CMAKE_C_COMPILER with -Werror anyway.
set(environment "CC=${CMAKE_C_COMPILER}" "CXX=${CMAKE_CXX_COMPILER}" "SIMDE=${FIA_SIMDE_DIR}")
if(FIA_CLANG AND FIA_CLANGXX)
    list(APPEND environment "CLANG=${FIA_CLANG}" "CLANGXX=${FIA_CLANGXX}")
else()
    message(WARNING "clang or clang++ is missing: compile checks by gcc alone")
endif()
find_program(FIA_AARCH64_CXX aarch64-linux-gnu-g++)
if(FIA_AARCH64_CXX)
    list(APPEND environment "CXX_ARM=${FIA_AARCH64_CXX}")
else()
    message(WARNING "aarch64-linux-gnu-g++ is missing: bodies of neon targets are not compiled as C++")
endif()
foreach(check public dialects clang cplusplus static copied refused consumer)
    add_test(NAME compile.${check} COMMAND sh ${CMAKE_CURRENT_LIST_DIR}/check.sh ${check})
    set_tests_properties(compile.${check} PROPERTIES SKIP_RETURN_CODE 77 COST 200 TIMEOUT 3000
        ENVIRONMENT "${environment};WORK=${CMAKE_CURRENT_BINARY_DIR}/compile.${check}")
endforeach()

foreach(target ${FIA_SCALAR_TARGETS} ${FIA_MACHINE_TARGETS})
    add_test(NAME symbols.${target} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/test_symbols.sh $<TARGET_OBJECTS:bodies_${target}_512>)
endforeach()
foreach(target ${FIA_AARCH64_TARGETS})
    add_test(NAME symbols.${target} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/test_symbols.sh
             ${CMAKE_CURRENT_BINARY_DIR}/aarch64_bodies_${target}_512.o)
endforeach()
if(FIA_CLANG)
    add_test(NAME symbols.native.clang COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/test_symbols.sh
             ${CMAKE_CURRENT_BINARY_DIR}/bodies_native_clang_512.o)
endif()
