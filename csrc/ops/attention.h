// Grouped-query attention over paged keys and values.
//
// The work of a layer is a list of items: a run (consecutive rows of one sequence) with the query heads of
// one KV head. An item is computed in splits of kSplitTokens positions. Every rank takes an equal part of the
// total cost, so several ranks may compute splits of the same item. Then one barrier separates their partial
// sums from the rank that combines them. Items that one rank computes alone need no barrier.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "ops/matmul.h"

namespace binhdan::ops {

// The position of one layer's keys and values in every page of a sequence, head after head.
struct KvLayer {
  KvType type;
  size_t offset;  // bytes from the start of a page
  int64_t kv_heads, head_dim;

  size_t bytes() const { return static_cast<size_t>(kv_heads) * kv_page_size(type, head_dim); }
  std::byte* head(std::byte* page, int64_t head) const {
    return page + offset + static_cast<size_t>(head) * kv_page_size(type, head_dim);
  }
};

// One row of a batch: a position of the sequence that owns `pages`. Pages before the first position that the row
// sees are not read.
struct AttentionRow {
  std::byte* const* pages;
  int64_t position;
  // Positions of the sequence, with this batch: the same for all its rows. Read only if attention is not causal.
  int64_t length;
};

// Which positions a row sees.
struct AttentionSpan {
  // 0: all. Causal: the last `window` positions including its own. Else the positions at a distance of at most
  // window / 2.
  int64_t window = 0;
  bool causal = true;  // the row sees no later positions
};

// Store the row's key (rotated) or value, (head_dim), of one KV head.
void store_key(const KernelTable& table, const KvLayer& layer, int64_t head, const AttentionRow& row,
               const float* k);
void store_value(const KernelTable& table, const KvLayer& layer, int64_t head, const AttentionRow& row,
                 const float* v);

// The factor that queries are multiplied by before attention(): log2(e) * attention_scale, which is
// 1 / sqrt(head_dim) in most models.
float query_scale(double attention_scale);

// How the attention of a batch is distributed over ranks, with memory for partial results. The same for every
// layer with the same span.
class AttentionPlan {
 public:
  // heads_per_kv_head (of queries) and head_dim are the maxima over the layers. Called once for a batch,
  // before the team runs.
  void prepare(const KernelTable& table, KvType type, std::span<const AttentionRow> rows, ClassCounts classes,
               AttentionSpan span, int64_t heads_per_kv_head, int64_t head_dim, int threads);

  // Rows at consecutive positions of one sequence, which read its pages together.
  struct RowRun {
    AttentionRow first;
    int64_t row, rows;
    int64_t begin, end;  // the positions that some row sees

    // Splits are numbered from the one that has `begin`.
    int64_t first_split() const { return begin / kSplitTokens; }
    int64_t splits() const { return (end - 1) / kSplitTokens - first_split() + 1; }
    // Cost in rows x positions: of the splits before this one, and of all splits.
    int64_t cost_before(int64_t split) const {
      return rows * (std::clamp((first_split() + split) * kSplitTokens, begin, end) - begin);
    }
    int64_t cost() const { return rows * (end - begin); }
  };
  // The runs of one numeric class.
  struct Part {
    std::vector<RowRun> runs;
    int64_t cost = 0;
    int64_t max_rows = 0, max_splits = 0;  // of a run
    Buffer partials;
  };
  AttentionSpan span() const { return span_; }
  const Part& decode() const { return decode_; }
  const Part& prefill() const { return prefill_; }
  std::byte* scratch(int rank) const { return scratch_.as() + static_cast<size_t>(rank) * scratch_size_; }

 private:
  AttentionSpan span_;
  Part decode_, prefill_;
  Buffer scratch_;  // of the kernels
  size_t scratch_size_ = 0;
};

// q: (rows, heads, head_dim) with q_stride floats between rows, scaled by query_scale(); out: (rows, heads,
// head_dim). softcap: 0, or a score x becomes softcap * tanh(x / softcap) before the softmax. Every rank calls it. It has at most one barrier for each class (see the top of this file); the
// caller must pass a barrier before the first read of `out`.
void attention(Team& team, const KernelTable& table, const KvLayer& layer, const AttentionPlan& plan,
               int64_t heads, float softcap, const float* q, int64_t q_stride, float* out);

}  // namespace binhdan::ops
