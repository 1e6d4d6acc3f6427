// SPDX-License-Identifier: MIT
// The workloads, and one of them set up on fia.h: problem, plan, workspace, addresses.
#ifndef FIA_BENCH_CASES_H
#define FIA_BENCH_CASES_H

#include "arena.h"
#include "pool.h"

#include <string>
#include <vector>

namespace bench {

// What happens to every score beside the scale. The masks hold the shape's causal bound, the others come on top of it.
enum class Modifier { none, additive_mask, drop_mask, alibi, softcap };

struct Shape {
    const char *id;
    int64_t rows, keys; // Sq, Sk
    int q_heads, kv_heads, dim, value_dim;
    bool decode;       // judged by the roofline, else by the FMA peak
    bool causal;       // bottom right: the last row meets the last key
    bool value_in_key; // MLA: V is the first value_dim elements of each key row
    Modifier modifier;
};

enum class Layout { heads, tokens, pages };

struct Case {
    Shape shape;
    fia_dtype dtype; // of q, k, v and out
    Layout layout;
    int64_t page_size; // Layout::pages
    bool cold;         // rotates over at least 1 GiB of KV copies
    int threads;

    std::string type_name() const;
    std::string layout_name() const;
    std::string name() const;                 // id/type/layout/cold or hot/threads
    bool same_group(const Case &other) const; // differs in cold and threads only
    double kv_bytes() const;
    double flops() const; // visible pairs only
};

// Every case, those of a group together, element types outermost.
std::vector<Case> all_cases(int max_threads);

constexpr size_t kColdBytes = size_t{1} << 30;            // KV copies rotate over at least so much
constexpr size_t kArenaBytes = kColdBytes + (256u << 20); // and the last copy begins below that

// A case ready to run. The arena holds K and V and belongs to the caller, as does the pool.
class Job {
  public:
    Job(const Case &c, Arena &arena, Pool &pool);
    ~Job();
    Job(const Job &) = delete;
    Job &operator=(const Job &) = delete;

    void run();   // one call; a cold case goes on to the next copy
    void check(); // the last row of the first and last head against a plain loop; ends the program where it is wrong
    const fia_problem &problem() const { return problem_; }

  private:
    void set_views();
    void set_table();
    void set_modifier();
    double modified(double score, int64_t row, int64_t key, int head) const;
    const char *row_of(const fia_view &view, const void *base, int64_t key, int head) const;

    Case case_;
    fia_problem problem_;
    fia_plan plan_;
    fia_io io_;
    Arena q_, out_, workspace_;
    std::vector<int32_t> table_;
    std::vector<uint16_t> additive_mask_; // f16
    std::vector<uint8_t> drop_mask_;
    std::vector<float> slopes_;
    fia_workers workers_;
    const char *kv_;
    size_t key_bytes_ = 0, value_bytes_ = 0; // of a copy, whole 2 MiB pages
    int copies_ = 1, copy_ = 0;
};

} // namespace bench
#endif
