// Quantization of activations, norms, RoPE, nonlinear and element-wise functions. The bits of quantize_q8, rope,
// add, multiply and scale equal scalar's; the others differ by FMA, the order of sums, and the functions of
// lane_math.h. Clang vectorizes the plain loops.
#include "kernels/rvv/functions.h"
#include "kernels/rvv/lanes.h"
#include "kernels/vector_lanes.h"

namespace binhdan::rvv {
namespace {

// 32 floats fill eight registers of 128 bits.
BINHDAN_INLINE void quantize_block(BlockQ8A& block, const float* src) {
  constexpr size_t kBlock = 32, kHalf = 16;
  const vfloat32m8_t x = __riscv_vle32_v_f32m8(src, kBlock);
  // max|x|, not finite if any element is not: bits of magnitudes have the order of integers.
  const vuint32m8_t magnitudes = __riscv_vreinterpret_v_f32m8_u32m8(__riscv_vfabs(x, kBlock));
  const uint32_t bits = __riscv_vmv_x(__riscv_vredmaxu(magnitudes, __riscv_vmv_v_x_u32m1(0, 1), kBlock));
  float top;
  __builtin_memcpy(&top, &bits, sizeof top);
  const bool finite = bits < 0x7f800000;
  if (!finite || top < 0x1p-120f) {
    block = BlockQ8A{};
    if (!finite) block.d = block.d_sum = __builtin_nanf("");
    return;
  }
  block.d = top / 127.0f;
  const vint16m4_t wide = __riscv_vfncvt_x(__riscv_vfmul(x, 127.0f / top, kBlock), kBlock);
  __riscv_vse8(block.qs, __riscv_vncvt_x(wide, kBlock), kBlock);
  const vint16m1_t none = __riscv_vmv_v_x_i16m1(0, 1);  // |sum| <= 32 * 127
  const int all = __riscv_vmv_x(__riscv_vredsum(wide, none, kBlock));
  block.sum[0] = __riscv_vmv_x(__riscv_vredsum(wide, none, kHalf));
  block.sum[1] = all - block.sum[0];
  block.d_sum = block.d * static_cast<float>(all);
}

// Pairs (i * step, i * step + distance). Products and sums are rounded separately, as in scalar.
BINHDAN_INLINE void rotate(float* first, float* second, int64_t step, const float* cos_sin, int64_t pairs) {
#pragma clang loop vectorize(assume_safety)
  for (int64_t i = 0; i < pairs; ++i) {
    const float a = first[i * step], b = second[i * step], cos = cos_sin[2 * i], sin = cos_sin[2 * i + 1];
    first[i * step] = a * cos - b * sin;
    second[i * step] = a * sin + b * cos;
  }
}

}  // namespace

void quantize_q8(void* dst, const float* x, int64_t n) {
  auto* blocks = static_cast<BlockQ8A*>(dst);
  for (int64_t i = 0; i < n / 32; ++i) quantize_block(blocks[i], x + 32 * i);
}

void rms_norm(float* out, const float* x, const float* weight, int64_t n, float eps) {
  VectorLanes<Lanes>::RowSum squares;
  each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    const Float8 v = Lanes::load_first(x + i, count);
    Float8& sum = squares.at(i);
    sum = Lanes::fma(v, v, sum);
  });
  const float factor = 1.0f / Lanes::square_root(squares.total() / static_cast<float>(n) + eps);
  each_vector<Lanes>(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    Float8 y = Lanes::load_first(x + i, count) * factor;
    if (weight) y *= Lanes::load_first(weight + i, count);
    Lanes::store_first(out + i, count, y);
  });
}

void rope(float* x, const float* cos_sin, int64_t dim, bool neox) {
  neox ? rotate(x, x + dim / 2, 1, cos_sin, dim / 2) : rotate(x, x + 1, 2, cos_sin, dim / 2);
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
  for (int64_t i = 0; i < n; ++i) x[i] *= y[i];
}

void conv(float* out, const float* const* rows, const float* weights, int64_t weight_stride, int64_t taps,
          int64_t n) {
  VectorLanes<Lanes>::conv(out, rows, weights, weight_stride, taps, n);
}

void add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void scale(float* x, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

}  // namespace binhdan::rvv
