// The amx table: Sapphire Rapids (2023) and later. Prefill, attention and batches of 12 rows and more use
// tiles; fewer decode rows use the kernels of the avx512vnni table.
#include "kernels/avx512/table.h"
#include "kernels/amx/functions.h"
#include "kernels/tables.h"

namespace binhdan {
namespace amx {
namespace {

template <DType type>
consteval void set_panels(KernelTable& table) {
  MatmulKernel& kernel = table.matmul[static_cast<size_t>(type)];
  kernel.gemm_input = Activation::bf16;
  kernel.gemv_equals_gemm = false;
  kernel.gemv = gemv<type>;
  kernel.gemm = gemm<type>;
  kernel.scratch_size = scratch_size<type>;
}

consteval KernelTable make_table() {
  KernelTable table = avx512::table();
  table.isa = "amx";
  table.supported = supported;
#define SET(type) set_panels<DType::type>(table);
  BINHDAN_PANEL_TYPES(SET)
#undef SET
  set_repacked(table);
  table.quantize[static_cast<size_t>(Activation::bf16)] = quantize_bf16;
  table.peak[static_cast<size_t>(Activation::bf16)] = peak_bf16;
  set(table, KvType::f16, {store_key, store_value, attention, attention, attention_scratch_size});
  set_attention(table, KvType::q8_0, attention_q8, attention_q8_scratch_size);
  return table;
}

}  // namespace

bool supported(const CpuFeatures& cpu) {
  return avx512::supported(cpu) && cpu.avx512_vbmi && cpu.avx512_bf16 && cpu.amx && request_amx();
}

}  // namespace amx

constinit const KernelTable kAmxTable = amx::make_table();

}  // namespace binhdan
