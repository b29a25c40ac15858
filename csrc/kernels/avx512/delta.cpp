// The gated delta rule, sixteen lanes (kernels/delta_lanes.h has the loops and the algebra). Tiles of eight
// rows by two vectors keep 16 sums in the 32 registers.
//
// Instructions (512-bit forms, uops.info): vfmadd231ps latency 4, 1 a cycle on p0, 2 with a second 512-bit
// unit (p05), Zen 4 1 a cycle.
#include <immintrin.h>

#include "kernels/avx2/math.h"
#include "kernels/avx2/ymm.h"
#include "kernels/avx512/functions.h"
#include "kernels/avx512/zmm.h"
#include "kernels/delta_lanes.h"

namespace binhdan::avx512 {
namespace {

struct Lanes {
  using V = __m512;
  static constexpr int kLanes = 16, kRows = 8, kTile = 2, kStepTile = 8;

  BINHDAN_INLINE V zero() { return _mm512_setzero_ps(); }
  BINHDAN_INLINE V broadcast(float x) { return _mm512_set1_ps(x); }
  BINHDAN_INLINE V load(const float* src) { return _mm512_loadu_ps(src); }
  BINHDAN_INLINE void store(float* dst, V x) { _mm512_storeu_ps(dst, x); }
  BINHDAN_INLINE V load_first(const float* src, int64_t n) {
    return n >= kLanes ? load(src) : _mm512_maskz_loadu_ps(lane_mask(n), src);
  }
  BINHDAN_INLINE void store_first(float* dst, int64_t n, V x) {
    n >= kLanes ? store(dst, x) : _mm512_mask_storeu_ps(dst, lane_mask(n), x);
  }
  BINHDAN_INLINE void transpose(float* dst, int64_t stride, const float* const (&rows)[8], int64_t column) {
    transpose_8x8(dst, stride, rows, column);
  }

  BINHDAN_INLINE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  BINHDAN_INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  // A small part of the work: two halves of avx2's function.
  BINHDAN_INLINE V exp2(V x) {
    const __m256 low = avx2::exp2_lanes(_mm512_castps512_ps256(x));
    return _mm512_insertf32x8(_mm512_castps256_ps512(low), avx2::exp2_lanes(_mm512_extractf32x8_ps(x, 1)), 1);
  }
  BINHDAN_INLINE float element(V x) { return _mm512_cvtss_f32(x); }
  BINHDAN_INLINE float sum_of(V x) { return _mm512_reduce_add_ps(x); }
};

}  // namespace

void delta_step(const DeltaRuleArgs& args) {
  LaneDelta<Lanes>::step(args);
}

void delta_chunk(const DeltaRuleArgs& args) {
  LaneDelta<Lanes>::chunk(args);
}

}  // namespace binhdan::avx512
