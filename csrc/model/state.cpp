#include "model/state.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/checked.h"

namespace binhdan::model {
namespace {

constexpr auto kPage = static_cast<size_t>(kKvPageTokens);

size_t offset_of(uint64_t floats) {
  return checked_cast<size_t>(floats, "recurrent state");
}

size_t pages_for(int64_t tokens) {
  return (static_cast<size_t>(tokens) + kPage - 1) / kPage;
}

}  // namespace

StateLayout::StateLayout(const Config& config, KvType type) : type_(type) {
  uint64_t floats = 0;  // of the recurrent state
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& layer = config.layers[i];
    Layer place{layer.window > 0 ? PagePart::window : PagePart::full, {}};
    const auto taps = static_cast<size_t>(config.convolution_taps);
    switch (layer.mixer) {
      case Mixer::attention:
        if (config.stores_kv(i)) {
          uint64_t& offset = sizes_.parts[static_cast<size_t>(place.part)];
          place.kv = {type, checked_cast<size_t>(offset, "KV page"), layer.kv_heads, layer.head_dim};
          offset += place.kv.bytes();
          window_ = std::max(window_, layer.window);
        } else {
          place = layers_[static_cast<size_t>(layer.kv_layer)];
        }
        break;
      case Mixer::short_convolution:
        place.convolution = offset_of(floats);
        floats += (taps - 1) * static_cast<uint64_t>(config.dim);
        break;
      case Mixer::delta_net:
        place.convolution = offset_of(floats);
        floats += (taps - 1) * static_cast<uint64_t>(config.delta_net.channels());
        place.delta = offset_of(floats);
        floats += static_cast<uint64_t>(config.delta_net.value_width() * config.delta_net.key_dim);
        break;
    }
    layers_.push_back(place);
  }
  sizes_.checkpoint = floats * sizeof(float);
}

size_t StateLayout::first_window_page(int64_t length) const {
  return static_cast<size_t>(std::max<int64_t>(0, length - window_ + 1)) / kPage;
}

size_t StateLayout::max_window_pages(int64_t chunk) const {
  return pages_for(window_ + chunk) + 1;  // a chunk sees the window before its first position
}

uint64_t StateLayout::max_bytes(int64_t tokens, int64_t chunk) const {
  const size_t pages = pages_for(tokens);
  const size_t window_pages = std::min(pages, max_window_pages(chunk));
  return pages * sizes_.part(PagePart::full) + window_pages * sizes_.part(PagePart::window) +
         sizes_.checkpoint;
}

SequenceState::SequenceState(const Config& config, KvType type)
    : SequenceState(std::make_shared<const StateLayout>(config, type)) {}

SequenceState::SequenceState(std::shared_ptr<const StateLayout> layout) : layout_(std::move(layout)) {}

// Allocated when the state is first used: a waiting request needs no memory.
void SequenceState::reserve_recurrent() {
  if (recurrent_.size() == layout_->sizes().checkpoint) return;
  recurrent_ = Buffer(layout_->sizes().checkpoint);
  recurrent_.zero();
}

void SequenceState::push(KvPage page) {
  for (const PagePart part : kAllPageParts) {
    const auto& buffer = page.part(part);
    data_[static_cast<size_t>(part)].push_back(buffer ? buffer->as() : nullptr);
  }
  pages_.push_back(std::move(page));
}

void SequenceState::reserve(int64_t tokens) {
  const size_t needed = pages_for(length_ + tokens);
  reserve_recurrent();
  pages_.reserve(needed);
  for (auto& data : data_) data.reserve(needed);
  while (pages_.size() < needed) {
    KvPage page;
    for (const PagePart part : kAllPageParts) {
      if (layout_->sizes().part(part) == 0) continue;
      auto buffer = std::make_shared<Buffer>(layout_->sizes().part(part));
      buffer->zero();
      page.part(part) = std::move(buffer);
    }
    push(std::move(page));
  }
}

void SequenceState::advance(int64_t tokens, int64_t unverified) {
  length_ += tokens;
  if (!layout_->has_window()) return;
  constexpr auto kWindow = static_cast<size_t>(PagePart::window);
  for (const size_t end = std::min(layout_->first_window_page(length_ - unverified), pages_.size());
       freed_ < end; ++freed_) {
    pages_[freed_].part(PagePart::window).reset();
    data_[kWindow][freed_] = nullptr;
  }
}

void SequenceState::advance_blank(int64_t tokens) {
  for (int64_t done = 0; done < tokens; done += kKvPageTokens) {  // windows keep the memory small
    const int64_t step = std::min<int64_t>(kKvPageTokens, tokens - done);
    reserve(step);
    advance(step);
  }
}

void SequenceState::append_shared(std::span<const KvPage> pages) {
  if (pages.empty()) return;
  if (const auto& state = pages.back().checkpoint) {
    reserve_recurrent();
    std::memcpy(recurrent_.as(), state->as(), recurrent_.size());
  }
  append(pages, std::ssize(pages) * kKvPageTokens);
}

void SequenceState::append_partial(KvPage page, int64_t tokens) {
  append({{std::move(page)}}, tokens);
}

void SequenceState::append(std::span<const KvPage> pages, int64_t tokens) {
  const size_t own = static_cast<size_t>(length_) / kPage;
  pages_.resize(own);  // pages reserved beyond the length are empty
  for (auto& data : data_) data.resize(own);
  for (const KvPage& page : pages) push({page.parts, nullptr});  // the cache keeps the checkpoints
  advance(tokens);
}

size_t SequenceState::usable(std::span<const KvPage> pages) const {
  for (size_t count = pages.size(); count > 0; --count) {
    if (layout_->is_recurrent() && !pages[count - 1].checkpoint) continue;
    if (!layout_->has_window()) return count;
    const size_t own = static_cast<size_t>(length_) / kPage;
    const size_t first = layout_->first_window_page(length_ + static_cast<int64_t>(count * kPage));
    const auto seen = pages.subspan(0, count).subspan(std::min(count, first > own ? first - own : 0));
    if (std::ranges::all_of(seen, [](const KvPage& page) { return page.part(PagePart::window) != nullptr; }))
      return count;
  }
  return 0;
}

uint64_t SequenceState::bytes(size_t first) const {
  uint64_t sum = recurrent_.size();
  for (size_t i = first; i < pages_.size(); ++i) sum += pages_[i].bytes();
  return sum;
}

void SequenceState::replace_page(size_t index, const KvPage& page) {
  for (const PagePart part : kAllPageParts) {
    std::byte*& data = data_[static_cast<size_t>(part)][index];
    if (!data || !page.part(part)) continue;  // freed here, or there
    pages_[index].part(part) = page.part(part);
    data = page.part(part)->as();
  }
}

}  // namespace binhdan::model
