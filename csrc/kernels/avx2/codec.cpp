// Decodes float16 and bfloat16 weights to float32, exactly.
#include "kernels/avx2/functions.h"
#include "kernels/avx2/ymm.h"

namespace binhdan::avx2 {
namespace {

BINHDAN_INLINE float half_to_float(uint16_t h) {
  return _cvtsh_ss(h);
}

}  // namespace

void decode_f32(float* dst, const void* src, int64_t n) {
  __builtin_memcpy(dst, src, static_cast<size_t>(n) * 4);
}

void decode_f16(float* dst, const void* src, int64_t n) {
  const auto* half = static_cast<const uint16_t*>(src);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, load_f16(half + i));
  for (; i < n; ++i) dst[i] = half_to_float(half[i]);
}

void decode_bf16(float* dst, const void* src, int64_t n) {
  const auto* half = static_cast<const uint16_t*>(src);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i bits16 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(half + i));
    const __m256i bits32 = _mm256_slli_epi32(_mm256_cvtepu16_epi32(bits16), 16);
    _mm256_storeu_ps(dst + i, _mm256_castsi256_ps(bits32));
  }
  for (; i < n; ++i) {
    const uint32_t bits32 = static_cast<uint32_t>(half[i]) << 16;
    __builtin_memcpy(dst + i, &bits32, 4);
  }
}

}  // namespace binhdan::avx2
