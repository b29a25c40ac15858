#include "table.h"

#include "kernels/scalar/table.h"

namespace accelerator {
namespace {

using namespace binhdan;

accelerator_gemm gemm_function = nullptr;

const float* row_of(const MatmulArgs& args, int64_t i) {
  const auto* bytes = static_cast<const char*>(args.activations);
  return reinterpret_cast<const float*>(bytes + static_cast<size_t>(i) * args.activation_stride);
}

// The accelerator takes float32. The weights stay packed in memory and are decoded panel by panel. A real
// table would store them as the accelerator reads them: packed_size and pack of MatmulKernel.
size_t scratch_size(int64_t, int64_t cols, int64_t) {
  return static_cast<size_t>(kPanelRows * cols) * sizeof(float);
}

void multiply_here(const float* weights, int64_t rows, const MatmulArgs& args, int64_t first) {
  for (int64_t i = 0; i < args.m; ++i)
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < args.cols; ++c) sum += double{row_of(args, i)[c]} * weights[r * args.cols + c];
      args.out[i * args.out_stride + first + r] = static_cast<float>(sum);
    }
}

template <DType type>
void gemm(const MatmulArgs& args) {
  auto* weights = static_cast<float*>(args.scratch);
  const auto x_stride = static_cast<int64_t>(args.activation_stride / sizeof(float));
  for (int64_t first = 0; first < args.rows; first += kPanelRows) {
    const int64_t rows = args.rows - first < kPanelRows ? args.rows - first : kPanelRows;
    for (int64_t r = 0; r < rows; ++r)
      scalar::get_row<type>(weights + r * args.cols, args.weights, args.rows, args.cols, first + r);
    const bool done = gemm_function && gemm_function(weights, rows, args.cols, row_of(args, 0), x_stride,
                                                     args.m, args.out + first, args.out_stride) == 0;
    if (!done) multiply_here(weights, rows, args, first);
  }
}

consteval KernelTable table() {
  KernelTable table = scalar::table();
  table.isa = "accelerator";
#define SET(name)                                                          \
  {                                                                        \
    MatmulKernel& kernel = table.matmul[static_cast<size_t>(DType::name)]; \
    kernel.gemm = gemm<DType::name>;                                       \
    kernel.gemm_input = Activation::f32; /* decode still reads q8 rows */  \
    kernel.gemv_equals_gemm = false;                                       \
    kernel.scratch_size = scratch_size;                                    \
  }
  BINHDAN_PANEL_TYPES(SET)
#undef SET
  set_repacked(table);
  return table;
}

}  // namespace

void set_gemm(accelerator_gemm gemm) {
  gemm_function = gemm;
}

constinit const KernelTable kTable = table();

}  // namespace accelerator
