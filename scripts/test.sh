#!/bin/sh
# SPDX-License-Identifier: MIT
# On a fresh Debian 12, as root or with sudo: installs what is missing, builds, and runs the tests. Within 20 minutes on two
# cores, packages apart. Arguments go to ctest: sh scripts/test.sh -R cross
#   SEED=n         seed of the random tests; each prints its own
#   FILTER=a,!b    random cases with feature a and without b only
#   TEST_BUDGET=f  multiplies the numbers of random cases by f; printed by each test
set -eu
cd "$(dirname "$0")/.."

sh scripts/install.sh test
build=${BUILD:-build/test}
started=$(date +%s)
[ -z "${TEST_BUDGET:-}" ] || echo "TEST_BUDGET=$TEST_BUDGET: random tests make that share of their cases"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release
cmake --build "$build"
echo "built in $(($(date +%s) - started)) s"
exec ctest --test-dir "$build" -j "$(nproc)" --verbose "$@"
