// Types that are read as file blocks, times float32 activations: decode a piece, then multiply it.
//
// Instructions (Arm, Software Optimization Guides; Q forms): fmla latency 7, 3 to an accumulator, 1 a cycle
// on Cortex-A72; latency 4, 2 to an accumulator, 2 a cycle on Cortex-A76; vector loads 1 a cycle on
// Cortex-A72, 2 on Cortex-A76.
//
// Algebra. The product of column j is accumulated in partial sum j % 16, and the 16 sums are added at the end
// (kernels.h). So a dot product is four vectors of sums, and its bits do not depend on the tile: gemv and
// gemm are one class. They equal scalar except for FMA's single rounding: the difference is below cols / 16 *
// 2^-23 of the sum of |terms|, in practice 1e-7.
//
// kRows rows are decoded kPiece columns at a time (12 KiB, which stays in L1) and multiplied with up to
// kBatch rows of activations. The partial sums are in scratch between pieces. Tiles of 6 dot products (6 x 1
// for one row, 3 x 2 otherwise) keep their 24 sums in the 32 registers: 5 loads for 6 fmla.
#include "kernels/neon/functions.h"
#include "kernels/neon/registers.h"

namespace binhdan::neon {
namespace {

constexpr int kRows = 12;
constexpr int kPiece = kSuper;  // a multiple of every block
constexpr int kBatch = 32;
constexpr int kVectors = kDotLanes / 4;  // of a dot product's sums

struct Scratch {
  float weights[kRows][kPiece];
  float32x4_t sums[kRows][kBatch][kVectors];
};

const float* activation_row(const MatmulArgs& args, int64_t i) {
  return reinterpret_cast<const float*>(static_cast<const char*>(args.activations) +
                                        static_cast<size_t>(i) * args.activation_stride);
}

// Rows r .. r + R - 1 of the decoded piece times rows i .. i + M - 1 of the batch; x points at their first
// column.
template <int R, int M>
BINHDAN_INLINE void tile(Scratch& scratch, int r, int i, const float* const* x, int64_t n) {
  float32x4_t sums[R][M][kVectors];
#pragma GCC unroll 8
  for (int a = 0; a < R; ++a)
#pragma GCC unroll 8
    for (int b = 0; b < M; ++b)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[a][b][v] = scratch.sums[r + a][i + b][v];
  const auto add = [&](int64_t j, int v, auto load_x) __attribute__((always_inline)) {
    float32x4_t columns[M];
#pragma GCC unroll 8
    for (int b = 0; b < M; ++b) columns[b] = load_x(x[i + b] + j);
#pragma GCC unroll 8
    for (int a = 0; a < R; ++a) {
      const float32x4_t w = vld1q_f32(&scratch.weights[r + a][j]);
#pragma GCC unroll 8
      for (int b = 0; b < M; ++b) sums[a][b][v] = vfmaq_f32(sums[a][b][v], w, columns[b]);
    }
  };
  int64_t j = 0;
  for (; j + kDotLanes <= n; j += kDotLanes)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) add(j + 4 * v, v, [](const float* p) { return vld1q_f32(p); });
  if (j < n)  // cols need not be a multiple of 16; beyond n the weights are zero
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      if (j + 4 * v < n)
        add(j + 4 * v, v, [left = n - j - 4 * v](const float* p) { return load_first(p, left); });
#pragma GCC unroll 8
  for (int a = 0; a < R; ++a)
#pragma GCC unroll 8
    for (int b = 0; b < M; ++b)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) scratch.sums[r + a][i + b][v] = sums[a][b][v];
}

// The decoded piece of `rows` rows times the batch.
void multiply_piece(Scratch& scratch, int rows, int m, const float* const* x, int64_t n) {
  int i = 0;
  for (; i + 2 <= m; i += 2) {
    int r = 0;
    for (; r + 3 <= rows; r += 3) tile<3, 2>(scratch, r, i, x, n);
    for (; r < rows; ++r) tile<1, 2>(scratch, r, i, x, n);
  }
  if (i < m) {
    int r = 0;
    for (; r + 6 <= rows; r += 6) tile<6, 1>(scratch, r, i, x, n);
    for (; r < rows; ++r) tile<1, 1>(scratch, r, i, x, n);
  }
}

struct Format {
  DecodeRow decode;
  int64_t element_bytes;
  int64_t bytes(int64_t n) const { return n * element_bytes; }
};

// Rows row .. row + rows - 1 times activations i0 .. i0 + m - 1.
void multiply_rows(const MatmulArgs& args, const Format& format, int64_t row, int rows, int64_t i0, int m) {
  auto& scratch = *static_cast<Scratch*>(args.scratch);
  const int64_t row_size = format.bytes(args.cols);
  const auto* weights = static_cast<const char*>(args.weights) + row * row_size;
  const float* x[kBatch];
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < m; ++i)
      for (float32x4_t& sum : scratch.sums[r][i]) sum = vdupq_n_f32(0.0f);
  for (int64_t begin = 0; begin < args.cols; begin += kPiece) {
    const int64_t n = args.cols - begin < kPiece ? args.cols - begin : kPiece;
    for (int r = 0; r < rows; ++r) {
      const char* piece = weights + r * row_size + format.bytes(begin);
      for (int64_t line = 0; line < format.bytes(n); line += 64)  // the same piece of the next rows
        __builtin_prefetch(piece + kRows * row_size + line);
      format.decode(scratch.weights[r], piece, n);
      for (int64_t j = n; j % kDotLanes != 0; ++j) scratch.weights[r][j] = 0.0f;
    }
    for (int i = 0; i < m; ++i) x[i] = activation_row(args, i0 + i) + begin;
    multiply_piece(scratch, rows, m, x, n);
  }
  for (int i = 0; i < m; ++i)
    for (int r = 0; r < rows; ++r)
      args.out[(i0 + i) * args.out_stride + row + r] = sum_lanes(scratch.sums[r][i]);
}

void matmul_rows(const MatmulArgs& args, const Format& format) {
  for (int64_t i = 0; i < args.m; i += kBatch) {
    const int m = static_cast<int>(args.m - i < kBatch ? args.m - i : kBatch);
    for (int64_t row = 0; row < args.rows; row += kRows) {
      const int rows = static_cast<int>(args.rows - row < kRows ? args.rows - row : kRows);
      multiply_rows(args, format, row, rows, i, m);
    }
  }
}

}  // namespace

size_t matmul_rows_scratch(int64_t, int64_t, int64_t) {
  return sizeof(Scratch);
}

void matmul_f32(const MatmulArgs& args) {
  matmul_rows(args, {decode_f32, 4});
}
void matmul_f16(const MatmulArgs& args) {
  matmul_rows(args, {decode_f16, 2});
}
void matmul_bf16(const MatmulArgs& args) {
  matmul_rows(args, {decode_bf16, 2});
}

}  // namespace binhdan::neon
