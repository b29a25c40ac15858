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
    size_t& widest = bytes[static_cast<size_t>(format)];
    widest = std::max(widest, stride(format, matrix.cols));
  }
}

void Activations::reserve(int64_t rows, const Widths& widths) {
  for (size_t format = 0; format < widths.bytes.size(); ++format)
    data_[format].reserve(static_cast<size_t>(rows) * widths.bytes[format]);
}

void Activations::put(const KernelTable& table, Readers readers, Classes classes, int64_t i, const float* x,
                      int64_t column, int64_t n) {
  unsigned done = 0;
  for (const Matrix* reader : readers) {
    const Activation format = i < classes.few ? reader->kernel->few : reader->kernel->many;
    const auto index = static_cast<unsigned>(format);
    if (done >> index & 1) continue;
    done |= 1u << index;
    std::byte* into = data_[index].as<std::byte>() + static_cast<size_t>(i) * stride(format, reader->cols);
    table.quantize[index](into + activation_row_size(format, column), x, n);
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
    const Activation format = few ? kernel.few : kernel.many;
    const MatmulArgs args{.weights = matrix.data,
                          .rows = matrix.rows,
                          .cols = matrix.cols,
                          .row_begin = 0,
                          .row_end = matrix.rows,
                          .activations = x.row(format, matrix.cols, first),
                          .activation_stride = Activations::stride(format, matrix.cols),
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
