// Matrix products. Threads split the rows of the weights, never the columns, so that results do not depend on
// the number of threads. The functions do not synchronize; their comments say where the caller needs a
// barrier.
#pragma once
#include <array>
#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"

namespace binhdan::ops {

// A weight matrix ready to compute with: `rows` outputs of `cols` inputs. No rows: the model has none.
struct Matrix {
  const MatmulKernel* kernel = nullptr;
  int64_t rows = 0, cols = 0;
  const void* data = nullptr;  // packed, or file blocks when the kernel has no pack
  std::string_view tensor;     // that contains it; the name belongs to the file

  uint64_t bytes() const;  // memory that one product reads
  void get_row(float* dst, int64_t row) const { kernel->get_row(dst, data, rows, cols, row); }
};

// How many rows of a batch are of each numeric class: of `total` rows, the first `decode` are of the class
// decode, the others of the class prefill.
struct ClassCounts {
  int64_t decode, total;

  NumericClass class_of(int64_t row) const {
    return row < decode ? NumericClass::decode : NumericClass::prefill;
  }
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
  void store(const KernelTable& table, Readers readers, ClassCounts classes, int64_t i, const float* x,
             int64_t column, int64_t n);

  // Rows from i on. For bf16, i must be the first prefill row, because the tiles begin there.
  const std::byte* rows(const ActivationLayout& layout, ClassCounts classes, int64_t i) const {
    assert(layout.format != Activation::bf16 || i == classes.decode);
    return data_[static_cast<size_t>(layout.format)].as<std::byte>() +
           layout.offset(stored_row(layout.format, classes, i), 0);
  }

 private:
  // Tiles of bf16 begin with the first prefill row: decode rows are never stored in this format.
  static int64_t stored_row(Activation format, ClassCounts classes, int64_t i) {
    return format == Activation::bf16 ? i - classes.decode : i;
  }

  std::array<Buffer, kActivations> data_;
};

// out[i * stride + r - range.first] = matrix row r . x row i for the r in `range`, which begins at a multiple
// of the kernel's panel_rows and ends at one or at the last row. Ranks call it with disjoint ranges; a
// barrier must separate them from the first read of another rank's outputs.
void matmul(const Matrix& matrix, Range range, const Activations& x, ClassCounts classes, float* out,
            int64_t stride, Buffer& scratch);
// Bytes of scratch that matmul() needs.
size_t matmul_scratch(const Matrix& matrix, int64_t rows);

}  // namespace binhdan::ops
