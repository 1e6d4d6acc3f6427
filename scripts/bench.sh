#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the bench programs of this machine and runs them one after another: sh scripts/bench.sh [arguments of bench]
# PROGRAMS="bench_v3 bench_v3_clang" chooses some. The reports go to stdout and to build/bench/<program>.md.
set -eu
cd "$(dirname "$0")/.."

build=build/bench
mkdir -p "$build"
say_log() { cat "$build/build.log" >&2; exit 1; }
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF >"$build/build.log" 2>&1 || say_log
# shellcheck disable=SC2086 # a list of words
cmake --build "$build" -j "$(nproc)" --target ${PROGRAMS:-benches} >>"$build/build.log" 2>&1 || say_log
all=$(find "$build" -name 'bench_*' -type f -perm -u+x -printf '%f\n' | sort)

for program in ${PROGRAMS:-$all}; do
    path=$(find "$build" -name "$program" -type f | head -n 1)
    "$path" "$@" >"$build/$program.md" || { cat "$build/$program.md"; exit 1; }
    cat "$build/$program.md"
    echo
done
