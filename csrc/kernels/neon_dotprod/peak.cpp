// sdot (Arm, Cortex-A76 Software Optimization Guide): latency 3, 1 to an accumulator, 2 a cycle.
#include <arm_neon.h>

#include "kernels/neon_dotprod/functions.h"
#include "kernels/peak_chains.h"

namespace binhdan::neon_dotprod {

int64_t peak_q8(int64_t rounds) {
  constexpr int kChains = 12;
  const int8x16_t b = vdupq_n_s8(1);
  run_chains<kChains>(rounds, vdupq_n_s32(1), [&](int32x4_t sum, int32x4_t a) __attribute__((always_inline)) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(a), b);
  });
  return rounds * kChains * 16;
}

}  // namespace binhdan::neon_dotprod
