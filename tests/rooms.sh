#!/bin/sh
# SPDX-License-Identifier: MIT
# rooms.sh FIA_H: the rooms that the preamble lists are the banners of the file, in the same order.
set -eu
header=${1:?fia.h}
listed=$(sed -n '/^ \* Contents:/,/^ \*\//p' "$header" | tail -n +2 | grep -o 'R[0-9]* [a-z ]*[a-z]')
banners=$(sed -n 's|^/\* ==== \(R[0-9]*\)[a-z]* \([a-z ]*[a-z]\).*|\1 \2|p' "$header" | uniq)
[ -n "$banners" ] && [ "$listed" = "$banners" ] && exit 0
printf 'listed in the preamble:\n%s\n\nbanners:\n%s\n' "$listed" "$banners"
exit 1
