// Block encoders: round to nearest, no search. The float operations are those of gguf-py's quantizers.
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels/codec.h"

namespace binhdan {
namespace {

template <typename Block>
void store(void* dst, int64_t i, const Block& block) {
  std::memcpy(static_cast<char*>(dst) + i * static_cast<int64_t>(sizeof(Block)), &block, sizeof(Block));
}

void encode_f32(void* dst, const float* src, int64_t n) {
  if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
}

void encode_f16(void* dst, const float* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store(dst, i, f32_to_f16(src[i]));
}

void encode_bf16(void* dst, const float* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) store(dst, i, f32_to_bf16(src[i]));
}

// The first element of largest magnitude, with its sign.
float extreme(const float* x) {
  float found = x[0];
  for (int j = 1; j < 32; ++j)
    if (std::fabs(x[j]) > std::fabs(found)) found = x[j];
  return found;
}

// The largest magnitude, as that of `extreme`: NaN does not count unless it is the first element.
float peak(const float* x) {
  float lane[16] = {};
  for (int j = 0; j < 32; j += 16)
    for (int i = 0; i < 16; ++i) {
      const float magnitude = std::fabs(x[j + i]);
      lane[i] = magnitude > lane[i] ? magnitude : lane[i];
    }
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] = lane[i] > lane[i + half] ? lane[i] : lane[i + half];
  return std::isnan(x[0]) ? x[0] : lane[0];
}

// 1/d, or 0 if d is so small that 1/d overflows (float16 rounds such a scale to 0 as well).
float inverse(float d) {
  const float id = 1.0f / d;
  return std::isinf(id) ? 0.0f : id;
}

// x as an integer in [low, high]; NaN becomes `low`.
int clamp_to_int(float x, int low, int high) {
  if (!(x > static_cast<float>(low))) return low;
  return x < static_cast<float>(high) ? static_cast<int>(x) : high;
}

// std::round(x * factor), clamped to -127 .. 127; NaN becomes -127. std::round is a call of the C library.
void round_32(int8_t* quants, const float* x, float factor) {
  float clamped[32];
  for (int j = 0; j < 32; ++j) {
    const float y = x[j] * factor, from_below = y > -127.0f ? y : -127.0f;
    clamped[j] = from_below < 127.0f ? from_below : 127.0f;
  }
  for (int j = 0; j < 32; ++j) {
    const int whole = static_cast<int>(clamped[j]);
    const float rest = clamped[j] - static_cast<float>(whole);  // exact, and so is its double
    quants[j] = static_cast<int8_t>(whole + static_cast<int>(rest + rest));
  }
}

void encode_q8_0(void* dst, const float* src, int64_t n) {
  for (int64_t i = 0; i < n / 32; ++i, src += 32) {
    const float d = peak(src) / 127.0f;
    BlockQ8_0 b;
    b.d = f32_to_f16(d);
    round_32(b.qs, src, inverse(d));
    store(dst, i, b);
  }
}

// The extreme becomes -8: the range is -8 to 7, so this end is one step larger.
void encode_q4_0(void* dst, const float* src, int64_t n) {
  for (int64_t i = 0; i < n / 32; ++i, src += 32) {
    const float d = extreme(src) / -8.0f;
    const float id = inverse(d);
    const auto quant = [&](int j) { return clamp_to_int(src[j] * id + 8.5f, 0, 15); };
    BlockQ4_0 b;
    b.d = f32_to_f16(d);
    for (int j = 0; j < 16; ++j) b.qs[j] = static_cast<uint8_t>(quant(j) | quant(j + 16) << 4);
    store(dst, i, b);
  }
}

}  // namespace

EncodeRow encode_row(DType type) {
  switch (type) {
    case DType::f32:
      return encode_f32;
    case DType::f16:
      return encode_f16;
    case DType::bf16:
      return encode_bf16;
    case DType::q8_0:
      return encode_q8_0;
    case DType::q4_0:
      return encode_q4_0;
    default:
      return nullptr;
  }
}

}  // namespace binhdan
