#include "engine/prefix_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/page_store.h"

namespace binhdan::engine {
namespace {

constexpr auto kPage = static_cast<size_t>(kKvPageTokens);

// One step of SplitMix64 (Steele et al. 2014) per token.
uint64_t mix(uint64_t hash, text::Token token) {
  hash += static_cast<uint64_t>(static_cast<uint32_t>(token)) + 0x9e3779b97f4a7c15;
  hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
  hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
  return hash ^ (hash >> 31);
}

}  // namespace

size_t common_prefix_length(std::span<const text::Token> a, std::span<const text::Token> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

TokenChain::TokenChain(uint64_t salt, std::span<const text::Token> tokens) : salt_(salt) {
  tokens_.reserve(tokens.size());
  for (const text::Token token : tokens) append(token);
}

void TokenChain::append(text::Token token) {
  tokens_.push_back(token);
  if (tokens_.size() % kPage != 0) return;
  uint64_t hash = parent_hash(pages());
  for (const text::Token each : page(pages())) hash = mix(hash, each);
  hashes_.push_back(hash);
}

std::span<const text::Token> TokenChain::page(size_t index) const {
  return std::span(tokens_).subspan(index * kPage, kPage);
}

PrefixCache::PrefixCache(const model::PageSizes& sizes, std::unique_ptr<PageStore> store)
    : sizes_(sizes), store_(std::move(store)) {}

PrefixCache::~PrefixCache() = default;

PrefixCache::Node* PrefixCache::lookup(const TokenChain& chain, size_t index) {
  const auto found = nodes_.find(chain.hash(index));
  if (found == nodes_.end()) return nullptr;
  Node& node = found->second;
  const bool same = node.parent_hash == chain.parent_hash(index) && node.index == index &&
                    std::ranges::equal(node.tokens, chain.page(index));
  return same ? &node : nullptr;
}

std::vector<model::KvPage> PrefixCache::find_in_memory(const TokenChain& chain, size_t first, size_t end) {
  std::vector<model::KvPage> found;
  ++clock_;
  for (size_t index = 0; index < std::min(end, chain.pages()); ++index) {
    Node* node = lookup(chain, index);
    if (!node) break;
    node->last_use = clock_;
    if (index >= first) found.push_back(node->page);
  }
  return found;
}

std::vector<model::KvPage> PrefixCache::find_or_load(const TokenChain& chain, size_t first, size_t end) {
  std::vector<model::KvPage> found = find_in_memory(chain, first, end);
  if (!store_) return found;
  for (size_t index = first + found.size(); index < std::min(end, chain.pages()); ++index) {
    std::optional<model::KvPage> page = store_->load(chain, index);
    if (!page || !insert(chain, index, *page)) break;
    found.push_back(std::move(*page));
  }
  return found;
}

PartialPage PrefixCache::find_or_load_partial(const TokenChain& chain, size_t index,
                                              std::span<const text::Token> next) {
  if (index > 0 && !lookup(chain, index - 1)) return {};
  Node* best = nullptr;
  size_t tokens = kMinPartialTokens - 1;
  for (auto [at, end] = children_.equal_range(chain.parent_hash(index)); at != end; ++at) {
    Node& node = nodes_.at(at->second);
    const size_t common = node.index == index ? common_prefix_length(node.tokens, next) : 0;
    if (common <= tokens || !node.page.has_all(sizes_)) continue;
    tokens = common;
    best = &node;
  }
  if (!best) return store_ ? store_->load_partial(chain, index, next, kMinPartialTokens) : PartialPage{};
  best->last_use = ++clock_;
  return {best->page.copy(), tokens};
}

bool PrefixCache::add(const TokenChain& chain, size_t index, model::KvPage& page) {
  if (Node* node = lookup(chain, index)) {
    bytes_ -= node->page.bytes();
    for (const model::PagePart part : model::kAllPageParts)
      if (!node->page.part(part)) node->page.part(part) = page.part(part);
    if (!node->page.checkpoint) node->page.checkpoint = page.checkpoint;
    bytes_ += node->page.bytes();
    page = node->page;
    return true;
  }
  if (!insert(chain, index, page)) return false;
  if (store_) store_->save(chain, index, page);
  return true;
}

bool PrefixCache::insert(const TokenChain& chain, size_t index, model::KvPage page) {
  if (index > 0 && !lookup(chain, index - 1)) return false;
  const auto tokens = chain.page(index);
  const uint64_t bytes = page.bytes();
  Node node{chain.parent_hash(index), index, {tokens.begin(), tokens.end()}, std::move(page), ++clock_};
  if (!nodes_.try_emplace(chain.hash(index), std::move(node)).second) return false;
  children_.emplace(chain.parent_hash(index), chain.hash(index));
  bytes_ += bytes;
  return true;
}

uint64_t PrefixCache::evict(uint64_t bytes) {
  uint64_t freed = 0;
  while (freed < bytes) {
    const auto oldest = oldest_removable();
    if (!oldest) break;
    freed += remove(*oldest);
  }
  return freed;
}

// By the last use; of pages that were used together, those near the start first, because the last pages of a
// chain are where a later prompt continues.
std::optional<PrefixCache::Removable> PrefixCache::oldest_removable() {
  std::optional<Removable> oldest;
  const auto age = [](const Node& node) { return std::pair(node.last_use, node.index); };
  for (auto at = nodes_.begin(); at != nodes_.end(); ++at) {
    const Node& node = at->second;
    const auto& window = node.page.part(model::PagePart::window);
    const bool whole = !children_.contains(at->first);
    const bool removable = whole ? !node.page.is_shared() : node.page.checkpoint || window.use_count() == 1;
    if (removable && (!oldest || age(node) < age(oldest->node->second))) oldest = {at, whole};
  }
  return oldest;
}

// Returns the bytes that it freed.
uint64_t PrefixCache::remove(const Removable& what) {
  const auto& [hash, node] = *what.node;
  model::KvPage& page = what.node->second.page;
  const uint64_t before = page.bytes();
  uint64_t after = 0;
  if (what.whole) {
    auto [child, end] = children_.equal_range(node.parent_hash);
    while (child != end && child->second != hash) ++child;
    if (child != end) children_.erase(child);
    nodes_.erase(what.node);
  } else {
    page.checkpoint.reset();
    if (page.part(model::PagePart::window).use_count() == 1) page.part(model::PagePart::window).reset();
    after = page.bytes();
  }
  bytes_ -= before - after;
  return before - after;
}

}  // namespace binhdan::engine
