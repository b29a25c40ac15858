// Row codecs between float32 and GGUF's block types: the plain statement of each format, in portable C++.
// Formats: ggml's ggml-quants.c and its Python twin, gguf-py's quants.py. Built with -ffp-contract=off.
#pragma once
#include <cstdint>

#include "base/dtype.h"

namespace binhdan {

// n: elements, a multiple of the type's block. src and dst need not be aligned where they are void.
using DecodeRow = void (*)(float* dst, const void* src, int64_t n);
using EncodeRow = void (*)(void* dst, const float* src, int64_t n);

// Bit-exact against gguf-py's dequantize for every block there can be, NaN scales included (a NaN stays a NaN).
DecodeRow decode_row(DType type);
// Bit-exact against gguf-py's quantize for finite input. In a Q8_0 or Q4_0 block with a scale below 2^-126 the codes
// mean zero; where there are NaN or infinities the codes are in range and the block's values are unspecified.
// nullptr for types that binhdan does not write yet (F32, F16, BF16, Q8_0, Q4_0 are written).
EncodeRow encode_row(DType type);

// What the codes of IQ4_NL and IQ4_XS stand for.
inline constexpr int8_t kIQ4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

}  // namespace binhdan
