// Products of matrices with the changes of adapters: each row of a batch may have its own adapter.
#include <algorithm>

#include "model/forward.h"

namespace binhdan::model {

// Stores down x of row i for those of `readers` that its adapter changes.
void Forward::lower(const RowSet& rows, ops::Activations::Readers readers, int64_t i, const float* x,
                    Buffer& low) {
  const Adapter* adapter = batch_.rows[static_cast<size_t>(rows.index[static_cast<size_t>(i)])].adapter;
  if (!adapter) return;
  float* out = low.as<float>() + i * kMaxReaders * batch_.max_rank;
  for (const Matrix* reader : readers) {
    if (const LowRank* change = adapter->find(*reader)) {
      std::fill_n(out, change->rank, 0.0f);
      model_.table->add_products(out, x, change->down, reader->cols, change->rank);
      model_.table->scale(out, change->scale, change->rank);
    }
    out += batch_.max_rank;
  }
}

// The rows that multiply_gated() has stored for `reader`. Costs a barrier if there are adapters and more than
// kMaxSelfPreparedRows rows.
Forward::Input Forward::gated_input(Team& team, const RowSet& rows, const Matrix& reader) {
  const bool together = rows.size() > kMaxSelfPreparedRows;
  Buffer& low = together ? ffn_input_.low : buffers_of(team).input.low;
  if (batch_.max_rank > 0) {
    const auto [begin, end] = together ? team.share(rows.size()) : Range{0, rows.size()};
    for (int64_t i = begin; i < end; ++i)
      lower(rows, {&reader}, i, gated_rows_.as<float>() + i * reader.cols, low);
    if (together) barrier(team);
  }
  return {ffn_input_.rows, low.as<const float>(), {&reader}};
}

// As ops::matmul(), with the changes of adapters.
void Forward::multiply(Team& team, const Matrix& matrix, Range range, const Input& input, const RowSet& rows,
                       float* out, int64_t stride) {
  ops::matmul(matrix, range, input.rows, rows.classes, out, stride, buffers_of(team).scratch);
  if (batch_.max_rank > 0) add_changes(matrix, range, input, rows, out, stride);
}

void Forward::add_changes(const Matrix& matrix, Range range, const Input& input, const RowSet& rows,
                          float* out, int64_t stride) {
  const auto place = std::ranges::find(input.readers, &matrix) - input.readers.begin();
  for (int64_t i = 0; i < rows.size(); ++i, out += stride) {
    const Adapter* adapter = batch_.rows[static_cast<size_t>(rows.index[static_cast<size_t>(i)])].adapter;
    const LowRank* change = adapter ? adapter->find(matrix) : nullptr;
    if (!change) continue;
    const float* low = input.low + (i * kMaxReaders + place) * batch_.max_rank;
    model_.table->add_products(out, low, change->up_from(range.first), change->rank,
                               range.second - range.first);
  }
}

}  // namespace binhdan::model
