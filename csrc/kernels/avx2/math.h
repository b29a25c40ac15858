// Horizontal sums of eight lanes.
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

}  // namespace binhdan::avx2
