// Chooses the scales and minima of one block so that sum w (x - x')^2 is small.
#pragma once
#include "encode/plan.h"

namespace binhdan::encode {

// x and w: format.block columns. w is finite, at least 0, and not all 0 in a group. Any x, also NaN, gives a
// plan with finite scales. Sets all of the plan but the quants.
void fit(const Format& format, const float* x, const float* w, Plan& plan);

// Rounds column j of a block to the nearest value that the plan can represent: sets plan.quants[j] and returns
// the value as a decoder computes it.
float round_column(const Format& format, Plan& plan, int j, float x);

}  // namespace binhdan::encode
