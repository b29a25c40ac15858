// File blocks to panels of columns, and a row of panels to floats.
#include "kernels/rvv/functions.h"
#include "kernels/rvv/panels.h"
#include "kernels/rvv/registers.h"

namespace binhdan::rvv {
namespace {

BINHDAN_INLINE void store_row(ColumnPanel<DType::q8_0>& panel, int row, const BlockQ8_0& block) {
  panel.d[row] = block.d;
  for (int c = 0; c < 32; ++c) panel.columns[c][row] = block.qs[c];
}

// The file's nibbles are the value plus 8.
BINHDAN_INLINE void store_row(ColumnPanel<DType::q4_0>& panel, int row, const BlockQ4_0& block) {
  panel.d[row] = block.d;
  for (int c = 0; c < 16; ++c) panel.columns[c][row] = static_cast<int8_t>(block.qs[c] ^ 0x88);
}

BINHDAN_INLINE int value(const ColumnPanel<DType::q8_0>& panel, int row, int c) {
  return panel.columns[c][row];
}
BINHDAN_INLINE int value(const ColumnPanel<DType::q4_0>& panel, int row, int c) {
  const int both = panel.columns[c % 16][row];
  return c < 16 ? ((both & 15) ^ 8) - 8 : both >> 4;
}

template <DType type>
BINHDAN_INLINE void pack_rows(void* packed, const void* src, int64_t rows, int64_t cols, int64_t row_begin,
                              int64_t row_end) {
  using Block = typename ColumnPanel<type>::Block;
  const int64_t blocks = cols / 32;
  auto* panels = static_cast<ColumnPanel<type>*>(packed) + row_begin / kPanelRows * blocks;
  for (int64_t first = row_begin; first < row_end; first += kPanelRows, panels += blocks)
    for (int64_t b = 0; b < blocks; ++b)
      for (int row = 0; row < kPanelRows; ++row) {
        Block block = {};
        if (first + row < rows)
          __builtin_memcpy(&block, static_cast<const Block*>(src) + (first + row) * blocks + b, sizeof block);
        store_row(panels[b], row, block);
      }
}

template <DType type>
BINHDAN_INLINE void decode_row(float* dst, const void* packed, int64_t cols, int64_t row) {
  const ColumnPanel<type>* panels = row_of_panels<type>(packed, cols, row);
  const auto in_panel = static_cast<int>(row % kPanelRows);
  for (int64_t b = 0; b < cols / 32; ++b) {
    float d[kPanelRows];
    __riscv_vse32(d, load_f16<Vlen128>(panels[b].d), kRowLanes);
    for (int c = 0; c < 32; ++c)
      dst[32 * b + c] = static_cast<float>(value(panels[b], in_panel, c)) * d[in_panel];
  }
}

}  // namespace

// Specializations, because an instantiation would be a weak symbol (.ci/check_objects.py).
#define PACK(type)                                                                                     \
  template <>                                                                                          \
  size_t packed_size<DType::type>(int64_t rows, int64_t cols) {                                        \
    return static_cast<size_t>((rows + kPanelRows - 1) / kPanelRows * (cols / 32)) *                   \
           sizeof(ColumnPanel<DType::type>);                                                           \
  }                                                                                                    \
  template <>                                                                                          \
  void pack<DType::type>(void* packed, const void* src, int64_t rows, int64_t cols, int64_t row_begin, \
                         int64_t row_end) {                                                            \
    pack_rows<DType::type>(packed, src, rows, cols, row_begin, row_end);                               \
  }                                                                                                    \
  template <>                                                                                          \
  void get_row<DType::type>(float* dst, const void* packed, int64_t, int64_t cols, int64_t row) {      \
    decode_row<DType::type>(dst, packed, cols, row);                                                   \
  }
PACK(q8_0)
PACK(q4_0)
#undef PACK

}  // namespace binhdan::rvv
