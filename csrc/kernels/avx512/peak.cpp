// vpdpbusd zmm (uops.info): latency 5 on Intel, 2 a cycle with a second 512-bit unit, so at least 10 chains.
#include <immintrin.h>

#include "kernels/avx512/functions.h"
#include "kernels/peak_chains.h"

namespace binhdan::avx512 {

int64_t peak_q8(int64_t rounds) {
  constexpr int kChains = 12;
  const __m512i b = _mm512_set1_epi8(1);
  run_chains<kChains>(rounds, b, [&](__m512i sum, __m512i a) __attribute__((always_inline)) {
    return _mm512_dpbusd_epi32(sum, a, b);
  });
  return rounds * kChains * 64;
}

}  // namespace binhdan::avx512
