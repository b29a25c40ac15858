// A KV head's page of kKvPageTokens positions in Q8_0. Quants and scales are in separate arrays, so that both
// are read as contiguous vectors. width is head_dim rounded up to a multiple of 32; the padding is zero.
//
//     int8   keys          (width, kKvPageTokens)       transposed, as in float16 pages: lanes are positions
//     int8   values        (kKvPageTokens, width)
//     f16    key scales    (width / 32, kKvPageTokens)  of 32 elements of one position
//     f16    value scales  (width / 32, kKvPageTokens)
//
// An element is quant * scale, exact in float32 (7 + 11 bits); kernels compute with this value.
#pragma once
#include <cstdint>

#include "kernels/inline.h"
#include "kernels/kernels.h"

namespace binhdan {
namespace {

constexpr int64_t kKvBlock = 32;

BINHDAN_INLINE int64_t kv_width(int64_t head_dim) {
  return (head_dim + kKvBlock - 1) / kKvBlock * kKvBlock;
}

// Quant and Scale are int8_t and uint16_t, const or not.
template <class Quant, class Scale>
struct Q8Page {
  int64_t width;
  Quant *keys, *values;
  Scale *key_scales, *value_scales;

  [[gnu::always_inline]] Q8Page(Quant* page, int64_t head_dim)
      : width(kv_width(head_dim)),
        keys(page),
        values(keys + width * kKvPageTokens),
        key_scales(reinterpret_cast<Scale*>(values + width * kKvPageTokens)),
        value_scales(key_scales + width / kKvBlock * kKvPageTokens) {}
};

}  // namespace
}  // namespace binhdan
