// Panels times a few rows of int8 activations on the tile unit: avx512vnni's arithmetic and bits (see
// matmul_avx512vnni.cpp), for batches that its registers are too small for.
//
// A decoded block of a panel is a tile as it lies: row g holds columns 4 g .. 4 g + 3 of its 16 rows, as
// TDPBSSD wants them. So for 32 columns (or 16, where scales hold 16) of 16 weight rows and up to 16 rows of
// activations one instruction, a cycle for each of the latter, gives the integer sums. They pass through L1
// (a store and a load for each row) to be scaled: a conversion, a product and an FMA, 3 operations of ports 0
// and 5 where vpdpbusd needs 11. Codes are made signed first (8 operations a block, none in Q8_0).
//
// Neither can the tile unit read what was stored a moment ago, nor be read at once. So three blocks are under
// way: one is scaled while the tile unit has the one kDistance ahead and another one, as far, is decoded; and
// the sums are stored at the very end of a turn, because all that follows them waits for them to retire.
#include <immintrin.h>

#include "kernels/amx/functions.h"
#include "kernels/amx/tiles.h"
#include "kernels/avx512/functions.h"
#include "kernels/avx512/panels.h"
#include "kernels/avx512/zmm.h"

namespace binhdan::amx {
namespace {

using namespace avx512;

constexpr int64_t kLeastRows = 12;  // fewer are as fast on avx512vnni
constexpr int kDistance = 2, kSlots = 4 * kDistance;
constexpr size_t kPrefetchAhead = 4096;  // bytes of panels

// 32 columns of a batch's activations.
template <int scales>
struct Columns {
  alignas(64) int8_t qs[scales][kTileRows][32 / scales];
  float d[kTileRows];
  float d_sum[scales][kTileRows];
};

template <DType type>
struct Slot {
  __m512i codes[8];
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

// Rows beyond the batch's last are zeros.
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

// Walks the blocks of a part of a matrix, a row of panels after the other. At its end it stays where it is.
template <DType type>
class Walk {
  using Panel = PanelOf<type>::Panel;

 public:
  explicit Walk(const MatmulArgs& args)
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

// Signed codes, with nothing left to subtract.
template <DType type>
BINHDAN_INLINE __m512i make_signed(__m512i codes) {
  const __m512i zero = every(static_cast<uint8_t>(kZero<type>));
  if constexpr (kZero<type> == 128) return _mm512_xor_si512(codes, zero);
  if constexpr (kZero<type> != 0) return _mm512_sub_epi8(codes, zero);
  return codes;
}

template <DType type>
BINHDAN_INLINE void decode(Slot<type>& slot, const Walk<type>& at) {
  using Panel = PanelOf<type>::Panel;
  constexpr size_t kShare = sizeof(Panel) / Panel::kBlocks;
  if (at.done()) return;
  const Panel& panel = at.panel();
  const char* ahead = reinterpret_cast<const char*>(&panel) + at.in_panel() * kShare + kPrefetchAhead;
#pragma GCC unroll 16
  for (size_t line = 0; line < kShare; line += kTileLine) _mm_prefetch(ahead + line, _MM_HINT_T0);
  BlockOf<type> block;
  decode_block<type>(block, panel, PanelScales(panel), at.in_panel());
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) slot.codes[g] = make_signed<type>(block.q[g]);
#pragma GCC unroll 2
  for (int part = 0; part < BlockOf<type>::kScales; ++part) {
    slot.scale[part] = block.scale[part];
    if constexpr (BlockOf<type>::kMins) slot.min[part] = block.min[part];
  }
}

// The slot's sums, codes of activations times its codes, in tile registers; store_sums() brings them home.
template <DType type>
BINHDAN_INLINE void start_sums(Slot<type>& slot, const Columns<BlockOf<type>::kScales>& x) {
  constexpr int kScales = BlockOf<type>::kScales;
  stores_end_here();
  _tile_loadd(6, slot.codes, kTileLine);
  _tile_loadd(4, x.qs[0], 32 / kScales);
  _tile_zero(0);
  _tile_dpbssd(0, 4, 6);
  if constexpr (kScales == 2) {
    _tile_loadd(6, slot.codes + 4, kTileLine);
    _tile_loadd(4, x.qs[1], 32 / kScales);
    _tile_zero(1);
    _tile_dpbssd(1, 4, 6);
  }
}

template <DType type>
BINHDAN_INLINE void store_sums(Slot<type>& slot) {
  _tile_stored(0, slot.sums[0], kTileLine);
  if constexpr (BlockOf<type>::kScales == 2) _tile_stored(1, slot.sums[1], kTileLine);
  stores_end_here();
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
void few_rows(const MatmulArgs& args) {
  auto& scratch = *static_cast<Scratch<type>*>(args.scratch);
  prepare(scratch.x, args);
  configure_tiles(TileConfig(kTileRows, 32 / BlockOf<type>::kScales));
  const auto slot = [&](int64_t i) -> Slot<type>& { return scratch.slots[i % kSlots]; };
  Walk<type> decoded(args), multiplied(args), added(args);
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
    stores_end_here();
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
BINHDAN_INLINE void multiply_few(const MatmulArgs& args) {
  MatmulArgs batch = args;
  for (int64_t first = 0; first < args.m; first += kTileRows) {
    batch.m = args.m - first < kTileRows ? args.m - first : kTileRows;
    batch.activations = activation_row(args, first);
    batch.out = args.out + first * args.out_stride;
    if (batch.m < kLeastRows)
      avx512::matmul<type>(batch);
    else
      few_rows<type>(batch);
  }
}

}  // namespace

#define DEFINE(type)                                                                        \
  template <>                                                                               \
  void gemv<DType::type>(const MatmulArgs& args) {                                          \
    multiply_few<DType::type>(args);                                                        \
  }                                                                                         \
  template <>                                                                               \
  size_t gemv_scratch_size<DType::type>(int64_t cols) {                                     \
    return sizeof(Scratch<DType::type>) +                                                   \
           static_cast<size_t>(cols / 32) * sizeof(Columns<BlockOf<DType::type>::kScales>); \
  }
BINHDAN_PANEL_TYPES(DEFINE)
#undef DEFINE

}  // namespace binhdan::amx
