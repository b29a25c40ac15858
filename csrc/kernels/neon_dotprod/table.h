// The neon_dotprod table: NEON with the dot product extension (Cortex-A55, Cortex-A76, Apple A13). It
// replaces the products of panels in the neon table.
#pragma once
#include "kernels/neon/table.h"
#include "kernels/neon_dotprod/functions.h"

namespace binhdan::neon_dotprod {

consteval KernelTable table() {
  KernelTable table = neon::table();
  table.isa = "neon_dotprod";
  table.supported = supported;
#define SET(type) set_matmul(table, DType::type, matmul<DType::type>, scratch_size<DType::type>);
  BINHDAN_PANEL_TYPES(SET)
#undef SET
  set_repacked(table);
  table.peak[static_cast<size_t>(Activation::q8)] = peak_q8;
  return table;
}

}  // namespace binhdan::neon_dotprod
