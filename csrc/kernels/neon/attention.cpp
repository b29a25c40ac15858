// Attention, four lanes (kernels/attention_lanes.h has the loops and the algebra). Tiles of eight vectors by
// one or two heads, or four by up to six, keep up to 24 sums in the 32 registers.
//
// Instructions (Arm, Software Optimization Guides of Cortex-A72 and Cortex-A76; Q forms):
//   fmla   Cortex-A72 latency 7, 3 to an accumulator, 1 a cycle; Cortex-A76 latency 4, 2 to an accumulator,
//          2 a cycle
//   fcvtl  four float16 to float32; Cortex-A72 and A76 1 in 2 cycles
//   ld1r   loads and broadcasts; uses a vector port too
#include "kernels/attention_lanes.h"
#include "kernels/neon/functions.h"
#include "kernels/neon/lanes.h"

namespace binhdan::neon {
namespace {

struct PageLanes : Lanes {
  static constexpr int kMaxHeads = 6;
  template <int H>
  static constexpr int kTile = H <= 2 ? 8 : 4;

  BINHDAN_INLINE V load_element(const uint16_t* src) { return load_f16(src); }
  BINHDAN_INLINE V load_element(const float* src) { return load(src); }
  BINHDAN_INLINE V load_element(const int8_t* src) {
    int32_t four;
    __builtin_memcpy(&four, src, sizeof four);
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
  }
  // head_dim is a multiple of 8, so vectors are always full.
  BINHDAN_INLINE V load_first(const float* src, int64_t) { return load(src); }
  BINHDAN_INLINE void store_first(float* dst, int64_t, V x) { store(dst, x); }
  template <class Element>
  BINHDAN_INLINE V load_element_first(const Element* src, int64_t) {
    return load_element(src);
  }
};

}  // namespace

void store_key(void* page, int64_t head_dim, int64_t token, const float* k) {
  auto* keys = static_cast<uint16_t*>(page);
  for (int64_t d = 0; d < head_dim; d += 8) {
    uint16_t part[8];
    to_f16(part, k + d, 8);
    for (int i = 0; i < 8; ++i) keys[(d + i) * kKvPageTokens + token] = part[i];
  }
}

void store_value(void* page, int64_t head_dim, int64_t token, const float* v) {
  to_f16(static_cast<uint16_t*>(page) + (kKvPageTokens + token) * head_dim, v, head_dim);
}

void attention(const AttentionArgs& args) {
  LaneAttention<PageLanes, uint16_t>::run(args);
}

void attention_q8(const AttentionArgs& args) {
  LaneAttention<PageLanes, int8_t>::run(args);
}

size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim) {
  return LaneAttention<PageLanes, int8_t>::scratch_size(rows, heads, head_dim);
}

}  // namespace binhdan::neon
