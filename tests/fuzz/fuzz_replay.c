/* SPDX-License-Identifier: MIT
 *
 * Any bytes as a replay file: reader, names to arguments, plan and run of the operator, comparison of the outputs.
 * A header of JSON behind its length and in front of data of the sizes that it names is seldom met by chance, hence a
 * mutator of its own, which changes header or data and keeps the length right.
 */
#define _GNU_SOURCE
#define main fia_replay_main
#include "../../tools/fia_replay.c"
#undef main
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

enum { LENGTH_BYTES = 8 };

static uint64_t header_length(const uint8_t *data) {
    uint64_t n = 0;
    int i;
    for (i = LENGTH_BYTES - 1; i >= 0; --i) n = n << 8 | data[i];
    return n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
    const uint64_t header = size > LENGTH_BYTES ? header_length(data) : 0;
    size_t tail, n;
    uint8_t *copy;
    int i;
    if (!header || header > size - LENGTH_BYTES || seed % 8 == 0) return LLVMFuzzerMutate(data, size, most);
    tail = size - LENGTH_BYTES - (size_t)header;
    if (tail && seed % 8 == 1) { /* the data in its length */
        (void)LLVMFuzzerMutate(data + size - tail, tail, tail);
        return size;
    }
    copy = (uint8_t *)malloc(tail + 1);
    if (!copy) return size;
    memcpy(copy, data + size - tail, tail);
    n = LLVMFuzzerMutate(data + LENGTH_BYTES, (size_t)header, most - tail - LENGTH_BYTES);
    memcpy(data + LENGTH_BYTES + n, copy, tail);
    free(copy);
    for (i = 0; i < LENGTH_BYTES; ++i) data[i] = (uint8_t)((uint64_t)n >> 8 * i);
    return LENGTH_BYTES + n + tail;
}

/* What a run would cost at most, in multiply-adds. */
static int is_small(const fia_problem *p) {
    const double rows = p->q_packed ? (double)p->total_q : (double)p->n_sequences * (double)p->max_q_len;
    return rows * (double)p->max_kv_len * p->n_q_heads * ((double)p->dim + p->value_dim) <= FUZZ_MOST_WORK;
}

static void replay_small(const st_file *file) {
    const char *name = st_metadata(file, "op");
    const call_operator *op = name ? find_operator(name) : NULL;
    replay_call call;
    outcome result;
    memset(&call, 0, sizeof(call));
    memset(&result, 0, sizeof(result));
    call.file = file;
    call.max_workers = 2;
    if (op && !call_check_names(file, op, &result.why) &&
        !read_expectations(file, op, &call.expect_error, &result.why)) {
        call_status status = op->plan(&call);
        if (status == CALL_OK && is_small(&call.plan.problem)) status = op->run(&call);
        if (status == CALL_OK) compare_all(&call, op, &result);
        if (status == CALL_UNUSABLE) FUZZ_CHECK(call.why.text[0], "unusable, without a reason");
        if (status == CALL_REFUSED) FUZZ_CHECK(strstr(call.report.text, "; "), call.report.text);
        if (status == CALL_REFUSED && call.expect_error) FUZZ_CHECK(call_outputs_untouched(&call), call.report.text);
    } else if (op) {
        FUZZ_CHECK(result.why.text[0], "refused without a reason");
    }
    call_end(&call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[40];
    reason why;
    st_file file;
    const int memory = memfd_create("replay", 0);
    FUZZ_CHECK(memory >= 0 && write(memory, data, size) == (ssize_t)size, "a file in memory");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
    why.text[0] = 0;
    if (st_read(path, &file, &why)) FUZZ_CHECK(why.text[0], "refused without a reason");
    else replay_small(&file);
    st_free(&file);
    (void)close(memory);
    return 0;
}
