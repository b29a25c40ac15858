// Packs file blocks into panels, for every table. The quants of a block are first expanded to a byte each
// (Words), then stored in the layout of the panel. 16 rows of the file are read in parallel; panels are
// written in order.
//
// Blocks are read in place: GGUF aligns tensors to 8 bytes or more, and blocks with 16-bit members have even
// sizes. A copy of each block would cost two thirds of the speed, because its loads wait for its stores.
// Speed: 1.5 to 5 GB/s on one core; codebook types 0.3 to 1 GB/s, which is more than 10^9 weights a second.
#include <algorithm>

#include "kernels/codebook.h"
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

// Bit j of the four bytes is bit `to` of the quant of column j. The product moves four neighbouring bits into
// four bytes.
void add_single_bits(Words& quants, const uint8_t* bits, int to) {
  for (int g = 0; g < 8; ++g) {
    const uint32_t four = bits[g / 2] >> (g % 2 * 4) & 15;
    quants[g] |= (four * 0x00204081 & repeat_byte(1)) << to;
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
  add_single_bits(quants, b.qh, 4);
}
void expand(Words& quants, const BlockQ5_1& b, int) {
  nibble_halves(quants, b.qs);
  add_single_bits(quants, b.qh, 4);
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

void expand(Words& quants, const BlockQ1_0& b, int block) {
  add_single_bits(quants, b.qs + 4 * block, 1);
}
void expand(Words& quants, const BlockQ2_0& b, int block) {
  for (int g = 0; g < 8; ++g) quants[g] = codebook::spread_pairs(b.qs[8 * block + g]);
}
void expand(Words& quants, const BlockTQ2_0& b, int block) {
  add_bits(quants, b.qs + block / 4 * 32, block % 4 * 2, 2, 0);
}
// Digit `digit` of base 3 of four bytes (codec_decode.cpp).
uint32_t digits(const uint8_t* qs, int digit) {
  constexpr int kPowers[5] = {1, 3, 9, 27, 81};
  uint32_t word = 0;
  for (int j = 0; j < 4; ++j)
    word |= static_cast<uint32_t>(static_cast<uint8_t>(qs[j] * kPowers[digit]) * 3 >> 8) << 8 * j;
  return word;
}
void expand(Words& quants, const BlockTQ1_0& b, int block) {
  for (int g = 0; g < 8; ++g) {
    const int quad = 8 * block + g;  // 40 in the first 32 bytes, 20 in the next 16, 4 in qh
    quants[g] = quad < 40   ? digits(b.qs + quad % 8 * 4, quad / 8)
                : quad < 60 ? digits(b.qs + 32 + quad % 4 * 4, (quad - 40) / 4)
                            : digits(b.qh, quad - 60);
  }
}
void expand(Words& quants, const BlockMXFP4& b, int) {
  nibble_halves(quants, b.qs);
}
void expand(Words& quants, const BlockNVFP4& b, int block) {  // a scale has 8 bytes: 8 low, 8 high nibbles
  for (int g = 0; g < 8; ++g) {
    const uint32_t both = load_word(b.qs + 16 * block + g / 4 * 8 + g % 2 * 4);
    quants[g] = both >> g % 4 / 2 * 4 & repeat_byte(15);
  }
}
template <codebook::Super Block>
void expand(Words& quants, const Block& b, int block) {
  codebook::codes(quants, b, block);
}

// ---- scales -------------------------------------------------------------------------------------------

template <class C, int blocks, class Block>
void store_scales(PanelD<C, blocks>& panel, int row, const Block& b) {
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

template <class C>
void store_scales(PanelE<C>& panel, int row, const BlockMXFP4& b) {
  panel.e[row] = b.e;
}

// UE4M3 is exact in float16.
template <class C>
void store_scales(Panel16<C, 2>& panel, int row, const BlockNVFP4& b) {
  for (int i = 0; i < 4; ++i) panel.scales[i / 2][i % 2][row] = f32_to_f16(ue4m3_scale(b.scales[i]));
}

template <class C, codebook::Super Block>
void store_scales(SuperPanel32<C, float>& panel, int row, const Block& b) {
  panel.d[row] = codebook::unit(b);
  for (int i = 0; i < kSuperBlocks; ++i)
    panel.scales[i][row] = static_cast<int8_t>(codebook::scale(b, 2 * i));
}

template <class C, codebook::Super Block>
void store_scales(SuperPanel16<C, float>& panel, int row, const Block& b) {
  panel.d[row] = codebook::unit(b);
  for (int i = 0; i < 16; ++i) panel.scales[i / 2][i % 2][row] = static_cast<int8_t>(codebook::scale(b, i));
}

// ---- matrices -----------------------------------------------------------------------------------------

template <DType type>
struct FileBlock;
// clang-format off
template <> struct FileBlock<DType::q8_0>     { using Block = BlockQ8_0; };
template <> struct FileBlock<DType::q4_0>     { using Block = BlockQ4_0; };
template <> struct FileBlock<DType::q5_0>     { using Block = BlockQ5_0; };
template <> struct FileBlock<DType::iq4_nl>   { using Block = BlockIQ4_NL; };
template <> struct FileBlock<DType::q4_1>     { using Block = BlockQ4_1; };
template <> struct FileBlock<DType::q5_1>     { using Block = BlockQ5_1; };
template <> struct FileBlock<DType::iq4_xs>   { using Block = BlockIQ4_XS; };
template <> struct FileBlock<DType::q4_k>     { using Block = BlockQ4_K; };
template <> struct FileBlock<DType::q5_k>     { using Block = BlockQ5_K; };
template <> struct FileBlock<DType::q6_k>     { using Block = BlockQ6_K; };
template <> struct FileBlock<DType::q3_k>     { using Block = BlockQ3_K; };
template <> struct FileBlock<DType::q2_k>     { using Block = BlockQ2_K; };
template <> struct FileBlock<DType::q1_0>     { using Block = BlockQ1_0; };
template <> struct FileBlock<DType::q2_0>     { using Block = BlockQ2_0; };
template <> struct FileBlock<DType::tq1_0>    { using Block = BlockTQ1_0; };
template <> struct FileBlock<DType::tq2_0>    { using Block = BlockTQ2_0; };
template <> struct FileBlock<DType::mxfp4>    { using Block = BlockMXFP4; };
template <> struct FileBlock<DType::nvfp4>    { using Block = BlockNVFP4; };
template <> struct FileBlock<DType::iq1_s>    { using Block = BlockIQ1_S; };
template <> struct FileBlock<DType::iq1_m>    { using Block = BlockIQ1_M; };
template <> struct FileBlock<DType::iq2_xxs>  { using Block = BlockIQ2_XXS; };
template <> struct FileBlock<DType::iq2_xs>   { using Block = BlockIQ2_XS; };
template <> struct FileBlock<DType::iq2_s>    { using Block = BlockIQ2_S; };
template <> struct FileBlock<DType::iq3_xxs>  { using Block = BlockIQ3_XXS; };
template <> struct FileBlock<DType::iq3_s>    { using Block = BlockIQ3_S; };
// clang-format on

template <class Panel, class Block>
void store_block(Panel& panel, int row, const Block& block) {
  store_scales(panel, row, block);
  // Unrolled, shifts have constant counts: Q6_K packs ten times as fast.
#pragma GCC unroll 8
  for (int i = 0; i < Panel::kBlocks; ++i) {
    Words quants = {};
    expand(quants, block, i);
    store(panel.quants[i], row, quants);
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
#define INSTANTIATE_REPACKED(type, other) INSTANTIATE(type)
BINHDAN_REPACKED_TYPES(INSTANTIATE_REPACKED)
#undef INSTANTIATE_REPACKED
#undef INSTANTIATE

}  // namespace binhdan::scalar
