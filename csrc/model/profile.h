// Where the time of a forward pass goes, operation by operation: measured on rank 0, so that what it spends
// waiting for the others shows as an operation of its own.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>

#include "base/clock.h"
#include "ops/matmul.h"

namespace binhdan::model {

// In the order of the walk; `wait` is the time in barriers.
enum class Op { embedding, norm, qkv, attention, attention_output, gate_up, down, logits, wait };
inline constexpr std::array kOpNames = {"embedding", "norm", "qkv",    "attention", "attention_output",
                                        "gate_up",   "down", "logits", "wait"};

// Sums over all calls.
struct OpCost {
  int64_t calls = 0;
  int64_t ns = 0;      // on rank 0
  uint64_t bytes = 0;  // of weights, keys and values that all ranks together read at least once
  uint64_t macs = 0;   // multiply-adds of all ranks
};

struct Profile {
  std::array<OpCost, kOpNames.size()> ops{};
  int64_t ns = 0;  // of whole passes

  void start() { start_ = last_ = now_ns(); }
  void stop() { ns += now_ns() - start_; }
  // Charges the time since start() or the last call.
  void done(Op op, uint64_t bytes, uint64_t macs) {
    OpCost& cost = ops[static_cast<size_t>(op)];
    const int64_t now = now_ns();
    cost.ns += now - last_;
    last_ = now;
    ++cost.calls;
    cost.bytes += bytes;
    cost.macs += macs;
  }
  // The same for a product of `rows` rows with each of these matrices.
  void done(Op op, std::initializer_list<const ops::Matrix*> matrices, int64_t rows) {
    uint64_t bytes = 0, weights = 0;
    for (const ops::Matrix* matrix : matrices) {
      bytes += matrix->bytes();
      weights += static_cast<uint64_t>(matrix->rows) * static_cast<uint64_t>(matrix->cols);
    }
    done(op, bytes, weights * static_cast<uint64_t>(rows));
  }

 private:
  int64_t start_ = 0, last_ = 0;
};

}  // namespace binhdan::model
