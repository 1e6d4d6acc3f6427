/* SPDX-License-Identifier: MIT
 *
 * Runs a case in one of many ways and compares every byte of the output with what the oracle says.
 */
#define _POSIX_C_SOURCE 200809L /* pthread_barrier */

#include "case.h"

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- complaints ---- */

static int complain(FILE *log, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(log, format, args);
    va_end(args);
    fputc('\n', log);
    return 1;
}

/* ---- tasks and threads ---- */

enum { MAX_PIECES = 256 };

/* Pieces of a phase's items in random order, taken one after another; `next` is guarded by the lock. */
typedef struct pile {
    const fia_job *job;
    int phase, n, next, workers;
    int64_t begin[MAX_PIECES], end[MAX_PIECES];
    pthread_mutex_t lock;
    fia_status status;
} pile;

static void make_pile(pile *p, const fia_job *job, int phase, case_random *random) {
    int64_t items = fia_phase_items(job, phase), at = 0;
    int i;
    p->phase = phase;
    p->n = p->next = 0;
    while (at < items) {
        int64_t left = items - at, take = case_between(random, 1, left < 5 ? left : 5);
        if (p->n == MAX_PIECES - 1) take = left;
        p->begin[p->n] = at;
        p->end[p->n++] = at += take;
    }
    for (i = p->n - 1; i > 0; --i) {
        int other = (int)case_between(random, 0, i);
        int64_t begin = p->begin[i], end = p->end[i];
        p->begin[i] = p->begin[other];
        p->end[i] = p->end[other];
        p->begin[other] = begin;
        p->end[other] = end;
    }
    p->job = job;
}

static void work_on_pile(pile *p, int worker) {
    for (;;) {
        int piece;
        fia_status status;
        pthread_mutex_lock(&p->lock);
        piece = p->next < p->n ? p->next++ : -1;
        pthread_mutex_unlock(&p->lock);
        if (piece < 0) return;
        status = fia_phase_run(p->job, p->phase, p->begin[piece], p->end[piece], worker);
        pthread_mutex_lock(&p->lock);
        if (status != FIA_OK) p->status = status;
        pthread_mutex_unlock(&p->lock);
    }
}

static void pile_task(void *data, int index) { work_on_pile((pile *)data, index); }

typedef struct thread_task {
    fia_task task;
    void *data;
    int index;
} thread_task;

static void *thread_main(void *data) {
    const thread_task *t = (const thread_task *)data;
    t->task(t->data, t->index);
    return NULL;
}

/* parallel_for on real threads. */
static void on_threads(void *pool, int n, fia_task task, void *data) {
    pthread_t threads[32];
    thread_task tasks[32];
    pthread_attr_t small_stack;
    int i;
    (void)pool;
    pthread_attr_init(&small_stack);
    pthread_attr_setstacksize(&small_stack, 256 * 1024);
    for (i = 0; i < n; ++i) {
        tasks[i].task = task;
        tasks[i].data = data;
        tasks[i].index = i;
        if (pthread_create(&threads[i], &small_stack, thread_main, &tasks[i]) != 0) abort();
    }
    for (i = 0; i < n; ++i) pthread_join(threads[i], NULL);
    pthread_attr_destroy(&small_stack);
}

/* parallel_for that runs one task after another in random order; pool is a case_random. */
static void in_random_order(void *pool, int n, fia_task task, void *data) {
    int order[64], i;
    for (i = 0; i < n; ++i) order[i] = i;
    for (i = n - 1; i > 0; --i) {
        int other = (int)case_between((case_random *)pool, 0, i), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (i = 0; i < n; ++i) task(data, order[i]);
}

static void wait_for_all(void *barrier) { pthread_barrier_wait((pthread_barrier_t *)barrier); }

typedef struct ith_run {
    const fia_job *job;
    int nth;
    pthread_barrier_t barrier;
    fia_status status[32];
    fia_report report[32];
} ith_run;

static void ith_task(void *data, int index) {
    ith_run *run = (ith_run *)data;
    int again; /* layer after layer on one workspace, without a barrier of the caller's between */
    for (again = 0; again < 2; ++again)
        run->status[index] = fia_run_ith(run->job, index, run->nth, wait_for_all, &run->barrier, &run->report[index]);
}

/* ---- one run ---- */

static fia_status run_phases(test_case *c, const fia_job *job, int n, int on_real_threads, fia_report *report) {
    pile p;
    int phase;
    fia_status status = fia_phase_run(job, FIA_PHASE_CHECK, 0, fia_phase_items(job, FIA_PHASE_CHECK),
                                      (int)case_between(&c->random, 0, n - 1));
    p.status = FIA_OK;
    pthread_mutex_init(&p.lock, NULL);
    for (phase = FIA_PHASE_ATTEND; phase < FIA_PHASES && status == FIA_OK; ++phase) {
        make_pile(&p, job, phase, &c->random);
        if (on_real_threads) {
            on_threads(NULL, n, pile_task, &p);
        } else {
            for (; p.next < p.n; ++p.next) {
                fia_status own =
                    fia_phase_run(job, phase, p.begin[p.next], p.end[p.next], (int)case_between(&c->random, 0, n - 1));
                if (own != FIA_OK) p.status = own;
            }
        }
    }
    pthread_mutex_destroy(&p.lock);
    if (fia_job_report(job, report) != status) return FIA_ERR_BACKEND;
    return status != FIA_OK ? status : p.status;
}

static fia_status run_ith(const fia_job *job, int n, fia_report *report) {
    ith_run run;
    int i;
    fia_status status = FIA_OK;
    run.job = job;
    run.nth = n;
    pthread_barrier_init(&run.barrier, NULL, (unsigned)n);
    on_threads(NULL, n, ith_task, &run);
    pthread_barrier_destroy(&run.barrier);
    for (i = 0; i < n; ++i) {
        if (run.status[i] != FIA_OK) {
            status = run.status[i];
            *report = run.report[i];
        }
    }
    return status;
}

static fia_status run_job(test_case *c, const fia_job *job, int mode, int n, fia_report *report) {
    fia_workers workers;
    workers.n = n;
    workers.pool = &c->random;
    workers.parallel_for = mode == CASE_RUN_SHUFFLED ? in_random_order : on_threads;
    switch (mode) {
    case CASE_RUN_SERIAL: return fia_run(job, NULL, report);
    case CASE_RUN_PHASES: return run_phases(c, job, n, 0, report);
    case CASE_RUN_PHASE_THREADS: return run_phases(c, job, n, 1, report);
    case CASE_RUN_ITH: return run_ith(job, n, report);
    default: return fia_run(job, &workers, report);
    }
}

/* Plans, runs, explains. The plan is used as a copy, the workspace is dirty, of the plan's very size and at any address. */
static int run_once(test_case *c, int mode, int max_workers, int n, FILE *log) {
    fia_plan made, plan;
    fia_report report = {FIA_OK, ""};
    fia_job job;
    fia_status status = fia_plan_make(c->hook ? c->hook->context : NULL, &c->problem, max_workers, &made, &report);
    if (status != FIA_OK) return complain(log, "fia_plan_make: status %d: %s", (int)status, report.text);
    memcpy(&plan, &made, sizeof plan);
    job.plan = &plan;
    job.io = &c->io;
    job.workspace = case_workspace(c, plan.workspace_bytes);
    job.workspace_bytes = plan.workspace_bytes;
    status = run_job(c, &job, mode, n, &report);
    if (status == FIA_OK) fia_explain(&plan, &job, c->explained, sizeof c->explained);
    fia_plan_release(&made);
    if (status != FIA_OK) return complain(log, "run: status %d: %s", (int)status, report.text);
    return 0;
}

/* ---- the check ---- */

typedef struct row_errors {
    double got, naive; /* relative to the norm of the oracle's row */
    int bad;           /* a NaN or infinity that should not be, or the other way round */
} row_errors;

static const char *row_of(const case_tensor *t, int packed, int64_t b, int64_t h, int64_t at) {
    return t->base[0] + (packed ? 0 : b) * t->view.sequence_bytes + h * t->view.head_bytes + at * t->view.row_bytes;
}

/* What is left of a difference when the rounding to the output's type is taken off. */
static double beyond_rounding(fia_dtype dtype, double got, double want, double tiny) {
    double half = oracle_half_ulp(dtype, fabs(got) > fabs(want) ? got : want);
    double left = fabs(got - want) - half;
    return left > tiny ? left : 0;
}

/* Differences that f32 cannot hold, or need not: a few subnormal steps, and weights below 2^-126 are flushed. */
static row_errors compare_row(const test_case *c, const char *row, const double *want, const float *naive,
                              const oracle_row_info *info) {
    fia_dtype dtype = c->problem.out.dtype;
    double norm = 0, got_square = 0, naive_square = 0;
    double tiny = 1e-43 + ldexp((double)info->kept * info->largest, -126);
    row_errors e = {0, 0, 0};
    int32_t i;
    for (i = 0; i < c->draw.Dv; ++i) {
        double got = oracle_decode(dtype, row, i);
        if (!isfinite(want[i])) { /* a weight that f32 flushes makes a NaN of an infinity */
            if (!isnan(got) && got != want[i]) e.bad = 1;
            continue;
        }
        if (!isfinite(got)) {
            e.bad = 1;
            continue;
        }
        got = beyond_rounding(dtype, got, want[i], tiny);
        got_square += got * got;
        norm += want[i] * want[i];
        if (!naive || !isfinite(naive[i])) continue;
        got = beyond_rounding(FIA_F32, naive[i], want[i], tiny);
        naive_square += got * got;
    }
    norm = norm > 0 ? norm : 1;
    e.got = sqrt(got_square / norm);
    e.naive = sqrt(naive_square / norm);
    return e;
}

/* An integer output may fall on either side of a tie that is within the error of the row. */
static int integer_row_is_wrong(const test_case *c, const char *row, const double *want, int32_t h, int64_t kept,
                                double bound) {
    const fia_problem *p = &c->problem;
    double norm = 0;
    int32_t i;
    for (i = 0; i < p->value_dim; ++i) norm += want[i] * want[i];
    for (i = 0; i < p->value_dim; ++i) {
        const char *scale =
            (const char *)c->io.out_scale + h * p->out_scale.head_bytes + i * p->out_scale.channel_bytes;
        const char *offset =
            (const char *)c->io.out_offset + h * p->out_offset.head_bytes + i * p->out_offset.channel_bytes;
        double mul = p->out_scale.dtype ? oracle_decode(p->out_scale.dtype, scale, 0) : 1;
        double add = p->out_offset.dtype ? oracle_decode(p->out_offset.dtype, offset, 0) : 0;
        double y = kept ? want[i] * mul + add : 0, slack = kept ? bound * sqrt(norm) * fabs(mul) + 1e-6 * fabs(y) : 0;
        double got = oracle_decode(p->out.dtype, row, i), low = 0, high = 0;
        signed char low_byte, high_byte;
        oracle_encode(FIA_I8, y - slack, &low_byte, 0);
        oracle_encode(FIA_I8, y + slack, &high_byte, 0);
        low = low_byte;
        high = high_byte;
        if (isnan(want[i])) low = high = 0;
        if (got < low || got > high) return 1;
    }
    return 0;
}

/* Many equal products round the same way: on adversarial data the bound follows the naive program, and the number of
 * terms. */
static int lse_is_wrong(const test_case *c, double got, const oracle_row_info *info, int normal, float naive,
                        double *worst) {
    double terms = c->draw.D + c->draw.Dr, bound = 1e-5 + ldexp(info->mass, -21), error;
    if (!info->kept) return !((isnan(got) && isnan(c->problem.lse_empty)) || got == (double)c->problem.lse_empty);
    if (isnan(info->lse)) return !isnan(got);
    error = fabs(got - info->lse);
    if (c->hook && c->hook->tolerance > 2e-6) bound += 4 * c->hook->tolerance;
    else if (normal && error > *worst) *worst = error;
    if (!normal) bound += 4 * fabs(naive - info->lse) + ldexp((info->mass + info->reach / 2) * (8 + terms / 4), -24);
    return !(error <= bound);
}

typedef struct checker {
    test_case *c;
    case_stats *stats;
    FILE *log;
    oracle_call call;
    double *want;
    float *naive;
    int complaints;
} checker;

/* What rounding in f32 may do to a row: its logits went through numbers as large as mass and reach, in sums whose
 * roundings may all go one way, and values cancel. */
static double estimate(const case_draw *d, const oracle_row_info *info) {
    double logit = (info->mass + info->reach / 2) * (8 + (d->D + d->Dr) / 16.0);
    return ldexp(16 + logit, -24) * (info->spread > 1 ? info->spread : 1);
}

/* Normal data: the table of the design. Else what a naive f32 program, or the estimate of its error, reaches. */
static double row_bound(const case_draw *d, double tolerance, int normal, const oracle_row_info *info, double naive) {
    double bound = 4 * tolerance;
    if (normal) return bound;
    bound = bound > 4 * naive ? bound : 4 * naive;
    return bound > estimate(d, info) ? bound : estimate(d, info);
}

/* Errors on adversarial data differ by orders of magnitude from row to row: they count in shares of the estimate. */
static void count_error(case_stats *stats, const case_draw *d, int normal, const oracle_row_info *info,
                        const row_errors *e) {
    case_class *class_ = &stats->classes[(normal ? 0 : 4) + (d->k == FIA_BF16 ? 2 : 0) + (d->exact ? 1 : 0)];
    double unit = normal ? 1 : estimate(d, info), got = e->got / unit, naive = e->naive / unit;
    case_errors row = {1, 0, 0, 0, 0};
    row.squares = got * got;
    row.naive_squares = naive * naive;
    row.worst = got;
    row.naive_worst = naive;
    case_errors_add(&class_->current, &row);
}

static void check_row(checker *k, const oracle_sequence *s, int32_t h, int64_t r) {
    test_case *c = k->c;
    const case_draw *d = &c->draw;
    const char *row = row_of(&c->tensor[CASE_OUT], d->q_packed, s->index, h, s->q_start + r);
    int is_integer = c->problem.out.dtype == FIA_I8, normal, wrong;
    double tolerance = c->hook && c->hook->tolerance > 2e-6 ? c->hook->tolerance : 2e-6, bound;
    oracle_row_info info;
    row_errors e = {0, 0, 0};
    float naive_lse = 0;
    oracle_row(&k->call, s, h, r, &k->stats->oracle, k->want, &info);
    /* The norm of a row may vanish, of few elements or of values that are multiples of one another: such rows are judged
     * by what cancels in them. */
    normal = d->data == CASE_DATA_NORMAL && info.mass <= 32 && d->Dv >= 8 && info.spread <= 4 * sqrt((double)info.kept);
    if (!normal || d->exact) oracle_row_naive(&k->call, s, h, r, &k->stats->oracle, k->naive, &naive_lse);
    if (!is_integer) e = compare_row(c, row, k->want, !normal || d->exact ? k->naive : NULL, &info);
    bound = row_bound(d, tolerance, normal, &info, e.naive);
    wrong = is_integer ? integer_row_is_wrong(c, row, k->want, h, info.kept, bound) : e.bad || !(e.got <= bound);
    ++k->stats->rows;
    if (info.kept && !is_integer && !d->poison && d->Dv >= 8) count_error(k->stats, d, normal, &info, &e);
    if (wrong && k->complaints++ < 4) {
        complain(k->log,
                 "sequence %d head %d row %d keeps %ld keys: error %.3g, bound %.3g, naive %.3g%s; first element %.9g, "
                 "oracle %.9g",
                 (int)s->index, (int)h, (int)r, (long)info.kept, e.got, bound, e.naive,
                 e.bad ? ", NaN or infinity astray" : "", oracle_decode(c->problem.out.dtype, row, 0), k->want[0]);
    }
    if (!d->want_lse) return;
    row = row_of(&c->tensor[CASE_LSE], d->q_packed, s->index, h, s->q_start + r);
    if (lse_is_wrong(c, oracle_decode(FIA_F32, row, 0), &info, normal, naive_lse, &k->stats->lse_worst) &&
        k->complaints++ < 4) {
        complain(k->log, "sequence %d head %d row %d keeps %ld keys: LSE %.9g, oracle %.9g", (int)s->index, (int)h,
                 (int)r, (long)info.kept, oracle_decode(FIA_F32, row, 0), info.lse);
    }
}

/* Bytes that no live row owns are as before; padding is filled if that was asked for. */
static int rest_is_wrong(test_case *c, int which, FILE *log) {
    const case_draw *d = &c->draw;
    const case_tensor *t = &c->tensor[which];
    oracle_call call = {&c->problem, &c->io, NULL};
    size_t row_bytes = which == CASE_LSE ? 4
                                         : (size_t)t->elements * (d->out == FIA_F32  ? 4
                                                                  : d->out == FIA_I8 ? 1
                                                                                     : 2),
           i;
    unsigned char *expected = (unsigned char *)malloc(t->bytes[0] + 1);
    int64_t b, h, r, end = 0;
    int wrong;
    if (!expected) abort();
    memset(expected, 0xff, t->bytes[0]);
    for (b = 0; b < d->B; ++b) {
        oracle_sequence s;
        oracle_find_sequence(&call, b, &s);
        end = d->q_packed ? (b + 1 < d->B ? s.q_start + s.q_len : c->problem.total_q) : d->room_q;
        for (h = 0; h < t->heads; ++h) {
            for (r = s.q_start; r < end; ++r) {
                const char *row = row_of(t, d->q_packed, b, h, r);
                unsigned char *want = expected + (row - t->memory[0]);
                if (r < s.q_start + s.q_len) memcpy(want, row, row_bytes);
                else if (d->fill_padding && which == CASE_LSE) memcpy(want, &c->problem.lse_empty, 4);
                else if (d->fill_padding) memset(want, 0, row_bytes);
            }
        }
    }
    wrong = d->B > 0 && memcmp(expected, t->memory[0], t->bytes[0]) != 0;
    for (i = 0; wrong && i < t->bytes[0]; ++i) {
        if (expected[i] == (unsigned char)t->memory[0][i]) continue;
        complain(log, "byte %lu of %s (of %lu) is %02x, expected %02x: padding or gaps", (unsigned long)i,
                 which == CASE_OUT ? "out" : "lse", (unsigned long)t->bytes[0],
                 (unsigned)(unsigned char)t->memory[0][i], (unsigned)expected[i]);
        break;
    }
    free(expected);
    return wrong;
}

static int check_outputs(test_case *c, case_stats *stats, FILE *log) {
    checker k;
    int64_t b, r;
    int32_t h;
    int i;
    k.c = c;
    k.stats = stats;
    k.log = log;
    k.call.problem = &c->problem;
    k.call.io = &c->io;
    k.call.source = c->hook ? &c->source : NULL;
    k.want = (double *)malloc(sizeof(double) * (size_t)c->draw.Dv);
    k.naive = (float *)malloc(sizeof(float) * (size_t)c->draw.Dv);
    k.complaints = 0;
    oracle_work_reset(&stats->oracle);
    for (b = 0; b < c->draw.B; ++b) {
        oracle_sequence s;
        oracle_find_sequence(&k.call, b, &s);
        for (h = 0; h < c->problem.n_q_heads; ++h) {
            for (r = 0; r < s.q_len; ++r) check_row(&k, &s, h, r);
        }
    }
    free(k.want);
    free(k.naive);
    for (i = 0; i < CASE_CLASSES; ++i) case_class_end(&stats->classes[i]);
    k.complaints += rest_is_wrong(c, CASE_OUT, log);
    if (c->draw.want_lse) k.complaints += rest_is_wrong(c, CASE_LSE, log);
    return k.complaints > 0;
}

/* Another run, with other workers and in another way, gives the same bits. */
static int repeat_differs(test_case *c, const case_limits *limits, FILE *log) {
    int which, max_workers = (int)case_between(&c->random, 1, 17), n = (int)case_between(&c->random, 1, max_workers);
    int mode =
        limits->threads_only ? CASE_RUN_THREADS : (int)case_between(&c->random, CASE_RUN_SERIAL, CASE_RUN_PHASES);
    unsigned char *before[CASE_TENSORS] = {NULL};
    int wrong = 0;
    for (which = CASE_OUT; which <= CASE_LSE; ++which) {
        const case_tensor *t = &c->tensor[which];
        if (!t->parts) continue;
        before[which] = (unsigned char *)malloc(t->bytes[0] + 1);
        if (!before[which]) abort();
        memcpy(before[which], t->memory[0], t->bytes[0]);
        memset(t->memory[0], 0xff, t->bytes[0]);
    }
    wrong = run_once(c, mode, max_workers, n, log);
    for (which = CASE_OUT; which <= CASE_LSE; ++which) {
        const case_tensor *t = &c->tensor[which];
        if (before[which] && memcmp(before[which], t->memory[0], t->bytes[0]) != 0) {
            wrong = complain(log, "bits of %s differ with %d of %d workers in run mode %d",
                             which == CASE_OUT ? "out" : "lse", n, max_workers, mode);
        }
        free(before[which]);
    }
    return wrong;
}

/* ---- statistics ---- */

void case_stats_init(case_stats *stats) {
    memset(stats, 0, sizeof *stats);
    oracle_work_init(&stats->oracle);
}

void case_errors_add(case_errors *into, const case_errors *from) {
    into->n += from->n;
    into->squares += from->squares;
    into->naive_squares += from->naive_squares;
    into->worst = fmax(into->worst, from->worst);
    into->naive_worst = fmax(into->naive_worst, from->naive_worst);
}

void case_class_end(case_class *class_) {
    const case_errors none = {0, 0, 0, 0, 0};
    if (class_->current.squares > class_->heaviest.squares) {
        case_errors_add(&class_->others, &class_->heaviest);
        class_->heaviest = class_->current;
    } else {
        case_errors_add(&class_->others, &class_->current);
    }
    class_->current = none;
}

void case_stats_free(case_stats *stats) { oracle_work_free(&stats->oracle); }

void case_count_word(case_stats *stats, const char *word, int64_t times) {
    int i;
    for (i = 0; i < stats->n_words; ++i) {
        if (strcmp(stats->word[i], word) == 0) {
            stats->word_count[i] += times;
            return;
        }
    }
    if (stats->n_words == CASE_MAX_WORDS) return;
    strncpy(stats->word[stats->n_words], word, CASE_WORD_BYTES - 1);
    stats->word_count[stats->n_words++] = times;
}

/* "stream 3" is "stream", counted once; "stream 0" and bare numbers are nothing. */
static void count_one(case_stats *stats, const char *key, size_t key_n, const char *text, size_t n) {
    char word[CASE_WORD_BYTES];
    size_t digits = 0;
    while (n && *text == ' ') ++text, --n;
    while (digits < n && text[n - 1 - digits] >= '0' && text[n - 1 - digits] <= '9') ++digits;
    if (digits == n) return;
    if (digits && text[n - digits - 1] == ' ') {
        if (digits == 1 && text[n - 1] == '0') return;
        n -= digits + 1;
    }
    if (key_n + n + 3 > sizeof word) return;
    memcpy(word, key, key_n);
    memcpy(word + key_n, ": ", 2);
    memcpy(word + key_n + 2, text, n);
    word[key_n + 2 + n] = 0;
    case_count_word(stats, word, 1);
}

/* Lines "key: word 3, word, word 0". A kernel of a family that no sequence took did not run. */
static void count_explained(case_stats *stats, const char *text) {
    int no_stream = strstr(text, "families: stream 0") != NULL, no_tile = strstr(text, ", tile 0\n") != NULL;
    while (*text) {
        size_t line = strcspn(text, "\n"), key = strcspn(text, ":\n"), at = key + 1;
        if ((no_stream && strncmp(text, "stream kernel", 13) == 0) ||
            (no_tile && strncmp(text, "tile kernel", 11) == 0))
            at = line;
        while (at < line) {
            size_t n = strcspn(text + at, ",\n");
            count_one(stats, text, key, text + at, n);
            at += n + 1;
        }
        text += line;
        if (*text) ++text;
    }
}

/* The number behind a key of fia_explain, 0 if there is none. */
static int64_t explained_number(const test_case *c, const char *key) {
    const char *at = strstr(c->explained, key);
    return at ? strtoll(at + strlen(key), NULL, 10) : 0;
}

/* Which k of the chunk rule the engine took for the longest sequence. */
static void count_chunk(const test_case *c, case_stats *stats) {
    int64_t base = explained_number(c, "chunk base: "), chunk = explained_number(c, "longest chunk: ");
    char word[CASE_WORD_BYTES];
    int k = 0;
    if (c->draw.pin_chunk || base <= 0 || chunk <= 0) return;
    while (base << k < chunk) ++k;
    snprintf(word, sizeof word, "chunk rule: k = %d", k);
    case_count_word(stats, word, 1);
}

static void count_case(const test_case *c, case_stats *stats, const case_limits *limits) {
    unsigned char has[CASE_MAX_FEATURES];
    int n = case_features(c, has), a, b;
    int64_t i, longest = 0;
    double work = case_work(c);
    ++stats->cases;
    stats->work += work;
    stats->most_work = fmax(stats->most_work, work);
    for (i = 0; i < c->draw.B; ++i) longest = c->draw.kv_len[i] > longest ? c->draw.kv_len[i] : longest;
    if (longest > 32 * limits->chunk) ++stats->long_cases;
    count_chunk(c, stats);
    for (a = 0; a < n; ++a) {
        for (b = a + 1; has[a] && b < n; ++b) stats->pairs[a][b] += has[b];
    }
    count_explained(stats, c->explained);
    count_explained(stats, c->note);
}

int case_run_and_check(test_case *c, case_stats *stats, const case_limits *limits, FILE *log) {
    int wrong = run_once(c, c->draw.run_mode, c->draw.max_workers, c->draw.n_workers, log);
    if (!wrong) {
        count_case(c, stats, limits);
        wrong = check_outputs(c, stats, log);
    } else {
        ++stats->cases;
    }
    if (!wrong && c->draw.repeat) wrong = repeat_differs(c, limits, log);
    if (!wrong && c->hook && c->hook->after) wrong = c->hook->after(c, log);
    if (!wrong) return 0;
    ++stats->failed;
    case_print(c, log);
    return 1;
}

/* ---- description ---- */

static const char *dtype_name(fia_dtype dtype) {
    return dtype == FIA_NONE   ? "-"
           : dtype == FIA_F32  ? "f32"
           : dtype == FIA_F16  ? "f16"
           : dtype == FIA_BF16 ? "bf16"
           : dtype == FIA_I8   ? "i8"
           : dtype == FIA_I4   ? "i4"
           : dtype == FIA_BOOL ? "bool"
           : dtype == FIA_U8   ? "u8"
                               : "other";
}

static void print_lens(FILE *log, const char *name, const int64_t *lens, int64_t n) {
    int64_t i;
    fprintf(log, " %s", name);
    for (i = 0; i < n; ++i) fprintf(log, "%c%ld", i ? ',' : '=', (long)lens[i]);
}

static void print_view(FILE *log, const char *name, const fia_view *v) {
    if (v->dtype == FIA_NONE) return;
    fprintf(log, "  %s %s: sequence %ld head %ld row %ld piece %d/%ld bytes\n", name, dtype_name(v->dtype),
            (long)v->sequence_bytes, (long)v->head_bytes, (long)v->row_bytes, (int)v->piece_elements,
            (long)v->piece_bytes);
}

static void print_mask(FILE *log, const char *name, const fia_mask_view *v) {
    if (v->dtype == FIA_NONE) return;
    fprintf(log, "  %s %s: %ld rows %ld keys, sequence %ld head %ld row %ld bytes\n", name, dtype_name(v->dtype),
            (long)v->rows, (long)v->keys, (long)v->sequence_bytes, (long)v->head_bytes, (long)v->row_bytes);
}

void case_print(const test_case *c, FILE *log) {
    const case_draw *d = &c->draw;
    const fia_problem *p = &c->problem;
    unsigned char has[CASE_MAX_FEATURES];
    int n = case_features(c, has), i;
    fprintf(log, "case 0x%016llx%s%s: D %d Dr %d Dv %d Hkv %d G %d, B %d of %d, max_q_len %ld max_kv_len %ld\n ",
            (unsigned long long)c->seed, c->hook ? " of " : "", c->hook ? c->hook->name : "", (int)d->D, (int)d->Dr,
            (int)d->Dv, (int)d->Hkv, (int)d->G, (int)d->B, (int)d->room_B, (long)d->room_q, (long)d->room_kv);
    print_lens(log, "q_len", d->q_len, d->B);
    print_lens(log, "kv_len", d->kv_len, d->B);
    if (d->has_q_offset) print_lens(log, "q_offset", d->q_offset, d->B);
    if (d->has_kv_offset) print_lens(log, "kv_offset", d->kv_offset, d->B);
    fprintf(
        log,
        "\n  page size %ld, window %ld %ld, scale %g, softcap %g, chunk %ld, workers %d of %d, run mode %d, data %d\n ",
        (long)d->page_size, (long)d->window_left, (long)d->window_right, d->scale, d->softcap, (long)d->pin_chunk,
        d->n_workers, d->max_workers, d->run_mode, d->data);
    for (i = 0; i < n; ++i) {
        if (has[i]) fprintf(log, " %s;", case_feature_name(i));
    }
    fputc('\n', log);
    print_view(log, "query", &p->query);
    print_view(log, "key", &p->key);
    if (!p->value_in_key) print_view(log, "value", &p->value);
    print_view(log, "out", &p->out);
    print_mask(log, "bias", &p->bias);
    print_mask(log, "additive_mask", &p->additive_mask);
    print_mask(log, "drop_mask", &p->drop_mask);
    fprintf(log, "  %.*s\n", (int)strcspn(c->explained, "\n"), c->explained);
}
