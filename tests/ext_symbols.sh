#!/bin/sh
# SPDX-License-Identifier: MIT
# ext_symbols.sh BODIES WITH_BACKEND: the symbols of a compiled-in backend are in the second object and not in the first.
set -u
without=${1:?an object file} with=${2:?an object file}
symbols_of() {
    readelf --wide --symbols "$1" | awk '{ print $8 }' | grep -E '^(ext_backend|fia_backend_of_build)'
}
if symbols_of "$without"; then
    echo "$without holds a backend although none was named"
    exit 1
fi
if ! symbols_of "$with" >/dev/null; then
    echo "$with lacks the backend that was compiled in"
    exit 1
fi
