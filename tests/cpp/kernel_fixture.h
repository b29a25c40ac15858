// Random data for the kernel tests: valid blocks with finite scales, the same on every machine.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/buffer.h"
#include "base/half.h"
#include "kernels/codec.h"
#include "kernels/tables.h"

namespace kernel_fixture {
using namespace binhdan;

using Random = std::mt19937;

// Approximately N(0, 1). std::normal_distribution would differ between standard libraries.
inline float gauss(Random& random) {
  double sum = 0;
  for (int i = 0; i < 12; ++i) sum += random() / 4294967296.0;
  return static_cast<float>(sum - 6.0);
}

inline std::vector<float> gauss_vector(Random& random, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = gauss(random);
  return x;
}

// Byte offsets of the float16 scales of a block.
inline std::vector<size_t> scale_offsets(DType type) {
  switch (type) {
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
      return {0, 2};
    case DType::q2_k:
      return {80, 82};
    case DType::q3_k:
      return {108};
    case DType::q6_k:
      return {208};
    case DType::tq1_0:
      return {52};
    case DType::tq2_0:
      return {64};
    case DType::mxfp4:
    case DType::nvfp4:
    case DType::iq1_m:  // set_scales has these
      return {};
    default:
      return {0};
  }
}

// Sets the scales of a block to d; those of 8 bits to the power of two below |d|.
inline void set_scales(DType type, std::byte* block, float d) {
  const uint16_t half = f32_to_f16(d);
  for (size_t offset : scale_offsets(type)) std::memcpy(block + offset, &half, sizeof half);
  const int exponent = std::ilogb(d);
  if (type == DType::mxfp4) block[0] = static_cast<std::byte>(128 + exponent);
  if (type == DType::nvfp4) std::memset(block, (8 + std::max(exponent, -7)) << 3, 4);
  if (type == DType::iq1_m)  // four bits of the float16 are at the top of each 16-bit word
    for (int i = 0; i < 4; ++i) {
      std::byte& high = block[49 + 2 * i];
      high = (high & std::byte{15}) | static_cast<std::byte>((half >> 4 * i & 15) << 4);
    }
}

// File blocks of `rows` x `cols` weights of magnitude about 1.
inline std::vector<std::byte> random_weights(Random& random, DType type, int64_t rows, int64_t cols) {
  const DTypeInfo& info = dtype_info(type);
  std::vector<std::byte> bytes(row_bytes(type, static_cast<uint64_t>(cols)) * static_cast<uint64_t>(rows));
  if (info.block == 1) {
    encode_row(type)(bytes.data(), gauss_vector(random, rows * cols).data(), rows * cols);
    return bytes;
  }
  for (std::byte& b : bytes) b = static_cast<std::byte>(random() >> 13);
  for (size_t block = 0; block < bytes.size(); block += info.block_bytes)
    set_scales(type, bytes.data() + block, gauss(random) * (info.block == 32 ? 0.05f : 0.002f));
  return bytes;
}

// Sets all scales and minimums to 1: a weight becomes the value of its quant, plus or minus 1 if the type has
// minimums.
inline void set_scales_to_one(DType type, std::vector<std::byte>& file) {
  struct Fill {
    size_t offset, bytes;
    int value;
    size_t stride = 1;
    int keep = 0;  // bits that are not replaced
  };
  const std::vector<Fill> fills = [&]() -> std::vector<Fill> {
    switch (type) {
      case DType::q2_k:
        return {{0, 16, 0x11}};
      case DType::q3_k:  // 33 - 32
        return {{96, 8, 0x11}, {104, 4, 0xaa}};
      case DType::q4_k:
      case DType::q5_k:
        return {{4, 8, 1}, {12, 4, 0x11}};
      case DType::q6_k:
        return {{192, 16, 1}};
      case DType::iq4_xs:  // 33 - 32
        return {{2, 2, 0xaa}, {4, 4, 0x11}};
      case DType::iq1_s:
        return {{35, 8, 0, 2, 0x8f}};
      case DType::iq1_m:
        return {{48, 4, 0, 2}, {49, 4, 0, 2, 0xf0}};
      case DType::iq2_xxs:
        return {{9, 8, 0, 8, 15}};
      case DType::iq2_xs:
        return {{66, 8, 0}};
      case DType::iq2_s:
        return {{74, 8, 0}};
      case DType::iq3_xxs:
        return {{69, 8, 0, 4, 15}};
      case DType::iq3_s:
        return {{106, 4, 0}};
      default:
        return {};
    }
  }();
  const float d = [&] {  // in the codebook types a quarter or an eighth of it is the scale
    switch (type) {
      case DType::iq1_s:
      case DType::iq1_m:
      case DType::iq2_xxs:
      case DType::iq2_xs:
      case DType::iq2_s:
        return 8.0f;
      case DType::iq3_xxs:
        return 4.0f;
      default:
        return 1.0f;
    }
  }();
  for (size_t block = 0; block < file.size(); block += dtype_info(type).block_bytes) {
    set_scales(type, &file[block], d);
    for (const Fill& fill : fills)
      for (size_t i = 0; i < fill.bytes; ++i) {
        std::byte& at = file[block + fill.offset + i * fill.stride];
        at = (at & static_cast<std::byte>(fill.keep)) | static_cast<std::byte>(fill.value);
      }
  }
}

inline std::vector<const KernelTable*> supported_tables() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : compiled_tables())
    if (table->supported(cpu_features())) tables.push_back(table);
  return tables;
}

inline const MatmulKernel& kernel(const KernelTable& table, DType type) {
  return table.matmul[static_cast<size_t>(type)];
}

// A weight matrix in the layout that a kernel reads.
class Weights {
 public:
  Weights(const MatmulKernel& kernel, std::vector<std::byte> file, int64_t rows, int64_t cols)
      : kernel_(kernel), file_(std::move(file)), rows_(rows), cols_(cols) {
    if (!kernel.pack) return;
    packed_ = Buffer(kernel.packed_size(rows, cols));
    kernel.pack(packed_.as(), file_.data(), rows, cols, 0, rows);
  }
  const void* data() const { return kernel_.pack ? packed_.as<const void>() : file_.data(); }
  // The data from `row` on, a multiple of panel_rows. Panels, like rows of file blocks, are contiguous.
  const void* data(int64_t row) const {
    const size_t offset = kernel_.packed_size ? kernel_.packed_size(row, cols_)
                                              : row_bytes(kernel_.type, static_cast<uint64_t>(cols_)) *
                                                    static_cast<size_t>(row);
    return static_cast<const std::byte*>(data()) + offset;
  }
  const std::vector<std::byte>& file() const { return file_; }
  std::vector<float> decoded() const {
    std::vector<float> values(static_cast<size_t>(rows_ * cols_));
    decode_row(kernel_.type)(values.data(), file_.data(), rows_ * cols_);
    return values;
  }
  const MatmulKernel& kernel() const { return kernel_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }

 private:
  const MatmulKernel& kernel_;
  std::vector<std::byte> file_;
  int64_t rows_, cols_;
  Buffer packed_;
};

// m rows of activations in one of the formats.
class Activations {
 public:
  Activations(const KernelTable& table, Activation format, const std::vector<float>& x, int64_t m)
      : table_(table),
        x_(x),
        m_(m),
        cols_(static_cast<int64_t>(x.size()) / m),
        layout_(format, cols_),
        buffer_(layout_.size(m)) {
    for (int64_t i = 0; i < m; ++i)
      table.quantize[static_cast<size_t>(format)](at(i), x.data() + i * cols_, cols_);
  }
  std::byte* at(int64_t row, int64_t column = 0) const {
    return buffer_.as() + layout_.offset(row, column / 32 * 32);
  }
  size_t stride() const { return layout_.stride; }
  Activations slice(int64_t first, int64_t m) const {
    return {table_, layout_.format, {x_.begin() + first * cols_, x_.begin() + (first + m) * cols_}, m};
  }
  int64_t m() const { return m_; }
  // The value that the kernel multiplies: x rounded to the format.
  double value(int64_t i, int64_t column) const {
    const std::byte* element = at(i, column);
    if (layout_.format == Activation::f32) return reinterpret_cast<const float*>(element)[column % 32];
    if (layout_.format == Activation::bf16)
      return bf16_to_f32(reinterpret_cast<const uint16_t*>(element)[column % 32]);
    const BlockQ8A& block = *reinterpret_cast<const BlockQ8A*>(element);
    return static_cast<double>(block.d) * block.qs[column % 32];
  }

 private:
  const KernelTable& table_;
  std::vector<float> x_;
  int64_t m_, cols_;
  ActivationLayout layout_;
  Buffer buffer_;
};

inline constexpr float kUntouched = -12345.0f;

// (m, rows): the product with rows [begin, end) of the weights, kUntouched elsewhere. `begin` is a multiple
// of panel_rows.
inline std::vector<float> multiply(const Weights& w, bool gemm, const Activations& x, int64_t begin,
                                   int64_t end) {
  const MatmulKernel& kernel = w.kernel();
  const int64_t m = x.m();
  Buffer scratch(kernel.scratch_size ? kernel.scratch_size(w.rows(), w.cols(), m) : 0);
  std::vector<float> out(static_cast<size_t>(m * w.rows()), kUntouched);
  const MatmulArgs args{.weights = w.data(begin),
                        .rows = end - begin,
                        .cols = w.cols(),
                        .activations = x.at(0),
                        .activation_stride = x.stride(),
                        .m = m,
                        .out = out.data() + begin,
                        .out_stride = w.rows(),
                        .scratch = scratch.as<void>()};
  (gemm ? kernel.gemm : kernel.gemv)(args);
  return out;
}

inline std::vector<float> multiply(const Weights& w, bool gemm, const Activations& x) {
  return multiply(w, gemm, x, 0, w.rows());
}

inline bool same_bits(const float* a, const float* b, int64_t n) {
  return n == 0 || std::memcmp(a, b, static_cast<size_t>(n) * sizeof(float)) == 0;
}

}  // namespace kernel_fixture
