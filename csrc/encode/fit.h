// Chooses the scales and minima of one block so that sum w (x - x')^2 is small.
#pragma once
#include "encode/group_fit.h"
#include "encode/plan.h"
#include "kernels/kernels.h"

namespace binhdan::encode {

class BlockFit {
 public:
  BlockFit(const Format& format, const CandidateKernels& kernels);

  // x and w: format.block columns. w is finite, at least 0, and not all 0 in a group. Any x, also NaN, gives a
  // plan with finite scales. Sets all of the plan but the quants.
  void fit(const float* x, const float* w, Plan& plan) const;
  // Rounds column j of a block to the nearest value that the plan can represent: sets plan.quants[j] and
  // returns the value as a decoder computes it.
  // inverse_scale: inverse(plan.scale[j / format.group]).
  float round_column(Plan& plan, int j, float x, float inverse_scale) const;
  // All columns.
  void round(Plan& plan, const float* x) const;

  const Format& format() const { return format_; }

 private:
  Group group(const float* x, const float* w, int g) const;
  void fit_float16(const Group& group, Plan& plan) const;
  void fit_float16_line(const Group& group, Plan& plan) const;
  void fit_power_of_two(const Group& group, Plan& plan) const;
  void fit_super(const float* x, const float* w, Plan& plan) const;
  void choose_codes(const float* x, const float* w, const float* targets, Plan& plan) const;
  void fit_super_lines(const float* x, const float* w, Plan& plan) const;
  void choose_line_codes(const float* x, const float* w, const Line* lines, Plan& plan) const;
  float value_of(float y) const;

  const Format& format_;
  const CandidateKernels& kernels_;
  RoundingRule rule_;
  float levels_;  // quants at full scale: the distance of candidates is a fraction of 1 / levels
};

}  // namespace binhdan::encode
