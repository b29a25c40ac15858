// Matrix products. Threads split the rows of the weights, never the columns, so that results do not depend on
// the number of threads. No function here synchronizes: each says what the caller must.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace binhdan::ops {

// A weight matrix ready to compute with: `rows` outputs of `cols` inputs.
struct Matrix {
  const MatmulKernel* kernel = nullptr;
  int64_t rows = 0, cols = 0;
  const void* data = nullptr;  // packed, or file blocks when the kernel has no pack

  uint64_t bytes() const;  // memory that one product reads
  void get_row(float* dst, int64_t row) const { kernel->get_row(dst, data, rows, cols, row); }
};

// The numeric classes of a batch's rows: the first `decode` of its `total` rows are of the class decode, the
// others of the class prefill.
struct NumericClasses {
  int64_t decode, total;

  NumericClass of(int64_t row) const { return row < decode ? NumericClass::decode : NumericClass::prefill; }
};

// Rows of activations in every format that the kernels of a layer read.
class Activations {
 public:
  using Readers = std::initializer_list<const Matrix*>;
  // The largest number of columns in each format.
  struct Widths {
    std::array<int64_t, kActivations> columns{};
    void cover(const Matrix& matrix);
  };

  void reserve(int64_t rows, const Widths& widths);
  // Stores part of row i for every matrix in `readers`, all of the same number of columns: `n` columns from
  // `column` on, both multiples of 32. Ranks may store different parts; a barrier must separate them from
  // the first matmul().
  void store(const KernelTable& table, Readers readers, NumericClasses classes, int64_t i, const float* x,
             int64_t column, int64_t n);

  // Rows from i on; for bf16, all rows of the class prefill.
  const std::byte* rows(const ActivationLayout& layout, int64_t i) const {
    return data_[static_cast<size_t>(layout.format)].as<std::byte>() +
           (layout.format == Activation::bf16 ? 0 : layout.offset(i, 0));
  }

 private:
  std::array<Buffer, kActivations> data_;
};

// out[i * stride + r - range.first] = matrix row r . x row i for the r in `range`, which begins at a multiple
// of the kernel's panel_rows and ends at one or at the last row. Ranks call it with disjoint ranges; a
// barrier must separate them from the first read of another rank's outputs.
void matmul(const Matrix& matrix, Range range, const Activations& x, NumericClasses classes, float* out,
            int64_t stride, Buffer& scratch);
// Bytes of scratch that matmul() needs.
size_t matmul_scratch(const Matrix& matrix, int64_t rows);

}  // namespace binhdan::ops
