// Eight chains of multiply-adds in registers of 128 bits or more, with the instructions of matmul.cpp and of
// attention.cpp.
#include "kernels/rvv/functions.h"
#include "kernels/rvv/registers.h"

namespace binhdan::rvv {
namespace {
constexpr int kChains = 8;

// The empty asm hides the value, so that no operation moves out of a loop.
template <class V>
BINHDAN_INLINE void hide(V& value) {
  asm volatile("" : "+vr"(value));
}

// sum = step(sum), `rounds` times for each chain.
template <class Make, class Step>
BINHDAN_INLINE void run_chains(int64_t rounds, const Make& make, const Step& step) {
  with_registers<kChains>(make, [&](auto&... sums) __attribute__((always_inline)) {
    for (int64_t i = 0; i < rounds; ++i) {
      ((sums = step(sums)), ...);
      (hide(sums), ...);
    }
  });
}

template <class Width>
BINHDAN_INLINE void run_q8(int64_t rounds) {
  static constexpr int8_t kOnes[kRowLanes] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const auto ones = Width::load(kOnes);
  run_chains(rounds, Width::no_shorts, [&](auto sum) __attribute__((always_inline)) {
    return __riscv_vwmacc(sum, int8_t{1}, ones, kRowLanes);
  });
}

}  // namespace

int64_t peak_q8(int64_t rounds) {
  __riscv_vlenb() < 32 ? run_q8<Vlen128>(rounds) : run_q8<Vlen256>(rounds);
  return rounds * kChains * static_cast<int64_t>(kRowLanes);
}

int64_t peak_f32(int64_t rounds) {
  constexpr size_t kLanes = 8;
  const vfloat32m2_t one = __riscv_vfmv_v_f_f32m2(1.0f, kLanes);
  run_chains(
      rounds, []() __attribute__((always_inline)) { return __riscv_vfmv_v_f_f32m2(0.0f, kLanes); },
      [&](auto sum) __attribute__((always_inline)) { return __riscv_vfmacc(sum, one, one, kLanes); });
  return rounds * kChains * static_cast<int64_t>(kLanes);
}

}  // namespace binhdan::rvv
