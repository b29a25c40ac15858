#include "ops/delta_rule.h"

#include <algorithm>

namespace binhdan::ops {
namespace {

// The arguments for `count` rows of a head, from row `first` of the run on.
DeltaRuleArgs kernel_args(const DeltaRun& run, const DeltaShape& shape, const DeltaRows& rows, int64_t head,
                          int64_t first, int64_t count, void* scratch) {
  const int64_t row = run.row + first, key = row * rows.qk_stride + head % shape.key_heads * shape.key_dim;
  const int64_t gate = row * rows.gate_stride + head;
  return {.q = rows.q + key,
          .k = rows.k + key,
          .qk_stride = rows.qk_stride,
          .v = rows.v + row * rows.v_stride + head * shape.value_dim,
          .v_stride = rows.v_stride,
          .decay = rows.decay + gate,
          .beta = rows.beta + gate,
          .gate_stride = rows.gate_stride,
          .state = run.state + head * shape.key_dim * shape.value_dim,
          .out = rows.out + row * rows.out_stride + head * shape.value_dim,
          .out_stride = rows.out_stride,
          .rows = count,
          .key_dim = shape.key_dim,
          .value_dim = shape.value_dim,
          .scratch = scratch};
}

// Rows up to the next end of a chunk, or all rows in the class decode.
int64_t rows_together(const DeltaRun& run, int64_t first) {
  if (run.numeric_class == NumericClass::decode) return run.rows - first;
  return std::min(kDeltaChunk - (run.position + first) % kDeltaChunk, run.rows - first);
}

void compute_head(const KernelTable& table, const DeltaRun& run, const DeltaShape& shape,
                  const DeltaRows& rows, int64_t head, void* scratch) {
  const auto kernel = run.numeric_class == NumericClass::decode ? table.delta_step : table.delta_chunk;
  for (int64_t first = 0, count = 0; first < run.rows; first += count) {
    count = rows_together(run, first);
    if (first < run.checkpoint_rows) count = std::min(count, run.checkpoint_rows - first);
    kernel(kernel_args(run, shape, rows, head, first, count, scratch));
    if (run.checkpoint && first + count == run.checkpoint_rows) {
      const int64_t size = shape.key_dim * shape.value_dim;
      std::copy_n(run.state + head * size, size, run.checkpoint + head * size);
    }
  }
}

}  // namespace

void delta_rule(Team& team, const KernelTable& table, std::span<const DeltaRun> runs, const DeltaShape& shape,
                const DeltaRows& rows, Buffer& scratch) {
  scratch.reserve(delta_scratch_size(shape.key_dim, shape.value_dim));
  const auto items = static_cast<int64_t>(runs.size()) * shape.heads;
  team.distribute(items, 1, 1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item)
      compute_head(table, runs[static_cast<size_t>(item / shape.heads)], shape, rows, item % shape.heads,
                   scratch.as<void>());
  });
}

}  // namespace binhdan::ops
