#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace binhdan::model {
namespace {

double yarn_magnitude(double factor, double multiplier) {
  return factor > 1 ? 1.0 + 0.1 * multiplier * std::log(factor) : 1.0;
}

}  // namespace

RopeFrequencies rope_frequencies(const RopeConfig& rope, std::span<const float> factors) {
  const auto dim = static_cast<double>(rope.dim);
  // The dimension whose wavelength fits `rotations` times into the original context (YaRN, section 3.2).
  const auto correction = [&](double rotations) {
    return dim * std::log(rope.original_context / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(rope.base));
  };
  const double low = std::max(0.0, std::floor(correction(rope.beta_fast)));
  const double high = std::min(dim - 1, std::ceil(correction(rope.beta_slow)));

  RopeFrequencies result{std::vector<double>(static_cast<size_t>(rope.dim / 2)), rope.attention_factor};
  for (size_t i = 0; i < result.frequencies.size(); ++i) {
    double frequency = std::pow(rope.base, -2.0 * static_cast<double>(i) / dim);
    if (!factors.empty()) frequency /= static_cast<double>(factors[i]);
    if (rope.scaling == RopeConfig::Scaling::linear) frequency /= rope.factor;
    if (rope.scaling == RopeConfig::Scaling::yarn) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / std::max(0.001, high - low), 0.0, 1.0);
      frequency *= ramp / rope.factor + (1.0 - ramp);
    }
    result.frequencies[i] = frequency;
  }
  if (rope.scaling == RopeConfig::Scaling::yarn) {
    result.magnitude *= yarn_magnitude(rope.factor, 1.0);
    if (rope.log_multiplier != 0) result.magnitude /= yarn_magnitude(rope.factor, rope.log_multiplier);
  }
  return result;
}

}  // namespace binhdan::model
