# SPDX-License-Identifier: MIT
#
# Tests for aarch64: cross compiled, linked statically, run by qemu. A second compiler in one build means commands of our
# own.
find_program(FIA_AARCH64_CC aarch64-linux-gnu-gcc)
find_program(FIA_QEMU NAMES qemu-aarch64-static qemu-aarch64)
if(NOT FIA_AARCH64_CC OR NOT FIA_QEMU)
    message(WARNING "aarch64-linux-gnu-gcc or qemu-aarch64-static is missing: no tests of neon targets")
    return()
endif()

# SIMDe alone, without the other headers of this machine.
set(simde_alone ${CMAKE_CURRENT_BINARY_DIR}/simde_alone)
file(MAKE_DIRECTORY ${simde_alone})
file(CREATE_LINK ${FIA_SIMDE_DIR}/simde ${simde_alone}/simde SYMBOLIC)

# fia_aarch64_object(OUTPUT SOURCE FLAGS...)
function(fia_aarch64_object output source)
    add_custom_command(OUTPUT ${output}
        COMMAND ${FIA_AARCH64_CC} -std=c99 -O2 -ffp-contract=off ${FIA_WARNINGS} -I${PROJECT_SOURCE_DIR} -I${CMAKE_CURRENT_SOURCE_DIR}
                -isystem ${simde_alone} ${ARGN} -MD -MF ${output}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${output}
        DEPENDS ${source} DEPFILE ${output}.d COMMENT "aarch64: ${output}" VERBATIM)
endfunction()

# fia_aarch64_program(NAME OBJECTS...): adds NAME to `programs`.
macro(fia_aarch64_program name)
    add_custom_command(OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${name}
        COMMAND ${FIA_AARCH64_CC} -static ${ARGN} -lm -lpthread -o ${CMAKE_CURRENT_BINARY_DIR}/${name}
        DEPENDS ${ARGN} VERBATIM)
    list(APPEND programs ${CMAKE_CURRENT_BINARY_DIR}/${name})
endmacro()

set(parts)
foreach(source ${FIA_CASE_SOURCES} test_cross.c)
    fia_aarch64_object(aarch64_${source}.o ${source})
    list(APPEND parts ${CMAKE_CURRENT_BINARY_DIR}/aarch64_${source}.o)
endforeach()
set(programs)
set(FIA_AARCH64_TARGETS neon neon_dot neon_fhm)
foreach(target ${FIA_AARCH64_TARGETS})
    foreach(chunk 32 512)
        set(body ${CMAKE_CURRENT_BINARY_DIR}/aarch64_bodies_${target}_${chunk}.o)
        fia_aarch64_object(aarch64_bodies_${target}_${chunk}.o body.c -DFIA_TARGET=${target} -DFIA_CHUNK=${chunk} ${FIA_FLAGS_${target}})
        fia_aarch64_program(test_cross_${target}_${chunk} ${parts} ${body})
    endforeach()
endforeach()

# The tests with cmocka; aarch64/cmocka.h stands in for it.
list(FILTER parts EXCLUDE REGEX "case_main|test_cross")
foreach(source ${units})
    string(REGEX REPLACE "^test_(.*)\\.c$" "\\1" label ${source})
    fia_aarch64_object(aarch64_${source}.o ${source} -I${CMAKE_CURRENT_SOURCE_DIR}/aarch64)
    fia_aarch64_program(test_${label}_neon_32 ${CMAKE_CURRENT_BINARY_DIR}/aarch64_${source}.o ${parts}
                        ${CMAKE_CURRENT_BINARY_DIR}/aarch64_bodies_neon_32.o)
    fia_test(${label}.neon.cortex-a53 neon 150 ${FIA_QEMU} -cpu cortex-a53 ${CMAKE_CURRENT_BINARY_DIR}/test_${label}_neon_32)
endforeach()
add_custom_target(aarch64_programs ALL DEPENDS ${programs})

function(fia_qemu_tests cpu)
    foreach(target ${ARGN})
        set(program ${CMAKE_CURRENT_BINARY_DIR}/test_cross_${target})
        foreach(chunk 32 512)
            set(run${chunk} ${FIA_QEMU} -cpu ${cpu} ${program}_${chunk})
        endforeach()
        fia_cross_tests(${target}.${cpu} ${target} 300 0 400 "${run32}" "${run512}" --small)
    endforeach()
endfunction()
fia_qemu_tests(cortex-a53 neon)
fia_qemu_tests(neoverse-n1 neon neon_dot)
fia_qemu_tests(max neon neon_dot neon_fhm)
