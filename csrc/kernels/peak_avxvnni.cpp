// What a core multiplies and adds when nothing else holds it up: see peak_avx2.cpp.
#include <immintrin.h>

#include "kernels/avxvnni.h"

namespace binhdan::avxvnni {

int64_t peak_q8(int64_t rounds) {
  constexpr int kChains = 12;
  __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(1), sums[kChains] = {};
  for (int64_t i = 0; i < rounds; ++i)
    for (__m256i& sum : sums) {
      asm volatile("" : "+x"(a));  // nothing is moved out of the loop
      sum = _mm256_dpbusd_avx_epi32(sum, a, b);
    }
  for (__m256i& sum : sums) asm volatile("" : "+x"(sum));
  return rounds * kChains * 32;
}

}  // namespace binhdan::avxvnni
