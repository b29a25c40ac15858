// The kernels of the neon table.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/codec.h"
#include "kernels/kernels.h"
#include "kernels/panels.h"

namespace binhdan::neon {

// Types that have panels, and q8 activations.
template <DType type>
void matmul(const MatmulArgs& args);
template <DType type>
size_t scratch_size(int64_t rows, int64_t cols, int64_t m);

// Types read as file blocks, and float32 activations. n: elements, as for DecodeRow in codec.h.
void decode_f32(float* dst, const void* src, int64_t n);
void decode_f16(float* dst, const void* src, int64_t n);
void decode_bf16(float* dst, const void* src, int64_t n);
void matmul_f32(const MatmulArgs& args);
void matmul_f16(const MatmulArgs& args);
void matmul_bf16(const MatmulArgs& args);
size_t matmul_rows_scratch(int64_t rows, int64_t cols, int64_t m);

bool supported(const CpuFeatures& cpu);
void quantize_f32(void* dst, const float* x, int64_t n);
void quantize_q8(void* dst, const float* x, int64_t n);
void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps);
void rope(float* x, const float* cos_sin, int64_t dim, bool neox);
template <Nonlinearity f>
void apply(float* x, const float* factor, int64_t n);
void layer_norm(float* out, const float* x, const float* weight, const float* bias, int64_t n, float eps);
void softcap(float* x, float cap, int64_t n);
void add_scaled(float* x, const float* y, float factor, int64_t n);
void multiply(float* x, const float* y, int64_t n);
void conv(float* out, const float* const* rows, const float* weights, int64_t weight_stride, int64_t taps,
          int64_t n);
void add(float* x, const float* y, int64_t n);
void scale(float* x, float factor, int64_t n);
void add_products(float* x, const float* factors, const uint16_t* w, int64_t terms, int64_t n);
void to_f16(uint16_t* dst, const float* src, int64_t n);
void store_key(void* page, int64_t head_dim, int64_t token, const float* k);
void store_value(void* page, int64_t head_dim, int64_t token, const float* v);
void attention(const AttentionArgs& args);
void attention_q8(const AttentionArgs& args);
size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim);
void delta_step(const DeltaRuleArgs& args);
void delta_chunk(const DeltaRuleArgs& args);
int64_t peak_q8(int64_t rounds);
int64_t peak_f32(int64_t rounds);

}  // namespace binhdan::neon
