// Panels times many rows of q8 activations with smmla (neon/matmul.h has the loops). Few rows take sdot.
//
// Instructions (Arm, Cortex-A710 Software Optimization Guide; two vector ports):
//   smmla  2 x 2 matrix of 32-bit lanes += (2 x 8) (8 x 2) signed bytes: 32 products; latency 3, 1 to an
//          accumulator, 2 a cycle
//   fmul, fadd, fmla, zip  2 a cycle
//
// Algebra. As in neon_dotprod/matmul.cpp. A register of sums is two rows of activations times two rows of
// weights: scales are stored as rows 0, 1, 0, 1 and d of the activations as rows 0, 0, 1, 1, so that nothing
// is reordered until a tile is done. Two groups of four rows and four columns become two pairs of rows and
// eight columns by zip1 and zip2, once when blocks are decoded.
//
// A tile is four rows of activations times 8 rows of weights, as in neon_dotprod.
//
// Cost for four sums and a block of 32 columns, in instructions (128 multiply-adds; the peak is 64 a cycle):
// 4 smmla, 3 of floats (4 with a minimum, 6 with two scales), 1.5 zip. llvm-mca 19 predicts for tiles of
// decoded blocks on Cortex-A710 (GCC 12), in multiply-adds a cycle: Q4_0 and Q8_0 29.6 (46 % of the peak),
// Q4_K 24.6, Q6_K 20.6. The float operations, which kernels.h fixes, take as long as the products.
#include "kernels/neon/matmul.h"
#include "kernels/neon_dotprod/functions.h"
#include "kernels/neon_dotprod/sums.h"
#include "kernels/neon_i8mm/functions.h"

namespace binhdan::neon_i8mm {
namespace {

constexpr int kPairs = kPanelRows / 2;  // of rows of weights
constexpr int kAtOnce = 4;              // in a tile; one load reads four registers
static_assert(kPairs % kAtOnce == 0);

// The lanes of a pair: rows 0, 1, 0, 1.
template <class Lanes>
BINHDAN_INLINE void store_pairs(float* dst, Lanes rows) {
  vst1q_f32(dst, vcombine_f32(vget_low_f32(rows), vget_low_f32(rows)));
  vst1q_f32(dst + 4, vcombine_f32(vget_high_f32(rows), vget_high_f32(rows)));
}

// One block of panels, decoded for smmla: columns 8 k .. 8 k + 7 of two rows in a register.
template <DType type>
struct PairBlock {
  using Traits = DecodedTraits<type>;
  int8_t quants[4][kPairs][16];
  float scale[Traits::kScales][kPairs][4];
  float min[Traits::kMins ? Traits::kScales : 1][kPairs][4];  // unused without minimums

  [[gnu::always_inline]] void decode(const PackedBlocks<type>& from, int64_t b) {
#pragma GCC unroll 4
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const int32x4_t low = vreinterpretq_s32_s8(from.values(b, 2 * k, quarter));
        const int32x4_t high = vreinterpretq_s32_s8(from.values(b, 2 * k + 1, quarter));
        vst1q_s8(quants[k][2 * quarter], vreinterpretq_s8_s32(vzip1q_s32(low, high)));
        vst1q_s8(quants[k][2 * quarter + 1], vreinterpretq_s8_s32(vzip2q_s32(low, high)));
      }
#pragma GCC unroll 2
      for (int part = 0; part < Traits::kScales; ++part) {
        store_pairs(scale[part][2 * quarter], from.scale(b, part, quarter));
        if constexpr (Traits::kMins) store_pairs(min[part][2 * quarter], from.min(b, part, quarter));
      }
    }
  }
};

template <DType type>
struct PairBlocks : DecodedTraits<type> {
  const PairBlock<type>* blocks;
  [[gnu::always_inline]] explicit PairBlocks(const PairBlock<type>* first) : blocks(first) {}
};

BINHDAN_INLINE float32x4_t pair_of(float a, float b) {
  return vcombine_f32(vdup_n_f32(a), vdup_n_f32(b));
}

// One block of two rows of activations: columns 8 k .. 8 k + 7 of both, and d as rows 0, 0, 1, 1. One load
// of a whole row's block and zips take a third of the instructions of loading each eight columns alone.
struct ActivationPair {
  int8x16_t quants[4];
  float32x4_t d;

  [[gnu::always_inline]] void load(const BlockQ8A& first, const BlockQ8A& second) {
    static_assert(offsetof(BlockQ8A, d) == 0 && offsetof(BlockQ8A, qs) == 16 && sizeof(BlockQ8A) == 48);
    // d and the sums; columns 0 .. 15; columns 16 .. 31
    const int8x16x3_t a = vld1q_s8_x3(reinterpret_cast<const int8_t*>(&first));
    const int8x16x3_t b = vld1q_s8_x3(reinterpret_cast<const int8_t*>(&second));
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const int64x2_t low = vreinterpretq_s64_s8(a.val[half + 1]),
                      high = vreinterpretq_s64_s8(b.val[half + 1]);
      quants[2 * half] = vreinterpretq_s8_s64(vzip1q_s64(low, high));
      quants[2 * half + 1] = vreinterpretq_s8_s64(vzip2q_s64(low, high));
    }
    const float32x4_t both = vzip1q_f32(vreinterpretq_f32_s8(a.val[0]), vreinterpretq_f32_s8(b.val[0]));
    d = vzip1q_f32(both, both);
  }
};

// A register of sums has a pair of rows of activations times a pair of rows of weights: lanes (a0 w0), (a0
// w1), (a1 w0), (a1 w1).
struct Product {
  static constexpr int kTileRows = 4;
  template <DType type>
  using Block = PairBlock<type>;
  template <DType type>
  using Blocks = PairBlocks<type>;

  // sums[p] += block b times block b of the rows x[2 p] and x[2 p + 1], for the pairs of weights from `first`
  // on.
  template <int P, class Blocks>
  BINHDAN_INLINE void add_block(float32x4_t (&sums)[P][kAtOnce], const Blocks& blocks, int64_t b, int first,
                                const BlockQ8A* const (&x)[2 * P]) {
    const auto& block = blocks.blocks[b];
    constexpr int kSteps = 4 / Blocks::kScales;  // of eight columns, per scale
    ActivationPair a[P];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) a[p].load(x[2 * p][b], x[2 * p + 1][b]);
#pragma GCC unroll 2
    for (int part = 0; part < Blocks::kScales; ++part) {
      int32x4_t dot[P][kAtOnce];
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (int j = 0; j < kAtOnce; ++j) dot[p][j] = load_zero_float();
#pragma GCC unroll 4
      for (int k = part * kSteps; k < (part + 1) * kSteps; ++k) {
        const int8x16x4_t w = vld1q_s8_x4(block.quants[k][first]);
#pragma GCC unroll 8
        for (int j = 0; j < kAtOnce; ++j)
#pragma GCC unroll 2
          for (int p = 0; p < P; ++p) dot[p][j] = vmmlaq_s32(dot[p][j], a[p].quants[k], w.val[j]);
      }
      const float32x4x4_t scale = vld1q_f32_x4(block.scale[part][first]);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (int j = 0; j < kAtOnce; ++j)
          sums[p][j] = vfmaq_f32(sums[p][j], to_float(dot[p][j]), vmulq_f32(scale.val[j], a[p].d));
    }
    if constexpr (Blocks::kMins)
#pragma GCC unroll 2
      for (int part = 0; part < Blocks::kScales; ++part)
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          const float32x4_t factor =
              pair_of(min_factor<Blocks>(x[2 * p][b], part), min_factor<Blocks>(x[2 * p + 1][b], part));
#pragma GCC unroll 8
          for (int j = 0; j < kAtOnce; ++j)
            sums[p][j] = vfmaq_f32(sums[p][j], vld1q_f32(block.min[part][first + j]), factor);
        }
  }

  // As QuarterProduct::tile. The last row is repeated if M is odd; its copy has the same bits.
  template <int M, class Blocks>
  static void tile(const MatmulArgs& args, const Blocks& blocks, int64_t row, int64_t i0, int64_t begin,
                   int64_t count) {
    constexpr int P = (M + 1) / 2;
    const BlockQ8A* x[2 * P];
    float* out[2 * P];
#pragma GCC unroll 4
    for (int i = 0; i < 2 * P; ++i) {
      const int64_t at = i0 + (i < M ? i : M - 1);
      x[i] = activation_row(args, at) + begin;
      out[i] = args.out + at * args.out_stride + row;
    }
    for (int first = 0; first < kPairs && row + 2 * first < args.rows; first += kAtOnce) {
      float32x4_t rows[2 * P][kAtOnce / 2] = {};
      if (begin != 0) load_sums(rows, out, args.rows - row - 2 * first);
      float32x4_t sums[P][kAtOnce];
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
        for (int j = 0; j < kAtOnce; j += 2) {
          const float32x4_t low = rows[2 * p][j / 2], high = rows[2 * p + 1][j / 2];
          sums[p][j] = vcombine_f32(vget_low_f32(low), vget_low_f32(high));
          sums[p][j + 1] = vcombine_f32(vget_high_f32(low), vget_high_f32(high));
        }
      for (int64_t b = 0; b < count; ++b) add_block<P>(sums, blocks, b, first, x);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
        for (int j = 0; j < kAtOnce; j += 2) {
          const float32x4_t a = sums[p][j], b = sums[p][j + 1];
          rows[2 * p][j / 2] = vcombine_f32(vget_low_f32(a), vget_low_f32(b));
          rows[2 * p + 1][j / 2] = vcombine_f32(vget_high_f32(a), vget_high_f32(b));
        }
      store_sums(rows, out, args.rows - row - 2 * first);
#pragma GCC unroll 4
      for (float*& at : out) at += 2 * kAtOnce;
    }
  }

  template <class Blocks>
  BINHDAN_INLINE void tile_of(int64_t m, const MatmulArgs& args, const Blocks& blocks, int64_t row,
                              int64_t i0, int64_t begin, int64_t count) {
    if (m == 4) return tile<4>(args, blocks, row, i0, begin, count);
    if (m == 3) return tile<3>(args, blocks, row, i0, begin, count);
    if (m == 2) return tile<2>(args, blocks, row, i0, begin, count);
    tile<1>(args, blocks, row, i0, begin, count);
  }
};

}  // namespace

// Few rows read each panel once: sdot, which decodes it in registers.
#define MATMUL(type)                                                                       \
  template <>                                                                              \
  void matmul<DType::type>(const MatmulArgs& args) {                                       \
    args.m <= Product::kTileRows ? neon_dotprod::matmul<DType::type>(args)                 \
                                 : gemm<DType::type, Product>(args);                       \
  }                                                                                        \
  template <>                                                                              \
  size_t scratch_size<DType::type>(int64_t, int64_t, int64_t) {                            \
    return kPanelScratch<DType::type, Product>; /* neon_dotprod needs none for few rows */ \
  }
BINHDAN_PANEL_TYPES(MATMUL)
#undef MATMUL

}  // namespace binhdan::neon_i8mm
