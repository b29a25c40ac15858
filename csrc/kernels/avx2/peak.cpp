// Instructions (uops.info, Skylake): vpmaddubsw and vpmaddwd latency 5, 2 a cycle (p01); vpaddd 3 a cycle;
// vfmadd latency 4, 2 a cycle. Eight chains hide the latencies.
#include "kernels/avx2/functions.h"
#include "kernels/avx2/ymm.h"
#include "kernels/peak_chains.h"

namespace binhdan::avx2 {
namespace {
constexpr int kChains = 8;
}

// 32 products in vpmaddubsw, vpmaddwd and vpaddd.
int64_t peak_q8(int64_t rounds) {
  const __m256i ones = _mm256_set1_epi16(1), b = _mm256_set1_epi8(1);
  run_chains<kChains>(rounds, b, [&](__m256i sum, __m256i a) __attribute__((always_inline)) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
  });
  return rounds * kChains * 32;
}

int64_t peak_f32(int64_t rounds) {
  const __m256 b = _mm256_set1_ps(1.0f);
  run_chains<kChains>(rounds, b, [&](__m256 sum, __m256 a) __attribute__((always_inline)) {
    return _mm256_fmadd_ps(a, b, sum);
  });
  return rounds * kChains * 8;
}

}  // namespace binhdan::avx2
