// The gated delta rule in float32 for any width of vector: the delta.cpp of an instruction set instantiates
// it.
//
// Algebra (DeltaRuleArgs). Lanes are columns of S; columns are independent of each other.
// One row: S^T k and S^T q are sums over the same pass over S, because
//   d = beta (v - a S^T k)    out = a S^T q + (k.q) d    S = a S + k d^T    with a = e^decay
// so S is read from memory once; the second pass, which writes it, finds it in a cache.
//
// A chunk of n rows (the WY form: Yang et al. 2024, arXiv:2406.06484, with decay: arXiv:2412.06464). With the
// sums of decays G[i] = decay[0] + ... + decay[i], row i depends on S before the chunk and on the d of
// earlier rows:
//   d[i] = beta[i] (v[i] - e^G[i] S^T k[i]) - sum over j < i of beta[i] e^(G[i] - G[j]) (k[i].k[j]) d[j]
//   out[i] = e^G[i] S^T q[i] + sum over j <= i of e^(G[i] - G[j]) (q[i].k[j]) d[j]
//   S = e^G[n-1] S + sum over j of k[j] (e^(G[n-1] - G[j]) d[j])^T
// Exponents are differences that are <= 0, taken in double: nothing overflows, and a strong decay does not
// cost the digits of the weak ones after it.
//
// Cost in multiply-adds per row: 3 key_dim value_dim, as row by row, and n (key_dim + value_dim) for the sums
// over j. But an element of S is loaded for a tile of rows instead of one. kDeltaChunk = 16 was the fastest
// of 16, 32 and 64.
//
// A Lanes class has the vector type V, its width kLanes, the tile of sums in registers (kRows rows by kTile
// vectors in a chunk, 2 by kStepTile in a single row) and the arithmetic.
// inline.h says why everything is inlined or static.
#pragma once
#include "kernels/inline.h"
#include "kernels/kernels.h"

namespace binhdan {
namespace {

template <class Lanes>
struct LaneDelta {
  using V = typename Lanes::V;
  static constexpr int kLanes = Lanes::kLanes;
  static constexpr int kChunk = kDeltaChunk;
  static_assert(kChunk % kLanes == 0 && kChunk % 8 == 0);

  // ---- tiles ------------------------------------------------------------------------------------------

  // Calls f<N>(first) for tiles of N items of [0, n): N = kMax as long as possible, then 4, 2, 1. kMax <= 8.
  template <int kMax, class F>
  BINHDAN_INLINE void each_tile(int64_t n, const F& f) {
    int64_t first = 0;
    for (; first + kMax <= n; first += kMax) f.template operator()<kMax>(first);
    rest_of_tiles<kMax>(first, n, f);
  }
  template <int kMax, class F>
  BINHDAN_INLINE void rest_of_tiles(int64_t first, int64_t n, const F& f) {
    constexpr int N = kMax > 4 ? 4 : kMax / 2;
    if constexpr (N > 0) {
      if (first + N <= n) {
        f.template operator()<N>(first);
        first += N;
      }
      rest_of_tiles<N>(first, n, f);
    }
  }

  // Calls f<T>(column, width) for the columns of S in tiles of T <= kMax vectors; the last vector of a tile
  // has `width` elements.
  template <int kMax, class F>
  BINHDAN_INLINE void each_columns(int64_t value_dim, const F& f) {
    each_tile<kMax>((value_dim + kLanes - 1) / kLanes, [&]<int T>(int64_t first) {
      const int64_t left = value_dim - (first + T - 1) * kLanes;
      f.template operator()<T>(first * kLanes, left < kLanes ? left : kLanes);
    });
  }

  // The matrix element (r, j) at data[r row + j step].
  struct Operand {
    const float* data;
    int64_t row, step;
  };

  // Vectors 0 to T - 1 at `src`; the last one has `width` elements.
  template <int T>
  BINHDAN_INLINE V load(const float* src, int t, int64_t width) {
    return t + 1 < T ? Lanes::load(src + t * kLanes) : Lanes::load_first(src + t * kLanes, width);
  }
  template <int T>
  BINHDAN_INLINE void store(float* dst, int t, int64_t width, V x) {
    t + 1 < T ? Lanes::store(dst + t * kLanes, x) : Lanes::store_first(dst + t * kLanes, width, x);
  }

  // sums[r] += sum over j < n of x(r, j) y[j], where y[j] is at y + j step.
  template <int R, int T>
  BINHDAN_INLINE void multiply_add(V (&sums)[R][T], const Operand& x, const float* y, int64_t step, int64_t n,
                                   int64_t width) {
    for (int64_t j = 0; j < n; ++j) {
      V row[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) row[t] = load<T>(y + j * step, t, width);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const V factor = Lanes::broadcast(x.data[r * x.row + j * x.step]);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) sums[r][t] = Lanes::fma(factor, row[t], sums[r][t]);
      }
    }
  }

  template <int R, int T>
  BINHDAN_INLINE void set_zero(V (&sums)[R][T]) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[r][t] = Lanes::zero();
  }

  // ---- a chunk ----------------------------------------------------------------------------------------

  struct Chunk {
    alignas(64) float keys[kChunk][kChunk];     // (i, j), j < i: -beta[i] e^(G[i] - G[j]) k[i].k[j]
    alignas(64) float queries[kChunk][kChunk];  // (i, j), j <= i: e^(G[i] - G[j]) q[i].k[j]
    alignas(64) float from_start[kChunk];       // e^G[i]
    alignas(64) float to_end[kChunk];           // e^(G[n-1] - G[i])
    double exponents[kChunk];                   // G[i] / ln 2
  };

  // Writes e^(G[i] - G[j]) for j <= i.
  BINHDAN_INLINE void decays(float (&dst)[kChunk], const Chunk& chunk, int64_t i) {
    for (int64_t j = 0; j < kChunk; ++j)
      dst[j] = j <= i ? static_cast<float>(chunk.exponents[i] - chunk.exponents[j]) : 0;
    exp2(dst);
  }
  BINHDAN_INLINE void exp2(float (&x)[kChunk]) {
    for (int64_t j = 0; j < kChunk; j += kLanes) Lanes::store(x + j, Lanes::exp2(Lanes::load(x + j)));
  }

  // The exponent of 2 of one row's decay. The bounds keep sums and their differences finite in float32, where
  // 2^-1000 is 0.
  BINHDAN_INLINE double exponent(float decay) {
    const double x = decay * 0x1.71547652b82fep+0;   // log2(e)
    return x < -1000 ? -1000 : x > 1000 ? 1000 : x;  // NaN stays
  }

  BINHDAN_INLINE void sum_decays(Chunk& chunk, const DeltaRuleArgs& args) {
    double sum = 0;
    for (int64_t i = 0; i < kChunk; ++i) {
      if (i < args.rows) sum += exponent(args.decay[i * args.gate_stride]);
      chunk.exponents[i] = sum;
      chunk.from_start[i] = static_cast<float>(sum);
    }
    exp2(chunk.from_start);
    decays(chunk.to_end, chunk, args.rows - 1);
  }

  // dst[d][i] = k[i][d]. Rows from args.rows on repeat the last row, so that all lanes are initialised.
  BINHDAN_INLINE void transpose_keys(float* dst, const DeltaRuleArgs& args) {
    for (int64_t i = 0; i < kChunk; i += 8) {
      const float* rows[8];
      for (int64_t r = 0; r < 8; ++r)
        rows[r] = args.k + (i + r < args.rows ? i + r : args.rows - 1) * args.qk_stride;
      for (int64_t d = 0; d < args.key_dim; d += 8) Lanes::transpose(dst + d * kChunk + i, kChunk, rows, d);
    }
  }

  // The products of keys and queries with keys. `keys`: (key_dim, kChunk).
  static void multiply_keys(Chunk& chunk, const float* keys, const DeltaRuleArgs& args) {
    each_tile<Lanes::kRows>(args.rows, [&]<int R>(int64_t first) {
      for (int64_t j = 0; j < first + R; j += kLanes) {
        V by_key[R][1], by_query[R][1];
        set_zero(by_key);
        set_zero(by_query);
        const Operand k{args.k + first * args.qk_stride, args.qk_stride, 1};
        const Operand q{args.q + first * args.qk_stride, args.qk_stride, 1};
        multiply_add<R, 1>(by_key, k, keys + j, kChunk, args.key_dim, kLanes);
        multiply_add<R, 1>(by_query, q, keys + j, kChunk, args.key_dim, kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          Lanes::store(&chunk.keys[first + r][j], by_key[r][0]);
          Lanes::store(&chunk.queries[first + r][j], by_query[r][0]);
        }
      }
    });
    for (int64_t i = 0; i < args.rows; ++i) {
      alignas(64) float factors[kChunk];
      decays(factors, chunk, i);
      const V beta = Lanes::broadcast(-args.beta[i * args.gate_stride]);
      for (int64_t j = 0; j <= i; j += kLanes) {
        const V factor = Lanes::load(factors + j);
        Lanes::store(&chunk.keys[i][j], Lanes::mul(Lanes::load(&chunk.keys[i][j]), Lanes::mul(beta, factor)));
        Lanes::store(&chunk.queries[i][j], Lanes::mul(Lanes::load(&chunk.queries[i][j]), factor));
      }
    }
  }

  // d of R rows, for T vectors of columns. `delta`: (kChunk, T kLanes).
  template <int R, int T>
  BINHDAN_INLINE void solve_rows(float* delta, const Chunk& chunk, const DeltaRuleArgs& args, int64_t first,
                                 int64_t column, int64_t width) {
    V sums[R][T];
    set_zero(sums);
    multiply_add(sums, {args.k + first * args.qk_stride, args.qk_stride, 1}, args.state + column,
                 args.value_dim, args.key_dim, width);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V beta = Lanes::broadcast(args.beta[(first + r) * args.gate_stride]);
      const V factor = Lanes::mul(beta, Lanes::broadcast(-chunk.from_start[first + r]));
      const float* v = args.v + (first + r) * args.v_stride + column;
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        sums[r][t] = Lanes::fma(factor, sums[r][t], Lanes::mul(beta, load<T>(v, t, width)));
    }
    multiply_add(sums, {chunk.keys[first], kChunk, 1}, delta, T * kLanes, first, kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int s = 0; s < r; ++s) {
        const V factor = Lanes::broadcast(chunk.keys[first + r][first + s]);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) sums[r][t] = Lanes::fma(factor, sums[s][t], sums[r][t]);
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) Lanes::store(delta + (first + r) * T * kLanes + t * kLanes, sums[r][t]);
    }
  }

  // The outputs of R rows, for T vectors of columns.
  template <int R, int T>
  BINHDAN_INLINE void output_rows(const float* delta, const Chunk& chunk, const DeltaRuleArgs& args,
                                  int64_t first, int64_t column, int64_t width) {
    V sums[R][T];
    set_zero(sums);
    multiply_add(sums, {args.q + first * args.qk_stride, args.qk_stride, 1}, args.state + column,
                 args.value_dim, args.key_dim, width);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V factor = Lanes::broadcast(chunk.from_start[first + r]);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) sums[r][t] = Lanes::mul(factor, sums[r][t]);
    }
    multiply_add(sums, {chunk.queries[first], kChunk, 1}, delta, T * kLanes, first, kLanes);
#pragma GCC unroll 8
    for (int s = 0; s < R; ++s) {
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const V row = Lanes::load(delta + (first + s) * T * kLanes + t * kLanes);
#pragma GCC unroll 8
        for (int r = s; r < R; ++r)
          sums[r][t] = Lanes::fma(Lanes::broadcast(chunk.queries[first + r][first + s]), row, sums[r][t]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        store<T>(args.out + (first + r) * args.out_stride + column, t, width, sums[r][t]);
  }

  // Rows first to first + R - 1 of S, for T vectors of columns.
  template <int R, int T>
  BINHDAN_INLINE void update_state(const float* delta, const Chunk& chunk, const DeltaRuleArgs& args,
                                   int64_t first, int64_t column, int64_t width) {
    float* state = args.state + first * args.value_dim + column;
    const V factor = Lanes::broadcast(chunk.from_start[args.rows - 1]);
    V sums[R][T];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        sums[r][t] = Lanes::mul(factor, load<T>(state + r * args.value_dim, t, width));
    multiply_add(sums, {args.k + first, 1, args.qk_stride}, delta, T * kLanes, args.rows, kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) store<T>(state + r * args.value_dim, t, width, sums[r][t]);
  }

  // T vectors of columns from `column` on.
  template <int T>
  static void compute_columns(const Chunk& chunk, const DeltaRuleArgs& args, int64_t column, int64_t width) {
    alignas(64) float delta[kChunk * T * kLanes];
    each_tile<Lanes::kRows>(
        args.rows, [&]<int R>(int64_t first) { solve_rows<R, T>(delta, chunk, args, first, column, width); });
    each_tile<Lanes::kRows>(args.rows, [&]<int R>(int64_t first) {
      output_rows<R, T>(delta, chunk, args, first, column, width);
    });
    for (int64_t i = 0; i < args.rows; ++i) {
      const V factor = Lanes::broadcast(chunk.to_end[i]);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        float* at = delta + (i * T + t) * kLanes;
        Lanes::store(at, Lanes::mul(factor, Lanes::load(at)));
      }
    }
    each_tile<Lanes::kRows>(args.key_dim, [&]<int R>(int64_t first) {
      update_state<R, T>(delta, chunk, args, first, column, width);
    });
  }

  static void chunk(const DeltaRuleArgs& args) {
    Chunk chunk;
    auto* keys = static_cast<float*>(args.scratch);
    sum_decays(chunk, args);
    transpose_keys(keys, args);
    multiply_keys(chunk, keys, args);
    each_columns<Lanes::kTile>(args.value_dim, [&]<int T>(int64_t column, int64_t width) {
      compute_columns<T>(chunk, args, column, width);
    });
  }

  // ---- one row ----------------------------------------------------------------------------------------

  // Memory is fast when cache lines are read in order. If a row of S is cut into tiles, the first tile
  // prefetches whole rows, kRowsAhead rows ahead.
  static constexpr int64_t kRowsAhead = 16, kLine = 16;  // kLine: floats of a cache line

  struct Row {
    const float *q, *k, *v;
    float* out;
    float decay, beta, key_query;  // e^decay, beta, k.q
  };

  BINHDAN_INLINE float dot(const float* x, const float* y, int64_t n) {
    V sum = Lanes::zero();
    for (int64_t i = 0; i < n; i += kLanes)
      sum = Lanes::fma(Lanes::load_first(x + i, n - i), Lanes::load_first(y + i, n - i), sum);
    return Lanes::sum_of(sum);
  }

  // e^x, rounded once: the errors of decays multiply from row to row. Denormals, which are slow, become 0.
  BINHDAN_INLINE float exp(float x) {
    const auto y = static_cast<float>(__builtin_exp(static_cast<double>(x)));
    return y < 0x1p-126f ? 0 : y;
  }

  // T vectors of columns, of which the last one has `width` elements.
  template <int T, bool prefetch_rows>
  BINHDAN_INLINE void step_columns(const Row& row, const DeltaRuleArgs& args, int64_t column, int64_t width) {
    // Copies, because the compiler assumes that a store to S may change what a reference refers to.
    const int64_t key_dim = args.key_dim, value_dim = args.value_dim;
    const float *k = row.k, *q = row.q;
    float* state = args.state + column;
    const float* ahead = args.state + kRowsAhead * value_dim;
    V delta[T], out[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) delta[t] = out[t] = Lanes::zero();
    for (int64_t d = 0; d < key_dim; ++d) {
      const V by_key = Lanes::broadcast(k[d]), by_query = Lanes::broadcast(q[d]);
      if constexpr (prefetch_rows)
        for (int64_t e = 0; e < value_dim; e += kLine) __builtin_prefetch(ahead + d * value_dim + e);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const V s = load<T>(state + d * value_dim, t, width);
        delta[t] = Lanes::fma(by_key, s, delta[t]);
        out[t] = Lanes::fma(by_query, s, out[t]);
      }
    }
    const V decay = Lanes::broadcast(row.decay), beta = Lanes::broadcast(row.beta);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const V v = load<T>(row.v + column, t, width);
      delta[t] = Lanes::mul(beta, Lanes::fma(Lanes::broadcast(-row.decay), delta[t], v));
      out[t] = Lanes::fma(Lanes::broadcast(row.key_query), delta[t], Lanes::mul(decay, out[t]));
      store<T>(row.out + column, t, width, out[t]);
    }
    for (int64_t d = 0; d < key_dim; ++d) {
      const V by_key = Lanes::broadcast(k[d]);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const V s = load<T>(state + d * value_dim, t, width);
        store<T>(state + d * value_dim, t, width, Lanes::fma(by_key, delta[t], Lanes::mul(decay, s)));
      }
    }
  }

  static void step(const DeltaRuleArgs& args) {
    constexpr int kMax = Lanes::kStepTile;
    const bool one_tile = args.value_dim <= kMax * kLanes;
    for (int64_t i = 0; i < args.rows; ++i) {
      const float *q = args.q + i * args.qk_stride, *k = args.k + i * args.qk_stride;
      const Row row{.q = q,
                    .k = k,
                    .v = args.v + i * args.v_stride,
                    .out = args.out + i * args.out_stride,
                    .decay = exp(args.decay[i * args.gate_stride]),
                    .beta = args.beta[i * args.gate_stride],
                    .key_query = dot(k, q, args.key_dim)};
      each_columns<kMax>(args.value_dim, [&]<int T>(int64_t column, int64_t width) {
        if (column == 0 && !one_tile)
          step_columns<T, true>(row, args, column, width);
        else
          step_columns<T, false>(row, args, column, width);
      });
    }
  }
};

}  // namespace
}  // namespace binhdan
