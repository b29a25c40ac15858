#include "kernels/neon/matmul.h"
#include "kernels/neon_dotprod/functions.h"
#include "kernels/neon_dotprod/sums.h"

namespace binhdan::neon_dotprod {
namespace {

struct Sdot {
  static constexpr int kTileRows = 4;

  // dot += the group of four columns `lane` of `a`, for 16 rows of weights.
  template <int lane, int M, class Blocks>
  BINHDAN_INLINE void add_group(int32x4_t (&dot)[M][kQuarters], const Blocks& blocks, int64_t b, int g,
                                const int8x16_t (&a)[M]) {
#pragma GCC unroll 4
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
      const int8x16_t w = blocks.quants(b, g + lane, quarter);
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) dot[i][quarter] = vdotq_laneq_s32(dot[i][quarter], w, a[i], lane);
    }
  }

  template <int M, class Blocks>
  BINHDAN_INLINE void dots(float32x4_t (&dot)[M][kQuarters], const Blocks& blocks, int64_t b, int part,
                           const BlockQ8A* const (&x)[M]) {
    int32x4_t sums[M][kQuarters];
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int quarter = 0; quarter < kQuarters; ++quarter)
        if constexpr (Blocks::kZeroPoint == 0)
          sums[i][quarter] = load_zero_float();
        else
          sums[i][quarter] = vdupq_n_s32(kZeroFloat - zero_point_dot<Blocks>(x[i][b], part));
#pragma GCC unroll 2
    for (int g = part * kGroups<Blocks>; g < (part + 1) * kGroups<Blocks>; g += 4) {
      int8x16_t a[M];
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) a[i] = vld1q_s8(x[i][b].qs + 4 * g);
      add_group<0>(sums, blocks, b, g, a);
      add_group<1>(sums, blocks, b, g, a);
      add_group<2>(sums, blocks, b, g, a);
      add_group<3>(sums, blocks, b, g, a);
    }
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 4
      for (int quarter = 0; quarter < kQuarters; ++quarter) dot[i][quarter] = to_float(sums[i][quarter]);
  }
};

}  // namespace

using Product = QuarterProduct<Sdot>;
BINHDAN_PANEL_TYPES(BINHDAN_PANEL_MATMUL)

}  // namespace binhdan::neon_dotprod
