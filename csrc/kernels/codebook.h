// The codebook types, IQ1 to IQ3. Eight weights (four in IQ3) are an index into a grid, and their signs. All
// of them have the form
//   w = unit scale value(code)
// with a float unit for a super-block, an odd integer scale for 16 or 32 columns, and a code for each weight:
// the code of the grid, and above it a sign bit. The values of codes are in codec.h. The product of the three
// is exact in float32. For portable kernels only.
//
// Source: dequantize_row_iq* in ggml-quants.c.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"
#include "base/half.h"
#include "kernels/codec.h"

namespace binhdan {

// Two bits for each of eight weights, or four bits for each of four; the first weight has the lowest bits.
extern const uint16_t kIQ1Grid[2048], kIQ2XxsGrid[256], kIQ2XsGrid[512], kIQ2SGrid[1024];
extern const uint16_t kIQ3XxsGrid[256], kIQ3SGrid[512];

namespace codebook {

// ---- bits to bytes: the first byte gets the lowest bits -----------------------------------------------

inline uint32_t spread_bits(uint32_t four) {
  return four * 0x00204081 & 0x01010101;
}
inline uint32_t spread_pairs(uint32_t four) {
  return (four & 3) | (four & 0xc) << 6 | (four & 0x30) << 12 | (four & 0xc0) << 18;
}
inline uint32_t spread_nibbles(uint32_t four) {
  return (four & 15) | (four & 0xf0) << 4 | (four & 0xf00) << 8 | (four & 0xf000) << 12;
}

// Seven signs are stored. The number of negative weights is even, so they determine the eighth.
inline uint32_t eight_signs(uint32_t seven) {
  return seven | (std::popcount(seven) & 1u) << 7;
}

// ---- the parts of a block -----------------------------------------------------------------------------
// Octet i is weights 8 i .. 8 i + 7, and quad i is weights 4 i .. 4 i + 3.

struct Octet {
  uint32_t grid, signs;
};
// Four bytes of grid indices, then 4 x 7 signs and 4 bits of the scale.
inline uint32_t signs_and_scale(const BlockIQ2_XXS& b, int block) {
  uint32_t word;
  std::memcpy(&word, b.qs + 8 * block + 4, sizeof word);
  return word;
}
inline Octet octet(const BlockIQ2_XXS& b, int i) {
  return {kIQ2XxsGrid[b.qs[i / 4 * 8 + i % 4]], eight_signs(signs_and_scale(b, i / 4) >> i % 4 * 7 & 127)};
}
inline Octet octet(const BlockIQ2_XS& b, int i) {
  return {kIQ2XsGrid[b.qs[i] & 511], eight_signs(b.qs[i] >> 9)};
}
inline Octet octet(const BlockIQ2_S& b, int i) {
  return {kIQ2SGrid[b.qs[i] | (b.qh[i / 4] >> i % 4 * 2 & 3) << 8], b.signs[i]};
}
// In IQ1 the sign bit is that of delta, which is added to the eight weights.
inline Octet octet(const BlockIQ1_S& b, int i) {
  const uint32_t high = b.qh[i / 4];
  return {kIQ1Grid[b.qs[i] | (high >> i % 4 * 3 & 7) << 8], (high >> 15) * 0xff};
}
inline Octet octet(const BlockIQ1_M& b, int i) {
  const uint32_t high = b.qh[i / 2] >> i % 2 * 4;
  return {kIQ1Grid[b.qs[i] | (high & 7) << 8], (high >> 3 & 1) * 0xff};
}

struct Quad {
  uint32_t grid, signs;
};
inline uint32_t signs_and_scale(const BlockIQ3_XXS& b, int block) {
  uint32_t word;
  std::memcpy(&word, b.signs + 4 * block, sizeof word);
  return word;
}
inline Quad quad(const BlockIQ3_XXS& b, int i) {
  const uint32_t signs = eight_signs(signs_and_scale(b, i / 8) >> i % 8 / 2 * 7 & 127);
  return {kIQ3XxsGrid[b.qs[i]], signs >> i % 2 * 4 & 15};
}
inline Quad quad(const BlockIQ3_S& b, int i) {
  return {kIQ3SGrid[b.qs[i] | (b.qh[i / 8] >> i % 8 & 1) << 8], b.signs[i / 2] >> i % 2 * 4 & 15u};
}

// ---- unit, scales, codes ------------------------------------------------------------------------------

inline float unit(const BlockIQ1_S& b) {
  return f16_to_f32(b.d) * 0.125f;
}
inline float unit(const BlockIQ1_M& b) {  // the high four bits of each word are a quarter of d's
  int d = 0;
  for (int i = 0; i < 4; ++i) d |= b.scales[i] >> 12 << 4 * i;
  return f16_to_f32(static_cast<uint16_t>(d)) * 0.125f;
}
inline float unit(const BlockIQ2_XXS& b) {
  return f16_to_f32(b.d) * 0.125f;
}
inline float unit(const BlockIQ2_XS& b) {
  return f16_to_f32(b.d) * 0.125f;
}
inline float unit(const BlockIQ2_S& b) {
  return f16_to_f32(b.d) * 0.125f;
}
inline float unit(const BlockIQ3_XXS& b) {
  return f16_to_f32(b.d) * 0.25f;
}
inline float unit(const BlockIQ3_S& b) {
  return f16_to_f32(b.d);
}

// The scale of columns 16 i .. 16 i + 15 is 2 s + 1: 1, 3 .. 31.
inline int scale_bits(const BlockIQ1_S& b, int i) {
  return b.qh[i / 2] >> 12 & 7;
}
inline int scale_bits(const BlockIQ1_M& b, int i) {
  return b.scales[i / 4] >> i % 4 * 3 & 7;
}
inline int scale_bits(const BlockIQ2_XXS& b, int i) {
  return static_cast<int>(signs_and_scale(b, i / 2) >> 28);
}
inline int scale_bits(const BlockIQ2_XS& b, int i) {
  return b.scales[i / 2] >> i % 2 * 4 & 15;
}
inline int scale_bits(const BlockIQ2_S& b, int i) {
  return b.scales[i / 2] >> i % 2 * 4 & 15;
}
inline int scale_bits(const BlockIQ3_XXS& b, int i) {
  return static_cast<int>(signs_and_scale(b, i / 2) >> 28);
}
inline int scale_bits(const BlockIQ3_S& b, int i) {
  return b.scales[i / 4] >> i / 2 % 2 * 4 & 15;
}

// The blocks that have these parts.
template <class Block>
concept Super = requires(const Block& b) { scale_bits(b, 0); };

template <Super Block>
int scale(const Block& b, int i) {
  return 2 * scale_bits(b, i) + 1;
}

// The codes of 32 columns, a byte each: word g is columns 4 g .. 4 g + 3.
template <Super Block>
void codes(uint32_t (&words)[8], const Block& b, int block) {
  if constexpr (requires { octet(b, 0); }) {
    for (int i = 0; i < 4; ++i) {
      const Octet o = octet(b, 4 * block + i);
      words[2 * i] = spread_pairs(o.grid & 0xff) | spread_bits(o.signs & 15) << 2;
      words[2 * i + 1] = spread_pairs(o.grid >> 8) | spread_bits(o.signs >> 4) << 2;
    }
  } else {
    for (int i = 0; i < 8; ++i) {
      const Quad q = quad(b, 8 * block + i);
      words[i] = spread_nibbles(q.grid) | spread_bits(q.signs) << 3;
    }
  }
}

}  // namespace codebook
}  // namespace binhdan
