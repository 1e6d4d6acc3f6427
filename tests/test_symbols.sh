#!/bin/sh
# SPDX-License-Identifier: MIT
# test_symbols.sh OBJECT: a bodies-only object has no writable data, needs nothing from outside but what symbols.txt
# lists, and is not large.
set -u
object=${1:?an object file}
[ -s "$object" ] || { echo "$object is not there"; exit 1; }
list=$(dirname "$0")/symbols.txt
failed=0

# name and size of each section that would be writable when the program runs; constants with addresses are not
writable=$(readelf --wide --section-headers "$object" | sed -n 's/^ *\[ *[0-9]*\] *//p' |
    awk '$1 ~ /^\.(data|bss|tdata|tbss)/ && $1 !~ /^\.data\.rel\.ro/ && $5 !~ /^0+$/ { print $1, "0x" $5 }')
if [ -n "$writable" ]; then
    printf 'writable data in %s:\n%s\n' "$object" "$writable"
    failed=1
fi

undefined=$(readelf --wide --symbols "$object" | awk '$7 == "UND" && $8 != "" { print $8 }' | sort -u)
for symbol in $undefined; do
    if ! grep -qx "$symbol" "$list"; then
        echo "$object needs $symbol, which symbols.txt does not list"
        failed=1
    fi
done
# text, read-only data and what is relocated: one copy of the bodies stays below 1 MiB
bytes=$(size "$object" | awk 'NR == 2 { print $4 }')
if [ "$bytes" -gt 1048576 ]; then
    echo "$object has $bytes bytes"
    failed=1
fi
echo "$bytes bytes, needed: $(echo $undefined)"
[ "$failed" -eq 0 ]
