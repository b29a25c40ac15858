// Panels times q8 activations with vpdpbusd on 256 bits (avx2/matmul.h has the loops).
//
// Instructions (uops.info):
//   vpdpbusd  32-bit lane += sum of four products of an unsigned and a signed byte, without saturation
//             Alder Lake P: latency 5, 2 a cycle (p01)
//
// Algebra. For the columns of one scale, with unsigned quants u and zero point z:
//   sum (u - z) a = -z sum a + sum u a                   sums start at -z sum a
// Signed types are raised by 128, which is then their zero point. All integers are exact.
//
// Cost of 256 multiply-adds (8 rows, a block): 8 vpdpbusd, the conversion and two float operations, all on
// p01: 46 multiply-adds a cycle. The latency of 5 is hidden because every block starts new sums.
#include "kernels/avx2/matmul.h"
#include "kernels/avxvnni/functions.h"

namespace binhdan::avxvnni {
namespace {

struct Dpbusd {
  static constexpr bool kNeedsUnsignedQuants = true;

  template <int M, class Blocks>
  BINHDAN_INLINE void dots(__m256i (&dot)[M][2], const Blocks& blocks, int64_t b, int part,
                           const BlockQ8A* const (&x)[M]) {
#pragma GCC unroll 4
    for (int i = 0; i < M; ++i) {
      dot[i][0] = _mm256_setzero_si256();
      if constexpr (Blocks::kZeroPoint != 0)
        dot[i][0] = _mm256_sub_epi32(dot[i][0], zero_point_dot<Blocks>(x[i][b], part));
      dot[i][1] = dot[i][0];
    }
#pragma GCC unroll 8
    for (int k = 0; k < kGroups<Blocks>; ++k) {
      const int g = part * kGroups<Blocks> + k;
      const __m256i quants[2] = {blocks.quants(b, g, 0), blocks.quants(b, g, 1)};
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) {
        const __m256i a = four_columns(x[i][b].qs + 4 * g);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          dot[i][half] = _mm256_dpbusd_avx_epi32(dot[i][half], quants[half], a);
          in_register(dot[i][half]);
        }
      }
    }
  }
};

}  // namespace

using Dot = Dpbusd;
BINHDAN_PANEL_TYPES(BINHDAN_PANEL_MATMUL)

}  // namespace binhdan::avxvnni
