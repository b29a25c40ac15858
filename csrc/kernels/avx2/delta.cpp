// The gated delta rule, eight lanes (kernels/delta_lanes.h has the loops and the algebra). Tiles of six rows
// by two vectors keep 12 sums in the 16 registers.
//
// Instructions (uops.info): vfmadd231ps ymm latency 4 (Skylake, Zen 3), 2 a cycle; a broadcast from memory is
// a load and uses no vector port.
#include "kernels/avx2/functions.h"
#include "kernels/avx2/lanes.h"
#include "kernels/avx2/ymm.h"
#include "kernels/delta_lanes.h"

namespace binhdan::avx2 {
namespace {

struct DeltaLanes : Lanes {
  static constexpr int kRows = 6, kTile = 2, kStepTile = 4;

  // Dimensions are multiples of 8, so vectors are always full.
  BINHDAN_INLINE V load_first(const float* src, int64_t) { return load(src); }
  BINHDAN_INLINE void store_first(float* dst, int64_t, V x) { store(dst, x); }
  BINHDAN_INLINE void transpose(float* dst, int64_t stride, const float* const (&rows)[8], int64_t column) {
    transpose_8x8(dst, stride, rows, column);
  }
};

}  // namespace

void delta_step(const DeltaRuleArgs& args) {
  LaneDelta<DeltaLanes>::step(args);
}

void delta_chunk(const DeltaRuleArgs& args) {
  LaneDelta<DeltaLanes>::chunk(args);
}

}  // namespace binhdan::avx2
