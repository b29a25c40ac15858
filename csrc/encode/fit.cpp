// The search for scales. Every step evaluates 16 candidates at once, one in each lane.
//
// A group without a minimum: for each candidate the columns are rounded, then least squares gives the scale for
// these quants. With Q(x) for the quants, s = sum w Q x / sum w Q^2, and the error is lower than that of s = 0
// by (sum w Q x)^2 / sum w Q^2. With a minimum, least squares gives both. A second step searches around the best.
//
// A super-block: the float16 scale is chosen by the groups' errors as quadratic functions of their scales. Then
// each group tries 16 codes around its own scale, by its exact error, and least squares over all groups gives
// the float16 scale again.
#include "encode/fit.h"

#include <cmath>

#include "base/half.h"
#include "encode/lanes.h"
#include "kernels/codec.h"

namespace binhdan::encode {
namespace {

// ---- rounding -----------------------------------------------------------------------------------------

struct Integers {
  float low, high;
  [[gnu::always_inline]] Lanes operator()(const Lanes& y) const {
    return round(min(max(y, broadcast(low)), broadcast(high)));
  }
  float one(float y) const { return (*this)(broadcast(y))[0]; }
};

struct Values {
  const Codebook& codebook;
  [[gnu::always_inline]] Lanes operator()(const Lanes& y) const {
    const int8_t* values = codebook.values;
    Lanes out = broadcast(values[0]);
    for (int i = 1; i < codebook.size; ++i) {
      const float middle = 0.5f * static_cast<float>(values[i - 1] + values[i]);
      out = out + if_greater(y, broadcast(middle), broadcast(static_cast<float>(values[i] - values[i - 1])),
                             broadcast(0.0f));
    }
    return out;
  }
};

// Calls function(rounding) with the rounding of a format.
template <class Function>
void with_rounding(const Format& format, Function function) {
  if (format.codebook)
    function(Values{*format.codebook});
  else
    function(Integers{static_cast<float>(format.low), static_cast<float>(format.high)});
}

// The float16 nearest to x that is finite.
uint16_t finite_f16(float x) {
  if (!(std::fabs(x) < 65504.0f)) return x > 0 ? 0x7bff : x < 0 ? 0xfbff : 0;
  return f32_to_f16(x);
}

float inverse(float x) {
  const float y = 1.0f / x;
  return std::fabs(y) < 0x1p127f ? y : 0.0f;
}
Lanes inverse(const Lanes& x) {
  Lanes out;
  for (int lane = 0; lane < kLanes; ++lane) out.set(lane, inverse(x[lane]));
  return out;
}

// Quants at full scale, for the distance of candidates.
float levels(const Format& format) {
  return format.codebook ? (format.codebook->size > 2 ? 8.0f : 1.0f) : static_cast<float>(-format.low);
}

// The first lane of the largest gain. Rounding errors do not count as a gain: if several lanes reproduce x
// exactly, the first one is the simplest.
constexpr float kSameGain = 1.0f + 2e-6f;
int best_gain(const Lanes& gains) {
  const float enough = gains[argmax(gains)] / kSameGain;
  int lane = 0;
  while (lane + 1 < kLanes && !(gains[lane] >= enough)) ++lane;
  return lane;
}

// ---- groups without a minimum -------------------------------------------------------------------------

struct Group {
  const float *x, *w;
  int size;
};

struct Sums {
  Lanes qx, qq;
};

template <class Rounding>
Sums sums(const Group& group, const Lanes& inverses, const Rounding& rounding) {
  Sums sums{broadcast(0.0f), broadcast(0.0f)};
  for (int j = 0; j < group.size; ++j) {
    const Lanes x = broadcast(group.x[j]), w = broadcast(group.w[j]);
    const Lanes q = rounding(x * inverses), wq = w * q;
    sums.qx = sums.qx + wq * x;
    sums.qq = sums.qq + wq * q;
  }
  return sums;
}

float largest(const Group& group) {
  float top = 0.0f;
  for (int j = 0; j < group.size; ++j) top = std::fmax(top, std::fabs(group.x[j]));
  return top;
}

// The best scale for a group, and sum w Q^2, the curvature of its error.
struct Scale {
  float scale = 0.0f, curvature = 0.0f, gain = 0.0f;

  void improve(const Sums& sums) {
    const Lanes gains = if_greater(sums.qq, broadcast(0.0f), sums.qx * sums.qx / sums.qq, broadcast(0.0f));
    const int best = best_gain(gains);
    if (gains[best] > gain * kSameGain && gains[best] < 0x1p127f)
      *this = {sums.qx[best] / sums.qq[best], sums.qq[best], gains[best]};
  }
};

template <class Rounding>
Scale fit_scale(const Format& format, const Group& group, const Rounding& rounding) {
  const float top = largest(group), n = levels(format);
  Scale best;
  if (!(inverse(top) > 0.0f)) return best;
  const float extreme = static_cast<float>(-format.low) / top;
  const Lanes factors = ramp(1.0f - 1.0f / n, 0.2f / n);
  best.improve(sums(group, broadcast(extreme) * factors, rounding));
  if (format.low + format.high != 0) best.improve(sums(group, broadcast(-extreme) * factors, rounding));
  for (const float step : {0.1f, 0.02f})
    best.improve(
        sums(group, broadcast(inverse(best.scale)) * ramp(1.0f - 7.5f * step / n, step / n), rounding));
  return best;
}

// sum w (x - s Q(x / s))^2 for each scale s
template <class Rounding>
Lanes errors(const Group& group, const Lanes& scales, const Lanes& inverses, const Rounding& rounding) {
  Lanes sum = broadcast(0.0f);
  for (int j = 0; j < group.size; ++j) {
    const Lanes x = broadcast(group.x[j]);
    const Lanes rest = x - scales * rounding(x * inverses);
    sum = sum + broadcast(group.w[j]) * (rest * rest);
  }
  return sum;
}

// ---- groups with a minimum ----------------------------------------------------------------------------

// x = scale q + offset; the curvature of the error in both: sum w q^2, sum w q, sum w.
struct Line {
  float scale = 0.0f, offset = 0.0f;
  float qq = 0.0f, q = 0.0f, w = 0.0f;
};

struct LineSums {
  Lanes qx, qq, q;
};

// Quants of (x - base) inverse + shift; sums with x - base.
template <class Rounding>
LineSums line_sums(const Group& group, float base, const Lanes& inverses, const Lanes& shifts,
                   const Rounding& rounding) {
  LineSums sums{broadcast(0.0f), broadcast(0.0f), broadcast(0.0f)};
  for (int j = 0; j < group.size; ++j) {
    const Lanes x = broadcast(group.x[j] - base), w = broadcast(group.w[j]);
    const Lanes q = rounding(x * inverses + shifts), wq = w * q;
    sums.qx = sums.qx + wq * x;
    sums.qq = sums.qq + wq * q;
    sums.q = sums.q + wq;
  }
  return sums;
}

class LineFit {
 public:
  // bounded: the offset is at most 0.
  LineFit(const Group& group, bool bounded) : group_(group) {
    low_ = high_ = group.x[0];
    for (int j = 1; j < group.size; ++j) {
      low_ = std::fmin(low_, group.x[j]);
      high_ = std::fmax(high_, group.x[j]);
    }
    if (bounded) low_ = std::fmin(low_, 0.0f);
    limit_ = bounded ? -low_ : 0x1p127f;
    for (int j = 0; j < group.size; ++j) {
      w_ += group.w[j];
      x_ += group.w[j] * (group.x[j] - low_);
    }
    scale_ = 0.0f;
    offset_ = std::fmin(x_ / w_, limit_);
    gain_ = offset_ * (2.0f * x_ - offset_ * w_);
  }

  template <class Rounding>
  Line run(int high, const Rounding& rounding) {
    const float range = high_ - low_, n = static_cast<float>(high);
    if (inverse(range) > 0.0f) {
      // Eight scales from the lowest value, and eight that are closer to the middle.
      Lanes inverses, shifts;
      for (int lane = 0; lane < kLanes; ++lane) {
        const float wider = 0.25f * static_cast<float>(lane % 8);
        inverses.set(lane, (n - 1.0f + wider + (lane < 8 ? 0.0f : 1.0f)) / range);
        shifts.set(lane, lane < 8 ? 0.0f : -0.5f * wider);
      }
      improve(inverses, shifts, rounding);
      for (const float step : {0.4f, 0.15f}) {
        if (!(scale_ > 0.0f)) break;
        const float base = inverse(scale_);
        for (int lane = 0; lane < kLanes; ++lane) {
          const float i = base * (1.0f + (static_cast<float>(lane % 4) - 1.5f) * step / n);
          inverses.set(lane, i);
          shifts.set(lane, -offset_ * i + (static_cast<float>(lane / 4) - 1.5f) * step);
        }
        improve(inverses, shifts, rounding);
      }
    }
    return {scale_, offset_ + low_, qq_, q_, w_};
  }

 private:
  // Least squares for the quants of each lane. s and t are scale and offset of x - low.
  template <class Rounding>
  void improve(const Lanes& inverses, const Lanes& shifts, const Rounding& rounding) {
    const LineSums sums = line_sums(group_, low_, inverses, shifts, rounding);
    const Lanes w = broadcast(w_), x = broadcast(x_), two = broadcast(2.0f), limit = broadcast(limit_);
    // Without two different quants, the offset is at its limit, if it has one.
    const Lanes det = w * sums.qq - sums.q * sums.q;
    const Lanes free_t =
        if_greater(det, broadcast(1e-6f) * w * sums.qq, (sums.qq * x - sums.q * sums.qx) / det, limit);
    const Lanes t = min(free_t, limit);
    const Lanes s = (sums.qx - t * sums.q) / sums.qq;
    const Lanes gain = two * (s * sums.qx + t * x) - s * s * sums.qq - two * s * t * sums.q - t * t * w;
    const int best = best_gain(gain);
    if (!(gain[best] > gain_ * kSameGain && gain[best] < 0x1p127f && s[best] > 0.0f)) return;
    gain_ = gain[best];
    scale_ = s[best];
    offset_ = t[best];
    qq_ = sums.qq[best];
    q_ = sums.q[best];
  }

  const Group& group_;
  float low_, high_, limit_;
  float w_ = 0.0f, x_ = 0.0f;
  float scale_, offset_, gain_, qq_ = 0.0f, q_ = 0.0f;
};

// sum w (x - (s q - m))^2 for each scale s and minimum m
template <class Rounding>
Lanes line_errors(const Group& group, const Lanes& scales, const Lanes& minima, const Rounding& rounding) {
  const Lanes inverses = inverse(scales);
  Lanes sum = broadcast(0.0f);
  for (int j = 0; j < group.size; ++j) {
    const Lanes x = broadcast(group.x[j]) + minima;
    const Lanes rest = x - scales * rounding(x * inverses);
    sum = sum + broadcast(group.w[j]) * (rest * rest);
  }
  return sum;
}

// ---- blocks of one group ------------------------------------------------------------------------------

void fit_float16(const Format& format, const Group& group, Plan& plan) {
  with_rounding(format, [&](const auto& rounding) {
    plan.d = finite_f16(fit_scale(format, group, rounding).scale);
    plan.scale[0] = f16_to_f32(plan.d);
    plan.minimum[0] = 0.0f;
  });
}

void fit_float16_line(const Format& format, const Group& group, Plan& plan) {
  const Integers rounding{static_cast<float>(format.low), static_cast<float>(format.high)};
  const Line line = LineFit(group, false).run(format.high, rounding);
  plan.d = finite_f16(line.scale);
  plan.scale[0] = f16_to_f32(plan.d);
  // The offset that is best with the rounded scale.
  plan.m = finite_f16(line.offset - line.q / line.w * (plan.scale[0] - line.scale));
  plan.minimum[0] = -f16_to_f32(plan.m);
}

// Scales that are powers of two. The largest one whose products are finite is 2^124.
void fit_power(const Format& format, const Group& group, Plan& plan) {
  const Values rounding{*format.codebook};
  int exponent = 0;
  std::frexp(largest(group) / static_cast<float>(format.high), &exponent);
  const int first = std::fmin(std::fmax(exponent + 128 - 8, 0), 253 - kLanes);
  Lanes scales, inverses;
  for (int lane = 0; lane < kLanes; ++lane) {
    scales.set(lane, e8m0_scale(static_cast<uint8_t>(first + lane)));
    inverses.set(lane, inverse(scales[lane]));
  }
  plan.d = static_cast<uint16_t>(first + argmin(errors(group, scales, inverses, rounding)));
  plan.scale[0] = e8m0_scale(static_cast<uint8_t>(plan.d));
  plan.minimum[0] = 0.0f;
}

// ---- super-blocks -------------------------------------------------------------------------------------

// The unit for which integers `low` .. `high` times the unit are closest to the targets: least sum of
// curvature (target - unit code)^2 among candidates that give the largest target a code near an end.
float choose_unit(const Group& targets, int low, int high) {
  const float top = largest(targets);
  Scale best;
  if (!(inverse(top) > 0.0f)) return 0.0f;
  const Integers rounding{static_cast<float>(low), static_cast<float>(high)};
  for (const float step : {0.0f, 0.25f, 0.5f, 0.75f}) {
    const Lanes ends = ramp(static_cast<float>(high) - step, -1.0f), inverses = ends * broadcast(1.0f / top);
    best.improve(sums(targets, inverses, rounding));
    if (low < 0) best.improve(sums(targets, broadcast(0.0f) - inverses, rounding));
  }
  return best.scale;
}

int clamp_code(float code, int low, int high) {
  if (!(code > static_cast<float>(low))) return low;
  return code < static_cast<float>(high) ? static_cast<int>(code) : high;
}

class SuperBlock {
 public:
  SuperBlock(const Format& format, const float* x, const float* w) : format_(format), x_(x), w_(w) {}

  template <class Rounding>
  void fit(const Rounding& rounding, Plan& plan) {
    Scale scales[kMaxGroups];
    float targets[kMaxGroups] = {}, curvatures[kMaxGroups] = {};
    for (int g = 0; g < format_.groups(); ++g) {
      scales[g] = fit_scale(format_, group(g), rounding);
      targets[g] = scales[g].scale;
      curvatures[g] = scales[g].curvature;
    }
    float unit =
        choose_unit({targets, curvatures, format_.groups()}, format_.min_scale_code, format_.max_scale_code);
    float best_error = INFINITY;
    for (int step = 0; step < kRounds; ++step) {
      Plan trial;
      trial.d = finite_f16(unit);
      const float error = choose_codes(f16_to_f32(trial.d), targets, rounding, trial);
      if (error < best_error || step == 0) {
        best_error = error;
        plan = trial;
      }
      if (step + 1 == kRounds) break;
      double qx = 0, qq = 0;
      for (int g = 0; g < format_.groups(); ++g) {
        const Sums group_sums = sums(group(g), broadcast(inverse(trial.scale[g])), rounding);
        const double code = trial.scale_codes[g];
        qx += code * group_sums.qx[0];
        qq += code * code * group_sums.qq[0];
      }
      if (!(qq > 0)) break;
      unit = static_cast<float>(qx / qq);
    }
  }

  template <class Rounding>
  void fit_lines(const Rounding& rounding, Plan& plan) {
    const int groups = format_.groups();
    Line lines[kMaxGroups];
    float targets[kMaxGroups] = {}, curvatures[kMaxGroups] = {};
    for (int g = 0; g < groups; ++g) {
      lines[g] = LineFit(group(g), true).run(format_.high, rounding);
      targets[g] = lines[g].scale;
      // The minimum follows the scale, unless it is 0.
      const float shared = lines[g].offset < 0.0f ? lines[g].q * lines[g].q / lines[g].w : 0.0f;
      curvatures[g] = std::fmax(lines[g].qq - shared, 1e-6f * lines[g].qq);
    }
    float unit = choose_unit({targets, curvatures, groups}, 0, format_.max_scale_code);
    const float inverse_unit = inverse(unit);
    for (int g = 0; g < groups; ++g) {
      const Line& line = lines[g];
      const int code = clamp_code(std::rint(line.scale * inverse_unit), 0, format_.max_scale_code);
      targets[g] = minimum_for(line, unit * static_cast<float>(code));
      curvatures[g] = line.w;
    }
    float min_unit = choose_unit({targets, curvatures, groups}, 0, format_.max_minimum_code);
    float best_error = INFINITY;
    for (int step = 0; step < kRounds; ++step) {
      Plan trial;
      trial.d = finite_f16(unit);
      trial.m = finite_f16(min_unit);
      const float error = choose_line_codes(lines, rounding, trial);
      if (error < best_error || step == 0) {
        best_error = error;
        plan = trial;
      }
      if (step + 1 == kRounds || !refit_units(rounding, trial, unit, min_unit)) break;
    }
  }

 private:
  static constexpr int kRounds = 2;

  Group group(int g) const { return {x_ + g * format_.group, w_ + g * format_.group, format_.group}; }

  // Each group takes the code with the least error among 16 around its target. Returns the sum of errors.
  template <class Rounding>
  float choose_codes(float d, const float* targets, const Rounding& rounding, Plan& plan) const {
    const int low = format_.min_scale_code, high = format_.max_scale_code;
    const float inverse_d = inverse(d);
    float total = 0.0f;
    for (int g = 0; g < format_.groups(); ++g) {
      const int first = clamp_code(std::rint(targets[g] * inverse_d) - 8.0f, low, high + 1 - kLanes);
      const Lanes scales = ramp(static_cast<float>(first), 1.0f) * broadcast(d);
      const Lanes error = errors(group(g), scales, inverse(scales), rounding);
      const int best = argmin(error);
      plan.scale_codes[g] = static_cast<int16_t>(first + best);
      plan.scale[g] = scales[best];
      plan.minimum[g] = 0.0f;
      total += error[best];
    }
    return total;
  }

  static float minimum_for(const Line& line, float scale) {
    return std::fmax(-line.offset + line.q / line.w * (scale - line.scale), 0.0f);
  }

  // Four codes of the scale times four of the minimum.
  template <class Rounding>
  float choose_line_codes(const Line* lines, const Rounding& rounding, Plan& plan) const {
    const float d = f16_to_f32(plan.d), dmin = f16_to_f32(plan.m);
    const float inverse_d = inverse(d), inverse_dmin = inverse(dmin);
    float total = 0.0f;
    for (int g = 0; g < format_.groups(); ++g) {
      const Line& line = lines[g];
      const int first = clamp_code(std::floor(line.scale * inverse_d) - 1.0f, 0, format_.max_scale_code - 3);
      int codes[kLanes], min_codes[kLanes];
      Lanes scales, minima;
      for (int lane = 0; lane < kLanes; ++lane) {
        codes[lane] = first + lane / 4;
        scales.set(lane, d * static_cast<float>(codes[lane]));
        const float minimum = minimum_for(line, scales[lane]);
        min_codes[lane] =
            clamp_code(std::floor(minimum * inverse_dmin) - 1.0f, 0, format_.max_minimum_code - 3) + lane % 4;
        minima.set(lane, dmin * static_cast<float>(min_codes[lane]));
      }
      const Lanes error = line_errors(group(g), scales, minima, rounding);
      const int best = argmin(error);
      plan.scale_codes[g] = static_cast<int16_t>(codes[best]);
      plan.min_codes[g] = static_cast<int16_t>(min_codes[best]);
      plan.scale[g] = scales[best];
      plan.minimum[g] = minima[best];
      total += error[best];
    }
    return total;
  }

  // Least squares for d and dmin with the plan's codes and quants: x = d code q - dmin min_code.
  template <class Rounding>
  bool refit_units(const Rounding& rounding, const Plan& plan, float& d, float& dmin) const {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int g = 0; g < format_.groups(); ++g) {
      const float* x = x_ + g * format_.group;
      const float* w = w_ + g * format_.group;
      const float inverse_scale = inverse(plan.scale[g]);
      double qq = 0, q_sum = 0, w_sum = 0, qx = 0, x_sum = 0;
      for (int j = 0; j < format_.group; ++j) {
        const float q = rounding.one((x[j] + plan.minimum[g]) * inverse_scale);
        qq += w[j] * q * q;
        q_sum += w[j] * q;
        w_sum += w[j];
        qx += w[j] * q * x[j];
        x_sum += w[j] * x[j];
      }
      const double code = plan.scale_codes[g], min_code = plan.min_codes[g];
      aa += code * code * qq;
      ab -= code * min_code * q_sum;
      bb += min_code * min_code * w_sum;
      ax += code * qx;
      bx -= min_code * x_sum;
    }
    const double det = aa * bb - ab * ab;
    if (det > 1e-9 * aa * bb) {
      d = static_cast<float>((bb * ax - ab * bx) / det);
      dmin = static_cast<float>((aa * bx - ab * ax) / det);
    } else if (aa > 0) {
      d = static_cast<float>((ax - ab * dmin) / aa);
    } else {
      return false;
    }
    return d > 0 && dmin >= 0;
  }

  const Format& format_;
  const float *x_, *w_;
};

}  // namespace

void fit(const Format& format, const float* x, const float* w, Plan& plan) {
  const Group group{x, w, format.group};
  if (format.is_super() && format.has_minimum) {
    SuperBlock(format, x, w)
        .fit_lines(Integers{static_cast<float>(format.low), static_cast<float>(format.high)}, plan);
  } else if (format.is_super()) {
    with_rounding(format, [&](const auto& rounding) { SuperBlock(format, x, w).fit(rounding, plan); });
  } else if (format.has_minimum) {
    fit_float16_line(format, group, plan);
  } else if (format.type == DType::mxfp4) {
    fit_power(format, group, plan);
  } else {
    fit_float16(format, group, plan);
  }
}

float round_column(const Format& format, Plan& plan, int j, float x) {
  const int g = j / format.group;
  const float scale = plan.scale[g], minimum = plan.minimum[g];
  const float y = (x + minimum) * inverse(scale);
  float value;
  if (format.codebook) {
    const Codebook& book = *format.codebook;
    int i = 0;
    while (i + 1 < book.size && y > 0.5f * static_cast<float>(book.values[i] + book.values[i + 1])) ++i;
    plan.quants[j] = static_cast<int8_t>(book.quants[i]);
    value = book.values[i];
  } else {
    const int q = clamp_code(std::rint(y), format.low, format.high);
    plan.quants[j] = static_cast<int8_t>(q);
    value = static_cast<float>(q);
  }
  return scale * value - minimum;
}

}  // namespace binhdan::encode
