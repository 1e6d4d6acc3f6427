/* SPDX-License-Identifier: MIT */
/*
 * fia-replay - runs operator calls that were stored in safetensors files, and compares or writes their outputs.
 *
 * A file goes: read and check (safetensors.c) -> names to arguments (call.c, call_<operator>.c) -> plan and run
 * -> compare (compare.c) -> one line, or one JSON object.
 *
 * PASS   compared and within the tolerances, or refused as the file expects
 * FAIL   ran and differs, or took what it should have refused
 * SKIP   the library says "not in this build", or the operator is not in this program
 * ERROR  the file is broken or no call of its operator (exit status 2), or the call was refused as wrong (1)
 */
#define _POSIX_C_SOURCE 200809L
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "call.h"
#include "compare.h"
#include "workers.h"

enum { MAX_THREADS = 1024, EXIT_FAILED = 1, EXIT_UNREADABLE = 2 };

typedef struct options {
    const char *write_dir;
    int threads;
    int64_t repeat;
    int json, no_skip, list_ops;
    const fia_workers *workers; /* NULL: one thread */
    char **files;
    int n_files;
} options;

typedef enum verdict { PASS, FAIL, ERROR, SKIP } verdict;

static const char *const verdict_names[] = {"PASS", "FAIL", "ERROR", "SKIP"};

/* What is said about one file. */
typedef struct outcome {
    verdict verdict;
    int unreadable; /* the file, not the call, is at fault */
    double max_abs, max_rel;
    int64_t bad, total;
    double median; /* seconds; negative: not timed */
    reason why;
} outcome;

/* ---- options ---- */

static void usage(FILE *to) {
    (void)fprintf(to, "usage: fia-replay [options] FILE.safetensors...\n"
                      "  --write DIR        write DIR/<file name> holding the outputs under their plain names\n"
                      "  --threads N        worker threads (default 1)\n"
                      "  --repeat N         time N runs after one warm-up and print the median\n"
                      "  --json             one JSON object per file on stdout\n"
                      "  --no-skip          a SKIP counts as a failure\n"
                      "  --list-ops         print every operator name this build can run, one a line\n");
}

static int usage_error(const char *what, const char *text) {
    (void)fprintf(stderr, "fia-replay: %s%s\n", what, text);
    usage(stderr);
    return -1;
}

static int read_count(const char *name, const char *text, int64_t most, int64_t *value) {
    if (text && !parse_int(text, value) && *value >= 1 && *value <= most) return 0;
    (void)fprintf(stderr, "fia-replay: %s takes a number from 1 to %lld\n", name, (long long)most);
    return -1;
}

static int read_options(int argc, char **argv, options *o) {
    int i, only_files = 0;
    int64_t threads = 1;
    memset(o, 0, sizeof(*o));
    o->files = argv; /* file names move to the front: never past the argument that is read */
    for (i = 1; i < argc; ++i) {
        const char *a = argv[i];
        if (only_files || a[0] != '-') o->files[o->n_files++] = argv[i];
        else if (!strcmp(a, "--")) only_files = 1;
        else if (!strcmp(a, "--json")) o->json = 1;
        else if (!strcmp(a, "--no-skip")) o->no_skip = 1;
        else if (!strcmp(a, "--list-ops")) o->list_ops = 1;
        else if (!strcmp(a, "--write")) o->write_dir = ++i < argc ? argv[i] : NULL;
        else if (!strcmp(a, "--threads")) {
            if (read_count(a, ++i < argc ? argv[i] : NULL, MAX_THREADS, &threads)) return -1;
        } else if (!strcmp(a, "--repeat")) {
            if (read_count(a, ++i < argc ? argv[i] : NULL, 1000000, &o->repeat)) return -1;
        } else return usage_error("unknown option ", a);
        if (!strcmp(a, "--write") && !only_files && !o->write_dir) return usage_error("--write takes a directory", "");
    }
    o->threads = (int)threads;
    return o->n_files || o->list_ops ? 0 : usage_error("no file", "");
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Two inputs of one name would overwrite each other's outputs. */
static int check_write(const options *o) {
    int i, j;
    if (!o->write_dir) return 0;
    for (i = 0; i < o->n_files; ++i) {
        for (j = 0; j < i; ++j) {
            if (!strcmp(base_name(o->files[i]), base_name(o->files[j]))) {
                return usage_error("--write: two files are named ", base_name(o->files[i]));
            }
        }
    }
    if (mkdir(o->write_dir, 0777) && errno != EEXIST) return usage_error("--write: cannot make ", o->write_dir);
    return 0;
}

/* ---- one call ---- */

static const call_operator *find_operator(const char *name) {
    const call_operator *const *op;
    for (op = call_operators; *op; ++op) {
        if (!strcmp((*op)->name, name)) return *op;
    }
    return NULL;
}

static void unreadable(outcome *result) {
    result->verdict = ERROR;
    result->unreadable = 1;
}

static double seconds_now(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The run that is compared is the warm-up. */
static call_status run_repeatedly(replay_call *call, const call_operator *op, int64_t repeat, double *median) {
    call_status status = op->run(call);
    double *times;
    int64_t i;
    if (status != CALL_OK || !repeat) return status;
    times = call_alloc(call, (size_t)repeat * sizeof(*times));
    if (!times) return CALL_UNUSABLE;
    for (i = 0; i < repeat && status == CALL_OK; ++i) {
        double start = seconds_now();
        status = op->run(call);
        times[i] = seconds_now() - start;
    }
    qsort(times, (size_t)repeat, sizeof(*times), ascending);
    *median = repeat % 2 ? times[repeat / 2] : 0.5 * (times[repeat / 2 - 1] + times[repeat / 2]);
    return status;
}

/* 1: text contains one of the names of "a|b|c"; no names: any text will do. */
static int names_one_of(const char *text, const char *names) {
    while (names && *names) {
        size_t n = strcspn(names, "|");
        const char *at;
        for (at = text; n && *at; ++at) {
            if (!strncmp(at, names, n)) return 1;
        }
        names += n + (names[n] == '|');
        if (!*names) return 0;
    }
    return 1;
}

/* The call had to be refused as wrong, with a message that names the argument, and without a byte written. */
static void judge_refusal(const replay_call *call, call_status status, outcome *result) {
    const char *names = st_metadata(call->file, "expect_error_arg");
    const char *text = call->report.text, *wrong = NULL;
    if (status == CALL_OK) wrong = "ran, but must be refused";
    else if (call->report.status != FIA_ERR_ARGUMENT) wrong = "refused, but not as wrong: ";
    else if (!text[0]) wrong = "refused without a message";
    else if (!names_one_of(text, names)) wrong = "the refusal names another argument: ";
    else if (!call_outputs_untouched(call)) wrong = "refused, but outputs were written: ";
    result->verdict = wrong ? FAIL : PASS;
    (void)reason_set(&result->why, "%s%s", wrong ? wrong : "refused: ", status == CALL_OK ? "" : text);
}

static const call_output *find_output(const replay_call *call, const char *name) {
    int i;
    for (i = 0; i < call->n_outputs; ++i) {
        if (!strcmp(call->outputs[i].name, name)) return &call->outputs[i];
    }
    return NULL;
}

static void compare_all(const replay_call *call, const call_operator *op, outcome *result) {
    const char *const *name;
    for (name = op->outputs; *name; ++name) {
        const call_output *output = find_output(call, *name);
        const st_tensor *expected;
        compare_rule rule;
        compare_result one;
        char key[96];
        (void)snprintf(key, sizeof(key), "expect.%s", *name);
        expected = st_find(call->file, key);
        if (!expected) continue;
        if (!output) {
            (void)reason_set(&result->why, "%s: the call gives no such output", key);
            unreadable(result);
            return;
        }
        (void)compare_read_rule(call->file, *name, &rule, &result->why);
        compare_output(output, expected, &rule, &one);
        result->max_abs = fmax(result->max_abs, one.max_abs);
        result->max_rel = fmax(result->max_rel, one.max_rel);
        result->bad += one.bad;
        result->total += one.total;
        if (one.failed && result->verdict == PASS) {
            result->verdict = FAIL;
            result->why = one.why;
        }
    }
}

static int is_same_file(const char *a, const char *b) {
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int write_outputs(replay_call *call, const call_operator *op, const char *source, const options *o,
                         reason *why) {
    st_tensor tensors[CALL_MAX_OUTPUTS];
    size_t bytes = strlen(o->write_dir) + strlen(base_name(source)) + 2;
    char *path = call_alloc(call, bytes);
    int i;
    if (!path) return reason_set(why, "out of memory");
    (void)snprintf(path, bytes, "%s/%s", o->write_dir, base_name(source));
    for (i = 0; i < o->n_files; ++i)
        if (is_same_file(o->files[i], path)) return reason_set(why, "--write would overwrite the input");
    memset(tensors, 0, sizeof(tensors));
    for (i = 0; i < call->n_outputs; ++i) {
        const call_output *output = &call->outputs[i];
        tensors[i].name = output->name;
        tensors[i].type = dtype_by_code(output->tensor.dtype);
        tensors[i].ndim = output->tensor.ndim;
        memcpy(tensors[i].shape, output->tensor.shape, sizeof(tensors[i].shape));
        tensors[i].data = output->tensor.data;
    }
    return st_write(path, tensors, (size_t)call->n_outputs, op->name, why);
}

/* The attributes that belong to this program. */
static int read_expectations(const st_file *file, const call_operator *op, int *expect_error, reason *why) {
    const char *flag = st_metadata(file, "expect_error");
    const char *const *name;
    compare_rule rule;
    *expect_error = 0;
    if (flag && parse_bool(flag, expect_error)) {
        return reason_set(why, "attribute expect_error = \"%s\": takes 0 or 1", flag);
    }
    for (name = op->outputs; *name; ++name) {
        if (compare_read_rule(file, *name, &rule, why)) return -1;
    }
    return 0;
}

static void run_call(replay_call *call, const call_operator *op, const char *path, const options *o, outcome *result) {
    call_status status = op->plan(call);
    if (status == CALL_OK) status = run_repeatedly(call, op, o->repeat, &result->median);
    if (status == CALL_UNUSABLE) {
        unreadable(result);
        result->why = call->why;
    } else if (call->expect_error) {
        judge_refusal(call, status, result);
    } else if (status == CALL_REFUSED) {
        result->verdict = call->report.status == FIA_ERR_NOT_IN_BUILD ? SKIP : ERROR;
        (void)reason_set(&result->why, "%s", call->report.text);
    } else {
        compare_all(call, op, result);
        if (o->write_dir && write_outputs(call, op, path, o, &result->why)) unreadable(result);
    }
}

static void replay(const st_file *file, const char *path, const options *o, outcome *result) {
    const char *name = st_metadata(file, "op");
    const call_operator *op = name ? find_operator(name) : NULL;
    replay_call call;
    memset(&call, 0, sizeof(call));
    call.file = file;
    call.max_workers = o->threads;
    call.workers = o->workers;
    unreadable(result);
    if (!name) {
        (void)reason_set(&result->why, "__metadata__ has no op");
    } else if (!op && call_is_known_operator(name)) {
        result->verdict = SKIP;
        result->unreadable = 0;
        (void)reason_set(&result->why, "operator %s is not in this build", name);
    } else if (!op) {
        (void)reason_set(&result->why, "op \"%s\" is no operator", name);
    } else if (!call_check_names(file, op, &result->why) &&
               !read_expectations(file, op, &call.expect_error, &result->why)) {
        result->verdict = PASS;
        result->unreadable = 0;
        run_call(&call, op, path, o, result);
    }
    call_end(&call);
}

/* ---- output ---- */

/* Every line has the numbers; where nothing was compared they are 0, of 0 elements. */
static void print_line(const char *path, const char *op, const outcome *result) {
    (void)printf("%s  ", verdict_names[result->verdict]);
    print_clean(stdout, path);
    (void)printf("  ");
    print_clean(stdout, op ? op : "-");
    (void)printf("  max_abs=%.3g max_rel=%.3g", result->max_abs, result->max_rel);
    (void)printf(" bad=%lld/%lld", (long long)result->bad, (long long)result->total);
    if (result->median >= 0) (void)printf(" median=%.3gms", 1e3 * result->median);
    if (result->why.text[0]) {
        (void)printf("  ");
        print_clean(stdout, result->why.text);
    }
    (void)printf("\n");
}

/* Infinite differences become null: JSON has no other way to say it. */
static void print_json(const char *path, const char *op, const outcome *result) {
    cJSON *object = cJSON_CreateObject();
    char *text, *file = text_as_utf8(path), *message = text_as_utf8(result->why.text);
    (void)cJSON_AddStringToObject(object, "result", verdict_names[result->verdict]);
    (void)cJSON_AddStringToObject(object, "file", file ? file : "");
    (void)cJSON_AddStringToObject(object, "op", op ? op : "");
    (void)cJSON_AddNumberToObject(object, "max_abs", result->max_abs);
    (void)cJSON_AddNumberToObject(object, "max_rel", result->max_rel);
    (void)cJSON_AddNumberToObject(object, "bad", (double)result->bad);
    (void)cJSON_AddNumberToObject(object, "total", (double)result->total);
    if (result->median >= 0) (void)cJSON_AddNumberToObject(object, "median_s", result->median);
    (void)cJSON_AddStringToObject(object, "message", message ? message : "");
    text = cJSON_PrintUnformatted(object);
    (void)printf("%s\n", text ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(object);
    free(file);
    free(message);
}

static outcome replay_file(const char *path, const options *o) {
    outcome result;
    st_file file;
    const char *op = NULL;
    memset(&result, 0, sizeof(result));
    result.median = -1;
    if (st_read(path, &file, &result.why)) {
        unreadable(&result);
    } else {
        op = st_metadata(&file, "op");
        replay(&file, path, o, &result);
    }
    if (o->json) print_json(path, op, &result);
    else print_line(path, op, &result);
    (void)fflush(stdout);
    st_free(&file);
    return result;
}

static int replay_files(const options *o) {
    int counts[4] = {0, 0, 0, 0}, any_unreadable = 0, failed, i;
    for (i = 0; i < o->n_files; ++i) {
        outcome result = replay_file(o->files[i], o);
        ++counts[result.verdict == SKIP && o->no_skip ? FAIL : result.verdict];
        any_unreadable |= result.unreadable;
    }
    failed = counts[FAIL] + counts[ERROR];
    (void)fprintf(o->json ? stderr : stdout, "%d passed, %d failed, %d skipped\n", counts[PASS], failed, counts[SKIP]);
    return any_unreadable ? EXIT_UNREADABLE : failed ? EXIT_FAILED : EXIT_SUCCESS;
}

static int list_operators(void) {
    const call_operator *const *op;
    for (op = call_operators; *op; ++op) (void)printf("%s\n", (*op)->name);
    return EXIT_SUCCESS;
}

/* What nobody could read is no verdict. */
static int after_output(int status) {
    if (!fflush(stdout) && !ferror(stdout)) return status;
    (void)fprintf(stderr, "fia-replay: cannot write to standard output\n");
    return EXIT_UNREADABLE;
}

int main(int argc, char **argv) {
    options o;
    fia_workers workers;
    worker_pool *pool = NULL;
    int status;
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        usage(stdout);
        return after_output(EXIT_SUCCESS);
    }
    if (read_options(argc, argv, &o) || check_write(&o)) return EXIT_UNREADABLE;
    if (o.list_ops) return after_output(list_operators());
    if (o.threads > 1 && !(pool = worker_pool_start(o.threads))) {
        (void)fprintf(stderr, "fia-replay: cannot start %d threads\n", o.threads);
        return EXIT_UNREADABLE;
    }
    workers.n = o.threads;
    workers.parallel_for = worker_pool_for;
    workers.pool = pool;
    if (pool) o.workers = &workers;
    status = replay_files(&o);
    worker_pool_stop(pool);
    return after_output(status);
}
