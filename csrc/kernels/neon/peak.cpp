// Instructions (Arm, Software Optimization Guides): smlal latency 4, 1 to an accumulator, 1 a cycle on
// Cortex-A72; fmla latency 7, 3 to an accumulator, 1 a cycle on Cortex-A72; latency 4 and 2 a cycle on
// Cortex-A76. Eight chains hide the latencies.
#include "kernels/neon/functions.h"
#include "kernels/neon/registers.h"
#include "kernels/peak_chains.h"

namespace binhdan::neon {
namespace {
constexpr int kChains = 8;
}

// Eight products in one smlal.
int64_t peak_q8(int64_t rounds) {
  const int8x8_t b = vdup_n_s8(1);
  run_chains<kChains>(rounds, vdupq_n_s16(1), [&](int16x8_t sum, int16x8_t a) __attribute__((always_inline)) {
    return vmlal_s8(sum, vget_low_s8(vreinterpretq_s8_s16(a)), b);
  });
  return rounds * kChains * 8;
}

int64_t peak_f32(int64_t rounds) {
  const float32x4_t b = vdupq_n_f32(1.0f);
  run_chains<kChains>(rounds, b, [&](float32x4_t sum, float32x4_t a) __attribute__((always_inline)) {
    return vfmaq_f32(sum, a, b);
  });
  return rounds * kChains * 4;
}

}  // namespace binhdan::neon
