// Panels times int8 activations with vpmaddubsw (matmul_panels_ymm.h has the rest).
//
// vpmaddubsw multiplies unsigned by signed bytes and adds two products into 16 bits. With codes c <= C and
// |a| <= 127 a 16-bit lane can take 32767 / (2 * 127 C) groups of four columns before vpmaddwd widens it: 8
// (the whole block) up to 4 bits, 4 with 5 bits, 2 with 6. Codes of signed types stay signed and their sign
// moves to a: |w| (sign(w) a) fits, 2 * 128 * 127 = 32512, but a second group does not. The sign must not
// move to w: -128 has no negative. All integers are exact.
//
// Cost of 256 multiply-adds (8 rows, a block): 8 vpmaddubsw and 1, 2 or 4 vpmaddwd (p01 on Intel since
// Skylake, p0 on Haswell), as many additions (p015); 8 vpsignb (p5, or p15) more for signed types; the
// offset, the conversion and two float operations. That is 20 operations for 4 bits: 38 multiply-adds a cycle
// on three vector ports, 51 on Zen's four; 34 operations, 23 a cycle, for signed types.
#include "kernels/avx2/matmul.h"
#include "kernels/avx2/functions.h"

namespace binhdan::avx2 {
namespace {

struct Maddubs {
  static constexpr bool kUnsigned = false;

  // sum(code a) of four columns, as two 16-bit sums
  template <class Blocks>
  BINHDAN_INLINE __m256i pairs(__m256i codes, __m256i a) {
    if constexpr (Blocks::kSigned)
      return _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(a, codes));
    else
      return _mm256_maddubs_epi16(codes, a);
  }

  template <int M, class Blocks>
  BINHDAN_INLINE void dots(__m256i (&dot)[M][2], const Blocks& blocks, int64_t b, int part,
                           const BlockQ8A* const (&x)[M]) {
    constexpr int kFit = Blocks::kSigned ? 1 : 32767 / (2 * 127 * Blocks::kGreatest);
    constexpr int kChain = kFit < kGroups<Blocks> ? kFit : kGroups<Blocks>;  // groups that share 16 bits
    __m256i sums16[M][2];
#pragma GCC unroll 8
    for (int k = 0; k < kGroups<Blocks>; ++k) {
      const int g = part * kGroups<Blocks> + k;
      const __m256i codes[2] = {blocks.codes(b, g, 0), blocks.codes(b, g, 1)};
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) {
        const __m256i a = four_columns(x[i][b].qs + 4 * g);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const __m256i products = pairs<Blocks>(codes[half], a);
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
    if constexpr (Blocks::kOffset != 0)
#pragma GCC unroll 4
      for (int i = 0; i < M; ++i) {
        const __m256i offset = offset_dot<Blocks>(x[i][b], part);
        for (int half = 0; half < 2; ++half) dot[i][half] = _mm256_sub_epi32(dot[i][half], offset);
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
