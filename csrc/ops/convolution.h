// Causal depthwise convolution over consecutive rows of a sequence.
#pragma once
#include <cstdint>

#include "kernels/kernels.h"

namespace binhdan::ops {

inline constexpr int64_t kMaxConvolutionTaps = 8, kMaxConvolutionWidth = 256;

// Rows of one sequence. The state is the inputs before the first row, (taps - 1, channels), oldest first.
struct ConvolutionRun {
  int64_t rows;
  float* state;                 // replaced by the inputs before the row after the last one
  float* checkpoint = nullptr;  // if set: gets the state after `checkpoint_rows` rows
  int64_t checkpoint_rows = 0;
};

// Channels [begin, begin + n) of all channels; n at most kMaxConvolutionWidth.
struct ConvolutionPart {
  const float* weights;  // (taps, channels), the tap of the current row last
  int64_t taps, channels, begin, n;
};

// x[r][c] = sum over t < taps of weights[t][c] * x[r - taps + 1 + t][c], in place; x points at channel `begin` of the
// first row, with `stride` floats between rows. Ranks may compute different parts of one run.
void convolve(const KernelTable& table, const ConvolutionRun& run, const ConvolutionPart& part, float* x,
              int64_t stride);

}  // namespace binhdan::ops
