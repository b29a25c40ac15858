// The state of a sequence: keys and values in pages of kKvPageTokens positions, and the states of recurrent
// layers. A KV page holds all layers, so that it is the unit of sharing and of eviction. The layers with a
// window have their own part of a page: it is freed when no later position can see it.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/buffer.h"
#include "model/config.h"
#include "model/page.h"
#include "ops/attention.h"

namespace binhdan::model {

// Where keys, values and recurrent states are; the same for all sequences of an engine.
class StateLayout {
 public:
  explicit StateLayout(const Config& config, KvType type = KvType::f16);

  struct Layer {
    PagePart part;
    ops::KvLayer kv;         // in that part of a page
    size_t convolution = 0;  // floats from the start of the recurrent state, as the next one:
    size_t delta = 0;        // the inputs (taps - 1, channels); S (heads, key_dim, value_dim)
  };

  KvType type() const { return type_; }
  const Layer& layer(size_t index) const { return layers_[index]; }
  const PageSizes& sizes() const { return sizes_; }
  bool has_window() const { return sizes_.part(PagePart::window) > 0; }
  bool is_recurrent() const { return sizes_.checkpoint > 0; }
  // The first page whose window part the positions from `length` on can see.
  size_t first_window_page(int64_t length) const;
  // The largest number of window parts that a sequence keeps; the other numbers of its size are in sizes().
  size_t max_window_pages(int64_t chunk) const;
  // The largest number of bytes that a sequence has when it grows to `tokens` in chunks of at most `chunk`.
  uint64_t max_bytes(int64_t tokens, int64_t chunk) const;

 private:
  KvType type_;
  std::vector<Layer> layers_;
  PageSizes sizes_;
  int64_t window_ = 0;  // the largest of all layers
};

class SequenceState {
 public:
  explicit SequenceState(std::shared_ptr<const StateLayout> layout);
  explicit SequenceState(const Config& config, KvType type = KvType::f16);

  int64_t length() const { return length_; }  // positions computed
  // Allocates pages for positions [length, length + tokens). Throws Error(out_of_memory) and leaves the state
  // unchanged.
  void reserve(int64_t tokens);
  // Called after the forward pass has written the positions. Frees window parts that no later position sees, also if
  // the last `unverified` positions are truncated.
  void advance(int64_t tokens, int64_t unverified = 0);
  // Removes the last `tokens` positions, which advance() called unverified. Not for recurrent models.
  void truncate(int64_t tokens) { length_ -= tokens; }
  // Appends positions with keys and values of zero, for measurements at a depth.
  void advance_blank(int64_t tokens);
  // Appends full pages that another sequence computed for the same tokens. The length must be a multiple of
  // kKvPageTokens. Of a recurrent model, the last page must have a checkpoint.
  void append_shared(std::span<const KvPage> pages);
  // Appends a copy of another sequence's page, of which the first `tokens` positions are valid here. The
  // length must be a multiple of kKvPageTokens. Not for recurrent models.
  void append_partial(KvPage page, int64_t tokens);
  // How many of `pages`, which would follow this state, it can use: the last one has a checkpoint if the
  // model is recurrent, and the window parts that later positions see are there.
  size_t usable(std::span<const KvPage> pages) const;

  const StateLayout& layout() const { return *layout_; }
  KvType kv_type() const { return layout_->type(); }
  // Bytes of the recurrent state and of the pages from `first` on.
  uint64_t bytes(size_t first = 0) const;
  const KvPage& page(size_t index) const { return pages_[index]; }
  // Replaces a page by one with the same keys and values.
  void replace_page(size_t index, const KvPage& page);
  // The parts of all pages, nullptr where freed; valid until the next change.
  std::byte* const* pages(PagePart part) const { return data_[static_cast<size_t>(part)].data(); }
  float* recurrent() const { return recurrent_.as<float>(); }
  // Frees all memory. The state is then of no use.
  void release() { *this = SequenceState(layout_); }

 private:
  void push(KvPage page);
  void reserve_recurrent();
  void append(std::span<const KvPage> pages, int64_t tokens);

  std::shared_ptr<const StateLayout> layout_;
  std::vector<KvPage> pages_;
  std::array<std::vector<std::byte*>, kPageParts> data_;  // of the parts
  size_t freed_ = 0;                                      // pages before this have no window part
  Buffer recurrent_;
  int64_t length_ = 0;
};

}  // namespace binhdan::model
