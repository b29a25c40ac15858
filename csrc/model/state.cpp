#include "model/state.h"

namespace binhdan::model {

SequenceState::SequenceState(const Config& config) {
  for (const LayerConfig& layer : config.layers) {
    const size_t bytes =
        static_cast<size_t>(layer.kv_heads * kKvPageTokens * layer.head_dim) * sizeof(uint16_t);
    layers_.push_back({page_bytes_, page_bytes_ + bytes, layer.kv_heads, layer.head_dim});
    page_bytes_ += 2 * bytes;
  }
}

void SequenceState::reserve(int64_t tokens) {
  const auto needed = static_cast<size_t>((length_ + tokens + kKvPageTokens - 1) / kKvPageTokens);
  while (pages_.size() < needed) pages_.emplace_back(page_bytes_);
}

void SequenceState::advance_blank(int64_t tokens) {
  const size_t before = pages_.size();
  reserve(tokens);
  for (size_t i = before; i < pages_.size(); ++i) pages_[i].zero();
  advance(tokens);
}

ops::KvView SequenceState::layer(size_t index) const {
  const LayerPlace& place = layers_[index];
  return {pages_.data(), place.k_offset, place.v_offset, place.kv_heads, place.head_dim};
}

}  // namespace binhdan::model
