// The portable kernels by name, and their table as a constant that other tables copy and improve:
//     consteval KernelTable avx2_table() { KernelTable table = scalar::table(); table.add = ...; return
//     table; }
// consteval, because a function compiled with -mavx2 must not be the one that the linker keeps for every CPU.
#pragma once
#include "kernels/kernels.h"
#include "kernels/panels.h"

namespace binhdan::scalar {

// Floating-point types where they lie in the file, float32 activations: each weight row is decoded once for
// all m rows.
template <DType type>
void matmul_decoded(const MatmulArgs& args);
template <DType type>
void get_row_decoded(float* dst, const void* weights, int64_t rows, int64_t cols, int64_t row);
size_t scratch_size_decoded(int64_t rows, int64_t cols, int64_t m);

// Types that have panels (panels.h), q8 activations.
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
void silu_mul(float* gate, const float* up, int64_t n);
void add(float* x, const float* y, int64_t n);
void scale(float* x, float factor, int64_t n);
void to_f16(uint16_t* dst, const float* src, int64_t n);
void store_key(void* page, int64_t head_dim, int64_t token, const float* k);
void store_value(void* page, int64_t head_dim, int64_t token, const float* v);
void store_key_q8(void* page, int64_t head_dim, int64_t token, const float* k);
void store_value_q8(void* page, int64_t head_dim, int64_t token, const float* v);
void attention(const AttentionArgs& args);
void attention_q8(const AttentionArgs& args);

template <DType type>
consteval MatmulKernel decoded_kernel() {
  return {.type = type,
          .panel_rows = 1,
          .few = Activation::f32,
          .many = Activation::f32,
          .one_class = true,
          .packed_size = nullptr,
          .pack = nullptr,
          .get_row = get_row_decoded<type>,
          .gemv = matmul_decoded<type>,
          .gemm = matmul_decoded<type>,
          .scratch_size = scratch_size_decoded};
}

template <DType type>
consteval MatmulKernel panel_kernel() {
  return {.type = type,
          .panel_rows = kPanelRows,
          .few = Activation::q8,
          .many = Activation::q8,
          .one_class = true,
          .packed_size = packed_size<type>,
          .pack = pack<type>,
          .get_row = get_row<type>,
          .gemv = matmul<type>,
          .gemm = matmul<type>,
          .scratch_size = nullptr};
}

consteval void set(KernelTable& table, const MatmulKernel& kernel) {
  table.matmul[static_cast<size_t>(kernel.type)] = kernel;
}

consteval void set(KernelTable& table, KvType type, const AttentionKernel& kernel) {
  table.attention[static_cast<size_t>(type)] = kernel;
}

consteval KernelTable table() {
  KernelTable table{};
  table.isa = "scalar";
  table.supported = supported;
  set(table, decoded_kernel<DType::f32>());
  set(table, decoded_kernel<DType::f16>());
  set(table, decoded_kernel<DType::bf16>());
#define SET(type) set(table, panel_kernel<DType::type>());
  BINHDAN_PANEL_TYPES(SET)
#undef SET
  table.quantize[static_cast<size_t>(Activation::f32)] = quantize_f32;
  table.quantize[static_cast<size_t>(Activation::q8)] = quantize_q8;
  table.rms_norm = rms_norm;
  table.rope = rope;
  table.silu_mul = silu_mul;
  table.add = add;
  table.scale = scale;
  table.to_f16 = to_f16;
  set(table, KvType::f16, {store_key, store_value, attention, attention, nullptr});
  set(table, KvType::q8_0, {store_key_q8, store_value_q8, attention_q8, attention_q8, nullptr});
  return table;
}

}  // namespace binhdan::scalar
