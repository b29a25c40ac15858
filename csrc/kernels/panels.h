// Packed layouts. 16 rows of a matrix are interleaved, so that one 32-bit lane of a vector register is one
// row of the output and holds four neighbouring columns: the operand shape of AVX2 maddubs, VNNI vpdpbusd,
// NEON sdot and AMX tiles (AVX2 reads a group as 2 x 8 rows, NEON as 4 x 4). Each 16 rows are a row of
// panels, one panel for every block of the file's type: 32 columns, or the 256 of a super-block.
//
// A panel has quants (the integer codes of 32 columns, in one of several bit layouts) and scales (which turn
// them into weights). Types share both, so a kernel is written once for each layout of quants and once for
// each layout of scales. A descriptor, PanelOf<type>, adds what the quants stand for.
#pragma once
#include <cstdint>

#include "base/dtype.h"
#include "kernels/codec.h"

namespace binhdan {

inline constexpr int kPanelRows = 16;
inline constexpr int kSuperBlocks = kSuper / 32;

// ---- layouts of quants: 32 columns x 16 rows ----------------------------------------------------------
// Group g is columns 4 g .. 4 g + 3. Byte [row][c] of a plane holds bits of column c of its groups.

using QuantBytes = uint8_t[kPanelRows][4];

struct Quants8 {  // two's complement
  static constexpr int kBits = 8;
  QuantBytes low[8];  // [g]
};
struct Quants4 {  // low[g]: low nibble = group g, high nibble = group g + 4
  static constexpr int kBits = 4;
  QuantBytes low[4];
};
struct Quants5 {  // four bits as in Quants4; bit g of `high` is the fifth bit of group g
  static constexpr int kBits = 5;
  QuantBytes low[4], high;
};
struct Quants6 {  // four bits as in Quants4; bits 2 (g % 4), + 1 of high[g / 4] are the two above them
  static constexpr int kBits = 6;
  QuantBytes low[4], high[2];
};
struct Quants2 {  // bits 2 (g % 4), + 1 of low[g / 4]
  static constexpr int kBits = 2;
  QuantBytes low[2];
};
struct Quants3 {  // two bits as in Quants2; bit g of `high` is the third bit of group g
  static constexpr int kBits = 3;
  QuantBytes low[2], high;
};

// ---- layouts of scales: float16 d and dmin (m), int8 multiples of them --------------------------------
// kBlocks: blocks of 32 columns in a panel. kScales: scales (and minimums) of a block, two if each has 16
// columns.

template <class C>
struct PanelD {  // w = d value(quant)
  using Quants = C;
  static constexpr int kBlocks = 1, kScales = 1;
  static constexpr bool kMins = false;
  uint16_t d[kPanelRows];
  C quants;
};
template <class C>
struct PanelDM {  // w = d value(quant) + m
  using Quants = C;
  static constexpr int kBlocks = 1, kScales = 1;
  static constexpr bool kMins = true;
  uint16_t d[kPanelRows], m[kPanelRows];
  C quants;
};
template <class C>
struct SuperPanel32 {  // w = d scales[block] value(quant)
  using Quants = C;
  static constexpr int kBlocks = kSuperBlocks, kScales = 1;
  static constexpr bool kMins = false;
  uint16_t d[kPanelRows];
  int8_t scales[kSuperBlocks][kPanelRows];
  C quants[kSuperBlocks];
};
template <class C>
struct SuperPanel32M {  // w = d scales[block] value(quant) - dmin mins[block]
  using Quants = C;
  static constexpr int kBlocks = kSuperBlocks, kScales = 1;
  static constexpr bool kMins = true;
  uint16_t d[kPanelRows], dmin[kPanelRows];
  uint8_t scales[kSuperBlocks][kPanelRows], mins[kSuperBlocks][kPanelRows];  // 0 .. 63
  C quants[kSuperBlocks];
};
template <class C>
struct SuperPanel16 {  // w = d scales[block][half] value(quant); half 0 is columns 0 .. 15
  using Quants = C;
  static constexpr int kBlocks = kSuperBlocks, kScales = 2;
  static constexpr bool kMins = false;
  uint16_t d[kPanelRows];
  int8_t scales[kSuperBlocks][2][kPanelRows];
  C quants[kSuperBlocks];
};
template <class C>
struct SuperPanel16M {  // w = d (scales & 15) value(quant) - dmin (scales >> 4), scales[block][half]
  using Quants = C;
  static constexpr int kBlocks = kSuperBlocks, kScales = 2;
  static constexpr bool kMins = true;
  uint16_t d[kPanelRows], dmin[kPanelRows];
  uint8_t scales[kSuperBlocks][2][kPanelRows];
  C quants[kSuperBlocks];
};

// ---- what quants stand for ----------------------------------------------------------------------------
// Every descriptor of a type has
//   Panel        its layout
//   kSigned      the value of a quant is a signed byte; if not, quants are unsigned and
//   kZeroPoint   is subtracted from them
//   kHasLookup   the value of a quant is kLookup[quant]; if not, quants are the values themselves
// so a kernel needs no type names.

template <class P, int zero_point = 0>
struct UnsignedQuants {
  using Panel = P;
  static constexpr bool kSigned = false;
  static constexpr int kZeroPoint = zero_point;
  static constexpr bool kHasLookup = false;
};
template <class P>
struct SignedQuants {  // two's complement
  using Panel = P;
  static constexpr bool kSigned = true;
  static constexpr int kZeroPoint = 0;
  static constexpr bool kHasLookup = false;
};
template <class P, const int8_t (&lookup)[16]>
struct LookupQuants {
  using Panel = P;
  static constexpr bool kSigned = true;
  static constexpr int kZeroPoint = 0;
  static constexpr bool kHasLookup = true;
  static constexpr const int8_t (&kLookup)[16] = lookup;
};

// ---- types --------------------------------------------------------------------------------------------

template <DType type>
struct PanelOf;
// clang-format off
template <> struct PanelOf<DType::q8_0>   : SignedQuants<PanelD<Quants8>> {};
template <> struct PanelOf<DType::q4_0>   : UnsignedQuants<PanelD<Quants4>, 8> {};
template <> struct PanelOf<DType::q5_0>   : UnsignedQuants<PanelD<Quants5>, 16> {};
template <> struct PanelOf<DType::iq4_nl> : LookupQuants<PanelD<Quants4>, kIQ4Values> {};
template <> struct PanelOf<DType::q4_1>   : UnsignedQuants<PanelDM<Quants4>> {};
template <> struct PanelOf<DType::q5_1>   : UnsignedQuants<PanelDM<Quants5>> {};
template <> struct PanelOf<DType::iq4_xs> : LookupQuants<SuperPanel32<Quants4>, kIQ4Values> {};
template <> struct PanelOf<DType::q4_k>   : UnsignedQuants<SuperPanel32M<Quants4>> {};
template <> struct PanelOf<DType::q5_k>   : UnsignedQuants<SuperPanel32M<Quants5>> {};
template <> struct PanelOf<DType::q6_k>   : UnsignedQuants<SuperPanel16<Quants6>, 32> {};
template <> struct PanelOf<DType::q3_k>   : UnsignedQuants<SuperPanel16<Quants3>, 4> {};
template <> struct PanelOf<DType::q2_k>   : UnsignedQuants<SuperPanel16M<Quants2>> {};
// clang-format on

// Every type that has panels: X(q8_0) ...
#define BINHDAN_PANEL_TYPES(X) \
  X(q8_0) X(q4_0) X(q5_0) X(iq4_nl) X(q4_1) X(q5_1) X(iq4_xs) X(q4_k) X(q5_k) X(q6_k) X(q3_k) X(q2_k)

using PanelQ8_0 = PanelOf<DType::q8_0>::Panel;
using PanelQ4_0 = PanelOf<DType::q4_0>::Panel;

// As large as the file's blocks, except that six-bit scales use a byte each.
static_assert(sizeof(PanelQ8_0) == 16 * 34 && sizeof(PanelQ4_0) == 16 * 18);
static_assert(sizeof(PanelOf<DType::q5_0>::Panel) == 16 * 22 &&
              sizeof(PanelOf<DType::q5_1>::Panel) == 16 * 24);
static_assert(sizeof(PanelOf<DType::q4_k>::Panel) == 16 * 148 &&
              sizeof(PanelOf<DType::q5_k>::Panel) == 16 * 180);
static_assert(sizeof(PanelOf<DType::q6_k>::Panel) == 16 * 210 &&
              sizeof(PanelOf<DType::iq4_xs>::Panel) == 16 * 138);
static_assert(sizeof(PanelOf<DType::q2_k>::Panel) == 16 * 84 &&
              sizeof(PanelOf<DType::q3_k>::Panel) == 16 * 114);

}  // namespace binhdan
