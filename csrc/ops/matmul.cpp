#include "ops/matmul.h"

#include <algorithm>

namespace binhdan::ops {
namespace {

// For kernels with gemv_equals_gemm: gemv is faster up to this many rows.
constexpr int64_t kMaxGemvRows = 16;

uint64_t bytes_of_rows(const Matrix& matrix, int64_t rows) {
  if (matrix.kernel->packed_size) return matrix.kernel->packed_size(rows, matrix.cols);
  return static_cast<uint64_t>(rows) * row_bytes(matrix.kernel->type, static_cast<uint64_t>(matrix.cols));
}

// Panels follow each other in memory, so a range of them is a matrix as well.
Matrix part(const Matrix& matrix, Range range) {
  Matrix rows = matrix;
  rows.rows = range.second - range.first;
  rows.data = static_cast<const std::byte*>(matrix.data) + bytes_of_rows(matrix, range.first);
  return rows;
}

}  // namespace

uint64_t Matrix::bytes() const {
  return rows > 0 ? bytes_of_rows(*this, rows) : 0;
}

void Activations::Widths::cover(const Matrix& matrix) {
  for (const Activation format : {matrix.kernel->gemv_input, matrix.kernel->gemm_input}) {
    int64_t& widest = columns[static_cast<size_t>(format)];
    widest = std::max(widest, matrix.cols);
  }
}

void Activations::reserve(int64_t rows, const Widths& widths) {
  for (size_t i = 0; i < widths.columns.size(); ++i)
    if (widths.columns[i])
      data_[i].reserve(ActivationLayout(static_cast<Activation>(i), widths.columns[i]).size(rows));
}

void Activations::store(const KernelTable& table, Readers readers, ClassCounts classes, int64_t i,
                        const float* x, int64_t column, int64_t n) {
  unsigned done = 0;
  for (const Matrix* reader : readers) {
    const Activation format = reader->kernel->input(classes.class_of(i));
    const auto index = static_cast<unsigned>(format);
    if (done >> index & 1) continue;
    done |= 1u << index;
    const ActivationLayout layout(format, reader->cols);
    std::byte* data = data_[index].as<std::byte>();
    table.quantize[index](data + layout.offset(stored_row(format, classes, i), column), x, n);
  }
}

size_t matmul_scratch(const Matrix& matrix, int64_t rows) {
  return matrix.kernel->scratch_size ? matrix.kernel->scratch_size(matrix.rows, matrix.cols, rows) : 0;
}

void matmul(const Matrix& whole, Range range, const Activations& x, ClassCounts classes, float* out,
            int64_t stride, Buffer& scratch) {
  const Matrix matrix = part(whole, range);
  const MatmulKernel& kernel = *matrix.kernel;
  const auto run = [&](NumericClass numeric_class, int64_t first, int64_t count) {
    if (count == 0) return;
    const ActivationLayout layout(kernel.input(numeric_class), matrix.cols);
    const MatmulArgs args{.weights = matrix.data,
                          .rows = matrix.rows,
                          .cols = matrix.cols,
                          .activations = x.rows(layout, classes, first),
                          .activation_stride = layout.stride,
                          .m = count,
                          .out = out + first * stride,
                          .out_stride = stride,
                          .scratch = scratch.as<void>()};
    (numeric_class == NumericClass::decode ? kernel.gemv : kernel.gemm)(args);
  };
  if (kernel.gemv_equals_gemm) {
    run(classes.total <= kMaxGemvRows ? NumericClass::decode : NumericClass::prefill, 0, classes.total);
  } else {
    run(NumericClass::decode, 0, classes.decode);
    run(NumericClass::prefill, classes.decode, classes.total - classes.decode);
  }
}

}  // namespace binhdan::ops
