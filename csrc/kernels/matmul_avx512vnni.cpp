// Panels times int8 activations with vpdpbusd: 16 rows of weights x 4 columns, added to 32-bit lanes.
#include "kernels/avx512vnni.h"
#include "kernels/panels_avx512.h"

namespace binhdan::avx512vnni {
namespace {

using namespace avx512;

#ifndef PREFETCH
#define PREFETCH 4096
#endif
constexpr size_t kPrefetchAhead = PREFETCH;

// What the products need of a block of activations beside BlockQ8A.
template <class B>
struct Extras {
  int32_t start[B::kScales];  // -kZero * sum: where the integer sums begin
};
template <>
struct Extras<Block<1, true>> {};
template <>
struct Extras<Block<2, true>> {
  float d_sum[2];
};

BINHDAN_INLINE const BlockQ8A* activation_row(const MatmulArgs& args, int64_t i) {
  return reinterpret_cast<const BlockQ8A*>(static_cast<const char*>(args.activations) +
                                           static_cast<size_t>(i) * args.activation_stride);
}

template <class B>
BINHDAN_INLINE void prepare(Extras<B>* extras, const BlockQ8A* x, int64_t blocks, int zero) {
  for (int64_t b = 0; b < blocks; ++b) {
    if constexpr (!B::kMins) {
      if constexpr (B::kScales == 1)
        extras[b].start[0] = -zero * (x[b].sum[0] + x[b].sum[1]);
      else
        for (int i = 0; i < 2; ++i) extras[b].start[i] = -zero * x[b].sum[i];
    } else if constexpr (B::kScales == 2) {
      for (int i = 0; i < 2; ++i) extras[b].d_sum[i] = x[b].d * static_cast<float>(x[b].sum[i]);
    }
  }
}

BINHDAN_INLINE __m512i four_columns(const int8_t* qs) {
  int word;
  __builtin_memcpy(&word, qs, sizeof word);
  return _mm512_set1_epi32(word);
}

// sums[p][i] += block p times block `at` of row i of the activations
template <int P, int M, class B>
BINHDAN_INLINE void add_block(__m512 (&sums)[P][M], const B* const (&block)[P], const BlockQ8A* const (&x)[M],
                              const Extras<B>* const (&extras)[M], int64_t at) {
#pragma GCC unroll 2
  for (int part = 0; part < B::kScales; ++part) {
    __m512i dot[P][M];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        if constexpr (B::kMins)
          dot[p][i] = _mm512_setzero_si512();
        else
          dot[p][i] = _mm512_set1_epi32(extras[i][at].start[part]);
      }
    constexpr int kGroups = 8 / B::kScales;
#pragma GCC unroll 8
    for (int g = part * kGroups; g < (part + 1) * kGroups; ++g)
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i) {
        const __m512i a = four_columns(x[i][at].qs + 4 * g);
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) dot[p][i] = _mm512_dpbusd_epi32(dot[p][i], block[p]->q[g], a);
      }
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
        sums[p][i] =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[p][i]),
                            _mm512_mul_ps(block[p]->scale[part], _mm512_set1_ps(x[i][at].d)), sums[p][i]);
  }
  if constexpr (B::kMins)
#pragma GCC unroll 2
    for (int part = 0; part < B::kScales; ++part)
#pragma GCC unroll 16
      for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          float d_sum;
          if constexpr (B::kScales == 1)
            d_sum = x[i][at].d_sum;
          else
            d_sum = extras[i][at].d_sum[part];
          sums[p][i] = _mm512_fmadd_ps(block[p]->min[part], _mm512_set1_ps(d_sum), sums[p][i]);
        }
}

BINHDAN_INLINE __mmask16 first_lanes(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : (1 << n) - 1);
}

// ---- few rows: panels are decoded in registers -------------------------------------------------------------

// M rows of activations times one row of panels.
template <DType type, int M, bool from_memory>
BINHDAN_INLINE void fused_tile(const MatmulArgs& args, int64_t row, int64_t i0,
                               const Extras<BlockOf<type>>* prepared) {
  using Panel = PanelOf<type>::Panel;
  using B = BlockOf<type>;
  const int64_t blocks = args.cols / 32, panels = blocks / Panel::kBlocks;
  const auto* panel = static_cast<const Panel*>(args.weights) + row / kPanelRows * panels;
  const BlockQ8A* x[M];
  const Extras<B>* extras[M];
  __m512 sums[1][M];
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
    x[i] = activation_row(args, i0 + i);
    extras[i] = prepared + (i0 + i) * blocks;
    sums[0][i] = _mm512_setzero_ps();
  }
  for (int64_t at = 0; at < blocks; ++panel) {
    if constexpr (from_memory) {
      const char* ahead = reinterpret_cast<const char*>(panel) + kPrefetchAhead;
      for (size_t line = 0; line < sizeof *panel; line += 64) _mm_prefetch(ahead + line, _MM_HINT_T0);
    }
    const PanelScales of(*panel);
    for (int i = 0; i < Panel::kBlocks; ++i, ++at) {
      B block;
      decode_block<type>(block, *panel, of, i);
      const B* const one[1] = {&block};
      add_block<1, M, B>(sums, one, x, extras, at);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
    _mm512_mask_storeu_ps(args.out + (i0 + i) * args.out_stride + row, first_lanes(args.row_end - row),
                          sums[0][i]);
}

// ---- many rows: panels are decoded once --------------------------------------------------------------------

constexpr int kPiece = 16;    // blocks decoded at once: two panels of them fill 20 of the 48 KiB of L1
constexpr int kTileRows = 6;  // of activations

template <int P, int M, class B>
BINHDAN_INLINE void decoded_tile(const MatmulArgs& args, int64_t row, int64_t i0, const B (*decoded)[kPiece],
                                 const Extras<B>* prepared, int64_t begin, int64_t n) {
  const int64_t blocks = args.cols / 32;
  const BlockQ8A* x[M];
  const Extras<B>* extras[M];
  __m512 sums[P][M];
  __mmask16 lanes[P];
  for (int p = 0; p < P; ++p) lanes[p] = first_lanes(args.row_end - row - p * kPanelRows);
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i) {
    x[i] = activation_row(args, i0 + i) + begin;
    extras[i] = prepared + i * blocks + begin;
    for (int p = 0; p < P; ++p)
      sums[p][i] = begin == 0 ? _mm512_setzero_ps()
                              : _mm512_maskz_loadu_ps(
                                    lanes[p], args.out + (i0 + i) * args.out_stride + row + p * kPanelRows);
  }
  for (int64_t at = 0; at < n; ++at) {
    const B* block[P];
    for (int p = 0; p < P; ++p) block[p] = decoded[p] + at;
    add_block<P, M, B>(sums, block, x, extras, at);
  }
#pragma GCC unroll 16
  for (int i = 0; i < M; ++i)
    for (int p = 0; p < P; ++p)
      _mm512_mask_storeu_ps(args.out + (i0 + i) * args.out_stride + row + p * kPanelRows, lanes[p],
                            sums[p][i]);
}

template <int P, class B>
static void sweep(const MatmulArgs& args, int64_t row, int64_t i0, int64_t count, const B (*decoded)[kPiece],
                  const Extras<B>* prepared, int64_t begin, int64_t n) {
  const int64_t blocks = args.cols / 32;
  int64_t i = 0;
  for (; i + kTileRows <= count; i += kTileRows)
    decoded_tile<P, kTileRows, B>(args, row, i0 + i, decoded, prepared + i * blocks, begin, n);
  switch (count - i) {
    case 1:
      decoded_tile<P, 1, B>(args, row, i0 + i, decoded, prepared + i * blocks, begin, n);
      break;
    case 2:
      decoded_tile<P, 2, B>(args, row, i0 + i, decoded, prepared + i * blocks, begin, n);
      break;
    case 3:
      decoded_tile<P, 3, B>(args, row, i0 + i, decoded, prepared + i * blocks, begin, n);
      break;
    case 4:
      decoded_tile<P, 4, B>(args, row, i0 + i, decoded, prepared + i * blocks, begin, n);
      break;
    case 5:
      decoded_tile<P, 5, B>(args, row, i0 + i, decoded, prepared + i * blocks, begin, n);
      break;
  }
}

template <DType type, int P>
BINHDAN_INLINE void decode_piece(BlockOf<type> (*decoded)[kPiece], const MatmulArgs& args, int64_t row,
                                 int64_t begin, int64_t n) {
  using Panel = PanelOf<type>::Panel;
  const int64_t panels = args.cols / 32 / Panel::kBlocks;
  for (int p = 0; p < P; ++p) {
    const auto* panel =
        static_cast<const Panel*>(args.weights) + (row / kPanelRows + p) * panels + begin / Panel::kBlocks;
    for (int64_t at = 0; at < n; ++panel) {
      const PanelScales of(*panel);
      for (int i = 0; i < Panel::kBlocks; ++i, ++at) decode_block<type>(decoded[p][at], *panel, of, i);
    }
  }
}

template <DType type>
struct Scratch {
  BlockOf<type> decoded[2][kPiece];
  Extras<BlockOf<type>> prepared[];
};

template <DType type, int P>
BINHDAN_INLINE void rows_of_panels(const MatmulArgs& args, int64_t row, int64_t i0, int64_t count) {
  auto* decoded = static_cast<BlockOf<type>(*)[kPiece]>(args.scratch);
  const auto* prepared = reinterpret_cast<const Extras<BlockOf<type>>*>(decoded + 2);
  const int64_t blocks = args.cols / 32;
  for (int64_t begin = 0; begin < blocks; begin += kPiece) {
    const int64_t n = blocks - begin < kPiece ? blocks - begin : kPiece;
    decode_piece<type, P>(decoded, args, row, begin, n);
    sweep<P, BlockOf<type>>(args, row, i0, count, decoded, prepared, begin, n);
  }
}

constexpr size_t kBatchBytes = 1 << 20;

template <DType type>
BINHDAN_INLINE void many_rows(const MatmulArgs& args) {
  using B = BlockOf<type>;
  auto* prepared = reinterpret_cast<Extras<B>*>(static_cast<char*>(args.scratch) + sizeof(B[2][kPiece]));
  const int64_t blocks = args.cols / 32;
  int64_t batch = static_cast<int64_t>(kBatchBytes / args.activation_stride) / kTileRows * kTileRows;
  if (batch < kTileRows) batch = kTileRows;
  for (int64_t i0 = 0; i0 < args.m; i0 += batch) {
    const int64_t count = args.m - i0 < batch ? args.m - i0 : batch;
    for (int64_t i = 0; i < count; ++i)
      prepare<B>(prepared + i * blocks, activation_row(args, i0 + i), blocks, kZero<type>);
    int64_t row = args.row_begin;
    for (; row + kPanelRows < args.row_end; row += 2 * kPanelRows)
      rows_of_panels<type, 2>(args, row, i0, count);
    if (row < args.row_end) rows_of_panels<type, 1>(args, row, i0, count);
  }
}

template <DType type>
BINHDAN_INLINE void few_rows(const MatmulArgs& args) {
  using B = BlockOf<type>;
  auto* prepared = static_cast<Extras<B>*>(args.scratch);
  const int64_t blocks = args.cols / 32;
  for (int64_t i = 0; i < args.m; ++i)
    prepare<B>(prepared + i * blocks, activation_row(args, i), blocks, kZero<type>);
  for (int64_t row = args.row_begin; row < args.row_end; row += kPanelRows) {
    int64_t i = 0;
    for (; i + 8 <= args.m; i += 8) fused_tile<type, 8, true>(args, row, i, prepared);
    switch (args.m - i) {
      case 1:
        fused_tile<type, 1, true>(args, row, i, prepared);
        break;
      case 2:
        fused_tile<type, 2, true>(args, row, i, prepared);
        break;
      case 3:
        fused_tile<type, 3, true>(args, row, i, prepared);
        break;
      case 4:
        fused_tile<type, 4, true>(args, row, i, prepared);
        break;
      case 5:
        fused_tile<type, 5, true>(args, row, i, prepared);
        break;
      case 6:
        fused_tile<type, 6, true>(args, row, i, prepared);
        break;
      case 7:
        fused_tile<type, 7, true>(args, row, i, prepared);
        break;
    }
  }
}

}  // namespace

#define DEFINE(type)                                                                           \
  template <>                                                                                  \
  void gemv<DType::type>(const MatmulArgs& args) {                                             \
    few_rows<DType::type>(args);                                                               \
  }                                                                                            \
  template <>                                                                                  \
  void gemm<DType::type>(const MatmulArgs& args) {                                             \
    many_rows<DType::type>(args);                                                              \
  }                                                                                            \
  template <>                                                                                  \
  size_t scratch_size<DType::type>(int64_t, int64_t cols, int64_t m) {                         \
    return sizeof(BlockOf<DType::type>[2][kPiece]) + static_cast<size_t>(m * (cols / 32)) * 8; \
  }
#ifdef ONLY
ONLY
#else
BINHDAN_PANEL_TYPES(DEFINE)
#endif

}  // namespace binhdan::avx512vnni
