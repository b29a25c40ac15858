// Attention, sixteen lanes (kernels/attention_lanes.h has the loops and the algebra). Tiles of two vectors by
// 14 heads, or of four by six, fill the 32 registers with sums.
//
// Instructions (512-bit forms, uops.info): vcvtph2ps converts sixteen float16, 2 uops on Intel (p05 and p5),
// which up to 14 heads share; vfmadd231ps latency 4, 1 a cycle on p0, 2 with a second 512-bit unit (p05), Zen
// 4 1 a cycle.
#include <immintrin.h>

#include "kernels/attention_lanes.h"
#include "kernels/avx512/functions.h"
#include "kernels/avx512/zmm.h"

namespace binhdan::avx512 {
namespace {

struct Lanes {
  using V = __m512;
  static constexpr int kLanes = 16, kMaxHeads = 14;
  template <int H>
  static constexpr int kTile = H <= 6 ? 4 : 2;

  BINHDAN_INLINE V zero() { return _mm512_setzero_ps(); }
  BINHDAN_INLINE V broadcast(float x) { return _mm512_set1_ps(x); }
  BINHDAN_INLINE V load(const float* src) { return _mm512_loadu_ps(src); }
  BINHDAN_INLINE void store(float* dst, V x) { _mm512_storeu_ps(dst, x); }
  BINHDAN_INLINE V load_element(const uint16_t* src) { return _mm512_cvtph_ps(_mm256_loadu_epi16(src)); }
  BINHDAN_INLINE V load_element(const float* src) { return load(src); }
  BINHDAN_INLINE V load_element_first(const float* src, int64_t n) { return load_first(src, n); }
  BINHDAN_INLINE V load_element(const int8_t* src) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_epi8(src)));
  }
  BINHDAN_INLINE V load_first(const float* src, int64_t n) {
    return n >= kLanes ? load(src) : _mm512_maskz_loadu_ps(lane_mask(n), src);
  }
  BINHDAN_INLINE void store_first(float* dst, int64_t n, V x) {
    n >= kLanes ? store(dst, x) : _mm512_mask_storeu_ps(dst, lane_mask(n), x);
  }
  BINHDAN_INLINE V load_element_first(const uint16_t* src, int64_t n) {
    return n >= kLanes ? load_element(src) : _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lane_mask(n), src));
  }

  BINHDAN_INLINE V add(V a, V b) { return _mm512_add_ps(a, b); }
  BINHDAN_INLINE V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  BINHDAN_INLINE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  BINHDAN_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  BINHDAN_INLINE V max(V a, V b) { return _mm512_max_ps(a, b); }
  BINHDAN_INLINE V ceil(V x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
  BINHDAN_INLINE V first(V x, int64_t n, float rest) {
    return _mm512_mask_blend_ps(lane_mask(n), broadcast(rest), x);
  }

  BINHDAN_INLINE float element(V x) { return _mm512_cvtss_f32(x); }
  BINHDAN_INLINE float sum_of(V x) { return _mm512_reduce_add_ps(x); }
  BINHDAN_INLINE float max_of(V x) { return _mm512_reduce_max_ps(x); }

  // 2^x for x <= 0 as in avx2/math.h, but an addition of 1.5 2^23 rounds x to n, and leaves n in the low bits
  // of the sum.
  BINHDAN_INLINE V exp2(V x) {
    const V shifter = broadcast(0x1.8p23f), shifted = add(x, shifter), r = sub(x, sub(shifted, shifter));
    V p = broadcast(0x1.5bba14p-10f);
    p = fma(p, r, broadcast(0x1.3cea88p-7f));
    p = fma(p, r, broadcast(0x1.c6b752p-5f));
    p = fma(p, r, broadcast(0x1.ebf9bcp-3f));
    p = fma(p, r, broadcast(0x1.62e42ap-1f));
    p = fma(p, r, broadcast(1.0f));
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    const __mmask16 normal = _mm512_cmp_ps_mask(x, broadcast(-126.0f), _CMP_NLT_UQ);  // or NaN
    return _mm512_castsi512_ps(_mm512_maskz_add_epi32(normal, _mm512_castps_si512(p), exponent));
  }
};

}  // namespace

void attention(const AttentionArgs& args) {
  LaneAttention<Lanes, uint16_t>::run(args);
}

void attention_q8(const AttentionArgs& args) {
  LaneAttention<Lanes, int8_t>::run(args);
}

size_t attention_q8_scratch_size(int64_t rows, int64_t heads, int64_t head_dim) {
  return LaneAttention<Lanes, int8_t>::scratch_size(rows, heads, head_dim);
}

}  // namespace binhdan::avx512
