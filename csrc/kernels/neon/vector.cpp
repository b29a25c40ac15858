// Quantization of activations, norms, RoPE, nonlinear and element-wise functions, four lanes at a time. The
// bits of quantize_q8, rope, add, multiply, scale and to_f16 equal scalar's; the others differ by FMA, the
// order of sums, and the functions of lane_math.h. Rows are in L1: loads and stores limit the speed of most.
//
// Instructions (Arm, Software Optimization Guide of Cortex-A76): vector loads 2 a cycle, stores 1 a cycle;
// fmul, fadd, fmla 2 a cycle; fdiv of four lanes 1 in 5 to 10 cycles.
#include "kernels/neon/functions.h"
#include "kernels/neon/lanes.h"
#include "kernels/vector_lanes.h"

namespace binhdan::neon {
namespace {

// max|x| of 32, not finite if any element is not: bits of magnitudes have the order of integers.
BINHDAN_INLINE float max_magnitude(const float32x4_t (&x)[8]) {
  uint32x4_t top = vdupq_n_u32(0);
#pragma GCC unroll 8
  for (const float32x4_t v : x) top = vmaxq_u32(top, vreinterpretq_u32_f32(vabsq_f32(v)));
  const uint32_t bits = vmaxvq_u32(top);
  float magnitude;
  __builtin_memcpy(&magnitude, &bits, sizeof magnitude);
  return magnitude;
}

BINHDAN_INLINE void quantize_block(BlockQ8A& block, const float* src) {
  float32x4_t x[8];
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) x[k] = vld1q_f32(src + 4 * k);
  const float top = max_magnitude(x);
  const bool finite = top < __builtin_inff();  // false for NaN
  if (!finite || top < 0x1p-120f) {
    block = BlockQ8A{};
    if (!finite) block.d = block.d_sum = __builtin_nanf("");
    return;
  }
  const float inverse = 127.0f / top;
  block.d = top / 127.0f;
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    int16x4_t q[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) q[k] = vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(x[4 * half + k], inverse)));
    const int16x8_t low = vcombine_s16(q[0], q[1]), high = vcombine_s16(q[2], q[3]);
    vst1q_s8(block.qs + 16 * half, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    block.sum[half] = vaddvq_s16(vaddq_s16(low, high));  // |sum| <= 16 * 127
  }
  block.d_sum = block.d * static_cast<float>(block.sum[0] + block.sum[1]);
}

// Pairs (2i, 2i + 1), four at a time. Products and sums are rounded separately, as in scalar.
void rope_neighbours(float* x, const float* cos_sin, int64_t dim) {
  int64_t i = 0;
  for (; i + 8 <= dim; i += 8) {
    const float32x4x2_t pairs = vld2q_f32(x + i), angles = vld2q_f32(cos_sin + i);
    float32x4x2_t rotated;
    rotated.val[0] =
        vsubq_f32(vmulq_f32(pairs.val[0], angles.val[0]), vmulq_f32(pairs.val[1], angles.val[1]));
    rotated.val[1] =
        vaddq_f32(vmulq_f32(pairs.val[0], angles.val[1]), vmulq_f32(pairs.val[1], angles.val[0]));
    vst2q_f32(x + i, rotated);
  }
  for (; i < dim; i += 2) {
    const float first = x[i], second = x[i + 1], cos = cos_sin[i], sin = cos_sin[i + 1];
    x[i] = first * cos - second * sin;
    x[i + 1] = first * sin + second * cos;
  }
}

// Pairs (i, i + dim/2), four at a time.
void rope_halves(float* x, const float* cos_sin, int64_t dim) {
  const int64_t half = dim / 2;
  int64_t i = 0;
  for (; i + 4 <= half; i += 4) {
    const float32x4x2_t angles = vld2q_f32(cos_sin + 2 * i);
    const float32x4_t first = vld1q_f32(x + i), second = vld1q_f32(x + half + i);
    vst1q_f32(x + i, vsubq_f32(vmulq_f32(first, angles.val[0]), vmulq_f32(second, angles.val[1])));
    vst1q_f32(x + half + i, vaddq_f32(vmulq_f32(first, angles.val[1]), vmulq_f32(second, angles.val[0])));
  }
  for (; i < half; ++i) {
    const float first = x[i], second = x[half + i], cos = cos_sin[2 * i], sin = cos_sin[2 * i + 1];
    x[i] = first * cos - second * sin;
    x[half + i] = first * sin + second * cos;
  }
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
  float32x4_t squares[4] = {Lanes::zero(), Lanes::zero(), Lanes::zero(), Lanes::zero()};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const float32x4_t v = vld1q_f32(x + i + 4 * k);
      squares[k] = vfmaq_f32(squares[k], v, v);
    }
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const float32x4_t v = load_first(x + i + 4 * k, n - i - 4 * k);
    squares[k] = vfmaq_f32(squares[k], v, v);
  }
  const float mean = sum_lanes(squares) / static_cast<float>(n);
  const float factor = 1.0f / Lanes::square_root(mean + eps);
  each_vector<Lanes>(n, [&](int64_t j, int64_t count) __attribute__((always_inline)) {
    float32x4_t y = vmulq_n_f32(load_first(x + j, count), factor);
    if (weight) y = vmulq_f32(y, load_first(weight + j, count));
    store_first(out + j, count, y);
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
  each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    store_first(x + i, count, vaddq_f32(load_first(x + i, count), load_first(y + i, count)));
  });
}

void scale(float* x, float factor, int64_t n) {
  each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    store_first(x + i, count, vmulq_n_f32(load_first(x + i, count), factor));
  });
}

void add_products(float* x, const float* factors, const uint16_t* w, int64_t terms, int64_t n) {
  VectorLanes<Lanes>::add_products(x, factors, w, terms, n);
}

void to_f16(uint16_t* dst, const float* src, int64_t n) {
  int64_t i = 0;
  for (; i + 4 <= n; i += 4) vst1_u16(dst + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(src + i))));
  for (; i < n; ++i) dst[i] = vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(src[i]))), 0);
}

}  // namespace binhdan::neon
