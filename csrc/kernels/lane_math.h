// Exponentials and the nonlinear functions of models, for any width of vector. Lanes: see vector_lanes.h.
//
// Relative errors, in units of 2^-24 (half an ulp, or less): exp 2, tanh 5, quotient 3, silu, sigmoid, gelu 8.
// gelu_tanh has 8 + 8 |u| for negative u, because the exponential multiplies the error of u. Results below the
// smallest normal number (2^-126) may become 0.
#pragma once
#include "kernels/inline.h"
#include "kernels/kernels.h"

namespace binhdan {
namespace {

// e^x = 2^n e^r with |r| <= ln 2 / 2, and e^r = 1 + r p. p minimizes the relative error of e^r (3e-9). ln 2 is
// the sum of two constants, so that n ln 2 is exact enough.
template <class Lanes>
struct ReducedExp {
  using V = typename Lanes::V;
  V n, r, p;

  [[gnu::always_inline]] explicit ReducedExp(V x) {
    n = Lanes::round(Lanes::mul(x, Lanes::broadcast(0x1.715476p+0f)));
    r = Lanes::fma(n, Lanes::broadcast(-0x1.63p-1f), x);
    r = Lanes::fma(n, Lanes::broadcast(0x1.bd0106p-13f), r);
    p = Lanes::broadcast(0x1.6a23d6p-10f);
    p = Lanes::fma(p, r, Lanes::broadcast(0x1.123a2p-7f));
    p = Lanes::fma(p, r, Lanes::broadcast(0x1.5558f2p-5f));
    p = Lanes::fma(p, r, Lanes::broadcast(0x1.555492p-3f));
    p = Lanes::fma(p, r, Lanes::broadcast(0x1.fffffcp-2f));
    p = Lanes::fma(p, r, Lanes::broadcast(1.0f));
  }
};

template <class Lanes>
BINHDAN_INLINE typename Lanes::V negate(typename Lanes::V x) {
  return Lanes::sub(Lanes::zero(), x);
}

// (e^y - 1) / (e^y + 1) with y = 2 |x|; e^y - 1 = 2^n r p + (2^n - 1) has no cancellation. From |x| = 10 on the
// result is 1.
template <class Lanes>
BINHDAN_INLINE typename Lanes::V tanh(typename Lanes::V x) {
  const auto size = Lanes::min(Lanes::broadcast(10.0f), Lanes::magnitude(x));
  const ReducedExp<Lanes> e(Lanes::add(size, size));
  const auto power = Lanes::power_of_2(e.n);
  const auto below = Lanes::fma(power, Lanes::mul(e.r, e.p), Lanes::sub(power, Lanes::broadcast(1.0f)));
  return Lanes::with_sign_of(x, Lanes::quotient(below, Lanes::add(below, Lanes::broadcast(2.0f))));
}

template <class Lanes>
BINHDAN_INLINE typename Lanes::V one_plus_exp(typename Lanes::V x) {
  return Lanes::add(Lanes::broadcast(1.0f), Lanes::exp(x));
}

// Phi(-a) for 0 <= a <= 15: e^(-a^2 / 2) times t P(t) with t = 1 / (1 + 0.35 a), where P minimizes the relative
// error (4e-8). a^2 is the sum of two floats, because the exponential multiplies an absolute error.
template <class Lanes>
BINHDAN_INLINE typename Lanes::V normal_tail(typename Lanes::V a) {
  const auto t =
      Lanes::quotient(Lanes::broadcast(1.0f), Lanes::fma(a, Lanes::broadcast(0.35f), Lanes::broadcast(1.0f)));
  auto p = Lanes::broadcast(-0.029128351f);
  p = Lanes::fma(p, t, Lanes::broadcast(0.14388406f));
  p = Lanes::fma(p, t, Lanes::broadcast(-0.25552834f));
  p = Lanes::fma(p, t, Lanes::broadcast(0.15895553f));
  p = Lanes::fma(p, t, Lanes::broadcast(-0.022954458f));
  p = Lanes::fma(p, t, Lanes::broadcast(0.1054399f));
  p = Lanes::fma(p, t, Lanes::broadcast(0.1198508f));
  p = Lanes::fma(p, t, Lanes::broadcast(0.13985929f));
  p = Lanes::fma(p, t, Lanes::broadcast(0.13962156f));
  const auto square = Lanes::mul(a, a), rest = Lanes::fma(a, a, negate<Lanes>(square));
  const auto minus_half = Lanes::broadcast(-0.5f);
  const auto e = Lanes::exp(Lanes::mul(minus_half, square));
  return Lanes::mul(Lanes::fma(Lanes::mul(minus_half, rest), e, e), Lanes::mul(t, p));
}

template <Nonlinearity f, class Lanes>
BINHDAN_INLINE typename Lanes::V nonlinear(typename Lanes::V x) {
  if constexpr (f == Nonlinearity::silu) {
    return Lanes::quotient(x, one_plus_exp<Lanes>(negate<Lanes>(x)));
  } else if constexpr (f == Nonlinearity::gelu_tanh) {  // -2 u = x (b + c x^2)
    const auto b = Lanes::broadcast(-1.5957691216057308f), c = Lanes::broadcast(-0.07135481282553485f);
    return Lanes::quotient(x, one_plus_exp<Lanes>(Lanes::mul(x, Lanes::fma(c, Lanes::mul(x, x), b))));
  } else if constexpr (f == Nonlinearity::gelu) {
    const auto tail = normal_tail<Lanes>(Lanes::min(Lanes::broadcast(15.0f), Lanes::magnitude(x)));
    return Lanes::mul(x, Lanes::if_negative(x, tail, Lanes::sub(Lanes::broadcast(1.0f), tail)));
  } else if constexpr (f == Nonlinearity::relu2) {
    const auto positive = Lanes::max(Lanes::zero(), x);
    return Lanes::mul(positive, positive);
  } else {
    static_assert(f == Nonlinearity::sigmoid);
    return Lanes::quotient(Lanes::broadcast(1.0f), one_plus_exp<Lanes>(negate<Lanes>(x)));
  }
}

}  // namespace
}  // namespace binhdan
