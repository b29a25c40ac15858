// Packs file blocks into panels, for every table. The quants of a block are first expanded to a byte each
// (Words), then stored in the layout of the panel. 16 rows of the file are read in parallel; panels are
// written in order.
//
// Blocks are read in place: GGUF aligns tensors to 8 bytes or more, and block sizes are even. A copy of each
// block would cost two thirds of the speed, because its loads wait for its stores. Speed: 1.5 to 5 GB/s on
// one core.
#include <algorithm>

#include "kernels/scalar/functions.h"
#include "kernels/scalar/panels.h"

namespace binhdan::scalar {
namespace {

// ---- quants of 32 columns -----------------------------------------------------------------------------

// 16 bytes: the low nibbles are columns 0 .. 15, the high nibbles 16 .. 31.
void nibble_halves(Words& quants, const uint8_t* qs) {
  for (int g = 0; g < 4; ++g) {
    const uint32_t both = load_word(qs + 4 * g);
    quants[g] = both & repeat_byte(15);
    quants[g + 4] = both >> 4 & repeat_byte(15);
  }
}

// ORs `width` bits of each of 32 bytes into the quants at bit `to`.
void add_bits(Words& quants, const uint8_t* bytes, int shift, int width, int to) {
  for (int g = 0; g < 8; ++g)
    quants[g] |= (load_word(bytes + 4 * g) >> shift & repeat_byte(static_cast<uint8_t>((1 << width) - 1)))
                 << to;
}

// Bit j of qh is the fifth bit of column j. The product moves four neighbouring bits into four bytes.
void add_fifth_bits(Words& quants, const uint8_t (&qh)[4]) {
  for (int g = 0; g < 8; ++g) {
    const uint32_t four = qh[g / 2] >> (g % 2 * 4) & 15;
    quants[g] |= (four * 0x00204081 & repeat_byte(1)) << 4;
  }
}

void expand(Words& quants, const BlockQ8_0& b, int) {
  std::memcpy(quants, b.qs, sizeof b.qs);
}
void expand(Words& quants, const BlockQ4_0& b, int) {
  nibble_halves(quants, b.qs);
}
void expand(Words& quants, const BlockQ4_1& b, int) {
  nibble_halves(quants, b.qs);
}
void expand(Words& quants, const BlockIQ4_NL& b, int) {
  nibble_halves(quants, b.qs);
}
void expand(Words& quants, const BlockIQ4_XS& b, int block) {
  nibble_halves(quants, b.qs + 16 * block);
}
void expand(Words& quants, const BlockQ5_0& b, int) {
  nibble_halves(quants, b.qs);
  add_fifth_bits(quants, b.qh);
}
void expand(Words& quants, const BlockQ5_1& b, int) {
  nibble_halves(quants, b.qs);
  add_fifth_bits(quants, b.qh);
}
void expand(Words& quants, const BlockQ2_K& b, int block) {
  add_bits(quants, b.qs + block / 4 * 32, block % 4 * 2, 2, 0);
}
void expand(Words& quants, const BlockQ3_K& b, int block) {
  add_bits(quants, b.qs + block / 4 * 32, block % 4 * 2, 2, 0);
  add_bits(quants, b.hmask, block, 1, 2);
}
void expand(Words& quants, const BlockQ4_K& b, int block) {
  add_bits(quants, b.qs + block / 2 * 32, block % 2 * 4, 4, 0);
}
void expand(Words& quants, const BlockQ5_K& b, int block) {
  add_bits(quants, b.qs + block / 2 * 32, block % 2 * 4, 4, 0);
  add_bits(quants, b.qh, block, 1, 4);
}
void expand(Words& quants, const BlockQ6_K& b, int block) {
  add_bits(quants, b.ql + block / 4 * 64 + block % 2 * 32, block % 4 / 2 * 4, 4, 0);
  add_bits(quants, b.qh + block / 4 * 32, block % 4 * 2, 2, 4);
}

// ---- scales -------------------------------------------------------------------------------------------

template <class C, class Block>
void store_scales(PanelD<C>& panel, int row, const Block& b) {
  panel.d[row] = b.d;
}

template <class C, class Block>
void store_scales(PanelDM<C>& panel, int row, const Block& b) {
  panel.d[row] = b.d;
  panel.m[row] = b.m;
}

// Four bits in scales_l, two in scales_h; minus 32.
void store_scales(SuperPanel32<Quants4>& panel, int row, const BlockIQ4_XS& b) {
  panel.d[row] = b.d;
  for (int block = 0; block < kSuperBlocks; ++block) {
    const int low = b.scales_l[block / 2] >> (block % 2 * 4) & 15;
    const int high = b.scales_h >> (block * 2) & 3;
    panel.scales[block][row] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

// Six bits each: blocks 0 .. 3 in the low bits of bytes 0 .. 3 (scales) and 4 .. 7 (minimums), blocks 4 .. 7
// with low nibbles in bytes 8 .. 11 and the two above at the top of the bytes of blocks 0 .. 3.
template <class C, class Block>
void store_scales(SuperPanel32M<C>& panel, int row, const Block& b) {
  panel.d[row] = b.d;
  panel.dmin[row] = b.dmin;
  const uint8_t* s = b.scales;
  for (int i = 0; i < 4; ++i) {
    panel.scales[i][row] = s[i] & 63;
    panel.mins[i][row] = s[i + 4] & 63;
    panel.scales[i + 4][row] = static_cast<uint8_t>((s[i + 8] & 15) | s[i] >> 6 << 4);
    panel.mins[i + 4][row] = static_cast<uint8_t>(s[i + 8] >> 4 | s[i + 4] >> 6 << 4);
  }
}

void store_scales(SuperPanel16<Quants6>& panel, int row, const BlockQ6_K& b) {
  panel.d[row] = b.d;
  for (int i = 0; i < 16; ++i) panel.scales[i / 2][i % 2][row] = b.scales[i];
}

// Low nibbles are in bytes 0 .. 7, the two bits above in bytes 8 .. 11; minus 32.
void store_scales(SuperPanel16<Quants3>& panel, int row, const BlockQ3_K& b) {
  panel.d[row] = b.d;
  for (int i = 0; i < 16; ++i) {
    const int low = b.scales[i % 8] >> (i / 8 * 4) & 15;
    const int high = b.scales[8 + i % 4] >> (i / 4 * 2) & 3;
    panel.scales[i / 2][i % 2][row] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

void store_scales(SuperPanel16M<Quants2>& panel, int row, const BlockQ2_K& b) {
  panel.d[row] = b.d;
  panel.dmin[row] = b.dmin;
  for (int i = 0; i < 16; ++i) panel.scales[i / 2][i % 2][row] = b.scales[i];
}

// ---- matrices -----------------------------------------------------------------------------------------

template <DType type>
struct FileBlock;
// clang-format off
template <> struct FileBlock<DType::q8_0>   { using Block = BlockQ8_0; };
template <> struct FileBlock<DType::q4_0>   { using Block = BlockQ4_0; };
template <> struct FileBlock<DType::q5_0>   { using Block = BlockQ5_0; };
template <> struct FileBlock<DType::iq4_nl> { using Block = BlockIQ4_NL; };
template <> struct FileBlock<DType::q4_1>   { using Block = BlockQ4_1; };
template <> struct FileBlock<DType::q5_1>   { using Block = BlockQ5_1; };
template <> struct FileBlock<DType::iq4_xs> { using Block = BlockIQ4_XS; };
template <> struct FileBlock<DType::q4_k>   { using Block = BlockQ4_K; };
template <> struct FileBlock<DType::q5_k>   { using Block = BlockQ5_K; };
template <> struct FileBlock<DType::q6_k>   { using Block = BlockQ6_K; };
template <> struct FileBlock<DType::q3_k>   { using Block = BlockQ3_K; };
template <> struct FileBlock<DType::q2_k>   { using Block = BlockQ2_K; };
// clang-format on

template <class Panel, class Block>
void store_block(Panel& panel, int row, const Block& block) {
  store_scales(panel, row, block);
  // Unrolled, shifts have constant counts: Q6_K packs ten times as fast.
#pragma GCC unroll 8
  for (int i = 0; i < Panel::kBlocks; ++i) {
    Words quants = {};
    expand(quants, block, i);
    store(quants_of(panel, i), row, quants);
  }
}

}  // namespace

template <DType type>
void pack(void* packed, const void* src, int64_t rows, int64_t cols, int64_t row_begin, int64_t row_end) {
  using Panel = PanelOf<type>::Panel;
  using Block = FileBlock<type>::Block;
  static constexpr Block kZeros{};
  const int64_t blocks = cols / (32 * Panel::kBlocks);
  for (int64_t first = row_begin; first < row_end; first += kPanelRows) {
    Panel* panels = static_cast<Panel*>(packed) + first / kPanelRows * blocks;
    const Block* file = static_cast<const Block*>(src) + first * blocks;
    const int valid = static_cast<int>(std::min<int64_t>(kPanelRows, rows - first));
    for (int64_t b = 0; b < blocks; ++b)
      for (int row = 0; row < kPanelRows; ++row)
        store_block(panels[b], row, row < valid ? file[row * blocks + b] : kZeros);
  }
}

#define INSTANTIATE(type) \
  template void pack<DType::type>(void*, const void*, int64_t, int64_t, int64_t, int64_t);
BINHDAN_PANEL_TYPES(INSTANTIATE)
#undef INSTANTIATE

}  // namespace binhdan::scalar
