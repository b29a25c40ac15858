// Float32, float16 and bfloat16 weights, read as file blocks, times float32 activations. dot.h has the order
// of the sums.
#include "kernels/codec.h"
#include "kernels/scalar/dot.h"
#include "kernels/scalar/functions.h"

namespace binhdan::scalar {
namespace {

const char* bytes(const void* p) {
  return static_cast<const char*>(p);
}

const void* activation_row(const MatmulArgs& args, int64_t i) {
  return bytes(args.activations) + static_cast<size_t>(i) * args.activation_stride;
}

const void* file_row(DType type, const void* weights, int64_t cols, int64_t row) {
  return bytes(weights) + static_cast<uint64_t>(row) * row_bytes(type, static_cast<uint64_t>(cols));
}

}  // namespace

size_t scratch_size_decoded(int64_t, int64_t cols, int64_t) {
  return static_cast<size_t>(cols) * sizeof(float);
}

template <DType type>
void get_row_decoded(float* dst, const void* weights, int64_t, int64_t cols, int64_t row) {
  decode_row(type)(dst, file_row(type, weights, cols, row), cols);
}

template <DType type>
void matmul_decoded(const MatmulArgs& args) {
  float* weights = static_cast<float*>(args.scratch);
  for (int64_t row = 0; row < args.rows; ++row) {
    get_row_decoded<type>(weights, args.weights, args.rows, args.cols, row);
    for (int64_t i = 0; i < args.m; ++i) {
      const float* x = static_cast<const float*>(activation_row(args, i));
      args.out[i * args.out_stride + row] = dot(weights, x, args.cols);
    }
  }
}

#define INSTANTIATE(type)                                                              \
  template void get_row_decoded<type>(float*, const void*, int64_t, int64_t, int64_t); \
  template void matmul_decoded<type>(const MatmulArgs&);
INSTANTIATE(DType::f32)
INSTANTIATE(DType::f16)
INSTANTIATE(DType::bf16)
#undef INSTANTIATE

}  // namespace binhdan::scalar
