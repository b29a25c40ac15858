// The kernels of the rvv table.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace binhdan::rvv {

// Q8_0 and Q4_0 in panels of their own (panels.h), and q8 activations.
template <DType type>
size_t packed_size(int64_t rows, int64_t cols);
template <DType type>
void pack(void* packed, const void* src, int64_t rows, int64_t cols, int64_t row_begin, int64_t row_end);
template <DType type>
void get_row(float* dst, const void* packed, int64_t rows, int64_t cols, int64_t row);
template <DType type>
void matmul(const MatmulArgs& args);

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
void attention(const AttentionArgs& args);
void attention_q8(const AttentionArgs& args);
size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim);
void delta_step(const DeltaRuleArgs& args);
void delta_chunk(const DeltaRuleArgs& args);
int64_t peak_q8(int64_t rounds);
int64_t peak_f32(int64_t rounds);

}  // namespace binhdan::rvv
