// Panels times q8 activations with vpmaddubsw (matmul.h has the loops).
//
// Instructions (uops.info, Agner Fog's instruction tables; 256-bit forms):
//   vpmaddubsw  16-bit lane = sum of two products of an unsigned and a signed byte, saturated
//               Haswell latency 5, 1 a cycle (p0); Skylake and later latency 5, 2 a cycle (p01)
//   vpmaddwd    32-bit lane = sum of two products of 16-bit lanes; the same ports and latency
//   vpaddd/w    latency 1, 3 a cycle on Skylake and later (p015)
//
// Algebra. For the columns of one scale, with quants u and zero point z:
//   sum (u - z) a = sum u a - z sum a                    unsigned types: sum a is BlockQ8A::sum
//   sum w a = sum |w| (sign(w) a)                        signed types
// Overflow of 16 bits: with u <= C and |a| <= 127 a lane holds 32767 / (2 * 127 C) groups of four columns
// before vpmaddwd must widen it: 8 (the whole block) up to 4 bits, 4 with 5 bits, 2 with 6. Signed types need
// one vpmaddwd for each group: 2 * 128 * 127 = 32512 fits, two groups do not. The sign moves to a, not to w,
// because -128 has no negative. So all integers are exact.
//
// Cost of 256 multiply-adds (8 rows, a block): 8 vpmaddubsw, 1, 2 or 4 vpmaddwd, as many additions; 8 vpsignb
// more for signed types; the zero point, the conversion and two float operations. With 4 bits that is 20
// operations: 38 multiply-adds a cycle on three vector ports, 51 on Zen's four. Signed types: 34 operations,
// 23 a cycle.
#include "kernels/avx2/matmul.h"
#include "kernels/avx2/functions.h"

namespace binhdan::avx2 {
namespace {

struct Maddubs {
  static constexpr bool kUnsigned = false;

  // The products of four columns, as two 16-bit sums.
  template <class Blocks>
  BINHDAN_INLINE __m256i pairs(__m256i quants, __m256i a) {
    if constexpr (Blocks::kSigned)
      return _mm256_maddubs_epi16(_mm256_abs_epi8(quants), _mm256_sign_epi8(a, quants));
    else
      return _mm256_maddubs_epi16(quants, a);
  }

  template <int M, class Blocks>
  BINHDAN_INLINE void dots(__m256i (&dot)[M][2], const Blocks& blocks, int64_t b, int part,
                           const BlockQ8A* const (&x)[M]) {
    constexpr int kFit = Blocks::kSigned ? 1 : 32767 / (2 * 127 * Blocks::kMaxQuant);
    constexpr int kChain = kFit < kGroups<Blocks> ? kFit : kGroups<Blocks>;  // groups added in 16 bits
    __m256i sums16[M][2];
#pragma GCC unroll 8
    for (int k = 0; k < kGroups<Blocks>; ++k) {
      const int g = part * kGroups<Blocks> + k;
      const __m256i quants[2] = {blocks.quants(b, g, 0), blocks.quants(b, g, 1)};
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) {
        const __m256i a = four_columns(x[i][b].qs + 4 * g);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const __m256i products = pairs<Blocks>(quants[half], a);
          __m256i& sum = sums16[i][half];
          sum = k % kChain == 0 ? products : _mm256_add_epi16(sum, products);
          if ((k + 1) % kChain == 0) {
            const __m256i widened = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
            dot[i][half] = k < kChain ? widened : _mm256_add_epi32(dot[i][half], widened);
            in_register(dot[i][half]);
          } else {
            in_register(sum);
          }
        }
      }
    }
    if constexpr (Blocks::kZeroPoint != 0)
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) {
        const __m256i correction = zero_point_dot<Blocks>(x[i][b], part);
        for (int half = 0; half < 2; ++half) dot[i][half] = _mm256_sub_epi32(dot[i][half], correction);
      }
  }
};

}  // namespace

#define DEFINE(type)                                            \
  template <>                                                   \
  void matmul<DType::type>(const MatmulArgs& args) {            \
    multiply_panels<DType::type, Maddubs>(args);                \
  }                                                             \
  template <>                                                   \
  size_t scratch_size<DType::type>(int64_t, int64_t, int64_t) { \
    return kPanelScratch<DType::type, Maddubs>;                 \
  }
BINHDAN_PANEL_TYPES(DEFINE)
#undef DEFINE

}  // namespace binhdan::avx2
