// Panels times q8 activations in 256-bit registers, for every type and for the two ways to multiply bytes:
// vpmaddubsw (avx2/matmul.cpp) and vpdpbusd (avxvnni/matmul.cpp), which state the algebra. kernels.h states
// the order of operations. It is the same for every m, so gemv and gemm are one class.
//
// A tile is up to kTileRows rows of activations times the 16 rows of a panel. A broadcast of four columns (a
// load) is used by two products, a load of weights by kTileRows products. The float sums of a full tile do
// not fit in the 16 registers beside the integer sums: they are in memory and are loaded at the end of each
// block.
//
// - gemv, up to kTileRows rows: one tile has all rows and reads each panel once, decoding it in registers.
// - gemm, more rows: kPiece blocks of a row of panels are decoded to scratch, which stays in L1 while all
//   tiles read it. Rows are processed in batches, so that their columns of a piece stay in L2 for all panels.
//
// Dot is the instruction set's part:
//   static constexpr bool kNeedsUnsignedQuants;        // quants of signed types are raised by 128
//   dots<M>(__m256i (&dot)[M][2], blocks, b, part, x)  // dot = sum value(quant) q_a, this part of block b
#pragma once
#include "kernels/avx2/panels.h"
#include "kernels/kernels.h"

namespace binhdan {
namespace {

constexpr int kTileRows = 4;              // of activations
constexpr int64_t kPiece = 32;            // blocks: 18 to 24 KiB decoded
constexpr int64_t kBatch = 128;           // rows of activations: 196 KiB of a piece's columns
constexpr int64_t kPrefetchAhead = 4096;  // bytes; measured
static_assert(kPiece % kSuperBlocks == 0);

// Four columns of activations, the same for every row of weights.
BINHDAN_INLINE __m256i four_columns(const int8_t* qs) {
  return _mm256_set1_epi32(four_bytes(qs));
}

// Prevents GCC 12 from adding the products of an unrolled loop as a tree, which spills registers.
BINHDAN_INLINE void in_register(__m256i& v) {
  asm("" : "+x"(v));
}

// Groups of four columns per scale.
template <class Blocks>
constexpr int kGroups = 8 / Blocks::kScales;

// kZeroPoint sum(q_a) over the columns of one scale.
template <class Blocks>
BINHDAN_INLINE __m256i zero_point_dot(const BlockQ8A& a, int part) {
  return _mm256_set1_epi32(Blocks::kZeroPoint * (Blocks::kScales == 1 ? a.sum[0] + a.sum[1] : a.sum[part]));
}

// d_a sum(q_a) over the columns of one minimum.
template <class Blocks>
BINHDAN_INLINE __m256 min_factor(const BlockQ8A& a, int part) {
  return _mm256_set1_ps(Blocks::kScales == 1 ? a.d_sum : a.d * static_cast<float>(a.sum[part]));
}

// sums[i] += block b times block b of x[i], for 16 rows of weights.
template <class Dot, int M, class Blocks>
BINHDAN_INLINE void add_block(__m256 (&sums)[M][2], const Blocks& blocks, int64_t b,
                              const BlockQ8A* const (&x)[M]) {
#pragma GCC unroll 2
  for (int part = 0; part < Blocks::kScales; ++part) {
    __m256i dot[M][2];
    Dot::template dots<M>(dot, blocks, b, part, x);
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) {
      const __m256 d = _mm256_set1_ps(x[i][b].d);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256 scale = _mm256_mul_ps(blocks.scale(b, part, half), d);
        sums[i][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[i][half]), scale, sums[i][half]);
      }
    }
  }
  if constexpr (Blocks::kMins)
#pragma GCC unroll 2
    for (int part = 0; part < Blocks::kScales; ++part)
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half)
          sums[i][half] =
              _mm256_fmadd_ps(blocks.min(b, part, half), min_factor<Blocks>(x[i][b], part), sums[i][half]);
}

// Rows i0 .. i0 + M - 1 of activations times `count` blocks of 16 rows of weights; `begin` is the index of
// the first block in its row. If it is not 0, the sums continue from the values in `out`.
template <class Dot, int M, class Blocks>
static void tile(const MatmulArgs& args, const Blocks& blocks, int64_t row, int64_t i0, int64_t begin,
                 int64_t count) {
  const BlockQ8A* x[M];
  float* out[M];
  __m256 sums[M][2];
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i) {
    const auto* bytes = static_cast<const char*>(args.activations);
    x[i] = reinterpret_cast<const BlockQ8A*>(bytes + static_cast<size_t>(i0 + i) * args.activation_stride);
    x[i] += begin;
    out[i] = args.out + (i0 + i) * args.out_stride + row;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      sums[i][half] =
          begin == 0 ? _mm256_setzero_ps() : load_first(out[i] + 8 * half, args.rows - row - 8 * half);
  }
  for (int64_t b = 0; b < count; ++b) {
    if constexpr (Blocks::kFromMemory)
      for (int64_t line = 0; line < Blocks::kBytes; line += 64)
        _mm_prefetch(blocks.bytes(b) + kPrefetchAhead + line, _MM_HINT_T0);
    add_block<Dot, M>(sums, blocks, b, x);
  }
#pragma GCC unroll 4
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
      store_first(out[i] + 8 * half, args.rows - row - 8 * half, sums[i][half]);
}

// `m` <= kTileRows rows of activations.
template <class Dot, class Blocks>
BINHDAN_INLINE void tile_of(int64_t m, const MatmulArgs& args, const Blocks& blocks, int64_t row, int64_t i0,
                            int64_t begin, int64_t count) {
  switch (m) {
    case 4:
      return tile<Dot, 4>(args, blocks, row, i0, begin, count);
    case 3:
      return tile<Dot, 3>(args, blocks, row, i0, begin, count);
    case 2:
      return tile<Dot, 2>(args, blocks, row, i0, begin, count);
    default:
      return tile<Dot, 1>(args, blocks, row, i0, begin, count);
  }
}

template <DType type, class Dot>
static void gemv(const MatmulArgs& args) {
  for (int64_t row = 0; row < args.rows; row += kPanelRows)
    tile_of<Dot>(args.m, args, PackedBlocks<type, Dot>(args.weights, row, args.cols), row, 0, 0,
                 args.cols / 32);
}

// Rows i0 .. i_end - 1 of activations times a piece of a row of panels. Each tile prefetches a part of the
// next piece, which begins at `ahead`.
template <class Dot, class Traits>
static void sweep(const MatmulArgs& args, const DecodedBlocks<Traits>& blocks, int64_t row, int64_t i0,
                  int64_t i_end, int64_t begin, int64_t count, const char* ahead, int64_t ahead_bytes) {
  const int64_t tiles = (i_end - i0 + kTileRows - 1) / kTileRows;
  const int64_t share = (ahead_bytes / tiles + 63) / 64 * 64;
  for (int64_t i = i0; i < i_end; i += kTileRows) {
    for (int64_t line = 0; line < share; line += 64) _mm_prefetch(ahead + line, _MM_HINT_T1);
    ahead += share;
    tile_of<Dot>(i_end - i < kTileRows ? i_end - i : kTileRows, args, blocks, row, i, begin, count);
  }
}

template <DType type, class Dot>
static void gemm(const MatmulArgs& args) {
  using Packed = PackedBlocks<type, Dot>;
  using Traits = TraitsOf<type, Dot>;
  auto* decoded = static_cast<DecodedBlock<Traits>*>(args.scratch);
  const int64_t blocks = args.cols / 32;
  for (int64_t i0 = 0; i0 < args.m; i0 += kBatch) {
    const int64_t i_end = i0 + kBatch < args.m ? i0 + kBatch : args.m;
    for (int64_t begin = 0; begin < blocks; begin += kPiece) {
      const int64_t count = blocks - begin < kPiece ? blocks - begin : kPiece;
      for (int64_t row = 0; row < args.rows; row += kPanelRows) {
        const Packed packed(args.weights, row, args.cols);
        for (int64_t b = 0; b < count; ++b) decoded[b].decode(packed, begin + b);
        sweep<Dot>(args, DecodedBlocks<Traits>(decoded), row, i0, i_end, begin, count,
                   packed.bytes(begin + blocks), count * Packed::kBytes);
      }
    }
  }
}

template <DType type, class Dot>
BINHDAN_INLINE void multiply_panels(const MatmulArgs& args) {
  args.m <= kTileRows ? gemv<type, Dot>(args) : gemm<type, Dot>(args);
}

template <DType type, class Dot>
constexpr size_t kPanelScratch = kPiece * sizeof(DecodedBlock<TraitsOf<type, Dot>>);

}  // namespace
}  // namespace binhdan

// For BINHDAN_PANEL_TYPES: defines matmul and scratch_size (functions.h) of one type with the Dot of the
// enclosing namespace.
#define BINHDAN_PANEL_MATMUL(type)                              \
  template <>                                                   \
  void matmul<DType::type>(const MatmulArgs& args) {            \
    multiply_panels<DType::type, Dot>(args);                    \
  }                                                             \
  template <>                                                   \
  size_t scratch_size<DType::type>(int64_t, int64_t, int64_t) { \
    return kPanelScratch<DType::type, Dot>;                     \
  }
