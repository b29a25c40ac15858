// Panels times q8 activations with sdot (neon/matmul.h has the loops).
//
// Instructions (Arm, Cortex-A76 Software Optimization Guide; Q forms; V0 and V1 are the vector ports):
//   sdot          32-bit lane += sum of four products of signed bytes; a factor may be four columns of a
//                 register, for all lanes; latency 2 to 3, 1 to an accumulator, 2 a cycle (V0, V1)
//   fmul          latency 3, 2 a cycle;  fadd  latency 2, 2 a cycle;  fmla  latency 4, 2 a cycle
//   scvtf         latency 4, 1 in 2 cycles (V0)
//   ldr           2 a cycle, no vector port;  str  1 a cycle, uses V1 too
//
// Algebra. As in neon/matmul.cpp, without 16-bit sums. Sums start at -z sum a and are converted without scvtf
// (sums.h). All integers are exact.
//
// A tile is four rows of activations times 8 rows of weights: 8 integer and 8 float sums stay in registers. A
// tile of 16 rows would store and load its float sums in each block, and stores use a vector port.
//
// Cost for four rows of weights and a block of 32 columns, in instructions on vector ports (128
// multiply-adds; the peak is 32 a cycle, 4 cycles), and what llvm-mca 19 predicts for tiles of decoded blocks
// on Neoverse N1, the server variant of Cortex-A76 (llvm-mca has no model of A76 itself; GCC 12):
//                                  Q4_0   Q8_0   Q4_K   Q6_K (two scales)
//   sdot                              8      8      8      8
//   fadd, scale * d, fmla             3      3      3      6
//   minimum                                         1
//   bound, of the peak              73 %   73 %   67 %   57 %
//   multiply-adds a cycle          23.2   23.2   20.4   17.6
//   of the peak                     72 %   72 %   64 %   55 %
// kernels.h fixes the float operations: a product with a scale for each block, weights and activations. A row
// that is decoded needs 44 cycles for a block of 16 rows in Q4_0 (288 bytes), 27 in Q8_0 (544 bytes) and 76
// in Q4_K: memory limits it.
#include "kernels/neon/matmul.h"
#include "kernels/neon_dotprod/functions.h"
#include "kernels/neon_dotprod/sums.h"

namespace binhdan::neon_dotprod {
namespace {

struct Sdot {
  static constexpr int kTileRows = 4;
  template <class Blocks>
  static constexpr int kAtOnce = 2;

  // sums += the group of four columns `lane` of `a`.
  template <int lane, int M, int Q, class Blocks>
  BINHDAN_INLINE void add_group(int32x4_t (&sums)[M][Q], const Blocks& blocks, int64_t b, int g, int first,
                                const int8x16_t (&a)[M]) {
    int8x16_t w[Q];
    if constexpr (M == 1 && Q == kQuarters && Blocks::kPlainBytes) {  // one load instead of four
      const int8x16x4_t all = blocks.rows(b, g + lane);
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) w[q] = all.val[q];
    } else {
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) w[q] = blocks.quants(b, g + lane, first + q);
    }
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q)
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) sums[i][q] = vdotq_laneq_s32(sums[i][q], w[q], a[i], lane);
  }

  template <int M, int Q, class Blocks>
  BINHDAN_INLINE void dots(float32x4_t (&dot)[M][Q], const Blocks& blocks, int64_t b, int part, int first,
                           const BlockQ8A* const (&x)[M]) {
    int32x4_t sums[M][Q];
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q)
        if constexpr (Blocks::kZeroPoint == 0)
          sums[i][q] = load_zero_float();
        else
          sums[i][q] = vdupq_n_s32(kZeroFloat - zero_point_dot<Blocks>(x[i][b], part));
#pragma GCC unroll 2
    for (int g = part * kGroups<Blocks>; g < (part + 1) * kGroups<Blocks>; g += 4) {
      int8x16_t a[M];
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) a[i] = vld1q_s8(x[i][b].qs + 4 * g);
      add_group<0>(sums, blocks, b, g, first, a);
      add_group<1>(sums, blocks, b, g, first, a);
      add_group<2>(sums, blocks, b, g, first, a);
      add_group<3>(sums, blocks, b, g, first, a);
    }
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int q = 0; q < Q; ++q) dot[i][q] = to_float(sums[i][q]);
  }
};

}  // namespace

using Product = QuarterProduct<Sdot>;
BINHDAN_PANEL_TYPES(BINHDAN_PANEL_MATMUL)

}  // namespace binhdan::neon_dotprod
