// SPDX-License-Identifier: MIT
#include "cases.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>

namespace bench {
namespace {

// id, Sq, Sk, Hq, Hkv, D, Dv, decode, causal, V in K, modifier
constexpr Shape kDecode[] = {
    {"D1-1k", 1, 1024, 32, 8, 128, 128, true, false, false, Modifier::none},
    {"D1-8k", 1, 8192, 32, 8, 128, 128, true, false, false, Modifier::none},
    {"D1-32k", 1, 32768, 32, 8, 128, 128, true, false, false, Modifier::none},
    {"D2", 1, 8192, 32, 32, 128, 128, true, false, false, Modifier::none},
};
constexpr Shape kMla[] = {
    {"D3-4k", 1, 4096, 128, 1, 576, 512, true, false, true, Modifier::none},
    {"D3-16k", 1, 16384, 128, 1, 576, 512, true, false, true, Modifier::none},
};
constexpr Shape kSpeculative[] = {
    {"D4-4", 4, 8192, 32, 8, 128, 128, true, true, false, Modifier::none},
    {"D4-16", 16, 8192, 32, 8, 128, 128, true, true, false, Modifier::none},
};
constexpr Shape kGroups[] = {
    {"D1-8k-g5", 1, 8192, 40, 8, 128, 128, true, false, false, Modifier::none},
    {"D1-8k-g8", 1, 8192, 64, 8, 128, 128, true, false, false, Modifier::none},
    {"D1-8k-g12", 1, 8192, 96, 8, 128, 128, true, false, false, Modifier::none},
    {"D1-8k-g16", 1, 8192, 128, 8, 128, 128, true, false, false, Modifier::none},
};
constexpr Shape kPrefill[] = {
    {"P1-512-d128", 512, 512, 32, 32, 128, 128, false, true, false, Modifier::none},
    {"P1-512-d64", 512, 512, 32, 32, 64, 64, false, true, false, Modifier::none},
    {"P1-2k-d128", 2048, 2048, 8, 8, 128, 128, false, true, false, Modifier::none},
    {"P1-2k-d64", 2048, 2048, 8, 8, 64, 64, false, true, false, Modifier::none},
    {"P1-2k-d128-full", 2048, 2048, 8, 8, 128, 128, false, false, false, Modifier::none},
    {"P1-2k-d64-full", 2048, 2048, 8, 8, 64, 64, false, false, false, Modifier::none},
    {"P1-4k-d128", 4096, 4096, 8, 8, 128, 128, false, true, false, Modifier::none},
    {"P1-4k-d64", 4096, 4096, 8, 8, 64, 64, false, true, false, Modifier::none},
    {"P2", 256, 8192, 32, 8, 128, 128, false, true, false, Modifier::none},
};
constexpr Shape kModified[] = {
    {"D1-8k-mask", 1, 8192, 32, 8, 128, 128, true, true, false, Modifier::additive_mask},
    {"D1-8k-drops", 1, 8192, 32, 8, 128, 128, true, true, false, Modifier::drop_mask},
    {"D1-8k-alibi", 1, 8192, 32, 8, 128, 128, true, true, false, Modifier::alibi},
    {"D1-8k-softcap", 1, 8192, 32, 8, 128, 128, true, true, false, Modifier::softcap},
    {"P1-2k-mask", 2048, 2048, 8, 8, 128, 128, false, true, false, Modifier::additive_mask},
    {"P1-2k-drops", 2048, 2048, 8, 8, 128, 128, false, true, false, Modifier::drop_mask},
    {"P1-2k-alibi", 2048, 2048, 8, 8, 128, 128, false, true, false, Modifier::alibi},
    {"P1-2k-softcap", 2048, 2048, 8, 8, 128, 128, false, true, false, Modifier::softcap},
};

constexpr float kSoftcap = 50; // Gemma 2's

struct Place {
    Layout layout;
    int64_t page_size;
};
constexpr Place kHeads = {Layout::heads, 0}, kTokens = {Layout::tokens, 0};
constexpr Place kPlaces[] = {kHeads, kTokens, {Layout::pages, 128}, {Layout::pages, 16}};

void add_group(std::vector<Case> &to, const Shape &s, fia_dtype dtype, Place place, int max_threads) {
    for (int cold = s.decode ? 1 : 0; cold >= 0; --cold)
        for (int threads = 1; threads <= max_threads; ++threads)
            to.push_back({s, dtype, place.layout, place.page_size, cold == 1, threads});
}

[[noreturn]] void fail(const Case &c, const char *what, const char *why) {
    std::fprintf(stderr, "%s: %s: %s\n", c.name().c_str(), what, why);
    std::exit(1);
}

size_t whole_pages(double bytes) { return (static_cast<size_t>(bytes) + kHugePage - 1) / kHugePage * kHugePage; }

} // namespace

std::string Case::type_name() const { return dtype == FIA_F32 ? "f32" : dtype == FIA_F16 ? "f16" : "bf16"; }

std::string Case::layout_name() const {
    if (layout == Layout::pages) return "page" + std::to_string(page_size);
    return layout == Layout::heads ? "head" : "token";
}

std::string Case::name() const {
    return std::string(shape.id) + "/" + type_name() + "/" + layout_name() + "/" + (cold ? "cold" : "hot") + "/" +
           std::to_string(threads) + "T";
}

bool Case::same_group(const Case &other) const {
    return shape.id == other.shape.id && dtype == other.dtype && layout == other.layout && page_size == other.page_size;
}

double Case::kv_bytes() const {
    double row = shape.value_in_key ? shape.dim : shape.dim + shape.value_dim;
    return row * static_cast<double>(shape.keys) * shape.kv_heads * static_cast<double>(fia_dtype_bytes(dtype));
}

double Case::flops() const {
    double rows = static_cast<double>(shape.rows), keys = static_cast<double>(shape.keys);
    double pairs = shape.causal ? rows * (keys - rows) + rows * (rows + 1) / 2 : rows * keys;
    return 2.0 * (shape.dim + shape.value_dim) * shape.q_heads * pairs;
}

std::vector<Case> all_cases(int max_threads) {
    std::vector<Case> cases;
    for (fia_dtype dtype : {FIA_F16, FIA_BF16, FIA_F32}) {
        for (const Shape &s : kDecode)
            for (Place place : kPlaces) add_group(cases, s, dtype, place, max_threads);
        for (const Shape &s : kMla) add_group(cases, s, dtype, kHeads, max_threads);
        for (const Shape &s : kGroups) add_group(cases, s, dtype, kHeads, max_threads);
        for (const Shape &s : kSpeculative)
            for (Place place : {kHeads, kTokens}) add_group(cases, s, dtype, place, max_threads);
        for (const Shape &s : kPrefill) add_group(cases, s, dtype, kHeads, max_threads);
        for (const Shape &s : kModified) add_group(cases, s, dtype, kHeads, max_threads);
    }
    return cases;
}

Job::Job(const Case &c, Arena &arena, Pool &pool) : case_(c), workers_(pool.workers(c.threads)), kv_(arena.data()) {
    const Shape &s = c.shape;
    arena.fill(c.dtype, 1);
    fia_problem_init(&problem_);
    problem_.n_sequences = 1;
    problem_.max_q_len = s.rows;
    problem_.max_kv_len = s.keys;
    problem_.n_q_heads = s.q_heads;
    problem_.n_kv_heads = s.kv_heads;
    problem_.dim = s.dim;
    problem_.value_dim = s.value_dim;
    problem_.value_in_key = s.value_in_key;
    problem_.causal = s.causal;
    set_views();
    set_table();
    set_modifier();
    fia_report report;
    if (fia_plan_make(nullptr, &problem_, c.threads, &plan_, &report) != FIA_OK) fail(c, "plan", report.text);

    size_t rows = static_cast<size_t>(s.rows) * static_cast<size_t>(s.q_heads) * fia_dtype_bytes(c.dtype);
    q_ = Arena(rows * static_cast<size_t>(s.dim));
    q_.fill(c.dtype, 2);
    out_ = Arena(rows * static_cast<size_t>(s.value_dim));
    workspace_ = Arena(plan_.workspace_bytes);
    if (c.cold) copies_ = static_cast<int>((kColdBytes - 1) / (key_bytes_ + value_bytes_) + 1);
    fia_io_init(&io_);
    io_.n_sequences = 1;
    io_.query = q_.data();
    io_.out = out_.data();
    io_.block_table = table_.empty() ? nullptr : table_.data();
    io_.additive_mask = additive_mask_.data();
    io_.drop_mask = drop_mask_.data();
    io_.alibi_slopes = slopes_.data();
    if (static_cast<size_t>(copies_) * (key_bytes_ + value_bytes_) > arena.bytes()) fail(c, "arena", "too small");
}

Job::~Job() { fia_plan_release(&plan_); }

void Job::set_views() {
    const Shape &s = case_.shape;
    auto size = static_cast<ptrdiff_t>(fia_dtype_bytes(case_.dtype));
    auto fill = [&](fia_view *v, int64_t rows, int heads, int dim, Layout layout) {
        bool head_major = layout == Layout::heads;
        v->dtype = case_.dtype;
        v->row_bytes = size * dim * (head_major ? 1 : heads);
        v->head_bytes = size * dim * (head_major ? rows : 1);
        v->sequence_bytes = size * dim * heads * (layout == Layout::pages ? case_.page_size : rows); // or page stride
    };
    Layout q_layout = case_.layout == Layout::heads ? Layout::heads : Layout::tokens;
    fill(&problem_.query, s.rows, s.q_heads, s.dim, q_layout);
    fill(&problem_.out, s.rows, s.q_heads, s.value_dim, q_layout);
    fill(&problem_.key, s.keys, s.kv_heads, s.dim, case_.layout);
    double kv_rows = static_cast<double>(s.keys) * s.kv_heads * static_cast<double>(size);
    key_bytes_ = whole_pages(kv_rows * s.dim);
    if (s.value_in_key) return;
    fill(&problem_.value, s.keys, s.kv_heads, s.value_dim, case_.layout);
    value_bytes_ = whole_pages(kv_rows * s.value_dim);
}

// Pages in random order, the same for K and V.
void Job::set_table() {
    if (case_.layout != Layout::pages) return;
    int64_t pages = case_.shape.keys / case_.page_size;
    problem_.keys = FIA_KEYS_PAGED;
    problem_.page_size = case_.page_size;
    problem_.n_pages = pages;
    problem_.table_columns = pages;
    table_.resize(static_cast<size_t>(pages));
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), std::mt19937(7));
}

// Masks of [row][key] for all heads, one slope per head: 2^(-8 (h + 1) / Hq).
void Job::set_modifier() {
    const Shape &s = case_.shape;
    const uint16_t minus_infinity = 0xfc00;
    bool adds = s.modifier == Modifier::additive_mask, drops = s.modifier == Modifier::drop_mask;
    if (adds) additive_mask_.assign(static_cast<size_t>(s.rows * s.keys), 0);
    if (drops) drop_mask_.assign(static_cast<size_t>(s.rows * s.keys), 0);
    for (int64_t row = 0; row < s.rows && s.causal && (adds || drops); ++row)
        for (int64_t key = s.keys - s.rows + row + 1; key < s.keys; ++key) {
            auto at = static_cast<size_t>(row * s.keys + key);
            if (adds) additive_mask_[at] = minus_infinity;
            if (drops) drop_mask_[at] = 1;
        }
    if (adds || drops) problem_.causal = 0;
    fia_mask_view mask = {
        adds ? FIA_F16 : FIA_U8, 0, s.rows, s.keys, 0, 0, static_cast<ptrdiff_t>(adds ? 2 * s.keys : s.keys)};
    if (adds) problem_.additive_mask = mask;
    if (drops) problem_.drop_mask = mask;
    if (s.modifier == Modifier::softcap) problem_.softcap = kSoftcap;
    if (s.modifier != Modifier::alibi) return;
    problem_.alibi_slopes = FIA_F32;
    for (int h = 0; h < s.q_heads; ++h)
        slopes_.push_back(std::exp2(-8.0f * static_cast<float>(h + 1) / static_cast<float>(s.q_heads)));
}

// A visible score with what the case does to it.
double Job::modified(double score, int64_t row, int64_t key, int head) const {
    const Shape &s = case_.shape;
    if (s.modifier == Modifier::softcap) return kSoftcap * std::tanh(score / kSoftcap);
    if (s.modifier != Modifier::alibi) return score;
    return score - slopes_[static_cast<size_t>(head)] * static_cast<double>(s.keys - s.rows + row - key);
}

void Job::run() {
    const char *copy = kv_ + static_cast<size_t>(copy_) * (key_bytes_ + value_bytes_);
    copy_ = (copy_ + 1) % copies_;
    io_.key = copy;
    io_.value = case_.shape.value_in_key ? nullptr : copy + key_bytes_;
    fia_job job = {&plan_, &io_, workspace_.data(), plan_.workspace_bytes};
    fia_report report;
    if (fia_run(&job, case_.threads > 1 ? &workers_ : nullptr, &report) != FIA_OK) fail(case_, "run", report.text);
}

const char *Job::row_of(const fia_view &view, const void *base, int64_t key, int head) const {
    int64_t outer = 0;
    if (case_.layout == Layout::pages) {
        outer = table_[static_cast<size_t>(key / case_.page_size)];
        key %= case_.page_size;
    }
    return static_cast<const char *>(base) + outer * view.sequence_bytes + key * view.row_bytes +
           head * view.head_bytes;
}

void Job::check() {
    const Shape &s = case_.shape;
    for (int head : {0, s.q_heads - 1}) {
        int64_t row = s.rows - 1;
        int kv_head = head / (s.q_heads / s.kv_heads);
        const char *q =
            static_cast<const char *>(io_.query) + row * problem_.query.row_bytes + head * problem_.query.head_bytes;
        std::vector<double> out(static_cast<size_t>(s.value_dim));
        double sum = 0;
        for (int64_t key = 0; key < s.keys; ++key) {
            const char *k = row_of(problem_.key, io_.key, key, kv_head);
            const char *v = s.value_in_key ? k : row_of(problem_.value, io_.value, key, kv_head);
            double score = 0;
            for (int i = 0; i < s.dim; ++i) score += element(q, case_.dtype, i) * element(k, case_.dtype, i);
            double p = std::exp(modified(score / std::sqrt(s.dim), row, key, head));
            sum += p;
            for (size_t i = 0; i < out.size(); ++i) out[i] += p * element(v, case_.dtype, static_cast<int64_t>(i));
        }
        const char *got =
            static_cast<const char *>(io_.out) + row * problem_.out.row_bytes + head * problem_.out.head_bytes;
        double error = 0, norm = 0;
        for (size_t i = 0; i < out.size(); ++i) {
            double want = out[i] / sum, is = element(got, case_.dtype, static_cast<int64_t>(i));
            error += (is - want) * (is - want);
            norm += want * want;
        }
        double bound = case_.dtype == FIA_F32 ? 1e-5 : case_.dtype == FIA_F16 ? 1e-3 : 1e-2; // the output's rounding
        if (!(std::sqrt(error / norm) <= bound)) fail(case_, "check", "the result is wrong");
    }
}

} // namespace bench
