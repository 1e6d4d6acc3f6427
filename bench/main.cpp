// SPDX-License-Identifier: MIT
// Speed of fia.h beside the limits of this machine, measured in the same run: one markdown row per case.
// Linked once per copy of the bodies (body.c).
#include "cases.h"
#include "limits.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <regex>
#include <string>

extern "C" const char bench_target[], bench_build[]; // from body.c

namespace bench {
namespace {

constexpr int kRepetitions = 7; // the median counts
constexpr double kRepetitionSeconds = 0.05;
// A share is marked as noisy where its two limits, or CPU and wall time of one thread, differ by more than kDrift, the
// repetitions by more than kSpread, or two threads have less than kBusy times the FMA peak of one.
constexpr double kDrift = 0.2, kSpread = 0.3, kBusy = 1.6;
const char *const kQuick = "D1-8k/f16/(head|token)/cold|P1-2k-d128/f16";

// ---- what the benchmarks share ----

// Made when the first case runs; one job at a time is kept, so that repetitions do not set it up again.
class Session {
  public:
    explicit Session(int threads) : pool(threads), arena(kArenaBytes) {}

    Job &job(const Case &c) {
        if (!job_ || name_ != c.name()) {
            job_.reset();
            job_ = std::make_unique<Job>(c, arena, pool);
            name_ = c.name();
            job_->run();
            job_->check();
        }
        return *job_;
    }

    Pool pool;
    Arena arena;
    Limits limits; // the latest

  private:
    std::unique_ptr<Job> job_;
    std::string name_;
};

int lanes_of_bodies() {
    fia_context context;
    fia_context_init(&context);
    std::string target = context.table[0]->target;
    if (target == "v4" || target == "amx") return 16;
    return target == "v3" ? 8 : 4;
}

// ---- the table ----

struct Row {
    const Case *c;
    double seconds; // one thread: CPU time, so that a preemption by others does not count; two: wall time
    bool noisy;
};

// Collects the rows of a group and prints them when the limits that follow it are known.
class Table : public benchmark::BenchmarkReporter {
  public:
    Table(const std::vector<Case> &cases, const Session &session) : session_(session) {
        for (const Case &c : cases) cases_[c.name()] = &c;
    }

    bool ReportContext(const Context &) override { return true; }
    void ReportRuns(const std::vector<Run> &runs) override;
    void print_limits_of_run() const;

  private:
    void print_head();
    void print_group();
    void print_row(const Row &row);

    const Session &session_;
    std::map<std::string, const Case *> cases_;
    std::vector<Row> group_;
    Limits before_;
    std::map<std::string, std::vector<double>> seen_; // every limit that was measured, by its name
    bool has_head_ = false;
};

void Table::ReportRuns(const std::vector<Run> &runs) {
    const std::string &name = runs[0].run_name.function_name;
    if (name == "limits") {
        if (group_.empty()) before_ = session_.limits;
        else print_group();
        return;
    }
    double fastest = 0, slowest = 0; // of the repetitions, wall time
    for (const Run &run : runs) {
        if (run.run_type == Run::RT_Iteration) {
            double wall = run.GetAdjustedRealTime();
            fastest = fastest > 0 ? std::min(fastest, wall) : wall;
            slowest = std::max(slowest, wall);
        }
        if (run.aggregate_name != "median") continue;
        double unit = benchmark::GetTimeUnitMultiplier(run.time_unit);
        double wall = run.GetAdjustedRealTime() / unit, cpu = run.GetAdjustedCPUTime() / unit;
        auto found = cases_.find(name);
        bool one_thread = found == cases_.end() || found->second->threads == 1;
        bool noisy = slowest > (1 + kSpread) * fastest || (one_thread && wall > (1 + kDrift) * cpu);
        if (found == cases_.end()) std::printf("%s: %.0f ns\n", name.c_str(), cpu * 1e9);
        else group_.push_back({found->second, one_thread ? cpu : wall, noisy});
        std::fflush(stdout);
    }
}

const char *const kRowFormat = "| %-15s | %-4s | %-7s | %-4s | %-2s | %9s | %6s | %7s | %-16s | %6s | %5s |\n";

void print_cells(const std::vector<std::string> &t) {
    std::printf(kRowFormat, t[0].c_str(), t[1].c_str(), t[2].c_str(), t[3].c_str(), t[4].c_str(), t[5].c_str(),
                t[6].c_str(), t[7].c_str(), t[8].c_str(), t[9].c_str(), t[10].c_str());
}

void print_table_head() {
    std::printf("\n");
    print_cells({"case", "type", "layout", "KV", "T", "ms", "GB/s", "GFLOP/s", "limit", "share", "x 1T"});
    std::printf("|---|---|---|---|---|---:|---:|---:|---|---:|---:|\n");
}

std::string number(const char *format, double x) {
    char text[64];
    std::snprintf(text, sizeof text, format, x);
    return text;
}

void Table::print_group() {
    if (!has_head_) print_table_head();
    has_head_ = true;
    for (const Row &row : group_) print_row(row);
    std::fflush(stdout);
    group_.clear();
}

void Table::print_row(const Row &row) {
    const Case &c = *row.c;
    const Limits &after = session_.limits;
    auto t = static_cast<size_t>(c.threads - 1);
    double fma[2] = {before_.fma[t], after.fma[t]};
    double read[2] = {c.cold ? before_.read_cold[t] : before_.read_hot[t],
                      c.cold ? after.read_cold[t] : after.read_hot[t]};
    double fma_limit = (fma[0] + fma[1]) / 2, read_limit = (read[0] + read[1]) / 2;
    double fma_seconds = c.flops() / fma_limit * 1e-9;
    double read_seconds = c.shape.decode ? c.kv_bytes() / read_limit * 1e-9 : 0;
    bool by_read = read_seconds > fma_seconds;
    const double *both = by_read ? read : fma;
    bool noisy = row.noisy || std::fabs(both[0] - both[1]) > kDrift * std::max(both[0], both[1]);
    if (c.threads > 1) noisy = noisy || std::min(fma[0], fma[1]) < kBusy * std::max(before_.fma[0], after.fma[0]);
    std::string limit = by_read ? number("read %.1f GB/s", read_limit) : number("FMA %.0f GFLOP/s", fma_limit);
    std::string times; // against the row of one thread, which stands in the same group
    for (const Row &one : group_)
        if (c.threads > 1 && one.c->threads == 1 && one.c->cold == c.cold)
            times = number("%.2f", one.seconds / row.seconds);
    print_cells(
        {c.shape.id, c.type_name(), c.layout_name(), c.cold ? "cold" : "hot", std::to_string(c.threads),
         number("%.3f", row.seconds * 1e3), c.shape.decode ? number("%.1f", c.kv_bytes() / row.seconds * 1e-9) : "",
         number("%.1f", c.flops() / row.seconds * 1e-9), limit,
         (noisy ? "~" : "") + number("%.0f %%", std::max(read_seconds, fma_seconds) / row.seconds * 100), times});
    std::string threads = std::to_string(c.threads) + (c.threads == 1 ? " thread" : " threads");
    for (int i = 0; i < 2; ++i) {
        seen_["FMA peak, GFLOP/s, " + threads].push_back(fma[i]);
        if (c.shape.decode && c.cold) seen_["read from memory, GB/s, " + threads].push_back(read[i]);
    }
}

void Table::print_limits_of_run() const {
    std::printf("\n");
    for (const auto &[name, values] : seen_) {
        std::vector<double> v = values;
        std::sort(v.begin(), v.end());
        std::printf("limit: %s: median %.1f, lowest %.1f, highest %.1f\n", name.c_str(), v[v.size() / 2], v.front(),
                    v.back());
    }
}

// ---- the benchmarks ----

void register_limits(Session &session, const std::vector<const Case *> &group, int lanes) {
    LimitsRequest r;
    r.arena = session.arena.data();
    r.arena_bytes = session.arena.bytes();
    r.lanes = lanes;
    for (const Case *c : group) {
        if (!c->shape.decode) continue;
        r.read = true;
        if (!c->cold) r.hot_bytes = static_cast<size_t>(c->kv_bytes());
    }
    fia_dtype dtype = group[0]->dtype;
    auto run = [&session, r, dtype](benchmark::State &state) {
        session.arena.fill(dtype, 1); // pages that were never written share one physical page
        for (auto _ : state) session.limits = measure_limits(session.pool, r);
    };
    benchmark::RegisterBenchmark("limits", run)->Iterations(1)->UseRealTime();
}

void register_case(Session &session, const Case &c) {
    auto run = [&session, &c](benchmark::State &state) {
        Job &job = session.job(c);
        for (auto _ : state) job.run();
    };
    benchmark::RegisterBenchmark(c.name().c_str(), run)
        ->Repetitions(kRepetitions)
        ->MinTime(kRepetitionSeconds)
        ->UseRealTime();
}

// What a call costs before there is work: a plan, and a run with one key.
void register_small(Session &session) {
    static const Case one_key = {{"run with one key", 1, 1, 32, 8, 128, 128, true, false, false, Modifier::none},
                                 FIA_F16,
                                 Layout::heads,
                                 0,
                                 false,
                                 1};
    auto plan = [&session](benchmark::State &state) {
        const fia_problem &problem = session.job(one_key).problem();
        for (auto _ : state) {
            fia_plan p;
            benchmark::DoNotOptimize(fia_plan_make(nullptr, &problem, 1, &p, nullptr));
            fia_plan_release(&p);
        }
    };
    auto run = [&session](benchmark::State &state) {
        Job &job = session.job(one_key);
        for (auto _ : state) job.run();
    };
    benchmark::RegisterBenchmark("plan (32/8 heads, D 128, f16)", plan)
        ->Repetitions(kRepetitions)
        ->MinTime(kRepetitionSeconds);
    benchmark::RegisterBenchmark("run with one key (same shape)", run)
        ->Repetitions(kRepetitions)
        ->MinTime(kRepetitionSeconds);
}

std::vector<Case> chosen_cases(int threads, bool quick) {
    std::string filter = benchmark::GetBenchmarkFilter();
    if (filter.empty() || filter == "all") filter = quick ? kQuick : ".";
    std::regex pattern(filter, std::regex::extended);
    std::vector<Case> cases = all_cases(threads);
    auto unwanted = [&](const Case &c) { return !std::regex_search(c.name(), pattern); };
    cases.erase(std::remove_if(cases.begin(), cases.end(), unwanted), cases.end());
    return cases;
}

void register_all(Session &session, const std::vector<Case> &cases, int lanes) {
    register_small(session);
    for (size_t i = 0, end; i < cases.size(); i = end) {
        std::vector<const Case *> group;
        for (end = i; end < cases.size() && cases[i].same_group(cases[end]); ++end) group.push_back(&cases[end]);
        register_limits(session, group, lanes);
        for (const Case *c : group) register_case(session, *c);
        register_limits(session, group, lanes);
    }
}

std::string cpu_name() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (line.compare(0, 10, "model name") == 0) return line.substr(line.find(':') + 2);
    return "unknown CPU";
}

// Takes a flag of ours out of the arguments.
bool take_flag(int *argc, char **argv, const char *flag) {
    char **end = std::remove_if(argv + 1, argv + *argc, [&](const char *a) { return !std::strcmp(a, flag); });
    bool found = end != argv + *argc;
    *argc = static_cast<int>(end - argv);
    return found;
}

int run(int argc, char **argv) {
    bool quick = take_flag(&argc, argv, "--quick"), limits_only = take_flag(&argc, argv, "--limits");
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    int threads = std::min(kMaxThreads, cores);
    std::vector<Case> cases = chosen_cases(threads, quick);
    std::printf("fia bench: bodies %s; %s, %d cores\n", bench_build, cpu_name().c_str(), cores);
    if (!cpu_has(bench_target)) {
        print_table_head();
        for (const Case &c : cases)
            print_cells({c.shape.id, c.type_name(), c.layout_name(), c.cold ? "cold" : "hot", std::to_string(c.threads),
                         "not on this CPU", "", "", "", "", ""});
        return 0;
    }
    Session session(threads);
    if (limits_only) {
        session.arena.fill(FIA_F16, 1);
        print_limits(session.pool, session.arena.data(), session.arena.bytes());
        return 0;
    }
    register_all(session, cases, lanes_of_bodies());
    Table table(cases, session);
    benchmark::RunSpecifiedBenchmarks(&table, nullptr, ".");
    table.print_limits_of_run();
    return 0;
}

} // namespace
} // namespace bench

int main(int argc, char **argv) { return bench::run(argc, argv); }
