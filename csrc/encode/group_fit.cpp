#include "encode/group_fit.h"

#include <cmath>

#include "encode/candidates.h"

namespace binhdan::encode {
namespace {

// Rounding errors of the sums do not count as a gain. If several lanes reproduce x exactly, the first one is
// the simplest.
constexpr float kSameGain = 1.0f + 2e-6f;

int best_gain(const Candidates& gains) {
  return first_lane(gains, largest(gains, 0.0f) / kSameGain);
}

bool is_better(float gain, float best) {
  return gain > best * kSameGain && gain < 0x1p127f;
}

// Not std::fmin and std::fmax, which are calls of the C library. NaN in `x` does not count.
float smaller(float x, float y) {
  return x < y ? x : y;
}
float larger(float x, float y) {
  return x > y ? x : y;
}

// Sixteen lanes, so that the loops need no order of columns; the sizes of groups of columns are multiples of 16.
Candidates column_lanes(const float* x) {
  Candidates out;
  for (int i = 0; i < kCandidates; ++i) out.lane[i] = x[i];
  return out;
}

float sum(Candidates x) {
  return fold(x, [](float a, float b) { return a + b; });
}

float peak(const Group& group) {
  Candidates top = {};
  const int whole = group.size / kCandidates * kCandidates;
  for (int j = 0; j < whole; j += kCandidates)
    top = map(top, column_lanes(group.x + j), [](float t, float x) { return larger(std::fabs(x), t); });
  float found = largest(top, 0.0f);
  for (int j = whole; j < group.size; ++j) found = larger(std::fabs(group.x[j]), found);
  return found;
}

void improve(Scale& best, const CandidateKernels& kernels, const RoundingRule& rule, const Group& group,
             const Candidates& inverses) {
  CandidateSums sums;
  kernels.scale_sums(sums, {.x = group.x, .w = group.w, .n = group.size, .rule = rule, .inverses = inverses});
  const Candidates gains = if_greater(sums.qq, broadcast(0.0f), sums.qx * sums.qx / sums.qq, broadcast(0.0f));
  const int lane = best_gain(gains);
  if (is_better(gains.lane[lane], best.gain))
    best = {sums.qx.lane[lane] / sums.qq.lane[lane], sums.qq.lane[lane], gains.lane[lane]};
}

class LineFit {
 public:
  LineFit(const CandidateKernels& kernels, const RoundingRule& rule, const Group& group, bool bounded)
      : kernels_(kernels), rule_(rule), group_(group) {
    Candidates low = broadcast(group.x[0]), high = low, w = {}, x = {};
    for (int j = 0; j < group.size; j += kCandidates) {
      const Candidates columns = column_lanes(group.x + j);
      low = map(columns, low, smaller);
      high = map(columns, high, larger);
    }
    low_ = -largest(broadcast(0.0f) - low, -0x1p127f);
    high_ = largest(high, -0x1p127f);
    if (bounded) low_ = smaller(low_, 0.0f);
    limit_ = bounded ? -low_ : 0x1p127f;
    for (int j = 0; j < group.size; j += kCandidates) {
      const Candidates weights = column_lanes(group.w + j);
      w = w + weights;
      x = x + weights * (column_lanes(group.x + j) - broadcast(low_));
    }
    w_ = sum(w);
    x_ = sum(x);
    offset_ = smaller(x_ / w_, limit_);
    gain_ = offset_ * (2.0f * x_ - offset_ * w_);
  }

  Line run() {
    const float range = high_ - low_, n = rule_.high;
    if (inverse(range) > 0.0f) {
      // Eight scales from the lowest value, and eight that are closer to the middle.
      Candidates inverses, shifts;
      for (int i = 0; i < kCandidates; ++i) {
        const float wider = 0.25f * static_cast<float>(i % 8);
        inverses.lane[i] = (n - 1.0f + wider + (i < 8 ? 0.0f : 1.0f)) / range;
        shifts.lane[i] = i < 8 ? 0.0f : -0.5f * wider;
      }
      improve(inverses, shifts);
      if (scale_ > 0.0f) {
        constexpr float kStep = 0.3f;
        const float best = inverse(scale_);
        for (int i = 0; i < kCandidates; ++i) {
          inverses.lane[i] = best * (1.0f + (static_cast<float>(i % 4) - 1.5f) * kStep / n);
          shifts.lane[i] = -offset_ * inverses.lane[i] + (static_cast<float>(i / 4) - 1.5f) * kStep;
        }
        improve(inverses, shifts);
      }
    }
    return {scale_, offset_ + low_, qq_, q_, w_};
  }

 private:
  // Least squares for the quants of each lane. s and t are scale and offset of x - low.
  void improve(const Candidates& inverses, const Candidates& shifts) {
    CandidateSums sums;
    kernels_.line_sums(sums, {.x = group_.x,
                              .w = group_.w,
                              .n = group_.size,
                              .rule = rule_,
                              .base = low_,
                              .inverses = inverses,
                              .shifts = shifts});
    const auto& [qx, qq, q] = sums;
    const Candidates w = broadcast(w_), x = broadcast(x_), two = broadcast(2.0f), limit = broadcast(limit_);
    // Without two different quants, the offset is at its limit, if it has one.
    const Candidates det = w * qq - q * q;
    const Candidates free_t = if_greater(det, broadcast(1e-6f) * w * qq, (qq * x - q * qx) / det, limit);
    const Candidates t = min(free_t, limit);
    const Candidates s = (qx - t * q) / qq;
    const Candidates gains = two * (s * qx + t * x) - s * s * qq - two * s * t * q - t * t * w;
    const int best = best_gain(gains);
    if (!(is_better(gains.lane[best], gain_) && s.lane[best] > 0.0f)) return;
    gain_ = gains.lane[best];
    scale_ = s.lane[best];
    offset_ = t.lane[best];
    qq_ = qq.lane[best];
    q_ = q.lane[best];
  }

  const CandidateKernels& kernels_;
  const RoundingRule& rule_;
  const Group& group_;
  float low_, high_, limit_;
  float w_ = 0.0f, x_ = 0.0f;
  float scale_ = 0.0f, offset_, gain_, qq_ = 0.0f, q_ = 0.0f;
};

}  // namespace

float Line::minimum_for(float other_scale) const {
  return larger(-offset + q / w * (other_scale - scale), 0.0f);
}

RoundingRule integers(int low, int high) {
  return {.low = static_cast<float>(low), .high = static_cast<float>(high)};
}

float inverse(float x) {
  const float y = 1.0f / x;
  return std::fabs(y) < 0x1p127f ? y : 0.0f;
}
Candidates inverse(const Candidates& x) {
  return map(x, x, [](float y, float) { return inverse(y); });
}

Scale fit_scale(const CandidateKernels& kernels, const RoundingRule& rule, float levels, const Group& group) {
  Scale best;
  const float top = peak(group);
  if (!(inverse(top) > 0.0f)) return best;
  // Eight scales for each sign; a range that is symmetric needs one sign.
  const bool symmetric = rule.low + rule.high == 0.0f;
  Candidates inverses;
  for (int i = 0; i < kCandidates; ++i) {
    const float factor = symmetric ? 0.2f * static_cast<float>(i) : 0.4f * static_cast<float>(i % 8);
    inverses.lane[i] = (i < 8 || symmetric ? -rule.low : rule.low) / top * (1.0f + (factor - 1.0f) / levels);
  }
  improve(best, kernels, rule, group, inverses);
  const Candidates near = ramp(1.0f - 0.75f / levels, 0.1f / levels);
  improve(best, kernels, rule, group, broadcast(inverse(best.scale)) * near);
  return best;
}

Line fit_line(const CandidateKernels& kernels, const RoundingRule& rule, const Group& group, bool bounded) {
  return LineFit(kernels, rule, group, bounded).run();
}

float choose_unit(const CandidateKernels& kernels, const Group& targets, int low, int high) {
  const float top = peak(targets);
  Scale best;
  if (!(inverse(top) > 0.0f)) return 0.0f;
  const RoundingRule rule = integers(low, high);
  const Candidates inverse_top = broadcast(1.0f / top);
  for (const float step : {0.0f, 0.25f, 0.5f, 0.75f}) {
    improve(best, kernels, rule, targets, ramp(static_cast<float>(high) - step, -1.0f) * inverse_top);
    if (low < 0)
      improve(best, kernels, rule, targets, ramp(static_cast<float>(low) + step, 1.0f) * inverse_top);
  }
  return best.scale;
}

}  // namespace binhdan::encode
