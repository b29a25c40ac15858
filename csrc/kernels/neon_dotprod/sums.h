// Integer sums that become floats by one subtraction. A sum starts at the bits of 1.5 * 2^23; in this range a
// float has the value of its low bits, so the sum, read as a float, is 1.5 * 2^23 + the integer, exactly for
// |integer| < 2^22. A block's sum is at most 32 * 127 * 128 < 2^19. On Cortex-A76 scvtf is issued once in 2
// cycles, fadd and fsub twice a cycle.
#pragma once
#include "kernels/neon/registers.h"

namespace binhdan {
namespace {

constexpr int32_t kZeroFloat = 0x4b400000;

// From memory, because vector moves use the ports of the products, and loads do not. volatile: each call
// loads.
BINHDAN_INLINE int32x4_t load_zero_float() {
  alignas(16) static constexpr int32_t kZeroFloats[4] = {kZeroFloat, kZeroFloat, kZeroFloat, kZeroFloat};
  return *reinterpret_cast<const volatile int32x4_t*>(kZeroFloats);
}

BINHDAN_INLINE float32x4_t to_float(int32x4_t sum) {
  return vsubq_f32(vreinterpretq_f32_s32(sum), vdupq_n_f32(0x1.8p23f));
}

}  // namespace
}  // namespace binhdan
