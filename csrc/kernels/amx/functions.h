// The kernels of the amx table.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/panels.h"

namespace binhdan::amx {

// Types that have panels, and bf16 activations.
template <DType type>
void gemm(const MatmulArgs& args);
// Types that have panels, and q8 activations. The bits equal those of avx512::matmul.
template <DType type>
void gemv(const MatmulArgs& args);
template <DType type>
size_t gemv_scratch_size(int64_t cols);
// The maximum over gemm, gemv, and avx512::matmul, which gemv calls.
template <DType type>
size_t scratch_size(int64_t rows, int64_t cols, int64_t m);

int64_t peak_bf16(int64_t rounds);
void quantize_bf16(void* dst, const float* x, int64_t n);
void store_key(void* page, int64_t head_dim, int64_t token, const float* k);
void store_value(void* page, int64_t head_dim, int64_t token, const float* v);
void attention(const AttentionArgs& args);
void attention_q8(const AttentionArgs& args);
size_t attention_scratch_size(int64_t rows, int64_t heads, int64_t head_dim);
size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim);
bool supported(const CpuFeatures& cpu);

}  // namespace binhdan::amx
