# SPDX-License-Identifier: MIT
#
# Fuzz targets by clang's libFuzzer under ASan and UBSan: fuzz.NAME runs fuzz_NAME.c from a fixed seed for a fixed
# number of runs, about ten seconds. Longer by hand, on a folder that keeps what was found:
#     fuzz_engine -max_len=512 FOLDER
# Commands of our own, as this is a second compiler in one build.
set(dir ${CMAKE_CURRENT_LIST_DIR})
set(work ${CMAKE_CURRENT_BINARY_DIR}/fuzz)
set(sanitize -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all)
file(MAKE_DIRECTORY ${work})

file(WRITE ${work}/empty.c "int LLVMFuzzerTestOneInput(const char *at, unsigned long n) { return at && n ? 0 : 0; }\n")
set(no_fuzzer 1)
if(FIA_CLANG)
    execute_process(COMMAND ${FIA_CLANG} ${sanitize} ${work}/empty.c -o ${work}/empty
                    RESULT_VARIABLE no_fuzzer OUTPUT_QUIET ERROR_QUIET)
endif()
find_path(CJSON_INCLUDE_DIR cjson/cJSON.h)
find_library(CJSON_LIBRARY cjson)
if(no_fuzzer OR NOT CJSON_LIBRARY)
    message(WARNING "clang with libFuzzer and its sanitizers, or libcjson-dev, is missing: no fuzz targets")
    return()
endif()

# Without optimisation the bodies are plain functions, which the sanitizers instrument in seconds, not minutes.
set(body ${work}/body.o)
add_custom_command(OUTPUT ${body}
    COMMAND ${FIA_CLANG} -std=c99 -O0 -g1 -ffp-contract=off -fsanitize=fuzzer-no-link,address,undefined
            -fno-sanitize-recover=all -I${PROJECT_SOURCE_DIR} -isystem ${FIA_SIMDE_DIR}
            -DFIA_TARGET=native -DFIA_CHUNK=32 ${FIA_FLAGS_native} -c ${CMAKE_CURRENT_SOURCE_DIR}/body.c -o ${body}
    DEPENDS body.c ${PROJECT_SOURCE_DIR}/fia.h VERBATIM)

set(generate ${PROJECT_SOURCE_DIR}/examples/generate)
set(tools ${PROJECT_SOURCE_DIR}/tools)
file(GLOB headers CONFIGURE_DEPENDS ${dir}/*.h ${tools}/*.h ${generate}/*.h ${CMAKE_CURRENT_SOURCE_DIR}/generate/*.h)

# fia_fuzz(NAME RUNS MAX_LEN SEEDS SOURCES...): SEEDS is a list of files, joined by commas.
function(fia_fuzz name runs max_len seeds)
    set(program ${work}/fuzz_${name})
    add_custom_command(OUTPUT ${program}
        COMMAND ${FIA_CLANG} -std=c99 -O1 -g1 -ffp-contract=off ${FIA_WARNINGS} -Wno-unknown-pragmas ${sanitize}
                -DBLOCK_BYTES=4194304 -I${PROJECT_SOURCE_DIR} -I${tools} -I${generate} -isystem ${CJSON_INCLUDE_DIR}
                ${dir}/fuzz_${name}.c ${ARGN} ${body} ${CJSON_LIBRARY} -lpthread -lm -o ${program}
        DEPENDS ${dir}/fuzz_${name}.c ${ARGN} ${body} ${headers} ${tools}/fia_replay.c VERBATIM)
    add_custom_target(fuzz_${name} ALL DEPENDS ${program})
    if(FIA_FULL)
        math(EXPR runs "${runs} * 30")
    endif()
    set(from)
    if(seeds)
        set(from -seed_inputs=${seeds})
    endif()
    add_test(NAME fuzz.${name} COMMAND ${program} -seed=1 -runs=${runs} -max_len=${max_len}
             -rss_limit_mb=2048 -timeout=60 -verbosity=0 -print_final_stats=1 -artifact_prefix=${work}/${name}- ${from})
    set_tests_properties(fuzz.${name} PROPERTIES COST 100 TIMEOUT 5000)
endfunction()

set(FIA_REPLAY_PARTS call call_attention call_fia_v2 compare dtype safetensors text workers)
list(TRANSFORM FIA_REPLAY_PARTS REPLACE "(.+)" "${tools}/\\1.c")
set(vectors)
file(GLOB candidates CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/replay/vectors/*.safetensors)
foreach(file ${candidates})
    file(SIZE ${file} bytes)
    if(bytes LESS 4500)
        list(APPEND vectors ${file})
    endif()
endforeach()
list(JOIN vectors "," vectors)

add_executable(seed_gguf ${dir}/seed_gguf.c)
target_compile_options(seed_gguf PRIVATE ${FIA_WARNINGS})
add_custom_command(OUTPUT ${work}/tiny.gguf COMMAND seed_gguf ${work}/tiny.gguf VERBATIM)
add_custom_target(fuzz_seeds ALL DEPENDS ${work}/tiny.gguf)

set(generate_parts gguf tokenizer model forward kv)
list(TRANSFORM generate_parts REPLACE "(.+)" "${generate}/\\1.c")

fia_fuzz(gguf 400000 2400 ${work}/tiny.gguf ${generate_parts})
fia_fuzz(replay 120000 4500 "${vectors}" ${FIA_REPLAY_PARTS})
fia_fuzz(engine 8000 512 "")
fia_fuzz(operator 10000 512 "")
fia_fuzz(merge 100000 256 "")
