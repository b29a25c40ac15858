// Row codecs between float32 and GGUF's block types: the plain statement of each format, in portable C++.
// decode is bit-exact against gguf-py's dequantizers (built with -ffp-contract=off).
#pragma once
#include <cstdint>

#include "base/dtype.h"

namespace binhdan {

// n: elements, a multiple of the type's block. src need not be aligned.
using DecodeRow = void (*)(float* dst, const void* src, int64_t n);
using EncodeRow = void (*)(void* dst, const float* src, int64_t n);

DecodeRow decode_row(DType type);
// nullptr for types that binhdan does not write yet (F32, F16, BF16, Q8_0, Q4_0 are written).
EncodeRow encode_row(DType type);

}  // namespace binhdan
