// The gated delta rule, eight lanes (kernels/delta_lanes.h has the loops and the algebra).
#include "kernels/delta_lanes.h"
#include "kernels/rvv/functions.h"
#include "kernels/rvv/lanes.h"

namespace binhdan::rvv {
namespace {

struct DeltaLanes : Lanes {
  static constexpr int kRows = 4, kTile = 2, kStepTile = 4;

  // Dimensions are multiples of 8, so vectors are always full.
  BINHDAN_INLINE V load_first(const float* src, int64_t) { return load(src); }
  BINHDAN_INLINE void store_first(float* dst, int64_t, V x) { store(dst, x); }
  // dst[c * stride + r] = rows[r][column + c]: each row is stored with a stride.
  BINHDAN_INLINE void transpose(float* dst, int64_t stride, const float* const (&rows)[8], int64_t column) {
    for (int r = 0; r < 8; ++r)
      __riscv_vsse32(dst + r, stride * static_cast<int64_t>(sizeof(float)),
                     __riscv_vle32_v_f32m2(rows[r] + column, kLanes), kLanes);
  }
};

}  // namespace

void delta_step(const DeltaRuleArgs& args) {
  LaneDelta<DeltaLanes>::step(args);
}

void delta_chunk(const DeltaRuleArgs& args) {
  LaneDelta<DeltaLanes>::chunk(args);
}

}  // namespace binhdan::rvv
