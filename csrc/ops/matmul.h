// Matrix products over a team of threads: rows of the weights are split, K never is, so that results do not
// depend on the number of threads.
#pragma once
#include <cstdint>
#include <utility>

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

// Rows of activations in the format that the kernels reading them ask for. Owned by a workspace, reused by
// each layer.
class Activations {
 public:
  // Room for `rows` rows of up to `cols` floats.
  void reserve(int64_t rows, int64_t cols);
  // Prepares x, (classes.total, matrix.cols) with `stride` floats between rows, for `matrix` and for every
  // matrix that reads_like() it. Each rank prepares its share: sync before use.
  void prepare(Team& team, const KernelTable& table, const Matrix& matrix, const float* x, int64_t stride,
               Classes classes);
  static bool reads_like(const Matrix& a, const Matrix& b);

  const std::byte* row(const Matrix& matrix, int64_t i) const {
    return data_.as<std::byte>() + static_cast<size_t>(i) * row_bytes(matrix);
  }
  static size_t row_bytes(const Matrix& matrix);

 private:
  Buffer data_;
};

// This rank's share of the matrix's rows, cut at panel borders.
std::pair<int64_t, int64_t> row_share(const Team& team, const Matrix& matrix);

// out[i][r] = matrix row r . x row i for this rank's share of r. out: (classes.total, stride).
void matmul(Team& team, const Matrix& matrix, const Activations& x, Classes classes, float* out,
            int64_t stride, Buffer& scratch);
// Bytes of scratch that matmul() asks of each rank.
size_t matmul_scratch(const Matrix& matrix, int64_t rows);

}  // namespace binhdan::ops
