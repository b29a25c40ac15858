// Conversions of 16-bit floats as bit patterns (IEEE 754 binary16, bfloat16; round to nearest even). They are
// exact on any machine.
#pragma once
#include <bit>
#include <cstdint>

namespace binhdan {

// Masks instead of branches, so that the compiler vectorizes loops. The exponent's bias grows by 112, and by
// 224 for infinities and NaN. A subnormal gets the exponent of 2^-14; subtracting 2^-14 normalizes it.
inline float f16_to_f32(uint16_t h) {
  const int32_t magnitude = (h & 0x7fff) << 13;
  const int32_t is_special = -(magnitude >= 0x0f800000), is_subnormal = -(magnitude < 0x00800000);
  const int32_t normal = magnitude + 0x38000000 + (is_special & 0x38000000);
  const int32_t subnormal = std::bit_cast<int32_t>(std::bit_cast<float>(magnitude + 0x38800000) - 0x1p-14f);
  const int32_t sign = std::bit_cast<int32_t>(uint32_t(h & 0x8000) << 16);
  return std::bit_cast<float>(sign | (is_subnormal & subnormal) | (~is_subnormal & normal));
}

inline uint16_t f32_to_f16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00 | (magnitude >> 13 & 0x1ff));
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000) {  // subnormal half: the addition rounds at 2^-24
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000));
  }
  return static_cast<uint16_t>(sign | ((magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13));
}

inline float bf16_to_f32(uint16_t b) {
  return std::bit_cast<float>(uint32_t(b) << 16);
}

inline uint16_t f32_to_bf16(float f) {
  const uint32_t bits = std::bit_cast<uint32_t>(f);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace binhdan
