// The gated delta rule, sixteen lanes (kernels/delta_lanes.h has the loops and the algebra). Tiles of eight
// rows by two vectors keep 16 sums in the 32 registers.
//
// Instructions (512-bit forms, uops.info): vfmadd231ps latency 4, 1 a cycle on p0, 2 with a second 512-bit
// unit (p05), Zen 4 1 a cycle.
#include <immintrin.h>

#include "kernels/avx2/ymm.h"
#include "kernels/avx512/functions.h"
#include "kernels/avx512/lanes.h"
#include "kernels/avx512/zmm.h"
#include "kernels/delta_lanes.h"

namespace binhdan::avx512 {
namespace {

struct DeltaLanes : Lanes {
  static constexpr int kRows = 8, kTile = 2, kStepTile = 8;

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

}  // namespace binhdan::avx512
