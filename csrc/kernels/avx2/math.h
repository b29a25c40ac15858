// Horizontal sums and exponentials of eight lanes.
#pragma once
#include "kernels/avx2/ymm.h"

namespace binhdan::avx2 {

// Adds kDotLanes = 16 partial sums by halves, in the order that kernels.h states.
BINHDAN_INLINE float sum_lanes(__m256 low, __m256 high) {
  const __m256 v = _mm256_add_ps(low, high);
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// e^x within 1 ulp for x in [-87.3, 88.7]; 0 below, infinite above, NaN for NaN. x = n ln 2 + r with
// |r| <= ln 2 / 2, and e^r = 1 + r + r^2 p(r), where p minimizes the relative error (3e-9). ln 2 is the sum
// of two constants, so that n ln 2 is exact enough.
BINHDAN_INLINE __m256 exp_lanes(__m256 x) {
  const __m256 min_x = _mm256_set1_ps(-87.3365f), max_x = _mm256_set1_ps(88.7228f);
  const __m256 inside = _mm256_max_ps(min_x, _mm256_min_ps(max_x, x));  // this operand order keeps NaN
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(inside, _mm256_set1_ps(0x1.715476p+0f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.63p-1f), inside);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-0x1.bd0106p-13f), r);
  __m256 p = _mm256_set1_ps(0x1.6a23d6p-10f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.123a2p-7f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.5558f2p-5f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.555492p-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.fffffcp-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  const __m256 y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
  const __m256 bounded = _mm256_andnot_ps(_mm256_cmp_ps(x, min_x, _CMP_LT_OQ), y);
  return _mm256_blendv_ps(bounded, _mm256_set1_ps(__builtin_inff()), _mm256_cmp_ps(x, max_x, _CMP_GT_OQ));
}

// 2^x within 2 ulp for x in [-126, 127]; 0 below, NaN for NaN. x = n + r with |r| <= 1/2, and 2^r is a
// polynomial that minimizes the relative error (9e-8) and is 1 at 0, so that powers of two are exact.
BINHDAN_INLINE __m256 exp2_lanes(__m256 x) {
  const __m256 n = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 r = _mm256_sub_ps(x, n);
  __m256 p = _mm256_set1_ps(0x1.5bba14p-10f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.3cea88p-7f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.c6b752p-5f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.ebf9bcp-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.62e42ap-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  const __m256 y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-126.0f), _CMP_LT_OQ), y);
}

}  // namespace binhdan::avx2
