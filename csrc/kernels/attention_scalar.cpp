#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "kernels/scalar.h"

namespace binhdan::scalar {
namespace {

// One head folds the first n positions of a page.
void fold_page(const float* q, const uint16_t* page, int64_t n, int64_t dim, float& m, float& l, float* acc) {
  float weight[kKvPageTokens] = {};  // first the scores
  for (int64_t d = 0; d < dim; ++d)
    for (int64_t j = 0; j < n; ++j) weight[j] += q[d] * f16_to_f32(page[d * kKvPageTokens + j]);

  const float top = std::max(m, std::ceil(*std::max_element(weight, weight + n)));
  const float keep = std::exp2(m - top);
  m = top;
  l *= keep;
  for (int64_t d = 0; d < dim; ++d) acc[d] *= keep;
  for (int64_t j = 0; j < n; ++j) {
    const float p = std::exp2(weight[j] - m);
    const uint16_t* v = page + (kKvPageTokens + j) * dim;
    l += p;
    for (int64_t d = 0; d < dim; ++d) acc[d] += p * f16_to_f32(v[d]);
  }
}

}  // namespace

void store_key(uint16_t* page, int64_t head_dim, int64_t token, const float* k) {
  for (int64_t d = 0; d < head_dim; ++d) page[d * kKvPageTokens + token] = f32_to_f16(k[d]);
}

void store_value(uint16_t* page, int64_t head_dim, int64_t token, const float* v) {
  to_f16(page + (kKvPageTokens + token) * head_dim, v, head_dim);
}

void attention(const AttentionArgs& args) {
  const int64_t dim = args.head_dim;
  for (int64_t i = 0; i < args.rows; ++i) {
    const int64_t seen = std::min<int64_t>(args.visible + i, kSplitTokens);
    for (int64_t h = 0; h < args.heads; ++h) {
      const int64_t at = i * args.heads + h;
      args.m[at] = -std::numeric_limits<float>::infinity();
      args.l[at] = 0;
      std::fill_n(args.acc + at * dim, dim, 0.0f);
      for (int64_t begin = 0; begin < seen; begin += kKvPageTokens)
        fold_page(args.q + i * args.q_stride + h * dim, args.pages[begin / kKvPageTokens],
                  std::min<int64_t>(kKvPageTokens, seen - begin), dim, args.m[at], args.l[at],
                  args.acc + at * dim);
    }
  }
}

}  // namespace binhdan::scalar
