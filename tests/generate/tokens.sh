# SPDX-License-Identifier: MIT
#
# Checks the tokens that the generator makes of two prompts, over cache types, page sizes and threads, and how it
# refuses broken files.    usage: sh tokens.sh GENERATE MODELS_DIR
set -u
generate=$1
models=$2
failed=0
checks=0
export OMP_WAIT_POLICY=passive # teams that spin crawl on a machine with other work
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

alice_text='Alice was beginning to'
alice_prompt='1 283 585 479 701 345 326 369 368'
alice_next='403 343 335 419 269 13 13 454 305 504 267 394 263 398 389 411 933 368 348 588 896 960 605 508 348 904 369
269 13 13 454 307 350 263 347 432 607 508 348 904 369 269 13 13 454 307 350 263 347 432 607 508 348 502
769 603 430 619 269 13 13 454 307 350 263 347 432 607 508 348 502 769 603 430 619 269 13 13 454 307 350
263 347 432 938 605 508 348 502 769 603 430 619 269 13 13'
milton_text="Of Man's first disobedience,"
milton_prompt='1 472 502 381 474 682 584 327 314 356 321 361 539'
milton_next='340 13 466 368 348 359 507 376 589 267 360 379 348 344 500 340 13 472 589 474 920 400 360 379 348 359 396
316 407 376 536 269 340 13 642 514 639 348 482 354 328 414 344 323 392 332 331 348 344 500 340 13 472 482
354 844 320 410 267 360 348 344 500 356 344 500 340 13 472 482 354 844 320 410 267 360 348 344 500 356
344 324 380 615 340 13 472 482 354 844 320 410 267 360 348 344'

# check NAME WANT GOT
check() {
    checks=$((checks + 1))
    want=$(printf '%s' "$2" | tr '\n' ' ')
    if [ "$want" != "$3" ]; then
        failed=$((failed + 1))
        printf 'FAILED %s\n  want %s\n  got  %s\n' "$1" "$want" "$3"
    fi
}

# line LABEL FILE: what follows the label
line() { sed -n "s/^$1: //p" "$2"; }

run() { "$generate" --ids "$@" >"$scratch/out" 2>"$scratch/err" || cat "$scratch/err"; }

# greedy NAME OPTIONS...: both prompts, one after the other
greedy() {
    name=$1
    shift
    run "$@" --prompt "$alice_text"
    check "$name: prompt" "$alice_prompt" "$(line 'prompt 0' "$scratch/out")"
    check "$name: tokens" "$alice_next" "$(line 'tokens 0' "$scratch/out")"
    run "$@" --prompt "$milton_text"
    check "$name: prompt" "$milton_prompt" "$(line 'prompt 0' "$scratch/out")"
    check "$name: tokens" "$milton_next" "$(line 'tokens 0' "$scratch/out")"
}

# The Q8_0 file and a bf16 cache give the same tokens: there, too, the gaps are wider than the rounding.
for kv in f32 f16 bf16; do
    for page in 1 16 128; do
        for threads in 1 2; do
            for file in f16 q8_0; do
                greedy "$file file, KV $kv, page $page, threads $threads" \
                    --model "$models/tiny-classics-$file.gguf" --kv $kv --page $page --threads $threads
            done
        done
    done
done

# Sequences that share the pool, and prompts that are fed in parts next to a sequence that decodes already.
for rows in 3 16 512; do
    run --model "$models/tiny-classics-f16.gguf" --rows $rows --page 4 --kv f32 \
        --prompt "$alice_text" --prompt "$milton_text"
    check "two sequences, rows $rows: tokens 0" "$alice_next" "$(line 'tokens 0' "$scratch/out")"
    check "two sequences, rows $rows: tokens 1" "$milton_next" "$(line 'tokens 1' "$scratch/out")"
done

# Sampling shows every bit of the logits: page size and threads must not change one.
sample() {
    run --model "$models/tiny-classics-f16.gguf" --kv bf16 --temperature 1.5 --seed 7 --length 400 \
        --prompt "$alice_text" "$@"
}
sample --page 16 --threads 1
first=$(line 'tokens 0' "$scratch/out")
check "bf16, temperature: not greedy" 1 "$([ "$first" != "$alice_next" ] && [ -n "$first" ] && echo 1)"
sample --page 1 --threads 2
check "bf16, temperature: page 1, threads 2" "$first" "$(line 'tokens 0' "$scratch/out")"
sample --page 512 --threads 1 --prompt "$milton_text"
check "bf16, temperature: page 512, a neighbour" "$first" "$(line 'tokens 0' "$scratch/out")"

# Bytes that are no token of their own come back as byte tokens, and print as they were.
check "byte fallback" "prompt 0: 1 229 145 173 13 313" \
    "$("$generate" --model "$models/tiny-classics-f16.gguf" --ids --length 0 --prompt "$(printf '\342\216\252\na')" \
        2>/dev/null | head -n 1)"

# refused NAME WORDS COMMAND...: exit status 1 and a sentence that holds the words
refused() {
    name=$1
    words=$2
    shift 2
    "$@" >"$scratch/out" 2>"$scratch/err"
    check "$name: exit status" 1 $?
    check "$name: sentence" 1 "$(grep -c "^generate: .*$words" "$scratch/err")"
}
for bytes in 0 3 20 1000 25000 30000 5540543; do
    head -c $bytes "$models/tiny-classics-f16.gguf" >"$scratch/cut.gguf"
    refused "cut at $bytes" 'the file has' "$generate" --model "$scratch/cut.gguf"
done
refused "no such file" 'cannot be opened' "$generate" --model "$scratch/none.gguf"
refused "a directory" 'cannot be' "$generate" --model "$scratch"
refused "past the context" "the model's context is 512" \
    "$generate" --model "$models/tiny-classics-f16.gguf" --length 504


# Steps that mix a prompt's rows with tokens of another sequence count each as what it is.
"$generate" --model "$models/tiny-classics-f16.gguf" --rows 2 --length 20 --prompt "Alice was beginning to" --prompt "A" \
    >"$scratch/out" 2>"$scratch/err"
check "mixed steps: prompt" 1 "$(grep -c '^prompt  *11 tokens' "$scratch/err")"
check "mixed steps: decode" 1 "$(grep -c '^decode  *38 tokens' "$scratch/err")"
"$generate" --model "$models/tiny-classics-f16.gguf" --length 0 >"$scratch/out" 2>"$scratch/err"
check "no step: memory" 0 "$(grep -c ' 0 in the pool' "$scratch/err")"

echo "generate: $checks checks, $failed failed"
[ $failed -eq 0 ]
