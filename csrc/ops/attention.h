// Causal grouped-query attention over paged keys and values.
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

// Where the keys and values of one layer lie in every page of a sequence, head after head.
struct KvLayer {
  KvType type;
  size_t offset;  // bytes from a page's start
  int64_t kv_heads, head_dim;

  size_t bytes() const { return static_cast<size_t>(kv_heads) * kv_page_size(type, head_dim); }
  std::byte* head(std::byte* page, int64_t head) const {
    return page + offset + static_cast<size_t>(head) * kv_page_size(type, head_dim);
  }
};

// One row of a batch: a position of the sequence whose pages these are. It sees positions 0 to its own.
struct AttentionRow {
  std::byte* const* pages;
  int64_t position;
};

// Store the row's key (rotated) or value, (head_dim), of one KV head.
void store_key(const KernelTable& table, const KvLayer& layer, int64_t head, const AttentionRow& row,
               const float* k);
void store_value(const KernelTable& table, const KvLayer& layer, int64_t head, const AttentionRow& row,
                 const float* v);

// What queries are to be multiplied with, once, before attention().
float query_scale(int64_t head_dim);

// How a batch's attention is shared out, and its room for partial results; the same for every layer.
class AttentionPlan {
 public:
  // A block is some rows at consecutive positions of one sequence: they fold its pages together. `group` is
  // the number of query heads to a KV head; it and head_dim are the largest of all layers. Call before the
  // team runs.
  void prepare(const KernelTable& table, KvType type, std::span<const AttentionRow> rows, Classes classes,
               int64_t group, int64_t head_dim, int threads);

  struct Block {
    AttentionRow first;
    int64_t row, rows;

    int64_t seen() const { return first.position + rows; }  // positions that the last row sees
    int64_t splits() const { return (seen() - 1) / kSplitTokens + 1; }
    // What the splits before this one cost, and what all of them do.
    int64_t cost_before(int64_t split) const { return rows * std::min(split * kSplitTokens, seen()); }
    int64_t cost() const { return rows * seen(); }
  };
  // The blocks of a numeric class; every thread takes an equal share of their cost.
  struct Part {
    std::vector<Block> blocks;
    int64_t cost = 0;
    int64_t most_rows = 0, most_splits = 0;
    Buffer partials;
  };
  const Part& few() const { return few_; }
  const Part& many() const { return many_; }
  std::byte* scratch(int rank) const { return scratch_.as() + static_cast<size_t>(rank) * scratch_size_; }

 private:
  Part few_, many_;
  Buffer scratch_;  // of the kernels
  size_t scratch_size_ = 0;
};

// q: (rows, heads, head_dim) with q_stride floats between rows, scaled by query_scale(); out: (rows, heads,
// head_dim). Every rank calls it, and it syncs inside where it must; the caller syncs before reading `out`.
void attention(Team& team, const KernelTable& table, const KvLayer& layer, const AttentionPlan& plan,
               int64_t heads, const float* q, int64_t q_stride, float* out);

}  // namespace binhdan::ops
