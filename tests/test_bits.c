/* SPDX-License-Identifier: MIT
 *
 * Same bits: out and lse do not depend on workers, batch neighbours, pages, strides, alignments, or on anything that
 * lies in padding and workspace. With bodies of FIA_CHUNK=32 a thousand keys pass through every part of the chunk rule,
 * with those of 512 a chunk has several super blocks, and these several blocks.
 */
#define _DEFAULT_SOURCE
#include "call_scenarios.h"

enum { MOST_WORKERS = 17 };

/* ---- bits to compare with ---- */

/* What every sequence of a scenario gives: one sequence in a call of its own, one worker, plainest form. */
typedef struct wanted {
    call_spec spec;
    unsigned char *bits[CALL_SEQUENCES];
    size_t bytes[CALL_SEQUENCES];
} wanted;

static void want(wanted *w, const call_spec *spec) {
    int b;
    w->spec = *spec;
    for (b = 0; b < spec->n; ++b) {
        const call_form plain = {0};
        call_spec alone = *spec;
        call c;
        alone.n = 1;
        alone.sequence[0] = spec->sequence[b];
        call_make(&c, &alone, &plain);
        call_run_serial(&c);
        w->bits[b] = call_take(&c, 0, call_whole(&c, 0), &w->bytes[b]);
        call_free(&c);
    }
}

static void want_free(wanted *w) {
    int b;
    for (b = 0; b < w->spec.n; ++b) free(w->bits[b]);
}

/* Every sequence of a call has the wanted bits; ids from 1 up tell which is which, others are not looked at. */
static int all_same(const call *c, const wanted *w, const char *what) {
    int b, same = 1;
    for (b = 0; b < c->spec.n; ++b) {
        const int64_t which = c->spec.sequence[b].id - 1;
        if (which < w->spec.n) same &= call_same(c, b, call_whole(c, b), w->bits[which], w->bytes[which], what);
    }
    return same;
}

/* A scenario in a form, run in a way, against what is wanted. */
static int same_in_form(const wanted *w, const call_spec *spec, const call_form *form, const call_how *how,
                        const char *what) {
    call c;
    int same;
    call_make(&c, spec, form);
    call_run(&c, how);
    same = all_same(&c, w, what);
    if (!same) {
        print_error("q order %d packed %d, keys %d packed %d, page size %ld, gap %d, shift %d, fill %02x, mode %d, "
                    "workers %d of %d\n",
                    form->q_order, form->q_packed, form->keys, form->kv_packed, (long)form->page_size, form->gap,
                    form->shift, form->fill, how->mode, how->n, how->max_workers);
    }
    call_free(&c);
    return same;
}

/* Runs a check for every scenario and fails with the names of those where it does not hold. */
static void for_all(int (*holds)(const wanted *w, int index)) {
    int k, failures = 0;
    for (k = 0; k < SCENARIOS; ++k) {
        call_spec spec;
        wanted w;
        scenario_spec(k, &spec);
        want(&w, &spec);
        if (!holds(&w, k)) {
            print_error("in scenario: %s\n", scenario_name(k));
            ++failures;
        }
        want_free(&w);
    }
    assert_int_equal(failures, 0);
}

/* Keys of the shortest chunk: FIA_CHUNK of the bodies. */
static int64_t chunk_base(void) {
    const call_form form = {0};
    fia_plan plan;
    call_spec spec;
    call c;
    call_spec_init(&spec);
    call_make(&c, &spec, &form);
    assert_int_equal(fia_plan_make(NULL, &c.problem, 1, &plan, NULL), FIA_OK);
    call_free(&c);
    return plan.chunk_base;
}

/* ---- workers ---- */

/* How work was cut, over all runs of the program; a scenario that is never cut would prove nothing. */
static int cut_rows, cut_chunks, cut_all_blocks, folded;

static void count_cuts(const char *explained) {
    const char *cuts = strstr(explained, "cuts: "), *merge = strstr(explained, "in phase 2 ");
    if (!cuts || !merge) return;
    cut_rows += !strstr(cuts, "rows 0,");
    if (strstr(cuts, "all blocks by chunks ")) ++cut_all_blocks;
    else cut_chunks += !strstr(cuts, ", chunks 0\n");
    folded += merge[strlen("in phase 2 ")] != '0';
}

static int holds_over_workers(const wanted *w, int index) {
    const call_form form = {.q_order = CALL_TOKEN_MAJOR, .keys = CALL_TOKEN_MAJOR};
    int workers, mode, same = 1;
    call c;
    call_make(&c, &w->spec, &form);
    for (workers = 1; workers <= MOST_WORKERS && same; ++workers)
        for (mode = CALL_SHUFFLED; mode < CALL_MODES && same; ++mode) {
            call_how how = {0, 0, 0, 0, 0xff, 0};
            how.mode = mode;
            how.max_workers = workers;
            how.seed = (uint64_t)(workers * 64 + index);
            how.n = workers;
            call_run(&c, &how);
            count_cuts(c.explained);
            same &= all_same(&c, w, "workers");
            how.n = 1 + (int)(call_mix(how.seed) % (uint64_t)workers); /* fewer tasks than the plan has workers */
            if (mode == CALL_SHUFFLED) {
                call_run(&c, &how);
                same &= all_same(&c, w, "fewer tasks than workers");
            }
            if (!same) print_error("mode %d, %d of %d workers\n", mode, how.n, workers);
        }
    call_free(&c);
    return same;
}

static void bits_do_not_depend_on_workers(void **state) {
    (void)state;
    for_all(holds_over_workers);
    printf("cut between row blocks %d, between chunks %d, all blocks by chunks %d, folded in phase 2 %d\n", cut_rows,
           cut_chunks, cut_all_blocks, folded);
    assert_true(cut_rows > 0 && cut_chunks > 0 && folded > 0);
    assert_true(cut_all_blocks > 0 || chunk_base() > 32);
}

/* ---- neighbours ---- */

/* A sequence of another shape, with content of its own. */
static void add_stranger(call_spec *s, int64_t q_len, int64_t kv_len) {
    if (s->n == CALL_SEQUENCES) return;
    scenario_sequence(s, q_len, kv_len, 3, -8);
    s->sequence[s->n - 1].id = 100 + s->n;
}

static int holds_beside_neighbours(const wanted *w, int index) {
    int round, same = 1, b;
    for (round = 0; round < 6; ++round) {
        call_form form = {0};
        const call_how how = {
            round % 2 ? CALL_PHASES : CALL_SHUFFLED, 1 + 3 * (round % 3), 0, (uint64_t)(index + round), 0xff, 0};
        call_spec spec = w->spec;
        spec.n = 0;
        form.fill = 0xff;
        form.q_packed = round & 1;
        form.kv_packed = round >> 1 & 1;
        form.spare_sequences = round == 4;
        form.spare_q = round == 5 ? 9 : 0;
        form.spare_kv = round == 3 ? 70 : 0;
        if (round == 1) add_stranger(&spec, 90, 1500);
        if (round == 2) add_stranger(&spec, 1, 40);
        for (b = 0; b < w->spec.n; ++b) spec.sequence[spec.n++] = w->spec.sequence[round % 2 ? w->spec.n - 1 - b : b];
        if (round == 3) add_stranger(&spec, 1, 2222);
        if (round == 5) add_stranger(&spec, 41, 5);
        same &= same_in_form(w, &spec, &form, &how, "neighbours");
    }
    return same;
}

static void bits_do_not_depend_on_batch_neighbours(void **state) {
    (void)state;
    for_all(holds_beside_neighbours);
}

/* ---- where keys lie ---- */

static int holds_over_page_sizes(const wanted *w, int index) {
    static const int64_t sizes[] = {1, 7, 16, 128, 4096};
    int k, form_of_page, same = 1;
    for (k = 0; k < 5; ++k)
        for (form_of_page = CALL_BNBSH; form_of_page <= CALL_NZ; ++form_of_page) {
            const call_how how = {CALL_SHUFFLED, 1 + (k + index) % 4, 0, (uint64_t)k, 0xff, 0};
            const call_spec *s = &w->spec;
            call_form form = {0};
            if (form_of_page == CALL_NZ && (s->D % 16 || s->Dv % 16 || s->Dr % 16)) continue;
            form.keys = form_of_page;
            form.page_size = sizes[k];
            form.placement = (uint64_t)(k * 7 + index + form_of_page);
            form.fill = 0xff;
            same &= same_in_form(w, s, &form, &how, "pages");
        }
    return same;
}

static void bits_do_not_depend_on_page_size_or_placement(void **state) {
    (void)state;
    for_all(holds_over_page_sizes);
}

static int holds_over_strides(const wanted *w, int index) {
    int keys, packed, gap, same = 1;
    for (keys = CALL_HEAD_MAJOR; keys <= CALL_LIST; ++keys)
        for (packed = 0; packed < 4; ++packed)
            for (gap = 0; gap <= 5; gap += 5) {
                const call_how how = {CALL_SHUFFLED, 1 + (packed + index) % 5, 0, 1, 0, 0};
                call_form form = {0};
                form.q_order = (packed + keys) & 1;
                form.q_packed = packed & 1;
                form.kv_packed = keys != CALL_LIST && packed & 2;
                form.keys = keys;
                form.gap = gap;
                form.fill = 0xff;
                same &= same_in_form(w, &w->spec, &form, &how, "strides");
            }
    return same;
}

static void bits_do_not_depend_on_strides(void **state) {
    (void)state;
    for_all(holds_over_strides);
}

/* Elements of two bytes come to every even address of a cache line, those of four to every fourth one twice. */
static int holds_over_alignments(const wanted *w, int index) {
    int shift, same = 1;
    for (shift = 0; shift < 32; ++shift) {
        const call_how how = {CALL_SHUFFLED, 1 + shift % 3, 0, 1, 0xff, (shift * 2 + index) % 64};
        call_form form = {0};
        form.keys = shift % 2 ? CALL_TOKEN_MAJOR : CALL_HEAD_MAJOR;
        form.shift = shift;
        form.gap = shift % 4;
        form.fill = 0xff;
        same &= same_in_form(w, &w->spec, &form, &how, "alignment");
    }
    return same;
}

static void bits_do_not_depend_on_alignment(void **state) {
    (void)state;
    for_all(holds_over_alignments);
}

/* ---- what lies around ---- */

static int holds_over_dirt(const wanted *w, int index) {
    static const unsigned char dirt[] = {0x00, 0xff, 0x7f, 0x80, 0x3c, 0x7c}; /* NaN, 3.4e38, -0, 1, NaN of f16 */
    int k, same = 1;
    for (k = 0; k < 6; ++k) {
        const call_how how = {k % 2 ? CALL_PHASES : CALL_SHUFFLED, 1 + k, 0, (uint64_t)index, dirt[(k + 1) % 6], 0};
        call_form form = {0};
        form.fill = dirt[k];
        form.gap = 3;
        form.q_order = k % 2;
        form.spare_q = form.spare_kv = 5;
        form.spare_sequences = k % 2;
        same &= same_in_form(w, &w->spec, &form, &how, "dirt");
        form.keys = CALL_BNNBSD;
        form.page_size = 9;
        form.gap = 0;
        same &= same_in_form(w, &w->spec, &form, &how, "dirt in pages");
    }
    return same;
}

static void bits_do_not_depend_on_padding_or_workspace(void **state) {
    (void)state;
    for_all(holds_over_dirt);
}

/* One workspace for run after run of one plan, as an engine does it. */
static int holds_over_repeats(const wanted *w, int index) {
    const call_form form = {0};
    fia_workers workers = {3, call_one_by_one, NULL};
    fia_plan plan;
    fia_job job;
    uint64_t seed = (uint64_t)index;
    int k, same = 1;
    call c;
    call_make(&c, &w->spec, &form);
    assert_int_equal(fia_plan_make(NULL, &c.problem, 3, &plan, NULL), FIA_OK);
    job.plan = &plan;
    job.io = &c.io;
    job.workspace_bytes = plan.workspace_bytes;
    job.workspace = call_room(&c, plan.workspace_bytes, 1);
    workers.pool = &seed;
    for (k = 0; k < 4; ++k) {
        assert_int_equal(fia_run(&job, k % 2 ? NULL : &workers, NULL), FIA_OK);
        same &= all_same(&c, w, "repeated run");
    }
    fia_plan_release(&plan);
    call_free(&c);
    return same;
}

static void bits_do_not_depend_on_earlier_runs(void **state) {
    (void)state;
    for_all(holds_over_repeats);
}

/* ---- which rows and heads share a kernel call ---- */

/* Family and chunk are pinned; offsets are given, so that a part of a query keeps its place. */
static void pin(call_spec *s, int family) {
    int b;
    s->pin_family = family;
    s->pin_chunk = 2 * chunk_base();
    for (b = 0; b < s->n && !s->offsets; ++b) {
        s->sequence[b].kv_offset = 0;
        s->sequence[b].q_offset = s->sequence[b].kv_len - s->sequence[b].q_len;
    }
    s->offsets = 1;
}

/* Rows [first, first + n) of sequence b as a query of their own. */
static int part_is_same(const call *whole, int b, int64_t first, int64_t n) {
    const call_form form = {0};
    const call_how how = {CALL_SHUFFLED, 2, 0, 1, 0xff, 0};
    call_spec spec = whole->spec;
    call_part part = call_whole(whole, b);
    unsigned char *bits;
    size_t bytes;
    int same;
    call c;
    part.first_row = first;
    part.rows = n;
    bits = call_take(whole, b, part, &bytes);
    spec.n = 1;
    spec.sequence[0] = whole->spec.sequence[b];
    spec.sequence[0].q_base += first;
    spec.sequence[0].q_offset += first;
    spec.sequence[0].q_len = n;
    call_make(&c, &spec, &form);
    call_run(&c, &how);
    same = call_same(&c, 0, call_whole(&c, 0), bits, bytes, "rows alone");
    if (!same)
        print_error("rows [%ld, %ld) of sequence %d, family %d\n", (long)first, (long)(first + n), b, spec.pin_family);
    call_free(&c);
    free(bits);
    return same;
}

/* KV head h with its group as a call of its own. */
static int head_is_same(const call *whole, int b, int32_t h) {
    const call_form form = {0};
    call_spec spec = whole->spec;
    call_part part = call_whole(whole, b);
    unsigned char *bits;
    size_t bytes;
    int same;
    call c;
    part.first_head = (int64_t)h * spec.G;
    part.heads = spec.G;
    bits = call_take(whole, b, part, &bytes);
    spec.n = 1;
    spec.sequence[0] = whole->spec.sequence[b];
    spec.Hkv = 1;
    spec.first_kv_head = h;
    call_make(&c, &spec, &form);
    call_run_serial(&c);
    same = call_same(&c, 0, call_whole(&c, 0), bits, bytes, "a head alone");
    call_free(&c);
    free(bits);
    return same;
}

static int holds_over_company(const wanted *w, int index) {
    const call_form form = {.keys = CALL_TOKEN_MAJOR};
    int family, b, k, same = 1;
    for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE; ++family) {
        call_spec spec = w->spec;
        call c;
        pin(&spec, family);
        call_make(&c, &spec, &form);
        call_run_serial(&c);
        for (b = 0; b < spec.n; ++b) {
            const int64_t n = spec.sequence[b].q_len;
            for (k = 0; k < 5 && n > 0; ++k) {
                const uint64_t x = call_mix((uint64_t)(index * 100 + b * 10 + k));
                const int64_t first = (int64_t)(x % (uint64_t)n), left = n - first;
                same &= part_is_same(&c, b, first, k == 0 ? 1 : 1 + (int64_t)((x >> 32) % (uint64_t)left));
            }
            for (k = 0; k < spec.Hkv && n > 0; ++k) same &= head_is_same(&c, b, k);
        }
        call_free(&c);
    }
    return same;
}

static void bits_do_not_depend_on_rows_and_heads_beside(void **state) {
    (void)state;
    for_all(holds_over_company);
}

/* ---- keys that went out of the window ---- */

static int sequences_shortened;

/* The grid is anchored at global key 0: a cache that has dropped keys no row sees gives the same bits. */
static int holds_without_old_keys(const wanted *w, int index) {
    const call_form form = {0};
    int family, b, k, same = 1;
    for (family = FIA_FAMILY_STREAM; family <= FIA_FAMILY_TILE && w->spec.window_left != FIA_UNBOUNDED; ++family) {
        call_spec spec = w->spec;
        call c;
        pin(&spec, family);
        call_make(&c, &spec, &form);
        call_run_serial(&c);
        for (b = 0; b < spec.n; ++b)
            for (k = 0; k < 6; ++k) {
                call_spec rest = spec;
                call_sequence *s = &rest.sequence[0];
                int64_t unseen = spec.sequence[b].q_offset - spec.window_left - spec.sequence[b].kv_offset, gone;
                unsigned char *bits;
                size_t bytes;
                call shorter;
                if (unseen <= 0) continue;
                gone = k ? 1 + (int64_t)(call_mix((uint64_t)(index * 64 + b * 8 + k)) % (uint64_t)unseen) : unseen;
                *s = spec.sequence[b];
                rest.n = 1;
                s->key_base += gone;
                s->kv_len -= gone;
                s->kv_offset += gone;
                bits = call_take(&c, b, call_whole(&c, b), &bytes);
                call_make(&shorter, &rest, &form);
                call_run_serial(&shorter);
                same &= call_same(&shorter, 0, call_whole(&shorter, 0), bits, bytes, "without old keys");
                ++sequences_shortened;
                call_free(&shorter);
                free(bits);
            }
        call_free(&c);
    }
    return same;
}

static void bits_do_not_depend_on_keys_before_the_window(void **state) {
    (void)state;
    for_all(holds_without_old_keys);
    assert_true(sequences_shortened > 10);
}

/* ---- shards ---- */

enum { SHARDS = 3 };

/* Shard k of sequence b: f32, without sink. */
static void shard_spec(const call_spec *whole, int b, int k, call_spec *spec) {
    const int64_t n = whole->sequence[b].kv_len, first = n * k / SHARDS, end = n * (k + 1) / SHARDS;
    *spec = *whole;
    spec->out = FIA_F32;
    spec->sinks = FIA_NONE;
    spec->lse_empty = -INFINITY;
    spec->n = 1;
    spec->sequence[0] = whole->sequence[b];
    if (!whole->offsets) spec->sequence[0].q_offset = n - spec->sequence[0].q_len;
    spec->offsets = 1;
    spec->sequence[0].kv_len = end - first;
    spec->sequence[0].key_base += first;
    spec->sequence[0].kv_offset += first;
}

/* Shards computed by so many workers, merged from the first to the last. */
static unsigned char *merged_bits(const call_spec *whole, int b, int workers, size_t *bytes) {
    const call_form form = {0};
    const call_how how = {CALL_PHASES, workers, 0, (uint64_t)workers, 0xff, workers};
    unsigned char *bits;
    call shard[SHARDS];
    int k;
    for (k = 0; k < SHARDS; ++k) {
        call_spec spec;
        const call_tensor *o, *l;
        fia_merge_shape shape;
        shard_spec(whole, b, k, &spec);
        call_make(&shard[k], &spec, &form);
        call_run(&shard[k], &how);
        o = &shard[k].tensor[CALL_OUT];
        l = &shard[k].tensor[CALL_LSE];
        shape = call_merge_shape(&shard[k]);
        if (k == 0 || !o->rows) continue;
        assert_int_equal(fia_merge(&shape, (float *)(void *)shard[0].tensor[CALL_OUT].base[0],
                                   (float *)(void *)shard[0].tensor[CALL_LSE].base[0],
                                   (const float *)(void *)o->base[0], (const float *)(void *)l->base[0], NULL),
                         FIA_OK);
    }
    bits = call_take(&shard[0], 0, call_whole(&shard[0], 0), bytes);
    for (k = 0; k < SHARDS; ++k) call_free(&shard[k]);
    return bits;
}

static int holds_over_shards(const wanted *w, int index) {
    int b, workers, same = 1;
    for (b = 0; b < w->spec.n; ++b) {
        size_t bytes, other_bytes;
        unsigned char *bits = merged_bits(&w->spec, b, 1, &bytes);
        for (workers = 2; workers <= MOST_WORKERS; workers += 3 + index % 3) {
            unsigned char *other = merged_bits(&w->spec, b, workers, &other_bytes);
            if (bytes != other_bytes || memcmp(bits, other, bytes)) {
                print_error("merged shards of sequence %d differ with %d workers\n", b, workers);
                same = 0;
            }
            free(other);
        }
        free(bits);
    }
    return same;
}

static void merged_shards_have_the_same_bits_whatever_workers_computed_them(void **state) {
    (void)state;
    for_all(holds_over_shards);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(bits_do_not_depend_on_workers),
    cmocka_unit_test(bits_do_not_depend_on_batch_neighbours),
    cmocka_unit_test(bits_do_not_depend_on_page_size_or_placement),
    cmocka_unit_test(bits_do_not_depend_on_strides),
    cmocka_unit_test(bits_do_not_depend_on_alignment),
    cmocka_unit_test(bits_do_not_depend_on_padding_or_workspace),
    cmocka_unit_test(bits_do_not_depend_on_earlier_runs),
    cmocka_unit_test(bits_do_not_depend_on_rows_and_heads_beside),
    cmocka_unit_test(bits_do_not_depend_on_keys_before_the_window),
    cmocka_unit_test(merged_shards_have_the_same_bits_whatever_workers_computed_them),
};

CALL_MAIN(tests)
