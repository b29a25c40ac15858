// The state of a sequence: keys and values in pages of kKvPageTokens positions. A KV page holds all layers,
// so that it is the unit of sharing and of eviction.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "model/config.h"
#include "ops/attention.h"

namespace binhdan::model {

// A page is constant once all its positions are computed, so sequences may share it.
using KvPage = std::shared_ptr<const Buffer>;

class SequenceState {
 public:
  explicit SequenceState(const Config& config, KvType type = KvType::f16);

  int64_t length() const { return length_; }  // positions computed
  // Allocates pages for positions [length, length + tokens). Throws Error(out_of_memory) and leaves the state
  // unchanged.
  void reserve(int64_t tokens);
  // Called after the forward pass has written the positions.
  void advance(int64_t tokens) { length_ += tokens; }
  // Appends positions with keys and values of zero, for measurements at a depth.
  void advance_blank(int64_t tokens);
  // Appends full pages that another sequence computed for the same tokens. The length must be a multiple of
  // kKvPageTokens.
  void append_shared(std::span<const KvPage> pages);

  KvType kv_type() const { return type_; }
  uint64_t bytes() const { return pages_.size() * page_bytes_; }
  uint64_t page_bytes() const { return page_bytes_; }
  const ops::KvLayer& layer(size_t index) const { return layers_[index]; }
  const KvPage& page(size_t index) const { return pages_[index]; }
  // Appends a copy of another sequence's page, of which the first `tokens` positions are valid here. The
  // length must be a multiple of kKvPageTokens.
  void append_partial(std::shared_ptr<Buffer> page, int64_t tokens);
  // Replaces a page by one with the same keys and values.
  void replace_page(size_t index, KvPage page);
  std::byte* const* pages() const { return data_.data(); }  // valid until the next change

 private:
  KvType type_;
  std::vector<ops::KvLayer> layers_;
  uint64_t page_bytes_ = 0;
  std::vector<KvPage> pages_;
  std::vector<std::byte*> data_;  // of the pages
  int64_t length_ = 0;
};

}  // namespace binhdan::model
