// Attention, sixteen lanes (kernels/attention_lanes.h has the loops and the algebra). Tiles of two vectors by
// 14 heads, or of four by six, fill the 32 registers with sums.
//
// Instructions (512-bit forms, uops.info): vcvtph2ps converts sixteen float16, 2 uops on Intel (p05 and p5),
// which up to 14 heads share; vfmadd231ps latency 4, 1 a cycle on p0, 2 with a second 512-bit unit (p05), Zen
// 4 1 a cycle.
#include <immintrin.h>

#include "kernels/attention_lanes.h"
#include "kernels/avx512/functions.h"
#include "kernels/avx512/lanes.h"

namespace binhdan::avx512 {
namespace {

struct PageLanes : Lanes {
  static constexpr int kMaxHeads = 14;
  template <int H>
  static constexpr int kTile = H <= 6 ? 4 : 2;

  BINHDAN_INLINE V load_element(const uint16_t* src) { return _mm512_cvtph_ps(_mm256_loadu_epi16(src)); }
  BINHDAN_INLINE V load_element(const float* src) { return load(src); }
  BINHDAN_INLINE V load_element(const int8_t* src) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_epi8(src)));
  }
  BINHDAN_INLINE V load_element_first(const uint16_t* src, int64_t n) {
    return n >= kLanes ? load_element(src) : _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lane_mask(n), src));
  }
  BINHDAN_INLINE V load_element_first(const float* src, int64_t n) { return load_first(src, n); }
};

}  // namespace

void attention(const AttentionArgs& args) {
  LaneAttention<PageLanes, uint16_t>::run(args);
}

void attention_q8(const AttentionArgs& args) {
  LaneAttention<PageLanes, int8_t>::run(args);
}

size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim) {
  return LaneAttention<PageLanes, int8_t>::scratch_size(rows, heads, head_dim);
}

}  // namespace binhdan::avx512
