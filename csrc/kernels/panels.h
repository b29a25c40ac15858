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
struct Quants1 {  // quants are 0 or 2; bit g of `low` is bit 1 of group g
  static constexpr int kBits = 2;
  QuantBytes low;
};
struct Quants3 {  // two bits as in Quants2; bit g of `high` is the third bit of group g
  static constexpr int kBits = 3;
  QuantBytes low[2], high;
};

// ---- layouts of scales: d and dmin (m), and int8 multiples of them -------------------------------------
// kBlocks: blocks of 32 columns in a panel. kScales: scales (and minimums) of a block, two if each has 16
// columns. uint16_t: float16. D is uint16_t, or float if the file's float16 is multiplied by a power of two.

template <class C, int blocks = 1>
struct PanelD {  // w = d value(quant)
  using Quants = C;
  static constexpr int kBlocks = blocks, kScales = 1;
  static constexpr bool kMins = false;
  uint16_t d[kPanelRows];
  C quants[blocks];
};
template <class C>
struct PanelDM {  // w = d value(quant) + m
  using Quants = C;
  static constexpr int kBlocks = 1, kScales = 1;
  static constexpr bool kMins = true;
  uint16_t d[kPanelRows], m[kPanelRows];
  C quants[1];
};
template <class C>
struct PanelE {  // w = e8m0_scale(e) value(quant)
  using Quants = C;
  static constexpr int kBlocks = 1, kScales = 1;
  static constexpr bool kMins = false;
  uint8_t e[kPanelRows];
  C quants[1];
};
template <class C, int blocks>
struct Panel16 {  // w = scales[block][half] value(quant); half 0 is columns 0 .. 15
  using Quants = C;
  static constexpr int kBlocks = blocks, kScales = 2;
  static constexpr bool kMins = false;
  uint16_t scales[blocks][2][kPanelRows];
  C quants[blocks];
};
template <class C, class D = uint16_t>
struct SuperPanel32 {  // w = d scales[block] value(quant)
  using Quants = C;
  static constexpr int kBlocks = kSuperBlocks, kScales = 1;
  static constexpr bool kMins = false;
  D d[kPanelRows];
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
template <class C, class D = uint16_t>
struct SuperPanel16 {  // w = d scales[block][half] value(quant)
  using Quants = C;
  static constexpr int kBlocks = kSuperBlocks, kScales = 2;
  static constexpr bool kMins = false;
  D d[kPanelRows];
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
//   kSigned      the value of a quant is a signed byte; if not, quants are unsigned bytes and
//   kZeroPoint   is subtracted from them
//   kMaxQuant    the largest byte
//   kHasLookup   the value of a quant is kLookup[quant], which a kernel adds the zero point to for the byte
//                above; if not, quants are the bytes
// so a kernel needs no type names.

template <class P, int zero_point = 0>
struct UnsignedQuants {
  using Panel = P;
  static constexpr bool kSigned = false;
  static constexpr int kZeroPoint = zero_point;
  static constexpr int kMaxQuant = (1 << P::Quants::kBits) - 1;
  static constexpr bool kHasLookup = false;
};
template <class P>
struct SignedQuants {  // two's complement
  using Panel = P;
  static constexpr bool kSigned = true;
  static constexpr int kZeroPoint = 0;
  static constexpr int kMaxQuant = 255;
  static constexpr bool kHasLookup = false;
};

consteval int smallest(const int8_t (&values)[16]) {
  int smallest = values[0];
  for (int value : values) smallest = value < smallest ? value : smallest;
  return smallest;
}
consteval int largest(const int8_t (&values)[16]) {
  int largest = values[0];
  for (int value : values) largest = value > largest ? value : largest;
  return largest;
}

// A zero point makes the values unsigned if their range has 7 bits. With more, vpmaddubsw would saturate.
template <class P, const int8_t (&lookup)[16]>
struct LookupQuants {
  using Panel = P;
  static constexpr bool kSigned = largest(lookup) - smallest(lookup) > 127;
  static constexpr int kZeroPoint = kSigned ? 0 : -smallest(lookup);
  static constexpr int kMaxQuant = kSigned ? 255 : largest(lookup) - smallest(lookup);
  static constexpr bool kHasLookup = true;
  static constexpr const int8_t (&kLookup)[16] = lookup;
};

// ---- types --------------------------------------------------------------------------------------------

template <DType type>
struct PanelOf;
// clang-format off
template <> struct PanelOf<DType::q8_0>    : SignedQuants<PanelD<Quants8>> {};
template <> struct PanelOf<DType::q1_0>    : UnsignedQuants<PanelD<Quants1, 4>, 1> {};
template <> struct PanelOf<DType::q2_0>    : UnsignedQuants<PanelD<Quants2, 2>, 1> {};
template <> struct PanelOf<DType::q4_0>    : UnsignedQuants<PanelD<Quants4>, 8> {};
template <> struct PanelOf<DType::q5_0>    : UnsignedQuants<PanelD<Quants5>, 16> {};
template <> struct PanelOf<DType::iq4_nl>  : LookupQuants<PanelD<Quants4>, kIQ4Values> {};
template <> struct PanelOf<DType::q4_1>    : UnsignedQuants<PanelDM<Quants4>> {};
template <> struct PanelOf<DType::q5_1>    : UnsignedQuants<PanelDM<Quants5>> {};
template <> struct PanelOf<DType::iq4_xs>  : LookupQuants<SuperPanel32<Quants4>, kIQ4Values> {};
template <> struct PanelOf<DType::q4_k>    : UnsignedQuants<SuperPanel32M<Quants4>> {};
template <> struct PanelOf<DType::q5_k>    : UnsignedQuants<SuperPanel32M<Quants5>> {};
template <> struct PanelOf<DType::q6_k>    : UnsignedQuants<SuperPanel16<Quants6>, 32> {};
template <> struct PanelOf<DType::q3_k>    : UnsignedQuants<SuperPanel16<Quants3>, 4> {};
template <> struct PanelOf<DType::q2_k>    : UnsignedQuants<SuperPanel16M<Quants2>> {};
template <> struct PanelOf<DType::tq2_0>   : UnsignedQuants<PanelD<Quants2, kSuperBlocks>, 1> {};
template <> struct PanelOf<DType::mxfp4>   : LookupQuants<PanelE<Quants4>, kFP4Values> {};
template <> struct PanelOf<DType::nvfp4>   : LookupQuants<Panel16<Quants4, 2>, kFP4Values> {};
template <> struct PanelOf<DType::iq1_m>   : LookupQuants<SuperPanel16<Quants3, float>, kIQ1Values> {};
template <> struct PanelOf<DType::iq2_s>   : LookupQuants<SuperPanel16<Quants3, float>, kIQ2Values> {};
template <> struct PanelOf<DType::iq3_xxs> : LookupQuants<SuperPanel32<Quants4, float>, kIQ3XxsValues> {};
template <> struct PanelOf<DType::iq3_s>   : LookupQuants<SuperPanel32<Quants4, float>, kIQ3SValues> {};
// Types that are packed as another type.
template <> struct PanelOf<DType::tq1_0>   : PanelOf<DType::tq2_0> {};
template <> struct PanelOf<DType::iq1_s>   : PanelOf<DType::iq1_m> {};
template <> struct PanelOf<DType::iq2_xxs> : PanelOf<DType::iq2_s> {};
template <> struct PanelOf<DType::iq2_xs>  : PanelOf<DType::iq2_s> {};

// Every type that has panels and kernels of its own: X(q8_0) ...
#define BINHDAN_PANEL_TYPES(X)                                                              \
  X(q8_0) X(q1_0) X(q2_0) X(q4_0) X(q5_0) X(iq4_nl) X(q4_1) X(q5_1) X(iq4_xs) X(q4_k)       \
  X(q5_k) X(q6_k) X(q3_k) X(q2_k) X(tq2_0) X(mxfp4) X(nvfp4) X(iq1_m) X(iq2_s) X(iq3_xxs)   \
  X(iq3_s)
// Every type that is packed as another type and has its kernels: X(type, other) ...
#define BINHDAN_REPACKED_TYPES(X) X(tq1_0, tq2_0) X(iq1_s, iq1_m) X(iq2_xxs, iq2_s) X(iq2_xs, iq2_s)
// clang-format on

using PanelQ8_0 = PanelOf<DType::q8_0>::Panel;
using PanelQ4_0 = PanelOf<DType::q4_0>::Panel;

// As large as the file's blocks, except that scales of 3 to 6 bits use a byte each (UE4M3: two bytes), and
// that grids are expanded: 3 bits for each weight of IQ1 and IQ2, 4 bits for IQ3.
static_assert(sizeof(PanelQ8_0) == 16 * 34 && sizeof(PanelQ4_0) == 16 * 18);
static_assert(sizeof(PanelOf<DType::q5_0>::Panel) == 16 * 22 &&
              sizeof(PanelOf<DType::q5_1>::Panel) == 16 * 24);
static_assert(sizeof(PanelOf<DType::q4_k>::Panel) == 16 * 148 &&
              sizeof(PanelOf<DType::q5_k>::Panel) == 16 * 180);
static_assert(sizeof(PanelOf<DType::q6_k>::Panel) == 16 * 210 &&
              sizeof(PanelOf<DType::iq4_xs>::Panel) == 16 * 138);
static_assert(sizeof(PanelOf<DType::q2_k>::Panel) == 16 * 84 &&
              sizeof(PanelOf<DType::q3_k>::Panel) == 16 * 114);
static_assert(sizeof(PanelOf<DType::q1_0>::Panel) == 16 * 18 &&
              sizeof(PanelOf<DType::q2_0>::Panel) == 16 * 18);
static_assert(sizeof(PanelOf<DType::tq2_0>::Panel) == 16 * 66 &&
              sizeof(PanelOf<DType::mxfp4>::Panel) == 16 * 17);
static_assert(sizeof(PanelOf<DType::nvfp4>::Panel) == 16 * 40 &&
              sizeof(PanelOf<DType::iq1_m>::Panel) == 16 * 116);
static_assert(sizeof(PanelOf<DType::iq2_s>::Panel) == 16 * 116 &&
              sizeof(PanelOf<DType::iq3_s>::Panel) == 16 * 140);

}  // namespace binhdan
