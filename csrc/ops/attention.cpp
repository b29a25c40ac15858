#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace binhdan::ops {
namespace {

constexpr int64_t kSplitTokens = kSplitPages * kKvPageTokens;

int64_t splits_of(int64_t position) {
  return position / kSplitTokens + 1;
}

// The state of the online softmax for the query heads of one group.
struct Partial {
  float* m;
  float* l;
  float* acc;  // (group, head_dim)

  static int64_t floats(int64_t group, int64_t head_dim) { return (group * (head_dim + 2) + 15) / 16 * 16; }
  static Partial at(float* base, int64_t group) { return {base, base + group, base + 2 * group}; }
};

// One attention operator's fixed facts; its functions are the steps of the algorithm.
struct Attention {
  const KernelTable& table;
  int64_t group, head_dim;

  void fold_split(const AttentionRow& row, int64_t kv_head, const float* q, int64_t split,
                  Partial partial) const {
    std::fill_n(partial.m, group, -std::numeric_limits<float>::infinity());
    std::fill_n(partial.l, group, 0.0f);
    std::fill_n(partial.acc, group * head_dim, 0.0f);
    const int64_t end = std::min(row.position + 1, (split + 1) * kSplitTokens);
    for (int64_t position = split * kSplitTokens; position < end; position += kKvPageTokens) {
      table.attention({.q = q,
                       .heads = group,
                       .head_dim = head_dim,
                       .k = row.kv.k(kv_head, position),
                       .v = row.kv.v(kv_head, position),
                       .n = std::min<int64_t>(kKvPageTokens, end - position),
                       .m = partial.m,
                       .l = partial.l,
                       .acc = partial.acc});
    }
  }

  // into = into + next, as if both had been folded as one.
  void combine(Partial into, Partial next) const {
    for (int64_t h = 0; h < group; ++h) {
      const float m = std::max(into.m[h], next.m[h]);
      const float scale = std::exp(into.m[h] - m), scale_next = std::exp(next.m[h] - m);
      into.m[h] = m;
      into.l[h] = into.l[h] * scale + next.l[h] * scale_next;
      for (int64_t i = h * head_dim; i < (h + 1) * head_dim; ++i)
        into.acc[i] = into.acc[i] * scale + next.acc[i] * scale_next;
    }
  }

  void finish(Partial partial, float* out) const {
    for (int64_t h = 0; h < group; ++h) {
      const float inverse = 1.0f / partial.l[h];
      for (int64_t i = h * head_dim; i < (h + 1) * head_dim; ++i) out[i] = partial.acc[i] * inverse;
    }
  }
};

}  // namespace

void AttentionScratch::reserve(int64_t rows, int64_t positions, int64_t heads, int64_t head_dim,
                               int threads) {
  // Many rows: two partials a thread. Few rows: one for each row and split.
  const int64_t kept = rows >= threads ? 2 * threads : rows * splits_of(positions - 1);
  buffer_.reserve(static_cast<size_t>(kept * heads * Partial::floats(1, head_dim)) * sizeof(float));
}

void attention(Team& team, const KernelTable& table, std::span<const AttentionRow> rows, int64_t heads,
               const float* q, float* out, AttentionScratch& scratch) {
  const int64_t kv_heads = rows[0].kv.kv_heads, head_dim = rows[0].kv.head_dim;
  const Attention step{table, heads / kv_heads, head_dim};
  const int64_t floats = Partial::floats(step.group, head_dim);
  const auto partial = [&](int64_t index) {
    return Partial::at(scratch.partials() + index * floats, step.group);
  };
  const auto offset = [&](size_t row, int64_t kv_head) {
    return (static_cast<int64_t>(row) * heads + kv_head * step.group) * head_dim;
  };
  const auto threads = static_cast<size_t>(team.size()), rank = static_cast<size_t>(team.rank());

  if (rows.size() >= threads) {
    const Partial sum = partial(2 * team.rank()), next = partial(2 * team.rank() + 1);
    // Neighbouring rows see about as many positions: dealing them out in turn gives equal shares.
    for (size_t i = rank; i < rows.size(); i += threads) {
      for (int64_t head = 0; head < kv_heads; ++head) {
        step.fold_split(rows[i], head, q + offset(i, head), 0, sum);
        for (int64_t split = 1; split < splits_of(rows[i].position); ++split) {
          step.fold_split(rows[i], head, q + offset(i, head), split, next);
          step.combine(sum, next);
        }
        step.finish(sum, out + offset(i, head));
      }
    }
    return;
  }

  int64_t item = 0;
  for (size_t i = 0; i < rows.size(); ++i)
    for (int64_t head = 0; head < kv_heads; ++head)
      for (int64_t split = 0; split < splits_of(rows[i].position); ++split, ++item)
        if (item % team.size() == team.rank())
          step.fold_split(rows[i], head, q + offset(i, head), split, partial(item));
  team.sync();
  item = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t splits = splits_of(rows[i].position);
    for (int64_t head = 0; head < kv_heads; ++head, item += splits) {
      if ((static_cast<int64_t>(i) * kv_heads + head) % team.size() != team.rank()) continue;
      for (int64_t split = 1; split < splits; ++split) step.combine(partial(item), partial(item + split));
      step.finish(partial(item), out + offset(i, head));
    }
  }
}

}  // namespace binhdan::ops
