// Quantization of activations, norms, nonlinear functions and conversion, sixteen lanes at a time. The bits
// of quantize_q8, multiply and to_f16 equal scalar's; the others differ by FMA, the order of sums, and the
// functions of lane_math.h. RoPE, add and scale stay the avx2 table's: rows of RoPE are short, and loads and
// stores limit the others.
//
// Instructions (512-bit forms, Intel Ice Lake, uops.info): vpsadbw latency 3, vpackssdw, vpunpckldq latency
// 1, vpermd latency 3, all 1 a cycle (p5); vdivps 1 in 16 cycles; vrcp14ps is an estimate with a relative
// error of 2^-14.
#include <immintrin.h>

#include "kernels/avx2/functions.h"
#include "kernels/avx512/functions.h"
#include "kernels/avx512/lanes.h"
#include "kernels/avx512/zmm.h"
#include "kernels/vector_lanes.h"

namespace binhdan::avx512 {
namespace {

// ---- quantization -------------------------------------------------------------------------------------

// Four blocks of 32 at a time, so that four maxima, quotients and sums share a register: 8 shuffles fewer per
// block, and shuffles have one port.

BINHDAN_INLINE __m512i magnitude(__m512 x) {
  return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

// max|x| of each block, not finite if any element is not: bits of magnitudes have the order of integers.
BINHDAN_INLINE __m128 max_magnitudes(const __m512 (&x)[8]) {
  __m512i m[4];
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) m[k] = _mm512_max_epu32(magnitude(x[2 * k]), magnitude(x[2 * k + 1]));
  const __m512i m01 = _mm512_max_epu32(_mm512_unpacklo_epi32(m[0], m[1]), _mm512_unpackhi_epi32(m[0], m[1]));
  const __m512i m23 = _mm512_max_epu32(_mm512_unpacklo_epi32(m[2], m[3]), _mm512_unpackhi_epi32(m[2], m[3]));
  const __m512i all = _mm512_max_epu32(_mm512_unpacklo_epi64(m01, m23), _mm512_unpackhi_epi64(m01, m23));
  const __m256i half = _mm256_max_epu32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  return _mm_castsi128_ps(_mm_max_epu32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

// Quants of two blocks; lanes 0, 4, 8, 12 of `sums` are the sums of their halves.
struct TwoBlocks {
  __m512i quants, sums;
};

BINHDAN_INLINE TwoBlocks two_blocks(const __m512* x, const float* inverse) {
  __m512i q[4];
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) q[k] = _mm512_cvtps_epi32(_mm512_mul_ps(x[k], _mm512_set1_ps(inverse[k / 2])));
  const __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11,
                                          15);  // undoes the order of the packs
  const __m512i quants = _mm512_permutexvar_epi32(order, bytes);
  // vpsadbw adds eight unsigned bytes: each quant is raised by 128, and the sum is corrected.
  const __m512i eighths =
      _mm512_sad_epu8(_mm512_xor_si512(quants, _mm512_set1_epi8(-128)), _mm512_setzero_si512());
  const __m512i halves = _mm512_add_epi32(eighths, _mm512_shuffle_epi32(eighths, _MM_PERM_BADC));
  return {quants, _mm512_sub_epi32(halves, _mm512_set1_epi32(16 * 128))};
}

// Returns false, and writes nothing, if a block is nearly zero or not finite.
BINHDAN_INLINE bool quantize_four(BlockQ8A* blocks, const float* src) {
  __m512 x[8];
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) x[k] = _mm512_loadu_ps(src + 16 * k);
  const __m128 top = max_magnitudes(x), max_quant = _mm_set1_ps(127.0f);
  const __m128 usual =
      _mm_and_ps(_mm_cmpge_ps(top, _mm_set1_ps(0x1p-120f)), _mm_cmplt_ps(top, _mm_set1_ps(__builtin_inff())));
  if (_mm_movemask_ps(usual) != 15) return false;
  alignas(16) float inverse[4];
  _mm_store_ps(inverse, _mm_div_ps(max_quant, top));
  const TwoBlocks low = two_blocks(x, inverse), high = two_blocks(x + 4, inverse + 2);
  const __m512i even = _mm512_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i sums =
      _mm512_permutex2var_epi32(low.sums, even, high.sums);  // sum[0] of four, sum[1] of four
  const __m128i sum0 = _mm512_castsi512_si128(sums), sum1 = _mm512_extracti32x4_epi32(sums, 1);
  __m128 head[4] = {_mm_div_ps(top, max_quant), _mm_setzero_ps(), _mm_castsi128_ps(sum0),
                    _mm_castsi128_ps(sum1)};
  head[1] = _mm_mul_ps(head[0], _mm_cvtepi32_ps(_mm_add_epi32(sum0, sum1)));
  _MM_TRANSPOSE4_PS(head[0], head[1], head[2], head[3]);
  const __m256i quants[4] = {_mm512_castsi512_si256(low.quants), _mm512_extracti64x4_epi64(low.quants, 1),
                             _mm512_castsi512_si256(high.quants), _mm512_extracti64x4_epi64(high.quants, 1)};
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    _mm_storeu_ps(&blocks[k].d, head[k]);  // d, d_sum, sum
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(blocks[k].qs), quants[k]);
  }
  return true;
}
static_assert(offsetof(BlockQ8A, d_sum) == 4 && offsetof(BlockQ8A, sum) == 8);

// ---- rows ---------------------------------------------------------------------------------------------

// Calls f(i, lanes) for every sixteen elements, and once for the rest.
template <class F>
BINHDAN_INLINE void each_sixteen(int64_t n, F f) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) f(i, lane_mask(16));
  if (i < n) f(i, lane_mask(n - i));
}

}  // namespace

void quantize_q8(void* dst, const float* x, int64_t n) {
  auto* blocks = static_cast<BlockQ8A*>(dst);
  int64_t i = 0;
  for (; i + 4 <= n / 32; i += 4)
    if (!quantize_four(blocks + i, x + 32 * i)) avx2::quantize_q8(blocks + i, x + 32 * i, 4 * 32);
  avx2::quantize_q8(blocks + i, x + 32 * i, n - 32 * i);
}

void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps) {
  __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
  int64_t i = 0;
  for (; i + 64 <= n; i += 64)
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __m512 v = _mm512_loadu_ps(x + i + 16 * k);
      sums[k] = _mm512_fmadd_ps(v, v, sums[k]);
    }
  each_sixteen(n - i, [&](int64_t j, __mmask16 lanes) {
    const __m512 v = _mm512_maskz_loadu_ps(lanes, x + i + j);
    sums[0] = _mm512_fmadd_ps(v, v, sums[0]);
  });
  const __m512 sum = _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3]));
  const float mean = _mm512_reduce_add_ps(sum) / static_cast<float>(n);
  const __m512 factor = _mm512_set1_ps(1.0f / _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(mean + eps))));
  each_sixteen(n, [&](int64_t j, __mmask16 lanes) {
    __m512 y = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + j), factor);
    if (weight) y = _mm512_mul_ps(y, _mm512_maskz_loadu_ps(lanes, weight + j));
    _mm512_mask_storeu_ps(out + j, lanes, y);
  });
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

void add_products(float* x, const float* factors, const uint16_t* w, int64_t terms, int64_t n) {
  VectorLanes<Lanes>::add_products(x, factors, w, terms, n);
}

void to_f16(uint16_t* dst, const float* src, int64_t n) {
  each_sixteen(n, [&](int64_t i, __mmask16 lanes) {
    const __m256i half = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(lanes, src + i), _MM_FROUND_TO_NEAREST_INT);
    _mm256_mask_storeu_epi16(dst + i, lanes, half);
  });
}

}  // namespace binhdan::avx512
