// Panels in 256-bit registers: half a panel's rows (8 lanes of four columns) at a time. A kernel reads blocks
// of 32 columns, either from the panels (PackedBlocks) or decoded to bytes and floats in scratch
// (DecodedBlocks):
//
//   quants(b, g, half)    columns 4 g .. 4 g + 3 of rows 8 half .. 8 half + 7, a byte each
//   scale(b, part, half)  s_w of these rows; part 1 is columns 16 .. 31 of types whose scales have 16 columns
//   min(b, part, half)    m_w, if kMins
//
// If kSigned, a byte of quants is a signed value; else it is unsigned and the value is byte - kZeroPoint.
// `Dot` is the way to multiply bytes: if Dot::kNeedsUnsignedQuants, signed types are raised by 128, and their
// kZeroPoint is 128.
//
// Instructions. Bits move within bytes by a 16-bit shift and an AND: 2 operations for each field of a quant.
// On Intel since Skylake, vpand uses any of three vector ports (p015), vpsrlw/vpsllw two of them (p01); all
// have a latency of 1. Lookups are one vpshufb for 32 quants (p5; p15 since Ice Lake; latency 1). Source:
// uops.info.
#pragma once
#include "kernels/avx2/ymm.h"
#include "kernels/codec.h"
#include "kernels/panels.h"

namespace binhdan {
namespace {

BINHDAN_INLINE __m256i repeat_byte(int value) {
  return _mm256_set1_epi8(static_cast<char>(value));
}

// `width` bits of each byte, moved from bit `from` to bit `to`.
BINHDAN_INLINE __m256i move_bits(__m256i bytes, int width, int from, int to) {
  const __m256i moved = from > to ? _mm256_srli_epi16(bytes, from - to) : _mm256_slli_epi16(bytes, to - from);
  return _mm256_and_si256(moved, repeat_byte(((1 << width) - 1) << to));
}

// ---- quants: group g of rows row .. row + 7 -----------------------------------------------------------

BINHDAN_INLINE __m256i nibbles(const QuantBytes* planes, int g, int row) {
  return move_bits(load_bytes(planes[g % 4][row]), 4, g / 4 * 4, 0);
}
BINHDAN_INLINE __m256i two_bits(const QuantBytes* planes, int g, int row, int to) {
  return move_bits(load_bytes(planes[g / 4][row]), 2, g % 4 * 2, to);
}
BINHDAN_INLINE __m256i one_bit(const QuantBytes& plane, int g, int row, int to) {
  return move_bits(load_bytes(plane[row]), 1, g, to);
}

BINHDAN_INLINE __m256i unpack(const Quants8& quants, int g, int row) {
  return load_bytes(quants.low[g][row]);
}
BINHDAN_INLINE __m256i unpack(const Quants4& quants, int g, int row) {
  return nibbles(quants.low, g, row);
}
BINHDAN_INLINE __m256i unpack(const Quants5& quants, int g, int row) {
  return _mm256_or_si256(nibbles(quants.low, g, row), one_bit(quants.high, g, row, 4));
}
BINHDAN_INLINE __m256i unpack(const Quants6& quants, int g, int row) {
  return _mm256_or_si256(nibbles(quants.low, g, row), two_bits(quants.high, g, row, 4));
}
BINHDAN_INLINE __m256i unpack(const Quants2& quants, int g, int row) {
  return two_bits(quants.low, g, row, 0);
}
BINHDAN_INLINE __m256i unpack(const Quants1& quants, int g, int row) {
  return one_bit(quants.low, g, row, 1);
}
BINHDAN_INLINE __m256i unpack(const Quants3& quants, int g, int row) {
  return _mm256_or_si256(two_bits(quants.low, g, row, 0), one_bit(quants.high, g, row, 2));
}

// The values of 16 quants, plus the zero point, in both halves of the register.
template <DType type, int zero_point>
BINHDAN_INLINE __m256i lookup_values() {
  const auto at = [](int i) consteval { return static_cast<char>(PanelOf<type>::kLookup[i] + zero_point); };
  return _mm256_broadcastsi128_si256(_mm_setr_epi8(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7),
                                                   at(8), at(9), at(10), at(11), at(12), at(13), at(14),
                                                   at(15)));
}

// ---- scales of rows row .. row + 7 --------------------------------------------------------------------

BINHDAN_INLINE __m256i load_integers(const uint8_t* src) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(src)));
}
BINHDAN_INLINE __m256i load_integers(const int8_t* src) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(src)));
}
BINHDAN_INLINE __m256 load_d(const uint16_t* f16) {
  return load_f16(f16);
}
BINHDAN_INLINE __m256 load_d(const float* d) {
  return _mm256_loadu_ps(d);
}
template <class D>
BINHDAN_INLINE __m256 times(const D* d, __m256i integers) {
  return _mm256_mul_ps(load_d(d), _mm256_cvtepi32_ps(integers));
}
// e8m0_scale: the maximum is the first term for e < 2, whose scales are subnormal, and the second above.
BINHDAN_INLINE __m256 load_e8m0(const uint8_t* e) {
  const __m256i shifted = _mm256_slli_epi32(load_integers(e), 21);
  const __m256i subnormal = _mm256_add_epi32(shifted, _mm256_set1_epi32(1 << 21));
  const __m256i normal = _mm256_sub_epi32(_mm256_slli_epi32(shifted, 2), _mm256_set1_epi32(1 << 23));
  return _mm256_castsi256_ps(_mm256_max_epi32(subnormal, normal));
}
BINHDAN_INLINE __m256 negative(__m256 x) {
  return _mm256_xor_ps(_mm256_set1_ps(-0.0f), x);
}

template <class C, int blocks>
BINHDAN_INLINE __m256 scale_of(const PanelD<C, blocks>& p, int, int, int row) {
  return load_f16(p.d + row);
}
template <class C>
BINHDAN_INLINE __m256 scale_of(const PanelE<C>& p, int, int, int row) {
  return load_e8m0(p.e + row);
}
template <class C, int blocks>
BINHDAN_INLINE __m256 scale_of(const Panel16<C, blocks>& p, int block, int part, int row) {
  return load_f16(p.scales[block][part] + row);
}
template <class C>
BINHDAN_INLINE __m256 scale_of(const PanelDM<C>& p, int, int, int row) {
  return load_f16(p.d + row);
}
template <class C, class D>
BINHDAN_INLINE __m256 scale_of(const SuperPanel32<C, D>& p, int block, int, int row) {
  return times(p.d + row, load_integers(p.scales[block] + row));
}
template <class C>
BINHDAN_INLINE __m256 scale_of(const SuperPanel32M<C>& p, int block, int, int row) {
  return times(p.d + row, load_integers(p.scales[block] + row));
}
template <class C, class D>
BINHDAN_INLINE __m256 scale_of(const SuperPanel16<C, D>& p, int block, int part, int row) {
  return times(p.d + row, load_integers(p.scales[block][part] + row));
}
template <class C>
BINHDAN_INLINE __m256 scale_of(const SuperPanel16M<C>& p, int block, int part, int row) {
  const __m256i both = load_integers(p.scales[block][part] + row);
  return times(p.d + row, _mm256_and_si256(both, _mm256_set1_epi32(15)));
}

template <class C>
BINHDAN_INLINE __m256 min_of(const PanelDM<C>& p, int, int, int row) {
  return load_f16(p.m + row);
}
template <class C>
BINHDAN_INLINE __m256 min_of(const SuperPanel32M<C>& p, int block, int, int row) {
  return negative(times(p.dmin + row, load_integers(p.mins[block] + row)));
}
template <class C>
BINHDAN_INLINE __m256 min_of(const SuperPanel16M<C>& p, int block, int part, int row) {
  const __m256i both = load_integers(p.scales[block][part] + row);
  return negative(times(p.dmin + row, _mm256_srli_epi32(both, 4)));
}

// ---- blocks -------------------------------------------------------------------------------------------

// The properties of blocks, packed or decoded, that a product depends on.
template <int scales, bool mins, bool is_signed, int zero_point, int max_quant>
struct BlockTraits {
  static constexpr int kScales = scales;
  static constexpr bool kMins = mins, kSigned = is_signed;
  static constexpr int kZeroPoint = zero_point;
  static constexpr int kMaxQuant = max_quant;  // if not kSigned
};

template <DType type>
using Panel = typename PanelOf<type>::Panel;

template <DType type, class Dot>
using TraitsOf =
    BlockTraits<Panel<type>::kScales, Panel<type>::kMins,
                PanelOf<type>::kSigned && !Dot::kNeedsUnsignedQuants,
                PanelOf<type>::kSigned && Dot::kNeedsUnsignedQuants ? 128 : PanelOf<type>::kZeroPoint,
                PanelOf<type>::kMaxQuant>;

// One row of panels.
template <DType type, class Dot>
struct PackedBlocks : TraitsOf<type, Dot> {
  using Panel = typename PanelOf<type>::Panel;
  using Traits = TraitsOf<type, Dot>;
  static constexpr bool kFromMemory = true;
  const Panel* panels;

  [[gnu::always_inline]] explicit PackedBlocks(const void* weights, int64_t row, int64_t cols)
      : panels(static_cast<const Panel*>(weights) + row / kPanelRows * (cols / (32 * Panel::kBlocks))) {}

  [[gnu::always_inline]] static int in_panel(int64_t b) { return static_cast<int>(b % Panel::kBlocks); }
  [[gnu::always_inline]] const Panel& panel(int64_t b) const { return panels[b / Panel::kBlocks]; }

  [[gnu::always_inline]] __m256i quants(int64_t b, int g, int half) const {
    const __m256i quants = unpack(panel(b).quants[in_panel(b)], g, 8 * half);
    constexpr bool kRaised = PanelOf<type>::kSigned && Dot::kNeedsUnsignedQuants;  // by 128
    if constexpr (PanelOf<type>::kHasLookup)
      return _mm256_shuffle_epi8(lookup_values<type, Traits::kZeroPoint>(), quants);
    else
      return kRaised ? _mm256_xor_si256(quants, repeat_byte(0x80)) : quants;
  }
  [[gnu::always_inline]] __m256 scale(int64_t b, int part, int half) const {
    return scale_of(panel(b), in_panel(b), part, 8 * half);
  }
  [[gnu::always_inline]] __m256 min(int64_t b, int part, int half) const {
    return min_of(panel(b), in_panel(b), part, 8 * half);
  }
  // The bytes of block b in the panels, for prefetching.
  static constexpr int64_t kBytes = sizeof(Panel) / Panel::kBlocks;
  [[gnu::always_inline]] const char* bytes(int64_t b) const {
    return reinterpret_cast<const char*>(panels) + b * kBytes;
  }
};

// One block of PackedBlocks, decoded in memory.
template <class Traits>
struct DecodedBlock {
  uint8_t quants[8][kPanelRows][4];
  float scale[Traits::kScales][kPanelRows];
  float min[Traits::kMins ? Traits::kScales : 1][kPanelRows];  // unused without minimums

  template <class Packed>
  [[gnu::always_inline]] void decode(const Packed& from, int64_t b) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g)
        _mm256_store_si256(reinterpret_cast<__m256i*>(quants[g][8 * half]), from.quants(b, g, half));
#pragma GCC unroll 2
      for (int part = 0; part < Traits::kScales; ++part) {
        _mm256_store_ps(scale[part] + 8 * half, from.scale(b, part, half));
        if constexpr (Traits::kMins) _mm256_store_ps(min[part] + 8 * half, from.min(b, part, half));
      }
    }
  }
};

template <class Traits>
struct DecodedBlocks : Traits {
  static constexpr bool kFromMemory = false;
  const DecodedBlock<Traits>* blocks;

  [[gnu::always_inline]] explicit DecodedBlocks(const DecodedBlock<Traits>* first) : blocks(first) {}

  [[gnu::always_inline]] __m256i quants(int64_t b, int g, int half) const {
    return load_bytes(blocks[b].quants[g][8 * half]);
  }
  [[gnu::always_inline]] __m256 scale(int64_t b, int part, int half) const {
    return _mm256_load_ps(blocks[b].scale[part] + 8 * half);
  }
  [[gnu::always_inline]] __m256 min(int64_t b, int part, int half) const {
    return _mm256_load_ps(blocks[b].min[part] + 8 * half);
  }
};

}  // namespace
}  // namespace binhdan
