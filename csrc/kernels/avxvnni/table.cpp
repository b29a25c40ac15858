// The avxvnni table: AVX2 with the 256-bit form of vpdpbusd (Alder Lake 2021, Zen 5 2024, and small cores
// since Gracemont). It replaces the products of panels in the avx2 table.
#include "kernels/avx2/table.h"
#include "kernels/avxvnni/functions.h"
#include "kernels/tables.h"

namespace binhdan {
namespace avxvnni {
namespace {

bool supported(const CpuFeatures& cpu) {
  return cpu.avx_vnni;
}

consteval KernelTable table() {
  KernelTable table = avx2::table();
  table.isa = "avxvnni";
  table.supported = supported;
#define SET(type) set_matmul(table, DType::type, matmul<DType::type>, scratch_size<DType::type>);
  BINHDAN_PANEL_TYPES(SET)
#undef SET
  set_repacked(table);
  table.peak[static_cast<size_t>(Activation::q8)] = peak_q8;
  return table;
}

}  // namespace
}  // namespace avxvnni

constinit const KernelTable kAvxvnniTable = avxvnni::table();

}  // namespace binhdan
