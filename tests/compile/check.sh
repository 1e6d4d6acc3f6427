#!/bin/sh
# SPDX-License-Identifier: MIT
# Compile checks: check.sh WHAT, with CC, CXX, CLANG, CLANGXX, CXX_ARM, SIMDE (the folder that holds simde/), WORK (a scratch
# folder). A compiler that is not given is left out.
#   public     the public part: C99, C11, C17, C++11, C++17, C++20 with each compiler, without SIMDe on the path
#   dialects   the bodies in all these dialects, for this machine
#   clang      the bodies for every target that clang can compile here, the ARM ones where there is a cross libc, and with
#              pointers of 32 bits
#   cplusplus  the same as C++11, by both, and by CXX_ARM for the ARM targets
#   static     a private copy in each of two files of one program
#   copied     fia.h copied into an empty folder, and one line of cc
#   refused    what must not compile: flags that reorder sums, FIA_STATIC after a first include
#   consumer   a CMake project with this one as its subdirectory
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
warnings='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror'
simde="-isystem ${SIMDE:?}"
[ "$SIMDE" != /usr/include ] || simde=
flags="-O2 -ffp-contract=off -I$root $simde"
targets='-DFIA_SCALAR=4 -DFIA_SCALAR=8 -DFIA_SCALAR=16 -march=x86-64 -march=x86-64-v2 -march=x86-64-v3 -march=x86-64-v4'
arm_targets='-march=armv8-a -march=armv8.2-a+fp16+dotprod -march=armv8.2-a+fp16+dotprod+fp16fml'
case $(uname -m) in x86_64) ;; *) targets='-DFIA_SCALAR=4 -DFIA_SCALAR=8 -DFIA_SCALAR=16 -march=native' ;; esac
done=0 failed=0
mkdir -p "${WORK:?}" && cd "$WORK" || exit 2
mkdir -p arm && ln -sfn "$SIMDE/simde" arm/simde # SIMDe alone: beside it lie the headers of this machine

# try COMMAND...: a compilation that must succeed without a word.
try() {
    done=$((done + 1))
    if ! output=$("$@" 2>&1) || [ -n "$output" ]; then
        failed=$((failed + 1))
        printf 'FAILED: %s\n%s\n' "$*" "$output" | head -n 40
    fi
}

# every DIALECT: FILE FLAGS... in each dialect by each compiler that is there.
in_all_dialects() {
    file=$1; shift
    for cc in "${CC:-}" "${CLANG:-}"; do
        for std in c99 c11 c17; do [ -z "$cc" ] || try "$cc" -std=$std $warnings "$@" -fsyntax-only "$file"; done
    done
    for cxx in "${CXX:-}" "${CLANGXX:-}"; do
        for std in c++11 c++17 c++20; do [ -z "$cxx" ] || try "$cxx" -x c++ -std=$std $warnings "$@" -fsyntax-only "$file"; done
    done
}

# shellcheck disable=SC2086 # flags are lists of words
case ${1:-} in
public) in_all_dialects "$here/public.c" -I"$root" ;;
dialects) in_all_dialects "$here/body_twice.c" $flags -march=native ;;
clang)
    [ -n "${CLANG:-}" ] || { echo "SKIPPED: no clang"; exit 77; }
    for target in $targets; do try "$CLANG" -std=c99 $warnings $flags $target -c "$root/tests/body.c" -o clang.o; done
    narrow= # pointers of 32 bits: the C library's headers do for them, but for one that lists what it lacks
    [ -f /usr/include/x86_64-linux-gnu/bits/libc-header-start.h ] && mkdir -p narrow/gnu && : >narrow/gnu/stubs-32.h && narrow=1
    for target in ${narrow:+-DFIA_SCALAR=16 -march=x86-64 -march=x86-64-v4}; do
        try "$CLANG" -m32 -isystem narrow -isystem /usr/include/x86_64-linux-gnu -std=c99 $warnings $flags $target \
            -c "$root/tests/body.c" -o clang.o
    done
    arm=/usr/aarch64-linux-gnu/include
    [ -d $arm ] && [ "$(uname -m)" = x86_64 ] || arm=
    for target in ${arm:+$arm_targets}; do
        try "$CLANG" --target=aarch64-linux-gnu -isystem $arm -isystem arm -std=c99 $warnings -O2 -ffp-contract=off \
            -I"$root" $target -c "$root/tests/body.c" -o clang.o
    done ;;
cplusplus)
    for cxx in "${CXX:-}" "${CLANGXX:-}"; do
        for target in $targets; do
            [ -z "$cxx" ] || try "$cxx" -x c++ -std=c++11 $warnings $flags $target -fsyntax-only "$root/tests/body.c"
        done
    done
    for target in ${CXX_ARM:+$arm_targets}; do
        try "$CXX_ARM" -isystem arm -x c++ -std=c++11 $warnings -O2 -ffp-contract=off -I"$root" $target -fsyntax-only \
            "$root/tests/body.c"
    done ;;
static)
    for part in 1 2; do
        try "$CC" -std=c99 $warnings $flags -O1 -march=native -DPART=$part -c "$here/static_part.c" -o part$part.o
    done
    try "$CC" part1.o part2.o -lm -o static_parts
    ./static_parts || failed=$((failed + 1)) ;;
copied)
    rm -rf copied && mkdir copied && cp "$root/fia.h" "$here/one_line.c" "$here/static_part.c" copied && cd copied || exit 2
    try "$CC" -O2 -march=native -ffp-contract=off $simde one_line.c -lm -o one_line
    ./one_line || failed=$((failed + 1)) ;;
refused)
    for flag in -ffast-math -funsafe-math-optimizations -Ofast; do
        done=$((done + 1))
        ! "$CC" -O2 $flags $flag -march=native -c "$root/tests/body.c" -o refused.o 2>/dev/null ||
            { failed=$((failed + 1)); echo "FAILED: $flag was taken"; }
    done
    done=$((done + 1))
    printf '#include "fia.h"\n#define FIA_STATIC\n#define FIA_IMPLEMENTATION\n#include "fia.h"\n' >late.c
    ! "$CC" $flags -march=native -c late.c -o refused.o 2>/dev/null ||
        { failed=$((failed + 1)); echo "FAILED: a late FIA_STATIC was taken"; } ;;
consumer)
    rm -rf consumer
    log=$(cmake -S "$here/consumer" -B consumer -DFIA_DIR="$root" -DCMAKE_C_COMPILER="$CC" 2>&1 && cmake --build consumer 2>&1 &&
        ./consumer/consumer) || { failed=1; echo "$log"; }
    done=1 ;;
*)
    echo "check.sh: ${1:-nothing} is not a check" >&2
    exit 2 ;;
esac
echo "$done compilations, $failed failed"
[ "$done" -gt 0 ] && [ "$failed" -eq 0 ]
