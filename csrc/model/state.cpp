#include "model/state.h"

namespace binhdan::model {

SequenceState::SequenceState(const Config& config) {
  for (const LayerConfig& layer : config.layers) {
    layers_.push_back({page_bytes_, layer.kv_heads, layer.head_dim});
    page_bytes_ += layers_.back().bytes();
  }
}

void SequenceState::reserve(int64_t tokens) {
  const auto needed = static_cast<size_t>((length_ + tokens + kKvPageTokens - 1) / kKvPageTokens);
  while (pages_.size() < needed) {
    pages_.emplace_back(page_bytes_);
    pages_.back().zero();
  }
}

void SequenceState::advance_blank(int64_t tokens) {
  reserve(tokens);
  advance(tokens);
}

}  // namespace binhdan::model
