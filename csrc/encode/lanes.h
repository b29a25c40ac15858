// Sixteen floats, one for each candidate of a search. The operations are those of one float, and the build
// forbids contraction, so every processor and every width of vector computes the same bits.
#pragma once
#include "kernels/inline.h"

namespace binhdan::encode {
namespace {

constexpr int kLanes = 16;

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
typedef float Vector __attribute__((vector_size(kWidth * 4)));

struct Lanes {
  static constexpr int kParts = kLanes / kWidth;
  Vector part[kParts];

  float operator[](int lane) const { return part[lane / kWidth][lane % kWidth]; }
  void set(int lane, float x) { part[lane / kWidth][lane % kWidth] = x; }
};

BINHDAN_INLINE Lanes broadcast(float x) {
  Lanes out;
  for (Vector& part : out.part) part = x - Vector{};
  return out;
}

// Part by part: function(part of a, part of b).
template <class Function>
BINHDAN_INLINE Lanes map(const Lanes& a, const Lanes& b, Function function) {
  Lanes out;
  for (int i = 0; i < Lanes::kParts; ++i) out.part[i] = function(a.part[i], b.part[i]);
  return out;
}

BINHDAN_INLINE Lanes operator+(const Lanes& a, const Lanes& b) {
  return map(a, b, [](Vector x, Vector y) { return x + y; });
}
BINHDAN_INLINE Lanes operator-(const Lanes& a, const Lanes& b) {
  return map(a, b, [](Vector x, Vector y) { return x - y; });
}
BINHDAN_INLINE Lanes operator*(const Lanes& a, const Lanes& b) {
  return map(a, b, [](Vector x, Vector y) { return x * y; });
}
BINHDAN_INLINE Lanes operator/(const Lanes& a, const Lanes& b) {
  return map(a, b, [](Vector x, Vector y) { return x / y; });
}
// The second operand if one of them is NaN.
BINHDAN_INLINE Lanes max(const Lanes& a, const Lanes& b) {
  return map(a, b, [](Vector x, Vector y) { return x > y ? x : y; });
}
BINHDAN_INLINE Lanes min(const Lanes& a, const Lanes& b) {
  return map(a, b, [](Vector x, Vector y) { return x < y ? x : y; });
}
// `then` where a > b, else `otherwise`.
BINHDAN_INLINE Lanes if_greater(const Lanes& a, const Lanes& b, const Lanes& then, const Lanes& otherwise) {
  Lanes out;
  for (int i = 0; i < Lanes::kParts; ++i)
    out.part[i] = a.part[i] > b.part[i] ? then.part[i] : otherwise.part[i];
  return out;
}
// The nearest integer, ties to even, for |x| < 2^22: the sum has no bits for a fraction.
BINHDAN_INLINE Lanes round(const Lanes& x) {
  const Lanes magic = broadcast(0x1.8p23f);
  return (x + magic) - magic;
}

// first + step * lane
BINHDAN_INLINE Lanes ramp(float first, float step) {
  Lanes out;
  for (int lane = 0; lane < kLanes; ++lane) out.set(lane, first + step * static_cast<float>(lane));
  return out;
}

// The first lane with the largest or smallest value, without regard to NaN. 0 if all are NaN.
BINHDAN_INLINE int argmax(const Lanes& x) {
  int best = 0;
  for (int lane = 1; lane < kLanes; ++lane)
    if (x[lane] > x[best] || x[best] != x[best]) best = lane;
  return best;
}
BINHDAN_INLINE int argmin(const Lanes& x) {
  return argmax(broadcast(0.0f) - x);
}

}  // namespace
}  // namespace binhdan::encode
