// Panels times q8 activations, exactly as kernels.h states the arithmetic: the reference for all faster
// tables.
//
// For a block of 32 columns with scale s, minimum m, and activations q_a with scale d_a:
//   dot = sum value(quant) q_a        integer
//   acc += dot (s d_a)                one addition for each scale
//   acc += m (d_a sum q_a)            one addition for each minimum
#include <algorithm>

#include "kernels/scalar/functions.h"
#include "kernels/scalar/panels.h"

namespace binhdan::scalar {
namespace {

constexpr int kTileRows = 8;  // rows of activations that share a decoded block

// A block of 32 columns of a panel, decoded.
template <DType type>
struct DecodedBlock {
  using Panel = PanelOf<type>::Panel;
  static constexpr int kColumns = 32 / Panel::kScales;  // per scale
  int8_t q[kPanelRows][32];
  float scale[Panel::kScales][kPanelRows], min[Panel::kScales][kPanelRows];

  DecodedBlock(const Panel& panel, int block) {
    for (int row = 0; row < kPanelRows; ++row) {
      Words words;
      load(words, panel.quants[block], row);
      for (int j = 0; j < 32; ++j)
        q[row][j] = static_cast<int8_t>(value_of<type>(words[j / 4] >> (j % 4 * 8) & 0xff));
    }
    for (int i = 0; i < Panel::kScales; ++i)
      for (int row = 0; row < kPanelRows; ++row) {
        scale[i][row] = scale_of(panel, block, i, row);
        if constexpr (Panel::kMins) min[i][row] = min_of(panel, block, i, row);
      }
  }

  int32_t dot(int row, int part, const BlockQ8A& x) const {
    int32_t sum = 0;
    for (int j = part * kColumns; j < (part + 1) * kColumns; ++j) sum += q[row][j] * x.qs[j];
    return sum;
  }

  void accumulate(float (&acc)[kPanelRows], const BlockQ8A& x) const {
    for (int row = 0; row < kPanelRows; ++row) {
      for (int i = 0; i < Panel::kScales; ++i)
        acc[row] += static_cast<float>(dot(row, i, x)) * (scale[i][row] * x.d);
      if constexpr (Panel::kMins)
        for (int i = 0; i < Panel::kScales; ++i)
          acc[row] += min[i][row] * (Panel::kScales == 1 ? x.d_sum : x.d * static_cast<float>(x.sum[i]));
    }
  }
};

template <DType type>
auto row_of_panels(const void* packed, int64_t cols, int64_t row) {
  using Panel = PanelOf<type>::Panel;
  return static_cast<const Panel*>(packed) + row / kPanelRows * (cols / (32 * Panel::kBlocks));
}

// Rows [begin, begin + count) of the activations, count <= kTileRows, times one row of panels.
template <DType type>
void multiply(const MatmulArgs& args, int64_t row, int64_t begin, int64_t count) {
  constexpr int kBlocks = PanelOf<type>::Panel::kBlocks;
  const auto* panels = row_of_panels<type>(args.weights, args.cols, row);
  const char* x = static_cast<const char*>(args.activations);
  float acc[kTileRows][kPanelRows] = {};
  for (int64_t b = 0; b < args.cols / 32; ++b) {
    const DecodedBlock<type> block(panels[b / kBlocks], static_cast<int>(b % kBlocks));
    for (int64_t i = 0; i < count; ++i)
      block.accumulate(acc[i], load_block<BlockQ8A>(x + (begin + i) * int64_t(args.activation_stride), b));
  }
  const int64_t rows = std::min<int64_t>(kPanelRows, args.rows - row);
  for (int64_t i = 0; i < count; ++i)
    std::copy_n(acc[i], rows, args.out + (begin + i) * args.out_stride + row);
}

}  // namespace

template <DType type>
size_t packed_size(int64_t rows, int64_t cols) {
  using Panel = PanelOf<type>::Panel;
  return static_cast<size_t>((rows + kPanelRows - 1) / kPanelRows * (cols / (32 * Panel::kBlocks))) *
         sizeof(Panel);
}

template <DType type>
void get_row(float* dst, const void* packed, int64_t, int64_t cols, int64_t row) {
  using Panel = PanelOf<type>::Panel;
  const Panel* panels = row_of_panels<type>(packed, cols, row);
  const int r = static_cast<int>(row % kPanelRows);
  for (int64_t b = 0; b < cols / 32; ++b, dst += 32) {
    const Panel& panel = panels[b / Panel::kBlocks];
    const int block = static_cast<int>(b % Panel::kBlocks);
    Words words;
    load(words, panel.quants[block], r);
    for (int j = 0; j < 32; ++j) {
      const int part = j * Panel::kScales / 32;
      const auto value = static_cast<float>(value_of<type>(words[j / 4] >> (j % 4 * 8) & 0xff));
      dst[j] = scale_of(panel, block, part, r) * value;
      if constexpr (Panel::kMins) dst[j] += min_of(panel, block, part, r);
    }
  }
}

template <DType type>
void matmul(const MatmulArgs& args) {
  for (int64_t row = 0; row < args.rows; row += kPanelRows)
    for (int64_t i = 0; i < args.m; i += kTileRows)
      multiply<type>(args, row, i, std::min<int64_t>(kTileRows, args.m - i));
}

#define INSTANTIATE(type)                                                             \
  template size_t packed_size<DType::type>(int64_t, int64_t);                         \
  template void get_row<DType::type>(float*, const void*, int64_t, int64_t, int64_t); \
  template void matmul<DType::type>(const MatmulArgs&);
BINHDAN_PANEL_TYPES(INSTANTIATE)
#undef INSTANTIATE

}  // namespace binhdan::scalar
