// The gated delta rule as DeltaRuleArgs states it, row by row: the reference for faster tables.
#include <cmath>

#include "kernels/scalar/functions.h"

namespace binhdan::scalar {
namespace {

// out = S^T x
void multiply(float* out, const float* state, const float* x, int64_t key_dim, int64_t value_dim) {
  for (int64_t e = 0; e < value_dim; ++e) out[e] = 0;
  for (int64_t d = 0; d < key_dim; ++d)
    for (int64_t e = 0; e < value_dim; ++e) out[e] += x[d] * state[d * value_dim + e];
}

}  // namespace

void delta_step(const DeltaRuleArgs& args) {
  auto* delta = static_cast<float*>(args.scratch);
  for (int64_t i = 0; i < args.rows; ++i) {
    const float *k = args.k + i * args.qk_stride, *v = args.v + i * args.v_stride;
    const float factor = std::exp(args.decay[i * args.gate_stride]), beta = args.beta[i * args.gate_stride];
    for (int64_t j = 0; j < args.key_dim * args.value_dim; ++j) args.state[j] *= factor;
    multiply(delta, args.state, k, args.key_dim, args.value_dim);
    for (int64_t e = 0; e < args.value_dim; ++e) delta[e] = beta * (v[e] - delta[e]);
    for (int64_t d = 0; d < args.key_dim; ++d)
      for (int64_t e = 0; e < args.value_dim; ++e) args.state[d * args.value_dim + e] += k[d] * delta[e];
    multiply(args.out + i * args.out_stride, args.state, args.q + i * args.qk_stride, args.key_dim,
             args.value_dim);
  }
}

}  // namespace binhdan::scalar
