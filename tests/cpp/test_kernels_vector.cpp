// Quantization of activations, norms, RoPE, nonlinear and element-wise kernels of every table that this machine
// supports, compared with double, or bit for bit where an operation rounds once.
#include <cmath>
#include <limits>
#include <numbers>

#include "check.h"
#include "kernel_fixture.h"

using namespace kernel_fixture;

namespace {

constexpr int64_t kSizes[] = {1, 7, 8, 31, 32, 64, 100, 896};  // some are no multiple of a vector

void expect(bool ok, const KernelTable& table, const std::string& what) {
  if (!ok) check::report(table.isa, 0, what);
}

bool close(double got, double want, double relative, double absolute = 0) {
  return std::fabs(got - want) <= relative * std::fabs(want) + absolute;
}

std::vector<float> extreme_values(Random& random) {
  std::vector<float> x = gauss_vector(random, 32 * 12);
  for (int j = 0; j < 32; ++j) {
    x[static_cast<size_t>(j)] = 0;
    x[static_cast<size_t>(32 + j)] = static_cast<float>(j) - 15.5f;  // ties after scaling by 127 / 127
    x[static_cast<size_t>(64 + j)] *= 1e-38f;                        // below 2^-120
    x[static_cast<size_t>(96 + j)] *= 1e37f;
    x[static_cast<size_t>(128 + j)] *= 0x1p-118f;
  }
  x[32] = 127;
  x[160] = std::numeric_limits<float>::infinity();
  x[223] = -std::numeric_limits<float>::infinity();
  x[230] = std::numeric_limits<float>::quiet_NaN();
  x[260] = -std::numeric_limits<float>::quiet_NaN();
  x[290] = std::numeric_limits<float>::max();
  x[330] = std::numeric_limits<float>::denorm_min();
  return x;
}

}  // namespace

TEST(quantized_activations_have_the_same_bits_on_every_table) {
  Random random(1);
  constexpr size_t kBlocks = 12 + 11;
  std::vector<float> x = extreme_values(random);
  const std::vector<float> normal = gauss_vector(random, 32 * 11);  // tables may process four blocks at once
  x.insert(x.end(), normal.begin(), normal.end());
  std::vector<BlockQ8A> want(kBlocks), got(kBlocks);
  kScalarTable.quantize[1](want.data(), x.data(), 32 * kBlocks);
  for (const KernelTable* table : supported_tables()) {
    table->quantize[1](got.data(), x.data(), 32 * kBlocks);
    for (size_t b = 0; b < kBlocks; ++b) {
      const bool both_nan = std::isnan(want[b].d) && std::isnan(got[b].d);
      expect(both_nan || want[b].d == got[b].d, *table, "d of block " + std::to_string(b));
      expect(want[b].sum[0] == got[b].sum[0] && want[b].sum[1] == got[b].sum[1], *table,
             "sum of block " + std::to_string(b));
      expect(std::isnan(want[b].d) ? std::isnan(got[b].d_sum) : want[b].d_sum == got[b].d_sum, *table,
             "d_sum of block " + std::to_string(b));
      expect(std::memcmp(want[b].qs, got[b].qs, 32) == 0, *table, "quants of block " + std::to_string(b));
    }
  }
}

TEST(quantized_activations_round_to_nearest) {
  Random random(2);
  const std::vector<float> x = extreme_values(random);
  std::vector<BlockQ8A> blocks(12);
  kScalarTable.quantize[1](blocks.data(), x.data(), 32 * 12);
  CHECK(blocks[0].d == 0.0f && blocks[0].sum[0] == 0);
  CHECK(blocks[1].d == 1.0f && blocks[1].qs[0] == 127);
  CHECK(blocks[1].qs[14] == -2 && blocks[1].qs[15] == 0 && blocks[1].qs[16] == 0 && blocks[1].qs[17] == 2);
  CHECK(blocks[2].d == 0.0f && blocks[2].sum[0] == 0);
  CHECK(blocks[4].d > 0.0f);
  for (size_t b : {5, 6, 7, 8})
    CHECK(std::isnan(blocks[b].d) && blocks[b].sum[0] == 0 && blocks[b].qs[3] == 0);
  for (size_t b : {1, 3, 4, 9, 10, 11}) {
    int sum = 0;
    for (size_t j = 0; j < 32; ++j) {
      sum += blocks[b].qs[j];
      CHECK(std::fabs(blocks[b].qs[j] - static_cast<double>(x[b * 32 + j]) / blocks[b].d) <= 0.5001);
    }
    CHECK(sum == blocks[b].sum[0] + blocks[b].sum[1]);
  }
}

TEST(float_activations_are_copied) {
  Random random(3);
  for (const KernelTable* table : supported_tables())
    for (int64_t n : kSizes) {
      const std::vector<float> x = gauss_vector(random, n);
      std::vector<float> got(x.size());
      table->quantize[0](got.data(), x.data(), n);
      expect(same_bits(got.data(), x.data(), n), *table, "quantize f32");
    }
}

TEST(rms_norm_agrees_with_double) {
  Random random(4);
  for (const KernelTable* table : supported_tables())
    for (int64_t n : kSizes) {
      const std::vector<float> x = gauss_vector(random, n), weight = gauss_vector(random, n);
      double squares = 0;
      for (float v : x) squares += static_cast<double>(v) * v;
      const double factor = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
      std::vector<float> out(x.size()), in_place = x;
      table->rms_norm(out.data(), x.data(), weight.data(), n, 1e-6f);
      table->rms_norm(in_place.data(), in_place.data(), weight.data(), n, 1e-6f);
      expect(same_bits(out.data(), in_place.data(), n), *table, "rms_norm in place");
      for (size_t i = 0; i < x.size(); ++i)
        expect(close(out[i], x[i] * factor * weight[i], 2e-6), *table, "rms_norm");
    }
}

TEST(rope_rotates_pairs) {
  Random random(5);
  for (const KernelTable* table : supported_tables())
    for (int64_t dim : {2, 8, 10, 64, 80, 128})
      for (bool neox : {false, true}) {
        const std::vector<float> x = gauss_vector(random, dim);
        std::vector<float> cos_sin(x.size()), got = x;
        for (size_t i = 0; i < cos_sin.size() / 2; ++i) {
          cos_sin[2 * i] = static_cast<float>(std::cos(0.3 * static_cast<double>(i) + 1));
          cos_sin[2 * i + 1] = static_cast<float>(std::sin(0.3 * static_cast<double>(i) + 1));
        }
        table->rope(got.data(), cos_sin.data(), dim, neox);
        for (size_t i = 0; i < x.size() / 2; ++i) {
          const size_t a = neox ? i : 2 * i, b = neox ? i + x.size() / 2 : 2 * i + 1;
          const double c = cos_sin[2 * i], s = cos_sin[2 * i + 1];
          expect(close(got[a], x[a] * c - x[b] * s, 0, 1e-6), *table, "rope, first of a pair");
          expect(close(got[b], x[a] * s + x[b] * c, 0, 1e-6), *table, "rope, second of a pair");
        }
      }
}

TEST(layer_norm_agrees_with_double) {
  Random random(8);
  for (const KernelTable* table : supported_tables())
    for (int64_t n : kSizes) {
      std::vector<float> x = gauss_vector(random, n);
      const std::vector<float> weight = gauss_vector(random, n), bias = gauss_vector(random, n);
      for (float& v : x) v += 100;  // mean(x^2) - mean(x)^2 would cancel
      double mean = 0, variance = 0;
      for (float v : x) mean += v / static_cast<double>(n);
      for (float v : x) variance += (v - mean) * (v - mean) / static_cast<double>(n);
      const double factor = 1 / std::sqrt(variance + 1e-5);
      std::vector<float> out(x.size()), in_place = x;
      table->layer_norm(out.data(), x.data(), weight.data(), nullptr, n, 1e-5f);
      table->layer_norm(in_place.data(), in_place.data(), weight.data(), bias.data(), n, 1e-5f);
      for (size_t i = 0; i < x.size(); ++i) {
        // The mean is rounded to float: half an ulp of 100, times the factor.
        const double want = (x[i] - mean) * factor * weight[i], slack = 1e-5 * factor * std::fabs(weight[i]);
        expect(close(out[i], want, 2e-6, slack), *table, "layer_norm");
        expect(close(in_place[i], want + bias[i], 2e-6, slack + 2e-6 * std::fabs(want)), *table,
               "layer_norm with bias");
      }
    }
}

TEST(rms_norm_without_weight_is_that_with_ones) {
  Random random(9);
  for (const KernelTable* table : supported_tables())
    for (int64_t n : kSizes) {
      const std::vector<float> x = gauss_vector(random, n), ones(x.size(), 1.0f);
      std::vector<float> with(x.size()), without(x.size());
      table->rms_norm(with.data(), x.data(), ones.data(), n, 1e-6f);
      table->rms_norm(without.data(), x.data(), nullptr, n, 1e-6f);
      expect(same_bits(with.data(), without.data(), n), *table, "rms_norm without weight");
    }
}

// The function in double, and the relative error that is allowed (lane_math.h).
struct Expected {
  double value, error;
};

Expected nonlinear(Nonlinearity f, double x) {
  const double ulp = 0x1p-23;
  switch (f) {
    case Nonlinearity::silu:
      return {x / (1 + std::exp(-x)), 4 * ulp};
    case Nonlinearity::gelu_tanh: {
      const double u = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
      return {x / (1 + std::exp(-2 * u)), (4 - 4 * std::min(u, 0.0)) * ulp};
    }
    case Nonlinearity::gelu:
      return {x * 0.5 * std::erfc(-x / std::numbers::sqrt2), 4 * ulp};
    case Nonlinearity::relu2:
      return {x > 0 ? x * x : 0, ulp / 2};
    case Nonlinearity::sigmoid:
      return {1 / (1 + std::exp(-x)), 4 * ulp};
  }
  return {};
}

constexpr Nonlinearity kFunctions[] = {
#define VALUE(f) Nonlinearity::f,
    BINHDAN_NONLINEARITIES(VALUE)
#undef VALUE
};

TEST(nonlinear_functions_agree_with_double) {
  std::vector<float> points = {0.0f,  1e-30f, -1e-30f, 1e-6f, 87.0f, -87.0f,
                               89.0f, -89.0f, 1e4f,    -1e4f, 1e15f};
  for (int i = -20000; i <= 20000; ++i) points.push_back(static_cast<float>(i) * 0.001f);
  const auto n = static_cast<int64_t>(points.size());
  for (const KernelTable* table : supported_tables())
    for (const Nonlinearity f : kFunctions) {
      std::vector<float> got = points;
      table->apply[static_cast<size_t>(f)](got.data(), nullptr, n);
      for (size_t i = 0; i < points.size(); ++i) {
        const Expected want = nonlinear(f, points[i]);
        expect(close(got[i], want.value, want.error, 0x1p-126 * std::max(1.0, std::fabs(points[i] * 1.0))),
               *table,
               "function " + std::to_string(static_cast<int>(f)) + " of " + std::to_string(points[i]) + ": " +
                   std::to_string(got[i]));
      }
    }
}

TEST(nonlinear_functions_multiply_by_the_factor) {
  Random random(6);
  for (const KernelTable* table : supported_tables())
    for (const Nonlinearity f : kFunctions)
      for (int64_t n : kSizes) {
        const std::vector<float> x = gauss_vector(random, n), factor = gauss_vector(random, n);
        std::vector<float> plain = x, product = x;
        table->apply[static_cast<size_t>(f)](plain.data(), nullptr, n);
        table->apply[static_cast<size_t>(f)](product.data(), factor.data(), n);
        for (size_t i = 0; i < x.size(); ++i)
          expect(product[i] == plain[i] * factor[i], *table, "factor of a nonlinear function");
      }
}

// Large values give the limit of the function, not NaN; NaN stays NaN.
TEST(nonlinear_functions_have_limits) {
  const float max = std::numeric_limits<float>::max(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const KernelTable* table : supported_tables()) {
    const auto value = [&](Nonlinearity f, float x) {
      table->apply[static_cast<size_t>(f)](&x, nullptr, 1);
      return x;
    };
    for (const Nonlinearity f : {Nonlinearity::silu, Nonlinearity::gelu_tanh, Nonlinearity::gelu}) {
      expect(close(value(f, max), max, 1e-6), *table, "limit of a nonlinear function");
      expect(value(f, -max) == 0, *table, "limit of a nonlinear function below 0");
    }
    expect(value(Nonlinearity::relu2, max) == INFINITY && value(Nonlinearity::relu2, -max) == 0, *table,
           "relu2");
    expect(value(Nonlinearity::sigmoid, max) == 1 && value(Nonlinearity::sigmoid, -max) == 0, *table,
           "sigmoid");
    for (const Nonlinearity f : kFunctions)
      expect(std::isnan(value(f, nan)), *table, "NaN of a nonlinear function");
    float cap[] = {max, -max, nan};
    table->softcap(cap, 30, 3);
    expect(cap[0] == 30 && cap[1] == -30 && std::isnan(cap[2]), *table, "limits of softcap");
  }
}

TEST(softcap_agrees_with_double) {
  std::vector<float> points = {0.0f, 1e-30f, -1e-30f, 1e-6f, -1e-6f, 1e4f, -1e4f};
  for (int i = -4000; i <= 4000; ++i) points.push_back(static_cast<float>(i) * 0.1f);
  for (const KernelTable* table : supported_tables())
    for (const float cap : {1.0f, 30.0f, 50.0f}) {
      std::vector<float> got = points;
      table->softcap(got.data(), cap, static_cast<int64_t>(got.size()));
      for (size_t i = 0; i < points.size(); ++i)
        expect(close(got[i], cap * std::tanh(points[i] / static_cast<double>(cap)), 4 * 0x1p-23), *table,
               "softcap of " + std::to_string(points[i]) + ": " + std::to_string(got[i]));
    }
}

TEST(conv_agrees_with_double) {
  Random random(10);
  for (const KernelTable* table : supported_tables())
    for (int64_t n : kSizes)
      for (int64_t taps : {2, 4, 8}) {
        const int64_t stride = n + 3;
        const std::vector<float> x = gauss_vector(random, taps * n),
                                 weights = gauss_vector(random, taps * stride);
        std::vector<const float*> rows;
        for (int64_t t = taps; t-- > 0;) rows.push_back(x.data() + t * n);
        std::vector<float> out(static_cast<size_t>(n));
        table->conv(out.data(), rows.data(), weights.data(), stride, taps, n);
        for (int64_t c = 0; c < n; ++c) {
          double sum = 0, size = 0;
          for (int64_t t = 0; t < taps; ++t) {
            const double term = static_cast<double>(weights[static_cast<size_t>(t * stride + c)]) *
                                rows[static_cast<size_t>(t)][c];
            sum += term;
            size += std::fabs(term);
          }
          expect(close(out[static_cast<size_t>(c)], sum, 0, 1e-6 * size), *table, "conv");
        }
      }
}

TEST(add_products_agrees_with_double) {
  Random random(11);
  for (const KernelTable* table : supported_tables())
    for (int64_t n : kSizes)
      for (int64_t terms : {1, 3, 8, 18}) {
        const int64_t padded = (n + kProductLanes - 1) / kProductLanes * kProductLanes;
        const std::vector<float> x = gauss_vector(random, n), factors = gauss_vector(random, terms);
        std::vector<float> w = gauss_vector(random, padded * terms), got = x;
        std::vector<uint16_t> half(w.size());
        table->to_f16(half.data(), w.data(), padded * terms);
        table->add_products(got.data(), factors.data(), half.data(), terms, n);
        for (int64_t i = 0; i < n; ++i) {
          double sum = x[static_cast<size_t>(i)], size = std::fabs(sum);
          for (int64_t t = 0; t < terms; ++t) {
            const int64_t at = (i / kProductLanes * terms + t) * kProductLanes + i % kProductLanes;
            const double term = static_cast<double>(factors[static_cast<size_t>(t)]) *
                                f16_to_f32(half[static_cast<size_t>(at)]);
            sum += term;
            size += std::fabs(term);
          }
          expect(close(got[static_cast<size_t>(i)], sum, 0, 1e-6 * size), *table, "add_products");
        }
        if (n <= kProductLanes) continue;
        std::vector<float> part(x.begin(), x.end());
        table->add_products(part.data(), factors.data(), half.data(), terms, n - 1);
        expect(same_bits(part.data(), got.data(), n - 1), *table, "add_products of fewer elements");
      }
}

TEST(add_scale_multiply_and_to_f16_are_exact) {
  Random random(7);
  for (const KernelTable* table : supported_tables())
    for (int64_t n : kSizes) {
      std::vector<float> x = gauss_vector(random, n), y = gauss_vector(random, n);
      std::vector<float> sum = x, scaled = x, product = x, scaled_sum = x;
      table->add(sum.data(), y.data(), n);
      table->scale(scaled.data(), 0.1f, n);
      table->multiply(product.data(), y.data(), n);
      table->add_scaled(scaled_sum.data(), y.data(), 0.1f, n);
      for (size_t i = 0; i < x.size(); ++i) {
        expect(sum[i] == x[i] + y[i], *table, "add");
        expect(scaled[i] == x[i] * 0.1f, *table, "scale");
        expect(product[i] == x[i] * y[i], *table, "multiply");
        const double term = y[i] * static_cast<double>(0.1f);
        expect(close(scaled_sum[i], x[i] + term, 0x1p-23, 0x1p-23 * std::fabs(term)), *table, "add_scaled");
      }
      const float special[] = {65519.99f, 65520.0f, 6e-8f, 2.9e-8f, -1e-10f, INFINITY, -0.0f, 1.00048828125f};
      for (size_t i = 0; i < x.size() && i < 8; ++i) y[i] = special[i];
      std::vector<uint16_t> half(x.size());
      table->to_f16(half.data(), y.data(), n);
      for (size_t i = 0; i < x.size(); ++i)
        expect(half[i] == f32_to_f16(y[i]), *table, "to_f16 of " + std::to_string(y[i]));
    }
}
