// The order in which the scalar table sums a float32 dot product (kernels.h). For portable kernels only.
#pragma once
#include <cstdint>

#include "base/half.h"
#include "kernels/kernels.h"

namespace binhdan::scalar {

inline float to_f32(float x) {
  return x;
}
inline float to_f32(uint16_t x) {
  return f16_to_f32(x);
}

// b: float32 or float16.
template <typename B>
float dot(const float* a, const B* b, int64_t n) {
  float partial[kDotLanes] = {};
  int64_t i = 0;
  for (; i + kDotLanes <= n; i += kDotLanes)
    for (int lane = 0; lane < kDotLanes; ++lane) partial[lane] += a[i + lane] * to_f32(b[i + lane]);
  for (int lane = 0; i + lane < n; ++lane) partial[lane] += a[i + lane] * to_f32(b[i + lane]);
  for (int half = kDotLanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; ++lane) partial[lane] += partial[lane + half];
  return partial[0];
}

}  // namespace binhdan::scalar
