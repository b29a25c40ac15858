#include "model/page.h"

#include <algorithm>
#include <cstring>

namespace binhdan::model {

uint64_t KvPage::bytes() const {
  uint64_t sum = checkpoint ? checkpoint->size() : 0;
  for (const auto& buffer : parts)
    if (buffer) sum += buffer->size();
  return sum;
}

bool KvPage::has_all(const PageSizes& sizes) const {
  return std::ranges::all_of(
      kAllPageParts, [&](PagePart which) { return sizes.part(which) == 0 || part(which) != nullptr; });
}

bool KvPage::is_shared() const {
  return std::ranges::any_of(parts, [](const auto& buffer) { return buffer.use_count() > 1; });
}

KvPage KvPage::copy() const {
  KvPage result;
  for (size_t i = 0; i < kPageParts; ++i) {
    if (!parts[i]) continue;
    auto buffer = std::make_shared<Buffer>(parts[i]->size());
    std::memcpy(buffer->as(), parts[i]->as(), parts[i]->size());
    result.parts[i] = std::move(buffer);
  }
  return result;
}

}  // namespace binhdan::model
