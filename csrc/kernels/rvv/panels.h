// Panels of the rvv table: 16 rows and 32 columns, column after column, because RVV 1.0 has no instruction that
// adds four products of bytes to a 32-bit lane. A column times one activation is one instruction for 16 rows. The
// size is that of the panels in kernels/panels.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/codec.h"
#include "kernels/panels.h"

namespace binhdan::rvv {

template <DType type>
struct ColumnPanel;

template <>
struct ColumnPanel<DType::q8_0> {
  using Block = BlockQ8_0;
  uint16_t d[kPanelRows];  // float16
  int8_t columns[32][kPanelRows];
};

// columns[c]: two's complement of four bits, column c in the low half, column c + 16 in the high half.
template <>
struct ColumnPanel<DType::q4_0> {
  using Block = BlockQ4_0;
  uint16_t d[kPanelRows];
  int8_t columns[16][kPanelRows];
};

static_assert(sizeof(ColumnPanel<DType::q8_0>) == sizeof(PanelQ8_0) &&
              sizeof(ColumnPanel<DType::q4_0>) == sizeof(PanelQ4_0));

// The row of panels that has row `row` of a matrix.
template <DType type>
[[gnu::always_inline]] inline const ColumnPanel<type>* row_of_panels(const void* packed, int64_t cols,
                                                                     int64_t row) {
  return static_cast<const ColumnPanel<type>*>(packed) + row / kPanelRows * (cols / 32);
}

}  // namespace binhdan::rvv
