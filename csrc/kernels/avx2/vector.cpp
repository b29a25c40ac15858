// Quantization of activations, norms, RoPE, nonlinear and element-wise functions, eight lanes at a time. The
// bits of quantize_q8, rope, add, multiply, scale and to_f16 equal scalar's; the others differ by FMA, the
// order of sums, and the functions of lane_math.h. Rows are in L1: loads and stores limit the speed of most.
//
// Instructions (uops.info, Skylake): vector loads 2 a cycle, stores 1 a cycle; vmulps, vaddps, vfmadd latency
// 4, 2 a cycle; vdivps ymm 1 in 5 cycles; shuffles 1 a cycle (p5).
#include "kernels/avx2/functions.h"
#include "kernels/avx2/lanes.h"
#include "kernels/avx2/math.h"
#include "kernels/avx2/ymm.h"
#include "kernels/vector_lanes.h"

namespace binhdan::avx2 {
namespace {

BINHDAN_INLINE __m256 magnitude(__m256 x) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

// max|x| of 32, not finite if any element is not: bits of magnitudes have the order of integers.
BINHDAN_INLINE float max_magnitude(const __m256 (&x)[4]) {
  const __m256i m01 =
      _mm256_max_epu32(_mm256_castps_si256(magnitude(x[0])), _mm256_castps_si256(magnitude(x[1])));
  const __m256i m23 =
      _mm256_max_epu32(_mm256_castps_si256(magnitude(x[2])), _mm256_castps_si256(magnitude(x[3])));
  const __m256i m = _mm256_max_epu32(m01, m23);
  __m128i top = _mm_max_epu32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
  top = _mm_max_epu32(top, _mm_shuffle_epi32(top, _MM_SHUFFLE(1, 0, 3, 2)));
  top = _mm_max_epu32(top, _mm_shuffle_epi32(top, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtss_f32(_mm_castsi128_ps(top));
}

BINHDAN_INLINE int sum_integers(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(1, 0, 3, 2)));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtsi128_si32(s);
}

BINHDAN_INLINE void quantize_block(BlockQ8A& block, const float* src) {
  __m256 x[4];
  for (int k = 0; k < 4; ++k) x[k] = _mm256_loadu_ps(src + 8 * k);
  const float top = max_magnitude(x);
  const bool finite = top < __builtin_inff();  // false for NaN
  if (!finite || top < 0x1p-120f) {
    block = BlockQ8A{};
    if (!finite) block.d = block.d_sum = __builtin_nanf("");
    return;
  }
  const __m256 inverse = _mm256_set1_ps(127.0f / top);
  __m256i q[4];
  for (int k = 0; k < 4; ++k) q[k] = _mm256_cvtps_epi32(_mm256_mul_ps(x[k], inverse));
  block.d = top / 127.0f;
  block.sum[0] = sum_integers(_mm256_add_epi32(q[0], q[1]));
  block.sum[1] = sum_integers(_mm256_add_epi32(q[2], q[3]));
  block.d_sum = block.d * static_cast<float>(block.sum[0] + block.sum[1]);
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  const __m256i order = _mm256_setr_epi32(
      0, 4, 1, 5, 2, 6, 3, 7);  // undoes the order of the packs, which work within 128-bit halves
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(block.qs), _mm256_permutevar8x32_epi32(bytes, order));
}

// Calls f(i, lanes) for every eight elements, and once for the rest; `lanes` is the number of elements.
template <class F>
BINHDAN_INLINE void each_eight(int64_t n, F f) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) f(i, 8);
  if (i < n) f(i, n - i);
}

// Pairs (2i, 2i + 1), four at a time. Products and sums are rounded separately, as in scalar.
void rope_neighbours(float* x, const float* cos_sin, int64_t dim) {
  each_eight(dim, [&](int64_t i, int64_t lanes) {
    const __m256 pairs = load_first(x + i, lanes), angles = load_first(cos_sin + i, lanes);
    const __m256 swapped = _mm256_permute_ps(pairs, _MM_SHUFFLE(2, 3, 0, 1));
    store_first(x + i, lanes,
                _mm256_addsub_ps(_mm256_mul_ps(pairs, _mm256_moveldup_ps(angles)),
                                 _mm256_mul_ps(swapped, _mm256_movehdup_ps(angles))));
  });
}

// Pairs (i, i + dim/2), eight at a time.
void rope_halves(float* x, const float* cos_sin, int64_t dim) {
  const int64_t half = dim / 2;
  each_eight(half, [&](int64_t i, int64_t lanes) {
    const __m256 a = load_first(cos_sin + 2 * i, 2 * lanes),
                 b = load_first(cos_sin + 2 * i + 8, 2 * lanes - 8);
    const __m256 low = _mm256_permute2f128_ps(a, b, 0x20), high = _mm256_permute2f128_ps(a, b, 0x31);
    const __m256 cos = _mm256_shuffle_ps(low, high, _MM_SHUFFLE(2, 0, 2, 0));
    const __m256 sin = _mm256_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1));
    const __m256 first = load_first(x + i, lanes), second = load_first(x + half + i, lanes);
    store_first(x + i, lanes, _mm256_sub_ps(_mm256_mul_ps(first, cos), _mm256_mul_ps(second, sin)));
    store_first(x + half + i, lanes, _mm256_add_ps(_mm256_mul_ps(first, sin), _mm256_mul_ps(second, cos)));
  });
}

}  // namespace

void quantize_f32(void* dst, const float* x, int64_t n) {
  __builtin_memcpy(dst, x, static_cast<size_t>(n) * 4);
}

void quantize_q8(void* dst, const float* x, int64_t n) {
  auto* blocks = static_cast<BlockQ8A*>(dst);
  for (int64_t i = 0; i < n / 32; ++i) quantize_block(blocks[i], x + 32 * i);
}

void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps) {
  __m256 squares[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  each_eight(n, [&](int64_t i, int64_t lanes) {
    const __m256 v = load_first(x + i, lanes);
    __m256& sum = squares[i / 8 % 2];
    sum = _mm256_fmadd_ps(v, v, sum);
  });
  const float mean = sum_lanes(squares[0], squares[1]) / static_cast<float>(n);
  const float factor = 1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps)));
  each_eight(n, [&](int64_t i, int64_t lanes) {
    __m256 y = _mm256_mul_ps(load_first(x + i, lanes), _mm256_set1_ps(factor));
    if (weight) y = _mm256_mul_ps(y, load_first(weight + i, lanes));
    store_first(out + i, lanes, y);
  });
}

void rope(float* x, const float* cos_sin, int64_t dim, bool neox) {
  neox ? rope_halves(x, cos_sin, dim) : rope_neighbours(x, cos_sin, dim);
}

void layer_norm(float* out, const float* x, const float* weight, const float* bias, int64_t n, float eps) {
  VectorLanes<Lanes>::layer_norm(out, x, weight, bias, n, eps);
}

// Specializations, because an instantiation would be a weak symbol (.ci/check_objects.py).
#define APPLY(f)                                                          \
  template <>                                                             \
  void apply<Nonlinearity::f>(float* x, const float* factor, int64_t n) { \
    VectorLanes<Lanes>::apply<Nonlinearity::f>(x, factor, n);             \
  }
BINHDAN_NONLINEARITIES(APPLY)
#undef APPLY

void softcap(float* x, float cap, int64_t n) {
  VectorLanes<Lanes>::softcap(x, cap, n);
}

void add_scaled(float* x, const float* y, float factor, int64_t n) {
  VectorLanes<Lanes>::add_scaled(x, y, factor, n);
}

void multiply(float* x, const float* y, int64_t n) {
  VectorLanes<Lanes>::multiply(x, y, n);
}

void conv(float* out, const float* const* rows, const float* weights, int64_t weight_stride, int64_t taps,
          int64_t n) {
  VectorLanes<Lanes>::conv(out, rows, weights, weight_stride, taps, n);
}

void add(float* x, const float* y, int64_t n) {
  each_eight(n, [&](int64_t i, int64_t lanes) {
    store_first(x + i, lanes, _mm256_add_ps(load_first(x + i, lanes), load_first(y + i, lanes)));
  });
}

void scale(float* x, float factor, int64_t n) {
  each_eight(n, [&](int64_t i, int64_t lanes) {
    store_first(x + i, lanes, _mm256_mul_ps(load_first(x + i, lanes), _mm256_set1_ps(factor)));
  });
}

void add_products(float* x, const float* factors, const uint16_t* w, int64_t terms, int64_t n) {
  VectorLanes<Lanes>::add_products(x, factors, w, terms, n);
}

void to_f16(uint16_t* dst, const float* src, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(dst + i), half);
  }
  for (; i < n; ++i) dst[i] = _cvtss_sh(src[i], _MM_FROUND_TO_NEAREST_INT);
}

}  // namespace binhdan::avx2
