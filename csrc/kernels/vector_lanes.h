// Functions of rows for any width of vector: the vector.cpp of an instruction set instantiates them. Loads and
// stores limit the speed of most, so loops are not unrolled.
//
// A Lanes class (lanes.h of an instruction set) has the vector type V, its width kLanes, loads and stores of
// whole vectors and of the first n elements, and the arithmetic. max and min return their second operand if it
// is NaN. quotient(a, d) is a / d for d >= 1, also infinite.
#pragma once
#include <cstdint>

#include "kernels/inline.h"
#include "kernels/kernels.h"
#include "kernels/lane_math.h"

namespace binhdan {
namespace {

// Calls f(i, count) for every vector, and once for the rest; `count` is the number of elements.
template <class Lanes, class F>
BINHDAN_INLINE void each_vector(int64_t n, F f) {
  int64_t i = 0;
  for (; i + Lanes::kLanes <= n; i += Lanes::kLanes) f(i, Lanes::kLanes);
  if (i < n) f(i, n - i);
}

template <class Lanes>
struct VectorLanes {
  using V = typename Lanes::V;

  // A sum over a row: at least 16 partial sums, because their rounding errors grow with their length.
  struct RowSum {
    static constexpr int kVectors = Lanes::kLanes >= 8 ? 2 : 16 / Lanes::kLanes;
    V sums[kVectors];

    [[gnu::always_inline]] RowSum() {
      for (V& sum : sums) sum = Lanes::zero();
    }
    // The sum that element i belongs to.
    [[gnu::always_inline]] V& at(int64_t i) { return sums[i / Lanes::kLanes % kVectors]; }
    [[gnu::always_inline]] float total() {
      for (int half = kVectors / 2; half > 0; half /= 2)
        for (int v = 0; v < half; ++v) sums[v] = Lanes::add(sums[v], sums[v + half]);
      return Lanes::sum_of(sums[0]);
    }
  };

  template <Nonlinearity f>
  BINHDAN_INLINE void apply(float* x, const float* factor, int64_t n) {
    if (factor)
      each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
        const V y = nonlinear<f, Lanes>(Lanes::load_first(x + i, count));
        Lanes::store_first(x + i, count, Lanes::mul(y, Lanes::load_first(factor + i, count)));
      });
    else
      each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
        Lanes::store_first(x + i, count, nonlinear<f, Lanes>(Lanes::load_first(x + i, count)));
      });
  }

  BINHDAN_INLINE void softcap(float* x, float cap, int64_t n) {
    const V factor = Lanes::broadcast(cap), inverse = Lanes::broadcast(1.0f / cap);
    each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      const V y = tanh<Lanes>(Lanes::mul(inverse, Lanes::load_first(x + i, count)));
      Lanes::store_first(x + i, count, Lanes::mul(factor, y));
    });
  }

  BINHDAN_INLINE void multiply(float* x, const float* y, int64_t n) {
    each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      Lanes::store_first(x + i, count,
                         Lanes::mul(Lanes::load_first(x + i, count), Lanes::load_first(y + i, count)));
    });
  }

  BINHDAN_INLINE void add_scaled(float* x, const float* y, float factor, int64_t n) {
    const V by = Lanes::broadcast(factor);
    each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      Lanes::store_first(x + i, count,
                         Lanes::fma(by, Lanes::load_first(y + i, count), Lanes::load_first(x + i, count)));
    });
  }

  BINHDAN_INLINE void conv(float* out, const float* const* rows, const float* weights, int64_t weight_stride,
                           int64_t taps, int64_t n) {
    each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      V sum = Lanes::zero();
      for (int64_t t = 0; t < taps; ++t)
        sum = Lanes::fma(Lanes::load_first(weights + t * weight_stride + i, count),
                         Lanes::load_first(rows[t] + i, count), sum);
      Lanes::store_first(out + i, count, sum);
    });
  }

  // Four partial sums for each element, t % 4: a single one would wait for every multiplication. A decode step reads
  // `w` from memory and has little to compute with it, so it is prefetched, into the second-level cache, which has more
  // requests under way than the first.
  BINHDAN_INLINE void add_products(float* x, const float* factors, const uint16_t* w, int64_t terms,
                                   int64_t n) {
    constexpr int kSums = 4, kVectors = static_cast<int>(kProductLanes) / Lanes::kLanes;
    constexpr int64_t kAhead = 4096, kLine = 32;  // of w, float16
    for (int64_t first = 0; first < n; first += kProductLanes) {
      V sums[kSums][kVectors];
      for (auto& row : sums)
        for (V& sum : row) sum = Lanes::zero();
      const auto add_term = [&](int64_t t, V(&row)[kVectors]) __attribute__((always_inline)) {
        const V factor = Lanes::broadcast(factors[t]);
        for (int v = 0; v < kVectors; ++v)
          row[v] = Lanes::fma(factor, Lanes::load_f16(w + t * kProductLanes + v * Lanes::kLanes), row[v]);
      };
      int64_t t = 0;
      for (; t + kSums <= terms; t += kSums) {
        const uint16_t* ahead = w + t * kProductLanes + kAhead;
        for (int64_t at = 0; at < kSums * kProductLanes; at += kLine) __builtin_prefetch(ahead + at, 0, 2);
        for (int s = 0; s < kSums; ++s) add_term(t + s, sums[s]);
      }
      for (int s = 0; s < kSums; ++s)
        if (t + s < terms) add_term(t + s, sums[s]);
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = first + v * Lanes::kLanes, count = n - at;
        if (count <= 0) break;
        const V sum = Lanes::add(Lanes::add(sums[0][v], sums[1][v]), Lanes::add(sums[2][v], sums[3][v]));
        Lanes::store_first(x + at, count, Lanes::add(Lanes::load_first(x + at, count), sum));
      }
      w += terms * kProductLanes;
    }
  }

  // The variance is the mean of (x - mean)^2: the mean of x^2 minus mean^2 would cancel.
  BINHDAN_INLINE void layer_norm(float* out, const float* x, const float* weight, const float* bias,
                                 int64_t n, float eps) {
    const auto size = static_cast<float>(n);
    RowSum sums;
    each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      V& sum = sums.at(i);
      sum = Lanes::add(sum, Lanes::load_first(x + i, count));
    });
    const float mean = sums.total() / size;
    RowSum squares;
    each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      const V centred = Lanes::sub(Lanes::load_first(x + i, count), Lanes::broadcast(mean));
      const V inside = Lanes::within(centred, 0, count, 0.0f);
      V& sum = squares.at(i);
      sum = Lanes::fma(inside, inside, sum);
    });
    const float variance = squares.total() / size;
    const V factor = Lanes::broadcast(1.0f / Lanes::square_root(variance + eps));
    each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
      const V centred = Lanes::sub(Lanes::load_first(x + i, count), Lanes::broadcast(mean));
      V y = Lanes::mul(Lanes::mul(centred, factor), Lanes::load_first(weight + i, count));
      if (bias) y = Lanes::add(y, Lanes::load_first(bias + i, count));
      Lanes::store_first(out + i, count, y);
    });
  }
};

}  // namespace
}  // namespace binhdan
