// Attention, eight lanes (kernels/attention_lanes.h has the loops and the algebra). Tiles of four vectors by
// up to three heads, or two by six, keep 12 sums in the 16 registers.
//
// Instructions (uops.info): vcvtph2ps ymm converts eight float16, 2 uops on Intel (p01 and p5), 1 a cycle;
// vfmadd231ps ymm latency 4 (Skylake, Zen 3), 2 a cycle; a broadcast from memory is a load and uses no vector
// port.
#include "kernels/attention_lanes.h"
#include "kernels/avx2/functions.h"
#include "kernels/avx2/lanes.h"
#include "kernels/avx2/ymm.h"

namespace binhdan::avx2 {
namespace {

struct PageLanes : Lanes {
  static constexpr int kMaxHeads = 6;
  template <int H>
  static constexpr int kTile = H <= 3 ? 4 : 2;

  BINHDAN_INLINE V load_element(const uint16_t* src) { return load_f16(src); }
  BINHDAN_INLINE V load_element(const float* src) { return load(src); }
  BINHDAN_INLINE V load_element(const int8_t* src) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(src))));
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

}  // namespace binhdan::avx2
