// Panels times q8 activations in 128-bit registers, for every type and for three ways to multiply bytes:
// smlal (neon/matmul.cpp), sdot (neon_dotprod/matmul.cpp) and smmla (neon_i8mm/matmul.cpp), which state the
// algebra. kernels.h states the order of operations. It is the same for every m, so gemv and gemm are one
// class.
//
// - gemv, up to kTileRows rows: one tile has all rows and reads each panel once, decoding it in registers.
// - gemm, more rows: kPiece blocks of a row of panels are decoded to scratch, which stays in L1 (32 KiB on
//   the small cores) while all tiles read it. Rows are processed in batches, so that their columns of a piece
//   stay in L2 for all panels.
//
// A Product is the instruction set's part:
//   static constexpr int kTileRows                        rows of activations of a tile
//   Block<type>, Blocks<type>                             a decoded block, and a row of them
//   tile_of(m, args, blocks, row, i0, begin, count)       a product of up to kTileRows rows
// QuarterProduct has all of these for a Dot whose 32-bit lanes are rows of a panel:
//   static constexpr int kTileRows
//   kAtOnce<Blocks>                                       quarters of a decoded panel in a tile: 2 or 4
//   dots<M>(float32x4_t (&dot)[M][Q], blocks, b, part, first, x)
//     dot[i][q] = sum value(quant) q_a over this part of block b, for quarter first + q
#pragma once
#include "kernels/kernels.h"
#include "kernels/neon/panels.h"

namespace binhdan {
namespace {

constexpr int64_t kPiece = 24;            // blocks: 14 to 18 KiB decoded
constexpr int64_t kBatch = 96;            // rows of activations: 108 KiB of a piece's columns
constexpr int64_t kPrefetchAhead = 2048;  // bytes
static_assert(kPiece % kSuperBlocks == 0);

// Groups of four columns per scale.
template <class Blocks>
constexpr int kGroups = 8 / Blocks::kScales;

// kZeroPoint sum(q_a) over the columns of one scale.
template <class Blocks>
BINHDAN_INLINE int32_t zero_point_dot(const BlockQ8A& a, int part) {
  return Blocks::kZeroPoint * (Blocks::kScales == 1 ? a.sum[0] + a.sum[1] : a.sum[part]);
}

// d_a sum(q_a) over the columns of one minimum.
template <class Blocks>
BINHDAN_INLINE float min_factor(const BlockQ8A& a, int part) {
  return Blocks::kScales == 1 ? a.d_sum : a.d * static_cast<float>(a.sum[part]);
}

BINHDAN_INLINE const BlockQ8A* activation_row(const MatmulArgs& args, int64_t i) {
  const auto* bytes = static_cast<const char*>(args.activations);
  return reinterpret_cast<const BlockQ8A*>(bytes + static_cast<size_t>(i) * args.activation_stride);
}

template <class Blocks>
BINHDAN_INLINE void prefetch_block(const Blocks& blocks, int64_t b) {
  if constexpr (Blocks::kFromMemory)
    for (int64_t line = 0; line < Blocks::kBytes; line += 64)
      __builtin_prefetch(blocks.bytes(b) + kPrefetchAhead + line);
}

// Sums of a tile from its rows of the output and back: sums[i][q] is out[i][4 q .. 4 q + 3]. `valid` elements of a
// row exist, nearly always all; one branch decides for the tile.
template <int M, int Q>
BINHDAN_INLINE void load_sums(float32x4_t (&sums)[M][Q], float* const (&out)[M], int64_t valid) {
  if (valid >= 4 * Q) {
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) sums[i][q] = vld1q_f32(out[i] + 4 * q);
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) sums[i][q] = load_first(out[i] + 4 * q, valid - 4 * q);
  }
}
template <int M, int Q>
BINHDAN_INLINE void store_sums(const float32x4_t (&sums)[M][Q], float* const (&out)[M], int64_t valid) {
  if (valid >= 4 * Q) {
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) vst1q_f32(out[i] + 4 * q, sums[i][q]);
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) store_first(out[i] + 4 * q, valid - 4 * q, sums[i][q]);
  }
}

template <class Dot>
struct QuarterProduct {
  static constexpr int kTileRows = Dot::kTileRows;
  static_assert(kTileRows == 2 || kTileRows == 4);
  template <DType type>
  using Block = DecodedBlock<type>;
  template <DType type>
  using Blocks = DecodedBlocks<type>;

  // sums[i] += block b times block b of x[i], for Q quarters of the rows of weights.
  template <int M, int Q, class Blocks>
  BINHDAN_INLINE void add_block(float32x4_t (&sums)[M][Q], const Blocks& blocks, int64_t b, int first,
                                const BlockQ8A* const (&x)[M]) {
#pragma GCC unroll 2
    for (int part = 0; part < Blocks::kScales; ++part) {
      float32x4_t dot[M][Q];
      Dot::dots(dot, blocks, b, part, first, x);
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) {
        const float32x4_t scale = blocks.scale(b, part, first + q);
#pragma GCC unroll 4
        for (int i = 0; i < M; ++i)
          sums[i][q] = vfmaq_f32(sums[i][q], dot[i][q], vmulq_n_f32(scale, x[i][b].d));
      }
    }
    if constexpr (Blocks::kMins)
#pragma GCC unroll 2
      for (int part = 0; part < Blocks::kScales; ++part)
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
          const float32x4_t min = blocks.min(b, part, first + q);
#pragma GCC unroll 4
          for (int i = 0; i < M; ++i)
            sums[i][q] = vfmaq_n_f32(sums[i][q], min, min_factor<Blocks>(x[i][b], part));
        }
  }

  // Rows i0 .. i0 + M - 1 of activations times `count` blocks of Q quarters of a panel's rows, from quarter
  // `first` on; `begin` is the index of the first block in its row. If it is not 0, the sums continue from
  // the values in `out`.
  template <int M, int Q, class Blocks>
  BINHDAN_INLINE void quarters_tile(const MatmulArgs& args, const Blocks& blocks, int64_t row, int64_t i0,
                                    int64_t begin, int64_t count, int first) {
    const BlockQ8A* x[M];
    float* out[M];
    float32x4_t sums[M][Q];
    const int64_t from = row + 4 * first;
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) {
      x[i] = activation_row(args, i0 + i) + begin;
      out[i] = args.out + (i0 + i) * args.out_stride + from;
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) sums[i][q] = vdupq_n_f32(0.0f);
    }
    if (begin != 0) load_sums(sums, out, args.rows - from);
    for (int64_t b = 0; b < count; ++b) {
      prefetch_block(blocks, b);
      add_block(sums, blocks, b, first, x);
    }
    store_sums(sums, out, args.rows - from);
  }

  template <int M, class Blocks>
  static void tile(const MatmulArgs& args, const Blocks& blocks, int64_t row, int64_t i0, int64_t begin,
                   int64_t count) {
    if constexpr (Blocks::kFromMemory)
      quarters_tile<M, kQuarters>(args, blocks, row, i0, begin, count, 0);
    else
      for (int first = 0; first < kQuarters && row + 4 * first < args.rows;
           first += Dot::template kAtOnce<Blocks>)
        quarters_tile<M, Dot::template kAtOnce<Blocks>>(args, blocks, row, i0, begin, count, first);
  }

  // `m` <= kTileRows rows of activations.
  template <class Blocks>
  BINHDAN_INLINE void tile_of(int64_t m, const MatmulArgs& args, const Blocks& blocks, int64_t row,
                              int64_t i0, int64_t begin, int64_t count) {
    if constexpr (kTileRows == 4) {
      if (m == 4) return tile<4>(args, blocks, row, i0, begin, count);
      if (m == 3) return tile<3>(args, blocks, row, i0, begin, count);
    }
    if (m == 2) return tile<2>(args, blocks, row, i0, begin, count);
    tile<1>(args, blocks, row, i0, begin, count);
  }
};

template <DType type, class Product>
static void gemv(const MatmulArgs& args) {
  for (int64_t row = 0; row < args.rows; row += kPanelRows)
    Product::tile_of(args.m, args, PackedBlocks<type>(args.weights, row, args.cols), row, 0, 0,
                     args.cols / 32);
}

// Rows i0 .. i_end - 1 of activations times a piece of a row of panels. Each tile prefetches a part of the
// next piece, which begins at `ahead`.
template <class Product, class Blocks>
static void sweep(const MatmulArgs& args, const Blocks& blocks, int64_t row, int64_t i0, int64_t i_end,
                  int64_t begin, int64_t count, const char* ahead, int64_t ahead_bytes) {
  constexpr int64_t kTileRows = Product::kTileRows;
  const int64_t tiles = (i_end - i0 + kTileRows - 1) / kTileRows;
  const int64_t share = (ahead_bytes / tiles + 63) / 64 * 64;
  for (int64_t i = i0; i < i_end; i += kTileRows) {
    for (int64_t line = 0; line < share; line += 64) __builtin_prefetch(ahead + line, 0, 2);  // to L2
    ahead += share;
    Product::tile_of(i_end - i < kTileRows ? i_end - i : kTileRows, args, blocks, row, i, begin, count);
  }
}

template <DType type, class Product>
static void gemm(const MatmulArgs& args) {
  using Packed = PackedBlocks<type>;
  using Block = typename Product::template Block<type>;
  using Blocks = typename Product::template Blocks<type>;
  auto* decoded = static_cast<Block*>(args.scratch);
  const int64_t blocks = args.cols / 32;
  for (int64_t i0 = 0; i0 < args.m; i0 += kBatch) {
    const int64_t i_end = i0 + kBatch < args.m ? i0 + kBatch : args.m;
    for (int64_t begin = 0; begin < blocks; begin += kPiece) {
      const int64_t count = blocks - begin < kPiece ? blocks - begin : kPiece;
      for (int64_t row = 0; row < args.rows; row += kPanelRows) {
        const Packed packed(args.weights, row, args.cols);
        for (int64_t b = 0; b < count; ++b) decoded[b].decode(packed, begin + b);
        sweep<Product>(args, Blocks(decoded), row, i0, i_end, begin, count, packed.bytes(begin + blocks),
                       count * Packed::kBytes);
      }
    }
  }
}

template <DType type, class Product>
BINHDAN_INLINE void multiply_panels(const MatmulArgs& args) {
  args.m <= Product::kTileRows ? gemv<type, Product>(args) : gemm<type, Product>(args);
}

template <DType type, class Product>
constexpr size_t kPanelScratch = kPiece * sizeof(typename Product::template Block<type>);

}  // namespace
}  // namespace binhdan

// For BINHDAN_PANEL_TYPES: defines matmul and scratch_size (functions.h) of one type with the Product of the
// enclosing namespace.
#define BINHDAN_PANEL_MATMUL(type)                              \
  template <>                                                   \
  void matmul<DType::type>(const MatmulArgs& args) {            \
    multiply_panels<DType::type, Product>(args);                \
  }                                                             \
  template <>                                                   \
  size_t scratch_size<DType::type>(int64_t, int64_t, int64_t) { \
    return kPanelScratch<DType::type, Product>;                 \
  }
