/* An accelerator for the tests: plain loops. A driver would send the operands to its device. */
#include "accelerator.h"

#include <stdatomic.h>

_Atomic int64_t accelerator_calls = 0; /* tests read it */

int32_t accelerator_gemm_f32(const float* weights, int64_t rows, int64_t cols, const float* x,
                             int64_t x_stride, int64_t m, float* out, int64_t out_stride) {
  atomic_fetch_add_explicit(&accelerator_calls, 1, memory_order_relaxed);
  for (int64_t i = 0; i < m; ++i)
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < cols; ++c) sum += (double)x[i * x_stride + c] * weights[r * cols + c];
      out[i * out_stride + r] = (float)sum;
    }
  return 0;
}
