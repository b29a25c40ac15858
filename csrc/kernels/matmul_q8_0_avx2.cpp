// Q8_0 panels times int8 activations.
//
// One 32-bit lane is one output row; for a block of 32 columns, with weights d_w w and activations d_a a:
//   out += (d_w d_a) (sum w a)
// vpmaddubsw takes unsigned times signed bytes, so the sign of w moves to a: |w| (sign(w) a). |w| <= 128 (as
// an unsigned byte) and |a| <= 127, so two products fit 16 bits (2 * 128 * 127 = 32512), but not four:
// vpmaddwd widens each group of columns. The sign must not move to w instead: -128 has no negative. The
// integer part is exact; the float part is one rounded product of scales and one FMA for each block, in the
// order of the columns, whatever m is: gemv and gemm are one class. Against scalar only the FMA's single
// rounding differs: less than 2^-22 of the sum of |terms|.
//
// Cost of 32 multiply-adds: vpbroadcastd (a load), vpsignb, vpmaddubsw, vpmaddwd (Haswell: the two products
// on p0 and the sign on p5; since Skylake and Zen 2 a cycle each), vpaddd (3 a cycle); |w| is shared by the
// rows of activations.
#include "kernels/avx2.h"

namespace binhdan::avx2 {
namespace {

struct Q8_0 {
  using Panel = PanelQ8_0;

  // sums[i] += rows 8 half .. 8 half + 7 of the block times block `at` of each of M rows of activations.
  template <int M>
  BINHDAN_INLINE void add_block(__m256* sums, const Panel& block, int half, const BlockQ8A* const* x,
                                int64_t at) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i dot[M];
    for (int i = 0; i < M; ++i) dot[i] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) {
      const __m256i w = load_bytes(block.codes.low[g][8 * half]);
      const __m256i size = _mm256_abs_epi8(w);
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        const __m256i a = _mm256_sign_epi8(four_columns(x[i][at].qs + 4 * g), w);
        dot[i] = _mm256_add_epi32(dot[i], _mm256_madd_epi16(_mm256_maddubs_epi16(size, a), ones));
        in_register(dot[i]);
      }
    }
    const __m256 d = load_f16(block.d + 8 * half);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i)
      sums[i] =
          _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[i]), _mm256_mul_ps(d, _mm256_set1_ps(x[i][at].d)), sums[i]);
  }
};

}  // namespace

void matmul_q8_0(const MatmulArgs& args) {
  matmul_panels<Q8_0>(args);
}

}  // namespace binhdan::avx2
