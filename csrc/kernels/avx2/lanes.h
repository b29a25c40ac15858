// Eight lanes, for the loops in kernels/vector_lanes.h and kernels/attention_lanes.h.
#pragma once
#include "kernels/avx2/math.h"
#include "kernels/avx2/ymm.h"
#include "kernels/lane_math.h"

namespace binhdan::avx2 {
namespace {

struct Lanes {
  using V = __m256;
  static constexpr int kLanes = 8;

  BINHDAN_INLINE V zero() { return _mm256_setzero_ps(); }
  BINHDAN_INLINE V broadcast(float x) { return _mm256_set1_ps(x); }
  BINHDAN_INLINE V load(const float* src) { return _mm256_loadu_ps(src); }
  BINHDAN_INLINE V load_f16(const uint16_t* src) { return binhdan::load_f16(src); }
  BINHDAN_INLINE void store(float* dst, V x) { _mm256_storeu_ps(dst, x); }
  BINHDAN_INLINE V load_first(const float* src, int64_t n) { return binhdan::load_first(src, n); }
  BINHDAN_INLINE void store_first(float* dst, int64_t n, V x) { binhdan::store_first(dst, n, x); }

  BINHDAN_INLINE V add(V a, V b) { return _mm256_add_ps(a, b); }
  BINHDAN_INLINE V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  BINHDAN_INLINE V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  BINHDAN_INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  BINHDAN_INLINE V max(V a, V b) { return _mm256_max_ps(a, b); }
  BINHDAN_INLINE V min(V a, V b) { return _mm256_min_ps(a, b); }
  BINHDAN_INLINE V quotient(V a, V d) { return _mm256_div_ps(a, d); }
  BINHDAN_INLINE V ceil(V x) { return _mm256_ceil_ps(x); }
  BINHDAN_INLINE V round(V x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  BINHDAN_INLINE V magnitude(V x) { return _mm256_andnot_ps(broadcast(-0.0f), x); }
  BINHDAN_INLINE V with_sign_of(V sign, V x) {
    return _mm256_or_ps(_mm256_and_ps(broadcast(-0.0f), sign), magnitude(x));
  }
  BINHDAN_INLINE V if_negative(V x, V then, V otherwise) { return _mm256_blendv_ps(otherwise, then, x); }
  // x where begin <= lane < end, else `rest`.
  BINHDAN_INLINE V within(V x, int64_t begin, int64_t end, float rest) {
    const __m256i before = first_lanes(begin), lanes = _mm256_andnot_si256(before, first_lanes(end));
    return _mm256_blendv_ps(broadcast(rest), x, _mm256_castsi256_ps(lanes));
  }

  // 2^n for integers -126 <= n <= 127.
  BINHDAN_INLINE V power_of_2(V n) {
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(broadcast(1.0f)), exponent));
  }
  // 0 below -87.3, infinite above 88.7, NaN for NaN.
  BINHDAN_INLINE V exp(V x) {
    const V min_x = broadcast(-87.3365f), max_x = broadcast(88.7228f);
    const ReducedExp<Lanes> e(max(min_x, min(max_x, x)));  // this operand order keeps NaN
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(e.n), 23);
    const __m256i y = _mm256_add_epi32(_mm256_castps_si256(fma(e.p, e.r, broadcast(1.0f))), exponent);
    const V bounded = _mm256_andnot_ps(_mm256_cmp_ps(x, min_x, _CMP_LT_OQ), _mm256_castsi256_ps(y));
    return _mm256_blendv_ps(bounded, broadcast(__builtin_inff()), _mm256_cmp_ps(x, max_x, _CMP_GT_OQ));
  }
  // 2^x within 2 ulp for x in [-126, 127]; 0 below, NaN for NaN. x = n + r with |r| <= 1/2, and 2^r is a
  // polynomial that minimizes the relative error (9e-8) and is 1 at 0, so that powers of two are exact.
  BINHDAN_INLINE V exp2(V x) {
    const V n = round(x), r = sub(x, n);
    V p = broadcast(0x1.5bba14p-10f);
    p = fma(p, r, broadcast(0x1.3cea88p-7f));
    p = fma(p, r, broadcast(0x1.c6b752p-5f));
    p = fma(p, r, broadcast(0x1.ebf9bcp-3f));
    p = fma(p, r, broadcast(0x1.62e42ap-1f));
    p = fma(p, r, broadcast(1.0f));
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    const V y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, broadcast(-126.0f), _CMP_LT_OQ), y);
  }

  BINHDAN_INLINE float element(V x) { return _mm256_cvtss_f32(x); }
  BINHDAN_INLINE float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
  BINHDAN_INLINE float sum_of(V x) { return sum_lanes(x, zero()); }
  BINHDAN_INLINE float max_of(V x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }
};

}  // namespace
}  // namespace binhdan::avx2
