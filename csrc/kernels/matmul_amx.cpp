// Panels times bf16 activations on the tile unit.
//
// 32 weight rows and 32 rows of activations meet in 2 x 2 tiles of sums: for 32 columns, four TDPBF16PS of 16
// cycles and four tile loads of 8 (from L1). Weights are decoded once for all rows of activations, a piece of
// up to kMaxSteps * 32 columns at a time, so that a piece and the next one stay in L2 (128 KiB) together with
// the activations that all pieces sweep over (kActivationBytes: longer batches are cut, and decode again).
// Both operands then stream from L2, at about 90 cycles for those 64; touching lines ahead costs more than it
// saves. Sums wait in the scratch between the pieces of a row: the order of additions is that of the columns,
// whatever the cuts.
//
// Ports 0 and 5 have little to do meanwhile, so the next piece is decoded between the tile instructions: a
// tile of weights takes 74 cycles alone and 76 together with those of a step, when all lies in L1.
//
// Registers hold as many rows as make the batch come out even (40 rows: four times 10); where they do not,
// the last ones overlap, and rows are computed twice with the same result.
#include <immintrin.h>

#include "kernels/amx.h"
#include "kernels/avx512vnni.h"
#include "kernels/panels_amx.h"
#include "kernels/zmm.h"

namespace binhdan::amx {
namespace {

constexpr int64_t kStepColumns = 32;
constexpr int64_t kBlockRows = 2 * kTileRows;   // of weights, and the most of activations
constexpr int64_t kStepBytes = 2 * kTileBytes;  // of decoded weights
constexpr int64_t kMaxSteps = 32;
constexpr int64_t kActivationBytes = 5 << 18;
constexpr int64_t kMaxRows = 512;
constexpr int64_t kPrefetchAhead = 2048;  // bytes of panels

struct Scratch {
  std::byte weights[2][kMaxSteps * kStepBytes];
  float sums[kMaxRows / kBlockRows][2][kTileRows][kBlockRows];
};

// Columns [begin, end) / 32 of 32 rows of weights.
struct Piece {
  int64_t row, begin, end;
};

// The pieces of a part of a matrix, a row of them after the other, cut alike.
class Pieces {
 public:
  explicit Pieces(const MatmulArgs& args)
      : row_(args.row_begin),
        row_end_(args.row_end),
        steps_(args.cols / kStepColumns),
        parts_((steps_ + kMaxSteps - 1) / kMaxSteps) {}

  Piece piece() const { return {row_, steps_ * part_ / parts_, steps_ * (part_ + 1) / parts_}; }
  bool starts_row() const { return part_ == 0; }
  bool ends_row() const { return part_ + 1 == parts_; }
  bool done() const { return row_ >= row_end_; }
  Pieces next() const {
    Pieces next = *this;
    next.part_ = ends_row() ? 0 : part_ + 1;
    next.row_ += ends_row() ? kBlockRows : 0;
    return next;
  }

 private:
  int64_t row_, row_end_, steps_, parts_, part_ = 0;
};

// Decodes a piece, tile after tile: weight rows 0 .. 15 and 16 .. 31 of the first 32 columns, then of the
// next.
template <DType type>
class Decoder {
  using Panel = PanelOf<type>::Panel;

 public:
  Decoder(const MatmulArgs& args, const Pieces& at, std::byte* tiles) : tiles_(tiles) {
    if (at.done()) return;
    const Piece piece = at.piece();
    const int64_t panels = args.cols / kStepColumns / Panel::kBlocks;
    low_ = static_cast<const Panel*>(args.weights) + piece.row / kPanelRows * panels;
    high_ = piece.row + kPanelRows < args.row_end ? low_ + panels : low_;  // beyond the end any will do
    first_step_ = piece.begin;
    count_ = 2 * (piece.end - piece.begin);
  }

  int64_t left() const { return count_ - next_; }

  // The next block and where its tile is; the last one again when none is left.
  [[gnu::always_inline]] std::byte* load(TileBlock<type>& block) {
    const int64_t tile = next_ < count_ ? next_ : count_ - 1;
    next_ = tile + 1;
    const Panel* panels = tile % 2 == 0 ? low_ : high_;
    const int64_t step = first_step_ + tile / 2;
    block.load(panels[step / Panel::kBlocks], static_cast<int>(step % Panel::kBlocks));
    // Ahead by whole blocks: the rows of panels follow each other.
    constexpr int64_t kShare = sizeof(Panel) / Panel::kBlocks;
    const char* ahead = reinterpret_cast<const char*>(panels) + step * kShare + kPrefetchAhead;
#pragma GCC unroll 16
    for (int64_t line = 0; line < kShare; line += kTileLine) _mm_prefetch(ahead + line, _MM_HINT_T0);
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

// Two tiles: of activations, at their first columns, or of sums, at those of the low weight rows.
template <class T>
struct Pair {
  T *low, *high;
  int64_t stride;  // bytes
};

BINHDAN_INLINE void load_sums(const Pair<float>& sums) {
  _tile_loadd(0, sums.low, sums.stride);
  _tile_loadd(1, sums.low + kTileRows, sums.stride);
  _tile_loadd(2, sums.high, sums.stride);
  _tile_loadd(3, sums.high + kTileRows, sums.stride);
}

BINHDAN_INLINE void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

BINHDAN_INLINE void store_sums(const Pair<float>& sums) {
  _tile_stored(0, sums.low, sums.stride);
  _tile_stored(1, sums.low + kTileRows, sums.stride);
  _tile_stored(2, sums.high, sums.stride);
  _tile_stored(3, sums.high + kTileRows, sums.stride);
}

// Adds the products of some activations with `steps` steps of weights, calling between(q), 0 <= q < 4, in
// each. Tiles of weights change as rarely as they can.
template <class Between>
BINHDAN_INLINE void multiply(const Pair<const std::byte>& x, const std::byte* weights, int64_t steps,
                             Between between) {
  const std::byte *low = x.low, *high = x.high;
  for (; steps > 0; --steps, low += kTileLine, high += kTileLine, weights += kStepBytes) {
    _tile_loadd(6, weights, kTileLine);
    _tile_loadd(4, low, x.stride);
    _tile_dpbf16ps(0, 4, 6);
    between(0);
    _tile_loadd(5, high, x.stride);
    _tile_dpbf16ps(2, 5, 6);
    between(1);
    _tile_loadd(7, weights + kTileBytes, kTileLine);
    _tile_dpbf16ps(3, 5, 7);
    between(2);
    _tile_dpbf16ps(1, 4, 7);
    between(3);
  }
}

// The same, decoding kTiles tiles of another piece in each step.
template <int kTiles, DType type>
BINHDAN_INLINE void multiply_and_decode(const Pair<const std::byte>& x, const std::byte* weights,
                                        int64_t steps, Decoder<type>& decoder) {
  constexpr int kQuarters = 4 / kTiles;  // of a step to a tile
  TileBlock<type> block;
  std::byte* tile = nullptr;
  multiply(x, weights, steps, [&](int q) __attribute__((always_inline)) {
    if (q % kQuarters == 0) tile = decoder.load(block);
#pragma GCC unroll 2
    for (int i = 0; i < kTiles; ++i) block.store_quarter(tile, q % kQuarters * kTiles + i);
    stores_end_here();
  });
}

// Rows [first, first + count) of the activations as pairs of tiles of equal height, the last one overlapping.
struct Batch {
  int64_t first, count, pairs, tile_rows;

  Batch(int64_t from, int64_t rows)
      : first(from),
        count(rows),
        pairs((rows + kBlockRows - 1) / kBlockRows),
        tile_rows((rows + 2 * pairs - 1) / (2 * pairs)) {}

  int64_t row_of(int64_t tile) const {
    const int64_t row = tile * tile_rows, last = count - tile_rows;
    return first + (row < last ? row : last);
  }
};

// One pair of tiles of a batch and one piece of weights: the sums come and go, product(x) adds to them.
template <class Product>
BINHDAN_INLINE void add_product(const MatmulArgs& args, const Batch& batch, int64_t pair, const Pieces& at,
                                Product product) {
  const auto stride = static_cast<int64_t>(args.activation_stride);
  const int64_t row = at.piece().row, low = batch.row_of(2 * pair), high = batch.row_of(2 * pair + 1);
  const auto* x = static_cast<const std::byte*>(args.activations) + at.piece().begin * kTileLine;
  auto& waiting = static_cast<Scratch*>(args.scratch)->sums[pair];
  const Pair<float> sums{waiting[0][0], waiting[1][0], sizeof waiting[0][0]};
  const Pair<float> out{args.out + low * args.out_stride + row, args.out + high * args.out_stride + row,
                        args.out_stride * static_cast<int64_t>(sizeof(float))};
  if (at.starts_row())
    zero_sums();
  else
    load_sums(sums);
  product(Pair<const std::byte>{x + low * stride, x + high * stride, stride});
  const int64_t columns = args.row_end - row;
  if (at.ends_row() && columns >= kBlockRows) return store_sums(out);
  store_sums(sums);
  if (!at.ends_row()) return;
  const __mmask16 mask[2] = {lane_mask(columns), lane_mask(columns - kTileRows)};
  for (int64_t i = 0; i < batch.tile_rows; ++i)
    for (int half = 0; half < 2; ++half) {
      const int64_t to = i * args.out_stride + half * kTileRows;
      _mm512_mask_storeu_ps(out.low + to, mask[half], _mm512_load_ps(waiting[0][i] + half * kTileRows));
      _mm512_mask_storeu_ps(out.high + to, mask[half], _mm512_load_ps(waiting[1][i] + half * kTileRows));
    }
}

template <DType type>
BINHDAN_INLINE void multiply_batch(const MatmulArgs& args, const Batch& batch) {
  configure_tiles(TileConfig(batch.tile_rows));
  auto& scratch = *static_cast<Scratch*>(args.scratch);
  int buffer = 0;
  Pieces at(args);
  Decoder<type>(args, at, scratch.weights[0]).finish();
  for (; !at.done(); at = at.next()) {
    const std::byte* weights = scratch.weights[buffer];
    const int64_t steps = at.piece().end - at.piece().begin;
    buffer ^= 1;
    Decoder<type> next(args, at.next(), scratch.weights[buffer]);
    stores_end_here();
    for (int64_t pair = 0; pair < batch.pairs; ++pair)
      add_product(args, batch, pair, at, [&](const Pair<const std::byte>& x) __attribute__((always_inline)) {
        if (next.left() == 0)
          multiply(x, weights, steps, [](int) {});
        else if (next.left() <= steps * (batch.pairs - pair))
          multiply_and_decode<1>(x, weights, steps, next);
        else
          multiply_and_decode<2>(x, weights, steps, next);
      });
    next.finish();
  }
}

template <DType type>
BINHDAN_INLINE void multiply_all(const MatmulArgs& args) {
  const auto fit = kActivationBytes / static_cast<int64_t>(args.activation_stride) / kBlockRows * kBlockRows;
  const int64_t most = fit < kBlockRows ? kBlockRows : fit > kMaxRows ? kMaxRows : fit;
  for (int64_t i = 0; i < args.m; i += most)
    multiply_batch<type>(args, Batch(i, args.m - i < most ? args.m - i : most));
  _tile_release();
}

}  // namespace

#define DEFINE(type)                                                               \
  template <>                                                                      \
  void gemm<DType::type>(const MatmulArgs& args) {                                 \
    multiply_all<DType::type>(args);                                               \
  }                                                                                \
  template <>                                                                      \
  size_t scratch_size<DType::type>(int64_t rows, int64_t cols, int64_t m) {        \
    const size_t inherited = avx512vnni::scratch_size<DType::type>(rows, cols, m); \
    return inherited > sizeof(Scratch) ? inherited : sizeof(Scratch);              \
  }
BINHDAN_PANEL_TYPES(DEFINE)
#undef DEFINE

}  // namespace binhdan::amx
