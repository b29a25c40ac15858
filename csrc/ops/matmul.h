// Matrix products: rows of the weights may be split among threads, K never is, so that results do not depend
// on the number of threads.
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

  uint64_t bytes() const;  // what one pass over the weights reads
  void get_row(float* dst, int64_t row) const { kernel->get_row(dst, data, rows, cols, row); }
};

// How many leading rows of a batch belong to the numeric class "few rows"; the others are "many rows".
struct Classes {
  int64_t few, total;
};

// Rows of activations in the formats that kernels ask for.
class Activations {
 public:
  using Readers = std::initializer_list<const Matrix*>;
  // The most columns in each format.
  struct Widths {
    std::array<int64_t, kActivations> columns{};
    void cover(const Matrix& matrix);
  };

  void reserve(int64_t rows, const Widths& widths);
  // Prepares row i for every matrix of `readers`, which have equally many columns: `n` columns from `column`
  // on, a multiple of 32. Ranks may each prepare a part; sync before others read it.
  void put(const KernelTable& table, Readers readers, Classes classes, int64_t i, const float* x,
           int64_t column, int64_t n);

  // Rows from i on; for bf16, all rows of the class of many.
  const std::byte* rows(const ActivationLayout& layout, int64_t i) const {
    return data_[static_cast<size_t>(layout.format)].as<std::byte>() +
           (layout.format == Activation::bf16 ? 0 : layout.offset(i, 0));
  }

 private:
  std::array<Buffer, kActivations> data_;
};

// out[i * stride + r - range.first] = matrix row r . x row i for the r in `range`, which begins at a multiple
// of the kernel's panel_rows and ends at one or at the last row.
void matmul(const Matrix& matrix, Range range, const Activations& x, Classes classes, float* out,
            int64_t stride, Buffer& scratch);
// Bytes of scratch that matmul() needs.
size_t matmul_scratch(const Matrix& matrix, int64_t rows);

}  // namespace binhdan::ops
