// Quantization of activations, norms, RoPE, nonlinear and element-wise functions.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/half.h"
#include "kernels/scalar/dot.h"
#include "kernels/scalar/functions.h"

namespace binhdan::scalar {

void quantize_f32(void* dst, const float* x, int64_t n) {
  std::copy_n(x, n, static_cast<float*>(dst));
}

namespace {

// The low bits of x + 1.5 * 2^23 are x rounded to nearest even, if |x| < 2^22.
int32_t round_to_even(float x) {
  return std::bit_cast<int32_t>(x + 0x1.8p23f) - std::bit_cast<int32_t>(0x1.8p23f);
}

// max|x|, not finite if any element is not: bits of magnitudes have the order of integers.
float max_magnitude(const float (&x)[32]) {
  uint32_t top = 0;
  for (float v : x) top = std::max(top, std::bit_cast<uint32_t>(v) & 0x7fffffff);
  return std::bit_cast<float>(top);
}

BlockQ8A quantize_block(const float (&x)[32]) {
  BlockQ8A block{};
  const float top = max_magnitude(x);
  if (!std::isfinite(top)) {
    block.d = std::numeric_limits<float>::quiet_NaN();
  } else if (top >= 0x1p-120f) {
    block.d = top / 127.0f;
    const float inverse = 127.0f / top;
    for (int j = 0; j < 32; ++j) {
      const int32_t q = round_to_even(x[j] * inverse);
      block.qs[j] = static_cast<int8_t>(q);
      block.sum[j / 16] += q;
    }
  }
  block.d_sum = block.d * static_cast<float>(block.sum[0] + block.sum[1]);
  return block;
}

}  // namespace

void quantize_q8(void* dst, const float* x, int64_t n) {
  auto* blocks = static_cast<BlockQ8A*>(dst);
  for (int64_t i = 0; i < n / 32; ++i) {
    float values[32];
    std::copy_n(x + i * 32, 32, values);
    blocks[i] = quantize_block(values);
  }
}

void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps) {
  const float factor = 1.0f / std::sqrt(dot(x, x, n) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * factor * (weight ? weight[i] : 1.0f);
}

void layer_norm(float* out, const float* x, const float* weight, const float* bias, int64_t n, float eps) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double factor = 1.0 / std::sqrt(squares / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i)
    out[i] = static_cast<float>((x[i] - mean) * factor) * weight[i] + (bias ? bias[i] : 0.0f);
}

void rope(float* x, const float* cos_sin, int64_t dim, bool neox) {
  const int64_t step = neox ? 1 : 2, distance = neox ? dim / 2 : 1;
  for (int64_t i = 0; i < dim / 2; ++i) {
    float& first = x[i * step];
    float& second = x[i * step + distance];
    const float cos = cos_sin[2 * i], sin = cos_sin[2 * i + 1];
    const float rotated = first * cos - second * sin;
    second = first * sin + second * cos;
    first = rotated;
  }
}

namespace {

template <Nonlinearity f>
float nonlinear(float x) {
  if constexpr (f == Nonlinearity::silu) return x / (1.0f + std::exp(-x));
  if constexpr (f == Nonlinearity::gelu_tanh) {
    const double exact = x, u = std::numbers::inv_sqrtpi * std::numbers::sqrt2 *
                                (exact + 0.044715 * exact * exact * exact);
    return static_cast<float>(exact / (1.0 + std::exp(-2.0 * u)));
  }
  if constexpr (f == Nonlinearity::gelu)
    return static_cast<float>(x * (0.5 * std::erfc(-x * (0.5 * std::numbers::sqrt2))));
  if constexpr (f == Nonlinearity::relu2) return x > 0 || x != x ? x * x : 0.0f;  // keeps NaN
  if constexpr (f == Nonlinearity::sigmoid) return 1.0f / (1.0f + std::exp(-x));
}

}  // namespace

template <Nonlinearity f>
void apply(float* x, const float* factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = nonlinear<f>(x[i]) * (factor ? factor[i] : 1.0f);
}
#define INSTANTIATE(f) template void apply<Nonlinearity::f>(float*, const float*, int64_t);
BINHDAN_NONLINEARITIES(INSTANTIATE)
#undef INSTANTIATE

void softcap(float* x, float cap, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}

void add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void add_scaled(float* x, const float* y, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += factor * y[i];
}

void multiply(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= y[i];
}

void scale(float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

void conv(float* out, const float* const* rows, const float* weights, int64_t weight_stride, int64_t taps,
          int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    float sum = 0;
    for (int64_t t = 0; t < taps; ++t) sum += weights[t * weight_stride + i] * rows[t][i];
    out[i] = sum;
  }
}

void add_products(float* x, const float* factors, const uint16_t* w, int64_t terms, int64_t n) {
  for (int64_t first = 0; first < n; first += kProductLanes) {
    float sums[kProductLanes] = {};
    for (int64_t t = 0; t < terms; ++t, w += kProductLanes)
      for (int64_t i = 0; i < kProductLanes; ++i) sums[i] += factors[t] * f16_to_f32(w[i]);
    for (int64_t i = first; i < std::min(n, first + kProductLanes); ++i) x[i] += sums[i - first];
  }
}

void to_f16(uint16_t* dst, const float* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = f32_to_f16(src[i]);
}

}  // namespace binhdan::scalar
