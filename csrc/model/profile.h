// Time and work of a forward pass, by operation. Rank 0 measures, and its time in barriers is an operation
// too.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>

#include "base/clock.h"
#include "ops/matmul.h"

namespace binhdan::model {

// In the order of the forward pass; `wait` is the time in barriers.
enum class Op {
  embedding,
  norm,
  qkv,
  attention,
  recurrence,
  attention_output,
  gate_up,
  down,
  layer_input,
  logits,
  wait
};
inline constexpr std::array kOpNames = {
    "embedding", "norm", "qkv",         "attention", "recurrence", "attention_output",
    "gate_up",   "down", "layer_input", "logits",    "wait"};

// Sums over all calls.
struct OpStats {
  int64_t calls = 0;
  int64_t ns = 0;      // on rank 0
  uint64_t bytes = 0;  // weights, keys and values that were read, by all ranks; each counts once a call
  uint64_t macs = 0;   // multiply-adds of all ranks
};

struct Profile {
  std::array<OpStats, kOpNames.size()> ops{};
  int64_t ns = 0;  // of all passes

  void start() { start_ = last_ = now_ns(); }
  void stop() { ns += now_ns() - start_; }
  // Adds the time since start() or the last call to `op`.
  void record(Op op, uint64_t bytes, uint64_t macs) {
    OpStats& stats = ops[static_cast<size_t>(op)];
    const int64_t now = now_ns();
    stats.ns += now - last_;
    last_ = now;
    ++stats.calls;
    stats.bytes += bytes;
    stats.macs += macs;
  }
  // The same, for products of `rows` rows with each of these matrices.
  void record(Op op, std::initializer_list<const ops::Matrix*> matrices, int64_t rows) {
    uint64_t bytes = 0, weights = 0;
    for (const ops::Matrix* matrix : matrices) {
      bytes += matrix->bytes();
      weights += static_cast<uint64_t>(matrix->rows) * static_cast<uint64_t>(matrix->cols);
    }
    record(op, bytes, weights * static_cast<uint64_t>(rows));
  }

 private:
  int64_t start_ = 0, last_ = 0;
};

}  // namespace binhdan::model
