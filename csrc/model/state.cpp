#include "model/state.h"

namespace binhdan::model {

SequenceState::SequenceState(const Config& config, KvType type) : type_(type) {
  for (const LayerConfig& layer : config.layers) {
    layers_.push_back({type, page_bytes_, layer.kv_heads, layer.head_dim});
    page_bytes_ += layers_.back().bytes();
  }
}

void SequenceState::reserve(int64_t tokens) {
  const auto needed = static_cast<size_t>((length_ + tokens + kKvPageTokens - 1) / kKvPageTokens);
  pages_.reserve(needed);
  data_.reserve(needed);
  while (pages_.size() < needed) {
    auto page = std::make_shared<Buffer>(page_bytes_);
    page->zero();
    data_.push_back(page->as());
    pages_.push_back(std::move(page));
  }
}

void SequenceState::advance_blank(int64_t tokens) {
  reserve(tokens);
  advance(tokens);
}

void SequenceState::append_shared(std::span<const KvPage> pages) {
  const auto own = static_cast<size_t>(length_ / kKvPageTokens);
  pages_.resize(own);  // pages reserved beyond the length are empty
  data_.resize(own);
  for (const KvPage& page : pages) {
    pages_.push_back(page);
    data_.push_back(page->as());
  }
  length_ += static_cast<int64_t>(pages.size()) * kKvPageTokens;
}

void SequenceState::append_partial(std::shared_ptr<Buffer> page, int64_t tokens) {
  append_shared({{std::move(page)}});
  length_ += tokens - kKvPageTokens;
}

void SequenceState::replace_page(size_t index, KvPage page) {
  data_[index] = page->as();
  pages_[index] = std::move(page);
}

}  // namespace binhdan::model
