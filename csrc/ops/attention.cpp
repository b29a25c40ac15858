#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace binhdan::ops {
namespace {

using Block = AttentionPlan::Block;
using Part = AttentionPlan::Part;

// Rows x query heads that read a page together in the class prefill. With this many the conversion of the
// page is a small part of the cost, and their sums still fit in L2.
constexpr int64_t kMaxBlockHeads = 256;
constexpr int64_t kMinBlockRows = 8;
constexpr int64_t kMinBlocksPerThread = 4;  // if the batch has enough rows

const AttentionKernel& kernel_for(const KernelTable& table, KvType type) {
  return table.attention[static_cast<size_t>(type)];
}

// The state of the online softmax (AttentionArgs) for the queries of a group.
struct Partial {
  float* m;
  float* l;
  float* acc;  // (rows * group, head_dim)

  static int64_t floats(int64_t queries, int64_t head_dim) {
    return (queries * (head_dim + 2) + 15) / 16 * 16;
  }
  static Partial at(float* base, int64_t queries) { return {base, base + queries, base + 2 * queries}; }
};

// The work of one rank on one numeric class of a layer.
class Worker {
 public:
  Worker(Team& team, const KernelTable& table, const KvLayer& layer, const AttentionPlan& plan,
         const Part& part, int64_t heads, const float* q, int64_t q_stride, float* out)
      : team_(team),
        kernel_(&part == &plan.decode() ? kernel_for(table, layer.type).decode
                                        : kernel_for(table, layer.type).prefill),
        layer_(layer),
        part_(part),
        scratch_(plan.scratch(team.rank())),
        group_(heads / layer.kv_heads),
        floats_(Partial::floats(part.max_rows * group_, layer.head_dim)),
        q_(q),
        q_stride_(q_stride),
        out_(out) {}

  void run() {
    bool shared = false;  // does any group need more than one rank?
    Group last{};         // the group that this rank starts and the next rank continues
    int64_t begin = 0;
    for (const Block& block : part_.blocks)
      for (int64_t head = 0; head < layer_.kv_heads; ++head, begin += block.cost()) {
        const Group group{&block, head, begin};
        const bool starts_here = owner(group, 0) == team_.rank();
        const bool one_rank = owner(group, 0) == owner(group, block.splits() - 1);
        if (!one_rank) shared = true;
        compute_splits(group, starts_here);
        if (starts_here && one_rank) finish(group);
        if (starts_here && !one_rank) last = group;
      }
    if (!shared) return;
    team_.sync();  // the partial sums of other ranks are complete after it
    if (!last.block) return;
    for (int64_t split = 1; split < last.block->splits(); ++split)
      if (const int rank = owner(last, split); rank != team_.rank())
        combine(last, sum(last), partial(last, rank, 2 + split));
    finish(last);
  }

 private:
  // A block with the query heads of one KV head; `begin` is the cost of all groups before it.
  struct Group {
    const Block* block;
    int64_t head, begin;
  };

  // The rank that computes a split: all splits in order, with their costs as lengths, are cut into equal
  // lengths, one for each rank. So neighbouring splits stay on one rank.
  int owner(const Group& group, int64_t split) const {
    const int64_t begin = group.begin + group.block->cost_before(split);
    const int64_t end = group.begin + group.block->cost_before(split + 1);
    return static_cast<int>((begin + end) * team_.size() / (2 * part_.cost * layer_.kv_heads));
  }

  int64_t queries(const Group& group) const { return group.block->rows * group_; }
  // Memory of each rank: 0 the sum of its current group, 1 the next split of that group, and from 2 on every
  // split of a group that another rank starts.
  Partial partial(const Group& group, int rank, int64_t index) const {
    const int64_t slot = rank * (2 + part_.max_splits) + index;
    return Partial::at(part_.partials.as<float>() + slot * floats_, queries(group));
  }
  Partial sum(const Group& group) const { return partial(group, team_.rank(), 0); }

  // Computes this rank's splits of a group: into one sum if the group starts here, else into one sum each.
  void compute_splits(const Group& group, bool starts_here) const {
    for (int64_t split = 0; split < group.block->splits(); ++split) {
      if (owner(group, split) != team_.rank()) continue;
      const Partial into = partial(group, team_.rank(), !starts_here ? 2 + split : split == 0 ? 0 : 1);
      compute_split(group, split, into);
      if (starts_here && split > 0) combine(group, sum(group), into);
    }
  }

  void compute_split(const Group& group, int64_t split, Partial into) const {
    const Block& block = *group.block;
    const int64_t pages = (block.visible() + kKvPageTokens - 1) / kKvPageTokens, first = split * kSplitPages;
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

  // Accumulates `next` into `into`. Rows that see no position of `next` keep their bits.
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
  const int64_t group_;   // query heads per KV head
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

float query_scale(int64_t head_dim) {
  return static_cast<float>(std::numbers::log2e / std::sqrt(static_cast<double>(head_dim)));
}

void AttentionPlan::prepare(const KernelTable& table, KvType type, std::span<const AttentionRow> rows,
                            NumericClasses classes, int64_t group, int64_t head_dim, int threads) {
  const auto plan = [&](Part& part, int64_t begin, int64_t end, int64_t block_rows) {
    part.blocks.clear();
    part.cost = part.max_rows = part.max_splits = 0;
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
      part.max_rows = std::max(part.max_rows, block.rows);
      part.max_splits = std::max(part.max_splits, block.splits());
    }
    const int64_t partials = threads * (2 + part.max_splits);
    part.partials.reserve(static_cast<size_t>(partials * Partial::floats(part.max_rows * group, head_dim)) *
                          sizeof(float));
    if (const auto size = kernel_for(table, type).scratch_size)
      scratch_size_ = std::max(scratch_size_, size(part.max_rows, group, head_dim));
  };
  scratch_size_ = 0;
  plan(decode_, 0, classes.decode, kMinBlockRows);
  const int64_t even = (classes.total - classes.decode) / (kMinBlocksPerThread * threads);
  plan(prefill_, classes.decode, classes.total,
       std::max(kMinBlockRows, std::min(even, kMaxBlockHeads / std::max<int64_t>(1, group))));
  scratch_size_ = (scratch_size_ + kCacheLine - 1) / kCacheLine * kCacheLine;
  scratch_.reserve(scratch_size_ * static_cast<size_t>(threads));
}

void attention(Team& team, const KernelTable& table, const KvLayer& layer, const AttentionPlan& plan,
               int64_t heads, const float* q, int64_t q_stride, float* out) {
  for (const Part* part : {&plan.decode(), &plan.prefill()})
    Worker(team, table, layer, plan, *part, heads, q, q_stride, out).run();
}

}  // namespace binhdan::ops
