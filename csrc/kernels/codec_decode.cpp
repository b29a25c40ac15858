// Block decoders. The float operations are those of gguf-py's dequantizers, so that the bits agree.
#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "kernels/codebook.h"
#include "kernels/codec.h"

namespace binhdan {
namespace {

// ---- floats -------------------------------------------------------------------------------------------

void decode_f32(float* dst, const void* src, int64_t n) {
  if (n > 0) std::memcpy(dst, src, static_cast<size_t>(n) * sizeof(float));
}

void decode_f16(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = f16_to_f32(load_block<uint16_t>(src, i));
}

void decode_bf16(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dst[i] = bf16_to_f32(load_block<uint16_t>(src, i));
}

// ---- blocks of 32: byte j of qs holds elements j (low nibble) and j + 16 (high nibble) ----------------

void decode_q4_0(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 32; ++i, dst += 32) {
    const auto b = load_block<BlockQ4_0>(src, i);
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < 16; ++j) {
      dst[j] = d * static_cast<float>((b.qs[j] & 15) - 8);
      dst[j + 16] = d * static_cast<float>((b.qs[j] >> 4) - 8);
    }
  }
}

void decode_q4_1(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 32; ++i, dst += 32) {
    const auto b = load_block<BlockQ4_1>(src, i);
    const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
    for (int j = 0; j < 16; ++j) {
      dst[j] = d * static_cast<float>(b.qs[j] & 15) + m;
      dst[j + 16] = d * static_cast<float>(b.qs[j] >> 4) + m;
    }
  }
}

// Bit j of qh (little endian) is the fifth bit of element j.
int five_bits(const uint8_t (&qs)[16], const uint8_t (&qh)[4], int j) {
  const int low = j < 16 ? qs[j] & 15 : qs[j - 16] >> 4;
  return low | (qh[j / 8] >> (j % 8) & 1) << 4;
}

void decode_q5_0(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 32; ++i, dst += 32) {
    const auto b = load_block<BlockQ5_0>(src, i);
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < 32; ++j) dst[j] = d * static_cast<float>(five_bits(b.qs, b.qh, j) - 16);
  }
}

void decode_q5_1(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 32; ++i, dst += 32) {
    const auto b = load_block<BlockQ5_1>(src, i);
    const float d = f16_to_f32(b.d), m = f16_to_f32(b.m);
    for (int j = 0; j < 32; ++j) dst[j] = d * static_cast<float>(five_bits(b.qs, b.qh, j)) + m;
  }
}

void decode_q8_0(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 32; ++i, dst += 32) {
    const auto b = load_block<BlockQ8_0>(src, i);
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < 32; ++j) dst[j] = d * static_cast<float>(b.qs[j]);
  }
}

// ---- super-blocks of 256 ------------------------------------------------------------------------------

void decode_q2_k(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / kSuper; ++i, dst += kSuper) {
    const auto b = load_block<BlockQ2_K>(src, i);
    const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
    for (int group = 0; group < 16; ++group) {  // of 16 elements; 8 groups share 32 bytes, two bits each
      const float scale = d * static_cast<float>(b.scales[group] & 15);
      const float min = dmin * static_cast<float>(b.scales[group] >> 4);
      const uint8_t* qs = b.qs + group / 8 * 32 + group % 2 * 16;
      const int shift = group % 8 / 2 * 2;
      for (int j = 0; j < 16; ++j) dst[group * 16 + j] = scale * static_cast<float>(qs[j] >> shift & 3) - min;
    }
  }
}

// Sixteen 6-bit scales: the low 4 bits are the nibbles of bytes 0..7, the high 2 bits are in bytes 8..11.
int q3_k_scale(const uint8_t (&scales)[12], int group) {
  const int low = scales[group % 8] >> (group / 8 * 4) & 15;
  const int high = scales[8 + group % 4] >> (group / 4 * 2) & 3;
  return (low | high << 4) - 32;
}

void decode_q3_k(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / kSuper; ++i, dst += kSuper) {
    const auto b = load_block<BlockQ3_K>(src, i);
    const float d = f16_to_f32(b.d);
    for (int group = 0; group < 16; ++group) {
      const float scale = d * static_cast<float>(q3_k_scale(b.scales, group));
      const uint8_t* qs = b.qs + group / 8 * 32 + group % 2 * 16;
      const uint8_t* high = b.hmask + group % 2 * 16;
      const int shift = group % 8 / 2 * 2;
      for (int j = 0; j < 16; ++j) {  // a clear mask bit subtracts 4
        const int q = (qs[j] >> shift & 3) - (high[j] >> (group / 2) & 1 ? 0 : 4);
        dst[group * 16 + j] = scale * static_cast<float>(q);
      }
    }
  }
}

// Eight pairs of 6 bits: pairs 0..3 are the low 6 bits of bytes 0..3 (scale) and 4..7 (min); pairs 4..7 have
// their low nibbles in bytes 8..11 and their high 2 bits at the top of the bytes of pairs 0..3.
struct ScaleMin {
  float scale, min;
};
ScaleMin q4_k_scale_min(const uint8_t (&s)[12], int group) {
  if (group < 4) return {static_cast<float>(s[group] & 63), static_cast<float>(s[group + 4] & 63)};
  const int scale = (s[group + 4] & 15) | (s[group - 4] >> 6) << 4;
  const int min = s[group + 4] >> 4 | (s[group] >> 6) << 4;
  return {static_cast<float>(scale), static_cast<float>(min)};
}

void decode_q4_k(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / kSuper; ++i, dst += kSuper) {
    const auto b = load_block<BlockQ4_K>(src, i);
    const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
    for (int group = 0; group < 8; ++group) {  // of 32 elements; two groups share 32 bytes
      const ScaleMin sm = q4_k_scale_min(b.scales, group);
      const float scale = d * sm.scale, min = dmin * sm.min;
      const uint8_t* qs = b.qs + group / 2 * 32;
      const int shift = group % 2 * 4;
      for (int j = 0; j < 32; ++j)
        dst[group * 32 + j] = scale * static_cast<float>(qs[j] >> shift & 15) - min;
    }
  }
}

void decode_q5_k(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / kSuper; ++i, dst += kSuper) {
    const auto b = load_block<BlockQ5_K>(src, i);
    const float d = f16_to_f32(b.d), dmin = f16_to_f32(b.dmin);
    for (int group = 0; group < 8; ++group) {  // bit `group` of qh[j] is the fifth bit of element j
      const ScaleMin sm = q4_k_scale_min(b.scales, group);
      const float scale = d * sm.scale, min = dmin * sm.min;
      const uint8_t* qs = b.qs + group / 2 * 32;
      const int shift = group % 2 * 4;
      for (int j = 0; j < 32; ++j) {
        const int q = (qs[j] >> shift & 15) | (b.qh[j] >> group & 1) << 4;
        dst[group * 32 + j] = scale * static_cast<float>(q) - min;
      }
    }
  }
}

void decode_q6_k(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / kSuper; ++i, dst += kSuper) {
    const auto b = load_block<BlockQ6_K>(src, i);
    const float d = f16_to_f32(b.d);
    for (int group = 0; group < 8;
         ++group) {  // of 32 elements, two scales; each 128 elements have their own bytes
      const uint8_t* low = b.ql + group / 4 * 64 + group % 2 * 32;
      const uint8_t* high = b.qh + group / 4 * 32;
      const int low_shift = group % 4 / 2 * 4, high_shift = group % 4 * 2;
      for (int j = 0; j < 32; ++j) {
        const float scale = d * static_cast<float>(b.scales[group * 2 + j / 16]);
        const int q = (low[j] >> low_shift & 15) | (high[j] >> high_shift & 3) << 4;
        dst[group * 32 + j] = scale * static_cast<float>(q - 32);
      }
    }
  }
}

// ---- 4 bits that index a table ------------------------------------------------------------------------

void decode_iq4_nl(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 32; ++i, dst += 32) {
    const auto b = load_block<BlockIQ4_NL>(src, i);
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < 16; ++j) {
      dst[j] = d * static_cast<float>(kIQ4Values[b.qs[j] & 15]);
      dst[j + 16] = d * static_cast<float>(kIQ4Values[b.qs[j] >> 4]);
    }
  }
}

void decode_iq4_xs(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / kSuper; ++i, dst += kSuper) {
    const auto b = load_block<BlockIQ4_XS>(src, i);
    const float d = f16_to_f32(b.d);
    for (int group = 0; group < 8; ++group) {  // of 32 elements; scale: 4 bits in scales_l, 2 in scales_h
      const int low = b.scales_l[group / 2] >> (group % 2 * 4) & 15;
      const int high = b.scales_h >> (group * 2) & 3;
      const float scale = d * static_cast<float>((low | high << 4) - 32);
      const uint8_t* qs = b.qs + group * 16;
      for (int j = 0; j < 16; ++j) {
        dst[group * 32 + j] = scale * static_cast<float>(kIQ4Values[qs[j] & 15]);
        dst[group * 32 + j + 16] = scale * static_cast<float>(kIQ4Values[qs[j] >> 4]);
      }
    }
  }
}

void decode_mxfp4(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 32; ++i, dst += 32) {
    const auto b = load_block<BlockMXFP4>(src, i);
    const float d = e8m0_scale(b.e);
    for (int j = 0; j < 16; ++j) {
      dst[j] = d * static_cast<float>(kFP4Values[b.qs[j] & 15]);
      dst[j + 16] = d * static_cast<float>(kFP4Values[b.qs[j] >> 4]);
    }
  }
}

void decode_nvfp4(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 64; ++i) {
    const auto b = load_block<BlockNVFP4>(src, i);
    for (int group = 0; group < 4; ++group, dst += 16) {  // of 16 elements in 8 bytes
      const float d = ue4m3_scale(b.scales[group]);
      for (int j = 0; j < 8; ++j) {
        dst[j] = d * static_cast<float>(kFP4Values[b.qs[group * 8 + j] & 15]);
        dst[j + 8] = d * static_cast<float>(kFP4Values[b.qs[group * 8 + j] >> 4]);
      }
    }
  }
}

// ---- one or two bits ----------------------------------------------------------------------------------

void decode_q1_0(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 128; ++i, dst += 128) {
    const auto b = load_block<BlockQ1_0>(src, i);
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < 128; ++j) dst[j] = b.qs[j / 8] >> (j % 8) & 1 ? d : -d;
  }
}

void decode_q2_0(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / 64; ++i, dst += 64) {
    const auto b = load_block<BlockQ2_0>(src, i);
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < 64; ++j) dst[j] = d * static_cast<float>((b.qs[j / 4] >> (j % 4 * 2) & 3) - 1);
  }
}

// Each byte has `digits` digits of base 3, the elements at a distance of `bytes`. The byte is 256 / 3^5 times
// their number, rounded up, so a digit is the integer part of 3 / 256 times the byte.
float* decode_ternary(float* dst, const uint8_t* qs, int bytes, int digits, float d) {
  int power = 1;
  for (int digit = 0; digit < digits; ++digit, power *= 3)
    for (int j = 0; j < bytes; ++j)
      *dst++ = d * static_cast<float>((static_cast<uint8_t>(qs[j] * power) * 3 >> 8) - 1);
  return dst;
}

void decode_tq1_0(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / kSuper; ++i) {
    const auto b = load_block<BlockTQ1_0>(src, i);
    const float d = f16_to_f32(b.d);
    dst = decode_ternary(dst, b.qs, 32, 5, d);
    dst = decode_ternary(dst, b.qs + 32, 16, 5, d);
    dst = decode_ternary(dst, b.qh, 4, 4, d);
  }
}

void decode_tq2_0(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / kSuper; ++i, dst += kSuper) {
    const auto b = load_block<BlockTQ2_0>(src, i);
    const float d = f16_to_f32(b.d);
    for (int j = 0; j < kSuper; ++j) {  // 4 groups of 32 elements share 32 bytes, two bits each
      const int q = b.qs[j / 128 * 32 + j % 32] >> (j % 128 / 32 * 2) & 3;
      dst[j] = d * static_cast<float>(q - 1);
    }
  }
}

// ---- codebooks ----------------------------------------------------------------------------------------

template <class Block, const int8_t (&values)[16]>
void decode_codebook(float* dst, const void* src, int64_t n) {
  for (int64_t i = 0; i < n / kSuper; ++i) {
    const auto b = load_block<Block>(src, i);
    const float unit = codebook::unit(b);
    for (int block = 0; block < kSuper / 32; ++block, dst += 32) {
      uint32_t words[8];
      codebook::codes(words, b, block);
      for (int j = 0; j < 32; ++j) {
        const float scale = unit * static_cast<float>(codebook::scale(b, 2 * block + j / 16));
        dst[j] = scale * static_cast<float>(values[words[j / 4] >> (j % 4 * 8) & 15]);
      }
    }
  }
}

}  // namespace

DecodeRow decode_row(DType type) {
  switch (type) {
    case DType::f32:
      return decode_f32;
    case DType::f16:
      return decode_f16;
    case DType::bf16:
      return decode_bf16;
    case DType::q4_0:
      return decode_q4_0;
    case DType::q4_1:
      return decode_q4_1;
    case DType::q5_0:
      return decode_q5_0;
    case DType::q5_1:
      return decode_q5_1;
    case DType::q8_0:
      return decode_q8_0;
    case DType::q2_k:
      return decode_q2_k;
    case DType::q3_k:
      return decode_q3_k;
    case DType::q4_k:
      return decode_q4_k;
    case DType::q5_k:
      return decode_q5_k;
    case DType::q6_k:
      return decode_q6_k;
    case DType::iq4_nl:
      return decode_iq4_nl;
    case DType::iq4_xs:
      return decode_iq4_xs;
    case DType::mxfp4:
      return decode_mxfp4;
    case DType::nvfp4:
      return decode_nvfp4;
    case DType::q1_0:
      return decode_q1_0;
    case DType::q2_0:
      return decode_q2_0;
    case DType::tq1_0:
      return decode_tq1_0;
    case DType::tq2_0:
      return decode_tq2_0;
    case DType::iq1_s:
      return decode_codebook<BlockIQ1_S, kIQ1Values>;
    case DType::iq1_m:
      return decode_codebook<BlockIQ1_M, kIQ1Values>;
    case DType::iq2_xxs:
      return decode_codebook<BlockIQ2_XXS, kIQ2Values>;
    case DType::iq2_xs:
      return decode_codebook<BlockIQ2_XS, kIQ2Values>;
    case DType::iq2_s:
      return decode_codebook<BlockIQ2_S, kIQ2Values>;
    case DType::iq3_xxs:
      return decode_codebook<BlockIQ3_XXS, kIQ3XxsValues>;
    case DType::iq3_s:
      return decode_codebook<BlockIQ3_S, kIQ3SValues>;
  }
  fail(Code::internal, "no decoder for tensor type ", static_cast<uint32_t>(type));
}

}  // namespace binhdan
