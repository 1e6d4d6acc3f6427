#!/bin/sh
# SPDX-License-Identifier: MIT
# The first C block of README.md is examples/00_readme.c to the letter, and every file that the README names exists.
set -eu
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
awk '/^```c$/ && !done { on = 1; next } /^```$/ { if (on) done = 1; on = 0 } on' "$root/README.md" >"$work/block.c"
diff -u "$root/examples/00_readme.c" "$work/block.c"
status=0
for name in $(grep -oE '`(tests|examples|tools|bench|scripts|models)/[A-Za-z0-9_./-]+`' "$root/README.md" | tr -d '`' | sort -u); do
    [ -e "$root/$name" ] || { echo "README.md names $name, which is not there"; status=1; }
done
exit $status
