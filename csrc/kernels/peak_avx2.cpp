// What a core multiplies and adds when nothing else holds it up: independent chains in registers, enough of
// them to hide the latency (4 cycles for a multiply-add, 5 for an integer product, on two ports).
#include "kernels/avx2.h"

namespace binhdan::avx2 {
namespace {
constexpr int kChains = 8;

// Makes the compiler believe that the value has changed: nothing is moved out of the loop.
template <class V>
BINHDAN_INLINE void renew(V& value) {
  asm volatile("" : "+x"(value));
}
}  // namespace

// 32 products in vpmaddubsw, vpmaddwd and vpaddd.
int64_t peak_q8(int64_t rounds) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(1), sums[kChains] = {};
  for (int64_t i = 0; i < rounds; ++i)
    for (__m256i& sum : sums) {
      renew(a);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  for (__m256i& sum : sums) renew(sum);
  return rounds * kChains * 32;
}

int64_t peak_f32(int64_t rounds) {
  __m256 a = _mm256_set1_ps(1.0f), b = _mm256_set1_ps(1.0f), sums[kChains] = {};
  for (int64_t i = 0; i < rounds; ++i)
    for (__m256& sum : sums) {
      renew(a);
      sum = _mm256_fmadd_ps(a, b, sum);
    }
  for (__m256& sum : sums) renew(sum);
  return rounds * kChains * 8;
}

}  // namespace binhdan::avx2
