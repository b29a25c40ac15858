// Into Q8_0 pages, for every table: a token's few thousand elements are nothing beside its products.
#include "kernels/kv_q8.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/half.h"
#include "kernels/scalar/functions.h"

namespace binhdan::scalar {
namespace {

struct Block {
  int8_t codes[kKvBlock];
  uint16_t scale;  // float16
};

// scale = max|x| / 127 rounded up, so that no code leaves [-127, 127] and no element is off by more than half
// of it; code = x / scale, to nearest even. Where an element is infinite or NaN, the scale is NaN, so that the
// fault is seen in the output.
Block quantize(const float* x, int64_t n) {
  float padded[kKvBlock] = {};
  std::copy_n(x, n, padded);
  int32_t top = 0;  // as bits, which are ordered as magnitudes are
  for (const float value : padded) top = std::max(top, std::bit_cast<int32_t>(value) & 0x7fffffff);
  Block block{};
  if (top >= 0x7f800000) {
    block.scale = 0x7e00;
    return block;
  }
  const float wanted = std::bit_cast<float>(top) / 127.0f;
  block.scale = f32_to_f16(wanted);
  if (f16_to_f32(block.scale) < wanted) ++block.scale;
  if (block.scale == 0) return block;
  const float inverse = 1.0f / f16_to_f32(block.scale);
  constexpr float kShifter = 0x1.8p23f;  // after adding it, the low bits are the rounded number
  for (int i = 0; i < kKvBlock; ++i)
    block.codes[i] = static_cast<int8_t>(std::bit_cast<int32_t>(padded[i] * inverse + kShifter));
  return block;
}

template <typename Put>
void each_block(const float* x, int64_t head_dim, const Put& put) {
  for (int64_t d = 0; d < head_dim; d += kKvBlock) put(d, quantize(x + d, std::min(kKvBlock, head_dim - d)));
}

}  // namespace

void store_key_q8(void* page, int64_t head_dim, int64_t token, const float* k) {
  const Q8Page<int8_t, uint16_t> into(static_cast<int8_t*>(page), head_dim);
  each_block(k, head_dim, [&](int64_t d, const Block& block) {
    for (int64_t i = 0; i < kKvBlock; ++i) into.keys[(d + i) * kKvPageTokens + token] = block.codes[i];
    into.key_scales[d / kKvBlock * kKvPageTokens + token] = block.scale;
  });
}

void store_value_q8(void* page, int64_t head_dim, int64_t token, const float* v) {
  const Q8Page<int8_t, uint16_t> into(static_cast<int8_t*>(page), head_dim);
  each_block(v, head_dim, [&](int64_t d, const Block& block) {
    std::memcpy(into.values + token * into.width + d, block.codes, sizeof block.codes);
    into.value_scales[d / kKvBlock * kKvPageTokens + token] = block.scale;
  });
}

}  // namespace binhdan::scalar
