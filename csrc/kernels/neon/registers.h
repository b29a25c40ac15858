// Helpers for 128-bit registers.
#pragma once
#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/inline.h"

namespace binhdan {
namespace {

// Four float16 as float32.
BINHDAN_INLINE float32x4_t load_f16(const uint16_t* src) {
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(src)));
}

// The first n of four floats, all of them if n >= 4. Other lanes are 0.
BINHDAN_INLINE float32x4_t load_first(const float* src, int64_t n) {
  if (n >= 4) return vld1q_f32(src);
  float32x4_t x = vdupq_n_f32(0.0f);
  if (n > 0) x = vld1q_lane_f32(src, x, 0);
  if (n > 1) x = vld1q_lane_f32(src + 1, x, 1);
  if (n > 2) x = vld1q_lane_f32(src + 2, x, 2);
  return x;
}
BINHDAN_INLINE void store_first(float* dst, int64_t n, float32x4_t x) {
  if (n >= 4) return vst1q_f32(dst, x);
  if (n > 0) vst1q_lane_f32(dst, x, 0);
  if (n > 1) vst1q_lane_f32(dst + 1, x, 1);
  if (n > 2) vst1q_lane_f32(dst + 2, x, 2);
}

// dst[c stride + r] = rows[r][column + c] for 4 x 4 elements.
BINHDAN_INLINE void transpose_4x4(float* dst, int64_t stride, const float* const* rows, int64_t column) {
  const float32x4_t a = vld1q_f32(rows[0] + column), b = vld1q_f32(rows[1] + column);
  const float32x4_t c = vld1q_f32(rows[2] + column), d = vld1q_f32(rows[3] + column);
  const float64x2_t even_ab = vreinterpretq_f64_f32(vtrn1q_f32(a, b)),
                    odd_ab = vreinterpretq_f64_f32(vtrn2q_f32(a, b)),
                    even_cd = vreinterpretq_f64_f32(vtrn1q_f32(c, d)),
                    odd_cd = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
  vst1q_f32(dst, vreinterpretq_f32_f64(vtrn1q_f64(even_ab, even_cd)));
  vst1q_f32(dst + stride, vreinterpretq_f32_f64(vtrn1q_f64(odd_ab, odd_cd)));
  vst1q_f32(dst + 2 * stride, vreinterpretq_f32_f64(vtrn2q_f64(even_ab, even_cd)));
  vst1q_f32(dst + 3 * stride, vreinterpretq_f32_f64(vtrn2q_f64(odd_ab, odd_cd)));
}

// Adds kDotLanes = 16 partial sums by halves, in the order that kernels.h states.
BINHDAN_INLINE float sum_lanes(const float32x4_t (&sums)[4]) {
  const float32x4_t s = vaddq_f32(vaddq_f32(sums[0], sums[2]), vaddq_f32(sums[1], sums[3]));
  const float32x2_t pair = vadd_f32(vget_low_f32(s), vget_high_f32(s));
  return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
}

}  // namespace
}  // namespace binhdan
