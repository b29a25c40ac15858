// Encoders from float32 to GGUF blocks that minimise sum w (x - x')^2.
#pragma once
#include <cstdint>

#include "base/dtype.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace binhdan::encode {

// Whether encode_rows can write a type.
bool can_encode(DType type);

// Encodes rows of `cols` floats, cols a multiple of the type's block, into dst without padding. importance: w,
// one for each column, or nullptr for 1 in all; NaN, infinities and negative numbers count as 0. The bytes do
// not depend on the number of threads or the kernel table. F32, F16, BF16 and Q8_0 are rounded without a search.
// Throws Error(unsupported) if can_encode is false.
void encode_rows(DType type, const float* src, int64_t rows, int64_t cols, const float* importance, void* dst,
                 const KernelTable& table, ThreadPool& pool);

}  // namespace binhdan::encode
