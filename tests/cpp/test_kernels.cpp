// The kernel tables and their matrix products. Every table that this machine supports is compared with the
// codecs, with a product in double, and with itself for other shapes.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "check.h"
#include "kernel_fixture.h"

using namespace kernel_fixture;

namespace {

// Float32 rounding of a sum of up to 1,024 products, relative to sum |w x|.
constexpr double kSumTolerance = 4e-6;
// Weights with a minimum are rounded to float32 and then to bf16. For a few per hundred weights, near the
// middle of two bf16, this differs from rounding once, by 2^-8 relative.
constexpr double kTieTolerance = 1e-4;

std::string label(const KernelTable& table, DType type) {
  return std::string(table.isa) + " " + dtype_info(type).name;
}

void expect(bool ok, const std::string& what) {
  if (!ok) check::report("test_kernels", 0, what);
}

template <typename Body>
void for_each_kernel(Body body) {
  for (const KernelTable* table : supported_tables())
    for (const DTypeInfo& info : all_dtypes()) body(*table, info.type);
}

int64_t columns(DType type) {
  const int64_t block = dtype_info(type).block;
  return block <= 32 ? 224 : 3 * block;
}

bool has_minimums(DType type) {
  const auto offsets = scale_offsets(type);
  return offsets.size() == 2;
}

}  // namespace

TEST(tables_are_listed_and_selected_by_name) {
  CHECK(compiled_tables().size() >= 1);
  CHECK(compiled_tables()[0] == &kScalarTable);
  CHECK(&select_table("scalar") == &kScalarTable);
  CHECK(&select_table("") == supported_tables().back());
  std::printf("selected table: %s\n", select_table("").isa);  // .ci/cross expects it for each CPU
  for (const KernelTable* table : supported_tables()) CHECK(&select_table(table->isa) == table);
  for (const KernelTable* table : compiled_tables())
    if (!table->supported(cpu_features())) CHECK_FAILS(select_table(table->isa), "cannot run it");
  CHECK_FAILS(select_table("scalarr"), "unknown; this build has scalar");
}

TEST(tables_are_complete) {
  for_each_kernel([](const KernelTable& table, DType type) {
    const MatmulKernel& k = kernel(table, type);
    expect(k.type == type && k.gemv && k.gemm && k.get_row && k.panel_rows >= 1,
           label(table, type) + ": incomplete");
    expect(!k.pack == !k.packed_size,
           label(table, type) + ": expected both pack and packed_size, or neither");
    expect(k.gemv_input != Activation::bf16, label(table, type) + ": gemv must not read bf16");
    expect(k.gemv_equals_gemm == (k.gemv_input == k.gemm_input),
           label(table, type) + ": gemv_equals_gemm and the formats disagree");
    expect(table.quantize[static_cast<int>(k.gemv_input)] && table.quantize[static_cast<int>(k.gemm_input)],
           label(table, type) + ": the table has no quantize function for the activations");
  });
  for (const KernelTable* table : supported_tables()) {
    CHECK(table->rms_norm && table->layer_norm && table->rope && table->softcap && table->add);
    CHECK(table->add_scaled && table->multiply && table->scale && table->conv && table->to_f16);
    for (const auto apply : table->apply) CHECK(apply);
    for (const AttentionKernel& k : table->attention)
      CHECK(k.decode && k.prefill && k.store_key && k.store_value);
    CHECK(table->matmul[4].gemv == nullptr);  // 4 is a removed type of GGUF
  }
}

TEST(get_row_returns_the_bits_of_decode_row) {
  for_each_kernel([](const KernelTable& table, DType type) {
    Random random(1);
    const int64_t rows = 21, cols = columns(type);
    const Weights w(kernel(table, type), random_weights(random, type, rows, cols), rows, cols);
    const std::vector<float> want = w.decoded();
    std::vector<float> got(static_cast<size_t>(cols));
    for (int64_t row = 0; row < rows; ++row) {
      w.kernel().get_row(got.data(), w.data(), rows, cols, row);
      expect(same_bits(got.data(), want.data() + row * cols, cols), label(table, type) + ": get_row");
    }
  });
}

TEST(packing_in_parts_equals_one_call_of_pack) {
  for_each_kernel([](const KernelTable& table, DType type) {
    Random random(2);
    const int64_t rows = 53, cols = columns(type);
    const Weights w(kernel(table, type), random_weights(random, type, rows, cols), rows, cols);
    if (!w.kernel().pack) return;
    const size_t size = w.kernel().packed_size(rows, cols);
    Buffer parts(size);
    std::memset(parts.as(), 0xee, size);
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{32, 48}, {48, 53}, {0, 32}})
      w.kernel().pack(parts.as(), w.file().data(), rows, cols, begin, end);
    expect(std::memcmp(parts.as(), w.data(), size) == 0, label(table, type) + ": parts differ");

    std::vector<std::byte> padded = w.file();
    padded.resize(padded.size() / rows * 64);
    const Weights whole(w.kernel(), padded, 64, cols);
    expect(std::memcmp(whole.data(), w.data(), size) == 0, label(table, type) + ": the tail is not zero");
  });
}

TEST(products_agree_with_double) {
  for_each_kernel([](const KernelTable& table, DType type) {
    Random random(3);
    const int64_t rows = 37, cols = columns(type), m = 5;
    const Weights w(kernel(table, type), random_weights(random, type, rows, cols), rows, cols);
    const std::vector<float> weights = w.decoded();
    const std::vector<float> x = gauss_vector(random, m * cols);
    for (bool gemm : {false, true}) {
      const Activation format = gemm ? w.kernel().gemm_input : w.kernel().gemv_input;
      const Activations a(table, format, x, m);
      const std::vector<float> got = multiply(w, gemm, a);
      const bool rounded = format == Activation::bf16;
      const double tolerance = rounded && has_minimums(type) ? kTieTolerance : kSumTolerance;
      for (int64_t i = 0; i < m; ++i)
        for (int64_t r = 0; r < rows; ++r) {
          double sum = 0, magnitude = 0;
          for (int64_t c = 0; c < cols; ++c) {
            const float weight = weights[static_cast<size_t>(r * cols + c)];
            const double product = (rounded ? bf16_to_f32(f32_to_bf16(weight)) : weight) * a.value(i, c);
            sum += product;
            magnitude += std::fabs(product);
          }
          const double error = std::fabs(got[static_cast<size_t>(i * rows + r)] - sum);
          expect(error <= tolerance * magnitude, label(table, type) + ": off by " + std::to_string(error));
        }
    }
  });
}

// With scales and minimums of 1, every float in a q8 product is an integer below 2^24, so results are exact.
TEST(integer_parts_are_exact) {
  for_each_kernel([](const KernelTable& table, DType type) {
    if (kernel(table, type).gemv_input != Activation::q8) return;
    Random random(4);
    const int64_t rows = 35, cols = columns(type), m = 7;
    std::vector<std::byte> file = random_weights(random, type, rows, cols);
    // A Q8_0 block of -128: its absolute value is no int8, and sums of two products nearly overflow int16.
    std::fill_n(file.begin(), dtype_info(type).block_bytes,
                type == DType::q8_0 ? std::byte{0x80} : std::byte{0});
    set_scales_to_one(type, file);
    std::vector<float> x(static_cast<size_t>(m * cols));
    for (size_t j = 0; j < x.size(); ++j)
      x[j] = j % 32 == 0 || j < 64 ? (j % 64 < 32 ? -127.0f : 127.0f)
                                   : static_cast<float>(random() % 255) - 127.0f;
    const Weights w(kernel(table, type), file, rows, cols);
    const std::vector<float> weights = w.decoded();
    const std::vector<float> got = multiply(w, false, Activations(table, Activation::q8, x, m));
    for (int64_t i = 0; i < m; ++i)
      for (int64_t r = 0; r < rows; ++r) {
        float want = 0;
        for (int64_t c = 0; c < cols; ++c)
          want += weights[static_cast<size_t>(r * cols + c)] * x[static_cast<size_t>(i * cols + c)];
        expect(got[static_cast<size_t>(i * rows + r)] == want, label(table, type) + ": integer product");
      }
  });
}

// With one block in a row, nothing is added to the first product, so all tables round alike. Large activations
// make the products with the smallest scales, which are subnormal, normal.
TEST(every_scale_of_mxfp4_equals_that_of_the_scalar_table) {
  constexpr int64_t rows = 256, cols = 32;
  Random random(11);
  std::vector<std::byte> file = random_weights(random, DType::mxfp4, rows, cols);
  for (size_t e = 0; e < rows; ++e) file[e * sizeof(BlockMXFP4)] = static_cast<std::byte>(e);
  for (const float magnitude : {0x1p-100f, 1.0f, 0x1p100f}) {
    std::vector<float> x = gauss_vector(random, cols);
    for (float& v : x) v *= magnitude;
    const auto product = [&](const KernelTable& table) {
      const Weights w(kernel(table, DType::mxfp4), file, rows, cols);
      return multiply(w, false, Activations(table, Activation::q8, x, 1));
    };
    const std::vector<float> want = product(kScalarTable);
    for (const KernelTable* table : supported_tables())
      expect(same_bits(product(*table).data(), want.data(), rows),
             label(*table, DType::mxfp4) + ": differs from scalar");
  }
}

// All kernels except those of the scalar table fuse the same products with the same additions (kernels.h).
TEST(kernels_with_q8_activations_agree_bit_for_bit) {
  constexpr int64_t rows = 37, m = 19;
  for (const DTypeInfo& info : all_dtypes()) {
    Random random(8);
    const int64_t cols = columns(info.type);
    const std::vector<std::byte> file = random_weights(random, info.type, rows, cols);
    const std::vector<float> x = gauss_vector(random, m * cols);
    std::vector<float> first;
    for (const KernelTable* table : supported_tables()) {
      const MatmulKernel& k = kernel(*table, info.type);
      for (bool gemm : {false, true}) {
        if ((gemm ? k.gemm_input : k.gemv_input) != Activation::q8) continue;
        if ((gemm ? k.gemm : k.gemv) == kernel(kScalarTable, info.type).gemm) continue;
        const Weights w(k, file, rows, cols);
        const std::vector<float> got = multiply(w, gemm, Activations(*table, Activation::q8, x, m));
        if (first.empty()) first = got;
        expect(got == first, label(*table, info.type) + ": differs from a previous table");
      }
    }
  }
}

TEST(a_result_depends_only_on_its_rows) {
  for_each_kernel([](const KernelTable& table, DType type) {
    Random random(5);
    const int64_t rows = 53, cols = columns(type), max_m = 17;  // more than the rows of a tile
    const Weights w(kernel(table, type), random_weights(random, type, rows, cols), rows, cols);
    const std::vector<float> x = gauss_vector(random, max_m * cols);
    const Activations gemv_rows(table, w.kernel().gemv_input, x, max_m);
    const Activations gemm_rows(table, w.kernel().gemm_input, x, max_m);
    const std::vector<float> by_gemv = multiply(w, false, gemv_rows);
    for (bool gemm : {false, true}) {
      const Activations& a = gemm ? gemm_rows : gemv_rows;
      const std::vector<float> want = w.kernel().gemv_equals_gemm ? by_gemv : multiply(w, gemm, a);
      const auto same = [&](const std::vector<float>& got, int64_t first, int64_t m, int64_t begin,
                            int64_t end) {
        for (int64_t i = 0; i < m; ++i)
          for (int64_t r = 0; r < rows; ++r) {
            const float* expected =
                r >= begin && r < end ? &want[static_cast<size_t>((first + i) * rows + r)] : &kUntouched;
            if (!same_bits(&got[static_cast<size_t>(i * rows + r)], expected, 1)) return false;
          }
        return true;
      };
      for (int64_t m = 1; m <= max_m; ++m)
        for (int64_t first = 0; first + m <= max_m; first += 4)
          expect(same(multiply(w, gemm, a.slice(first, m)), first, m, 0, rows),
                 label(table, type) + ": m = " + std::to_string(m) + " changes bits");
      using Part = std::pair<int64_t, int64_t>;
      for (const auto& [begin, end] : {Part{0, 16}, Part{16, 48}, Part{48, 53}, Part{16, 41}, Part{32, 32}})
        expect(same(multiply(w, gemm, a, begin, end), 0, max_m, begin, end),
               label(table, type) + ": a part of the rows changes bits or writes outside of them");
    }
  });
}

// Sizes for which gemm kernels split the batch and the rows of weights.
TEST(prefill_rows_do_not_depend_on_the_batch) {
  for_each_kernel([](const KernelTable& table, DType type) {
    if (kernel(table, type).gemm_input != Activation::bf16) return;
    Random random(9);
    const int64_t rows = 40, max_m = 600;
    for (const int64_t cols : {int64_t{256}, int64_t{dtype_info(type).block > 32 ? 2304 : 1056}}) {
      const Weights w(kernel(table, type), random_weights(random, type, rows, cols), rows, cols);
      const Activations a(table, Activation::bf16, gauss_vector(random, max_m * cols), max_m);
      const std::vector<float> want = multiply(w, true, a);
      const auto check = [&](int64_t first, int64_t m) {
        const std::vector<float> got = multiply(w, true, a.slice(first, m));
        expect(same_bits(got.data(), want.data() + first * rows, m * rows),
               label(table, type) + ": rows of a batch of " + std::to_string(m));
      };
      for (int64_t m = 1; m <= 70; ++m) check(m * 7, m);
      check(88, 512);
    }
  });
}

// Any bytes of a file, including infinite and NaN scales.
TEST(weights_of_any_bytes_can_be_multiplied) {
  for_each_kernel([](const KernelTable& table, DType type) {
    Random random(10);
    const int64_t rows = 35, cols = columns(type), m = 3, batch = 13;
    std::vector<std::byte> file = random_weights(random, type, rows, cols);
    for (std::byte& b : file) b = static_cast<std::byte>(random() >> 13);
    const Weights w(kernel(table, type), file, rows, cols);
    const std::vector<float> x = gauss_vector(random, batch * cols);
    for (bool gemm : {false, true}) {
      const Activations a(table, gemm ? w.kernel().gemm_input : w.kernel().gemv_input, x, batch);
      for (const int64_t count : {m, batch})
        for (const float v : multiply(w, gemm, a.slice(0, count)))
          expect(!same_bits(&v, &kUntouched, 1), label(table, type) + ": a result is missing");
    }
  });
}

TEST(products_with_zero_weights_or_activations_are_zero) {
  for_each_kernel([](const KernelTable& table, DType type) {
    Random random(6);
    const int64_t rows = 17, cols = columns(type), m = 3;
    const Weights zeros(kernel(table, type), std::vector<std::byte>(row_bytes(type, cols) * rows), rows,
                        cols);
    const Weights weights(kernel(table, type), random_weights(random, type, rows, cols), rows, cols);
    const std::vector<float> x = gauss_vector(random, m * cols), none(static_cast<size_t>(m * cols));
    for (const float v : multiply(zeros, true, Activations(table, zeros.kernel().gemm_input, x, m)))
      expect(v == 0.0f, label(table, type) + ": zero weights");
    for (const float v : multiply(weights, false, Activations(table, weights.kernel().gemv_input, none, m)))
      expect(v == 0.0f, label(table, type) + ": zero activations");
  });
}

TEST(nan_activations_reach_the_output) {
  for_each_kernel([](const KernelTable& table, DType type) {
    Random random(7);
    const int64_t rows = 17, cols = columns(type);
    const Weights w(kernel(table, type), random_weights(random, type, rows, cols), rows, cols);
    std::vector<float> x = gauss_vector(random, 2 * cols);
    x[static_cast<size_t>(cols - 1)] = NAN;
    const std::vector<float> out = multiply(w, true, Activations(table, w.kernel().gemm_input, x, 2));
    for (int64_t r = 0; r < rows; ++r) {
      expect(std::isnan(out[static_cast<size_t>(r)]), label(table, type) + ": the NaN is lost");
      expect(std::isfinite(out[static_cast<size_t>(rows + r)]),
             label(table, type) + ": the NaN reached another row");
    }
  });
}
