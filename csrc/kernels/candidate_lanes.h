// The loops of KernelTable::candidates: one candidate in each lane. The operations are those of single floats
// in order, and the build forbids contraction, so all tables compute the same bits.
#pragma once
#include "kernels/inline.h"
#include "kernels/kernels.h"

namespace binhdan {
namespace {

// A vector of kWidth floats, 4 to 16; GCC and Clang select the instructions.
template <int kWidth>
struct CandidateLanes {
  typedef float Vector __attribute__((vector_size(kWidth * sizeof(float))));
  static constexpr int kParts = kCandidates / kWidth;

  struct Lanes {
    Vector part[kParts];
    [[gnu::always_inline]] Lanes() : part{} {}
    [[gnu::always_inline]] explicit Lanes(const Candidates& from) {
      __builtin_memcpy(part, from.lane, sizeof part);
    }
    [[gnu::always_inline]] void store(Candidates& to) const { __builtin_memcpy(to.lane, part, sizeof part); }
  };

  BINHDAN_INLINE Vector quant(const RoundingRule& rule, Vector y) {
    const Vector zero{};
    if (rule.steps == 0) {  // clamp, NaN to low; then the sum has no bits for a fraction, ties to even
      const Vector low = rule.low - zero, high = rule.high - zero, magic = 0x1.8p23f - zero;
      y = y > low ? y : low;
      y = y < high ? y : high;
      return (y + magic) - magic;
    }
    Vector value = rule.low - zero;
    for (int i = 0; i < rule.steps; ++i) value += y > rule.middle[i] - zero ? rule.step[i] - zero : zero;
    return value;
  }

  template <bool line>
  BINHDAN_INLINE void sums(CandidateSums& out, const CandidateArgs& args) {
    const RoundingRule rule = args.rule;
    const Lanes inverses(args.inverses);
    const Lanes shifts = line ? Lanes(args.shifts) : Lanes();
    Lanes qx, qq, q;
    for (int64_t j = 0; j < args.n; ++j) {
      const float x = line ? args.x[j] - args.base : args.x[j], w = args.w[j];
      for (int i = 0; i < kParts; ++i) {
        Vector y = x * inverses.part[i];
        if constexpr (line) y += shifts.part[i];
        const Vector quants = quant(rule, y), wq = w * quants;
        qx.part[i] += wq * x;
        qq.part[i] += wq * quants;
        if constexpr (line) q.part[i] += wq;
      }
    }
    qx.store(out.qx);
    qq.store(out.qq);
    if constexpr (line) q.store(out.q);
  }

  template <bool line>
  BINHDAN_INLINE void errors(Candidates& out, const CandidateArgs& args) {
    const RoundingRule rule = args.rule;
    const Lanes inverses(args.inverses), scales(args.scales);
    const Lanes minima = line ? Lanes(args.shifts) : Lanes();
    Lanes sum;
    for (int64_t j = 0; j < args.n; ++j) {
      const float x = args.x[j], w = args.w[j];
      for (int i = 0; i < kParts; ++i) {
        const Vector moved = line ? x + minima.part[i] : x - Vector{};
        const Vector rest = moved - scales.part[i] * quant(rule, moved * inverses.part[i]);
        sum.part[i] += w * (rest * rest);
      }
    }
    sum.store(out);
  }
};

}  // namespace
}  // namespace binhdan
