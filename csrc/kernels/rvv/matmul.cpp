// Panels of Q8_0 and Q4_0 times q8 activations.
//
// Instructions (RISC-V V extension 1.0), for 16 rows of weights at a time:
//   vwmacc.vx  16-bit lane += signed byte * scalar;  vwmul.vx  the same without a sum
//   vwadd.wv   32-bit lane += 16-bit lane
//   vfwcvt     16-bit integers to floats
//
// Algebra. For a block of 32 columns, dot = sum q_w q_a, and acc += dot (s_w d_a), as kernels.h states.
// Q4_0: |dot| <= 32 * 8 * 127 < 2^15, so a dot product stays in 16 bits. Q8_0: |q_w q_a| <= 128 * 127, so the sum
// of two columns fits in 16 bits, and pairs are added to 32-bit sums. All integers are exact.
//
// A tile is `kRows` rows of activations times a panel. Its float sums and integer sums stay in the 32 registers.
// In registers of 128 bits, 16 floats need four of them. Vector instructions for a block of a tile of M rows,
// without the scales (about 8), and scalar loads of activations, which use another port:
//          loads  quants  products  floats    tile: VLEN 128, 256
//   Q4_0    16      48      32 M      3 M           4, 8
//   Q8_0    32              48 M      3 M           2, 4
#include "kernels/rvv/functions.h"
#include "kernels/rvv/panels.h"
#include "kernels/rvv/registers.h"

namespace binhdan::rvv {
namespace {

constexpr int64_t kBatch = 32;  // rows of activations that stay in L2 for all panels: 48 cols bytes

template <DType type, class Width>
constexpr int kRows = (type == DType::q4_0 ? 4 : 2) * (Width::kBits / 128);

// Adds block b, times block b of the rows x, to the float sums.
template <class Width, class... Sums>
BINHDAN_INLINE void add_block(const ColumnPanel<DType::q4_0>& panel, const BlockQ8A* const* x, int64_t b,
                              Sums&... sums) {
  with_registers<sizeof...(Sums)>(Width::no_shorts, [&](auto&... dots) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int c = 0; c < 16; ++c) {
      const auto both = Width::load(panel.columns[c]);
      const auto low = __riscv_vsra(__riscv_vsll(both, 4, kRowLanes), 4, kRowLanes);
      const auto high = __riscv_vsra(both, 4, kRowLanes);
      int i = 0;
      ((dots = __riscv_vwmacc(dots, x[i++][b].qs[c], low, kRowLanes)), ...);
      i = 0;
      ((dots = __riscv_vwmacc(dots, x[i++][b].qs[c + 16], high, kRowLanes)), ...);
    }
    const auto scale = load_f16<Width>(panel.d);
    int i = 0;
    ((sums = __riscv_vfmacc(sums, __riscv_vfwcvt_f(dots, kRowLanes),
                            __riscv_vfmul(scale, x[i++][b].d, kRowLanes), kRowLanes)),
     ...);
  });
}

template <class Width, class... Sums>
BINHDAN_INLINE void add_block(const ColumnPanel<DType::q8_0>& panel, const BlockQ8A* const* x, int64_t b,
                              Sums&... sums) {
  with_registers<sizeof...(Sums)>(Width::no_ints, [&](auto&... dots) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int c = 0; c < 32; c += 2) {
      const auto even = Width::load(panel.columns[c]), odd = Width::load(panel.columns[c + 1]);
      with_registers<sizeof...(Sums)>(Width::no_shorts, [&](auto&... pairs) __attribute__((always_inline)) {
        int i = 0;
        ((pairs = __riscv_vwmul(even, x[i++][b].qs[c], kRowLanes)), ...);
        i = 0;
        ((pairs = __riscv_vwmacc(pairs, x[i++][b].qs[c + 1], odd, kRowLanes)), ...);
        ((dots = __riscv_vwadd_wv(dots, pairs, kRowLanes)), ...);
      });
    }
    const auto scale = load_f16<Width>(panel.d);
    int i = 0;
    ((sums = __riscv_vfmacc(sums, __riscv_vfcvt_f(dots, kRowLanes),
                            __riscv_vfmul(scale, x[i++][b].d, kRowLanes), kRowLanes)),
     ...);
  });
}

BINHDAN_INLINE const BlockQ8A* activation_row(const MatmulArgs& args, int64_t i) {
  const auto* bytes = static_cast<const char*>(args.activations);
  return reinterpret_cast<const BlockQ8A*>(bytes + static_cast<size_t>(i) * args.activation_stride);
}

// Rows i0 .. i0 + M - 1 of activations times the panels of the weights' rows `row` .. row + 15.
template <DType type, class Width, int M>
[[gnu::noinline]] static void tile(const MatmulArgs& args, int64_t row, int64_t i0) {
  const ColumnPanel<type>* panels = row_of_panels<type>(args.weights, args.cols, row);
  const BlockQ8A* x[M];
  for (int i = 0; i < M; ++i) x[i] = activation_row(args, i0 + i);
  const int64_t valid = args.rows - row;
  const size_t stored = valid < kPanelRows ? static_cast<size_t>(valid) : kRowLanes;
  with_registers<M>(Width::no_floats, [&](auto&... sums) __attribute__((always_inline)) {
    for (int64_t b = 0; b < args.cols / 32; ++b) add_block<Width>(panels[b], x, b, sums...);
    float* out = args.out + i0 * args.out_stride + row;
    ((__riscv_vse32(out, sums, stored), out += args.out_stride), ...);
  });
}

// The same for `count` rows, 1 <= count <= M.
template <DType type, class Width, int M>
BINHDAN_INLINE void tile_of(int64_t count, const MatmulArgs& args, int64_t row, int64_t i0) {
  if constexpr (M > 1)
    if (count < M) return tile_of<type, Width, M - 1>(count, args, row, i0);
  tile<type, Width, M>(args, row, i0);
}

template <DType type, class Width>
BINHDAN_INLINE void multiply_panels(const MatmulArgs& args) {
  constexpr int M = kRows<type, Width>;
  for (int64_t begin = 0; begin < args.m; begin += kBatch) {
    const int64_t end = args.m < begin + kBatch ? args.m : begin + kBatch;
    for (int64_t row = 0; row < args.rows; row += kPanelRows)
      for (int64_t i = begin; i < end; i += M)
        tile_of<type, Width, M>(end - i < M ? end - i : M, args, row, i);
  }
}

}  // namespace

#define MATMUL(type)                                                    \
  template <>                                                           \
  void matmul<DType::type>(const MatmulArgs& args) {                    \
    __riscv_vlenb() < 32 ? multiply_panels<DType::type, Vlen128>(args)  \
                         : multiply_panels<DType::type, Vlen256>(args); \
  }
MATMUL(q8_0)
MATMUL(q4_0)
#undef MATMUL

}  // namespace binhdan::rvv
