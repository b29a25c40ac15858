// One page of keys and values for the query heads that share it.
//
// K and V are float16; vcvtph2ps (1 or 2 uops) makes eight float32 of them. The heads go in threes, which
// share every converted vector: K times two tokens by three heads, V times three heads by 32 columns keep 12
// sums in registers. The page (16 KiB for 64 tokens of 64) comes from memory for the first three heads and
// from the cache for the rest.
//
// Against scalar: scores and values are summed in the same order, with FMA; exp_lanes is within 1 ulp; the
// weights of a page are summed in eight lanes. That is 1e-6 of the largest |term|, and what e^x makes of it:
// 1e-5 of an output.
#include "kernels/avx2.h"

namespace binhdan::avx2 {
namespace {

constexpr int kLanes = 8;

// Rows of scores, kKvPageTokens apart: q[h] . k[t] for H heads and T tokens, summed as kernels.h states.
template <int H, int T>
BINHDAN_INLINE void score_tile(float* scores, const float* q, const uint16_t* k, int64_t dim) {
  __m256 sums[H][T][2];
#pragma GCC unroll 8
  for (int h = 0; h < H; ++h)
    for (int t = 0; t < T; ++t) sums[h][t][0] = sums[h][t][1] = _mm256_setzero_ps();
  int64_t d = 0;
  for (; d + 2 * kLanes <= dim; d += 2 * kLanes)
#pragma GCC unroll 2
    for (int part = 0; part < 2; ++part)
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const __m256 key = load_f16(k + t * dim + d + part * kLanes);
#pragma GCC unroll 8
        for (int h = 0; h < H; ++h)
          sums[h][t][part] =
              _mm256_fmadd_ps(_mm256_loadu_ps(q + h * dim + d + part * kLanes), key, sums[h][t][part]);
      }
  if (d < dim)
    for (int t = 0; t < T; ++t)
      for (int h = 0; h < H; ++h)
        sums[h][t][0] =
            _mm256_fmadd_ps(_mm256_loadu_ps(q + h * dim + d), load_f16(k + t * dim + d), sums[h][t][0]);
#pragma GCC unroll 8
  for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) scores[h * kKvPageTokens + t] = fold(sums[h][t][0], sums[h][t][1]);
}

// Turns the scores of n tokens into weights e^(s - m'), updates m and l, and returns what to scale acc with.
BINHDAN_INLINE float softmax_step(float* scores, int64_t n, float& m, float& l) {
  const int64_t padded = (n + kLanes - 1) / kLanes * kLanes;
  for (int64_t j = n; j < padded; ++j) scores[j] = -__builtin_inff();
  float top = m;
  for (int64_t j = 0; j < n; ++j) top = scores[j] > top ? scores[j] : top;
  const float keep = _mm256_cvtss_f32(exp_lanes(_mm256_set1_ps(m - top)));
  __m256 sum = _mm256_setzero_ps();
  for (int64_t j = 0; j < padded; j += kLanes) {
    const __m256 p = exp_lanes(_mm256_sub_ps(_mm256_loadu_ps(scores + j), _mm256_set1_ps(top)));
    _mm256_storeu_ps(scores + j, p);
    sum = _mm256_add_ps(sum, p);
  }
  l = l * keep + fold(sum, _mm256_setzero_ps());
  m = top;
  return keep;
}

// acc[h] = acc[h] keep[h] + sum over j of weights[h][j] v[j], for C vectors of columns.
template <int H, int C>
BINHDAN_INLINE void value_tile(float* acc, const float (*weights)[kKvPageTokens], const float* keep,
                               const uint16_t* v, int64_t n, int64_t dim) {
  __m256 sums[H][C];
#pragma GCC unroll 8
  for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
      sums[h][c] = _mm256_mul_ps(_mm256_loadu_ps(acc + h * dim + c * kLanes), _mm256_set1_ps(keep[h]));
  for (int64_t j = 0; j < n; ++j, v += dim) {
    __m256 weight[H];
#pragma GCC unroll 8
    for (int h = 0; h < H; ++h) weight[h] = _mm256_set1_ps(weights[h][j]);
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const __m256 value = load_f16(v + c * kLanes);
#pragma GCC unroll 8
      for (int h = 0; h < H; ++h) sums[h][c] = _mm256_fmadd_ps(weight[h], value, sums[h][c]);
    }
  }
#pragma GCC unroll 8
  for (int h = 0; h < H; ++h)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) _mm256_storeu_ps(acc + h * dim + c * kLanes, sums[h][c]);
}

// H query heads, the first of them `head`.
template <int H>
BINHDAN_INLINE void attend(const AttentionArgs& args, int64_t head) {
  constexpr int kTokens = 6 / H;
  const int64_t dim = args.head_dim;
  const float* q = args.q + head * dim;
  float* acc = args.acc + head * dim;
  float scores[H][kKvPageTokens];
  float keep[H];
  int64_t j = 0;
  for (; j + kTokens <= args.n; j += kTokens) score_tile<H, kTokens>(scores[0] + j, q, args.k + j * dim, dim);
  for (; j < args.n; ++j) score_tile<H, 1>(scores[0] + j, q, args.k + j * dim, dim);
  for (int h = 0; h < H; ++h) keep[h] = softmax_step(scores[h], args.n, args.m[head + h], args.l[head + h]);
  int64_t d = 0;
  for (; d + 4 * kLanes <= dim; d += 4 * kLanes)
    value_tile<H, 4>(acc + d, scores, keep, args.v + d, args.n, dim);
  for (; d < dim; d += kLanes) value_tile<H, 1>(acc + d, scores, keep, args.v + d, args.n, dim);
}

}  // namespace

void attention(const AttentionArgs& args) {
  int64_t head = 0;
  for (; head + 3 <= args.heads; head += 3) attend<3>(args, head);
  if (head + 2 == args.heads) attend<2>(args, head);
  if (head + 1 == args.heads) attend<1>(args, head);
}

}  // namespace binhdan::avx2
