// What a core multiplies and adds when nothing else holds it up: see peak_avx2.cpp. vpdpbusd takes 5 cycles,
// on two ports where the core has both halves of its 512-bit units.
#include <immintrin.h>

#include "kernels/avx512vnni.h"

namespace binhdan::avx512vnni {

int64_t peak_q8(int64_t rounds) {
  constexpr int kChains = 12;
  __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(1), sums[kChains] = {};
  for (int64_t i = 0; i < rounds; ++i)
    for (__m512i& sum : sums) {
      asm volatile("" : "+v"(a));  // nothing is moved out of the loop
      sum = _mm512_dpbusd_epi32(sum, a, b);
    }
  for (__m512i& sum : sums) asm volatile("" : "+v"(sum));
  return rounds * kChains * 64;
}

}  // namespace binhdan::avx512vnni
