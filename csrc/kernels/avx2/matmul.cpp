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
// The sign of w is applied to a, which is never -128. The sign of a cannot be applied to w: the negative of
// -128 does not fit in a byte.
//
// Overflow. vpmaddubsw adds two products of a group of four columns in a 16-bit lane. With u <= C and
// |a| <= 127 the sum is at most 254 C. So 32767 / (254 C) groups fit in a 16-bit sum, before vpmaddwd must
// widen it to 32 bits: all 8 groups of a block up to 4 bits, 4 groups with 5 bits, 2 groups with 6 bits. For
// signed types, one group may reach 2 * 128 * 127 = 32512, so each group is widened. No sum overflows: all
// integers are exact.
//
// Cost of 256 multiply-adds (8 rows of weights, a block of 32 columns), in instructions:
//                                  4 bits   5 bits   6 bits,     signed
//                                                    two scales
//   vpmaddubsw                        8        8        8          8
//   vpsignb                                                        8
//   vpaddw                            7        6        4
//   vpmaddwd                          1        2        4          8
//   vpaddd                                     1        2          7
//   vpsubd (zero point)               1        1        2
//   conversion, scale * d, FMA        3        3        6          3
//   total                            20       21       26         34
//   multiply-adds a cycle on
//     three vector ports (Intel)     38       37       30         23
//     four (Zen)                     51       49       39         30
// Unpacking the quants, and vpabsb for signed types, are not counted: the rows of a tile share them.
#include "kernels/avx2/matmul.h"
#include "kernels/avx2/functions.h"

namespace binhdan::avx2 {
namespace {

struct Maddubs {
  static constexpr bool kNeedsUnsignedQuants = false;

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
    // Groups added in 16 bits: 8, 4, 2 or 1.
    constexpr int kChain = kFit >= kGroups<Blocks> ? kGroups<Blocks> : kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
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

using Dot = Maddubs;
BINHDAN_PANEL_TYPES(BINHDAN_PANEL_MATMUL)

}  // namespace binhdan::avx2
