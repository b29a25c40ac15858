// Attention as AttentionArgs states it, one query at a time: the reference for faster tables.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "kernels/attention_mask.h"
#include "kernels/kv_q8.h"
#include "kernels/scalar/functions.h"

namespace binhdan::scalar {
namespace {

struct F16Elements {
  const uint16_t *keys, *values;
  int64_t dim;

  F16Elements(const void* page, int64_t head_dim)
      : keys(static_cast<const uint16_t*>(page)), values(keys + kKvPageTokens * head_dim), dim(head_dim) {}
  float key(int64_t j, int64_t d) const { return f16_to_f32(keys[d * kKvPageTokens + j]); }
  float value(int64_t j, int64_t d) const { return f16_to_f32(values[j * dim + d]); }
};

struct Q8Elements {
  Q8Page<const int8_t, const uint16_t> page;

  Q8Elements(const void* data, int64_t head_dim) : page(static_cast<const int8_t*>(data), head_dim) {}
  static float scale(const uint16_t* scales, int64_t j, int64_t d) {
    return f16_to_f32(scales[d / kKvBlock * kKvPageTokens + j]);
  }
  float key(int64_t j, int64_t d) const {
    return static_cast<float>(page.keys[d * kKvPageTokens + j]) * scale(page.key_scales, j, d);
  }
  float value(int64_t j, int64_t d) const {
    return static_cast<float>(page.values[j * page.width + d]) * scale(page.value_scales, j, d);
  }
};

// Accumulates the positions [begin, end) of a page for one query.
template <class Elements>
void accumulate_page(const float* q, const Elements& page, int64_t begin, int64_t end, int64_t dim,
                     float softcap, float& m, float& l, float* acc) {
  float weight[kKvPageTokens] = {};  // holds scores until the last loop
  for (int64_t d = 0; d < dim; ++d)
    for (int64_t j = begin; j < end; ++j) weight[j] += q[d] * page.key(j, d);
  if (softcap > 0)
    for (int64_t j = begin; j < end; ++j) weight[j] = softcap * std::tanh(weight[j] / softcap);

  const float top = std::max(m, std::ceil(*std::max_element(weight + begin, weight + end)));
  const float keep = std::exp2(m - top);
  m = top;
  l *= keep;
  for (int64_t d = 0; d < dim; ++d) acc[d] *= keep;
  for (int64_t j = begin; j < end; ++j) {
    const float p = std::exp2(weight[j] - m);
    l += p;
    for (int64_t d = 0; d < dim; ++d) acc[d] += p * page.value(j, d);
  }
}

template <class Elements>
void run(const AttentionArgs& args) {
  const int64_t dim = args.head_dim;
  for (int64_t i = 0; i < args.rows; ++i)
    for (int64_t h = 0; h < args.heads; ++h) {
      const int64_t at = i * args.heads + h;
      args.m[at] = -std::numeric_limits<float>::infinity();
      args.l[at] = 0;
      std::fill_n(args.acc + at * dim, dim, 0.0f);
      for (int64_t page = 0; page < kSplitPages; ++page) {
        const Positions seen = seen_positions(args, i, page);
        if (seen.empty()) continue;
        accumulate_page(args.q + i * args.q_stride + h * dim, Elements(args.pages[page], dim), seen.begin,
                        seen.end, dim, args.softcap, args.m[at], args.l[at], args.acc + at * dim);
      }
    }
}

}  // namespace

void store_key(void* page, int64_t head_dim, int64_t token, const float* k) {
  auto* keys = static_cast<uint16_t*>(page);
  for (int64_t d = 0; d < head_dim; ++d) keys[d * kKvPageTokens + token] = f32_to_f16(k[d]);
}

void store_value(void* page, int64_t head_dim, int64_t token, const float* v) {
  to_f16(static_cast<uint16_t*>(page) + (kKvPageTokens + token) * head_dim, v, head_dim);
}

void attention(const AttentionArgs& args) {
  run<F16Elements>(args);
}

void attention_q8(const AttentionArgs& args) {
  run<Q8Elements>(args);
}

}  // namespace binhdan::scalar
