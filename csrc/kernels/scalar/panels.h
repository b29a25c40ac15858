// Codes and scales of panels, one row at a time: the plain statement of panels.h. For the portable kernels
// only.
#pragma once
#include <cstdint>
#include <cstring>

#include "base/half.h"
#include "kernels/codec.h"
#include "kernels/panels.h"

namespace binhdan::scalar {

// Codes of 32 columns of one row, a byte each: word g is group g, its first column the lowest byte.
using Words = uint32_t[8];

inline constexpr uint32_t every(uint8_t byte) {
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

// ---- planes -----------------------------------------------------------------------------------------

inline void put_nibbles(CodeBytes* planes, int row, const Words& codes) {
  for (int g = 0; g < 4; ++g)
    store_word(planes[g][row], (codes[g] & every(15)) | (codes[g + 4] & every(15)) << 4);
}
inline void get_nibbles(Words& codes, const CodeBytes* planes, int row) {
  for (int g = 0; g < 4; ++g) {
    const uint32_t both = load_word(planes[g][row]);
    codes[g] = both & every(15);
    codes[g + 4] = both >> 4 & every(15);
  }
}

// Bits [shift, shift + width) of the codes; a byte of a plane holds those of 8 / width groups.
template <int width>
void put_bits(CodeBytes* planes, int row, const Words& codes, int shift) {
  constexpr int kGroups = 8 / width;
  for (int p = 0; p < width; ++p) {
    uint32_t word = 0;
    for (int g = 0; g < kGroups; ++g)
      word |= (codes[p * kGroups + g] >> shift & every((1 << width) - 1)) << width * g;
    store_word(planes[p][row], word);
  }
}
template <int width>
void get_bits(Words& codes, const CodeBytes* planes, int row, int shift) {
  constexpr int kGroups = 8 / width;
  for (int p = 0; p < width; ++p) {
    const uint32_t word = load_word(planes[p][row]);
    for (int g = 0; g < kGroups; ++g)
      codes[p * kGroups + g] |= (word >> width * g & every((1 << width) - 1)) << shift;
  }
}

// ---- codes ------------------------------------------------------------------------------------------

inline void put(Codes8& to, int row, const Words& codes) {
  for (int g = 0; g < 8; ++g) store_word(to.low[g][row], codes[g]);
}
inline void get(Words& codes, const Codes8& from, int row) {
  for (int g = 0; g < 8; ++g) codes[g] = load_word(from.low[g][row]);
}
inline void put(Codes4& to, int row, const Words& codes) {
  put_nibbles(to.low, row, codes);
}
inline void get(Words& codes, const Codes4& from, int row) {
  get_nibbles(codes, from.low, row);
}
inline void put(Codes5& to, int row, const Words& codes) {
  put_nibbles(to.low, row, codes);
  put_bits<1>(&to.high, row, codes, 4);
}
inline void get(Words& codes, const Codes5& from, int row) {
  get_nibbles(codes, from.low, row);
  get_bits<1>(codes, &from.high, row, 4);
}
inline void put(Codes6& to, int row, const Words& codes) {
  put_nibbles(to.low, row, codes);
  put_bits<2>(to.high, row, codes, 4);
}
inline void get(Words& codes, const Codes6& from, int row) {
  get_nibbles(codes, from.low, row);
  get_bits<2>(codes, from.high, row, 4);
}
inline void put(Codes2& to, int row, const Words& codes) {
  put_bits<2>(to.low, row, codes, 0);
}
inline void get(Words& codes, const Codes2& from, int row) {
  std::memset(codes, 0, sizeof codes);
  get_bits<2>(codes, from.low, row, 0);
}
inline void put(Codes3& to, int row, const Words& codes) {
  put_bits<2>(to.low, row, codes, 0);
  put_bits<1>(&to.high, row, codes, 2);
}
inline void get(Words& codes, const Codes3& from, int row) {
  std::memset(codes, 0, sizeof codes);
  get_bits<2>(codes, from.low, row, 0);
  get_bits<1>(codes, &from.high, row, 2);
}

// The codes of block `block` of a panel.
template <class Panel>
auto& codes_of(Panel& panel, int block) {
  if constexpr (Panel::kBlocks == 1)
    return panel.codes;
  else
    return panel.codes[block];
}

// What a code stands for.
template <DType type>
int code_value(uint8_t code) {
  if constexpr (type == DType::q8_0)
    return static_cast<int8_t>(code);
  else if constexpr (type == DType::iq4_nl || type == DType::iq4_xs)
    return kIQ4Values[code];
  else
    return code - PanelOf<type>::kOffset;
}

// ---- scales and minimums of a block -----------------------------------------------------------------

template <class C>
float scale_of(const PanelD<C>& p, int, int, int row) {
  return f16_to_f32(p.d[row]);
}
template <class C>
float scale_of(const PanelDM<C>& p, int, int, int row) {
  return f16_to_f32(p.d[row]);
}
template <class C>
float scale_of(const SuperPanel32<C>& p, int block, int, int row) {
  return f16_to_f32(p.d[row]) * static_cast<float>(p.scales[block][row]);
}
template <class C>
float scale_of(const SuperPanel32M<C>& p, int block, int, int row) {
  return f16_to_f32(p.d[row]) * static_cast<float>(p.scales[block][row]);
}
template <class C>
float scale_of(const SuperPanel16<C>& p, int block, int half, int row) {
  return f16_to_f32(p.d[row]) * static_cast<float>(p.scales[block][half][row]);
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
