// Quants and scales of panels, one row at a time: the reference implementation of kernels/panels.h. For
// portable kernels only.
#pragma once
#include <cstdint>
#include <cstring>

#include "base/half.h"
#include "kernels/codec.h"
#include "kernels/panels.h"

namespace binhdan::scalar {

// Quants of 32 columns of one row, a byte each: word g is group g, and its first column is the lowest byte.
using Words = uint32_t[8];

inline constexpr uint32_t repeat_byte(uint8_t byte) {
  return byte * 0x01010101u;
}
inline uint32_t load_word(const void* bytes) {
  uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}
inline void store_word(void* bytes, uint32_t word) {
  std::memcpy(bytes, &word, sizeof word);
}

// ---- planes -------------------------------------------------------------------------------------------

inline void store_nibbles(QuantBytes* planes, int row, const Words& quants) {
  for (int g = 0; g < 4; ++g)
    store_word(planes[g][row], (quants[g] & repeat_byte(15)) | (quants[g + 4] & repeat_byte(15)) << 4);
}
inline void load_nibbles(Words& quants, const QuantBytes* planes, int row) {
  for (int g = 0; g < 4; ++g) {
    const uint32_t both = load_word(planes[g][row]);
    quants[g] = both & repeat_byte(15);
    quants[g + 4] = both >> 4 & repeat_byte(15);
  }
}

// Bits [shift, shift + width) of the quants; a byte of a plane holds the bits of 8 / width groups.
template <int width>
void store_bits(QuantBytes* planes, int row, const Words& quants, int shift) {
  constexpr int kGroups = 8 / width;
  for (int p = 0; p < width; ++p) {
    uint32_t word = 0;
    for (int g = 0; g < kGroups; ++g)
      word |= (quants[p * kGroups + g] >> shift & repeat_byte((1 << width) - 1)) << width * g;
    store_word(planes[p][row], word);
  }
}
template <int width>
void load_bits(Words& quants, const QuantBytes* planes, int row, int shift) {
  constexpr int kGroups = 8 / width;
  for (int p = 0; p < width; ++p) {
    const uint32_t word = load_word(planes[p][row]);
    for (int g = 0; g < kGroups; ++g)
      quants[p * kGroups + g] |= (word >> width * g & repeat_byte((1 << width) - 1)) << shift;
  }
}

// ---- quants -------------------------------------------------------------------------------------------

inline void store(Quants8& to, int row, const Words& quants) {
  for (int g = 0; g < 8; ++g) store_word(to.low[g][row], quants[g]);
}
inline void load(Words& quants, const Quants8& from, int row) {
  for (int g = 0; g < 8; ++g) quants[g] = load_word(from.low[g][row]);
}
inline void store(Quants4& to, int row, const Words& quants) {
  store_nibbles(to.low, row, quants);
}
inline void load(Words& quants, const Quants4& from, int row) {
  load_nibbles(quants, from.low, row);
}
inline void store(Quants5& to, int row, const Words& quants) {
  store_nibbles(to.low, row, quants);
  store_bits<1>(&to.high, row, quants, 4);
}
inline void load(Words& quants, const Quants5& from, int row) {
  load_nibbles(quants, from.low, row);
  load_bits<1>(quants, &from.high, row, 4);
}
inline void store(Quants6& to, int row, const Words& quants) {
  store_nibbles(to.low, row, quants);
  store_bits<2>(to.high, row, quants, 4);
}
inline void load(Words& quants, const Quants6& from, int row) {
  load_nibbles(quants, from.low, row);
  load_bits<2>(quants, from.high, row, 4);
}
inline void store(Quants2& to, int row, const Words& quants) {
  store_bits<2>(to.low, row, quants, 0);
}
inline void load(Words& quants, const Quants2& from, int row) {
  std::memset(quants, 0, sizeof quants);
  load_bits<2>(quants, from.low, row, 0);
}
inline void store(Quants1& to, int row, const Words& quants) {
  store_bits<1>(&to.low, row, quants, 1);
}
inline void load(Words& quants, const Quants1& from, int row) {
  std::memset(quants, 0, sizeof quants);
  load_bits<1>(quants, &from.low, row, 1);
}
inline void store(Quants3& to, int row, const Words& quants) {
  store_bits<2>(to.low, row, quants, 0);
  store_bits<1>(&to.high, row, quants, 2);
}
inline void load(Words& quants, const Quants3& from, int row) {
  std::memset(quants, 0, sizeof quants);
  load_bits<2>(quants, from.low, row, 0);
  load_bits<1>(quants, &from.high, row, 2);
}

// The value that a quant stands for.
template <DType type>
int value_of(uint8_t quant) {
  using Descriptor = PanelOf<type>;
  if constexpr (Descriptor::kHasLookup)
    return Descriptor::kLookup[quant];
  else if constexpr (Descriptor::kSigned)
    return static_cast<int8_t>(quant);
  else
    return quant - Descriptor::kZeroPoint;
}

// ---- scales and minimums of a block -------------------------------------------------------------------

inline float to_float(uint16_t d) {
  return f16_to_f32(d);
}
inline float to_float(float d) {
  return d;
}

template <class C, int blocks>
float scale_of(const PanelD<C, blocks>& p, int, int, int row) {
  return f16_to_f32(p.d[row]);
}
template <class C>
float scale_of(const PanelDM<C>& p, int, int, int row) {
  return f16_to_f32(p.d[row]);
}
template <class C>
float scale_of(const PanelE<C>& p, int, int, int row) {
  return e8m0_scale(p.e[row]);
}
template <class C, int blocks>
float scale_of(const Panel16<C, blocks>& p, int block, int half, int row) {
  return f16_to_f32(p.scales[block][half][row]);
}
template <class C, class D>
float scale_of(const SuperPanel32<C, D>& p, int block, int, int row) {
  return to_float(p.d[row]) * static_cast<float>(p.scales[block][row]);
}
template <class C>
float scale_of(const SuperPanel32M<C>& p, int block, int, int row) {
  return f16_to_f32(p.d[row]) * static_cast<float>(p.scales[block][row]);
}
template <class C, class D>
float scale_of(const SuperPanel16<C, D>& p, int block, int half, int row) {
  return to_float(p.d[row]) * static_cast<float>(p.scales[block][half][row]);
}
template <class C>
float scale_of(const SuperPanel16M<C>& p, int block, int half, int row) {
  return f16_to_f32(p.d[row]) * static_cast<float>(p.scales[block][half][row] & 15);
}

template <class C>
float min_of(const PanelDM<C>& p, int, int, int row) {
  return f16_to_f32(p.m[row]);
}
template <class C>
float min_of(const SuperPanel32M<C>& p, int block, int, int row) {
  return -f16_to_f32(p.dmin[row]) * static_cast<float>(p.mins[block][row]);
}
template <class C>
float min_of(const SuperPanel16M<C>& p, int block, int half, int row) {
  return -f16_to_f32(p.dmin[row]) * static_cast<float>(p.scales[block][half][row] >> 4);
}

}  // namespace binhdan::scalar
