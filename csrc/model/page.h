// KV pages: the keys and values of kKvPageTokens positions in all layers, the unit of allocation, sharing and
// eviction.
#pragma once
#include <array>
#include <cstdint>
#include <memory>

#include "base/buffer.h"
#include "kernels/kernels.h"

namespace binhdan::model {

// The parts of a page. Layers with a window have their own part: it is freed when no later position can see
// it.
enum class PagePart : uint8_t { full, window };
inline constexpr size_t kPageParts = 2;
inline constexpr std::array kAllPageParts = {PagePart::full, PagePart::window};

// In bytes.
struct PageSizes {
  std::array<uint64_t, kPageParts> parts{};
  uint64_t checkpoint = 0;  // of a recurrent model

  uint64_t part(PagePart which) const { return parts[static_cast<size_t>(which)]; }
  uint64_t all_parts() const { return parts[0] + parts[1]; }
};

// A page is constant once all its positions are computed, so sequences may share it.
struct KvPage {
  std::array<std::shared_ptr<const Buffer>, kPageParts>
      parts;                                 // null if the model has no such part, or freed
  std::shared_ptr<const Buffer> checkpoint;  // the recurrent state after the page, if it was kept

  const std::shared_ptr<const Buffer>& part(PagePart which) const {
    return parts[static_cast<size_t>(which)];
  }
  std::shared_ptr<const Buffer>& part(PagePart which) { return parts[static_cast<size_t>(which)]; }
  uint64_t bytes() const;
  // No part was freed.
  bool has_all(const PageSizes& sizes) const;
  // Another owner than the caller holds a part.
  bool is_shared() const;
  // With the same contents in new buffers, without checkpoint.
  KvPage copy() const;

  friend bool operator==(const KvPage&, const KvPage&) = default;
};

}  // namespace binhdan::model
