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
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) {
      const int8x16_t w = blocks.quants(b, g + lane, first + q);
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) sums[i][q] = vdotq_laneq_s32(sums[i][q], w, a[i], lane);
    }
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
