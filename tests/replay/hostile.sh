#!/bin/sh
# SPDX-License-Identifier: MIT
# Broken and hostile replay files: each must be refused with one line that names the reason, and exit status 2
# (1 where the file is sound and the call is wrong). Usage: hostile.sh FIA_REPLAY
set -u
LC_ALL=C
export LC_ALL
replay=$1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
checks=0 failures=0

fail() {
    failures=$((failures + 1))
    echo "FAIL: $*"
    cat "$dir/output"
}

# length N: eight bytes, little-endian
length() {
    n=$1 i=0
    while [ $i -lt 8 ]; do
        printf "\\$(printf %03o $((n & 255)))"
        n=$((n >> 8)) i=$((i + 1))
    done
}

# file HEADER DATA: both are formats of printf; leaves $dir/file
file() {
    printf "$1" >"$dir/header"
    { length "$(wc -c <"$dir/header")"; cat "$dir/header"; printf "$2"; } >"$dir/file"
}

# check STATUS PATTERN NAME: runs $dir/file; one ERROR line with the pattern, no crash, no second line
check() {
    checks=$((checks + 1))
    "$replay" "$dir/file" >"$dir/output" 2>&1
    status=$?
    [ $status -eq "$1" ] || { fail "$3: exit status $status, not $1"; return; }
    [ "$(wc -l <"$dir/output")" -eq 2 ] || { fail "$3: not one line and the summary"; return; }
    head -n 1 "$dir/output" | grep -q "^ERROR .*$2" || { fail "$3: no ERROR line with '$2'"; return; }
    tail -n 1 "$dir/output" | grep -qx '0 passed, 1 failed, 0 skipped' || fail "$3: summary"
}

# A sound call: one query row, one key; q = 1, k = 1, v = 2, so out = 2.
one='\000\000\200\077'
two='\000\000\000\100'
want='\000\000\000\000\000\000\000\100'
data="$one$one$two$want"
shape='"shape":[1,1,1,1]'
query="\"query\":{\"dtype\":\"F32\",$shape,\"data_offsets\":[0,4]}"
key="\"key\":{\"dtype\":\"F32\",$shape,\"data_offsets\":[4,8]}"
value="\"value\":{\"dtype\":\"F32\",$shape,\"data_offsets\":[8,12]}"
expect="\"expect.out\":{\"dtype\":\"F64\",$shape,\"data_offsets\":[12,20]}"
tensors="$query,$key,$value,$expect"
meta='"__metadata__":{"op":"attention"}'
sound="{$meta,$tensors}"

# header HEADER PATTERN NAME: this header over the sound data
header() {
    file "$1" "$data"
    check 2 "$2" "$3"
}

# attribute TEXT PATTERN: the sound file with one more piece of metadata
attribute() {
    header "{\"__metadata__\":{\"op\":\"attention\",$1},$tensors}" "$2" "attribute $1"
}

# tensor TEXT PATTERN: the sound file with one more tensor of no bytes
tensor() {
    header "{$meta,$tensors,$1}" "$2" "tensor $1"
}

file "$sound" "$data"
"$replay" "$dir/file" >"$dir/output" 2>&1 || fail "the sound file does not pass"
cp "$dir/file" "$dir/sound"
size=$(wc -c <"$dir/sound")

# ---- the file ----
: >"$dir/file"
check 2 'truncated' 'empty file'
printf '\001\000\000' >"$dir/file"
check 2 'truncated' 'three bytes'
{ length $((size - 7)); tail -c +9 "$dir/sound"; } >"$dir/file"
check 2 'goes past the end' 'header length one too large'
{ printf '\377\377\377\377\377\377\377\377'; tail -c +9 "$dir/sound"; } >"$dir/file"
check 2 'goes past the end' 'header length 2^64 - 1'
{ printf '\370\377\377\377\377\377\377\377'; tail -c +9 "$dir/sound"; } >"$dir/file"
check 2 'goes past the end' 'header length that wraps around'
{ length 0; printf "$data"; } >"$dir/file"
check 2 'header' 'header length 0'
cut=0
while [ $cut -lt "$size" ]; do
    head -c $cut "$dir/sound" >"$dir/file"
    check 2 '' "truncated to $cut bytes"
    cut=$((cut + 7))
done
{ cat "$dir/sound"; printf x; } >"$dir/file"
check 2 'behind the last tensor' 'one byte too many'
rm -f "$dir/file"
check 2 'cannot be opened' 'no such file'
mkdir "$dir/file"
check 2 '' 'a directory'
rmdir "$dir/file"

# ---- the header text ----
header "  $sound" "does not begin with" 'blanks before the header'
header "[]" "does not begin with" 'a list'
header "{$meta,$tensors" "no JSON" 'no closing brace'
header "$sound{}" "more text" 'two objects'
header "$sound,1" "more text" 'text behind'
header "{'op':1}" "no JSON" 'single quotes'
header "{\"a\001b\":1}" "control character" 'control character in a string'
header "{\"a\000b\":1}" "control character" 'NUL in a string'
header "$sound\000" "control character" 'NUL behind the object'
header '{"__metadata__":{"op":"attention\\u0000"}}' 'NUL' 'escaped NUL in a string'
header "{\"a\377b\":1}" "UTF-8" 'not UTF-8'
header "{\"a\300\257\":1}" "UTF-8" 'overlong UTF-8'
header "{\"a\355\240\200\":1}" "UTF-8" 'surrogate in UTF-8'
header '{"\\ud800":1}' "no JSON" 'lone surrogate'
header "{\"a\":[[[[[[1]]]]]]}" "nested" 'nested lists'
deep=$(printf '%100000s' '' | tr ' ' '[')
header "{\"a\":$deep" "nested" '100000 open brackets'
header '{"query' "no JSON" 'open string'
header '{"query\\' "no JSON" 'open escape'

# ---- entries ----
header "{$tensors}" "no op" 'no metadata'
header "{\"__metadata__\":{\"note\":\"x\"},$tensors}" "no op" 'no op'
header "{\"__metadata__\":{\"op\":\"nonsense\"},$tensors}" "no operator" 'unknown operator'
header "{\"__metadata__\":{\"op\":\"\"},$tensors}" "no operator" 'empty operator'
header "{\"__metadata__\":{\"op\":1},$tensors}" "no string" 'op is a number'
header "{\"__metadata__\":[],$tensors}" "no object" 'metadata is a list'
header "{$meta,$meta,$tensors}" "twice" 'metadata twice'
header "{\"__metadata__\":{\"op\":\"attention\",\"op\":\"attention\"},$tensors}" "twice" 'op twice'
header "{$meta,$tensors,$query}" "query.*twice" 'query twice'
header "{$meta,$key,$value,$expect,\"query\":1}" "query" 'tensor is a number'
header "{$meta,$key,$value,$expect,\"query\":{\"dtype\":\"F32\",$shape}}" "missing" 'no offsets'
header "{$meta,$key,$value,$expect,\"query\":{\"dtype\":\"F32\",$shape,\"data_offsets\":[0,4],\"x\":1}}" "unknown field" 'field'
header "{$meta,$key,$value,$expect,\"query\":{\"dtype\":\"F32\",\"dtype\":\"F32\",$shape,\"data_offsets\":[0,4]}}" "twice" 'dtype twice'

# query DTYPE SHAPE OFFSETS PATTERN
query() {
    header "{$meta,$key,$value,$expect,\"query\":{\"dtype\":$1,\"shape\":$2,\"data_offsets\":$3}}" "$4" "query $1 $2 $3"
}
query '"F33"' '[1,1,1,1]' '[0,4]' 'unknown dtype'
query '"f32"' '[1,1,1,1]' '[0,4]' 'unknown dtype'
query '""' '[1,1,1,1]' '[0,4]' 'unknown dtype'
query '4' '[1,1,1,1]' '[0,4]' 'no string'
query '"F32"' '4' '[0,4]' 'no list'
query '"F32"' '[1,1,1,-1]' '[0,4]' 'something else than sizes'
query '"F32"' '[1,1,1,0.5]' '[0,4]' 'something else than sizes'
query '"F32"' '[1,1,1,"1"]' '[0,4]' 'something else than sizes'
query '"F32"' '[1,1,1,null]' '[0,4]' 'something else than sizes'
query '"F32"' '[1,1,1,1e400]' '[0,4]' 'something else than sizes'
for number in 01 1. .5 1e -; do query '"F32"' "[1,1,1,$number]" '[0,4]' 'header: no JSON'; done
query '"F32"' '[9007199254740993,1,1,1]' '[0,4]' 'something else than sizes'
query '"F32"' '[18446744073709551617,1,1,1]' '[0,4]' 'something else than sizes'
query '"F32"' '[1,1,1,1,1,1,1]' '[0,4]' 'more than 6'
query '"F32"' '[2147483648,2147483648,1,4]' '[0,4]' 'overflows'
query '"F32"' '[4294967296,4294967296,1,1]' '[0,4]' 'overflows'
query '"F32"' '[0,4503599627370496,4503599627370496,1]' '[0,0]' 'overflows'
query '"F32"' '[1,1,1,2]' '[0,4]' 'make 8 bytes'
query '"F64"' '[1,1,1,1]' '[0,4]' 'make 8 bytes'
query '"F32"' '[1,1,1,1]' '4' 'begin, end'
query '"F32"' '[1,1,1,1]' '[0]' 'begin, end'
query '"F32"' '[1,1,1,1]' '[0,4,8]' 'begin, end'
query '"F32"' '[1,1,1,1]' '[4,0]' 'end before'
query '"F32"' '[1,1,1,1]' '[-4,0]' 'begin, end'
query '"F32"' '[1,1,1,1]' '[20,24]' 'ends at byte'
query '"F32"' '[1,1,1,1]' '[9007199254740987,9007199254740991]' 'ends at byte'
query '"F32"' '[1,1,1,1]' '[2,6]' 'hole of 2 bytes'
query '"F32"' '[0]' '[0,0]' 'hole of 4 bytes'
header "{$meta,$query,$key,$value,\"expect.out\":{\"dtype\":\"F64\",$shape,\"data_offsets\":[8,16]}}" "overlaps" 'two at one place'
header "{$meta,$query,$value,$expect,\"key\":{\"dtype\":\"F64\",$shape,\"data_offsets\":[2,10]}}" "overlaps" 'in the middle of others'
header "{$meta,$tensors,\"sinks\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[2,2]}}" "overlaps" 'empty, inside another'
header "{$meta,$key,$value,$expect}" "hole" 'a hole at the start'
header "{$meta,$query,$value,$expect}" "hole" 'a hole in the middle'
header "{$meta,$query,$key,$value}" "behind the last tensor" 'bytes behind'

# ---- names and attributes ----
none='{"dtype":"F32","shape":[0],"data_offsets":[20,20]}'
tensor "\"quary\":$none" 'unknown tensor'
tensor "\"\":$none" 'unknown tensor'
tensor "\"key.0\":$none" 'unknown tensor'
tensor "\"causal\":$none" 'unknown tensor'
tensor "\"expect.\":$none" 'no output'
tensor "\"expect.attention_out\":$none" 'no output'
attribute '"casual":"1"' 'unknown attribute'
attribute '"":"1"' 'unknown attribute'
attribute '"num_query_heads":"1"' 'unknown attribute'
attribute '"rtol.nothing":"1"' 'no output'
attribute '"compare.":"exact"' 'no output'
attribute '"rtol.out":"-1"' 'rtol.out'
attribute '"atol.out":"nan"' 'atol.out'
attribute '"atol.out":"1 "' 'atol.out'
attribute '"max_bad.out":""' 'max_bad.out'
attribute '"compare.out":"about"' 'compare.out'
attribute '"expect_error":"yes"' 'expect_error'
attribute '"causal":"2"' 'causal'
attribute '"causal":"true"' 'causal'
attribute '"window_left":"1.5"' 'window_left'
attribute '"window_left":"99999999999999999999"' 'window_left'
attribute '"window_left":" 1"' 'window_left'
attribute '"window_left":""' 'window_left'
attribute '"scale":"0.5x"' 'scale'
attribute '"scale":""' 'scale'
attribute '"out_dtype":"float32"' 'out_dtype'
attribute '"q_lens":"1,,1"' 'q_lens'
attribute '"q_lens":"1,"' 'q_lens'
attribute '"q_lens":"1;1"' 'q_lens'
attribute '"triu.query":"F32:1,1"' 'stands beside'
attribute '"triu.nothing":"BOOL:1,1"' 'unknown attribute'
attribute '"triu.drop_mask":"BOOL"' 'triu'
attribute '"triu.drop_mask":"BOOL:4"' 'triu'
attribute '"triu.drop_mask":"BOOL:1,1,1,1,1,1,1"' 'triu'
attribute '"triu.drop_mask":"BIT:4,4"' 'triu'
attribute '"triu.drop_mask":"BOOL:4,x"' 'triu'
attribute '"triu.drop_mask":"BOOL:-4,4"' 'overflows'
attribute '"triu.drop_mask":"BOOL:4294967296,4294967296"' 'overflows'
attribute '"triu.drop_mask":"BOOL:4294967296,1048576"' 'too much'
header "{\"__metadata__\":{\"op\":\"attention\",\"q_lens\":\"1\"},$tensors,\"q_lens\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[20,20]}}" \
    'attribute and a tensor' 'both forms of a list'
v2='"__metadata__":{"op":"fused_infer_attention_score_v2","input_layout":"BNSD"}'
renamed="$query,$key,$value,\"expect.attention_out\":{\"dtype\":\"F64\",$shape,\"data_offsets\":[12,20]}"
header "{$v2,$renamed,\"value.0\":$none}" 'stands beside' 'a list beside the tensor'
header "{$v2,$query,\"key.1\":{\"dtype\":\"F32\",$shape,\"data_offsets\":[4,8]},$value,\"expect.attention_out\":{\"dtype\":\"F64\",$shape,\"data_offsets\":[12,20]}}" \
    'no key.0' 'a list that begins at 1'
header "{$v2,$renamed,\"key.00\":$none}" 'unknown tensor' 'a list index with a leading zero'

# ---- sound files, wrong calls ----
wrong() {
    file "$1" "$data"
    check 1 "$2" "$3"
}
wrong "{$meta,$query,$key,$value,\"bias\":{\"dtype\":\"F64\",$shape,\"data_offsets\":[12,20]}}" 'bias' 'a bias of doubles'
wrong "{$meta,\"query\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},$key,$value,$expect}" 'query' 'query of rank 1'
wrong "{$meta,$query,$key,\"value\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[8,16]},\"sinks\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]}}" \
    'value' 'value of rank 1'
wrong "{$meta,$query,$key,\"sinks\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[8,20]}}" 'value_dim' 'neither value nor value_dim'
wrong "{$meta,$query,\"key\":{\"dtype\":\"F32\",\"shape\":[1,1,0,1],\"data_offsets\":[4,4]},\"value\":{\"dtype\":\"F32\",\"shape\":[1,1,0,1],\"data_offsets\":[4,4]},\"sinks\":{\"dtype\":\"F64\",\"shape\":[2],\"data_offsets\":[4,20]}}" \
    'key\|sinks' 'no KV head'
wrong "{\"__metadata__\":{\"op\":\"attention\",\"layout\":\"sbhd\"},$tensors}" 'layout' 'unknown layout'
wrong "{\"__metadata__\":{\"op\":\"attention\",\"page_layout\":\"pshd\"},$tensors}" 'page_layout' 'page_layout without table'
wrong "{\"__metadata__\":{\"op\":\"attention\",\"q_lens\":\"2\"},$tensors}" 'q_lens' 'q_lens past the tensor'
wrong "{\"__metadata__\":{\"op\":\"attention\",\"kv_lens\":\"-1\"},$tensors}" 'kv_lens' 'negative kv_lens'
wrong "{\"__metadata__\":{\"op\":\"attention\",\"kv_lens\":\"1,1\"},$tensors}" 'kv_lens' 'too many kv_lens'
wrong "{\"__metadata__\":{\"op\":\"attention\",\"out_dtype\":\"I64\"},$tensors}" 'out' 'integer output'
wrong "{\"__metadata__\":{\"op\":\"attention\",\"softcap\":\"-1\"},$tensors}" 'softcap' 'negative softcap'
wrong "{\"__metadata__\":{\"op\":\"attention\",\"softcap\":\"1e-50\"},$tensors}" 'softcap is 1e-50' 'softcap below f32'
wrong "{\"__metadata__\":{\"op\":\"attention\",\"scale\":\"nan\"},$tensors}" 'scale is nan' 'scale nan'

# ---- every byte of the header in turn: any verdict, but no crash ----
at=8
end=$((size - 20))
while [ $at -lt $end ]; do
    case $((at % 3)) in 0) byte=9 ;; 1) byte='"' ;; *) byte='\377' ;; esac
    { head -c $at "$dir/sound"; printf "$byte"; tail -c +$((at + 2)) "$dir/sound"; } >"$dir/file"
    checks=$((checks + 1))
    "$replay" "$dir/file" >"$dir/output" 2>&1
    [ $? -le 2 ] || fail "byte $at replaced by $byte: crash"
    at=$((at + 1))
done

echo "$checks checks, $failures failures"
[ $failures -eq 0 ]
