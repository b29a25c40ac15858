#include "ops/convolution.h"

#include <algorithm>

namespace binhdan::ops {
namespace {

// The inputs at row `row` of a run: negative rows are in the state.
class Inputs {
 public:
  Inputs(const ConvolutionRun& run, const ConvolutionPart& part, const float* x, int64_t stride)
      : state_(run.state + (part.taps - 1) * part.channels + part.begin),
        channels_(part.channels),
        x_(x),
        stride_(stride) {}
  const float* at(int64_t row) const { return row < 0 ? state_ + row * channels_ : x_ + row * stride_; }

 private:
  const float* state_;
  int64_t channels_;
  const float* x_;
  int64_t stride_;
};

}  // namespace

void convolve(const KernelTable& table, const ConvolutionRun& run, const ConvolutionPart& part, float* x,
              int64_t stride) {
  const Inputs inputs(run, part, x, stride);
  const int64_t history = part.taps - 1;
  // The rows overwrite their inputs, so the new state is read first. Its place is written last.
  float next[(kMaxConvolutionTaps - 1) * kMaxConvolutionWidth];
  for (int64_t t = 0; t < history; ++t) {
    std::copy_n(inputs.at(run.rows - history + t), part.n, next + t * part.n);
    if (run.checkpoint)
      std::copy_n(inputs.at(run.checkpoint_rows - history + t), part.n,
                  run.checkpoint + t * part.channels + part.begin);
  }
  for (int64_t row = run.rows - 1; row >= 0; --row) {
    const float* rows[kMaxConvolutionTaps];
    for (int64_t t = 0; t < part.taps; ++t) rows[t] = inputs.at(row - history + t);
    table.conv(x + row * stride, rows, part.weights + part.begin, part.channels, part.taps, part.n);
  }
  for (int64_t t = 0; t < history; ++t)
    std::copy_n(next + t * part.n, part.n, run.state + t * part.channels + part.begin);
}

}  // namespace binhdan::ops
