// The rvv table: 64-bit RISC-V with version 1.0 of the V extension, whose registers have at least 128 bits. Types
// other than Q8_0 and Q4_0 have the scalar table's matrix products.
#include "kernels/scalar/table.h"
#include "kernels/rvv/functions.h"
#include "kernels/tables.h"

namespace binhdan {
namespace rvv {
namespace {

bool supported(const CpuFeatures& cpu) {
  return cpu.rvv;
}

template <DType type>
consteval MatmulKernel kernel() {
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
  KernelTable table = scalar::table();
  table.isa = "rvv";
  table.supported = supported;
  set(table, kernel<DType::q8_0>());
  set(table, kernel<DType::q4_0>());
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
  set_attention(table, KvType::f16, attention, nullptr);
  set_attention(table, KvType::q8_0, attention_q8, attention_q8_scratch_size);
  table.delta_step = delta_step;
  table.delta_chunk = delta_chunk;
  table.peak[static_cast<size_t>(Activation::q8)] = peak_q8;
  table.peak[static_cast<size_t>(Activation::f32)] = peak_f32;
  return table;
}

}  // namespace
}  // namespace rvv

constinit const KernelTable kRvvTable = rvv::table();

}  // namespace binhdan
