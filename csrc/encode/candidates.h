// Arithmetic on sixteen candidates (kernels/kernels.h), for the parts of the search outside of the kernels.
#pragma once
#include "kernels/kernels.h"

namespace binhdan::encode {

template <class Function>
Candidates map(const Candidates& a, const Candidates& b, Function function) {
  Candidates out;
  for (int i = 0; i < kCandidates; ++i) out.lane[i] = function(a.lane[i], b.lane[i]);
  return out;
}

inline Candidates broadcast(float x) {
  Candidates out;
  for (float& lane : out.lane) lane = x;
  return out;
}
inline Candidates operator+(const Candidates& a, const Candidates& b) {
  return map(a, b, [](float x, float y) { return x + y; });
}
inline Candidates operator-(const Candidates& a, const Candidates& b) {
  return map(a, b, [](float x, float y) { return x - y; });
}
inline Candidates operator*(const Candidates& a, const Candidates& b) {
  return map(a, b, [](float x, float y) { return x * y; });
}
inline Candidates operator/(const Candidates& a, const Candidates& b) {
  return map(a, b, [](float x, float y) { return x / y; });
}
// The second operand if one of them is NaN.
inline Candidates min(const Candidates& a, const Candidates& b) {
  return map(a, b, [](float x, float y) { return x < y ? x : y; });
}
// `then` where a > b, else `otherwise`.
inline Candidates if_greater(const Candidates& a, const Candidates& b, const Candidates& then,
                             const Candidates& otherwise) {
  Candidates out;
  for (int i = 0; i < kCandidates; ++i)
    out.lane[i] = a.lane[i] > b.lane[i] ? then.lane[i] : otherwise.lane[i];
  return out;
}
// first + step * lane
inline Candidates ramp(float first, float step) {
  Candidates out;
  for (int i = 0; i < kCandidates; ++i) out.lane[i] = first + step * static_cast<float>(i);
  return out;
}

// The sum, maximum … of the lanes: lane i with lane i + half, and so on. A template, so that every loop has a
// constant length.
template <int half = kCandidates / 2, class Function>
float fold(Candidates& x, Function function) {
  for (int i = 0; i < half; ++i) x.lane[i] = function(x.lane[i], x.lane[i + half]);
  if constexpr (half > 1)
    return fold<half / 2>(x, function);
  else
    return x.lane[0];
}
// The largest value that is greater than `least`, or `least`. NaN does not count.
inline float largest(const Candidates& x, float least) {
  Candidates known = map(x, x, [=](float a, float) { return a > least ? a : least; });
  return fold(known, [](float a, float b) { return a > b ? a : b; });
}
// The first lane with a value of at least `enough`; the last one if there is none.
inline int first_lane(const Candidates& x, float enough) {
  int lane = 0;
  while (lane + 1 < kCandidates && !(x.lane[lane] >= enough)) ++lane;
  return lane;
}
// The first lane with the smallest value.
inline int argmin(const Candidates& x) {
  const Candidates negative = broadcast(0.0f) - x;
  return first_lane(negative, largest(negative, -0x1p127f));
}

}  // namespace binhdan::encode
