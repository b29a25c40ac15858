#include "model/batch.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "model/adapter.h"

namespace binhdan::model {
namespace {

size_t result_count(const Chunk& chunk) {
  switch (chunk.outputs) {
    case Outputs::none:
      return 0;
    case Outputs::last_logits:
    case Outputs::first_hidden:
    case Outputs::last_hidden:
      return 1;
    case Outputs::all_logits:
    case Outputs::all_hidden:
      return chunk.tokens.size();
  }
  return 0;
}

bool is_hidden(Outputs outputs) {
  return outputs == Outputs::all_hidden || outputs == Outputs::first_hidden ||
         outputs == Outputs::last_hidden;
}

}  // namespace

void Batch::assign(std::span<const Chunk> chunks) {
  rows.clear();
  runs.clear();
  output.index.clear();
  all.classes = output.classes = {};
  logits.index.clear();
  hidden_rows.clear();
  first_result.clear();
  max_rank = 0;
  for (const Chunk& chunk : chunks) {
    if (chunk.state->kv_type() != chunks[0].state->kv_type())
      fail(Code::internal, "batch: expected one KV type in all chunks, but chunk ", first_result.size(),
           " has another KV type than chunk 0");
    const int64_t start = chunk.state->length(), count = std::ssize(chunk.tokens);
    const size_t begin = rows.size(), results_count = result_count(chunk);
    runs.push_back({chunk.state, std::ssize(rows), count,
                    chunk.decode ? NumericClass::decode : NumericClass::prefill, chunk.checkpoint.get(),
                    chunk.checkpoint_tokens});
    for (int64_t i = 0; i < count; ++i)
      rows.push_back(
          {chunk.state, chunk.tokens[static_cast<size_t>(i)], start + i, start + count, chunk.adapter});
    if (chunk.adapter) max_rank = std::max(max_rank, chunk.adapter->max_rank());
    std::vector<int64_t>& results = is_hidden(chunk.outputs) ? hidden_rows : logits.index;
    first_result.push_back(results.size());
    const size_t first = chunk.outputs == Outputs::first_hidden ? begin : rows.size() - results_count;
    for (size_t row = first; row < first + results_count; ++row) {
      results.push_back(static_cast<int64_t>(row));
      output.index.push_back(static_cast<int64_t>(row));
    }
    if (chunk.decode) {
      all.classes.decode = static_cast<int64_t>(rows.size());
      output.classes.decode = static_cast<int64_t>(output.index.size());
    }
  }
  all.index.resize(rows.size());
  std::iota(all.index.begin(), all.index.end(), 0);
  logits.classes.decode = std::ssize(logits.index);
  for (RowSet* set : {&all, &output, &logits}) set->classes.total = std::ssize(set->index);
}

void Batch::mark_second_texts(text::Token separator) {
  for (const RowRun& run : runs) {
    bool second = false;
    for (Row& row : std::span(rows).subspan(static_cast<size_t>(run.row), static_cast<size_t>(run.rows))) {
      row.in_second_text = second;
      second |= row.token == separator;
    }
  }
}

}  // namespace binhdan::model
