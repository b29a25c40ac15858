// What a sequence remembers of its past: keys and values, in pages of kKvPageTokens positions. A page holds
// all layers, so that a page is the unit of sharing and of eviction.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "model/config.h"
#include "ops/attention.h"

namespace binhdan::model {

// Once all its positions are computed nobody writes a page again: sequences may share it.
using KvPage = std::shared_ptr<const Buffer>;

class SequenceState {
 public:
  explicit SequenceState(const Config& config, KvType type = KvType::f16);

  int64_t length() const { return length_; }  // positions computed
  // Makes room for positions [length, length + tokens). Throws Error(out_of_memory); the state is then
  // unchanged.
  void reserve(int64_t tokens);
  // After the forward pass wrote them.
  void advance(int64_t tokens) { length_ += tokens; }
  // As if these had been computed, with keys and values of zero: for measurements at a depth.
  void advance_blank(int64_t tokens);
  // Goes on from full pages that another sequence computed for the same tokens. Its own length must be a
  // whole number of pages.
  void adopt(std::span<const KvPage> pages);

  KvType kv_type() const { return type_; }
  uint64_t bytes() const { return pages_.size() * page_bytes_; }
  uint64_t page_bytes() const { return page_bytes_; }
  const ops::KvLayer& layer(size_t index) const { return layers_[index]; }
  const KvPage& page(size_t index) const { return pages_[index]; }
  // The same with a page of which another sequence computed the first `tokens` positions; the others are to
  // come.
  void adopt_start(std::shared_ptr<Buffer> page, int64_t tokens);
  // Another page with the same keys and values.
  void replace_page(size_t index, KvPage page);
  std::byte* const* pages() const { return data_.data(); }  // until the next reserve()

 private:
  KvType type_;
  std::vector<ops::KvLayer> layers_;
  uint64_t page_bytes_ = 0;
  std::vector<KvPage> pages_;
  std::vector<std::byte*> data_;  // of the pages
  int64_t length_ = 0;
};

}  // namespace binhdan::model
