#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace binhdan::ops {
namespace {

using Block = AttentionPlan::Block;
using Part = AttentionPlan::Part;

// About so many query heads fold a page together in the many-rows class: what converting the page costs is
// small beside them, and their sums stay in the second-level cache.
constexpr int64_t kBlockHeads = 256;
constexpr int64_t kLeastBlockRows = 8;
constexpr int64_t kBlocksPerThread = 4;  // at least, where there are rows enough

const AttentionKernel& kernel_for(const KernelTable& table, KvType type) {
  return table.attention[static_cast<size_t>(type)];
}

// The state of the online softmax for a block's rows and the query heads of a group.
struct Partial {
  float* m;
  float* l;
  float* acc;  // (rows * group, head_dim)

  static int64_t floats(int64_t queries, int64_t head_dim) {
    return (queries * (head_dim + 2) + 15) / 16 * 16;
  }
  static Partial at(float* base, int64_t queries) { return {base, base + queries, base + 2 * queries}; }
};

// One rank at work on one class of a layer's attention.
class Worker {
 public:
  Worker(Team& team, const KernelTable& table, const KvLayer& layer, const AttentionPlan& plan,
         const Part& part, int64_t heads, const float* q, int64_t q_stride, float* out)
      : team_(team),
        kernel_(&part == &plan.few() ? kernel_for(table, layer.type).few
                                     : kernel_for(table, layer.type).many),
        layer_(layer),
        part_(part),
        scratch_(plan.scratch(team.rank())),
        group_(heads / layer.kv_heads),
        floats_(Partial::floats(part.most_rows * group_, layer.head_dim)),
        q_(q),
        q_stride_(q_stride),
        out_(out) {}

  void run() {
    bool cut = false;
    Group last{};  // began here and goes on at the next rank
    int64_t begin = 0;
    for (const Block& block : part_.blocks)
      for (int64_t head = 0; head < layer_.kv_heads; ++head, begin += block.cost()) {
        const Group group{&block, head, begin};
        const bool ours = owner(group, 0) == team_.rank();
        const bool whole = owner(group, 0) == owner(group, block.splits() - 1);
        if (!whole) cut = true;
        fold_share(group, ours);
        if (ours && whole) finish(group);
        if (ours && !whole) last = group;
      }
    if (!cut) return;
    team_.sync();
    if (!last.block) return;
    for (int64_t split = 1; split < last.block->splits(); ++split)
      if (const int rank = owner(last, split); rank != team_.rank())
        combine(last, sum(last), partial(last, rank, 2 + split));
    finish(last);
  }

 private:
  // A block's rows with the query heads of one KV head; `begin` is the cost of all groups before it.
  struct Group {
    const Block* block;
    int64_t head, begin;
  };

  // Groups lie in a row, each as long as it costs, and every rank owns an equal length of it: neighbouring
  // splits stay together, and a group that lies within one rank's length needs no barrier.
  int owner(const Group& group, int64_t split) const {
    const int64_t begin = group.begin + group.block->cost_before(split);
    const int64_t end = group.begin + group.block->cost_before(split + 1);
    return static_cast<int>((begin + end) * team_.size() / (2 * part_.cost * layer_.kv_heads));
  }

  int64_t queries(const Group& group) const { return group.block->rows * group_; }
  // Each rank has room for the sums of its group at work, of that group's next split, and of every split of a
  // group that began at another rank.
  Partial partial(const Group& group, int rank, int64_t index) const {
    const int64_t slot = rank * (2 + part_.most_splits) + index;
    return Partial::at(part_.partials.as<float>() + slot * floats_, queries(group));
  }
  Partial sum(const Group& group) const { return partial(group, team_.rank(), 0); }

  // This rank's splits of a group, in one sum if the group began here (`ours`), else one by one.
  void fold_share(const Group& group, bool ours) const {
    for (int64_t split = 0; split < group.block->splits(); ++split) {
      if (owner(group, split) != team_.rank()) continue;
      const Partial into = partial(group, team_.rank(), !ours ? 2 + split : split == 0 ? 0 : 1);
      fold(group, split, into);
      if (ours && split > 0) combine(group, sum(group), into);
    }
  }

  void fold(const Group& group, int64_t split, Partial into) const {
    const Block& block = *group.block;
    const int64_t pages = (block.seen() + kKvPageTokens - 1) / kKvPageTokens, first = split * kSplitPages;
    const void* data[kSplitPages + 1] = {};
    for (int64_t i = 0; i <= kSplitPages && first + i < pages; ++i)
      data[i] = layer_.head(block.first.pages[first + i], group.head);
    kernel_({.q = q_ + block.row * q_stride_ + group.head * group_ * layer_.head_dim,
             .q_stride = q_stride_,
             .rows = block.rows,
             .heads = group_,
             .head_dim = layer_.head_dim,
             .pages = data,
             .visible = block.first.position + 1 - split * kSplitTokens,
             .m = into.m,
             .l = into.l,
             .acc = into.acc,
             .scratch = scratch_});
  }

  // into = into + next, as if both had been folded as one. A row that sees nothing of `next` is left alone.
  void combine(const Group& group, Partial into, Partial next) const {
    const int64_t dim = layer_.head_dim;
    for (int64_t i = 0; i < queries(group); ++i) {
      if (next.m[i] == -std::numeric_limits<float>::infinity()) continue;
      const float m = std::max(into.m[i], next.m[i]);
      const float scale = std::exp2(into.m[i] - m), scale_next = std::exp2(next.m[i] - m);
      into.m[i] = m;
      into.l[i] = into.l[i] * scale + next.l[i] * scale_next;
      for (int64_t d = i * dim; d < (i + 1) * dim; ++d)
        into.acc[d] = into.acc[d] * scale + next.acc[d] * scale_next;
    }
  }

  void finish(const Group& group) const {
    const Partial total = sum(group);
    const int64_t dim = layer_.head_dim, out_stride = layer_.kv_heads * group_ * dim;
    for (int64_t i = 0; i < queries(group); ++i) {
      float* out =
          out_ + (group.block->row + i / group_) * out_stride + (group.head * group_ + i % group_) * dim;
      const float inverse = 1.0f / total.l[i];
      for (int64_t d = 0; d < dim; ++d) out[d] = total.acc[i * dim + d] * inverse;
    }
  }

  Team& team_;
  void (*const kernel_)(const AttentionArgs&);
  const KvLayer& layer_;
  const Part& part_;
  std::byte* const scratch_;
  const int64_t group_;   // query heads to a KV head
  const int64_t floats_;  // of a partial
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

float query_scale(int64_t head_dim) {
  return static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(head_dim)));
}

void AttentionPlan::prepare(const KernelTable& table, KvType type, std::span<const AttentionRow> rows,
                            Classes classes, int64_t group, int64_t head_dim, int threads) {
  const auto plan = [&](Part& part, int64_t begin, int64_t end, int64_t block_rows) {
    part.blocks.clear();
    part.cost = part.most_rows = part.most_splits = 0;
    for (int64_t i = begin; i < end; ++i) {
      const AttentionRow& row = rows[static_cast<size_t>(i)];
      Block* last = part.blocks.empty() ? nullptr : &part.blocks.back();
      if (last && last->rows < block_rows && last->first.pages == row.pages &&
          last->first.position + last->rows == row.position)
        ++last->rows;
      else
        part.blocks.push_back({row, i, 1});
    }
    for (const Block& block : part.blocks) {
      part.cost += block.cost();
      part.most_rows = std::max(part.most_rows, block.rows);
      part.most_splits = std::max(part.most_splits, block.splits());
    }
    const int64_t partials = threads * (2 + part.most_splits);
    part.partials.reserve(static_cast<size_t>(partials * Partial::floats(part.most_rows * group, head_dim)) *
                          sizeof(float));
    if (const auto size = kernel_for(table, type).scratch_size)
      scratch_size_ = std::max(scratch_size_, size(part.most_rows, group, head_dim));
  };
  scratch_size_ = 0;
  plan(few_, 0, classes.few, kLeastBlockRows);
  const int64_t even = (classes.total - classes.few) / (kBlocksPerThread * threads);
  plan(many_, classes.few, classes.total,
       std::max(kLeastBlockRows, std::min(even, kBlockHeads / std::max<int64_t>(1, group))));
  scratch_size_ = (scratch_size_ + kCacheLine - 1) / kCacheLine * kCacheLine;
  scratch_.reserve(scratch_size_ * static_cast<size_t>(threads));
}

void attention(Team& team, const KernelTable& table, const KvLayer& layer, const AttentionPlan& plan,
               int64_t heads, const float* q, int64_t q_stride, float* out) {
  for (const Part* part : {&plan.few(), &plan.many()})
    Worker(team, table, layer, plan, *part, heads, q, q_stride, out).run();
}

}  // namespace binhdan::ops
