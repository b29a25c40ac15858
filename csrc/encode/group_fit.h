// The search for the scale, or the scale and the minimum, of one group of columns.
//
// The kernels evaluate 16 candidates at once. For each the columns are rounded, then least squares gives the
// scale for these quants: with Q for the quants, s = sum w Q x / sum w Q^2, and the error is lower than that of
// s = 0 by (sum w Q x)^2 / sum w Q^2, the gain. With a minimum, least squares gives both. A second step searches
// around the best.
#pragma once
#include "encode/plan.h"
#include "kernels/kernels.h"

namespace binhdan::encode {

struct Group {
  const float *x, *w;
  int size;
};

// The best scale of a group; its error grows by curvature (s - scale)^2 for another scale s.
struct Scale {
  float scale = 0.0f, curvature = 0.0f, gain = 0.0f;
};

// x = scale q + offset. The curvature of the error in both: sum w q^2, sum w q, sum w.
struct Line {
  float scale = 0.0f, offset = 0.0f;
  float qq = 0.0f, q = 0.0f, w = 0.0f;

  // The minimum, at least 0, with the least error for another scale.
  float minimum_for(float other_scale) const;
};

RoundingRule integers(int low, int high);
// 1 / x, or 0 if the result is not below 2^127.
float inverse(float x);
Candidates inverse(const Candidates& x);

Scale fit_scale(const CandidateKernels& kernels, const RoundingRule& rule, float levels, const Group& group);
// rule: integers from 0. bounded: the offset is at most 0.
Line fit_line(const CandidateKernels& kernels, const RoundingRule& rule, const Group& group, bool bounded);

// The unit for which codes `low` .. `high` times the unit are closest to the targets: least sum of w (x - unit
// code)^2 over the group, among candidates that give the largest target a code near an end.
float choose_unit(const CandidateKernels& kernels, const Group& targets, int low, int high);

}  // namespace binhdan::encode
