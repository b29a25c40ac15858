#include "encode/encode.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <vector>

#include "base/error.h"
#include "encode/fit.h"
#include "kernels/codec.h"

namespace binhdan::encode {
namespace {

// Types whose plain rounding leaves nothing for a search to gain.
bool is_plain(DType type) {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16 || type == DType::q8_0;
}

// Weights with a mean near 1. The smallest is 1e-5, so that a column without importance still gets a value.
std::vector<float> column_weights(const float* importance, int64_t cols) {
  std::vector<float> weights(static_cast<size_t>(cols), 1.0f);
  if (!importance) return weights;
  double sum = 0;
  const auto usable = [](float w) { return std::isfinite(w) && w > 0 ? w : 0.0f; };
  for (int64_t j = 0; j < cols; ++j) sum += usable(importance[j]);
  if (!(sum > 0)) return weights;
  const double factor = static_cast<double>(cols) / sum;
  for (int64_t j = 0; j < cols; ++j)
    weights[static_cast<size_t>(j)] = static_cast<float>(usable(importance[j]) * factor + 1e-5);
  return weights;
}

void encode_block(const BlockFit& block, const float* x, const float* w, void* dst) {
  Plan plan;
  block.fit(x, w, plan);
  block.round(plan, x);
  block.format().pack(dst, plan);
}

}  // namespace

bool can_encode(DType type) {
  return is_plain(type) || find_format(type);
}

void encode_rows(DType type, const float* src, int64_t rows, int64_t cols, const float* importance, void* dst,
                 const KernelTable& table, ThreadPool& pool) {
  const DTypeInfo& info = dtype_info(type);
  const uint64_t stride = row_bytes(type, static_cast<uint64_t>(cols));
  const Format* format = is_plain(type) ? nullptr : find_format(type);
  if (!can_encode(type)) fail(Code::unsupported, "encoding to ", info.name, " is not supported");
  std::optional<BlockFit> block;
  if (format) block.emplace(*format, table.candidates);
  const std::vector<float> weights = column_weights(importance, cols);
  const int64_t blocks = cols / info.block;
  pool.run([&](Team& team) {
    team.distribute(rows, 1, 8, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        auto* out = static_cast<std::byte*>(dst) + static_cast<uint64_t>(row) * stride;
        const float* x = src + row * cols;
        if (!block) {
          encode_row(type)(out, x, cols);
          continue;
        }
        for (int64_t i = 0; i < blocks; ++i)
          encode_block(*block, x + i * info.block, weights.data() + i * info.block,
                       out + static_cast<uint64_t>(i) * info.block_bytes);
      }
    });
  });
}

}  // namespace binhdan::encode
