// Attention in float32 for any width of vector: the attention.cpp of an instruction set instantiates it.
//
// Algebra (AttentionArgs). For a page of 64 positions and H query heads:
//   scores[h][j] = sum over d of q[h][d] k[d][j]         lanes are positions, q[h][d] is broadcast
//   m' = ceil(max(m, scores)), weights = 2^(scores - m'), l = l 2^(m - m') + sum of weights
//   acc[h][d] = acc[h][d] 2^(m - m') + sum over j of weights[h][j] v[j][d]   lanes are elements of the head
// Neither product sums across lanes. Each float16 is converted once for up to kMaxHeads query heads, whose
// sums stay in registers. The order of every sum is fixed: a row's bits depend on the row and the pages only.
//
// Accuracy against scalar: the same order with FMA, exp2 within 2 ulp, and the weights of a page are summed
// lane by lane: 1e-6 of the largest |term| of a score, so 1e-5 of an output.
//
// Q8_0 pages (kv_q8.h): a quant times its scale is exact, and the multiplication is done once for all heads.
// If a call has more than kMaxHeads queries, the page is first decoded to float32 in scratch: the same bits.
//
// Queries of several rows share a tile, also where they see different positions of the page: the tile has the
// positions that some query sees, and the weights of positions that a query does not see are 0. Adding zeros
// does not change its sums.
//
// A Lanes class is that of vector_lanes.h, and has the maximum number of heads of a tile (kMaxHeads), the width
// in vectors of a tile of H heads (kTile<H>), and functions for elements of pages. inline.h says why everything
// is inlined or static.
#pragma once
#include "kernels/attention_mask.h"
#include "kernels/inline.h"
#include "kernels/kernels.h"
#include "kernels/kv_q8.h"
#include "kernels/lane_math.h"

namespace binhdan {
namespace {

// Element is uint16_t for float16 pages, int8_t for Q8_0 pages, float for Q8_0 pages decoded in scratch.
template <class Lanes, class Element>
struct LaneAttention {
  using V = typename Lanes::V;
  static constexpr int kLanes = Lanes::kLanes;
  static constexpr bool kScaled = sizeof(Element) == 1;

  struct Page {
    const Element *keys, *values;               // (dim, kKvPageTokens) and (kKvPageTokens, line)
    const uint16_t *key_scales, *value_scales;  // if kScaled
    int64_t line;
  };
  BINHDAN_INLINE Page page_at(const void* data, int64_t dim) {
    const auto* elements = static_cast<const Element*>(data);
    if constexpr (kScaled) {
      const Q8Page<const Element, const uint16_t> page(elements, dim);
      return {page.keys, page.values, page.key_scales, page.value_scales, page.width};
    } else {
      return {elements, elements + kKvPageTokens * dim, nullptr, nullptr, dim};
    }
  }

  // Queries (a head of a row each) that are processed together.
  template <int H>
  struct Heads {
    const float* q[H];
    Positions seen[H];  // in the page; none is empty
    float* m;           // (H)
    float* l;           // (H)
    float* acc;         // (H, dim)
  };

  // Converts the scales of a page's positions to float32.
  BINHDAN_INLINE void load_scales(float (&dst)[kKvPageTokens], const uint16_t* src) {
    for (int64_t j = 0; j < kKvPageTokens; j += kLanes) Lanes::store(dst + j, Lanes::load_element(src + j));
  }

  // sums[h][t] += q[h][d] k[d][t] for d in [begin, end) and the tile of positions at `keys`. Prefetches the
  // same part of the next page, at `ahead`.
  template <int H, int T>
  BINHDAN_INLINE void add_scores(V (&sums)[H][T], const float* const (&q)[H], const Element* keys,
                                 const Element* ahead, const V (&scale)[T], int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; ++d) {
      prefetch<T>(ahead + d * kKvPageTokens);
      V key[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        key[t] = Lanes::load_element(keys + d * kKvPageTokens + t * kLanes);
        if constexpr (kScaled) key[t] = Lanes::mul(key[t], scale[t]);
      }
#pragma GCC unroll 16
      for (int h = 0; h < H; ++h) {
        const V query = Lanes::broadcast(q[h][d]);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) sums[h][t] = Lanes::fma(query, key[t], sums[h][t]);
      }
    }
  }

  // scores[h][t] = q[h] . k[t] for the tile of positions that begins at `first`.
  template <int H>
  BINHDAN_INLINE void score_tile(float* scores, const float* const (&q)[H], const Page& page,
                                 const Page& ahead, int64_t first, int64_t dim) {
    constexpr int T = Lanes::template kTile<H>;
    V sums[H][T], scale[T];
#pragma GCC unroll 16
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[h][t] = Lanes::zero();
    if constexpr (!kScaled) {
      add_scores<H, T>(sums, q, page.keys + first, ahead.keys + first, scale, 0, dim);
    } else {
      for (int64_t d = 0; d < dim; d += kKvBlock) {
        const int64_t at = d / kKvBlock * kKvPageTokens + first;
        __builtin_prefetch(ahead.key_scales + at);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) scale[t] = Lanes::load_element(page.key_scales + at + t * kLanes);
        add_scores<H, T>(sums, q, page.keys + first, ahead.keys + first, scale, d,
                         d + kKvBlock < dim ? d + kKvBlock : dim);
      }
    }
#pragma GCC unroll 16
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) Lanes::store(scores + h * kKvPageTokens + t * kLanes, sums[h][t]);
  }

  // Replaces the scores of a page by weights 2^(s - m'), updates m and l, and returns the factor of acc,
  // 2^(m - m').
  BINHDAN_INLINE float softmax_step(float* scores, float& m, float& l) {
    V top = Lanes::broadcast(m);
    for (int64_t j = 0; j < kKvPageTokens; j += kLanes) top = Lanes::max(Lanes::load(scores + j), top);
    const V reference = Lanes::ceil(Lanes::broadcast(Lanes::max_of(top)));
    V sum = Lanes::zero();
    for (int64_t j = 0; j < kKvPageTokens; j += kLanes) {
      const V p = Lanes::exp2(Lanes::sub(Lanes::load(scores + j), reference));
      Lanes::store(scores + j, p);
      sum = Lanes::add(sum, p);
    }
    const float keep = Lanes::element(Lanes::exp2(Lanes::sub(Lanes::broadcast(m), reference)));
    l = l * keep + Lanes::sum_of(sum);
    m = Lanes::element(reference);
    return keep;
  }

  // The scores of positions that the query does not see become -inf, so their weights become 0.
  BINHDAN_INLINE void hide(float* scores, Positions seen) {
    for (int64_t j = 0; j < kKvPageTokens; j += kLanes)
      Lanes::store(scores + j,
                   Lanes::within(Lanes::load(scores + j), seen.begin - j, seen.end - j, -__builtin_inff()));
  }

  // AttentionArgs::softcap. Not inlined: most models have none.
  [[gnu::noinline]] static void soften(float* scores, Positions tile, float softcap) {
    const V cap = Lanes::broadcast(softcap), inverse = Lanes::broadcast(1.0f / softcap);
    for (int64_t j = tile.begin / kLanes * kLanes; j < tile.end; j += kLanes)
      Lanes::store(scores + j, Lanes::mul(cap, tanh<Lanes>(Lanes::mul(inverse, Lanes::load(scores + j)))));
  }

  // acc[h] = acc[h] keep[h] + sum over j of weights[h][j] v[j], for T vectors from element d on, and the
  // positions of `tile`; the last vector has `width` elements.
  template <int H, int T>
  BINHDAN_INLINE void value_tile(float* acc, const float (*weights)[kKvPageTokens], const float* keep,
                                 const Page& page, const Page& ahead, int64_t d, Positions tile, int64_t dim,
                                 int64_t width) {
    constexpr int kScales = kScaled ? (T * kLanes + kKvBlock - 1) / kKvBlock : 1;
    float scales[kScales][kKvPageTokens];
    if constexpr (kScaled) {
      for (int b = 0; b < kScales; ++b) {
        const int64_t at = (d / kKvBlock + b) * kKvPageTokens;
        __builtin_prefetch(ahead.value_scales + at);
        load_scales(scales[b], page.value_scales + at);
      }
    }
    V sums[H][T];
#pragma GCC unroll 16
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        sums[h][t] =
            Lanes::mul(Lanes::load_first(acc + h * dim + t * kLanes, width), Lanes::broadcast(keep[h]));
    const Element *v = page.values + d, *next = ahead.values + d;
    for (int64_t j = tile.begin; j < tile.end; ++j) {
      prefetch<T>(next + j * page.line);
      V value[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Element* at = v + j * page.line + t * kLanes;
        if constexpr (kScaled)  // a line is a whole number of blocks: no tail
          value[t] = Lanes::mul(Lanes::load_element(at), Lanes::broadcast(scales[t * kLanes / kKvBlock][j]));
        else
          value[t] = Lanes::load_element_first(at, width);
      }
#pragma GCC unroll 16
      for (int h = 0; h < H; ++h) {
        const V weight = Lanes::broadcast(weights[h][j]);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) sums[h][t] = Lanes::fma(weight, value[t], sums[h][t]);
      }
    }
#pragma GCC unroll 16
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) Lanes::store_first(acc + h * dim + t * kLanes, width, sums[h][t]);
  }

  template <int H>
  static void accumulate_page(const Heads<H>& heads, const void* data, const void* next, int64_t dim,
                              float softcap) {
    constexpr int T = Lanes::template kTile<H>;
    const Page page = page_at(data, dim), ahead = page_at(next, dim);
    const Positions tile{heads.seen[0].begin, heads.seen[H - 1].end};  // that some query sees
    alignas(64) float scores[H][kKvPageTokens];
    float keep[H];
    for (int64_t t = tile.begin / (T * kLanes) * (T * kLanes); t < tile.end; t += T * kLanes)
      score_tile<H>(scores[0] + t, heads.q, page, ahead, t, dim);
    for (int h = 0; h < H; ++h) {
      if (softcap > 0) soften(scores[h], tile, softcap);
      if (!heads.seen[h].whole_page()) hide(scores[h], heads.seen[h]);
      keep[h] = softmax_step(scores[h], heads.m[h], heads.l[h]);
    }
    int64_t d = 0;
    for (; d + T * kLanes <= dim; d += T * kLanes)
      value_tile<H, T>(heads.acc + d, scores, keep, page, ahead, d, tile, dim, kLanes);
    for (; d < dim; d += kLanes)
      value_tile<H, 1>(heads.acc + d, scores, keep, page, ahead, d, tile, dim,
                       dim - d < kLanes ? dim - d : kLanes);
  }

  // A page of a call: its number in the split, its data, and the page to prefetch.
  struct Source {
    int64_t index;
    const void *page, *ahead;
  };

  // Accumulates a page for the H queries from number `first` on (rows x heads, in one count).
  template <int H>
  static void accumulate_heads(const AttentionArgs& args, const Source& source, int64_t first) {
    Heads<H> heads;
    for (int h = 0; h < H; ++h) {
      const int64_t row = (first + h) / args.heads, head = (first + h) % args.heads;
      heads.q[h] = args.q + row * args.q_stride + head * args.head_dim;
      heads.seen[h] = seen_positions(args, row, source.index);
    }
    heads.m = args.m + first;
    heads.l = args.l + first;
    heads.acc = args.acc + first * args.head_dim;
    accumulate_page<H>(heads, source.page, source.ahead, args.head_dim, args.softcap);
  }

  // The same for `count` queries, 1 <= count <= H.
  template <int H>
  static void accumulate_up_to(int64_t count, const AttentionArgs& args, const Source& source,
                               int64_t first) {
    if constexpr (H > 1)
      if (count < H) return accumulate_up_to<H - 1>(count, args, source, first);
    accumulate_heads<H>(args, source, first);
  }

  // The same for all queries of the rows, which see some position of the page, in tiles of nearly equal size.
  static void accumulate_rows(const AttentionArgs& args, Rows rows, Source source) {
    const int64_t end = rows.end * args.heads;
    for (int64_t first = rows.begin * args.heads; first < end;) {
      const int64_t tiles = (end - first + Lanes::kMaxHeads - 1) / Lanes::kMaxHeads;
      const int64_t count = (end - first + tiles - 1) / tiles;
      accumulate_up_to<Lanes::kMaxHeads>(count, args, source, first);
      first += count;
      source.ahead = source.page;  // the next page is prefetched only once
    }
  }

  // Decodes a Q8_0 page into the layout that LaneAttention<Lanes, float> reads.
  static void unpack(float* dst, const Page& page, const Page& ahead, int64_t dim) {
    float scales[kKvPageTokens];
    for (int64_t block = 0; block < dim; block += kKvBlock) {
      const int64_t at = block / kKvBlock * kKvPageTokens,
                    end = block + kKvBlock < dim ? block + kKvBlock : dim;
      __builtin_prefetch(ahead.key_scales + at);
      load_scales(scales, page.key_scales + at);
      for (int64_t d = block; d < end; ++d) {
        __builtin_prefetch(ahead.keys + d * kKvPageTokens);
        for (int64_t t = 0; t < kKvPageTokens; t += kLanes)
          Lanes::store(
              dst + d * kKvPageTokens + t,
              Lanes::mul(Lanes::load_element(page.keys + d * kKvPageTokens + t), Lanes::load(scales + t)));
      }
    }
    dst += dim * kKvPageTokens;
    for (int64_t block = 0; block < dim; block += kKvBlock) {
      const int64_t at = block / kKvBlock * kKvPageTokens,
                    end = block + kKvBlock < dim ? block + kKvBlock : dim;
      __builtin_prefetch(ahead.value_scales + at);
      load_scales(scales, page.value_scales + at);
      for (int64_t j = 0; j < kKvPageTokens; ++j) {
        __builtin_prefetch(ahead.values + j * page.line + block);
        for (int64_t d = block; d < end; d += kLanes)
          Lanes::store_first(
              dst + j * dim + d, dim - d,
              Lanes::mul(Lanes::load_element(page.values + j * page.line + d), Lanes::broadcast(scales[j])));
      }
    }
  }

  // Bytes for a decoded Q8_0 page.
  static size_t scratch_size(int64_t rows, int64_t heads, int64_t dim) {
    return rows * heads > Lanes::kMaxHeads ? static_cast<size_t>(2 * dim * kKvPageTokens) * sizeof(float) : 0;
  }

  static void run(const AttentionArgs& args) {
    const int64_t all = args.rows * args.heads;
    for (int64_t i = 0; i < all; ++i) {
      args.m[i] = -__builtin_inff();
      args.l[i] = 0;
    }
    for (int64_t i = 0; i < all * args.head_dim; ++i) args.acc[i] = 0;

    for (int64_t index = 0; index < kSplitPages; ++index) {
      const Rows rows = seeing_rows(args, index);
      if (rows.empty()) continue;
      const void *page = args.pages[index], *next = args.pages[index + 1], *ahead = next ? next : page;
      if constexpr (kScaled)
        if (all > Lanes::kMaxHeads) {
          auto* unpacked = static_cast<float*>(args.scratch);
          unpack(unpacked, page_at(page, args.head_dim), page_at(ahead, args.head_dim), args.head_dim);
          LaneAttention<Lanes, float>::accumulate_rows(args, rows, {index, unpacked, unpacked});
          continue;
        }
      accumulate_rows(args, rows, {index, page, ahead});
    }
  }

 private:
  template <int T>
  BINHDAN_INLINE void prefetch(const Element* src) {
    if constexpr (sizeof(Element) == sizeof(float)) return;  // a decoded page is in a cache already
    constexpr int kLine = 64 / sizeof(Element);
#pragma GCC unroll 8
    for (int i = 0; i < T * kLanes; i += kLine) __builtin_prefetch(src + i);
  }
};

}  // namespace
}  // namespace binhdan
