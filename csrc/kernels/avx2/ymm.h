// Helpers for every file that works in 256-bit registers, whatever its table. All inlined: see avx2.h.
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

// Eight float16 as float32. vcvtph2ps: 1 or 2 uops, one per cycle since Haswell.
BINHDAN_INLINE __m256 load_f16(const void* src) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(src)));
}

BINHDAN_INLINE int four_bytes(const void* src) {
  int value;
  __builtin_memcpy(&value, src, sizeof value);
  return value;
}

// The first n of eight floats (all of them when n >= 8), zeros behind. Masked stores are slow on Zen: only
// at ends.
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
