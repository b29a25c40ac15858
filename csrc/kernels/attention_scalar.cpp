#include <algorithm>
#include <cmath>

#include "base/half.h"
#include "kernels/dot_scalar.h"
#include "kernels/scalar.h"

namespace binhdan::scalar {
namespace {

void attend(const AttentionArgs& args, const float* q, float& m, float& l, float* acc) {
  const int64_t dim = args.head_dim;
  float score[kKvPageTokens];
  float top = m;
  for (int64_t j = 0; j < args.n; ++j) {
    score[j] = dot(q, args.k + j * dim, dim);
    top = std::max(top, score[j]);
  }
  const float keep = std::exp(m - top);
  l *= keep;
  for (int64_t i = 0; i < dim; ++i) acc[i] *= keep;
  for (int64_t j = 0; j < args.n; ++j) {
    const float p = std::exp(score[j] - top);
    const uint16_t* v = args.v + j * dim;
    l += p;
    for (int64_t i = 0; i < dim; ++i) acc[i] += p * f16_to_f32(v[i]);
  }
  m = top;
}

}  // namespace

void attention(const AttentionArgs& args) {
  for (int64_t head = 0; head < args.heads; ++head)
    attend(args, args.q + head * args.head_dim, args.m[head], args.l[head], args.acc + head * args.head_dim);
}

}  // namespace binhdan::scalar
