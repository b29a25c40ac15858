// Loops for KernelTable::peak: independent chains of multiply-adds in registers, enough of them to hide the
// latency (Intel since Skylake: 4 cycles for an FMA, 5 for an integer product, on two ports).
#pragma once
#include <cstdint>

#include "kernels/inline.h"

#if defined(__aarch64__)
#define BINHDAN_VECTOR_REGISTER "+w"
#else
#define BINHDAN_VECTOR_REGISTER "+x"
#endif

namespace binhdan {
namespace {

// sum = step(sum, a), `rounds` times for each of kChains sums.
template <int kChains, class V, class Step>
BINHDAN_INLINE void run_chains(int64_t rounds, V a, Step step) {
  V sums[kChains] = {};
  for (int64_t i = 0; i < rounds; ++i)
    for (V& sum : sums) {
      asm volatile(""
                   : BINHDAN_VECTOR_REGISTER(
                       a));  // hides that `a` is constant, so that no operation moves out of the loop
      sum = step(sum, a);
    }
  for (V& sum : sums) asm volatile("" : BINHDAN_VECTOR_REGISTER(sum));
}

}  // namespace
}  // namespace binhdan
