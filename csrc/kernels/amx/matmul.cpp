// gemm: panels times bf16 activations on the tile unit. tiles.h has the instructions, panels.h the algebra of
// the decoded weights; the products are accumulated in float32 by TDPBF16PS.
//
// 32 weight rows and 16 rows of activations have two tiles of sums. 32 columns need two TDPBF16PS of 16
// cycles and three tile loads, of which the weights' are from L1. Weights are decoded once for all rows of
// activations, in pieces of 32 rows x kMaxSteps * 32 columns: a piece stays in L1 while all rows of
// activations use it, and the next piece is written. If the activations do not fit in L2, the columns are
// split as well: the pieces of several weight rows follow each other for the same columns. Sums are in
// scratch between the pieces of a row, so the order of additions is that of the columns, for every split.
//
// Four of the eight tile registers are enough. More would halve the loads of weights, but if another
// hyperthread works on the same core, the hardware has few physical registers for them: 2 x 2 tiles of sums
// with eight registers take 270 cycles for what takes 60 alone; with seven, 190; with these four 125, and 70
// alone.
//
// Ports 0 and 5 are mostly idle meanwhile, so the next piece is decoded between the tile instructions.
//
// Activations are in tiles (ActivationLayout). The last tile of a batch may have uninitialized rows: their
// sums are not copied to `out`.
#include <immintrin.h>

#include "kernels/amx/functions.h"
#include "kernels/amx/panels.h"
#include "kernels/amx/tiles.h"
#include "kernels/avx512/functions.h"
#include "kernels/avx512/zmm.h"

namespace binhdan::amx {
namespace {

constexpr int64_t kStepColumns = 32;
constexpr int64_t kBlockRows = 2 * kTileRows;   // of weights
constexpr int64_t kStepBytes = 2 * kTileBytes;  // of decoded weights
constexpr int64_t kMaxSteps = 10;
constexpr int64_t kMaxRows = 512;  // of activations
constexpr int64_t kMaxTiles = kMaxRows / kTileRows;
constexpr int64_t kGroupBlocks = 8;
constexpr int64_t kActivationBytes = 1 << 20;
constexpr int64_t kPrefetchAhead = 2048;  // bytes of panels

struct Scratch {
  std::byte weights[2][kMaxSteps * kStepBytes];
  float sums[kGroupBlocks][kMaxTiles][kTileRows][kBlockRows];
};

// Columns [begin, end) / 32 of 32 rows of weights.
struct Piece {
  int64_t row, begin, end;
};

// The pieces of a matrix, in the order group of rows, cut of columns, row.
class Pieces {
 public:
  Pieces(const MatmulArgs& args, int64_t group_blocks)
      : group_rows_(group_blocks * kBlockRows),
        row_end_(args.rows),
        steps_(args.cols / kStepColumns),
        cuts_((steps_ + kMaxSteps - 1) / kMaxSteps) {}

  Piece piece() const { return {row_, steps_ * cut_ / cuts_, steps_ * (cut_ + 1) / cuts_}; }
  bool first_cut() const { return cut_ == 0; }
  bool last_cut() const { return cut_ + 1 == cuts_; }
  int64_t block() const { return (row_ - group_) / kBlockRows; }  // index in its group
  bool done() const { return group_ >= row_end_; }
  Pieces next() const {
    Pieces next = *this;
    next.row_ += kBlockRows;
    if (next.row_ < group_ + group_rows_ && next.row_ < row_end_) return next;
    next.cut_ = last_cut() ? 0 : cut_ + 1;
    next.group_ += last_cut() ? group_rows_ : 0;
    next.row_ = next.group_;
    return next;
  }

 private:
  int64_t group_rows_, row_end_, steps_, cuts_;
  int64_t group_ = 0, cut_ = 0, row_ = 0;
};

// Decodes a piece tile by tile: weight rows 0 .. 15 and 16 .. 31 of 32 columns, then of the next 32 columns.
template <DType type>
class Decoder {
  using Panel = PanelOf<type>::Panel;

 public:
  Decoder(const MatmulArgs& args, const Pieces& at, std::byte* tiles) : tiles_(tiles) {
    if (at.done()) return;
    const Piece piece = at.piece();
    const int64_t panels = args.cols / kStepColumns / Panel::kBlocks;
    low_ = static_cast<const Panel*>(args.weights) + piece.row / kPanelRows * panels;
    high_ =
        piece.row + kPanelRows < args.rows ? low_ + panels : low_;  // beyond the last row: any valid panel
    first_step_ = piece.begin;
    count_ = 2 * (piece.end - piece.begin);
  }

  int64_t left() const { return count_ - next_; }

  // Loads the next block and returns its tile; after the end, the last block again.
  [[gnu::always_inline]] std::byte* load(TileBlock<type>& block) {
    const int64_t tile = next_ < count_ ? next_ : count_ - 1;
    next_ = tile + 1;
    const Panel* panels = tile % 2 == 0 ? low_ : high_;
    const int64_t step = first_step_ + tile / 2;
    block.load(panels[step / Panel::kBlocks], static_cast<int>(step % Panel::kBlocks));
    // Rows of panels follow each other in memory, so the prefetch continues in the next row.
    constexpr int64_t kBlockBytes = sizeof(Panel) / Panel::kBlocks;
    const char* ahead = reinterpret_cast<const char*>(panels) + step * kBlockBytes + kPrefetchAhead;
#pragma GCC unroll 16
    for (int64_t line = 0; line < kBlockBytes; line += kTileLine) _mm_prefetch(ahead + line, _MM_HINT_T0);
    return tiles_ + tile * kTileBytes;
  }

  void finish() {
    while (left() > 0) {
      TileBlock<type> block;
      std::byte* tile = load(block);
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) block.store_quarter(tile, q);
    }
  }

 private:
  const Panel *low_ = nullptr, *high_ = nullptr;
  std::byte* tiles_;
  int64_t first_step_ = 0, count_ = 0, next_ = 0;
};

// Accumulates the product of a tile row of activations with `steps` steps of weights. Calls between(0) and
// between(1) in each step.
template <class Between>
BINHDAN_INLINE void multiply(const std::byte* x, const std::byte* weights, int64_t steps, Between between) {
  for (; steps > 0; --steps, x += kTileBytes, weights += kStepBytes) {
    _tile_loadd(4, x, kTileLine);
    _tile_loadd(6, weights, kTileLine);
    _tile_dpbf16ps(0, 4, 6);
    between(0);
    _tile_loadd(6, weights + kTileBytes, kTileLine);
    _tile_dpbf16ps(1, 4, 6);
    between(1);
  }
}

// The same, and decodes a tile of another piece in every kSteps steps, 1 or 2.
template <int kSteps, DType type>
BINHDAN_INLINE void multiply_and_decode(const std::byte* x, const std::byte* weights, int64_t steps,
                                        Decoder<type>& decoder) {
  constexpr int kQuarters = 2 / kSteps;  // of a tile, after each product
  for (; steps >= kSteps; steps -= kSteps) {
    TileBlock<type> block;
    std::byte* tile = decoder.load(block);
#pragma GCC unroll 2
    for (int step = 0; step < kSteps; ++step, x += kTileBytes, weights += kStepBytes)
      multiply(x, weights, 1, [&](int q) __attribute__((always_inline)) {
#pragma GCC unroll 2
        for (int i = 0; i < kQuarters; ++i) block.store_quarter(tile, (2 * step + q) * kQuarters + i);
        compiler_memory_barrier();
      });
  }
  multiply(x, weights, steps, [](int) {});
}

// Rows [first, first + count) of the activations, `first` at the start of a tile.
struct Batch {
  int64_t first, count;

  int64_t tiles() const { return (count + kTileRows - 1) / kTileRows; }
  int64_t rows_of(int64_t tile) const {
    const int64_t rows = count - tile * kTileRows;
    return rows < kTileRows ? rows : kTileRows;
  }
};

// One tile of a batch times one piece of weights: loads the sums, calls product(x), which accumulates, and
// stores them.
template <class Product>
BINHDAN_INLINE void add_product(const MatmulArgs& args, const Batch& batch, int64_t tile, const Pieces& at,
                                Product product) {
  const Piece piece = at.piece();
  const int64_t row = batch.first + tile * kTileRows, rows = batch.rows_of(tile);
  const int64_t columns = args.rows - piece.row;
  auto& partial = static_cast<Scratch*>(args.scratch)->sums[at.block()][tile];
  float* out = args.out + row * args.out_stride + piece.row;
  if (at.first_cut()) {
    _tile_zero(0);
    _tile_zero(1);
  } else {
    _tile_loadd(0, partial[0], sizeof partial[0]);
    _tile_loadd(1, partial[0] + kTileRows, sizeof partial[0]);
  }
  product(static_cast<const std::byte*>(args.activations) +
          static_cast<size_t>(row / kTileRows) * args.activation_stride + piece.begin * kTileBytes);
  const bool direct = at.last_cut() && rows == kTileRows && columns >= kBlockRows;
  float* sums = direct ? out : partial[0];
  const size_t line = direct ? static_cast<size_t>(args.out_stride) * sizeof(float) : sizeof partial[0];
  _tile_stored(0, sums, line);
  _tile_stored(1, sums + kTileRows, line);
  if (direct || !at.last_cut()) return;
  const __mmask16 mask[2] = {lane_mask(columns), lane_mask(columns - kTileRows)};
  for (int64_t i = 0; i < rows; ++i)
    for (int half = 0; half < 2; ++half)
      _mm512_mask_storeu_ps(out + i * args.out_stride + half * kTileRows, mask[half],
                            _mm512_load_ps(partial[i] + half * kTileRows));
}

template <DType type>
BINHDAN_INLINE void multiply_batch(const MatmulArgs& args, const Batch& batch) {
  auto& scratch = *static_cast<Scratch*>(args.scratch);
  const bool cached = batch.count * args.cols * static_cast<int64_t>(sizeof(uint16_t)) <= kActivationBytes;
  const int64_t tiles = batch.tiles();
  int buffer = 0;
  Pieces at(args, cached ? 1 : kGroupBlocks);
  Decoder<type>(args, at, scratch.weights[0]).finish();
  for (; !at.done(); at = at.next()) {
    const std::byte* weights = scratch.weights[buffer];
    const int64_t steps = at.piece().end - at.piece().begin;
    buffer ^= 1;
    Decoder<type> next(args, at.next(), scratch.weights[buffer]);
    compiler_memory_barrier();
    for (int64_t tile = 0; tile < tiles; ++tile)
      add_product(args, batch, tile, at, [&](const std::byte* x) __attribute__((always_inline)) {
        if (next.left() == 0)
          multiply(x, weights, steps, [](int) {});
        else if (next.left() <= steps / 2 * (tiles - tile))
          multiply_and_decode<2>(x, weights, steps, next);
        else
          multiply_and_decode<1>(x, weights, steps, next);
      });
    next.finish();
  }
}

template <DType type>
BINHDAN_INLINE void multiply_all(const MatmulArgs& args) {
  configure_tiles(TileConfig(kTileRows));
  for (int64_t i = 0; i < args.m; i += kMaxRows)
    multiply_batch<type>(args, {i, args.m - i < kMaxRows ? args.m - i : kMaxRows});
  _tile_release();
}

}  // namespace

#define DEFINE(type)                                                         \
  template <>                                                                \
  void gemm<DType::type>(const MatmulArgs& args) {                           \
    multiply_all<DType::type>(args);                                         \
  }                                                                          \
  template <>                                                                \
  size_t scratch_size<DType::type>(int64_t rows, int64_t cols, int64_t m) {  \
    const size_t gemv[] = {avx512::scratch_size<DType::type>(rows, cols, m), \
                           gemv_scratch_size<DType::type>(cols)};            \
    const size_t bytes = gemv[0] > gemv[1] ? gemv[0] : gemv[1];              \
    return bytes > sizeof(Scratch) ? bytes : sizeof(Scratch);                \
  }
BINHDAN_PANEL_TYPES(DEFINE)
#undef DEFINE

}  // namespace binhdan::amx
