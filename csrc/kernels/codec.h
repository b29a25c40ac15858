// Row codecs between float32 and GGUF's block types: the reference of each format, in portable C++.
// Formats: ggml's ggml-quants.c and its Python twin, gguf-py's quants.py. Built with -ffp-contract=off.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace binhdan {

// Block i of a row of file blocks, which need not be aligned.
template <typename Block>
Block load_block(const void* row, int64_t i) {
  Block block;
  std::memcpy(&block, static_cast<const char*>(row) + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
  return block;
}

// n: elements, a multiple of the type's block. Void pointers need not be aligned.
using DecodeRow = void (*)(float* dst, const void* src, int64_t n);
using EncodeRow = void (*)(void* dst, const float* src, int64_t n);

// Equal to gguf-py's dequantize bit for bit, for every content of a block; a NaN scale decodes to NaN.
DecodeRow decode_row(DType type);
// F32, F16, BF16, Q8_0 and Q4_0; nullptr for other types, which binhdan does not write yet.
// Equal to gguf-py's quantize bit for bit for finite input with scales above 2^-128; smaller scales encode
// zeros. A block of Q8_0 or Q4_0 with a NaN or an infinity gets unspecified values.
EncodeRow encode_row(DType type);

// ---- values of quants ---------------------------------------------------------------------------------
// Entries that no quant of a file selects are 0.

// IQ4_NL and IQ4_XS.
inline constexpr int8_t kIQ4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// E2M1 times 2: MXFP4 and NVFP4. Bit 3 is the sign.
inline constexpr int8_t kFP4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
// The codebook types (codebook.h). The highest bit of a code is the sign; in IQ1 it is the sign of delta, and
// the value is 8 (grid + delta) with grid -1, 0, 1 and delta 1/8.
inline constexpr int8_t kIQ1Values[16] = {-7, 1, 9, 0, -9, -1, 7};
inline constexpr int8_t kIQ2Values[16] = {8, 25, 43, 0, -8, -25, -43};
inline constexpr int8_t kIQ3XxsValues[16] = {4,  12,  20,  28,  36,  44,  52,  62,
                                             -4, -12, -20, -28, -36, -44, -52, -62};
inline constexpr int8_t kIQ3SValues[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};

// ---- scales of 8 bits ---------------------------------------------------------------------------------
// Both are half of the standard's value, because kFP4Values are doubled.

// E8M0: 2^(e - 128). The two smallest are subnormal in float32. 255, NaN in the standard, is 2^127 in ggml.
inline float e8m0_scale(uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1u) << 23);
}

// UE4M3: 4 bits of exponent, 3 of mantissa; the sign bit is ignored. 127, NaN in the standard, is 0 in ggml.
inline float ue4m3_scale(uint8_t bits) {
  if (bits == 127) return 0.0f;
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  return static_cast<float>(exponent == 0 ? mantissa : (8 + mantissa) << (exponent - 1)) * 0x1p-10f;
}

}  // namespace binhdan
