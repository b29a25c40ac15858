// Sixteen lanes, for the loops in kernels/vector_lanes.h and kernels/attention_lanes.h.
#pragma once
#include <immintrin.h>

#include "kernels/avx512/zmm.h"
#include "kernels/lane_math.h"

namespace binhdan::avx512 {
namespace {

struct Lanes {
  using V = __m512;
  static constexpr int kLanes = 16;

  BINHDAN_INLINE V zero() { return _mm512_setzero_ps(); }
  BINHDAN_INLINE V broadcast(float x) { return _mm512_set1_ps(x); }
  BINHDAN_INLINE V load(const float* src) { return _mm512_loadu_ps(src); }
  BINHDAN_INLINE V load_f16(const uint16_t* src) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(src)));
  }
  BINHDAN_INLINE void store(float* dst, V x) { _mm512_storeu_ps(dst, x); }
  BINHDAN_INLINE V load_first(const float* src, int64_t n) {
    return n >= kLanes ? load(src) : _mm512_maskz_loadu_ps(lane_mask(n), src);
  }
  BINHDAN_INLINE void store_first(float* dst, int64_t n, V x) {
    n >= kLanes ? store(dst, x) : _mm512_mask_storeu_ps(dst, lane_mask(n), x);
  }

  BINHDAN_INLINE V add(V a, V b) { return _mm512_add_ps(a, b); }
  BINHDAN_INLINE V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  BINHDAN_INLINE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  BINHDAN_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  BINHDAN_INLINE V max(V a, V b) { return _mm512_max_ps(a, b); }
  BINHDAN_INLINE V min(V a, V b) { return _mm512_min_ps(a, b); }
  BINHDAN_INLINE V ceil(V x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
  BINHDAN_INLINE V round(V x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  BINHDAN_INLINE V magnitude(V x) { return _mm512_abs_ps(x); }
  BINHDAN_INLINE V with_sign_of(V sign, V x) {
    return _mm512_or_ps(_mm512_and_ps(broadcast(-0.0f), sign), magnitude(x));
  }
  BINHDAN_INLINE V if_negative(V x, V then, V otherwise) {
    return _mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x)), otherwise, then);
  }
  // x where begin <= lane < end, else `rest`.
  BINHDAN_INLINE V within(V x, int64_t begin, int64_t end, float rest) {
    const auto lanes = static_cast<__mmask16>(lane_mask(end) & ~lane_mask(begin));
    return _mm512_mask_blend_ps(lanes, broadcast(rest), x);
  }

  // vrcp14ps and one step of Newton's method, because a division of 16 lanes takes 16 cycles. If d is infinite,
  // the step would compute NaN; the inverse is 0.
  BINHDAN_INLINE V quotient(V a, V d) {
    const __mmask16 bounded = _mm512_cmp_ps_mask(d, broadcast(__builtin_inff()), _CMP_NEQ_UQ);  // or NaN
    const V inverse = _mm512_rcp14_ps(d), error = _mm512_fnmadd_ps(d, inverse, broadcast(1.0f));
    return mul(a, _mm512_maskz_fmadd_ps(bounded, inverse, error, inverse));
  }
  BINHDAN_INLINE V power_of_2(V n) { return _mm512_scalef_ps(broadcast(1.0f), n); }
  // vscalefps multiplies by 2^n, with overflow and underflow.
  BINHDAN_INLINE V exp(V x) {
    const ReducedExp<Lanes> e(max(broadcast(-104.0f), min(broadcast(89.0f), x)));  // this order keeps NaN
    return _mm512_scalef_ps(fma(e.p, e.r, broadcast(1.0f)), e.n);
  }
  // 2^x for x <= 0 as in avx2/lanes.h, but an addition of 1.5 2^23 rounds x to n, and leaves n in the low bits
  // of the sum.
  BINHDAN_INLINE V exp2(V x) {
    const V shifter = broadcast(0x1.8p23f), shifted = add(x, shifter), r = sub(x, sub(shifted, shifter));
    V p = broadcast(0x1.5bba14p-10f);
    p = fma(p, r, broadcast(0x1.3cea88p-7f));
    p = fma(p, r, broadcast(0x1.c6b752p-5f));
    p = fma(p, r, broadcast(0x1.ebf9bcp-3f));
    p = fma(p, r, broadcast(0x1.62e42ap-1f));
    p = fma(p, r, broadcast(1.0f));
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    const __mmask16 normal = _mm512_cmp_ps_mask(x, broadcast(-126.0f), _CMP_NLT_UQ);  // or NaN
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(normal, _mm512_castps_si512(p), exponent));
  }

  BINHDAN_INLINE float element(V x) { return _mm512_cvtss_f32(x); }
  BINHDAN_INLINE float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
  BINHDAN_INLINE float sum_of(V x) { return _mm512_reduce_add_ps(x); }
  BINHDAN_INLINE float max_of(V x) { return _mm512_reduce_max_ps(x); }
};

}  // namespace
}  // namespace binhdan::avx512
