// Helpers for 256-bit registers.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/inline.h"

namespace binhdan {
namespace {

BINHDAN_INLINE __m256i load_bytes(const void* src) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(src));
}

// Eight float16 as float32.
BINHDAN_INLINE __m256 load_f16(const void* src) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(src)));
}

BINHDAN_INLINE int four_bytes(const void* src) {
  int value;
  __builtin_memcpy(&value, src, sizeof value);
  return value;
}

// Lanes [0, n) of eight are set, all of them if n >= 8. Masked stores are slow on Zen, so they are used at
// the ends of rows only.
BINHDAN_INLINE __m256i first_lanes(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

BINHDAN_INLINE __m256 load_first(const float* src, int64_t n) {
  return n >= 8 ? _mm256_loadu_ps(src) : _mm256_maskload_ps(src, first_lanes(n));
}
BINHDAN_INLINE void store_first(float* dst, int64_t n, __m256 x) {
  if (n >= 8)
    _mm256_storeu_ps(dst, x);
  else
    _mm256_maskstore_ps(dst, first_lanes(n), x);
}

}  // namespace
}  // namespace binhdan
