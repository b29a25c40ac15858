// Row codecs between float32 and GGUF's block types: the reference of each format, in portable C++.
// Formats: ggml's ggml-quants.c and its Python twin, gguf-py's quants.py. Built with -ffp-contract=off.
#pragma once
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

// The values that the quants of IQ4_NL and IQ4_XS stand for.
inline constexpr int8_t kIQ4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace binhdan
