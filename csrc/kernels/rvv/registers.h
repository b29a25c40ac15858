// Sixteen lanes, one for each row of a panel, in vector registers of 128 bits or of at least 256 bits. The types of
// RVV have no size, so they can be neither members nor elements of arrays: with_registers() declares any number
// of them.
//
// Only version 1.0 of the V extension is used. Zvfhmin would convert float16 with one instruction, but no
// processor is required to have it.
#pragma once
#include <riscv_vector.h>

#include "kernels/inline.h"

namespace binhdan::rvv {
namespace {

constexpr size_t kRowLanes = 16;

// Bytes, shorts, ints and floats: 16 elements of 8, 16, 32 and 32 bits, in registers of 128 bits.
struct Vlen128 {
  static constexpr int kBits = 128;
  using Bytes = vint8m1_t;
  using Shorts = vint16m2_t;
  using Ints = vint32m4_t;
  using Floats = vfloat32m4_t;

  BINHDAN_INLINE Bytes load(const int8_t* src) { return __riscv_vle8_v_i8m1(src, kRowLanes); }
  BINHDAN_INLINE Shorts load(const int16_t* src) { return __riscv_vle16_v_i16m2(src, kRowLanes); }
  BINHDAN_INLINE Shorts no_shorts() { return __riscv_vmv_v_x_i16m2(0, kRowLanes); }
  BINHDAN_INLINE Ints no_ints() { return __riscv_vmv_v_x_i32m4(0, kRowLanes); }
  BINHDAN_INLINE Floats no_floats() { return __riscv_vfmv_v_f_f32m4(0.0f, kRowLanes); }
  BINHDAN_INLINE Floats as_floats(Ints x) { return __riscv_vreinterpret_v_i32m4_f32m4(x); }
  BINHDAN_INLINE Ints as_ints(Floats x) { return __riscv_vreinterpret_v_f32m4_i32m4(x); }
};

struct Vlen256 {
  static constexpr int kBits = 256;
  using Bytes = vint8mf2_t;
  using Shorts = vint16m1_t;
  using Ints = vint32m2_t;
  using Floats = vfloat32m2_t;

  BINHDAN_INLINE Bytes load(const int8_t* src) { return __riscv_vle8_v_i8mf2(src, kRowLanes); }
  BINHDAN_INLINE Shorts load(const int16_t* src) { return __riscv_vle16_v_i16m1(src, kRowLanes); }
  BINHDAN_INLINE Shorts no_shorts() { return __riscv_vmv_v_x_i16m1(0, kRowLanes); }
  BINHDAN_INLINE Ints no_ints() { return __riscv_vmv_v_x_i32m2(0, kRowLanes); }
  BINHDAN_INLINE Floats no_floats() { return __riscv_vfmv_v_f_f32m2(0.0f, kRowLanes); }
  BINHDAN_INLINE Floats as_floats(Ints x) { return __riscv_vreinterpret_v_i32m2_f32m2(x); }
  BINHDAN_INLINE Ints as_ints(Floats x) { return __riscv_vreinterpret_v_f32m2_i32m2(x); }
};

// Calls f with references to `count` registers, each the result of make().
template <int count, class Make, class F, class... Registers>
BINHDAN_INLINE void with_registers(const Make& make, const F& f, Registers&... registers) {
  if constexpr (sizeof...(Registers) == count) {
    f(registers...);
  } else {
    auto next = make();
    with_registers<count>(make, f, registers..., next);
  }
}

// 16 float16 as floats. Shifted by 13 bits, a float16 is a float32 that is 2^112 times too small; the product is
// exact, also for subnormal numbers. Infinities and NaN have become at least 2^16, more than any finite float16,
// and get the largest exponent back.
template <class Width>
BINHDAN_INLINE typename Width::Floats load_f16(const uint16_t* src) {
  const auto wide = __riscv_vsext_vf2(Width::load(reinterpret_cast<const int16_t*>(src)), kRowLanes);
  const auto small =
      __riscv_vand(__riscv_vsll(wide, 13, kRowLanes), static_cast<int32_t>(0x8fffe000), kRowLanes);
  const auto x = __riscv_vfmul(Width::as_floats(small), 0x1p112f, kRowLanes);
  const auto special = __riscv_vmfge(__riscv_vfabs(x, kRowLanes), 0x1p16f, kRowLanes);
  const auto bits = Width::as_ints(x);
  return Width::as_floats(__riscv_vor_mu(special, bits, bits, 0x7f800000, kRowLanes));
}

}  // namespace
}  // namespace binhdan::rvv
