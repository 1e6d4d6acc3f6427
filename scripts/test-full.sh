#!/bin/sh
# SPDX-License-Identifier: MIT
# More than scripts/test.sh: ten times the counts, every sanitizer with every target, valgrind. Hours. Arguments go to ctest.
set -eu
cd "$(dirname "$0")/.."

sh scripts/install.sh full
build=${BUILD:-build/full}
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DFIA_FULL=ON
cmake --build "$build"
exec ctest --test-dir "$build" -j "$(nproc)" --verbose "$@"
