// The scalar table: portable C++, every kernel, the reference for the tests of other tables.
#pragma once
#include "kernels/scalar/functions.h"
#include "kernels/table_builder.h"

namespace binhdan::scalar {

template <DType type>
consteval MatmulKernel decoded_kernel() {
  return {.type = type,
          .panel_rows = 1,
          .gemv_input = Activation::f32,
          .gemm_input = Activation::f32,
          .gemv_equals_gemm = true,
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
          .gemv_input = Activation::q8,
          .gemm_input = Activation::q8,
          .gemv_equals_gemm = true,
          .packed_size = packed_size<type>,
          .pack = pack<type>,
          .get_row = get_row<type>,
          .gemv = matmul<type>,
          .gemm = matmul<type>,
          .scratch_size = nullptr};
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
#define SET(type, other) table.matmul[static_cast<size_t>(DType::type)].pack = pack<DType::type>;
  BINHDAN_REPACKED_TYPES(SET)
#undef SET
  set_repacked(table);
  table.quantize[static_cast<size_t>(Activation::f32)] = quantize_f32;
  table.quantize[static_cast<size_t>(Activation::q8)] = quantize_q8;
  table.rms_norm = rms_norm;
  table.rope = rope;
  table.layer_norm = layer_norm;
#define SET(f) set(table, Nonlinearity::f, apply<Nonlinearity::f>);
  BINHDAN_NONLINEARITIES(SET)
#undef SET
  table.softcap = softcap;
  table.add_scaled = add_scaled;
  table.multiply = multiply;
  table.conv = conv;
  table.add = add;
  table.scale = scale;
  table.to_f16 = to_f16;
  table.add_products = add_products;
  set(table, KvType::f16, {store_key, store_value, attention, attention, nullptr});
  set(table, KvType::q8_0, {store_key_q8, store_value_q8, attention_q8, attention_q8, nullptr});
  table.delta_step = table.delta_chunk = delta_step;
  table.candidates = {scale_sums, line_sums, scale_errors, line_errors};
  return table;
}

}  // namespace binhdan::scalar
