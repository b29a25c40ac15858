#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace binhdan::ops {
namespace {

using RowRun = AttentionPlan::RowRun;
using Part = AttentionPlan::Part;

// Rows x query heads of a run in the class prefill, which read a page together. With this many, converting
// the page is a small part of the cost, and their sums still fit in L2.
constexpr int64_t kMaxRunQueries = 256;
constexpr int64_t kMinRunRows = 8;
constexpr int64_t kMinRunsPerThread = 4;  // if the batch has enough rows

// The memory of a rank for partial results (struct Partial), by slot.
enum Slot : int64_t {
  kSum,            // the sum of the rank's current item
  kNextSplit,      // the next split of that item, until it is added to the sum
  kForeignSplits,  // + split: this rank's split of an item that another rank starts
};

const AttentionKernel& kernel_for(const KernelTable& table, KvType type) {
  return table.attention[static_cast<size_t>(type)];
}

// The state of the online softmax (AttentionArgs) for the queries of an item: rows x query heads.
struct Partial {
  float* m;    // (queries)
  float* l;    // (queries)
  float* acc;  // (queries, head_dim)

  static int64_t floats(int64_t queries, int64_t head_dim) {
    return (queries * (head_dim + 2) + 15) / 16 * 16;
  }
  static Partial at(float* base, int64_t queries) { return {base, base + queries, base + 2 * queries}; }
};

// The positions that a row sees: begin <= j < min(end, limit), and j >= 0. For the next row of its run, begin and
// end grow by 1.
struct Visible {
  int64_t begin, end, limit;

  Visible(AttentionSpan span, const AttentionRow& row) {
    const int64_t before = span.causal ? span.window - 1 : span.window / 2;
    begin = span.window > 0 ? row.position - before : -kUnbounded;
    end = span.causal ? row.position + 1 : span.window > 0 ? row.position + before + 1 : kUnbounded;
    limit = span.causal ? kUnbounded : row.length;
  }
};

// The work of one rank on one numeric class of a layer.
class Worker {
 public:
  Worker(Team& team, const KernelTable& table, const KvLayer& layer, const AttentionPlan& plan,
         const Part& part, int64_t heads, float softcap, const float* q, int64_t q_stride, float* out)
      : team_(team),
        kernel_(&part == &plan.decode() ? kernel_for(table, layer.type).decode
                                        : kernel_for(table, layer.type).prefill),
        layer_(layer),
        span_(plan.span()),
        part_(part),
        scratch_(plan.scratch(team.rank())),
        heads_per_kv_head_(heads / layer.kv_heads),
        softcap_(softcap * std::numbers::log2e_v<float>),
        floats_(Partial::floats(part.max_rows * heads_per_kv_head_, layer.head_dim)),
        q_(q),
        q_stride_(q_stride),
        out_(out) {}

  void compute() {
    bool needs_barrier = false;  // some item is computed by more than one rank
    WorkItem last{};             // the item that this rank starts and the next rank continues
    int64_t begin = 0;
    for (const RowRun& run : part_.runs)
      for (int64_t head = 0; head < layer_.kv_heads; ++head, begin += run.cost()) {
        const WorkItem item{&run, head, begin};
        const bool starts_here = owner(item, 0) == team_.rank();
        const bool one_rank = owner(item, 0) == owner(item, run.splits() - 1);
        if (!one_rank) needs_barrier = true;
        compute_splits(item, starts_here);
        if (starts_here && one_rank) write_output(item);
        if (starts_here && !one_rank) last = item;
      }
    if (!needs_barrier) return;
    team_.sync();  // after it, the partial sums of other ranks are complete
    if (!last.run) return;
    for (int64_t split = 1; split < last.run->splits(); ++split)
      if (const int rank = owner(last, split); rank != team_.rank())
        combine(last, sum(last), partial(last, rank, kForeignSplits + split));
    write_output(last);
  }

 private:
  // A run with the query heads of one KV head; `begin` is the cost of all items before it.
  struct WorkItem {
    const RowRun* run;
    int64_t head, begin;
  };

  // The rank that computes a split: all splits in order, with their costs as lengths, are cut into equal
  // lengths, one for each rank. So neighbouring splits stay on one rank.
  int owner(const WorkItem& item, int64_t split) const {
    const int64_t begin = item.begin + item.run->cost_before(split);
    const int64_t end = item.begin + item.run->cost_before(split + 1);
    return static_cast<int>((begin + end) * team_.size() / (2 * part_.cost * layer_.kv_heads));
  }

  int64_t queries(const WorkItem& item) const { return item.run->rows * heads_per_kv_head_; }
  Partial partial(const WorkItem& item, int rank, int64_t slot) const {
    const int64_t index = rank * (kForeignSplits + part_.max_splits) + slot;
    return Partial::at(part_.partials.as<float>() + index * floats_, queries(item));
  }
  Partial sum(const WorkItem& item) const { return partial(item, team_.rank(), kSum); }

  // Computes this rank's splits of an item. If this rank starts the item, adds them to its sum; otherwise
  // each split has its own slot.
  void compute_splits(const WorkItem& item, bool starts_here) const {
    for (int64_t split = 0; split < item.run->splits(); ++split) {
      if (owner(item, split) != team_.rank()) continue;
      const int64_t slot = !starts_here ? kForeignSplits + split : split == 0 ? kSum : kNextSplit;
      const Partial into = partial(item, team_.rank(), slot);
      compute_split(item, split, into);
      if (starts_here && split > 0) combine(item, sum(item), into);
    }
  }

  void compute_split(const WorkItem& item, int64_t split, Partial into) const {
    const RowRun& run = *item.run;
    const int64_t origin = (run.first_split() + split) * kSplitTokens, first_page = origin / kKvPageTokens;
    const void* data[kSplitPages + 1] = {};
    for (int64_t page = std::max(first_page, run.begin / kKvPageTokens);
         page <= std::min(first_page + kSplitPages, (run.end - 1) / kKvPageTokens); ++page)
      data[page - first_page] = layer_.head(run.first.pages[page], item.head);
    const Visible visible(span_, run.first);
    kernel_({.q = q_ + run.row * q_stride_ + item.head * heads_per_kv_head_ * layer_.head_dim,
             .q_stride = q_stride_,
             .rows = run.rows,
             .heads = heads_per_kv_head_,
             .head_dim = layer_.head_dim,
             .pages = data,
             .begin = visible.begin - origin,
             .end = visible.end - origin,
             .limit = visible.limit - origin,
             .softcap = softcap_,
             .m = into.m,
             .l = into.l,
             .acc = into.acc,
             .scratch = scratch_});
  }

  // Adds `next` to `into`. Skips queries that see no position of `next`, so that their bits do not change.
  void combine(const WorkItem& item, Partial into, Partial next) const {
    const int64_t dim = layer_.head_dim;
    for (int64_t i = 0; i < queries(item); ++i) {
      if (next.m[i] == -std::numeric_limits<float>::infinity()) continue;
      const float m = std::max(into.m[i], next.m[i]);
      const float scale = std::exp2(into.m[i] - m), scale_next = std::exp2(next.m[i] - m);
      into.m[i] = m;
      into.l[i] = into.l[i] * scale + next.l[i] * scale_next;
      for (int64_t d = i * dim; d < (i + 1) * dim; ++d)
        into.acc[d] = into.acc[d] * scale + next.acc[d] * scale_next;
    }
  }

  void write_output(const WorkItem& item) const {
    const Partial total = sum(item);
    const int64_t dim = layer_.head_dim, out_stride = layer_.kv_heads * heads_per_kv_head_ * dim;
    for (int64_t i = 0; i < queries(item); ++i) {
      float* out = out_ + (item.run->row + i / heads_per_kv_head_) * out_stride +
                   (item.head * heads_per_kv_head_ + i % heads_per_kv_head_) * dim;
      const float inverse = 1.0f / total.l[i];
      for (int64_t d = 0; d < dim; ++d) out[d] = total.acc[i * dim + d] * inverse;
    }
  }

  Team& team_;
  void (*const kernel_)(const AttentionArgs&);
  const KvLayer& layer_;
  const AttentionSpan span_;
  const Part& part_;
  std::byte* const scratch_;
  const int64_t heads_per_kv_head_;
  const float softcap_;   // of scores times log2(e)
  const int64_t floats_;  // of a Partial
  const float* const q_;
  const int64_t q_stride_;
  float* const out_;
};

}  // namespace

void store_key(const KernelTable& table, const KvLayer& layer, int64_t head, const AttentionRow& row,
               const float* k) {
  kernel_for(table, layer.type)
      .store_key(layer.head(row.pages[row.position / kKvPageTokens], head), layer.head_dim,
                 row.position % kKvPageTokens, k);
}

void store_value(const KernelTable& table, const KvLayer& layer, int64_t head, const AttentionRow& row,
                 const float* v) {
  kernel_for(table, layer.type)
      .store_value(layer.head(row.pages[row.position / kKvPageTokens], head), layer.head_dim,
                   row.position % kKvPageTokens, v);
}

float query_scale(double attention_scale) {
  return static_cast<float>(std::numbers::log2e * attention_scale);
}

void AttentionPlan::prepare(const KernelTable& table, KvType type, std::span<const AttentionRow> rows,
                            ClassCounts classes, AttentionSpan span, int64_t heads_per_kv_head,
                            int64_t head_dim, int threads) {
  span_ = span;
  const auto plan = [&](Part& part, int64_t begin, int64_t end, int64_t max_run_rows) {
    part.runs.clear();
    part.cost = part.max_rows = part.max_splits = 0;
    for (int64_t i = begin; i < end; ++i) {
      const AttentionRow& row = rows[static_cast<size_t>(i)];
      const Visible visible(span, row);
      const bool continues = !part.runs.empty() && part.runs.back().rows < max_run_rows &&
                             part.runs.back().first.pages == row.pages &&
                             part.runs.back().first.position + part.runs.back().rows == row.position;
      if (!continues) part.runs.push_back({row, i, 0, std::max<int64_t>(0, visible.begin), 0});
      ++part.runs.back().rows;
      part.runs.back().end = std::min(visible.end, visible.limit);
    }
    for (const RowRun& run : part.runs) {
      part.cost += run.cost();
      part.max_rows = std::max(part.max_rows, run.rows);
      part.max_splits = std::max(part.max_splits, run.splits());
    }
    const int64_t partials = threads * (kForeignSplits + part.max_splits);
    part.partials.reserve(
        static_cast<uint64_t>(partials * Partial::floats(part.max_rows * heads_per_kv_head, head_dim)) *
        sizeof(float));
    if (const auto size = kernel_for(table, type).scratch_size)
      scratch_size_ = std::max(scratch_size_, size(part.max_rows, heads_per_kv_head, head_dim));
  };
  scratch_size_ = 0;
  plan(decode_, 0, classes.decode, kMinRunRows);
  const int64_t even = (classes.total - classes.decode) / (kMinRunsPerThread * threads);
  plan(prefill_, classes.decode, classes.total,
       std::max(kMinRunRows, std::min(even, kMaxRunQueries / std::max<int64_t>(1, heads_per_kv_head))));
  scratch_size_ = (scratch_size_ + kCacheLine - 1) / kCacheLine * kCacheLine;
  scratch_.reserve(scratch_size_ * static_cast<size_t>(threads));
}

void attention(Team& team, const KernelTable& table, const KvLayer& layer, const AttentionPlan& plan,
               int64_t heads, float softcap, const float* q, int64_t q_stride, float* out) {
  for (const Part* part : {&plan.decode(), &plan.prefill()})
    Worker(team, table, layer, plan, *part, heads, softcap, q, q_stride, out).compute();
}

}  // namespace binhdan::ops
