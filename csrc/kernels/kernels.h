// The kernel table: the inner loops of the model as function pointers, one table per instruction set. A
// table starts as a copy of a simpler one and replaces the kernels that it has faster versions of. Kernels
// never throw, allocate or keep state; ops/ checks sizes before it calls them. Pointers to float are aligned
// to 4 bytes.
//
// Numeric classes: gemv (decode) and gemm (prefill) may use different arithmetic. Within a class, the result
// of a row depends on that row and the weights alone: not on m, on how the weight rows are split, or on the
// thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/buffer.h"
#include "base/cpu.h"
#include "base/dtype.h"

namespace binhdan {

// The arithmetic of each format, stated once so that tables can be compared:
// - q8: in a block of 32 columns, an activation is d_a q_a (BlockQ8A: d and qs), and a weight is
//   s_w value(quant) + m_w. Its scale s_w = d or d scale, and its minimum m_w = m or -dmin min (0 if the type
//   has none), are exact in float32; panels.h has the types. For each block, in column order,
//     acc += float(sum of value(quant) q_a) * (s_w d_a)         for each scale: two if a scale has 16 columns
//     acc += m_w (d_a sum(q_a))                                 if the type has minimums
//   d_a sum(q_a) is BlockQ8A::d_sum. If a scale has 16 columns, so does a minimum: first both scales are
//   accumulated, then both minimums, with d_a float(sum[half]), rounded. The integer sums are exact on every
//   table. `scalar` rounds every operation; all other tables fuse the last product with the addition, in this
//   order: their bits are equal.
// - f32: a weight row is decoded as decode_row does. `scalar` accumulates column j in partial sum j %
//   kDotLanes and adds the partial sums by halves: p[i] += p[i + 8], then 4, 2, 1; its rms_norm uses the same
//   order. Other tables may use another order, but always the same one.
// - bf16: weights and activations are rounded to bfloat16 (nearest even), and products are accumulated in
//   float32 in the order of the tile unit.
inline constexpr int kDotLanes = 16;

// The two kinds of arithmetic that a table may have (see the top of this file).
enum class NumericClass : uint8_t {
  decode,   // gemv: rows that are decoded, few at a time
  prefill,  // gemm: rows of prompts, many at a time
};

// The format of the rows of activations that a matrix kernel reads.
enum class Activation : uint8_t {
  f32,   // float[n]
  q8,    // blocks of 32, BlockQ8A
  bf16,  // uint16_t, in tiles; only tables that have bf16 kernels prepare it
};
inline constexpr int kActivations = 3;

// q = x * (127 / max|x|), rounded to nearest even. If max|x| < 2^-120 the block is zero (d = 0). If an
// element is infinite or NaN, d is NaN and every q is 0, so that the output becomes NaN.
struct BlockQ8A {
  float d;         // x = d q, d = max|x| / 127
  float d_sum;     // d (sum[0] + sum[1]): the factor of a minimum in the weights
  int32_t sum[2];  // of q[0 .. 15] and q[16 .. 31]: the factors of a zero point in the weights
  int8_t qs[32];
};
static_assert(sizeof(BlockQ8A) == 48);

// out[i * out_stride + r] = dot(weights row r, activations row i), 0 <= r < rows, 0 <= i < m.
struct MatmulArgs {
  const void* weights;       // packed by MatmulKernel::pack, or file blocks if the kernel has none
  int64_t rows, cols;        // of the weights
  const void* activations;   // m rows from KernelTable::quantize, in the order of ActivationLayout
  size_t activation_stride;  // ActivationLayout::stride
  int64_t m;
  float* out;
  int64_t out_stride;  // floats
  void* scratch;       // scratch_size bytes, 64-byte aligned, not shared with other threads
};

// Everything about one weight type on one instruction set.
struct MatmulKernel {
  DType type;
  int panel_rows;  // weight rows that are interleaved; rows are split in multiples of it
  Activation gemv_input, gemm_input;
  bool gemv_equals_gemm;  // gemv and gemm compute the same bits: callers may use either for any row
  // Bytes of the packed matrix; nullptr: the kernel reads file blocks (pack is nullptr too).
  size_t (*packed_size)(int64_t rows, int64_t cols);
  // Packs rows [row_begin, row_end), both multiples of panel_rows (row_end may be `rows`), to their offsets
  // in `packed`; `src` points at the file blocks of row 0. Missing rows of the last panel become zeros.
  void (*pack)(void* packed, const void* src, int64_t rows, int64_t cols, int64_t row_begin, int64_t row_end);
  // Decodes one row of the weights to float32. With it, an embedding that is tied to the output matrix needs
  // no second copy.
  void (*get_row)(float* dst, const void* weights, int64_t rows, int64_t cols, int64_t row);
  void (*gemv)(const MatmulArgs& args);
  void (*gemm)(const MatmulArgs& args);
  size_t (*scratch_size)(int64_t rows, int64_t cols, int64_t m);  // nullptr: none

  Activation input(NumericClass numeric_class) const {
    return numeric_class == NumericClass::decode ? gemv_input : gemm_input;
  }
};

// ---- attention ----------------------------------------------------------------------------------------
// A KV page holds the keys and values of one KV head of one layer for kKvPageTokens positions.
enum class KvType : uint8_t {
  // 16 bits per element; each table chooses the layout. `scalar` has float16: K transposed, (head_dim,
  // kKvPageTokens), so that vector lanes are positions and scores need no horizontal sums, then V,
  // (kKvPageTokens, head_dim).
  f16,
  // 8 bits per element and a float16 scale for every 32 elements of a head: kv_q8.h, the same on every table.
  q8_0,
};
inline constexpr int kKvTypes = 2;
inline constexpr int kKvPageTokens = 64;
// Pages of a split. A kernel accumulates the pages of one split in order; ops/attention combines splits in
// order, so that bits do not depend on how splits are distributed over threads.
inline constexpr int kSplitPages = 8;
inline constexpr int kSplitTokens = kSplitPages * kKvPageTokens;

// Bytes of one KV head's page. Tiles and blocks need whole groups of 32 elements. Unwritten slots must hold
// finite values: new pages are filled with zeros.
inline size_t kv_page_size(KvType type, int64_t head_dim) {
  const auto groups = static_cast<size_t>((head_dim + 31) / 32);
  const size_t group_bytes = type == KvType::f16 ? 64 : 34;
  return groups * group_bytes * 2 * kKvPageTokens;
}

// A value for AttentionArgs::begin (with a minus sign), end and limit that bounds nothing.
inline constexpr int64_t kUnbounded = int64_t{1} << 60;

// Grouped-query attention over one split, for rows at consecutive positions and the `heads` query heads that
// share a KV head. For every row and head, over the positions j that the row sees,
//   s[j] = q . k[j]    l = sum 2^(s[j] - m)    acc = sum 2^(s[j] - m) v[j]
// Online softmax (Milakov & Gimelshein 2018): when m grows from one page to the next, the sums are scaled by
// 2^(m - m'). m is an integer near the largest score, so that the scaling is exact; m = -inf, l = acc = 0 for
// a row that sees no position. The results of a row do not depend on positions that it does not see, if their
// values are finite.
struct AttentionArgs {
  const float* q;  // head h of row i: q + i q_stride + h head_dim, already scaled by ops::query_scale()
  int64_t q_stride;
  int64_t rows, heads;
  int64_t head_dim;  // a multiple of 8 (model/config checks)
  // kSplitPages pages and the page to prefetch after them. Pages that no row sees may be nullptr.
  const void* const* pages;
  // Row i sees the positions j of the split with begin + i <= j < min(end + i, limit); begin < end.
  int64_t begin, end, limit;
  float softcap;  // 0: none; else a score s becomes softcap * tanh(s / softcap)
  float* m;       // (rows, heads)
  float* l;       // (rows, heads)
  float* acc;     // (rows, heads, head_dim)
  void* scratch;  // scratch_size bytes, 64-byte aligned, this thread's own
};

struct AttentionKernel {
  // Write the key or the value, (head_dim), at position `token` of the page. Other positions are not written.
  void (*store_key)(void* page, int64_t head_dim, int64_t token, const float* k);
  void (*store_value)(void* page, int64_t head_dim, int64_t token, const float* v);
  void (*decode)(const AttentionArgs& args);
  void (*prefill)(const AttentionArgs& args);  // the same function as `decode` if their bits are equal
  size_t (*scratch_size)(int64_t rows, int64_t heads, int64_t head_dim);  // nullptr: none
};

// ---- rows ---------------------------------------------------------------------------------------------
enum class Nonlinearity : uint8_t {
  silu,       // x / (1 + e^-x)
  gelu_tanh,  // x / (1 + e^-2u) = x (1 + tanh u) / 2, with u = sqrt(2 / pi) (x + 0.044715 x^3)
  gelu,       // x Phi(x), where Phi is the normal distribution function
  relu2,      // max(x, 0)^2
  sigmoid,    // 1 / (1 + e^-x)
};
inline constexpr int kNonlinearities = 5;
#define BINHDAN_NONLINEARITIES(DO) DO(silu) DO(gelu_tanh) DO(gelu) DO(relu2) DO(sigmoid)

// ---- gated delta rule ---------------------------------------------------------------------------------
// Consecutive rows of one head of a Gated DeltaNet layer (Yang et al. 2024, arXiv:2412.06464). `state` is S,
// (key_dim, value_dim), updated in place. For each row i, in order:
//   S = e^decay[i] S
//   d = beta[i] (v[i] - S^T k[i])
//   S = S + k[i] d^T
//   out[i] = S^T q[i]
// k is normalised, q is normalised and scaled. key_dim and value_dim are multiples of 8 (model/config
// checks).
struct DeltaRuleArgs {
  const float *q, *k;  // (key_dim), row i at i qk_stride
  int64_t qk_stride;
  const float* v;  // (value_dim), row i at i v_stride
  int64_t v_stride;
  const float *decay, *beta;  // row i at i gate_stride; decay <= 0
  int64_t gate_stride;
  float* state;
  float* out;  // (value_dim), row i at i out_stride
  int64_t out_stride;
  int64_t rows, key_dim, value_dim;
  void* scratch;  // delta_scratch_size bytes, 64-byte aligned, this thread's own
};

// The maximum number of rows of KernelTable::delta_chunk. A divisor of kKvPageTokens.
inline constexpr int kDeltaChunk = 16;
static_assert(kKvPageTokens % kDeltaChunk == 0);

// Room for the keys of a chunk and one row of value_dim.
constexpr size_t delta_scratch_size(int64_t key_dim, int64_t value_dim) {
  return static_cast<size_t>(kDeltaChunk * key_dim + value_dim) * sizeof(float);
}

// ---- the search of the encoders (csrc/encode) ----------------------------------------------------------
// Sixteen candidates for the scale of a group of columns are evaluated together.
inline constexpr int kCandidates = 16;
struct alignas(64) Candidates {
  float lane[kCandidates];
};

// Q(y). steps = 0: the nearest integer in [low, high]. Otherwise `low`, plus step[i] for each i < steps with
// y > middle[i].
struct RoundingRule {
  float low = 0.0f, high = 0.0f;
  int steps = 0;
  float middle[15] = {}, step[15] = {};
};

struct CandidateArgs {
  const float *x, *w;  // (n)
  int64_t n;
  const RoundingRule& rule;
  float base = 0.0f;         // line_sums
  Candidates inverses = {};  // 1 / scale, or 0 for a scale of 0
  Candidates shifts = {};    // line_sums; line_errors: the minima m
  Candidates scales = {};    // errors: s
};
struct CandidateSums {
  Candidates qx, qq, q;  // sum of w q x, w q^2, w q
};
struct CandidateKernels {
  // q = Q(x inverse). `q` of the sums is not set.
  void (*scale_sums)(CandidateSums& out, const CandidateArgs& args);
  // q = Q((x - base) inverse + shift), and x - base in place of x.
  void (*line_sums)(CandidateSums& out, const CandidateArgs& args);
  // sum of w (x - s Q(x / s))^2
  void (*scale_errors)(Candidates& out, const CandidateArgs& args);
  // sum of w (x + m - s Q((x + m) / s))^2
  void (*line_errors)(Candidates& out, const CandidateArgs& args);
};

inline constexpr int64_t kProductLanes = 16;  // of KernelTable::add_products

// ---- the table ----------------------------------------------------------------------------------------
struct KernelTable {
  const char* isa;  // "scalar", "avx2", ...: the name for BINHDAN_ISA
  bool (*supported)(const CpuFeatures& cpu);
  MatmulKernel matmul[kDTypeLimit];  // indexed by DType; in gaps between the types' numbers, gemv is nullptr

  // Converts `n` columns of a row of activations; `dst` is at their ActivationLayout::offset. nullptr for
  // formats that no kernel of this table reads. `n` is a multiple of 32 for q8 and bf16.
  void (*quantize[kActivations])(void* dst, const float* x, int64_t n);

  // x / sqrt(mean(x^2) + eps) * weight; without a weight (nullptr), it is 1. `out` may be `x`.
  void (*rms_norm)(float* out, const float* x, const float* weight, int64_t n, float eps);
  // (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias; without a bias (nullptr), it is 0. `out` may be `x`.
  void (*layer_norm)(float* out, const float* x, const float* weight, const float* bias, int64_t n,
                     float eps);
  // Rotates pairs of one head in place. cos_sin: (dim / 2, 2). neox: pairs (i, i + dim/2), else (2i, 2i + 1).
  void (*rope)(float* x, const float* cos_sin, int64_t dim, bool neox);
  // x = f(x) * factor, or f(x) if factor is nullptr. Indexed by Nonlinearity.
  void (*apply[kNonlinearities])(float* x, const float* factor, int64_t n);
  void (*softcap)(float* x, float cap, int64_t n);  // x = cap tanh(x / cap)
  void (*add)(float* x, const float* y, int64_t n);
  void (*add_scaled)(float* x, const float* y, float factor, int64_t n);  // x += factor y
  void (*multiply)(float* x, const float* y, int64_t n);
  void (*scale)(float* x, float factor, int64_t n);
  // Causal depthwise convolution, one position: out[c] = sum over t < taps, in order, of
  // weights[t * weight_stride + c] * rows[t][c].
  void (*conv)(float* out, const float* const* rows, const float* weights, int64_t weight_stride,
               int64_t taps, int64_t n);
  void (*to_f16)(uint16_t* dst, const float* src, int64_t n);
  // x[i] += sum over t of factors[t] * w(t, i), for the low-rank products of adapters. w is float16 in panels of
  // kProductLanes columns i, in each panel one term t after the other; the last panel is whole, too. The bits of
  // an element do not depend on n.
  void (*add_products)(float* x, const float* factors, const uint16_t* w, int64_t terms, int64_t n);
  AttentionKernel attention[kKvTypes];            // indexed by KvType
  void (*delta_step)(const DeltaRuleArgs& args);  // row by row: class decode
  // Up to kDeltaChunk rows together: class prefill. The bits of a row depend on the rows up to it, the state
  // and the row where the chunk begins.
  void (*delta_chunk)(const DeltaRuleArgs& args);
  CandidateKernels candidates;  // the bits are equal in all tables

  // For measurements: a loop of `rounds` iterations that multiplies and adds as fast as one core can, with
  // the instructions of the kernels that read this format. Returns the number of multiply-adds. nullptr: no
  // loop.
  int64_t (*peak[kActivations])(int64_t rounds);
};

// The memory layout of a batch of activations. f32 and q8: row after row. bf16: tiles of 16 rows x 32
// columns, 1 KiB each, one row of tiles after the other; missing rows of the last tiles are not initialized.
struct ActivationLayout {
  static constexpr size_t kTileRows = 16, kTileColumns = 32, kTileLine = kTileColumns * sizeof(uint16_t);

  Activation format;
  size_t stride;  // bytes from a row to the next; for bf16, from a row of tiles to the next

  // An odd number of cache lines or tiles, so that the same column of neighbouring rows is in different cache
  // sets.
  ActivationLayout(Activation format, int64_t cols) : format(format) {
    const size_t unit = format == Activation::bf16 ? kTileRows * kTileLine : kCacheLine;
    stride = ((column_offset(cols) + unit - 1) / unit | 1) * unit;
  }
  uint64_t size(int64_t rows) const {
    const auto n = static_cast<uint64_t>(rows);
    return format == Activation::bf16 ? (n + kTileRows - 1) / kTileRows * stride : n * stride;
  }
  // For q8 and bf16, `column` is a multiple of 32.
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
// unknown name, with the list of names, and Error(unsupported) for a table that this CPU or OS cannot run.
const KernelTable& select_table(std::string_view forced);

extern const KernelTable kScalarTable;

}  // namespace binhdan
