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

// dst[c stride + r] = rows[r][column + c] for 8 x 8 elements.
BINHDAN_INLINE void transpose_8x8(float* dst, int64_t stride, const float* const (&rows)[8], int64_t column) {
  __m256 pairs[8], quads[8];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m256 a = _mm256_loadu_ps(rows[2 * i] + column), b = _mm256_loadu_ps(rows[2 * i + 1] + column);
    pairs[2 * i] = _mm256_unpacklo_ps(a, b);
    pairs[2 * i + 1] = _mm256_unpackhi_ps(a, b);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m256 a = pairs[4 * i + half], b = pairs[4 * i + 2 + half];
      quads[4 * i + 2 * half] = _mm256_shuffle_ps(a, b, _MM_SHUFFLE(1, 0, 1, 0));
      quads[4 * i + 2 * half + 1] = _mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 2, 3, 2));
    }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    _mm256_storeu_ps(dst + c * stride, _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x20));
    _mm256_storeu_ps(dst + (4 + c) * stride, _mm256_permute2f128_ps(quads[c], quads[4 + c], 0x31));
  }
}

}  // namespace
}  // namespace binhdan
