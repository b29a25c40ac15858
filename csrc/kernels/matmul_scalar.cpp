#include <algorithm>

#include "base/half.h"
#include "kernels/codec.h"
#include "kernels/dot_scalar.h"
#include "kernels/scalar.h"

namespace binhdan::scalar {
namespace {

const char* bytes(const void* p) {
  return static_cast<const char*>(p);
}

const void* activation_row(const MatmulArgs& args, int64_t i) {
  return bytes(args.activations) + static_cast<size_t>(i) * args.activation_stride;
}

const void* file_row(DType type, const void* weights, int64_t cols, int64_t row) {
  return bytes(weights) + static_cast<uint64_t>(row) * row_bytes(type, static_cast<uint64_t>(cols));
}

}  // namespace

// ---- file blocks, decoded ----------------------------------------------------------------------------

size_t scratch_size_decoded(int64_t, int64_t cols, int64_t) {
  return static_cast<size_t>(cols) * sizeof(float);
}

template <DType type>
void get_row_decoded(float* dst, const void* weights, int64_t, int64_t cols, int64_t row) {
  decode_row(type)(dst, file_row(type, weights, cols, row), cols);
}

template <DType type>
void matmul_decoded(const MatmulArgs& args) {
  float* weights = static_cast<float*>(args.scratch);
  for (int64_t row = args.row_begin; row < args.row_end; ++row) {
    get_row_decoded<type>(weights, args.weights, args.rows, args.cols, row);
    for (int64_t i = 0; i < args.m; ++i) {
      const float* x = static_cast<const float*>(activation_row(args, i));
      args.out[i * args.out_stride + row] = dot(weights, x, args.cols);
    }
  }
}

#define INSTANTIATE(type)                                                              \
  template void get_row_decoded<type>(float*, const void*, int64_t, int64_t, int64_t); \
  template void matmul_decoded<type>(const MatmulArgs&);
INSTANTIATE(DType::f32)
INSTANTIATE(DType::f16)
INSTANTIATE(DType::bf16)
INSTANTIATE(DType::q4_0)
INSTANTIATE(DType::q4_1)
INSTANTIATE(DType::q5_0)
INSTANTIATE(DType::q5_1)
INSTANTIATE(DType::q8_0)
INSTANTIATE(DType::q2_k)
INSTANTIATE(DType::q3_k)
INSTANTIATE(DType::q4_k)
INSTANTIATE(DType::q5_k)
INSTANTIATE(DType::q6_k)
INSTANTIATE(DType::iq4_nl)
INSTANTIATE(DType::iq4_xs)
#undef INSTANTIATE

// ---- panels ------------------------------------------------------------------------------------------
namespace {

using Codes = uint8_t[8][kPanelRows][4];  // of one panel, [column / 4][row][column % 4]

// Puts one file block into its row of a panel.
void set_row(PanelQ8_0& panel, int row, const BlockQ8_0& block) {
  panel.d[row] = block.d;
  for (int j = 0; j < 32; ++j) panel.codes.low[j / 4][row][j % 4] = static_cast<uint8_t>(block.qs[j]);
}

void set_row(PanelQ4_0& panel, int row, const BlockQ4_0& block) {
  panel.d[row] = block.d;
  for (int j = 0; j < 16; ++j) panel.codes.low[j / 4][row][j % 4] = block.qs[j];
}

int code(const PanelQ8_0& panel, int row, int column) {
  return static_cast<int8_t>(panel.codes.low[column / 4][row][column % 4]);
}

int code(const PanelQ4_0& panel, int row, int column) {
  const int byte = panel.codes.low[column % 16 / 4][row][column % 4];
  return (column < 16 ? byte & 15 : byte >> 4) - 8;
}

const Codes& codes(const PanelQ8_0& panel, Codes&) {
  return panel.codes.low;
}

const Codes& codes(const PanelQ4_0& panel, Codes& unpacked) {
  for (int g = 0; g < 4; ++g)
    for (int row = 0; row < kPanelRows; ++row)
      for (int c = 0; c < 4; ++c) {
        unpacked[g][row][c] = static_cast<uint8_t>((panel.codes.low[g][row][c] & 15) - 8);
        unpacked[g + 4][row][c] = static_cast<uint8_t>((panel.codes.low[g][row][c] >> 4) - 8);
      }
  return unpacked;
}

// acc[row] += dot of the row's block and x
void accumulate(float (&acc)[kPanelRows], const Codes& q, const float (&d)[kPanelRows], const BlockQ8A& x) {
  for (int row = 0; row < kPanelRows; ++row) {
    int32_t sum = 0;
    for (int g = 0; g < 8; ++g)
      for (int c = 0; c < 4; ++c) sum += static_cast<int8_t>(q[g][row][c]) * x.qs[g * 4 + c];
    acc[row] += static_cast<float>(sum) * (d[row] * x.d);
  }
}

template <typename Panel>
struct FileBlock;
template <>
struct FileBlock<PanelQ8_0> {
  using type = BlockQ8_0;
  static constexpr DType dtype = DType::q8_0;
};
template <>
struct FileBlock<PanelQ4_0> {
  using type = BlockQ4_0;
  static constexpr DType dtype = DType::q4_0;
};

constexpr int kRowsAtOnce = 8;  // activation rows that share an unpacked block

// Activation rows [begin, begin + count), count <= kRowsAtOnce, against one row of panels.
template <typename Panel>
void matmul_panel(const MatmulArgs& args, const Panel* panels, int64_t row, int64_t begin, int64_t count) {
  float acc[kRowsAtOnce][kPanelRows] = {};
  for (int64_t block = 0; block < args.cols / 32; ++block) {
    Codes unpacked;
    const Codes& q = codes(panels[block], unpacked);
    float d[kPanelRows];
    for (int r = 0; r < kPanelRows; ++r) d[r] = f16_to_f32(panels[block].d[r]);
    for (int64_t i = 0; i < count; ++i)
      accumulate(acc[i], q, d, static_cast<const BlockQ8A*>(activation_row(args, begin + i))[block]);
  }
  const int64_t rows = std::min<int64_t>(kPanelRows, args.row_end - row);
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(acc[i], rows, args.out + (begin + i) * args.out_stride + row);
}

}  // namespace

template <typename Panel>
size_t packed_size(int64_t rows, int64_t cols) {
  return static_cast<size_t>((rows + kPanelRows - 1) / kPanelRows * (cols / 32)) * sizeof(Panel);
}

template <typename Panel>
void pack(void* packed, const void* src, int64_t rows, int64_t cols, int64_t row_begin, int64_t row_end) {
  using File = FileBlock<Panel>;
  const int64_t blocks = cols / 32;
  const int64_t end = (row_end + kPanelRows - 1) / kPanelRows * kPanelRows;
  for (int64_t row = row_begin; row < end; ++row) {
    Panel* panels = static_cast<Panel*>(packed) + row / kPanelRows * blocks;
    const void* file = row < rows ? file_row(File::dtype, src, cols, row) : nullptr;
    for (int64_t b = 0; b < blocks; ++b)
      set_row(panels[b], static_cast<int>(row % kPanelRows),
              file ? load_block<typename File::type>(file, b) : typename File::type{});
  }
}

template <typename Panel>
void get_row(float* dst, const void* packed, int64_t, int64_t cols, int64_t row) {
  const Panel* panels = static_cast<const Panel*>(packed) + row / kPanelRows * (cols / 32);
  const int r = static_cast<int>(row % kPanelRows);
  for (int64_t b = 0; b < cols / 32; ++b) {
    const float d = f16_to_f32(panels[b].d[r]);
    for (int j = 0; j < 32; ++j) dst[b * 32 + j] = d * static_cast<float>(code(panels[b], r, j));
  }
}

template <typename Panel>
void matmul(const MatmulArgs& args) {
  for (int64_t row = args.row_begin; row < args.row_end; row += kPanelRows) {
    const Panel* panels = static_cast<const Panel*>(args.weights) + row / kPanelRows * (args.cols / 32);
    for (int64_t i = 0; i < args.m; i += kRowsAtOnce)
      matmul_panel(args, panels, row, i, std::min<int64_t>(kRowsAtOnce, args.m - i));
  }
}

#define INSTANTIATE(Panel)                                                           \
  template size_t packed_size<Panel>(int64_t, int64_t);                              \
  template void pack<Panel>(void*, const void*, int64_t, int64_t, int64_t, int64_t); \
  template void get_row<Panel>(float*, const void*, int64_t, int64_t, int64_t);      \
  template void matmul<Panel>(const MatmulArgs&);
INSTANTIATE(PanelQ8_0)
INSTANTIATE(PanelQ4_0)
#undef INSTANTIATE

}  // namespace binhdan::scalar
