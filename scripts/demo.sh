#!/bin/sh
# SPDX-License-Identifier: MIT
# On a fresh Debian 12, as root or with sudo: installs what is missing, builds, generates text from a small real model
# with all attention in fia.h, and prints a short benchmark with shares of this machine's limits. About two minutes.
set -eu
cd "$(dirname "$0")/.."

build=build/demo
mkdir -p "$build"
quietly() {
    "$@" >"$build/demo.log" 2>&1 && return
    cat "$build/demo.log" >&2
    exit 1
}

echo "== packages"
quietly sh scripts/install.sh
echo "== build ($build)"
quietly cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF
quietly cmake --build "$build" -j "$(nproc)" --target generate bench_native
find_program() { find "$build" -name "$1" -type f -perm -u+x | head -n 1; }

echo "== text from models/tiny-classics-f16.gguf, greedy, attention over a paged f16 KV cache"
"$(find_program generate)" --model models/tiny-classics-f16.gguf --prompt 'Alice was beginning to' --length 96 \
    --kv f16 --page 16 --threads 1 # a model of 2.6 M parameters is too small for more
echo
echo "== speed beside the limits of this machine (bench/README.md explains the columns)"
"$(find_program bench_native)" --quick
