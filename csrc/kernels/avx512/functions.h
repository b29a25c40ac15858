// The kernels of the avx512vnni table.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/panels.h"

namespace binhdan::avx512 {

// Types that have panels, and q8 activations. Up to kMaxGemvRows rows read the panels once, at memory speed.
inline constexpr int kMaxGemvRows = 8;
template <DType type>
void matmul(const MatmulArgs& args);
template <DType type>
size_t scratch_size(int64_t rows, int64_t cols, int64_t m);

void quantize_q8(void* dst, const float* x, int64_t n);
void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps);
template <Nonlinearity f>
void apply(float* x, const float* factor, int64_t n);
void layer_norm(float* out, const float* x, const float* weight, const float* bias, int64_t n, float eps);
void softcap(float* x, float cap, int64_t n);
void add_scaled(float* x, const float* y, float factor, int64_t n);
void multiply(float* x, const float* y, int64_t n);
void conv(float* out, const float* const* rows, const float* weights, int64_t weight_stride, int64_t taps,
          int64_t n);
void add_products(float* x, const float* factors, const uint16_t* w, int64_t terms, int64_t n);
void to_f16(uint16_t* dst, const float* src, int64_t n);
void attention(const AttentionArgs& args);
void attention_q8(const AttentionArgs& args);
size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim);
void delta_step(const DeltaRuleArgs& args);
void delta_chunk(const DeltaRuleArgs& args);

bool supported(const CpuFeatures& cpu);
int64_t peak_q8(int64_t rounds);
void scale_sums(CandidateSums& out, const CandidateArgs& args);
void line_sums(CandidateSums& out, const CandidateArgs& args);
void scale_errors(Candidates& out, const CandidateArgs& args);
void line_errors(Candidates& out, const CandidateArgs& args);

}  // namespace binhdan::avx512
