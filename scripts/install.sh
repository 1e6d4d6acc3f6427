#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the Debian packages that building and testing need, those that are missing; as root, or with sudo.
#   sh scripts/install.sh          build, examples, tools, bench
#   sh scripts/install.sh test     and the tests
#   sh scripts/install.sh full     and what scripts/test-full.sh needs
set -eu

packages='gcc g++ libc6-dev cmake make ninja-build libsimde-dev libcjson-dev libcmocka-dev libbenchmark-dev'
case ${1:-} in
test | full)
    packages="$packages binutils clang libdlpack-dev gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static" ;;
esac
[ "${1:-}" != full ] || packages="$packages valgrind"

missing=
for package in $packages; do
    state=$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    case $state in ii*) ;; *) missing="$missing $package" ;; esac
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "install.sh: missing$missing, and neither root nor sudo" >&2; exit 1; }
    as_root=sudo
fi
echo "installing$missing"
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
# shellcheck disable=SC2086 # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
