// Eight lanes, for the loops in kernels/vector_lanes.h, kernels/attention_lanes.h and kernels/delta_lanes.h. They
// keep vectors in arrays, so these are vectors of fixed size, which Clang compiles to instructions for eight
// elements, in two registers of 128 bits or in one that is longer.
#pragma once
#include "kernels/lane_math.h"
#include "kernels/rvv/registers.h"

namespace binhdan::rvv {
namespace {

typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));
typedef int16_t Short8 __attribute__((vector_size(16)));
typedef int8_t Byte8 __attribute__((vector_size(8)));

struct Lanes {
  using V = Float8;
  static constexpr int kLanes = 8;

  BINHDAN_INLINE V zero() { return V{}; }
  BINHDAN_INLINE V broadcast(float x) { return V{x, x, x, x, x, x, x, x}; }
  BINHDAN_INLINE V load(const float* src) { return load_as<V>(src); }
  BINHDAN_INLINE void store(float* dst, V x) { __builtin_memcpy(dst, &x, sizeof x); }
  BINHDAN_INLINE V load_first(const float* src, int64_t n) {
    if (n >= kLanes) return load(src);
    float first[kLanes] = {};
    __riscv_vse32(first, __riscv_vle32_v_f32m2(src, count(n)), count(n));
    return load(first);
  }
  BINHDAN_INLINE void store_first(float* dst, int64_t n, V x) {
    if (n >= kLanes) return store(dst, x);
    float all[kLanes];
    store(all, x);
    __riscv_vse32(dst, __riscv_vle32_v_f32m2(all, count(n)), count(n));
  }

  BINHDAN_INLINE V add(V a, V b) { return a + b; }
  BINHDAN_INLINE V sub(V a, V b) { return a - b; }
  BINHDAN_INLINE V mul(V a, V b) { return a * b; }
  BINHDAN_INLINE V fma(V a, V b, V c) { return __builtin_elementwise_fma(a, b, c); }
  BINHDAN_INLINE V max(V a, V b) { return a > b ? a : b; }
  BINHDAN_INLINE V min(V a, V b) { return a < b ? a : b; }
  BINHDAN_INLINE V quotient(V a, V d) { return a / d; }
  BINHDAN_INLINE V ceil(V x) { return __builtin_elementwise_ceil(x); }
  // For |x| < 2^22: an instruction that rounds needs another rounding mode, which is slow to set.
  BINHDAN_INLINE V round(V x) { return x + broadcast(0x1.8p23f) - broadcast(0x1.8p23f); }
  BINHDAN_INLINE V magnitude(V x) { return __builtin_elementwise_abs(x); }
  BINHDAN_INLINE V with_sign_of(V sign, V x) { return __builtin_elementwise_copysign(x, sign); }
  BINHDAN_INLINE V if_negative(V x, V then, V otherwise) { return bits(x) < Int8{} ? then : otherwise; }
  // x where begin <= lane < end, else `rest`.
  BINHDAN_INLINE V within(V x, int64_t begin, int64_t end, float rest) {
    constexpr Int8 kNumbers = {0, 1, 2, 3, 4, 5, 6, 7};
    const auto first = static_cast<int32_t>(begin), last = static_cast<int32_t>(end);
    return ((kNumbers >= first) & (kNumbers < last)) ? x : broadcast(rest);
  }

  // y times 2^n for integers n, if the result is normal.
  BINHDAN_INLINE V scale_by_power(V y, V n) {
    return floats(bits(y) + (__builtin_convertvector(n, Int8) << 23));
  }
  // 2^n for integers -126 <= n <= 127.
  BINHDAN_INLINE V power_of_2(V n) { return scale_by_power(broadcast(1.0f), n); }
  // 0 below -87.3, infinite above 88.7, NaN for NaN.
  BINHDAN_INLINE V exp(V x) {
    const V min_x = broadcast(-87.3365f), max_x = broadcast(88.7228f);
    const ReducedExp<Lanes> e(max(min_x, min(max_x, x)));
    const V y = scale_by_power(fma(e.p, e.r, broadcast(1.0f)), e.n);
    const V bounded = x < min_x ? zero() : y;
    return x <= max_x ? bounded : x + broadcast(__builtin_inff());  // NaN stays: its conversion to n does not
  }
  // 2^x within 2 ulp for x in [-126, 127]; 0 below, NaN for NaN. The polynomial is that of avx2/lanes.h. The low
  // bits of the shifted x are its integer part.
  BINHDAN_INLINE V exp2(V x) {
    const V shifter = broadcast(0x1.8p23f), shifted = x + shifter, r = x - (shifted - shifter);
    V p = broadcast(0x1.5bba14p-10f);
    p = fma(p, r, broadcast(0x1.3cea88p-7f));
    p = fma(p, r, broadcast(0x1.c6b752p-5f));
    p = fma(p, r, broadcast(0x1.ebf9bcp-3f));
    p = fma(p, r, broadcast(0x1.62e42ap-1f));
    p = fma(p, r, broadcast(1.0f));
    const V y = floats(bits(p) + (bits(shifted) << 23));
    return x < broadcast(-126.0f) ? zero() : y;
  }

  BINHDAN_INLINE float element(V x) { return x[0]; }
  BINHDAN_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
  BINHDAN_INLINE float sum_of(V x) {
    x += __builtin_shufflevector(x, x, 4, 5, 6, 7, -1, -1, -1, -1);
    x += __builtin_shufflevector(x, x, 2, 3, -1, -1, -1, -1, -1, -1);
    return x[0] + x[1];
  }
  BINHDAN_INLINE float max_of(V x) {
    x = max(x, __builtin_shufflevector(x, x, 4, 5, 6, 7, 0, 1, 2, 3));
    x = max(x, __builtin_shufflevector(x, x, 2, 3, 0, 1, 6, 7, 4, 5));
    return max(x, __builtin_shufflevector(x, x, 1, 0, 3, 2, 5, 4, 7, 6))[0];
  }

 protected:
  template <class To>
  BINHDAN_INLINE To load_as(const void* src) {
    To to;
    __builtin_memcpy(&to, src, sizeof to);
    return to;
  }
  BINHDAN_INLINE Int8 bits(V x) { return load_as<Int8>(&x); }
  BINHDAN_INLINE V floats(Int8 x) { return load_as<V>(&x); }
  BINHDAN_INLINE size_t count(int64_t n) { return n > 0 ? static_cast<size_t>(n) : 0; }
};

}  // namespace
}  // namespace binhdan::rvv
