// Observes the inputs of the matrix products of a forward pass, for calibration.
#pragma once
#include <cstdint>

#include "ops/matmul.h"

namespace binhdan::model {

class InputObserver {
 public:
  virtual ~InputObserver() = default;
  // Columns [column, column + n) of row `row` of the input of `readers`, before it is quantized. Several
  // threads call it at the same time, each for other parts. Must not throw.
  virtual void observe(ops::Activations::Readers readers, int64_t row, const float* x, int64_t column,
                       int64_t n) = 0;
};

}  // namespace binhdan::model
