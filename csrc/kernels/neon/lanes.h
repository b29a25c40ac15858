// Four lanes, for the loops in kernels/vector_lanes.h, kernels/attention_lanes.h and kernels/delta_lanes.h.
#pragma once
#include "kernels/lane_math.h"
#include "kernels/neon/registers.h"

namespace binhdan::neon {
namespace {

struct Lanes {
  using V = float32x4_t;
  static constexpr int kLanes = 4;

  BINHDAN_INLINE V zero() { return vdupq_n_f32(0.0f); }
  BINHDAN_INLINE V broadcast(float x) { return vdupq_n_f32(x); }
  BINHDAN_INLINE V load(const float* src) { return vld1q_f32(src); }
  BINHDAN_INLINE V load_f16(const uint16_t* src) { return binhdan::load_f16(src); }
  BINHDAN_INLINE void store(float* dst, V x) { vst1q_f32(dst, x); }
  BINHDAN_INLINE V load_first(const float* src, int64_t n) { return binhdan::load_first(src, n); }
  BINHDAN_INLINE void store_first(float* dst, int64_t n, V x) { binhdan::store_first(dst, n, x); }

  BINHDAN_INLINE V add(V a, V b) { return vaddq_f32(a, b); }
  BINHDAN_INLINE V sub(V a, V b) { return vsubq_f32(a, b); }
  BINHDAN_INLINE V mul(V a, V b) { return vmulq_f32(a, b); }
  BINHDAN_INLINE V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
  BINHDAN_INLINE V max(V a, V b) { return vmaxq_f32(a, b); }  // NaN if either is NaN
  BINHDAN_INLINE V min(V a, V b) { return vminq_f32(a, b); }
  BINHDAN_INLINE V quotient(V a, V d) { return vdivq_f32(a, d); }
  BINHDAN_INLINE V ceil(V x) { return vrndpq_f32(x); }
  BINHDAN_INLINE V round(V x) { return vrndnq_f32(x); }
  BINHDAN_INLINE V magnitude(V x) { return vabsq_f32(x); }
  BINHDAN_INLINE V with_sign_of(V sign, V x) { return vbslq_f32(vdupq_n_u32(0x80000000), sign, x); }
  BINHDAN_INLINE V if_negative(V x, V then, V otherwise) {
    return vbslq_f32(vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_f32(x), 31)), then, otherwise);
  }
  // x where begin <= lane < end, else `rest`.
  BINHDAN_INLINE V within(V x, int64_t begin, int64_t end, float rest) {
    static constexpr int32_t kNumbers[4] = {0, 1, 2, 3};
    const int32x4_t lane = vld1q_s32(kNumbers);
    const uint32x4_t after_begin = vcgeq_s32(lane, vdupq_n_s32(static_cast<int32_t>(begin)));
    const uint32x4_t before_end = vcltq_s32(lane, vdupq_n_s32(static_cast<int32_t>(end)));
    return vbslq_f32(vandq_u32(after_begin, before_end), x, broadcast(rest));
  }

  // y times 2^n for integers n, if the result is normal.
  BINHDAN_INLINE V scale_by_power(V y, V n) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(y), vshlq_n_s32(vcvtnq_s32_f32(n), 23)));
  }
  // 2^n for integers -126 <= n <= 127.
  BINHDAN_INLINE V power_of_2(V n) { return scale_by_power(broadcast(1.0f), n); }
  // 0 below -87.3, infinite above 88.7, NaN for NaN.
  BINHDAN_INLINE V exp(V x) {
    const V min_x = broadcast(-87.3365f), max_x = broadcast(88.7228f);
    const ReducedExp<Lanes> e(max(min_x, min(max_x, x)));
    const V y = scale_by_power(fma(e.p, e.r, broadcast(1.0f)), e.n);
    const V bounded = zero_where(vcltq_f32(x, min_x), y);
    return vbslq_f32(vcgtq_f32(x, max_x), broadcast(__builtin_inff()), bounded);
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
    return zero_where(vcltq_f32(x, broadcast(-126.0f)), scale_by_power(p, n));
  }

  BINHDAN_INLINE float element(V x) { return vgetq_lane_f32(x, 0); }
  BINHDAN_INLINE float square_root(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }
  BINHDAN_INLINE float sum_of(V x) { return vaddvq_f32(x); }
  BINHDAN_INLINE float max_of(V x) { return vmaxvq_f32(x); }

 private:
  BINHDAN_INLINE V zero_where(uint32x4_t mask, V x) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), mask));
  }
};

}  // namespace
}  // namespace binhdan::neon
