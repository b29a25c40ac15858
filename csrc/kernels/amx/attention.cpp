// Attention in bf16 tiles: one numeric class for decode and prefill. tiles.h has the instructions.
//
// Keys and values are stored as bfloat16 in the layout in which the tile unit reads B: pairs of neighbouring
// rows interleaved, K as (head_dim / 2, kKvPageTokens, 2), then V as (kKvPageTokens / 2, head_dim, 2), with
// head_dim padded to a multiple of 32. So no conversion is needed: a page is 16 tile loads (head_dim 64), and
// decode runs at the speed of memory.
//
// Algebra (AttentionArgs). 16 queries (rows x heads) are the rows of A. For a page of 64 positions,
//   scores = q K (16 x 64) on the tile unit, stored to L1
//   weights = 2^(scores - m) in vector registers, rounded to bf16, the A of the next product
//   acc += weights V (16 x head_dim) on the tile unit
// m moves only if a score exceeds it by 2^3 (weights up to 2^8 lose no precision in floating point), so the
// sums are rarely rescaled.
//
// Cost for 16 queries and 64 positions of 64 elements: 256 cycles on the tile unit, and about 500 for the
// softmax: 64 vectors of 2^x, 9 to 10 operations for each on two ports. The scores of the next 16 queries are
// computed in parallel with it.
//
// Q8_0 pages (kv_q8.h) have half the bytes. They are decoded to bfloat16 pages in scratch, in L1 or L2, once
// for all queries.
#include "kernels/amx/functions.h"
#include "kernels/amx/kv_q8.h"
#include "kernels/amx/tiles.h"
#include "kernels/attention_mask.h"
#include "kernels/avx512/lanes.h"
#include "kernels/avx512/zmm.h"

namespace binhdan::amx {
namespace {

constexpr int kLanes = 16, kVectors = kKvPageTokens / kLanes;
constexpr int64_t kScoreLine = kKvPageTokens * sizeof(float), kWeightLine = kKvPageTokens * sizeof(uint16_t);

constexpr int64_t padded(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

// The state of a call, in scratch. A tile is 16 queries; a query is one head of one row.
struct Call {
  const AttentionArgs& args;
  int64_t queries, tiles;
  int64_t width;      // head_dim, padded
  float* scores;      // (2, 16, kKvPageTokens)
  uint16_t* weights;  // (16, kKvPageTokens)
  float* m;           // (tiles * 16)
  float* l;           // (tiles * 16, 16), a sum for each lane
  float* acc;         // (tiles, width / 16, 16, 16)
  uint16_t* q;        // (tiles * 16, width)
  uint16_t* page;     // (2, kKvPageTokens, width), for Q8_0

  [[gnu::always_inline]] explicit Call(const AttentionArgs& of)
      : args(of),
        queries(of.rows * of.heads),
        tiles(padded(queries, kTileRows) / kTileRows),
        width(padded(of.head_dim, 32)),
        scores(static_cast<float*>(of.scratch)),
        weights(reinterpret_cast<uint16_t*>(scores + 2 * kTileRows * kKvPageTokens)),
        m(reinterpret_cast<float*>(weights + kTileRows * kKvPageTokens)),
        l(m + tiles * kTileRows),
        acc(l + tiles * kTileRows * kLanes),
        q(reinterpret_cast<uint16_t*>(acc + tiles * kTileRows * width)),
        page(q + tiles * kTileRows * width) {}

  float* scores_of(int64_t tile) const { return scores + tile % 2 * kTileRows * kKvPageTokens; }
  float* acc_of(int64_t tile) const { return acc + tile * kTileRows * width; }
  int64_t queries_of(int64_t tile) const {
    const int64_t left = queries - tile * kTileRows;
    return left < kTileRows ? left : kTileRows;
  }
  Positions seen(int64_t query, int64_t page) const { return seen_positions(args, query / args.heads, page); }
  int64_t first_row(int64_t tile) const { return tile * kTileRows / args.heads; }
  int64_t last_row(int64_t tile) const { return (tile * kTileRows + queries_of(tile) - 1) / args.heads; }
  // Some query of the tile sees some position of the page.
  bool sees(int64_t tile, int64_t page) const {
    const Rows rows = seeing_rows(args, page);
    return first_row(tile) < rows.end && last_row(tile) >= rows.begin;
  }
  // Every query of the tile sees the whole page.
  bool sees_whole(int64_t tile, int64_t page) const {
    return seen_positions(args, first_row(tile), page).end == kKvPageTokens &&
           seen_positions(args, last_row(tile), page).begin == 0;
  }
  // The first page that a tile sees, if it sees any: that of the first position that its first row may see.
  bool is_first(int64_t tile, int64_t page) const {
    const int64_t begin = args.begin + first_row(tile);
    return page == (begin > 0 ? begin / kKvPageTokens : 0);
  }
};

// Rounds to nearest even; denormal values become zero. Elements [n, width) become zero.
BINHDAN_INLINE void to_bf16(uint16_t* dst, const float* src, int64_t n, int64_t width) {
  for (int64_t i = 0; i < width; i += kLanes) {
    const __m512 x = _mm512_maskz_loadu_ps(lane_mask(n - i), src + i);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + i),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
  }
}

// Prefetches the next page, a few lines at a time during the work on this page. All lines at once would fill
// the line buffers and delay the loads of this page. Into L2, because L1 is full of data in use.
struct Prefetcher {
  static constexpr int64_t kLine = 64;
  const char *at = nullptr, *end = nullptr;

  [[gnu::always_inline]] void prefetch(int64_t lines) {
    const char* stop = end - at < lines * kLine ? end : at + lines * kLine;
    for (; at < stop; at += kLine) _mm_prefetch(at, _MM_HINT_T1);
  }
};

// ---- tiles --------------------------------------------------------------------------------------------

// Lines to prefetch per tile of B: half of its own lines, because the softmax prefetches the other half.
constexpr int64_t kTileAhead = 8;

// sums of N neighbouring tiles of columns, N 2 or 4, += A B; A is 16 x 32.
template <int N>
BINHDAN_INLINE void multiply(const void* a, int64_t a_line, const uint16_t* b, int64_t b_line,
                             Prefetcher& ahead) {
  _tile_loadd(4, a, a_line);
  _tile_loadd(6, b, b_line);
  _tile_dpbf16ps(0, 4, 6);
  ahead.prefetch(kTileAhead);
  _tile_loadd(6, b + 32, b_line);
  _tile_dpbf16ps(1, 4, 6);
  ahead.prefetch(kTileAhead);
  if constexpr (N == 4) {
    _tile_loadd(6, b + 64, b_line);
    _tile_dpbf16ps(2, 4, 6);
    ahead.prefetch(kTileAhead);
    _tile_loadd(6, b + 96, b_line);
    _tile_dpbf16ps(3, 4, 6);
    ahead.prefetch(kTileAhead);
  }
}

// scores = q K
BINHDAN_INLINE void score_tile(const Call& call, int64_t tile, const uint16_t* page, Prefetcher& ahead) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const uint16_t* q = call.q + tile * kTileRows * call.width;
  for (int64_t d = 0; d < call.width; d += 32)
    multiply<4>(q + d, call.width * 2, page + d * kKvPageTokens, kKvPageTokens * 4, ahead);
  float* scores = call.scores_of(tile);
  _tile_stored(0, scores, kScoreLine);
  _tile_stored(1, scores + 16, kScoreLine);
  _tile_stored(2, scores + 32, kScoreLine);
  _tile_stored(3, scores + 48, kScoreLine);
}

// acc += weights V for N tiles of columns from `v` on; acc = weights V if `first`, for the first page.
template <int N>
BINHDAN_INLINE void value_columns(float* acc, const uint16_t* weights, const uint16_t* v, int64_t width,
                                  bool first, Prefetcher& ahead) {
  if (first) {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (N == 4) {
      _tile_zero(2);
      _tile_zero(3);
    }
  } else {
    _tile_loadd(0, acc, kTileLine);
    _tile_loadd(1, acc + 256, kTileLine);
    if constexpr (N == 4) {
      _tile_loadd(2, acc + 512, kTileLine);
      _tile_loadd(3, acc + 768, kTileLine);
    }
  }
  multiply<N>(weights, kWeightLine, v, width * 4, ahead);
  multiply<N>(weights + 32, kWeightLine, v + 32 * width, width * 4, ahead);
  _tile_stored(0, acc, kTileLine);
  _tile_stored(1, acc + 256, kTileLine);
  if constexpr (N == 4) {
    _tile_stored(2, acc + 512, kTileLine);
    _tile_stored(3, acc + 768, kTileLine);
  }
}

BINHDAN_INLINE void value_tile(const Call& call, int64_t tile, const uint16_t* page, bool first,
                               Prefetcher& ahead) {
  float* acc = call.acc_of(tile);
  const uint16_t* v = page + call.width * kKvPageTokens;
  int64_t d = 0;
  for (; d + 64 <= call.width; d += 64)
    value_columns<4>(acc + d * kTileRows, call.weights, v + 2 * d, call.width, first, ahead);
  if (d < call.width)
    value_columns<2>(acc + d * kTileRows, call.weights, v + 2 * d, call.width, first, ahead);
}

// ---- softmax ------------------------------------------------------------------------------------------

// 2^x with a relative error of 1e-4, below the half ulp of bfloat16 (2e-3): x = n + r, where an addition of
// 1.5 2^23 rounds x to n, and 2^r is a polynomial. x below -126 returns 2^-126.
BINHDAN_INLINE __m512 exp2_lanes(__m512 x) {
  const __m512 shifter = _mm512_set1_ps(0x1.8p23f);
  x = _mm512_max_ps(_mm512_set1_ps(-126.0f), x);  // this operand order keeps NaN
  const __m512 shifted = _mm512_add_ps(x, shifter);
  const __m512 r = _mm512_sub_ps(x, _mm512_sub_ps(shifted, shifter));
  __m512 p = _mm512_set1_ps(0x1.c3f76p-5f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.f0de1ap-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62f31ap-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.fff692p-1f));
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent));
}

// Lane i of the result is the maximum of row[i]. Each step halves the number of vectors.
BINHDAN_INLINE __m512 max_of_rows(__m512 (&row)[kTileRows]) {
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    row[i] = _mm512_max_ps(_mm512_shuffle_f32x4(row[i], row[i + 8], 0x44),
                           _mm512_shuffle_f32x4(row[i], row[i + 8], 0xee));
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    row[i] = _mm512_max_ps(_mm512_shuffle_f32x4(row[i], row[i + 4], 0x88),
                           _mm512_shuffle_f32x4(row[i], row[i + 4], 0xdd));
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    row[i] = _mm512_max_ps(_mm512_shuffle_ps(row[i], row[i + 2], 0x44),
                           _mm512_shuffle_ps(row[i], row[i + 2], 0xee));
  row[0] = _mm512_max_ps(_mm512_shuffle_ps(row[0], row[1], 0x88), _mm512_shuffle_ps(row[0], row[1], 0xdd));
  // The 128-bit parts now begin with rows 0, 8, 4 and 12, and the elements of a part are its rows 0, 2, 1 and
  // 3.
  const __m512i order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
  return _mm512_permutexvar_ps(order, row[0]);
}

// Bit j is set if position j is in `seen`.
BINHDAN_INLINE uint64_t bits_of(Positions seen) {
  return seen.empty() ? 0 : ~uint64_t{0} >> (kKvPageTokens - (seen.end - seen.begin)) << seen.begin;
}

// Rescales l and acc of the queries in `lanes`, whose m changed from `before` to `now`.
static void rescale(const Call& call, int64_t tile, __mmask16 lanes, __m512 before, __m512 now) {
  alignas(64) float keep[kTileRows];
  _mm512_store_ps(keep, _mm512_scalef_ps(_mm512_set1_ps(1.0f), _mm512_sub_ps(before, now)));
  for (int i = 0; i < kTileRows; ++i) {
    if (!(lanes >> i & 1)) continue;
    const __m512 factor = _mm512_set1_ps(keep[i]);
    float* l = call.l + (tile * kTileRows + i) * kLanes;
    _mm512_store_ps(l, _mm512_mul_ps(_mm512_load_ps(l), factor));
    for (int64_t d = 0; d < call.width; d += kLanes) {
      float* acc = call.acc_of(tile) + d * kTileRows + i * kLanes;
      _mm512_store_ps(acc, _mm512_mul_ps(_mm512_load_ps(acc), factor));
    }
  }
}

// AttentionArgs::softcap. Not inlined: most models have none.
[[gnu::noinline]] static void soften(const Call& call, int64_t tile) {
  using avx512::Lanes;
  float* scores = call.scores_of(tile);
  const __m512 cap = _mm512_set1_ps(call.args.softcap), inverse = _mm512_set1_ps(1.0f / call.args.softcap);
  for (int64_t i = 0; i < call.queries_of(tile) * kKvPageTokens; i += kLanes) {
    const __m512 x = _mm512_mul_ps(_mm512_load_ps(scores + i), inverse);
    _mm512_store_ps(scores + i, _mm512_mul_ps(cap, tanh<Lanes>(x)));
  }
}

// Replaces the scores of a tile by weights. kMasked: some of its queries do not see the whole page.
template <bool kMasked>
BINHDAN_INLINE void softmax_tile(const Call& call, int64_t tile, int64_t page, Prefetcher& ahead) {
  const float* scores = call.scores_of(tile);
  const int64_t count = call.queries_of(tile);
  const bool first = call.is_first(tile, page);
  const __m512 lowest = _mm512_set1_ps(-__builtin_inff());
  const auto load = [&](int64_t i, int vector) __attribute__((always_inline)) {
    return _mm512_load_ps(scores + i * kKvPageTokens + vector * kLanes);
  };
  uint64_t seen[kTileRows];  // a bit for each position
  if constexpr (kMasked)
    for (int i = 0; i < kTileRows; ++i) seen[i] = bits_of(call.seen(tile * kTileRows + i, page));
  const auto lanes = [&](int64_t i, int vector) __attribute__((always_inline)) {
    return static_cast<__mmask16>(seen[i] >> (vector * kLanes));
  };
  __m512 tops[kTileRows];
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
    __m512 v[kVectors];
#pragma GCC unroll 4
    for (int t = 0; t < kVectors; ++t) {
      v[t] = load(i, t);
      if constexpr (kMasked) v[t] = _mm512_mask_blend_ps(lanes(i, t), lowest, v[t]);
    }
    tops[i] = _mm512_max_ps(_mm512_max_ps(v[0], v[1]), _mm512_max_ps(v[2], v[3]));
  }
  const __m512 top = max_of_rows(tops);
  float* m = call.m + tile * kTileRows;
  const __m512 before = first ? lowest : _mm512_load_ps(m);
  const __mmask16 risen =
      _mm512_mask_cmp_ps_mask(lane_mask(count), top, _mm512_add_ps(before, _mm512_set1_ps(8.0f)), _CMP_GT_OQ);
  const __m512 now = _mm512_mask_roundscale_ps(before, risen, top, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
  _mm512_store_ps(m, now);
  if (risen && !first) rescale(call, tile, risen, before, now);

  const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  const int64_t row_ahead = (2 * call.width + count - 1) / count;
  for (int64_t i = 0; i < count; ++i) {
    ahead.prefetch(row_ahead);
    const __m512 reference = _mm512_set1_ps(m[i]);
    __m512 p[kVectors];
#pragma GCC unroll 4
    for (int t = 0; t < kVectors; ++t) {
      p[t] = exp2_lanes(_mm512_sub_ps(load(i, t), reference));
      if constexpr (kMasked) p[t] = _mm512_maskz_mov_ps(lanes(i, t), p[t]);
    }
    const __m512bh low = _mm512_cvtne2ps_pbh(p[1], p[0]), high = _mm512_cvtne2ps_pbh(p[3], p[2]);
    uint16_t* weights = call.weights + i * kKvPageTokens;
    _mm512_store_si512(weights, reinterpret_cast<__m512i>(low));
    _mm512_store_si512(weights + 32, reinterpret_cast<__m512i>(high));
    // The sum is of the rounded weights, so that the rounding of a large weight cancels in acc / l.
    float* l = call.l + (tile * kTileRows + i) * kLanes;
    const __m512 sum = _mm512_dpbf16_ps(first ? _mm512_setzero_ps() : _mm512_load_ps(l), low, ones);
    _mm512_store_ps(l, _mm512_dpbf16_ps(sum, high, ones));
  }
}

// ---- a call -------------------------------------------------------------------------------------------

// Accumulates page number `index`, at `page`, in a tile whose scores are computed.
BINHDAN_INLINE void accumulate(const Call& call, int64_t tile, int64_t index, const uint16_t* page,
                               Prefetcher& ahead) {
  if (call.args.softcap > 0) soften(call, tile);
  if (call.sees_whole(tile, index))
    softmax_tile<false>(call, tile, index, ahead);
  else
    softmax_tile<true>(call, tile, index, ahead);
  compiler_memory_barrier();
  value_tile(call, tile, page, call.is_first(tile, index), ahead);
}

// The scores of a tile are issued before the softmax of the previous tile, so that both run in parallel.
BINHDAN_INLINE void accumulate_page(const Call& call, int64_t index, const uint16_t* page,
                                    Prefetcher& ahead) {
  int64_t ready = -1;  // the tile whose scores are computed
  for (int64_t tile = 0; tile < call.tiles; ++tile) {
    if (!call.sees(tile, index)) continue;
    score_tile(call, tile, page, ahead);
    if (ready >= 0) accumulate(call, ready, index, page, ahead);
    ready = tile;
  }
  accumulate(call, ready, index, page, ahead);
}

BINHDAN_INLINE void load_queries(const Call& call) {
  const AttentionArgs& args = call.args;
  for (int64_t i = 0; i < call.queries; ++i)
    to_bf16(call.q + i * call.width, args.q + i / args.heads * args.q_stride + i % args.heads * args.head_dim,
            args.head_dim, call.width);
  for (int64_t i = call.queries * call.width; i < call.tiles * kTileRows * call.width; ++i) call.q[i] = 0;
}

BINHDAN_INLINE void store_sums(const Call& call) {
  const AttentionArgs& args = call.args;
  for (int64_t i = 0; i < call.queries; ++i) {
    const bool seen = sees_split(args, i / args.heads);
    args.m[i] = seen ? call.m[i] : -__builtin_inff();
    args.l[i] = seen ? _mm512_reduce_add_ps(_mm512_load_ps(call.l + i * kLanes)) : 0.0f;
    const float* acc = call.acc_of(i / kTileRows) + i % kTileRows * kLanes;
    for (int64_t d = 0; d < args.head_dim; d += kLanes)
      _mm512_mask_storeu_ps(args.acc + i * args.head_dim + d, lane_mask(args.head_dim - d),
                            seen ? _mm512_load_ps(acc + d * kTileRows) : _mm512_setzero_ps());
  }
}

template <KvType type>
BINHDAN_INLINE void run(const AttentionArgs& args) {
  const Call call(args);
  load_queries(call);
  compiler_memory_barrier();
  configure_tiles(TileConfig(call.queries < kTileRows ? call.queries : kTileRows));
  for (int64_t index = 0; index < kSplitPages; ++index) {
    if (seeing_rows(args, index).empty()) continue;
    const void *page = args.pages[index], *next = args.pages[index + 1];
    Prefetcher ahead;
    if constexpr (type == KvType::q8_0) {
      unpack_page(call.page, page, next ? next : page, args.head_dim);  // prefetches the next page
      compiler_memory_barrier();
      accumulate_page(call, index, call.page, ahead);
    } else {
      const auto* lines = static_cast<const char*>(next);
      if (lines) ahead = {lines, lines + call.width * kKvPageTokens * 4};
      accumulate_page(call, index, static_cast<const uint16_t*>(page), ahead);
    }
  }
  store_sums(call);
}

}  // namespace

size_t attention_scratch_size(int64_t rows, int64_t heads, int64_t head_dim) {
  const int64_t queries = padded(rows * heads, kTileRows), width = padded(head_dim, 32);
  const int64_t floats = (2 * kTileRows + kTileRows / 2) * kKvPageTokens + queries * (1 + kLanes + width);
  return static_cast<size_t>(floats) * sizeof(float) +
         static_cast<size_t>(queries * width) * sizeof(uint16_t);
}

size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim) {
  const auto page = static_cast<size_t>(2 * padded(head_dim, 32) * kKvPageTokens) * sizeof(uint16_t);
  return attention_scratch_size(rows, heads, head_dim) + page;
}

void store_key(void* page, int64_t head_dim, int64_t token, const float* k) {
  auto* keys = static_cast<uint16_t*>(page);
  alignas(64) uint16_t pairs[kLanes];
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    const int64_t n = head_dim - d < kLanes ? head_dim - d : kLanes;
    to_bf16(pairs, k + d, n, kLanes);
    for (int64_t i = 0; i < n; i += 2)
      __builtin_memcpy(keys + (d + i) * kKvPageTokens + token * 2, pairs + i, 4);
  }
}

void store_value(void* page, int64_t head_dim, int64_t token, const float* v) {
  const int64_t width = padded(head_dim, 32);
  auto* values = static_cast<uint16_t*>(page) + width * kKvPageTokens;
  alignas(64) uint16_t part[kLanes];
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    const int64_t n = head_dim - d < kLanes ? head_dim - d : kLanes;
    to_bf16(part, v + d, n, kLanes);
    uint16_t* value = values + (token / 2 * width + d) * 2 + token % 2;
    for (int64_t i = 0; i < n; ++i) value[2 * i] = part[i];
  }
}

void attention(const AttentionArgs& args) {
  run<KvType::f16>(args);
}

void attention_q8(const AttentionArgs& args) {
  run<KvType::q8_0>(args);
}

}  // namespace binhdan::amx
