// Attention in float32 for any width of vector: what attention_<isa>.cpp files instantiate.
//
// Scores: lane = position of the page, q[d] broadcast; values: lane = element of the head, weight broadcast.
// Neither sums across lanes, and both convert each float16 once for up to kMaxHeads query heads, whose sums
// stay in registers. The order of every sum is fixed by the page: a row's bits depend on nothing else.
//
// Against scalar: the same order with FMA, exp2 within 2 ulp, and a page's weights are summed lane by lane.
// That is 1e-6 of the largest |term|, and what 2^x makes of it: 1e-5 of an output.
//
// A Lanes class gives the vector V, its width kLanes, how many heads go together at most (kMaxHeads), how
// many vectors wide a tile of H heads is (kTile<H>), and the arithmetic. Nothing here may leave a symbol to
// the linker: avx2.h says why.
#pragma once
#include "kernels/inline.h"
#include "kernels/kernels.h"

namespace binhdan {
namespace {

template <class Lanes>
struct LaneAttention {
  using V = typename Lanes::V;
  static constexpr int kLanes = Lanes::kLanes;

  // Query heads whose rows see the same n positions of a page.
  template <int H>
  struct Heads {
    const float* q[H];
    float* m;    // (H)
    float* l;    // (H)
    float* acc;  // (H, dim)
  };

  // scores[h][t] = q[h] . k[t] for a tile of positions at `k`; asks for the same part of the page at `ahead`.
  template <int H>
  BINHDAN_INLINE void score_tile(float* scores, const float* const (&q)[H], const uint16_t* k,
                                 const uint16_t* ahead, int64_t dim) {
    constexpr int T = Lanes::template kTile<H>;
    V sums[H][T];
#pragma GCC unroll 16
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) sums[h][t] = Lanes::zero();
    for (int64_t d = 0; d < dim; ++d) {
      prefetch<T>(ahead + d * kKvPageTokens);
      V key[T];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) key[t] = Lanes::load_f16(k + d * kKvPageTokens + t * kLanes);
#pragma GCC unroll 16
      for (int h = 0; h < H; ++h) {
        const V query = Lanes::broadcast(q[h][d]);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sums[h][t] = Lanes::fma(query, key[t], sums[h][t]);
      }
    }
#pragma GCC unroll 16
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) Lanes::store(scores + h * kKvPageTokens + t * kLanes, sums[h][t]);
  }

  // Turns n scores into weights 2^(s - m'), updates m and l, and returns what to scale acc with.
  BINHDAN_INLINE float softmax_step(float* scores, int64_t n, float& m, float& l) {
    const int64_t vectors = (n + kLanes - 1) / kLanes;
    V top = Lanes::broadcast(m);
    for (int64_t t = 0; t < vectors; ++t) {
      const V s = Lanes::first(Lanes::load(scores + t * kLanes), n - t * kLanes, -__builtin_inff());
      Lanes::store(scores + t * kLanes, s);
      top = Lanes::max(s, top);
    }
    const V reference = Lanes::ceil(Lanes::broadcast(Lanes::max_of(top)));
    V sum = Lanes::zero();
    for (int64_t t = 0; t < vectors; ++t) {
      const V p = Lanes::exp2(Lanes::sub(Lanes::load(scores + t * kLanes), reference));
      Lanes::store(scores + t * kLanes, p);
      sum = Lanes::add(sum, p);
    }
    const float keep = Lanes::element(Lanes::exp2(Lanes::sub(Lanes::broadcast(m), reference)));
    l = l * keep + Lanes::sum_of(sum);
    m = Lanes::element(reference);
    return keep;
  }

  // acc[h] = acc[h] keep[h] + sum over j of weights[h][j] v[j], for T vectors of columns, of the last `width`
  // elements.
  template <int H, int T>
  BINHDAN_INLINE void value_tile(float* acc, const float (*weights)[kKvPageTokens], const float* keep,
                                 const uint16_t* v, const uint16_t* ahead, int64_t n, int64_t dim,
                                 int64_t width) {
    V sums[H][T];
#pragma GCC unroll 16
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t)
        sums[h][t] =
            Lanes::mul(Lanes::load_first(acc + h * dim + t * kLanes, width), Lanes::broadcast(keep[h]));
    for (int64_t j = 0; j < n; ++j) {
      prefetch<T>(ahead + j * dim);
      V value[T];
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) value[t] = Lanes::load_f16_first(v + j * dim + t * kLanes, width);
#pragma GCC unroll 16
      for (int h = 0; h < H; ++h) {
        const V weight = Lanes::broadcast(weights[h][j]);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) sums[h][t] = Lanes::fma(weight, value[t], sums[h][t]);
      }
    }
#pragma GCC unroll 16
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) Lanes::store_first(acc + h * dim + t * kLanes, width, sums[h][t]);
  }

  template <int H>
  static void fold_page(const Heads<H>& heads, const uint16_t* page, const uint16_t* ahead, int64_t n,
                        int64_t dim) {
    constexpr int T = Lanes::template kTile<H>;
    alignas(64) float scores[H][kKvPageTokens];
    float keep[H];
    for (int64_t t = 0; t < n; t += T * kLanes)
      score_tile<H>(scores[0] + t, heads.q, page + t, ahead + t, dim);
    for (int h = 0; h < H; ++h) keep[h] = softmax_step(scores[h], n, heads.m[h], heads.l[h]);
    const uint16_t* v = page + kKvPageTokens * dim;
    ahead += kKvPageTokens * dim;
    int64_t d = 0;
    for (; d + T * kLanes <= dim; d += T * kLanes)
      value_tile<H, T>(heads.acc + d, scores, keep, v + d, ahead + d, n, dim, kLanes);
    for (; d < dim; d += kLanes)
      value_tile<H, 1>(heads.acc + d, scores, keep, v + d, ahead + d, n, dim,
                       dim - d < kLanes ? dim - d : kLanes);
  }

  // Folds a page into `count` query heads from number `first` on, H at a time at most, in equal parts.
  template <int H>
  static void fold_heads(const AttentionArgs& args, const uint16_t* page, const uint16_t* ahead,
                         int64_t first, int64_t n) {
    Heads<H> heads;
    for (int h = 0; h < H; ++h)
      heads.q[h] =
          args.q + (first + h) / args.heads * args.q_stride + (first + h) % args.heads * args.head_dim;
    heads.m = args.m + first;
    heads.l = args.l + first;
    heads.acc = args.acc + first * args.head_dim;
    fold_page<H>(heads, page, ahead, n, args.head_dim);
  }

  template <int H>
  static void fold_some(int64_t count, const AttentionArgs& args, const uint16_t* page, const uint16_t* ahead,
                        int64_t first, int64_t n) {
    if constexpr (H > 1)
      if (count < H) return fold_some<H - 1>(count, args, page, ahead, first, n);
    fold_heads<H>(args, page, ahead, first, n);
  }

  static void fold_all(const AttentionArgs& args, int64_t page, int64_t first, int64_t end, int64_t n) {
    const uint16_t* data = args.pages[page];
    const uint16_t* ahead = args.pages[page + 1] ? args.pages[page + 1] : data;
    while (first < end) {
      const int64_t tiles = (end - first + Lanes::kMaxHeads - 1) / Lanes::kMaxHeads;
      const int64_t count = (end - first + tiles - 1) / tiles;
      fold_some<Lanes::kMaxHeads>(count, args, data, ahead, first, n);
      first += count;
      ahead = data;  // asked for once
    }
  }

  // Rows that see the whole page fold it together, the others one by one.
  static void run(const AttentionArgs& args) {
    const int64_t all = args.rows * args.heads;
    for (int64_t i = 0; i < all; ++i) {
      args.m[i] = -__builtin_inff();
      args.l[i] = 0;
    }
    for (int64_t i = 0; i < all * args.head_dim; ++i) args.acc[i] = 0;

    const int64_t last = args.visible + args.rows - 1;
    for (int64_t page = 0; page < kSplitPages && page * kKvPageTokens < last; ++page) {
      int64_t row = 0;
      for (; row < args.rows; ++row) {
        const int64_t n = args.visible + row - page * kKvPageTokens;
        if (n >= kKvPageTokens) break;
        if (n > 0) fold_all(args, page, row * args.heads, (row + 1) * args.heads, n);
      }
      fold_all(args, page, row * args.heads, all, kKvPageTokens);
    }
  }

 private:
  template <int T>
  BINHDAN_INLINE void prefetch(const uint16_t* src) {
#pragma GCC unroll 4
    for (int byte = 0; byte < T * kLanes * 2; byte += 64) __builtin_prefetch(src + byte / 2);
  }
};

}  // namespace
}  // namespace binhdan
