#include "ops/matmul.h"

#include <algorithm>

namespace binhdan::ops {

uint64_t Matrix::bytes() const {
  if (kernel->packed_size) return kernel->packed_size(rows, cols);
  return static_cast<uint64_t>(rows) * binhdan::row_bytes(kernel->type, static_cast<uint64_t>(cols));
}

void Activations::reserve(int64_t rows, int64_t cols) {
  size_t widest = 0;
  for (int format = 0; format < kActivations; ++format)
    widest = std::max(widest, activation_row_size(static_cast<Activation>(format), cols));
  data_.reserve(static_cast<size_t>(rows) * (widest + 2 * kCacheLine));
}

size_t Activations::row_bytes(const Matrix& matrix) {
  const size_t bytes = std::max(activation_row_size(matrix.kernel->few, matrix.cols),
                                activation_row_size(matrix.kernel->many, matrix.cols));
  // An odd number of cache lines: the same column of neighbouring rows then lies in different cache sets.
  return ((bytes + kCacheLine - 1) / kCacheLine | 1) * kCacheLine;
}

bool Activations::reads_like(const Matrix& a, const Matrix& b) {
  return a.cols == b.cols && a.kernel->few == b.kernel->few && a.kernel->many == b.kernel->many;
}

void Activations::prepare(Team& team, const KernelTable& table, const Matrix& matrix, const float* x,
                          int64_t stride, Classes classes) {
  const size_t bytes = row_bytes(matrix);
  const auto [begin, end] = team.share(classes.total);
  for (int64_t i = begin; i < end; ++i) {
    const Activation format = i < classes.few ? matrix.kernel->few : matrix.kernel->many;
    table.quantize[static_cast<int>(format)](data_.as<std::byte>() + static_cast<size_t>(i) * bytes,
                                             x + i * stride, matrix.cols);
  }
}

std::pair<int64_t, int64_t> row_share(const Team& team, const Matrix& matrix) {
  return team.share(matrix.rows, matrix.kernel->panel_rows);
}

size_t matmul_scratch(const Matrix& matrix, int64_t rows) {
  return matrix.kernel->scratch_size ? matrix.kernel->scratch_size(matrix.rows, matrix.cols, rows) : 0;
}

void matmul(Team& team, const Matrix& matrix, const Activations& x, Classes classes, float* out,
            int64_t stride, Buffer& scratch) {
  const MatmulKernel& kernel = *matrix.kernel;
  const auto [row_begin, row_end] = row_share(team, matrix);
  if (row_begin == row_end) return;
  MatmulArgs args{.weights = matrix.data,
                  .rows = matrix.rows,
                  .cols = matrix.cols,
                  .row_begin = row_begin,
                  .row_end = row_end,
                  .activations = nullptr,
                  .activation_stride = Activations::row_bytes(matrix),
                  .m = 0,
                  .out = nullptr,
                  .out_stride = stride,
                  .scratch = scratch.as<void>()};
  const auto run = [&](void (*kernel_function)(const MatmulArgs&), int64_t first, int64_t count) {
    if (count == 0) return;
    args.activations = x.row(matrix, first);
    args.m = count;
    args.out = out + first * stride;
    kernel_function(args);
  };
  if (kernel.one_class) {
    run(classes.total == 1 ? kernel.gemv : kernel.gemm, 0, classes.total);
  } else {
    run(kernel.gemv, 0, classes.few);
    run(kernel.gemm, classes.few, classes.total - classes.few);
  }
}

}  // namespace binhdan::ops
