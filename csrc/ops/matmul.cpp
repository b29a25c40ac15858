#include "ops/matmul.h"

#include <algorithm>

namespace binhdan::ops {
namespace {

// Up to so many rows gemv is the faster one, where the choice is free.
constexpr int64_t kFewRows = 16;

uint64_t bytes_of_rows(const Matrix& matrix, int64_t rows) {
  if (matrix.kernel->packed_size) return matrix.kernel->packed_size(rows, matrix.cols);
  return static_cast<uint64_t>(rows) * row_bytes(matrix.kernel->type, static_cast<uint64_t>(matrix.cols));
}

// Panels lie one after another, so some of them are a matrix too.
Matrix part(const Matrix& matrix, Range range) {
  Matrix rows = matrix;
  rows.rows = range.second - range.first;
  rows.data = static_cast<const std::byte*>(matrix.data) + bytes_of_rows(matrix, range.first);
  return rows;
}

}  // namespace

uint64_t Matrix::bytes() const {
  return bytes_of_rows(*this, rows);
}

void Activations::Widths::cover(const Matrix& matrix) {
  for (const Activation format : {matrix.kernel->few, matrix.kernel->many}) {
    int64_t& widest = columns[static_cast<size_t>(format)];
    widest = std::max(widest, matrix.cols);
  }
}

void Activations::reserve(int64_t rows, const Widths& widths) {
  for (size_t i = 0; i < widths.columns.size(); ++i)
    if (widths.columns[i])
      data_[i].reserve(ActivationLayout(static_cast<Activation>(i), widths.columns[i]).size(rows));
}

void Activations::put(const KernelTable& table, Readers readers, Classes classes, int64_t i, const float* x,
                      int64_t column, int64_t n) {
  unsigned done = 0;
  for (const Matrix* reader : readers) {
    const Activation format = i < classes.few ? reader->kernel->few : reader->kernel->many;
    const auto index = static_cast<unsigned>(format);
    if (done >> index & 1) continue;
    done |= 1u << index;
    const ActivationLayout layout(format, reader->cols);
    // Tiles begin with the first row of their class.
    const int64_t row = format == Activation::bf16 ? i - classes.few : i;
    table.quantize[index](data_[index].as<std::byte>() + layout.offset(row, column), x, n);
  }
}

size_t matmul_scratch(const Matrix& matrix, int64_t rows) {
  return matrix.kernel->scratch_size ? matrix.kernel->scratch_size(matrix.rows, matrix.cols, rows) : 0;
}

void matmul(const Matrix& whole, Range range, const Activations& x, Classes classes, float* out,
            int64_t stride, Buffer& scratch) {
  const Matrix matrix = part(whole, range);
  const MatmulKernel& kernel = *matrix.kernel;
  const auto run = [&](bool few, int64_t first, int64_t count) {
    if (count == 0) return;
    const ActivationLayout layout(few ? kernel.few : kernel.many, matrix.cols);
    const MatmulArgs args{.weights = matrix.data,
                          .rows = matrix.rows,
                          .cols = matrix.cols,
                          .activations = x.rows(layout, first),
                          .activation_stride = layout.stride,
                          .m = count,
                          .out = out + first * stride,
                          .out_stride = stride,
                          .scratch = scratch.as<void>()};
    (few ? kernel.gemv : kernel.gemm)(args);
  };
  if (kernel.one_class) {
    run(classes.total <= kFewRows, 0, classes.total);
  } else {
    run(true, 0, classes.few);
    run(false, classes.few, classes.total - classes.few);
  }
}

}  // namespace binhdan::ops
