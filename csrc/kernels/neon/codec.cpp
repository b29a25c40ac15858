// Decodes float16 and bfloat16 weights to float32, exactly.
#include "kernels/neon/functions.h"
#include "kernels/neon/registers.h"

namespace binhdan::neon {

void decode_f32(float* dst, const void* src, int64_t n) {
  __builtin_memcpy(dst, src, static_cast<size_t>(n) * 4);
}

void decode_f16(float* dst, const void* src, int64_t n) {
  const auto* half = static_cast<const uint16_t*>(src);
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(dst + i, load_f16(half + i));
  for (; i < n; ++i) dst[i] = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half[i]))), 0);
}

void decode_bf16(float* dst, const void* src, int64_t n) {
  const auto* half = static_cast<const uint16_t*>(src);
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) vst1q_f32(dst + i, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(half + i), 16)));
  for (; i < n; ++i) {
    const uint32_t bits32 = static_cast<uint32_t>(half[i]) << 16;
    __builtin_memcpy(dst + i, &bits32, 4);
  }
}

}  // namespace binhdan::neon
