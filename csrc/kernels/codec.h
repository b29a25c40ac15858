// Row codecs between float32 and GGUF's block types: the plain statement of each format, in portable C++.
// Formats: ggml's ggml-quants.c and its Python twin, gguf-py's quants.py. Built with -ffp-contract=off.
#pragma once
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace binhdan {

// Block i of a row of file blocks, which may lie at any address.
template <typename Block>
Block load_block(const void* row, int64_t i) {
  Block block;
  std::memcpy(&block, static_cast<const char*>(row) + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
  return block;
}

// n: elements, a multiple of the type's block. src and dst need not be aligned where they are void.
using DecodeRow = void (*)(float* dst, const void* src, int64_t n);
using EncodeRow = void (*)(void* dst, const float* src, int64_t n);

// Bit-exact against gguf-py's dequantize for every block there can be; a NaN scale gives NaN.
DecodeRow decode_row(DType type);
// nullptr for types that binhdan does not write yet: F32, F16, BF16, Q8_0, Q4_0 are written.
// Bit-exact against gguf-py's quantize for finite input with scales that can be divided by (above 2^-128);
// smaller scales give zeros. A block of Q8_0 or Q4_0 with a NaN or an infinity gets unspecified values.
EncodeRow encode_row(DType type);

// What the codes of IQ4_NL and IQ4_XS stand for.
inline constexpr int8_t kIQ4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace binhdan
