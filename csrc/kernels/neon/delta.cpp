// The gated delta rule, four lanes (kernels/delta_lanes.h has the loops and the algebra). Tiles of six rows
// by four vectors keep 24 sums in the 32 registers. attention.cpp states the instructions.
#include "kernels/delta_lanes.h"
#include "kernels/neon/functions.h"
#include "kernels/neon/lanes.h"

namespace binhdan::neon {
namespace {

struct DeltaLanes : Lanes {
  static constexpr int kRows = 6, kTile = 4, kStepTile = 8;

  // Dimensions are multiples of 8, so vectors are always full.
  BINHDAN_INLINE V load_first(const float* src, int64_t) { return load(src); }
  BINHDAN_INLINE void store_first(float* dst, int64_t, V x) { store(dst, x); }
  BINHDAN_INLINE void transpose(float* dst, int64_t stride, const float* const (&rows)[8], int64_t column) {
    for (int half = 0; half < 2; ++half) {
      transpose_4x4(dst + 4 * half, stride, rows + 4 * half, column);
      transpose_4x4(dst + 4 * half + 4 * stride, stride, rows + 4 * half, column + 4);
    }
  }
};

}  // namespace

void delta_step(const DeltaRuleArgs& args) {
  LaneDelta<DeltaLanes>::step(args);
}

void delta_chunk(const DeltaRuleArgs& args) {
  LaneDelta<DeltaLanes>::chunk(args);
}

}  // namespace binhdan::neon
