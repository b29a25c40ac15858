// The kernels of the scalar table, with which every other table starts.
#pragma once
#include "kernels/kernels.h"
#include "kernels/panels.h"

namespace binhdan::scalar {

// Floating-point types, read as file blocks, and float32 activations: each weight row is decoded once for all
// m rows.
template <DType type>
void matmul_decoded(const MatmulArgs& args);
template <DType type>
void get_row_decoded(float* dst, const void* weights, int64_t rows, int64_t cols, int64_t row);
size_t scratch_size_decoded(int64_t rows, int64_t cols, int64_t m);

// Types that have panels (panels.h), and q8 activations.
template <DType type>
size_t packed_size(int64_t rows, int64_t cols);
template <DType type>
void pack(void* packed, const void* src, int64_t rows, int64_t cols, int64_t row_begin, int64_t row_end);
template <DType type>
void get_row(float* dst, const void* packed, int64_t rows, int64_t cols, int64_t row);
template <DType type>
void matmul(const MatmulArgs& args);

bool supported(const CpuFeatures& cpu);  // always
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
void store_key_q8(void* page, int64_t head_dim, int64_t token, const float* k);
void store_value_q8(void* page, int64_t head_dim, int64_t token, const float* v);
void attention(const AttentionArgs& args);
void attention_q8(const AttentionArgs& args);
void delta_step(const DeltaRuleArgs& args);
void scale_sums(CandidateSums& out, const CandidateArgs& args);
void line_sums(CandidateSums& out, const CandidateArgs& args);
void scale_errors(Candidates& out, const CandidateArgs& args);
void line_errors(Candidates& out, const CandidateArgs& args);

}  // namespace binhdan::scalar
