// The neon_i8mm table: the dot product extension and 8-bit matrix products (Cortex-A510, A710, Neoverse V1,
// Apple M2). It replaces the products of panels in the neon_dotprod table.
#include "kernels/neon_dotprod/table.h"
#include "kernels/neon_i8mm/functions.h"
#include "kernels/tables.h"

namespace binhdan {
namespace neon_i8mm {
namespace {

bool supported(const CpuFeatures& cpu) {
  return cpu.dotprod && cpu.i8mm;
}

consteval KernelTable table() {
  KernelTable table = neon_dotprod::table();
  table.isa = "neon_i8mm";
  table.supported = supported;
#define SET(type) set_matmul(table, DType::type, matmul<DType::type>, scratch_size<DType::type>);
  BINHDAN_PANEL_TYPES(SET)
#undef SET
  set_repacked(table);
  table.peak[static_cast<size_t>(Activation::q8)] = peak_q8;
  return table;
}

}  // namespace
}  // namespace neon_i8mm

constinit const KernelTable kNeonI8mmTable = neon_i8mm::table();

}  // namespace binhdan
