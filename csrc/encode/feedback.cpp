#include "encode/feedback.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "base/error.h"
#include "encode/fit.h"

namespace binhdan::encode {
namespace {

constexpr int64_t kRows = 8;  // encoded together: a row of U is loaded once for all
constexpr int kTrials = 2;    // of the scales of a block

class Feedback {
 public:
  Feedback(const BlockFit& block, const float* factor, int64_t cols) : block_(block), cols_(cols) {
    u_.assign(factor, factor + cols * cols);
    importance_.resize(static_cast<size_t>(cols));
    double sum = 0;
    for (int64_t k = 0; k < cols; ++k) {
      const double diagonal = factor[k * cols + k];
      if (!(diagonal > 0) || !std::isfinite(diagonal))
        fail(Code::invalid_argument, "factor: expected a positive diagonal, got ", diagonal, " in column ",
             k);
      sum += diagonal * diagonal;
    }
    for (int64_t k = 0; k < cols; ++k) {
      const float diagonal = factor[k * cols + k], inverse = 1.0f / diagonal;
      for (int64_t j = 0; j < k; ++j) u_[static_cast<size_t>(j * cols + k)] *= inverse;
      importance_[static_cast<size_t>(k)] =
          static_cast<float>(static_cast<double>(diagonal) * diagonal * static_cast<double>(cols) / sum);
    }
  }

  // Encodes at most kRows rows.
  void encode(const float* src, int64_t rows, std::byte* dst, size_t stride, size_t block_bytes) const {
    const int64_t size = block_.format().block;
    std::vector<float> errors(static_cast<size_t>(kRows * cols_), 0.0f),
        targets(static_cast<size_t>(kRows * size));
    for (int64_t begin = 0; begin < cols_; begin += size) {
      for (int64_t row = 0; row < rows; ++row)
        std::copy_n(src + row * cols_ + begin, size, &targets[static_cast<size_t>(row * size)]);
      for (int64_t j = 0; j < begin; ++j) {
        const float* u = u_row(j) + begin;
        for (int64_t row = 0; row < rows; ++row)
          add_scaled(&targets[static_cast<size_t>(row * size)], u,
                     errors[static_cast<size_t>(row * cols_ + j)], size);
      }
      for (int64_t row = 0; row < rows; ++row) {
        const Plan plan = encode_block(src + row * cols_ + begin, &targets[static_cast<size_t>(row * size)],
                                       begin, &errors[static_cast<size_t>(row * cols_ + begin)]);
        block_.format().pack(
            dst + static_cast<size_t>(row) * stride + static_cast<size_t>(begin / size) * block_bytes, plan);
      }
    }
  }

 private:
  const float* u_row(int64_t j) const { return &u_[static_cast<size_t>(j * cols_)]; }

  static void add_scaled(float* y, const float* x, float factor, int64_t n) {
    for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
  }

  // One block of a row. targets: y without the feedback from columns of this block. Sets errors to x - x'. The
  // second trial chooses the scales for the targets with the feedback of the first.
  Plan encode_block(const float* x, const float* targets, int64_t begin, float* errors) const {
    const int size = block_.format().block;
    const float* importance = &importance_[static_cast<size_t>(begin)];
    float y[kSuper], trial_errors[kSuper];
    std::copy_n(targets, size, y);
    Plan best;
    float best_loss = INFINITY;
    for (int trial = 0; trial < kTrials; ++trial) {
      Plan plan;
      block_.fit(y, importance, plan);
      std::copy_n(targets, size, y);
      float loss = 0.0f;
      for (int k = 0; k < size; ++k) {
        const float inverse_scale = inverse(plan.scale[k / block_.format().group]);
        const float value = block_.round_column(plan, k, y[k], inverse_scale), rest = y[k] - value;
        loss += importance[k] * rest * rest;
        trial_errors[k] = x[k] - value;
        add_scaled(y + k + 1, u_row(begin + k) + begin + k + 1, trial_errors[k], size - k - 1);
      }
      if (loss < best_loss || trial == 0) {
        best_loss = loss;
        best = plan;
        std::copy_n(trial_errors, size, errors);
      }
    }
    return best;
  }

  const BlockFit& block_;
  const int64_t cols_;
  std::vector<float> u_, importance_;
};

}  // namespace

bool can_feed_back(DType type) {
  return find_format(type);
}

void encode_feedback(DType type, const float* src, int64_t rows, int64_t cols, const float* factor, void* dst,
                     const KernelTable& table, ThreadPool& pool) {
  const DTypeInfo& info = dtype_info(type);
  const size_t stride = row_bytes(type, static_cast<uint64_t>(cols));
  const Format* format = find_format(type);
  if (!format) fail(Code::unsupported, "encoding to ", info.name, " with feedback is not supported");
  const BlockFit block(*format, table.candidates);
  const Feedback feedback(block, factor, cols);
  pool.run([&](Team& team) {
    team.distribute(rows, kRows, kRows, [&](int64_t begin, int64_t end) {
      feedback.encode(src + begin * cols, end - begin,
                      static_cast<std::byte*>(dst) + static_cast<size_t>(begin) * stride, stride,
                      info.block_bytes);
    });
  });
}

}  // namespace binhdan::encode
