// Causal grouped-query attention over paged keys and values.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace binhdan::ops {

// The KV is folded in splits of this many pages, each from its own start, then combined in order: the bits
// of the result do not depend on how splits were shared out among threads.
inline constexpr int64_t kSplitPages = 8;

// Where one layer's keys and values of one sequence lie: in every page, for each KV head, kKvPageTokens rows.
struct KvView {
  const Buffer* pages;
  size_t k_offset, v_offset;  // bytes from a page's start
  int64_t kv_heads, head_dim;

  uint16_t* k(int64_t head, int64_t position) const { return at(k_offset, head, position); }
  uint16_t* v(int64_t head, int64_t position) const { return at(v_offset, head, position); }

 private:
  uint16_t* at(size_t offset, int64_t head, int64_t position) const {
    std::byte* page = pages[position / kKvPageTokens].as<std::byte>() + offset;
    return reinterpret_cast<uint16_t*>(page) + (head * kKvPageTokens + position % kKvPageTokens) * head_dim;
  }
};

struct AttentionRow {
  KvView kv;
  int64_t position;  // sees positions 0 to this one
};

// Room for partial results, reused from layer to layer.
class AttentionScratch {
 public:
  // For `rows` queries of which the last sees `positions` positions. Call before the team runs.
  void reserve(int64_t rows, int64_t positions, int64_t heads, int64_t head_dim, int threads);
  float* partials() const { return buffer_.as<float>(); }

 private:
  Buffer buffer_;
};

// q: (rows, heads, head_dim), already scaled; out: the same shape. Every rank calls it, and it syncs inside
// where it must; the caller syncs before reading `out`.
void attention(Team& team, const KernelTable& table, std::span<const AttentionRow> rows, int64_t heads,
               const float* q, float* out, AttentionScratch& scratch);

}  // namespace binhdan::ops
