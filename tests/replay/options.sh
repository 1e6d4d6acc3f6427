#!/bin/sh
# SPDX-License-Identifier: MIT
# What fia-replay prints, writes and returns. Usage: options.sh FIA_REPLAY DIRECTORY_OF_THIS_SCRIPT
set -u
LC_ALL=C
export LC_ALL
replay=$1
here=$2
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
checks=0 failures=0

# expect STATUS PATTERN ARGUMENTS...: exit status, and a line of the output that matches
expect() {
    want=$1 pattern=$2
    shift 2
    checks=$((checks + 1))
    "$replay" "$@" >"$dir/stdout" 2>"$dir/stderr"
    status=$?
    cat "$dir/stdout" "$dir/stderr" >"$dir/output"
    [ $status -eq "$want" ] && grep -q -- "$pattern" "$dir/output" && return
    failures=$((failures + 1))
    echo "FAIL: $* (status $status, expected $want and '$pattern')"
    cat "$dir/output"
}

# only STREAM PATTERN: every line of the last output there matches, and there is one
only() {
    checks=$((checks + 1))
    [ -s "$dir/$1" ] && ! grep -qv -- "$2" "$dir/$1" && return
    failures=$((failures + 1))
    echo "FAIL: $1 is not only '$2'"
    cat "$dir/$1"
}

# same FILE FILE
same() {
    checks=$((checks + 1))
    cmp "$1" "$2" && return
    failures=$((failures + 1))
    echo "FAIL: $1 and $2 differ"
}

# escaped BYTES INTEGER: little endian, as printf takes it
escaped() {
    left=$1 n=$2
    while [ $left -gt 0 ]; do
        printf '\\%03o' $((n & 255))
        n=$((n >> 8)) left=$((left - 1))
    done
}

# file NAME HEADER DATA: formats of printf
file() {
    printf "$2" >"$dir/header"
    { printf "$(escaped 8 "$(wc -c <"$dir/header")")"; cat "$dir/header"; printf "$3"; } >"$dir/$1"
}

one='\000\000\200\077'
two='\000\000\000\100'
nan='\000\000\300\177'
zero='\000\000\000\000'
double_two='\000\000\000\000\000\000\000\100'
double_three='\000\000\000\000\000\000\010\100'
double_nan='\000\000\000\000\000\000\370\177'
shape='"shape":[1,1,1,1]'
query="\"query\":{\"dtype\":\"F32\",$shape,\"data_offsets\":[0,4]}"
key="\"key\":{\"dtype\":\"F32\",$shape,\"data_offsets\":[4,8]}"
value="\"value\":{\"dtype\":\"F32\",$shape,\"data_offsets\":[8,12]}"
wanted="\"expect.out\":{\"dtype\":\"F64\",$shape,\"data_offsets\":[12,20]}"

# call NAME METADATA WANT: q = 1, k = 1, v = 2, so out = 2
call() {
    file "$1" "{\"__metadata__\":{\"op\":\"attention\"$2},$query,$key,$value,$wanted}" "$one$one$two$3"
}

# ---- options ----
call good '' "$double_two"
expect 0 '^attention$' --list-ops
expect 0 '^fused_infer_attention_score_v2$' --list-ops
expect 0 'usage' --help
expect 2 'no file'
expect 2 'unknown option' --frobnicate "$dir/good"
expect 2 'threads' --threads
expect 2 'threads' --threads 0 "$dir/good"
expect 2 'threads' --threads two "$dir/good"
expect 2 'repeat' --repeat 0 "$dir/good"
expect 2 'directory' "$dir/good" --write
expect 0 '^PASS  .*/good  attention  max_abs=0 max_rel=0 bad=0/1$' "$dir/good"
expect 0 '^1 passed, 0 failed, 0 skipped$' "$dir/good"
expect 0 '^2 passed, 0 failed, 0 skipped$' "$dir/good" --threads 3 -- "$dir/good"
expect 0 'median=' --repeat 3 "$dir/good"
expect 0 '^{"result":"PASS",.*"op":"attention","max_abs":0,.*"bad":0,"total":1,' --json "$dir/good"
expect 0 '"median_s":' --json --repeat 2 "$dir/good"
expect 0 '^2 passed, 0 failed, 0 skipped$' --json "$dir/good" "$dir/good" # objects on stdout, so the summary is beside it
only stdout '^{.*}$'
only stderr '^2 passed, 0 failed, 0 skipped$'

# ---- verdicts ----
call wrong '' "$double_three"
call loose ',"rtol.out":"0.34"' "$double_three"
call tight ',"rtol.out":"0.33"' "$double_three"
call share ',"max_bad.out":"1"' "$double_three"
call exact ',"compare.out":"exact","atol.out":"5"' "$double_three"
call not_a_number '' "$double_nan"
expect 1 '^FAIL .* bad=1/1  out\[0,0,0,0\] is 2, expected 3' "$dir/wrong"
expect 1 '^1 passed, 1 failed, 0 skipped$' "$dir/good" "$dir/wrong"
expect 0 '^PASS' "$dir/loose"
expect 1 '^FAIL' "$dir/tight"
expect 0 '^PASS .* bad=1/1' "$dir/share"
expect 1 '^FAIL' "$dir/exact"
expect 1 '^FAIL .* max_abs=inf' "$dir/not_a_number"
file both_nan "{\"__metadata__\":{\"op\":\"attention\"},$query,$key,$value,$wanted}" "$one$one$nan$double_nan"
expect 0 '^PASS' "$dir/both_nan"
file other_shape "{\"__metadata__\":{\"op\":\"attention\"},$query,$key,$value,\"expect.out\":{\"dtype\":\"F64\",\"shape\":[1,1,1],\"data_offsets\":[12,20]}}" "$one$one$two$double_two"
expect 1 '^FAIL .*shape' "$dir/other_shape"
call refused ',"q_lens":"2","expect_error":"1","expect_error_arg":"kv_lens|q_lens"' "$double_two"
call other_name ',"q_lens":"2","expect_error":"1","expect_error_arg":"bias|sinks"' "$double_two"
call taken ',"expect_error":"1","expect_error_arg":"q_lens"' "$double_two"
expect 0 '^PASS .*refused: q_lens' "$dir/refused"
expect 1 '^FAIL .*names another argument' "$dir/other_name"
expect 1 '^FAIL .*must be refused' "$dir/taken"
head -c 50 "$dir/good" >"$dir/cut"
expect 2 '^0 passed, 2 failed, 0 skipped$' "$dir/cut" "$dir/wrong"
call refusal ',"q_lens":"2"' "$double_two"
nothing='max_abs=0 max_rel=0 bad=0/0' # compared: the line has its numbers all the same
expect 2 "^ERROR  .*/cut  -  $nothing  " "$dir/cut"
expect 1 "^ERROR  .*/refusal  attention  $nothing  q_lens is 2; " "$dir/refusal"
expect 0 "^PASS  .*/refused  attention  $nothing  refused: " "$dir/refused"
for missing in "$here"/not_in_build/*; do
    name=$(basename "$missing" | sed 's/-2.*//')
    expect 0 "^SKIP  .*  $name  $nothing  .*\(not in this build\|needs fia_\)" "$missing"
    expect 0 '^0 passed, 0 failed, 1 skipped$' "$missing"
    expect 1 '^0 passed, 1 failed, 0 skipped$' --no-skip "$missing"
done

# ---- one byte before the floats: every tensor lies unaligned ----
sed_shift() {
    printf '%s' "$1" | sed 's/\[0,4\]/[1,5]/; s/\[4,8\]/[5,9]/; s/\[8,12\]/[9,13]/; s/\[12,20\]/[13,21]/'
}
mask="\"drop_mask\":{\"dtype\":\"BOOL\",$shape,\"data_offsets\":[0,1]}"
file unaligned "{\"__metadata__\":{\"op\":\"attention\"},$mask,$(sed_shift "$query,$key,$value,$wanted")}" "\000$one$one$two$double_two"
expect 0 '^PASS' "$dir/unaligned"

# ---- written outputs ----
expect 0 '^PASS' --write "$dir/out" "$dir/good"
checks=$((checks + 1))
grep -q '"out":{"dtype":"F32","shape":\[1,1,1,1\]' "$dir/out/good" || { failures=$((failures + 1)); echo "FAIL: no out written"; }
expect 2 'overwrite' --write "$dir" "$dir/good"
call next '' "$double_two"
mkdir -p "$dir/linked" && ln -s "$dir/next" "$dir/linked/good" # the output of one file is the next input
expect 2 '^PASS  .*/next ' --write "$dir/linked" "$dir/good" "$dir/next"
checks=$((checks + 1))
if [ -c /dev/full ] && "$replay" "$dir/good" >/dev/full 2>/dev/null; then failures=$((failures + 1)); echo "FAIL: a verdict was lost"; fi
printf 'no file' >"$dir/$(printf 'a\377b')"
expect 2 '"file":"[^"]*/a?b"' --json "$dir/$(printf 'a\377b')"
mkdir -p "$dir/elsewhere" && cp "$dir/good" "$dir/elsewhere/good"
expect 2 'two files' --write "$dir/out" "$dir/good" "$dir/elsewhere/good"

# ---- a list as text and as a tensor of either type ----
mkdir -p "$dir/text" "$dir/I32" "$dir/I64"

# forms NAME METADATA TENSORS DATA BYTES_OF_DATA LIST=VALUES...
forms() {
    name=$1 metadata=$2 tensors=$3 numbers=$4 begin=$5 text=
    shift 5
    for list in "$@"; do text="$text,\"${list%%=*}\":\"${list#*=}\""; done
    file "text/$name" "{\"__metadata__\":{$metadata$text},$tensors}" "$numbers"
    for width in 4 8; do
        type=I$((width * 8)) lists= data= at=$begin
        for list in "$@"; do
            start=$at count=0
            for value in $(echo "${list#*=}" | tr , ' '); do
                data="$data$(escaped $width "$value")"
                at=$((at + width)) count=$((count + 1))
            done
            lists="$lists,\"${list%%=*}\":{\"dtype\":\"$type\",\"shape\":[$count],\"data_offsets\":[$start,$at]}"
        done
        file "$type/$name" "{\"__metadata__\":{$metadata},$tensors$lists}" "$numbers$data"
    done
}

# equal_forms: as forms; all three run and write the same
equal_forms() {
    forms "$@"
    for form in text I32 I64; do expect 0 '^PASS' --write "$dir/$form/out" "$dir/$form/$1"; done
    same "$dir/text/out/$1" "$dir/I32/out/$1"
    same "$dir/text/out/$1" "$dir/I64/out/$1"
}

# equal_refusals ARGUMENT ...: as forms; all three are refused, and name the argument
equal_refusals() {
    argument=$1
    shift
    forms "$@"
    for form in text I32 I64; do expect 1 "^ERROR .*  $argument is " "$dir/$form/$1"; done
}

four='"shape":[2,2,1,1]'
pair="\"query\":{\"dtype\":\"F32\",$four,\"data_offsets\":[0,16]},\"key\":{\"dtype\":\"F32\",$four,\"data_offsets\":[16,32]},\"value\":{\"dtype\":\"F32\",$four,\"data_offsets\":[32,48]}"
packed=$(echo "$pair" | sed 's/\[2,2,1,1\]/[4,1,1]/g')
numbers="$one$two$two$one$two$one$one$two$one$two$zero$one"
equal_forms lens '"op":"attention"' "$pair" "$numbers" 48 q_lens=1,2 kv_lens=2,1 q_offset=-3,7
v2='"op":"fused_infer_attention_score_v2","num_query_heads":"1"'
equal_forms padded "$v2,\"input_layout\":\"BSND\"" "$pair" "$numbers" 48 actual_seq_qlen=1,2 actual_seq_kvlen=2,1
equal_forms packed "$v2,\"input_layout\":\"TND\"" "$packed" "$numbers" 48 actual_seq_qlen=1,4 actual_seq_kvlen=3,4
equal_refusals actual_seq_kvlen long "$v2,\"input_layout\":\"BSND\"" "$pair" "$numbers" 48 actual_seq_kvlen=2,3
equal_refusals actual_seq_qlen falling "$v2,\"input_layout\":\"TND\"" "$packed" "$numbers" 48 actual_seq_qlen=4,1 actual_seq_kvlen=3,4

# ---- without return_softmax_lse the second output is one 0, for a call without elements, too ----
lse='"expect.softmax_lse":{"dtype":"F32","shape":[1]'
file no_lse "{\"__metadata__\":{$v2,\"input_layout\":\"BSND\"},$pair,$lse,\"data_offsets\":[48,52]}}" "$numbers$zero"
expect 0 '^PASS' "$dir/no_lse"
file wrong_lse "{\"__metadata__\":{$v2,\"input_layout\":\"BSND\"},$pair,$lse,\"data_offsets\":[48,52]}}" "$numbers$one"
expect 1 '^FAIL .*softmax_lse' "$dir/wrong_lse"
file no_shape "{\"__metadata__\":{$v2,\"input_layout\":\"BSND\"},$pair,\"expect.softmax_lse\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[48,48]}}" "$numbers"
expect 1 '^FAIL .*another shape than expect.softmax_lse' "$dir/no_shape"
none=$(echo "$pair" | sed 's/\[2,2,1,1\]/[2,0,1,1]/g; s/\[0,16\]/[0,0]/; s/\[16,32\]/[0,0]/; s/\[32,48\]/[0,0]/')
file empty_lse "{\"__metadata__\":{$v2,\"input_layout\":\"BSND\"},$none,$lse,\"data_offsets\":[0,4]}}" "$zero"
expect 0 '^PASS' "$dir/empty_lse"

# ---- the same bits for any number of workers ----
for threads in 1 2 7; do expect 0 ' 0 failed, 0 skipped$' --threads $threads --write "$dir/t$threads" "$here"/vectors/[af]*; done
for written in "$dir"/t1/*; do
    same "$written" "$dir/t2/$(basename "$written")"
    same "$written" "$dir/t7/$(basename "$written")"
done

echo "$checks checks, $failures failures"
[ $failures -eq 0 ]
