// gemv: panels times q8 activations on the tile unit, for batches of kMinTileRows rows and more. Fewer rows
// use avx512::matmul, and the arithmetic and bits are the same (avx512/matmul.cpp has the algebra).
//
// Instructions: tiles.h; TDPBSSD adds to 32-bit sums the products of four pairs of signed bytes, one row of
// activations a cycle.
//
// A decoded block of a panel has the layout of a tile: row g holds columns 4 g .. 4 g + 3 of its 16 rows. So
// for 32 columns (or 16, if a scale has 16) of 16 weight rows and up to 16 rows of activations, one TDPBSSD
// computes the integer sums. They are stored to L1 and loaded again (one store and one load per row) to be
// scaled: a conversion, a product and an FMA, 3 operations of ports 0 and 5 where vpdpbusd needs 11. The zero
// point is subtracted from the quants first (8 operations a block; none in Q8_0: two sign flips cancel).
//
// The tile unit has a long latency both for what was just stored and for its own results. So three blocks are
// in progress: one is scaled, the tile unit multiplies the block kDistance ahead, and the block 2 kDistance
// ahead is decoded. The sums are stored at the end of an iteration, because all later instructions wait for
// them to retire.
#include <immintrin.h>

#include "kernels/amx/functions.h"
#include "kernels/amx/tiles.h"
#include "kernels/avx512/functions.h"
#include "kernels/avx512/panels.h"
#include "kernels/avx512/zmm.h"

namespace binhdan::amx {
namespace {

using namespace avx512;

constexpr int64_t kMinTileRows = 12;  // avx512::matmul is as fast with fewer
constexpr int kDistance = 2, kSlots = 4 * kDistance;
constexpr size_t kPrefetchAhead = 4096;  // bytes of panels

// 32 columns of the activations of a batch.
template <int scales>
struct Columns {
  alignas(64) int8_t qs[scales][kTileRows][32 / scales];
  float d[kTileRows];
  float d_sum[scales][kTileRows];
};

template <DType type>
struct Slot {
  __m512i quants[8];
  __m512 scale[BlockOf<type>::kScales], min[BlockOf<type>::kScales];
  int32_t sums[BlockOf<type>::kScales][kTileRows][kTileRows];
};

template <DType type>
struct Scratch {
  Slot<type> slots[kSlots];
  Columns<BlockOf<type>::kScales> x[];
};

BINHDAN_INLINE const BlockQ8A* activation_row(const MatmulArgs& args, int64_t i) {
  return reinterpret_cast<const BlockQ8A*>(static_cast<const char*>(args.activations) +
                                           static_cast<size_t>(i) * args.activation_stride);
}

// Rows beyond the last row of the batch are zeros.
template <int scales>
BINHDAN_INLINE void prepare(Columns<scales>* to, const MatmulArgs& args) {
  constexpr int kColumns = 32 / scales;
  __builtin_memset(to, 0, static_cast<size_t>(args.cols / 32) * sizeof *to);
  for (int64_t i = 0; i < args.m; ++i) {
    const BlockQ8A* x = activation_row(args, i);
    for (int64_t b = 0; b < args.cols / 32; ++b) {
      to[b].d[i] = x[b].d;
      for (int part = 0; part < scales; ++part) {
        __builtin_memcpy(to[b].qs[part][i], x[b].qs + part * kColumns, kColumns);
        to[b].d_sum[part][i] = scales == 1 ? x[b].d_sum : x[b].d * static_cast<float>(x[b].sum[part]);
      }
    }
  }
}

// The blocks of a matrix in order, one row of panels after the other. advance() does nothing at the end.
template <DType type>
class BlockCursor {
  using Panel = PanelOf<type>::Panel;

 public:
  explicit BlockCursor(const MatmulArgs& args)
      : blocks_(args.cols / 32), panel_(static_cast<const Panel*>(args.weights)), row_end_(args.rows) {}

  int64_t row() const { return row_; }
  int64_t block() const { return block_; }
  bool starts_row() const { return block_ == 0; }
  bool ends_row() const { return block_ + 1 == blocks_; }
  bool done() const { return row_ >= row_end_; }
  int in_panel() const { return in_panel_; }
  const Panel& panel() const { return *panel_; }
  void advance() {
    if (done()) return;
    if (++in_panel_ == Panel::kBlocks) {
      in_panel_ = 0;
      ++panel_;
    }
    if (++block_ == blocks_) {
      block_ = 0;
      row_ += kPanelRows;
    }
  }

 private:
  int64_t blocks_;
  const Panel* panel_;
  int64_t row_end_, row_ = 0, block_ = 0;
  int in_panel_ = 0;
};

// Subtracts the zero point.
template <DType type>
BINHDAN_INLINE __m512i subtract_zero_point(__m512i quants) {
  const __m512i zero = repeat_byte(static_cast<uint8_t>(kZeroPoint<type>));
  if constexpr (kZeroPoint<type> == 128) return _mm512_xor_si512(quants, zero);
  if constexpr (kZeroPoint<type> != 0) return _mm512_sub_epi8(quants, zero);
  return quants;
}

template <DType type>
BINHDAN_INLINE void decode(Slot<type>& slot, const BlockCursor<type>& at) {
  using Panel = PanelOf<type>::Panel;
  constexpr size_t kBlockBytes = sizeof(Panel) / Panel::kBlocks;
  if (at.done()) return;
  const Panel& panel = at.panel();
  const char* ahead = reinterpret_cast<const char*>(&panel) + at.in_panel() * kBlockBytes + kPrefetchAhead;
#pragma GCC unroll 16
  for (size_t line = 0; line < kBlockBytes; line += kTileLine) _mm_prefetch(ahead + line, _MM_HINT_T0);
  BlockOf<type> block;
  decode_block<type>(block, panel, PanelScales(panel), at.in_panel());
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) slot.quants[g] = subtract_zero_point<type>(block.q[g]);
#pragma GCC unroll 2
  for (int part = 0; part < BlockOf<type>::kScales; ++part) {
    slot.scale[part] = block.scale[part];
    if constexpr (BlockOf<type>::kMins) slot.min[part] = block.min[part];
  }
}

// Computes the sums of a slot in tile registers; store_sums() stores them to the slot.
template <DType type>
BINHDAN_INLINE void start_sums(Slot<type>& slot, const Columns<BlockOf<type>::kScales>& x) {
  constexpr int kScales = BlockOf<type>::kScales;
  compiler_memory_barrier();
  _tile_loadd(6, slot.quants, kTileLine);
  _tile_loadd(4, x.qs[0], 32 / kScales);
  _tile_zero(0);
  _tile_dpbssd(0, 4, 6);
  if constexpr (kScales == 2) {
    _tile_loadd(6, slot.quants + 4, kTileLine);
    _tile_loadd(4, x.qs[1], 32 / kScales);
    _tile_zero(1);
    _tile_dpbssd(1, 4, 6);
  }
}

template <DType type>
BINHDAN_INLINE void store_sums(Slot<type>& slot) {
  _tile_stored(0, slot.sums[0], kTileLine);
  if constexpr (BlockOf<type>::kScales == 2) _tile_stored(1, slot.sums[1], kTileLine);
  compiler_memory_barrier();
}

// Rows `begin` to `end` - 1.
template <int begin, int end, DType type>
BINHDAN_INLINE void add_scaled(__m512 (&acc)[kTileRows], const Slot<type>& slot,
                               const Columns<BlockOf<type>::kScales>& x) {
  constexpr int kScales = BlockOf<type>::kScales;
#pragma GCC unroll 2
  for (int part = 0; part < kScales; ++part)
#pragma GCC unroll 16
    for (int i = begin; i < end; ++i) {
      const __m512 dot = _mm512_cvtepi32_ps(_mm512_load_si512(slot.sums[part][i]));
      acc[i] = _mm512_fmadd_ps(dot, _mm512_mul_ps(slot.scale[part], _mm512_set1_ps(x.d[i])), acc[i]);
    }
  if constexpr (BlockOf<type>::kMins)
#pragma GCC unroll 2
    for (int part = 0; part < kScales; ++part)
#pragma GCC unroll 16
      for (int i = begin; i < end; ++i)
        acc[i] = _mm512_fmadd_ps(slot.min[part], _mm512_set1_ps(x.d_sum[part][i]), acc[i]);
}

// At most 16 rows of activations.
template <DType type>
void gemv_tiles(const MatmulArgs& args) {
  auto& scratch = *static_cast<Scratch<type>*>(args.scratch);
  prepare(scratch.x, args);
  configure_tiles(TileConfig(kTileRows, 32 / BlockOf<type>::kScales));
  const auto slot = [&](int64_t i) -> Slot<type>& { return scratch.slots[i % kSlots]; };
  BlockCursor<type> decoded(args), multiplied(args), added(args);
  for (int64_t i = 0; i < 2 * kDistance; ++i) {
    if (i >= kDistance && !multiplied.done()) {
      start_sums<type>(slot(i - kDistance), scratch.x[multiplied.block()]);
      store_sums<type>(slot(i - kDistance));
      multiplied.advance();
    }
    decode<type>(slot(i), decoded);
    decoded.advance();
  }
  __m512 acc[kTileRows];
  for (int64_t i = 0; !added.done(); ++i) {
    if (added.starts_row())
#pragma GCC unroll 16
      for (int row = 0; row < kTileRows; ++row) acc[row] = _mm512_setzero_ps();
    const auto& x = scratch.x[added.block()];
    const bool more = !multiplied.done();
    if (more) start_sums<type>(slot(i + kDistance), scratch.x[multiplied.block()]);
    add_scaled<0, kTileRows / 2, type>(acc, slot(i), x);
    decode<type>(slot(i + 2 * kDistance), decoded);
    compiler_memory_barrier();
    add_scaled<kTileRows / 2, kTileRows, type>(acc, slot(i), x);
    if (more) store_sums<type>(slot(i + kDistance));
    multiplied.advance();
    decoded.advance();
    if (added.ends_row()) {
      const __mmask16 lanes = lane_mask(args.rows - added.row());
#pragma GCC unroll 16
      for (int row = 0; row < kTileRows; ++row)
        if (row < args.m)
          _mm512_mask_storeu_ps(args.out + row * args.out_stride + added.row(), lanes, acc[row]);
    }
    added.advance();
  }
  _tile_release();
}

template <DType type>
BINHDAN_INLINE void gemv_rows(const MatmulArgs& args) {
  MatmulArgs batch = args;
  for (int64_t first = 0; first < args.m; first += kTileRows) {
    batch.m = args.m - first < kTileRows ? args.m - first : kTileRows;
    batch.activations = activation_row(args, first);
    batch.out = args.out + first * args.out_stride;
    if (batch.m < kMinTileRows)
      avx512::matmul<type>(batch);
    else
      gemv_tiles<type>(batch);
  }
}

}  // namespace

#define DEFINE(type)                                                                        \
  template <>                                                                               \
  void gemv<DType::type>(const MatmulArgs& args) {                                          \
    gemv_rows<DType::type>(args);                                                           \
  }                                                                                         \
  template <>                                                                               \
  size_t gemv_scratch_size<DType::type>(int64_t cols) {                                     \
    return sizeof(Scratch<DType::type>) +                                                   \
           static_cast<size_t>(cols / 32) * sizeof(Columns<BlockOf<DType::type>::kScales>); \
  }
BINHDAN_PANEL_TYPES(DEFINE)
#undef DEFINE

}  // namespace binhdan::amx
