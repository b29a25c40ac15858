// Panels times q8 activations with vpdpbusd on 512 bits.
//
// Instructions (uops.info; Agner Fog's instruction tables for Zen 4):
//   vpdpbusd     32-bit lane += sum of four products of an unsigned and a signed byte, without saturation
//                Intel since Ice Lake: latency 5, 1 a cycle on p0, 2 with a second 512-bit unit (p05)
//                Zen 4: 1 a cycle (512-bit operations run as two halves)
//   vcvtdq2ps, vmulps, vfmadd231ps   Intel: latency 4, the same ports
//   vpbroadcastd from memory         a load, no vector port; a copy of a register needs one
//
// Algebra. For 32 columns of a weight row, with unsigned quants u (panels.h), zero point z, scale s, minimum
// m, and activations a with scale d_a:
//   dot = sum u a - z sum a              integer: the sum starts at -z sum a
//   acc = fma(float(dot), s d_a, acc)    for each scale (two if a scale has 16 columns)
//   acc = fma(m, d_a sum a, acc)         for each minimum
// in the order of the columns for every tile, so gemv and gemm are one class and equal the other tables'
// bits.
//
// Cost of 32 columns x 16 rows x 1 row of activations: 8 vpdpbusd, a conversion, a product and an FMA, so at
// most 8/11 of the peak of vpdpbusd. At least 10 sums must be independent to hide the latency.
//   gemv, up to kMaxGemvRows rows: each panel is decoded in registers (8 operations in Q8_0, 12 in Q4_0, up
//     to 40 in others) and multiplied by all rows at once. It is read once, with a prefetch that continues in
//     the next row of panels. One core reads a panel of Q4_0 from memory in 45 cycles, in which 4 rows can be
//     computed.
//   gemm, more rows: two rows of panels are decoded piece by piece to L1. Every row of activations is
//     multiplied with them in tiles of 2 x 6: 12 integer and 12 float sums, 2 weights, a broadcast and the
//     scales use all 32 registers. Meanwhile the next piece is prefetched. Between pieces the sums are in
//     `out`.
#include "kernels/avx512/functions.h"
#include "kernels/avx512/panels.h"
#include "kernels/avx512/zmm.h"

namespace binhdan::avx512 {
namespace {

constexpr size_t kPrefetchAhead = 4096;  // bytes; measured: 1024 is 15 % slower, 8192 is not faster
constexpr int kPiece = 16;    // blocks decoded at once: two rows of panels use 20 KiB of an L1 of 48
constexpr int kTileRows = 6;  // of activations
constexpr int64_t kBatchBytes = 1024 * 1024;  // of activations that stay in L2 (half of it) for all weights

// ---- activations --------------------------------------------------------------------------------------

// A block of activations in the form of the inner loop. The order in a tile is block by block, then row by
// row, so that one pointer addresses all rows.
template <int scales>
struct Operand {
  float d;
  int32_t start[scales];  // -kZeroPoint sum: the start of the integer sums
  float d_sum[scales];    // the factors of minimums
  int8_t qs[32];

  [[gnu::always_inline]] void set(const BlockQ8A& x, int zero_point) {
    d = x.d;
    if constexpr (scales == 1) {
      start[0] = -zero_point * (x.sum[0] + x.sum[1]);
      d_sum[0] = x.d_sum;
    } else {
      for (int part = 0; part < scales; ++part) {
        start[part] = -zero_point * x.sum[part];
        d_sum[part] = x.d * static_cast<float>(x.sum[part]);
      }
    }
    __builtin_memcpy(qs, x.qs, sizeof qs);
  }
};
template <DType type>
using OperandOf = Operand<BlockOf<type>::kScales>;

// Converts rows [begin, begin + count) into tiles of `tile` rows.
template <DType type>
BINHDAN_INLINE void prepare(OperandOf<type>* to, const MatmulArgs& args, int64_t begin, int64_t count,
                            int64_t tile) {
  const int64_t blocks = args.cols / 32;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = i / tile * tile, rows = count - first < tile ? count - first : tile;
    const auto* x = reinterpret_cast<const BlockQ8A*>(
        static_cast<const char*>(args.activations) + static_cast<size_t>(begin + i) * args.activation_stride);
    OperandOf<type>* operand = to + first * blocks + (i - first);
    for (int64_t b = 0; b < blocks; ++b) operand[b * rows].set(x[b], kZeroPoint<type>);
  }
}

// ---- the inner loop's body ----------------------------------------------------------------------------

BINHDAN_INLINE __m512i four_columns(const int8_t* qs) {
  int word;
  __builtin_memcpy(&word, qs, sizeof word);
  return _mm512_set1_epi32(word);
}

// Hides pointer identity to force a reload: a load from memory is cheaper here than a copy of a register.
template <class T>
BINHDAN_INLINE const T* opaque_reload(const T* p) {
  asm("" : "+r"(p));
  return p;
}

// sums[p][i] += block p times x[i]
template <int P, int M, class B>
BINHDAN_INLINE void add_block(__m512 (&sums)[P][M], const B* const (&block)[P],
                              const Operand<B::kScales>* x) {
#pragma GCC unroll 2
  for (int part = 0; part < B::kScales; ++part) {
    __m512i dot[P][M];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      const auto* from = p == 0 ? x : opaque_reload(x);
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) dot[p][i] = _mm512_set1_epi32(from[i].start[part]);
    }
    constexpr int kGroups = 8 / B::kScales;
#pragma GCC unroll 8
    for (int g = part * kGroups; g < (part + 1) * kGroups; ++g)
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i) {
        const __m512i a = four_columns(x[i].qs + 4 * g);
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) dot[p][i] = _mm512_dpbusd_epi32(dot[p][i], block[p]->q[g], a);
      }
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const __m512 d = _mm512_set1_ps(x[i].d);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
        sums[p][i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[p][i]), _mm512_mul_ps(block[p]->scale[part], d),
                                     sums[p][i]);
    }
  }
  if constexpr (B::kMins)
#pragma GCC unroll 2
    for (int part = 0; part < B::kScales; ++part)
#pragma GCC unroll 8
      for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
          sums[p][i] = _mm512_fmadd_ps(block[p]->min[part], _mm512_set1_ps(x[i].d_sum[part]), sums[p][i]);
}

// Calls f.operator()<m>() if 1 <= m <= max_rows.
template <int max_rows, class F>
BINHDAN_INLINE void with_rows(int64_t m, F f) {
  if (m == max_rows)
    f.template operator()<max_rows>();
  else if constexpr (max_rows > 1)
    with_rows<max_rows - 1>(m, f);
}

template <DType type>
BINHDAN_INLINE const typename PanelOf<type>::Panel* panels_of(const MatmulArgs& args, int64_t row) {
  using Panel = PanelOf<type>::Panel;
  return static_cast<const Panel*>(args.weights) + row / kPanelRows * (args.cols / (32 * Panel::kBlocks));
}

// ---- gemv: panels decoded in registers ----------------------------------------------------------------

// M rows of activations times a row of panels.
template <DType type, int M>
BINHDAN_INLINE void fused_tile(const MatmulArgs& args, int64_t row, const OperandOf<type>* x) {
  using Panel = PanelOf<type>::Panel;
  using B = BlockOf<type>;
  constexpr size_t kBlockBytes = sizeof(Panel) / Panel::kBlocks;
  __m512 sums[1][M];
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) sums[0][i] = _mm512_setzero_ps();
  const Panel* end = panels_of<type>(args, row + kPanelRows);
  for (const Panel* panel = panels_of<type>(args, row); panel < end; ++panel) {
    const char* ahead = reinterpret_cast<const char*>(panel) + kPrefetchAhead;
    const PanelScales panel_scales(*panel);
    for (int i = 0; i < Panel::kBlocks; ++i, x += M, ahead += kBlockBytes) {
      for (size_t line = 0; line < kBlockBytes; line += 64) _mm_prefetch(ahead + line, _MM_HINT_T0);
      B block;
      decode_block<type>(block, *panel, panel_scales, i);
      const B* const one[1] = {&block};
      add_block<1, M, B>(sums, one, x);
    }
  }
  const __mmask16 lanes = lane_mask(args.rows - row);
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) _mm512_mask_storeu_ps(args.out + i * args.out_stride + row, lanes, sums[0][i]);
}

template <DType type, int M>
void gemv(const MatmulArgs& args) {
  auto* x = static_cast<OperandOf<type>*>(args.scratch);
  prepare<type>(x, args, 0, M, M);
  for (int64_t row = 0; row < args.rows; row += kPanelRows) fused_tile<type, M>(args, row, x);
}

// ---- gemm: panels decoded to L1 -----------------------------------------------------------------------

template <DType type>
struct Scratch {
  BlockOf<type> decoded[2][kPiece];
  OperandOf<type> x[];  // batch_rows() of them
};

// Blocks [begin, begin + count) of the columns. [next, end) are the bytes of the next piece: each step of
// this piece prefetches some of their lines, and the lines at the same offset in the next row of panels.
struct Piece {
  static constexpr int kLines = 3;  // per step: two or three tiles prefetch all of Q4_0
  int64_t begin, count;
  const char *next, *end;
  int64_t row_bytes;

  template <int P>
  [[gnu::always_inline]] void prefetch() {
    if (next >= end) return;
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 3
      for (int line = 0; line < kLines; ++line) _mm_prefetch(next + p * row_bytes + line * 64, _MM_HINT_T0);
    next += kLines * 64;
  }
};

// Rows i0 .. i0 + M - 1 of activations, which begin at x, times the piece of P rows of panels.
template <int P, int M, class B>
BINHDAN_INLINE void decoded_tile(const MatmulArgs& args, int64_t row, int64_t i0, const B (*decoded)[kPiece],
                                 const Operand<B::kScales>* x, Piece& piece) {
  __m512 sums[P][M];
  __mmask16 lanes[P];
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
    lanes[p] = lane_mask(args.rows - row - p * kPanelRows);
    const float* out = args.out + i0 * args.out_stride + row + p * kPanelRows;
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i)
      sums[p][i] =
          piece.begin == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes[p], out + i * args.out_stride);
  }
  x += piece.begin * M;
  for (const B *at = decoded[0], *end = at + piece.count; at < end; ++at, x += M) {
    piece.prefetch<P>();
    const B* block[P];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) block[p] = at + p * kPiece;
    add_block<P, M, B>(sums, block, x);
  }
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
    float* out = args.out + i0 * args.out_stride + row + p * kPanelRows;
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) _mm512_mask_storeu_ps(out + i * args.out_stride, lanes[p], sums[p][i]);
  }
}

// Rows [i0, end) of activations times the piece. One instance for all types with the same layout of scales.
template <int P, class B>
void sweep(const MatmulArgs& args, int64_t row, int64_t i0, int64_t end, const B (*decoded)[kPiece],
           const Operand<B::kScales>* x, Piece piece) {
  for (; end - i0 >= kTileRows; i0 += kTileRows, x += kTileRows * (args.cols / 32))
    decoded_tile<P, kTileRows, B>(args, row, i0, decoded, x, piece);
  with_rows<kTileRows - 1>(end - i0, [&]<int M>() __attribute__((always_inline)) {
    decoded_tile<P, M, B>(args, row, i0, decoded, x, piece);
  });
}

template <DType type>
BINHDAN_INLINE void decode_piece(BlockOf<type>* to, const MatmulArgs& args, int64_t row, const Piece& piece) {
  using Panel = PanelOf<type>::Panel;
  const Panel* panel = panels_of<type>(args, row) + piece.begin / Panel::kBlocks;
  for (const BlockOf<type>* end = to + piece.count; to < end; ++panel) {
    const PanelScales panel_scales(*panel);
    for (int i = 0; i < Panel::kBlocks; ++i) decode_block<type>(*to++, *panel, panel_scales, i);
  }
}

// Rows [i0, end) of activations times P rows of panels.
template <DType type, int P>
BINHDAN_INLINE void rows_of_panels(const MatmulArgs& args, int64_t row, int64_t i0, int64_t end) {
  using Panel = PanelOf<type>::Panel;
  auto& scratch = *static_cast<Scratch<type>*>(args.scratch);
  const int64_t blocks = args.cols / 32;
  const auto bytes = [](int64_t n) { return n / Panel::kBlocks * int64_t{sizeof(Panel)}; };
  const char* panels = reinterpret_cast<const char*>(panels_of<type>(args, row));
  for (int64_t begin = 0; begin < blocks; begin += kPiece) {
    const int64_t count = blocks - begin < kPiece ? blocks - begin : kPiece;
    const char* next = panels + (begin + kPiece < blocks ? bytes(begin + kPiece) : P * bytes(blocks));
    const Piece piece{begin, count, next, next + bytes(kPiece), bytes(blocks)};
    for (int p = 0; p < P; ++p) decode_piece<type>(scratch.decoded[p], args, row + p * kPanelRows, piece);
    sweep<P, BlockOf<type>>(args, row, i0, end, scratch.decoded, scratch.x, piece);
  }
}

// Rows of activations that are converted at once.
template <DType type>
BINHDAN_INLINE int64_t batch_rows(int64_t cols, int64_t m) {
  const int64_t fit = kBatchBytes / (cols / 32 * int64_t{sizeof(OperandOf<type>)}) / kTileRows * kTileRows;
  const int64_t batch = fit < kTileRows ? kTileRows : fit;
  return m < batch ? m : batch;
}

template <DType type>
void gemm(const MatmulArgs& args) {
  auto& scratch = *static_cast<Scratch<type>*>(args.scratch);
  const int64_t batch = batch_rows<type>(args.cols, args.m);
  for (int64_t i0 = 0; i0 < args.m; i0 += batch) {
    const int64_t end = args.m - i0 < batch ? args.m : i0 + batch;
    prepare<type>(scratch.x, args, i0, end - i0, kTileRows);
    int64_t row = 0;
    for (; row + kPanelRows < args.rows; row += 2 * kPanelRows) rows_of_panels<type, 2>(args, row, i0, end);
    if (row < args.rows) rows_of_panels<type, 1>(args, row, i0, end);
  }
}

template <DType type>
BINHDAN_INLINE void multiply(const MatmulArgs& args) {
  if (args.m > kMaxGemvRows)
    gemm<type>(args);
  else
    with_rows<kMaxGemvRows>(args.m, [&]<int M>() __attribute__((always_inline)) { gemv<type, M>(args); });
}

template <DType type>
BINHDAN_INLINE size_t scratch_bytes(int64_t cols, int64_t m) {
  const int64_t gemv_rows = m < kMaxGemvRows ? m : kMaxGemvRows, batch = batch_rows<type>(cols, m);
  const int64_t rows = gemv_rows > batch ? gemv_rows : batch;
  return sizeof(Scratch<type>) + static_cast<size_t>(rows * (cols / 32)) * sizeof(OperandOf<type>);
}

}  // namespace

#define DEFINE(type)                                                   \
  template <>                                                          \
  void matmul<DType::type>(const MatmulArgs& args) {                   \
    multiply<DType::type>(args);                                       \
  }                                                                    \
  template <>                                                          \
  size_t scratch_size<DType::type>(int64_t, int64_t cols, int64_t m) { \
    return scratch_bytes<DType::type>(cols, m);                        \
  }
BINHDAN_PANEL_TYPES(DEFINE)
#undef DEFINE

}  // namespace binhdan::avx512
