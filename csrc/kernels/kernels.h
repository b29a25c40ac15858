// The kernel table: every inner loop of the runtime as a function pointer, one table per instruction set. A
// table inherits by copying a simpler one and replacing what it does better. Kernels never throw, allocate or
// keep state; ops/ checks sizes before it calls them. Pointers to float are 4-byte aligned at least.
//
// Numeric classes: gemv (few rows) and gemm (many rows) may use different arithmetic. Within a class, a row's
// result depends on that row and the weights alone: not on m, the range of weight rows, or the thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/buffer.h"
#include "base/cpu.h"
#include "base/dtype.h"

namespace binhdan {

// The arithmetic, stated once so that tables can be compared:
// - q8: integers are the same on every table. For each block of 32, in column order,
//     acc += float(sum of (code - offset) q_a) * (s_w d_a)      one for each scale: two where they hold 16
//     acc += m_w (d_a sum(q_a))                                 where the type has minimums, m_w signed
//   with s_w = d scale and m_w = -dmin min, exact in float32, and the codes, offsets and scales of panels.h;
//   d_a sum(q_a) is BlockQ8A::d_sum. Where scales hold 16 columns, so do minimums: first both scales, then
//   both minimums, with d_a float(sum[half]), rounded. Every operation is rounded in `scalar`; other tables
//   fuse the last product with the addition, all of them in this order: their bits are equal.
// - f32: a weight row is decoded as decode_row does. `scalar` adds column j to partial sum j % kDotLanes and
//   folds these by halves: p[i] += p[i + 8], then 4, 2, 1; its rms_norm sums in the same way.
//   Other tables may sum in another order, but always in the same one.
// - bf16: weights and activations are rounded to bfloat16 (nearest even), products summed in float32 in
//   the order of the tile unit.
inline constexpr int kDotLanes = 16;

// How a matrix kernel wants its rows of activations.
enum class Activation : uint8_t {
  f32,   // float[n]
  q8,    // blocks of 32, BlockQ8A
  bf16,  // uint16_t, in tiles; only tables that have such kernels prepare it
};
inline constexpr int kActivations = 3;

// q = x * (127 / max|x|), rounded to nearest even. Where max|x| < 2^-120 the block is zero (d = 0); where an
// element is infinite or NaN, d is NaN and every q is 0, so that the fault is seen in the output.
struct BlockQ8A {
  float d;         // x = d q, d = max|x| / 127
  float d_sum;     // d (sum[0] + sum[1]): what a minimum in the weights is multiplied with
  int32_t sum[2];  // of q[0 .. 15] and q[16 .. 31]: what an offset in the weights costs
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8A) == 48);

// out[i * out_stride + r] = dot(weights row r, activations row i), 0 <= r < rows, 0 <= i < m.
struct MatmulArgs {
  const void* weights;       // as MatmulKernel::pack left them, or file blocks when there is no pack
  int64_t rows, cols;        // of the weights
  const void* activations;   // m rows, prepared by KernelTable::quantize, as ActivationLayout says
  size_t activation_stride;  // ActivationLayout::stride
  int64_t m;
  float* out;
  int64_t out_stride;  // floats
  void* scratch;       // scratch_size bytes, 64-byte aligned, this thread's own
};

// Everything about one weight type on one instruction set.
struct MatmulKernel {
  DType type;
  int panel_rows;        // weight rows that lie interleaved; work is split in multiples of it
  Activation few, many;  // what gemv and gemm read
  bool one_class;        // gemv and gemm give the same bits: callers need not keep them apart
  // Bytes of the packed matrix; nullptr: file blocks are used where they lie (pack is nullptr too).
  size_t (*packed_size)(int64_t rows, int64_t cols);
  // Packs rows [row_begin, row_end), both multiples of panel_rows (row_end may be `rows`), into their final
  // place under `packed`; `src` points at the file blocks of row 0. The last panel's tail becomes zeros.
  void (*pack)(void* packed, const void* src, int64_t rows, int64_t cols, int64_t row_begin, int64_t row_end);
  // One row back as float32: tied embeddings need no second copy.
  void (*get_row)(float* dst, const void* weights, int64_t rows, int64_t cols, int64_t row);
  void (*gemv)(const MatmulArgs& args);
  void (*gemm)(const MatmulArgs& args);
  size_t (*scratch_size)(int64_t rows, int64_t cols, int64_t m);  // nullptr: none
};

// ---- attention --------------------------------------------------------------------------------------------
// Keys and values of one KV head of one layer lie in pages of kKvPageTokens positions. `store_key` and
// `store_value` know how.
enum class KvType : uint8_t {
  // 16 bits an element, the table's own matter. `scalar` has float16, K transposed, (head_dim,
  // kKvPageTokens), so that vector lanes are positions and scores need no horizontal sums, then V,
  // (kKvPageTokens, head_dim).
  f16,
  // A byte an element and a float16 scale for 32 of a head's elements: kv_q8.h, the same on every table.
  q8_0,
};
inline constexpr int kKvTypes = 2;
inline constexpr int kKvPageTokens = 64;
// A split is this many pages. Each is folded from its own start, page after page; ops/attention combines them
// in order, so that bits do not depend on how splits were shared out among threads.
inline constexpr int kSplitPages = 8;
inline constexpr int kSplitTokens = kSplitPages * kKvPageTokens;

// Bytes of one KV head's page. Tiles and blocks want whole groups of 32 elements. What nobody stored must be
// finite: pages begin as zeros.
inline size_t kv_page_size(KvType type, int64_t head_dim) {
  const auto groups = static_cast<size_t>((head_dim + 31) / 32);
  const size_t group_bytes = type == KvType::f16 ? 64 : 34;
  return groups * group_bytes * 2 * kKvPageTokens;
}

// Causal grouped-query attention over one split, for rows at consecutive positions and the `heads` query
// heads that share a KV head. For every row and head, over the positions j that the row sees,
//   s[j] = q . k[j]    l = sum 2^(s[j] - m)    acc = sum 2^(s[j] - m) v[j]
// Online softmax (Milakov & Gimelshein 2018): from page to page, m grows and the sums are scaled by
// 2^(m - m'). m is an integer near the greatest score, so that this is exact; m = -inf, l = acc = 0 for a row
// that sees nothing. Positions that a row does not see leave its bits alone.
struct AttentionArgs {
  const float* q;  // head h of row i: q + i q_stride + h head_dim, already scaled by log2(e) / sqrt(head_dim)
  int64_t q_stride;
  int64_t rows, heads;
  int64_t head_dim;  // a multiple of 8 (model/config checks)
  // The split's pages as far as the last row sees, then what will be read next, or nullptr: to prefetch only.
  const void* const* pages;
  int64_t visible;  // row i sees the first visible + i positions of the split, none if that is <= 0
  float* m;         // (rows, heads)
  float* l;         // (rows, heads)
  float* acc;       // (rows, heads, head_dim)
  void* scratch;    // scratch_size bytes, 64-byte aligned, this thread's own
};

struct AttentionKernel {
  // Write the key or the value, (head_dim), of the page's position `token`. No other position's bits change.
  void (*store_key)(void* page, int64_t head_dim, int64_t token, const float* k);
  void (*store_value)(void* page, int64_t head_dim, int64_t token, const float* v);
  void (*few)(const AttentionArgs& args);
  void (*many)(const AttentionArgs& args);  // the same function as `few` where a table has one class
  size_t (*scratch_size)(int64_t rows, int64_t heads, int64_t head_dim);  // nullptr: none
};

struct KernelTable {
  const char* isa;  // "scalar", "avx2", ...: the name for BINHDAN_ISA
  bool (*supported)(const CpuFeatures& cpu);
  MatmulKernel matmul[kDTypeLimit];  // by DType; gemv is nullptr for numbers that are no type

  // Some columns of a row of activations, to where ActivationLayout has them; nullptr for formats that no
  // kernel of this table reads. `n` is a multiple of 32 for q8 and bf16.
  void (*quantize[kActivations])(void* dst, const float* x, int64_t n);

  void (*rms_norm)(float* out, const float* x, const float* weight, int64_t n, float eps);
  // Rotates pairs of one head in place. cos_sin: (dim / 2, 2). neox: pairs (i, i + dim/2), else (2i, 2i + 1).
  void (*rope)(float* x, const float* cos_sin, int64_t dim, bool neox);
  void (*silu_mul)(float* gate, const float* up, int64_t n);  // gate = gate / (1 + e^-gate) * up
  void (*add)(float* x, const float* y, int64_t n);
  void (*scale)(float* x, float factor, int64_t n);
  void (*to_f16)(uint16_t* dst, const float* src, int64_t n);
  AttentionKernel attention[kKvTypes];  // by KvType

  // For measurements: does as many multiply-adds as a core can in a loop of `rounds`, with the instructions
  // of the kernels that read this format, and says how many. nullptr: not known.
  int64_t (*peak[kActivations])(int64_t rounds);
};

// Where a batch of activations lies. Rows of f32 and q8 follow each other. bf16 is made of tiles of 16 rows x
// 32 columns, a KiB each, row after row of them; tiles that are not full hold whatever was there.
struct ActivationLayout {
  static constexpr size_t kTileRows = 16, kTileColumns = 32, kTileLine = kTileColumns * sizeof(uint16_t);

  Activation format;
  size_t stride;  // bytes from a row to the next, of bf16 from a row of tiles to the next

  // An odd number of cache lines or tiles: the same column of neighbouring rows lies in different cache sets.
  ActivationLayout(Activation format, int64_t cols) : format(format) {
    const size_t unit = format == Activation::bf16 ? kTileRows * kTileLine : kCacheLine;
    stride = ((column_offset(cols) + unit - 1) / unit | 1) * unit;
  }
  size_t size(int64_t rows) const {
    const auto n = static_cast<size_t>(rows);
    return format == Activation::bf16 ? (n + kTileRows - 1) / kTileRows * stride : n * stride;
  }
  // Of bf16, columns are multiples of 32; so are those of q8.
  size_t offset(int64_t row, int64_t column) const {
    const auto i = static_cast<size_t>(row);
    if (format != Activation::bf16) return i * stride + column_offset(column);
    return i / kTileRows * stride + column_offset(column) + i % kTileRows * kTileLine;
  }

 private:
  size_t column_offset(int64_t column) const {
    const auto n = static_cast<size_t>(column);
    switch (format) {
      case Activation::q8:
        return n / 32 * sizeof(BlockQ8A);
      case Activation::bf16:
        return n / kTileColumns * kTileRows * kTileLine;
      case Activation::f32:
        break;
    }
    return n * sizeof(float);
  }
};

// Tables compiled into this library, from the simplest to the fastest.
std::span<const KernelTable* const> compiled_tables();
// The fastest supported table, or the one named `forced` ("" = none). Throws Error(invalid_argument) for an
// unknown name, listing the known ones, and Error(unsupported) for one that this CPU or OS cannot run.
const KernelTable& select_table(std::string_view forced);

extern const KernelTable kScalarTable;

}  // namespace binhdan
