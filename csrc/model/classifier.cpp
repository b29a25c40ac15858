#include "model/classifier.h"

#include <cmath>
#include <vector>

namespace binhdan::model {
namespace {

// Separate sums, so that the compiler can vectorize the loop.
double dot(const float* a, const float* b, size_t n) {
  constexpr size_t kLanes = 8;
  double sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane)
      sums[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (const double lane : sums) sum += lane;
  return sum;
}

double linear(const float* matrix, const float* bias, size_t row, std::span<const float> input) {
  const double sum = dot(matrix + row * input.size(), input.data(), input.size());
  return bias ? sum + static_cast<double>(bias[row]) : sum;
}

}  // namespace

double Classifier::score(std::span<const float> hidden) const {
  std::vector<float> inner;
  if (dense) {
    inner.resize(hidden.size());
    for (size_t i = 0; i < inner.size(); ++i)
      inner[i] = static_cast<float>(std::tanh(linear(dense, dense_bias, i, hidden)));
    hidden = inner;
  }
  const double first = linear(output, output_bias, 0, hidden);
  return classes == 1 ? first : first - linear(output, output_bias, 1, hidden);
}

}  // namespace binhdan::model
