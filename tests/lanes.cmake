# SPDX-License-Identifier: MIT
#
# test_lanes.c holds the bodies itself, so it is compiled once per target, once under ASan + UBSan, and by clang.

# fia_lanes_test(LABEL TARGET FLAGS...)
function(fia_lanes_test label target)
    add_executable(test_lanes_${label} test_lanes.c)
    target_link_libraries(test_lanes_${label} PRIVATE fia case_parts)
    target_include_directories(test_lanes_${label} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_compile_definitions(test_lanes_${label} PRIVATE FIA_CHUNK=32 FIA_TARGET=${target})
    target_compile_options(test_lanes_${label} PRIVATE -O2 -ffp-contract=off ${FIA_WARNINGS} -Wno-unused-function ${FIA_FLAGS_${target}} ${ARGN})
    target_link_options(test_lanes_${label} PRIVATE ${ARGN})
    set_target_properties(test_lanes_${label} PROPERTIES C_STANDARD 99 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
    fia_test(lanes.${label} ${target} 20 $<TARGET_FILE:test_lanes_${label}>)
endfunction()

foreach(target ${FIA_SCALAR_TARGETS} ${FIA_MACHINE_TARGETS})
    fia_lanes_test(${target} ${target})
endforeach()
fia_lanes_test(native.asan native ${FIA_SANITIZE_asan})

set(programs)
if(FIA_CLANG)
    foreach(target scalar16 ${FIA_MACHINE_TARGETS})
        set(program ${CMAKE_CURRENT_BINARY_DIR}/test_lanes_${target}_clang)
        add_custom_command(OUTPUT ${program}
            COMMAND ${FIA_CLANG} -std=c99 -O2 -ffp-contract=off ${FIA_WARNINGS} -Wno-unused-function -I${PROJECT_SOURCE_DIR} -I${CMAKE_CURRENT_SOURCE_DIR}
                    -isystem ${FIA_SIMDE_DIR} -DFIA_CHUNK=32 -DFIA_TARGET=${target} ${FIA_FLAGS_${target}} ${CMAKE_CURRENT_SOURCE_DIR}/test_lanes.c
                    $<TARGET_FILE:case_parts> -lm -lpthread -o ${program}
            DEPENDS test_lanes.c ${PROJECT_SOURCE_DIR}/fia.h case_parts VERBATIM)
        list(APPEND programs ${program})
        fia_test(lanes.${target}.clang ${target} 20 ${program})
    endforeach()
endif()

# NEON, cross compiled and emulated: see aarch64.cmake.
if(COMMAND fia_aarch64_object)
    foreach(pair neon:cortex-a53 neon_dot:neoverse-n1 neon_fhm:max)
        string(REGEX REPLACE ":.*" "" target ${pair})
        string(REGEX REPLACE ".*:" "" cpu ${pair})
        set(object ${CMAKE_CURRENT_BINARY_DIR}/aarch64_lanes_${target}.o)
        set(program ${CMAKE_CURRENT_BINARY_DIR}/test_lanes_${target}_aarch64)
        fia_aarch64_object(aarch64_lanes_${target}.o test_lanes.c -Wno-unused-function -DFIA_CHUNK=32 -DFIA_TARGET=${target} ${FIA_FLAGS_${target}})
        add_custom_command(OUTPUT ${program}
            COMMAND ${FIA_AARCH64_CC} -static ${object} ${CMAKE_CURRENT_BINARY_DIR}/aarch64_oracle.c.o -lm -o ${program}
            DEPENDS ${object} ${CMAKE_CURRENT_BINARY_DIR}/aarch64_oracle.c.o VERBATIM)
        list(APPEND programs ${program})
        fia_test(lanes.${target}.${cpu} ${target} 40 ${FIA_QEMU} -cpu ${cpu} ${program} --small)
    endforeach()
endif()
add_custom_target(lanes_programs ALL DEPENDS ${programs})
if(TARGET aarch64_programs)
    add_dependencies(lanes_programs aarch64_programs) # both use the object of the oracle
endif()
