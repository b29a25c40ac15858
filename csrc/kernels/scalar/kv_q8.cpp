// Stores keys and values in Q8_0 pages, for every table: a small cost beside the products of the same token.
#include "kernels/kv_q8.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/half.h"
#include "kernels/scalar/functions.h"

namespace binhdan::scalar {
namespace {

struct Block {
  int8_t quants[kKvBlock];
  uint16_t scale;  // float16
};

// scale = max|x| / 127 rounded up, so that quants stay in [-127, 127] and errors within half of the scale;
// quant = x / scale, rounded to nearest even. If an element is infinite or NaN, the scale is NaN, so that the
// output becomes NaN.
Block quantize(const float* x, int64_t n) {
  float padded[kKvBlock] = {};
  std::copy_n(x, n, padded);
  int32_t top = 0;  // bits of max|x|: bits of magnitudes have the order of the magnitudes
  for (const float value : padded) top = std::max(top, std::bit_cast<int32_t>(value) & 0x7fffffff);
  Block block{};
  if (top >= 0x7f800000) {
    block.scale = 0x7e00;
    return block;
  }
  const float exact = std::bit_cast<float>(top) / 127.0f;
  block.scale = f32_to_f16(exact);
  if (f16_to_f32(block.scale) < exact) ++block.scale;
  if (block.scale == 0) return block;
  const float inverse = 1.0f / f16_to_f32(block.scale);
  constexpr float kShifter = 0x1.8p23f;  // after its addition the low bits are the rounded number
  for (int i = 0; i < kKvBlock; ++i)
    block.quants[i] = static_cast<int8_t>(std::bit_cast<int32_t>(padded[i] * inverse + kShifter));
  return block;
}

template <typename Store>
void each_block(const float* x, int64_t head_dim, const Store& store) {
  for (int64_t d = 0; d < head_dim; d += kKvBlock)
    store(d, quantize(x + d, std::min(kKvBlock, head_dim - d)));
}

}  // namespace

void store_key_q8(void* page, int64_t head_dim, int64_t token, const float* k) {
  const Q8Page<int8_t, uint16_t> into(static_cast<int8_t*>(page), head_dim);
  each_block(k, head_dim, [&](int64_t d, const Block& block) {
    for (int64_t i = 0; i < kKvBlock; ++i) into.keys[(d + i) * kKvPageTokens + token] = block.quants[i];
    into.key_scales[d / kKvBlock * kKvPageTokens + token] = block.scale;
  });
}

void store_value_q8(void* page, int64_t head_dim, int64_t token, const float* v) {
  const Q8Page<int8_t, uint16_t> into(static_cast<int8_t*>(page), head_dim);
  each_block(v, head_dim, [&](int64_t d, const Block& block) {
    std::memcpy(into.values + token * into.width + d, block.quants, sizeof block.quants);
    into.value_scales[d / kKvBlock * kKvPageTokens + token] = block.scale;
  });
}

}  // namespace binhdan::scalar
