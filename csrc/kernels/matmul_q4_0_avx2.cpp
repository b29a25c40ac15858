// Q4_0 panels times int8 activations.
//
// One 32-bit lane is one output row. For a block of 32 columns, with weights d_w (q - 8), 0 <= q <= 15, and
// activations d_a a, |a| <= 127:
//   out += (d_w d_a) (sum q a - 8 sum a)
// vpmaddubsw adds the products of two columns into 16 bits. A lane takes 8 of those for the block, at most
// 8 * 2 * 15 * 127 = 30480 < 2^15, so vpmaddwd widens once for each block and not for each group of columns.
// The integer part is exact; the float part is one rounded product of scales and one FMA for each block, in
// the order of the columns, whatever m is: gemv and gemm are one class. Against scalar only the FMA's single
// rounding differs: less than 2^-22 of the sum of |terms|.
//
// Cost of 32 multiply-adds: vpbroadcastd (a load), vpmaddubsw (2 a cycle since Skylake and Zen, 1 on
// Haswell) and vpaddw (3 a cycle); unpacking nibbles adds 1.5 operations, which the rows of activations
// share. A tile of 6 rows of activations and half a panel keeps its 6 float and 6 integer sums, the weights
// and the constants in the 16 registers; few rows take the whole panel, so that it is read once.
#include "kernels/avx2.h"

namespace binhdan::avx2 {
namespace {

struct Q4_0 {
  using Panel = PanelQ4_0;

  // sums[i] += rows 8 half .. 8 half + 7 of the block times block `at` of each of M rows of activations.
  template <int M>
  BINHDAN_INLINE void add_block(__m256* sums, const Panel& block, int half, const BlockQ8A* const* x,
                                int64_t at) {
    const __m256i low = _mm256_set1_epi8(15);
    __m256i pairs[M];
    for (int i = 0; i < M; ++i) pairs[i] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int g = 0; g < 4; ++g) {
      const __m256i both = load_bytes(block.codes.low[g][8 * half]);
      const __m256i q0 = _mm256_and_si256(both, low);
      const __m256i q1 = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        const int8_t* a = x[i][at].qs + 4 * g;
        pairs[i] = _mm256_add_epi16(pairs[i], _mm256_maddubs_epi16(q0, four_columns(a)));
        pairs[i] = _mm256_add_epi16(pairs[i], _mm256_maddubs_epi16(q1, four_columns(a + 16)));
        in_register(pairs[i]);
      }
    }
    const __m256 d = load_f16(block.d + 8 * half);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const BlockQ8A& a = x[i][at];
      const __m256i whole = _mm256_madd_epi16(pairs[i], _mm256_set1_epi16(1));
      const __m256i dot = _mm256_sub_epi32(whole, _mm256_set1_epi32(8 * (a.sum[0] + a.sum[1])));
      sums[i] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(d, _mm256_set1_ps(a.d)), sums[i]);
    }
  }
};

}  // namespace

void matmul_q4_0(const MatmulArgs& args) {
  matmul_panels<Q4_0>(args);
}

}  // namespace binhdan::avx2
