// The avx512vnni table: AVX-512 F, BW, CD, DQ, VL and VNNI (Ice Lake 2019, Zen 4 2022).
#pragma once
#include "kernels/avx2/table.h"
#include "kernels/avx512/functions.h"

namespace binhdan::avx512 {

consteval KernelTable table() {
  KernelTable table = avx2::table();
  table.isa = "avx512vnni";
  table.supported = supported;
#define SET(type) set_matmul(table, DType::type, matmul<DType::type>, scratch_size<DType::type>);
  BINHDAN_PANEL_TYPES(SET)
#undef SET
  set_repacked(table);
  table.quantize[static_cast<size_t>(Activation::q8)] = quantize_q8;
  table.rms_norm = rms_norm;
  table.layer_norm = layer_norm;
#define SET(f) set(table, Nonlinearity::f, apply<Nonlinearity::f>);
  BINHDAN_NONLINEARITIES(SET)
#undef SET
  table.softcap = softcap;
  table.add_scaled = add_scaled;
  table.multiply = multiply;
  table.conv = conv;
  table.to_f16 = to_f16;
  table.add_products = add_products;
  set_attention(table, KvType::f16, attention, nullptr);
  set_attention(table, KvType::q8_0, attention_q8, attention_q8_scratch_size);
  table.delta_step = delta_step;
  table.delta_chunk = delta_chunk;
  table.peak[static_cast<size_t>(Activation::q8)] = peak_q8;
  table.candidates = {scale_sums, line_sums, scale_errors, line_errors};
  return table;
}

}  // namespace binhdan::avx512
