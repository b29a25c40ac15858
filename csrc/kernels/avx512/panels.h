// Panels in 512-bit registers, for every table that has AVX-512 (F, BW, DQ, VL). A lane is one of 16 rows.
//
//   const PanelScales of(panel);                // once for each panel: d as float32
//   BlockOf<type> block;                        // 32 columns
//   decode_block<type>(block, panel, of, i);    // block i of the panel, 0 <= i < Panel::kBlocks
// and then the weight of a row in column 4 g + c is
//   block.scale[part] * (byte c of the row's lane of block.q[g] - kZero<type>) + block.min[part]
// with part = 0, or g / 4 in types whose scales hold 16 columns, and without min where Panel::kMins is false.
// Everything is inlined: a Block that is used at once stays in registers, one in memory is a cache of it.
//
// Codes are unsigned bytes, as vpdpbusd takes them, with what is to be subtracted (kZero) left in: 8 in Q4_0,
// 128 in Q8_0 (whose sign bits are flipped) and IQ4 (whose table is raised). Cost of 32 columns: Q4 4 shifts
// and 8 ANDs, Q5 and Q6 a shift and a vpternlog for each group more, IQ4 a vpshufb more, Q8 8 XORs; on Intel
// all of them run on the two ports that vpdpbusd needs, so they are paid once for all rows of activations of
// a tile.
#pragma once
#include <immintrin.h>

#include "kernels/inline.h"
#include "kernels/panels.h"

namespace binhdan::avx512 {

// What is taken off a decoded byte.
template <DType type>
inline constexpr int kZero = PanelOf<type>::kOffset;
template <>
inline constexpr int kZero<DType::q8_0> = 128;
template <>
inline constexpr int kZero<DType::iq4_nl> = 128;
template <>
inline constexpr int kZero<DType::iq4_xs> = 128;

// ---- codes ------------------------------------------------------------------------------------------

BINHDAN_INLINE __m512i load_codes(const CodeBytes& bytes) {
  return _mm512_loadu_si512(bytes);
}
BINHDAN_INLINE __m512i every(uint8_t byte) {
  return _mm512_set1_epi8(static_cast<char>(byte));
}

// `left` < 0 shifts right. Bits that come in from the neighbouring byte are for the caller to cut off.
template <int left>
BINHDAN_INLINE __m512i shifted(__m512i v) {
  if constexpr (left > 0)
    return _mm512_slli_epi16(v, left);
  else if constexpr (left < 0)
    return _mm512_srli_epi16(v, -left);
  else
    return v;
}

BINHDAN_INLINE void nibbles(__m512i (&q)[8], const CodeBytes* planes) {
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const __m512i both = load_codes(planes[g]);
    q[g] = _mm512_and_si512(both, every(15));
    q[g + 4] = _mm512_and_si512(shifted<-4>(both), every(15));
  }
}

// q[g] |= `width` bits of group g, put at bit `to`; a plane holds those of 8 / width groups.
template <int width, int to, int g = 0>
BINHDAN_INLINE void add_bits(__m512i (&q)[8], const __m512i* planes) {
  constexpr int kGroups = 8 / width;
  const __m512i bits = shifted<to - width*(g % kGroups)>(planes[g / kGroups]);
  const __m512i mask = every(static_cast<uint8_t>(((1 << width) - 1) << to));
  q[g] = _mm512_ternarylogic_epi32(bits, mask, q[g], 0xea);  // (bits & mask) | q
  if constexpr (g < 7) add_bits<width, to, g + 1>(q, planes);
}
template <int width, int g = 0>
BINHDAN_INLINE void low_bits(__m512i (&q)[8], const __m512i* planes) {
  constexpr int kGroups = 8 / width;
  q[g] = _mm512_and_si512(shifted<-width*(g % kGroups)>(planes[g / kGroups]), every((1 << width) - 1));
  if constexpr (g < 7) low_bits<width, g + 1>(q, planes);
}

BINHDAN_INLINE void decode(__m512i (&q)[8], const Codes8& codes) {
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) q[g] = _mm512_xor_si512(load_codes(codes.low[g]), every(128));
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Codes4& codes) {
  nibbles(q, codes.low);
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Codes5& codes) {
  const __m512i high = load_codes(codes.high);
  nibbles(q, codes.low);
  add_bits<1, 4>(q, &high);
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Codes6& codes) {
  const __m512i high[2] = {load_codes(codes.high[0]), load_codes(codes.high[1])};
  nibbles(q, codes.low);
  add_bits<2, 4>(q, high);
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Codes2& codes) {
  const __m512i low[2] = {load_codes(codes.low[0]), load_codes(codes.low[1])};
  low_bits<2>(q, low);
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Codes3& codes) {
  const __m512i low[2] = {load_codes(codes.low[0]), load_codes(codes.low[1])}, high = load_codes(codes.high);
  low_bits<2>(q, low);
  add_bits<1, 2>(q, &high);
}

// kIQ4Values + 128, in each quarter of the register.
BINHDAN_INLINE __m512i iq4_values() {
  return _mm512_broadcast_i32x4(
      _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15));
}

// ---- scales -----------------------------------------------------------------------------------------

BINHDAN_INLINE __m512 load_f16(const uint16_t (&d)[kPanelRows]) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(d)));
}
BINHDAN_INLINE __m128i load_row(const void* bytes) {
  return _mm_loadu_si128(static_cast<const __m128i*>(bytes));
}
BINHDAN_INLINE __m512 widen(const int8_t (&s)[kPanelRows]) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_row(s)));
}
BINHDAN_INLINE __m512 widen(const uint8_t (&s)[kPanelRows]) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_row(s)));
}

// d of a panel, and m as minimums are added: -dmin.
struct PanelScales {
  __m512 d, m = _mm512_setzero_ps();

  template <class Panel>
  [[gnu::always_inline]] explicit PanelScales(const Panel& panel) : d(load_f16(panel.d)) {
    if constexpr (requires { panel.m; }) m = load_f16(panel.m);
    if constexpr (requires { panel.dmin; }) m = _mm512_xor_ps(load_f16(panel.dmin), _mm512_set1_ps(-0.0f));
  }
};

template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512*, const PanelD<C>&, const PanelScales& of, int) {
  scale[0] = of.d;
}
template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512* min, const PanelDM<C>&, const PanelScales& of, int) {
  scale[0] = of.d;
  min[0] = of.m;
}
template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512*, const SuperPanel32<C>& p, const PanelScales& of,
                              int i) {
  scale[0] = _mm512_mul_ps(of.d, widen(p.scales[i]));
}
template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512* min, const SuperPanel32M<C>& p, const PanelScales& of,
                              int i) {
  scale[0] = _mm512_mul_ps(of.d, widen(p.scales[i]));
  min[0] = _mm512_mul_ps(of.m, widen(p.mins[i]));
}
template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512*, const SuperPanel16<C>& p, const PanelScales& of,
                              int i) {
  scale[0] = _mm512_mul_ps(of.d, widen(p.scales[i][0]));
  scale[1] = _mm512_mul_ps(of.d, widen(p.scales[i][1]));
}
template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512* min, const SuperPanel16M<C>& p, const PanelScales& of,
                              int i) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m512i both = _mm512_cvtepu8_epi32(load_row(p.scales[i][half]));
    scale[half] = _mm512_mul_ps(of.d, _mm512_cvtepi32_ps(_mm512_and_si512(both, _mm512_set1_epi32(15))));
    min[half] = _mm512_mul_ps(of.m, _mm512_cvtepi32_ps(_mm512_srli_epi32(both, 4)));
  }
}

// ---- blocks -----------------------------------------------------------------------------------------

// 32 columns of 16 rows. What follows decoding depends on its Panel's kScales and kMins alone.
template <int scales, bool mins>
struct Block {
  static constexpr int kScales = scales;
  static constexpr bool kMins = mins;
  __m512i q[8];                   // 16 rows x columns 4 g .. 4 g + 3
  __m512 scale[scales];           // of columns 0 .. 31, or of 0 .. 15 and of 16 .. 31
  __m512 min[mins ? scales : 1];  // unused where there are none
};

template <DType type>
using BlockOf = Block<PanelOf<type>::Panel::kScales, PanelOf<type>::Panel::kMins>;

// Block i of a panel whose PanelScales are `of`.
template <DType type>
BINHDAN_INLINE void decode_block(BlockOf<type>& block, const typename PanelOf<type>::Panel& panel,
                                 const PanelScales& of, int i) {
  if constexpr (PanelOf<type>::Panel::kBlocks == 1)
    decode(block.q, panel.codes);
  else
    decode(block.q, panel.codes[i]);
  if constexpr (type == DType::iq4_nl || type == DType::iq4_xs)
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) block.q[g] = _mm512_shuffle_epi8(iq4_values(), block.q[g]);
  scales_of(block.scale, block.min, panel, of, i);
}

}  // namespace binhdan::avx512
