// Panels in 512-bit registers, for every table with AVX-512 (F, BW, DQ, VL). A lane is one of 16 rows.
//
//   const PanelScales panel_scales(panel);              // once per panel: d as float32
//   BlockOf<type> block;                                // 32 columns
//   decode_block<type>(block, panel, panel_scales, i);  // block i of the panel, 0 <= i < Panel::kBlocks
// Then the weight of a row in column 4 g + c is
//   block.scale[part] * (byte c of the row's lane of block.q[g] - kZeroPoint<type>) + block.min[part]
// with part = 0, or g / 4 in types whose scales have 16 columns, and without min if Panel::kMins is false.
// All functions are inlined: a block that is used at once stays in registers; a block in memory is a cache of
// it.
//
// Quants become unsigned bytes, as vpdpbusd reads them, and their zero point is not subtracted: it is 8 in
// Q4_0, and 128 in signed types (the sign bit is flipped, or the values of a lookup are raised).
//
// Instructions (512-bit forms on Intel since Ice Lake, uops.info): vpandd, vpxord, vpternlogd latency 1, 2 a
// cycle (p05); vpsrlw by a constant latency 1, 1 a cycle (p0); vpshufb latency 1, 1 a cycle (p5). Cost of 32
// columns: Q4 4 shifts and 8 ANDs; Q5 and Q6 a shift and a vpternlogd more for each group; lookups a vpshufb
// more; Q8 8 XORs. These are the ports that vpdpbusd uses, so a block is decoded once for all rows of
// activations of a tile.
#pragma once
#include <immintrin.h>

#include "kernels/inline.h"
#include "kernels/panels.h"

namespace binhdan::avx512 {

// The zero point of a decoded byte: signed values are raised by 128.
template <DType type>
inline constexpr int kZeroPoint = PanelOf<type>::kSigned ? 128 : PanelOf<type>::kZeroPoint;

// ---- quants -------------------------------------------------------------------------------------------

BINHDAN_INLINE __m512i load_quants(const QuantBytes& bytes) {
  return _mm512_loadu_si512(bytes);
}
BINHDAN_INLINE __m512i repeat_byte(uint8_t byte) {
  return _mm512_set1_epi8(static_cast<char>(byte));
}

// `left` < 0 shifts right. The caller must mask the bits that enter from the neighbouring byte.
template <int left>
BINHDAN_INLINE __m512i shifted(__m512i v) {
  if constexpr (left > 0)
    return _mm512_slli_epi16(v, left);
  else if constexpr (left < 0)
    return _mm512_srli_epi16(v, -left);
  else
    return v;
}

BINHDAN_INLINE void nibbles(__m512i (&q)[8], const QuantBytes* planes) {
#pragma GCC unroll 4
  for (int g = 0; g < 4; ++g) {
    const __m512i both = load_quants(planes[g]);
    q[g] = _mm512_and_si512(both, repeat_byte(15));
    q[g + 4] = _mm512_and_si512(shifted<-4>(both), repeat_byte(15));
  }
}

// q[g] |= `width` bits of group g, moved to bit `to`; a plane holds the bits of 8 / width groups.
template <int width, int to, int g = 0>
BINHDAN_INLINE void add_bits(__m512i (&q)[8], const __m512i* planes) {
  constexpr int kGroups = 8 / width;
  const __m512i bits = shifted<to - width*(g % kGroups)>(planes[g / kGroups]);
  const __m512i mask = repeat_byte(static_cast<uint8_t>(((1 << width) - 1) << to));
  q[g] = _mm512_ternarylogic_epi32(bits, mask, q[g], 0xea);  // (bits & mask) | q
  if constexpr (g < 7) add_bits<width, to, g + 1>(q, planes);
}
template <int width, int to, int g = 0>
BINHDAN_INLINE void only_bits(__m512i (&q)[8], const __m512i* planes) {
  constexpr int kGroups = 8 / width;
  const __m512i bits = shifted<to - width*(g % kGroups)>(planes[g / kGroups]);
  q[g] = _mm512_and_si512(bits, repeat_byte(((1 << width) - 1) << to));
  if constexpr (g < 7) only_bits<width, to, g + 1>(q, planes);
}

BINHDAN_INLINE void decode(__m512i (&q)[8], const Quants8& quants) {
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) q[g] = _mm512_xor_si512(load_quants(quants.low[g]), repeat_byte(128));
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Quants4& quants) {
  nibbles(q, quants.low);
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Quants5& quants) {
  const __m512i high = load_quants(quants.high);
  nibbles(q, quants.low);
  add_bits<1, 4>(q, &high);
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Quants6& quants) {
  const __m512i high[2] = {load_quants(quants.high[0]), load_quants(quants.high[1])};
  nibbles(q, quants.low);
  add_bits<2, 4>(q, high);
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Quants2& quants) {
  const __m512i low[2] = {load_quants(quants.low[0]), load_quants(quants.low[1])};
  only_bits<2, 0>(q, low);
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Quants1& quants) {
  const __m512i low = load_quants(quants.low);
  only_bits<1, 1>(q, &low);
}
BINHDAN_INLINE void decode(__m512i (&q)[8], const Quants3& quants) {
  const __m512i low[2] = {load_quants(quants.low[0]), load_quants(quants.low[1])},
                high = load_quants(quants.high);
  only_bits<2, 0>(q, low);
  add_bits<1, 2>(q, &high);
}

// The values of 16 quants plus the zero point, in each quarter of the register.
template <DType type>
BINHDAN_INLINE __m512i lookup_values() {
  const auto at = [](int i) consteval {
    return static_cast<char>(PanelOf<type>::kLookup[i] + kZeroPoint<type>);
  };
  return _mm512_broadcast_i32x4(_mm_setr_epi8(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7), at(8),
                                              at(9), at(10), at(11), at(12), at(13), at(14), at(15)));
}

// ---- scales -------------------------------------------------------------------------------------------

BINHDAN_INLINE __m512 load_floats(const uint16_t (&f16)[kPanelRows]) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(f16)));
}
BINHDAN_INLINE __m512 load_floats(const float (&f32)[kPanelRows]) {
  return _mm512_loadu_ps(f32);
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

template <class Panel>
BINHDAN_INLINE __m512 d_of(const Panel& p) {
  return load_floats(p.d);
}
// e8m0_scale: the maximum is the first term for e < 2, whose scales are subnormal, and the second above.
template <class C>
BINHDAN_INLINE __m512 d_of(const PanelE<C>& p) {
  const __m512i shifted = _mm512_slli_epi32(_mm512_cvtepu8_epi32(load_row(p.e)), 21);
  const __m512i subnormal = _mm512_add_epi32(shifted, _mm512_set1_epi32(1 << 21));
  const __m512i normal = _mm512_sub_epi32(_mm512_slli_epi32(shifted, 2), _mm512_set1_epi32(1 << 23));
  return _mm512_castsi512_ps(_mm512_max_epi32(subnormal, normal));
}
template <class C, int blocks>
BINHDAN_INLINE __m512 d_of(const Panel16<C, blocks>&) {
  return _mm512_setzero_ps();  // not used: every scale is a float
}

// d of a panel, and m: the signed factor of its minimums, m or -dmin.
struct PanelScales {
  __m512 d, m = _mm512_setzero_ps();

  template <class Panel>
  [[gnu::always_inline]] explicit PanelScales(const Panel& panel) : d(d_of(panel)) {
    if constexpr (requires { panel.m; }) m = load_floats(panel.m);
    if constexpr (requires { panel.dmin; }) m = _mm512_xor_ps(load_floats(panel.dmin), _mm512_set1_ps(-0.0f));
  }
};

template <class C, int blocks>
BINHDAN_INLINE void scales_of(__m512* scale, __m512*, const PanelD<C, blocks>&,
                              const PanelScales& panel_scales, int) {
  scale[0] = panel_scales.d;
}
template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512*, const PanelE<C>&, const PanelScales& panel_scales,
                              int) {
  scale[0] = panel_scales.d;
}
template <class C, int blocks>
BINHDAN_INLINE void scales_of(__m512* scale, __m512*, const Panel16<C, blocks>& p, const PanelScales&,
                              int i) {
  scale[0] = load_floats(p.scales[i][0]);
  scale[1] = load_floats(p.scales[i][1]);
}
template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512* min, const PanelDM<C>&, const PanelScales& panel_scales,
                              int) {
  scale[0] = panel_scales.d;
  min[0] = panel_scales.m;
}
template <class C, class D>
BINHDAN_INLINE void scales_of(__m512* scale, __m512*, const SuperPanel32<C, D>& p,
                              const PanelScales& panel_scales, int i) {
  scale[0] = _mm512_mul_ps(panel_scales.d, widen(p.scales[i]));
}
template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512* min, const SuperPanel32M<C>& p,
                              const PanelScales& panel_scales, int i) {
  scale[0] = _mm512_mul_ps(panel_scales.d, widen(p.scales[i]));
  min[0] = _mm512_mul_ps(panel_scales.m, widen(p.mins[i]));
}
template <class C, class D>
BINHDAN_INLINE void scales_of(__m512* scale, __m512*, const SuperPanel16<C, D>& p,
                              const PanelScales& panel_scales, int i) {
  scale[0] = _mm512_mul_ps(panel_scales.d, widen(p.scales[i][0]));
  scale[1] = _mm512_mul_ps(panel_scales.d, widen(p.scales[i][1]));
}
template <class C>
BINHDAN_INLINE void scales_of(__m512* scale, __m512* min, const SuperPanel16M<C>& p,
                              const PanelScales& panel_scales, int i) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m512i both = _mm512_cvtepu8_epi32(load_row(p.scales[i][half]));
    scale[half] =
        _mm512_mul_ps(panel_scales.d, _mm512_cvtepi32_ps(_mm512_and_si512(both, _mm512_set1_epi32(15))));
    min[half] = _mm512_mul_ps(panel_scales.m, _mm512_cvtepi32_ps(_mm512_srli_epi32(both, 4)));
  }
}

// ---- blocks -------------------------------------------------------------------------------------------

// 32 columns of 16 rows, decoded. Code that multiplies blocks depends on kScales and kMins only, not on the
// type.
template <int scales, bool mins>
struct Block {
  static constexpr int kScales = scales;
  static constexpr bool kMins = mins;
  __m512i q[8];                   // 16 rows x columns 4 g .. 4 g + 3
  __m512 scale[scales];           // of columns 0 .. 31, or of 0 .. 15 and 16 .. 31
  __m512 min[mins ? scales : 1];  // unused without minimums
};

template <DType type>
using BlockOf = Block<PanelOf<type>::Panel::kScales, PanelOf<type>::Panel::kMins>;

// Decodes block i of a panel.
template <DType type>
BINHDAN_INLINE void decode_block(BlockOf<type>& block, const typename PanelOf<type>::Panel& panel,
                                 const PanelScales& panel_scales, int i) {
  decode(block.q, panel.quants[i]);
  if constexpr (PanelOf<type>::kHasLookup)
#pragma GCC unroll 8
    for (int g = 0; g < 8; ++g) block.q[g] = _mm512_shuffle_epi8(lookup_values<type>(), block.q[g]);
  scales_of(block.scale, block.min, panel, panel_scales, i);
}

}  // namespace binhdan::avx512
