// The avx2 table: AVX2 with FMA, F16C and BMI2 (Haswell 2013, Zen 2017). Packing and row access are the
// scalar table's.
#pragma once
#include "kernels/avx2/functions.h"
#include "kernels/scalar/table.h"
#include "kernels/table_builder.h"

namespace binhdan::avx2 {

consteval KernelTable table() {
  KernelTable table = scalar::table();
  table.isa = "avx2";
  table.supported = supported;
  set_matmul(table, DType::f32, matmul_f32, matmul_rows_scratch);
  set_matmul(table, DType::f16, matmul_f16, matmul_rows_scratch);
  set_matmul(table, DType::bf16, matmul_bf16, matmul_rows_scratch);
#define SET(type) set_matmul(table, DType::type, matmul<DType::type>, scratch_size<DType::type>);
  BINHDAN_PANEL_TYPES(SET)
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
  set_attention(table, KvType::f16, attention, nullptr);
  set_attention(table, KvType::q8_0, attention_q8, attention_q8_scratch_size);
  table.attention[static_cast<size_t>(KvType::f16)].store_key = store_key;
  table.attention[static_cast<size_t>(KvType::f16)].store_value = store_value;
  table.delta_step = delta_step;
  table.delta_chunk = delta_chunk;
  table.peak[static_cast<size_t>(Activation::q8)] = peak_q8;
  table.peak[static_cast<size_t>(Activation::f32)] = peak_f32;
  table.candidates = {scale_sums, line_sums, scale_errors, line_errors};
  return table;
}

}  // namespace binhdan::avx2
