// Helpers for 512-bit registers.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "kernels/inline.h"

namespace binhdan {
namespace {

// The first n of 16 lanes: none for n <= 0, all for n >= 16.
BINHDAN_INLINE __mmask16 lane_mask(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : n > 0 ? (1 << n) - 1 : 0);
}

}  // namespace
}  // namespace binhdan
