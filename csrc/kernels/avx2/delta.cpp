// The gated delta rule, eight lanes (kernels/delta_lanes.h has the loops and the algebra). Tiles of six rows
// by two vectors keep 12 sums in the 16 registers.
//
// Instructions (uops.info): vfmadd231ps ymm latency 4 (Skylake, Zen 3), 2 a cycle; a broadcast from memory is
// a load and uses no vector port.
#include "kernels/avx2/functions.h"
#include "kernels/avx2/math.h"
#include "kernels/avx2/ymm.h"
#include "kernels/delta_lanes.h"

namespace binhdan::avx2 {
namespace {

struct Lanes {
  using V = __m256;
  static constexpr int kLanes = 8, kRows = 6, kTile = 2, kStepTile = 4;

  BINHDAN_INLINE V zero() { return _mm256_setzero_ps(); }
  BINHDAN_INLINE V broadcast(float x) { return _mm256_set1_ps(x); }
  BINHDAN_INLINE V load(const float* src) { return _mm256_loadu_ps(src); }
  BINHDAN_INLINE void store(float* dst, V x) { _mm256_storeu_ps(dst, x); }
  // Dimensions are multiples of 8, so vectors are always full.
  BINHDAN_INLINE V load_first(const float* src, int64_t) { return load(src); }
  BINHDAN_INLINE void store_first(float* dst, int64_t, V x) { store(dst, x); }
  BINHDAN_INLINE void transpose(float* dst, int64_t stride, const float* const (&rows)[8], int64_t column) {
    transpose_8x8(dst, stride, rows, column);
  }

  BINHDAN_INLINE V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  BINHDAN_INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  BINHDAN_INLINE V exp2(V x) { return exp2_lanes(x); }
  BINHDAN_INLINE float element(V x) { return _mm256_cvtss_f32(x); }
  BINHDAN_INLINE float sum_of(V x) { return sum_lanes(x, zero()); }
};

}  // namespace

void delta_step(const DeltaRuleArgs& args) {
  LaneDelta<Lanes>::step(args);
}

void delta_chunk(const DeltaRuleArgs& args) {
  LaneDelta<Lanes>::chunk(args);
}

}  // namespace binhdan::avx2
