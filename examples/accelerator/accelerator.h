/* What a driver of an accelerator offers to binhdan: one function in a shared library. The example table
 * (table.h) calls it for the matrix products of prompts. */
#ifndef BINHDAN_EXAMPLE_ACCELERATOR_H
#define BINHDAN_EXAMPLE_ACCELERATOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* out[i * out_stride + r] = sum over c of x[i * x_stride + c] * weights[r * cols + c], for 0 <= i < m and
 * 0 <= r < rows; strides in floats. Several threads call it at the same time. A row of `out` must depend on its
 * row of x and on the weights alone: not on m, not on other rows. Returns 0 on success; otherwise the caller
 * computes the product by itself. */
typedef int32_t (*accelerator_gemm)(const float* weights, int64_t rows, int64_t cols, const float* x,
                                    int64_t x_stride, int64_t m, float* out, int64_t out_stride);

/* The name of the function in the library. */
#define ACCELERATOR_GEMM "accelerator_gemm_f32"

#ifdef __cplusplus
}
#endif
#endif
