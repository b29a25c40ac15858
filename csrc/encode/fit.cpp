// A super-block: the groups find their scales on their own, and the float16 scale is chosen by the errors of
// the groups as quadratic functions of their scales. Then each group tries 16 codes around its own scale, by
// the exact error. A second round, with least squares for the float16 scale, would lower the error by 0.2 %.
#include "encode/fit.h"

#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "encode/candidates.h"
#include "kernels/codec.h"

namespace binhdan::encode {
namespace {

// The float16 nearest to x that is finite.
uint16_t finite_f16(float x) {
  if (!(std::fabs(x) < 65504.0f)) return x > 0 ? 0x7bff : x < 0 ? 0xfbff : 0;
  return f32_to_f16(x);
}

int clamp_code(float code, int low, int high) {
  if (!(code > static_cast<float>(low))) return low;
  return code < static_cast<float>(high) ? static_cast<int>(code) : high;
}

RoundingRule rule_of(const Format& format) {
  RoundingRule rule = integers(format.low, format.high);
  if (!format.codebook) return rule;
  const int8_t* values = format.codebook->values;
  rule.steps = format.codebook->size - 1;
  for (int i = 0; i < rule.steps; ++i) {
    rule.middle[i] = 0.5f * static_cast<float>(values[i] + values[i + 1]);
    rule.step[i] = static_cast<float>(values[i + 1] - values[i]);
  }
  return rule;
}

CandidateArgs errors_of(const Group& group, const RoundingRule& rule, const Candidates& scales,
                        const Candidates& minima) {
  return {.x = group.x,
          .w = group.w,
          .n = group.size,
          .rule = rule,
          .inverses = inverse(scales),
          .shifts = minima,
          .scales = scales};
}

}  // namespace

BlockFit::BlockFit(const Format& format, const CandidateKernels& kernels)
    : format_(format), kernels_(kernels), rule_(rule_of(format)) {
  levels_ = !format.codebook ? static_cast<float>(-format.low) : static_cast<float>(rule_.steps + 1) / 2.0f;
}

Group BlockFit::group(const float* x, const float* w, int g) const {
  return {x + g * format_.group, w + g * format_.group, format_.group};
}

void BlockFit::fit(const float* x, const float* w, Plan& plan) const {
  if (format_.is_super())
    format_.has_minimum ? fit_super_lines(x, w, plan) : fit_super(x, w, plan);
  else if (format_.has_minimum)
    fit_float16_line(group(x, w, 0), plan);
  else if (format_.type == DType::mxfp4)
    fit_power_of_two(group(x, w, 0), plan);
  else
    fit_float16(group(x, w, 0), plan);
}

// ---- blocks of one group ------------------------------------------------------------------------------

void BlockFit::fit_float16(const Group& group, Plan& plan) const {
  plan.d = finite_f16(fit_scale(kernels_, rule_, levels_, group).scale);
  plan.scale[0] = f16_to_f32(plan.d);
  plan.minimum[0] = 0.0f;
}

void BlockFit::fit_float16_line(const Group& group, Plan& plan) const {
  const Line line = fit_line(kernels_, rule_, group, false);
  plan.d = finite_f16(line.scale);
  plan.scale[0] = f16_to_f32(plan.d);
  // The offset that is best with the rounded scale.
  plan.m = finite_f16(line.offset - line.q / line.w * (plan.scale[0] - line.scale));
  plan.minimum[0] = -f16_to_f32(plan.m);
}

// Scales from 2^-128 to 2^124: the products with larger ones can be infinite.
void BlockFit::fit_power_of_two(const Group& group, Plan& plan) const {
  float top = 0.0f;
  for (int j = 0; j < group.size; ++j) top = std::fmax(top, std::fabs(group.x[j]));
  int exponent = 0;
  std::frexp(std::fmin(top, 0x1p127f) / rule_.high, &exponent);
  const int first = std::clamp(exponent + 128 - 8, 0, 253 - kCandidates);
  Candidates scales, errors;
  for (int i = 0; i < kCandidates; ++i) scales.lane[i] = e8m0_scale(static_cast<uint8_t>(first + i));
  kernels_.scale_errors(errors, errors_of(group, rule_, scales, {}));
  plan.d = static_cast<uint16_t>(first + argmin(errors));
  plan.scale[0] = e8m0_scale(static_cast<uint8_t>(plan.d));
  plan.minimum[0] = 0.0f;
}

// ---- super-blocks -------------------------------------------------------------------------------------

void BlockFit::fit_super(const float* x, const float* w, Plan& plan) const {
  const int groups = format_.groups();
  float targets[kMaxGroups] = {}, curvatures[kMaxGroups] = {};
  for (int g = 0; g < groups; ++g) {
    const Scale scale = fit_scale(kernels_, rule_, levels_, group(x, w, g));
    targets[g] = scale.scale;
    curvatures[g] = scale.curvature;
  }
  plan.d = finite_f16(
      choose_unit(kernels_, {targets, curvatures, groups}, format_.min_scale_code, format_.max_scale_code));
  choose_codes(x, w, targets, plan);
}

// Each group takes the code with the least error among 16 around its target.
void BlockFit::choose_codes(const float* x, const float* w, const float* targets, Plan& plan) const {
  const float d = f16_to_f32(plan.d), inverse_d = inverse(d);
  for (int g = 0; g < format_.groups(); ++g) {
    const int first = clamp_code(targets[g] * inverse_d - 7.5f, format_.min_scale_code,
                                 format_.max_scale_code + 1 - kCandidates);
    const Candidates scales = ramp(static_cast<float>(first), 1.0f) * broadcast(d);
    Candidates errors;
    kernels_.scale_errors(errors, errors_of(group(x, w, g), rule_, scales, {}));
    const int best = argmin(errors);
    plan.scale_codes[g] = static_cast<int16_t>(first + best);
    plan.min_codes[g] = 0;
    plan.scale[g] = scales.lane[best];
    plan.minimum[g] = 0.0f;
  }
}

void BlockFit::fit_super_lines(const float* x, const float* w, Plan& plan) const {
  const int groups = format_.groups();
  Line lines[kMaxGroups];
  float targets[kMaxGroups] = {}, curvatures[kMaxGroups] = {};
  for (int g = 0; g < groups; ++g) {
    lines[g] = fit_line(kernels_, rule_, group(x, w, g), true);
    targets[g] = lines[g].scale;
    // The minimum follows the scale, unless it is 0.
    const float shared = lines[g].offset < 0.0f ? lines[g].q * lines[g].q / lines[g].w : 0.0f;
    curvatures[g] = std::fmax(lines[g].qq - shared, 1e-6f * lines[g].qq);
  }
  const float unit = choose_unit(kernels_, {targets, curvatures, groups}, 0, format_.max_scale_code);
  const float inverse_unit = inverse(unit);
  for (int g = 0; g < groups; ++g) {
    const int code = clamp_code(lines[g].scale * inverse_unit + 0.5f, 0, format_.max_scale_code);
    targets[g] = lines[g].minimum_for(unit * static_cast<float>(code));
    curvatures[g] = lines[g].w;
  }
  const float min_unit = choose_unit(kernels_, {targets, curvatures, groups}, 0, format_.max_minimum_code);
  plan.d = finite_f16(unit);
  plan.m = finite_f16(min_unit);
  choose_line_codes(x, w, lines, plan);
}

// As choose_codes, with four codes of the scale times four of the minimum.
void BlockFit::choose_line_codes(const float* x, const float* w, const Line* lines, Plan& plan) const {
  const float d = f16_to_f32(plan.d), dmin = f16_to_f32(plan.m);
  const float inverse_d = inverse(d), inverse_dmin = inverse(dmin);
  const auto first_of_four = [](float code, int max) { return clamp_code(code - 1.0f, 0, max - 3); };
  for (int g = 0; g < format_.groups(); ++g) {
    const int first = first_of_four(lines[g].scale * inverse_d, format_.max_scale_code);
    int first_minima[4];
    Candidates scales, minima, errors;
    for (int i = 0; i < 4; ++i) {
      const float scale = d * static_cast<float>(first + i);
      first_minima[i] = first_of_four(lines[g].minimum_for(scale) * inverse_dmin, format_.max_minimum_code);
      for (int k = 0; k < 4; ++k) {
        scales.lane[4 * i + k] = scale;
        minima.lane[4 * i + k] = dmin * static_cast<float>(first_minima[i] + k);
      }
    }
    kernels_.line_errors(errors, errors_of(group(x, w, g), rule_, scales, minima));
    const int best = argmin(errors);
    plan.scale_codes[g] = static_cast<int16_t>(first + best / 4);
    plan.min_codes[g] = static_cast<int16_t>(first_minima[best / 4] + best % 4);
    plan.scale[g] = scales.lane[best];
    plan.minimum[g] = minima.lane[best];
  }
}

// ---- rounding -----------------------------------------------------------------------------------------

namespace {

// std::rint can be a call of the C library.
float nearest_integer(float y, float low, float high) {
  y = y > low ? y : low;
  y = y < high ? y : high;
  return (y + 0x1.8p23f) - 0x1.8p23f;
}

// n columns of a group, a multiple of 16.
void round_integers(const RoundingRule& rule, const float* x, int n, float minimum, float inverse_scale,
                    int8_t* quants) {
  const float low = rule.low, high = rule.high;
  for (int j = 0; j < n; j += 16)
    for (int i = 0; i < 16; ++i)
      quants[j + i] = static_cast<int8_t>(nearest_integer((x[j + i] + minimum) * inverse_scale, low, high));
}

}  // namespace

float BlockFit::value_of(float y) const {
  if (rule_.steps == 0) return nearest_integer(y, rule_.low, rule_.high);
  float value = rule_.low;
  for (int i = 0; i < rule_.steps; ++i) value += y > rule_.middle[i] ? rule_.step[i] : 0.0f;
  return value;
}

float BlockFit::round_column(Plan& plan, int j, float x, float inverse_scale) const {
  const int g = j / format_.group;
  const float value = value_of((x + plan.minimum[g]) * inverse_scale);
  plan.quants[j] = static_cast<int8_t>(value);
  if (format_.codebook) {
    const Codebook& book = *format_.codebook;
    const int8_t* found = std::lower_bound(book.values, book.values + book.size, plan.quants[j]);
    plan.quants[j] = static_cast<int8_t>(book.quants[found - book.values]);
  }
  return plan.scale[g] * value - plan.minimum[g];
}

void BlockFit::round(Plan& plan, const float* x) const {
  for (int g = 0; g < format_.groups(); ++g) {
    const float inverse_scale = inverse(plan.scale[g]);
    if (rule_.steps == 0) {
      round_integers(rule_, x + g * format_.group, format_.group, plan.minimum[g], inverse_scale,
                     plan.quants + g * format_.group);
      continue;
    }
    for (int j = g * format_.group; j < (g + 1) * format_.group; ++j)
      round_column(plan, j, x[j], inverse_scale);
  }
}

}  // namespace binhdan::encode
