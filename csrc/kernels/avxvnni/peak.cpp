// vpdpbusd ymm (uops.info, Alder Lake P): latency 5, 2 a cycle, so at least 10 chains.
#include <immintrin.h>

#include "kernels/avxvnni/functions.h"
#include "kernels/peak_chains.h"

namespace binhdan::avxvnni {

int64_t peak_q8(int64_t rounds) {
  constexpr int kChains = 12;
  const __m256i b = _mm256_set1_epi8(1);
  run_chains<kChains>(rounds, b, [&](__m256i sum, __m256i a) __attribute__((always_inline)) {
    return _mm256_dpbusd_avx_epi32(sum, a, b);
  });
  return rounds * kChains * 32;
}

}  // namespace binhdan::avxvnni
