// Panels in 128-bit registers: a quarter of a panel's rows (4 lanes of four columns) at a time. A kernel
// reads blocks of 32 columns, either from the panels (PackedBlocks) or decoded to bytes and floats in scratch
// (DecodedBlocks):
//
//   quants(b, g, quarter)    columns 4 g .. 4 g + 3 of rows 4 quarter .. 4 quarter + 3, a signed byte each
//   scale(b, part, quarter)  s_w of these rows; part 1 is columns 16 .. 31 if scales have 16 columns
//   min(b, part, quarter)    m_w, if kMins
//   rows(b, g)               quants(b, g, quarter) of all quarters, if kPlainBytes: the quants are bytes in memory
//
// The value of a quant is byte - kZeroPoint. In PackedBlocks, unsigned types keep their zero point: the sum
// of the activations corrects the product. Decoding subtracts it, so DecodedBlocks have none.
//
// Instructions: two for each field of a quant (ushr or shl, and), one (tbl) for a lookup of 16 quants.
// Cortex-A72 and A76: and 2 a cycle, ushr 1, tbl of one register 2. Source: Arm, Software Optimization Guides.
#pragma once
#include "kernels/codec.h"
#include "kernels/neon/registers.h"
#include "kernels/panels.h"

namespace binhdan {
namespace {

constexpr int kQuarters = kPanelRows / 4;

// `width` bits of each byte, moved from bit `from` to bit `to`. `>>` and `<<` of a vector take numbers that
// are constants only after inlining; the intrinsics do not.
BINHDAN_INLINE uint8x16_t move_bits(uint8x16_t bytes, int width, int from, int to) {
  if (from > to) bytes = bytes >> static_cast<uint8_t>(from - to);
  if (from < to) bytes = bytes << static_cast<uint8_t>(to - from);
  if (to == 0 && from + width == 8) return bytes;  // the shift has removed the other bits
  return vandq_u8(bytes, vdupq_n_u8(static_cast<uint8_t>(((1 << width) - 1) << to)));
}

// ---- quants: group g of rows row .. row + 3 -----------------------------------------------------------

BINHDAN_INLINE uint8x16_t nibbles(const QuantBytes* planes, int g, int row) {
  return move_bits(vld1q_u8(planes[g % 4][row]), 4, g / 4 * 4, 0);
}
BINHDAN_INLINE uint8x16_t two_bits(const QuantBytes* planes, int g, int row, int to) {
  return move_bits(vld1q_u8(planes[g / 4][row]), 2, g % 4 * 2, to);
}
BINHDAN_INLINE uint8x16_t one_bit(const QuantBytes& plane, int g, int row, int to) {
  return move_bits(vld1q_u8(plane[row]), 1, g, to);
}

BINHDAN_INLINE uint8x16_t unpack(const Quants8& quants, int g, int row) {
  return vld1q_u8(quants.low[g][row]);
}
BINHDAN_INLINE uint8x16_t unpack(const Quants4& quants, int g, int row) {
  return nibbles(quants.low, g, row);
}
BINHDAN_INLINE uint8x16_t unpack(const Quants5& quants, int g, int row) {
  return vorrq_u8(nibbles(quants.low, g, row), one_bit(quants.high, g, row, 4));
}
BINHDAN_INLINE uint8x16_t unpack(const Quants6& quants, int g, int row) {
  return vorrq_u8(nibbles(quants.low, g, row), two_bits(quants.high, g, row, 4));
}
BINHDAN_INLINE uint8x16_t unpack(const Quants2& quants, int g, int row) {
  return two_bits(quants.low, g, row, 0);
}
BINHDAN_INLINE uint8x16_t unpack(const Quants1& quants, int g, int row) {
  return one_bit(quants.low, g, row, 1);
}
BINHDAN_INLINE uint8x16_t unpack(const Quants3& quants, int g, int row) {
  return vorrq_u8(two_bits(quants.low, g, row, 0), one_bit(quants.high, g, row, 2));
}

// ---- scales of rows row .. row + 3 --------------------------------------------------------------------

BINHDAN_INLINE uint32_t four_bytes(const void* src) {
  uint32_t value;
  __builtin_memcpy(&value, src, sizeof value);
  return value;
}
BINHDAN_INLINE int32x4_t load_integers(const uint8_t* src) {
  const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four_bytes(src))));
  return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(wide)));
}
BINHDAN_INLINE int32x4_t load_integers(const int8_t* src) {
  const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four_bytes(src))));
  return vmovl_s16(vget_low_s16(wide));
}
BINHDAN_INLINE float32x4_t load_d(const uint16_t* f16) {
  return load_f16(f16);
}
BINHDAN_INLINE float32x4_t load_d(const float* d) {
  return vld1q_f32(d);
}
template <class D>
BINHDAN_INLINE float32x4_t times(const D* d, int32x4_t integers) {
  return vmulq_f32(load_d(d), vcvtq_f32_s32(integers));
}
// e8m0_scale: the maximum is the first term for e < 2, whose scales are subnormal, and the second above.
BINHDAN_INLINE float32x4_t load_e8m0(const uint8_t* e) {
  const int32x4_t shifted = vshlq_n_s32(load_integers(e), 21);
  const int32x4_t subnormal = vaddq_s32(shifted, vdupq_n_s32(1 << 21));
  const int32x4_t normal = vsubq_s32(vshlq_n_s32(shifted, 2), vdupq_n_s32(1 << 23));
  return vreinterpretq_f32_s32(vmaxq_s32(subnormal, normal));
}

template <class C, int blocks>
BINHDAN_INLINE float32x4_t scale_of(const PanelD<C, blocks>& p, int, int, int row) {
  return load_f16(p.d + row);
}
template <class C>
BINHDAN_INLINE float32x4_t scale_of(const PanelE<C>& p, int, int, int row) {
  return load_e8m0(p.e + row);
}
template <class C, int blocks>
BINHDAN_INLINE float32x4_t scale_of(const Panel16<C, blocks>& p, int block, int part, int row) {
  return load_f16(p.scales[block][part] + row);
}
template <class C>
BINHDAN_INLINE float32x4_t scale_of(const PanelDM<C>& p, int, int, int row) {
  return load_f16(p.d + row);
}
template <class C, class D>
BINHDAN_INLINE float32x4_t scale_of(const SuperPanel32<C, D>& p, int block, int, int row) {
  return times(p.d + row, load_integers(p.scales[block] + row));
}
template <class C>
BINHDAN_INLINE float32x4_t scale_of(const SuperPanel32M<C>& p, int block, int, int row) {
  return times(p.d + row, load_integers(p.scales[block] + row));
}
template <class C, class D>
BINHDAN_INLINE float32x4_t scale_of(const SuperPanel16<C, D>& p, int block, int part, int row) {
  return times(p.d + row, load_integers(p.scales[block][part] + row));
}
template <class C>
BINHDAN_INLINE float32x4_t scale_of(const SuperPanel16M<C>& p, int block, int part, int row) {
  const int32x4_t both = load_integers(p.scales[block][part] + row);
  return times(p.d + row, vandq_s32(both, vdupq_n_s32(15)));
}

template <class C>
BINHDAN_INLINE float32x4_t min_of(const PanelDM<C>& p, int, int, int row) {
  return load_f16(p.m + row);
}
template <class C>
BINHDAN_INLINE float32x4_t min_of(const SuperPanel32M<C>& p, int block, int, int row) {
  return vnegq_f32(times(p.dmin + row, load_integers(p.mins[block] + row)));
}
template <class C>
BINHDAN_INLINE float32x4_t min_of(const SuperPanel16M<C>& p, int block, int part, int row) {
  const int32x4_t both = load_integers(p.scales[block][part] + row);
  return vnegq_f32(times(p.dmin + row, vshrq_n_s32(both, 4)));
}

// ---- blocks -------------------------------------------------------------------------------------------

consteval int larger(int a, int b) {
  return a > b ? a : b;
}

template <DType type>
struct TypeTraits {
  using Descriptor = PanelOf<type>;
  using Panel = typename Descriptor::Panel;
  static constexpr int kScales = Panel::kScales;
  static constexpr bool kMins = Panel::kMins;
};

// Blocks with the properties that a product depends on. kMaxByte: the largest absolute value of a byte of
// quants.
template <DType type>
struct PackedTraits : TypeTraits<type> {
  using Descriptor = PanelOf<type>;
  static constexpr bool kUnsigned = !Descriptor::kHasLookup && !Descriptor::kSigned;
  static constexpr int kZeroPoint = kUnsigned ? Descriptor::kZeroPoint : 0;
  static constexpr int kMaxByte = [] {
    if constexpr (Descriptor::kHasLookup)
      return larger(-smallest(Descriptor::kLookup), largest(Descriptor::kLookup));
    else
      return kUnsigned ? Descriptor::kMaxQuant : 128;
  }();
};
template <DType type>
struct DecodedTraits : TypeTraits<type> {
  using Packed = PackedTraits<type>;
  static constexpr int kZeroPoint = 0;
  static constexpr int kMaxByte = larger(Packed::kZeroPoint, Packed::kMaxByte - Packed::kZeroPoint);
};

// One row of panels.
template <DType type>
struct PackedBlocks : PackedTraits<type> {
  using Panel = typename PanelOf<type>::Panel;
  static constexpr bool kFromMemory = true;
  static constexpr bool kPlainBytes = Panel::Quants::kBits == 8 && !PanelOf<type>::kHasLookup;
  const Panel* panels;

  [[gnu::always_inline]] explicit PackedBlocks(const void* weights, int64_t row, int64_t cols)
      : panels(static_cast<const Panel*>(weights) + row / kPanelRows * (cols / (32 * Panel::kBlocks))) {}

  [[gnu::always_inline]] static int in_panel(int64_t b) { return static_cast<int>(b % Panel::kBlocks); }
  [[gnu::always_inline]] const Panel& panel(int64_t b) const { return panels[b / Panel::kBlocks]; }

  [[gnu::always_inline]] int8x16_t quants(int64_t b, int g, int quarter) const {
    const uint8x16_t bytes = unpack(panel(b).quants[in_panel(b)], g, 4 * quarter);
    if constexpr (PanelOf<type>::kHasLookup)
      return vqtbl1q_s8(vld1q_s8(PanelOf<type>::kLookup), bytes);
    else
      return vreinterpretq_s8_u8(bytes);
  }
  [[gnu::always_inline]] int8x16x4_t rows(int64_t b, int g) const {
    return vld1q_s8_x4(reinterpret_cast<const int8_t*>(panel(b).quants[in_panel(b)].low[g]));
  }
  [[gnu::always_inline]] float32x4_t scale(int64_t b, int part, int quarter) const {
    return scale_of(panel(b), in_panel(b), part, 4 * quarter);
  }
  [[gnu::always_inline]] float32x4_t min(int64_t b, int part, int quarter) const {
    return min_of(panel(b), in_panel(b), part, 4 * quarter);
  }
  // The value of a quant, without a zero point.
  [[gnu::always_inline]] int8x16_t values(int64_t b, int g, int quarter) const {
    return vsubq_s8(quants(b, g, quarter), vdupq_n_s8(PackedTraits<type>::kZeroPoint));
  }
  // The bytes of block b in the panels, for prefetching.
  static constexpr int64_t kBytes = sizeof(Panel) / Panel::kBlocks;
  [[gnu::always_inline]] const char* bytes(int64_t b) const {
    return reinterpret_cast<const char*>(panels) + b * kBytes;
  }
};

// One block of PackedBlocks, decoded in memory.
template <DType type>
struct DecodedBlock {
  using Traits = DecodedTraits<type>;
  int8_t quants[8][kQuarters][16];
  float scale[Traits::kScales][kPanelRows];
  float min[Traits::kMins ? Traits::kScales : 1][kPanelRows];  // unused without minimums

  [[gnu::always_inline]] void decode(const PackedBlocks<type>& from, int64_t b) {
#pragma GCC unroll 4
    for (int quarter = 0; quarter < kQuarters; ++quarter) {
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) vst1q_s8(quants[g][quarter], from.values(b, g, quarter));
#pragma GCC unroll 2
      for (int part = 0; part < Traits::kScales; ++part) {
        vst1q_f32(scale[part] + 4 * quarter, from.scale(b, part, quarter));
        if constexpr (Traits::kMins) vst1q_f32(min[part] + 4 * quarter, from.min(b, part, quarter));
      }
    }
  }
};

template <DType type>
struct DecodedBlocks : DecodedTraits<type> {
  static constexpr bool kFromMemory = false;
  static constexpr bool kPlainBytes = false;
  const DecodedBlock<type>* blocks;

  [[gnu::always_inline]] explicit DecodedBlocks(const DecodedBlock<type>* first) : blocks(first) {}

  [[gnu::always_inline]] int8x16_t quants(int64_t b, int g, int quarter) const {
    return vld1q_s8(blocks[b].quants[g][quarter]);
  }
  [[gnu::always_inline]] float32x4_t scale(int64_t b, int part, int quarter) const {
    return vld1q_f32(blocks[b].scale[part] + 4 * quarter);
  }
  [[gnu::always_inline]] float32x4_t min(int64_t b, int part, int quarter) const {
    return vld1q_f32(blocks[b].min[part] + 4 * quarter);
  }
};

}  // namespace
}  // namespace binhdan
