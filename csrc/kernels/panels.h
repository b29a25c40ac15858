// Packed layouts: 16 rows of a matrix lie interleaved, so that one 32-bit lane of a vector register is one
// output row and holds four neighbouring columns (what AVX2 maddubs, VNNI vpdpbusd, NEON sdot and AMX tiles
// all take; AVX2 reads a group as 2 x 8 rows, NEON as 4 x 4). Each 16 rows of a matrix are a row of panels,
// one for every 32 columns.
#pragma once
#include <cstdint>

namespace binhdan {

inline constexpr int kPanelRows = 16;

struct PanelQ8_0 {              // one block of 32 columns x 16 rows
  uint16_t d[kPanelRows];       // float16 scales
  int8_t qs[8][kPanelRows][4];  // [column / 4][row][column % 4]
};
struct PanelQ4_0 {
  uint16_t d[kPanelRows];
  // [g][row][c]: low nibble = column 4 g + c, high nibble = column 16 + 4 g + c
  uint8_t qs[4][kPanelRows][4];
};
static_assert(sizeof(PanelQ8_0) == 16 * 34 && sizeof(PanelQ4_0) == 16 * 18);

}  // namespace binhdan
