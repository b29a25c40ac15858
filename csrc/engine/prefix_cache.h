// The prefix cache: KV pages of earlier prompts and answers, for prompts with the same beginning (system
// prompts, examples, the history of a chat).
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/page.h"
#include "text/vocab.h"

namespace binhdan::engine {

// The tokens of a sequence, with a hash for each full page. The hash of a page covers all tokens of the
// sequence up to the end of the page.
class TokenChain {
 public:
  // Chains with different salts share no hash.
  TokenChain(uint64_t salt, std::span<const text::Token> tokens);

  void append(text::Token token);
  std::span<const text::Token> tokens() const { return tokens_; }
  size_t pages() const { return hashes_.size(); }  // full ones
  std::span<const uint64_t> hashes() const { return hashes_; }
  uint64_t hash(size_t page) const { return hashes_[page]; }
  // The hash of the page before it; the salt for page 0.
  uint64_t parent_hash(size_t page) const { return page == 0 ? salt_ : hashes_[page - 1]; }
  std::span<const text::Token> page(size_t index) const;

 private:
  uint64_t salt_;
  std::vector<text::Token> tokens_;
  std::vector<uint64_t> hashes_;
};

class PageStore;

// A copy of a page. Its first `tokens` positions are valid; the owner overwrites the others.
struct PartialPage {
  model::KvPage page;
  size_t tokens = 0;  // 0: no page
};

// In tokens.
size_t common_prefix_length(std::span<const text::Token> a, std::span<const text::Token> b);

// Full pages as a forest: a page's parent is the page before it. evict() removes the least recently used
// pages, children before parents, and never a page that a sequence holds. Of a page with children it first
// removes what only continuing at this page needs: the window part and the checkpoint. With a store, pages are
// also on disk. For one thread.
class PrefixCache {
 public:
  PrefixCache(const model::PageSizes& sizes, std::unique_ptr<PageStore> store);  // nullptr: memory only
  ~PrefixCache();

  // The cached pages of [first, end) of the chain, up to the first that is missing. Marks them as used.
  std::vector<model::KvPage> find_in_memory(const TokenChain& chain, size_t first, size_t end);
  // The same; loads pages that are not in memory from the store.
  std::vector<model::KvPage> find_or_load(const TokenChain& chain, size_t first, size_t end);
  // Compares `next`, the tokens after the first `index` pages of the chain, with the cached pages that follow
  // the same `index` pages. Returns a copy of the page with the longest common prefix; the store is searched
  // if no page in memory qualifies. Returns no page if the prefix is shorter than kMinPartialTokens.
  PartialPage find_or_load_partial(const TokenChain& chain, size_t index, std::span<const text::Token> next);
  // Adds page `index` of the chain, or replaces `page` by the cached page with the same tokens, which takes
  // from `page` what it lacks. Returns false when its parent is not cached, or when another chain has the
  // same hash.
  bool add(const TokenChain& chain, size_t index, model::KvPage& page);
  // Removes pages until `bytes` are free or all other pages are in use. Returns the bytes that it freed.
  uint64_t evict(uint64_t bytes);

  uint64_t bytes() const { return bytes_; }

  // Computing fewer tokens takes less time than copying a page.
  static constexpr size_t kMinPartialTokens = 8;

 private:
  struct Node {
    uint64_t parent_hash;
    size_t index;  // of the page in its chain
    std::vector<text::Token> tokens;
    model::KvPage page;
    uint64_t last_use;
  };

  // The node of a chain's page, or nullptr. Compares tokens, because hashes may collide.
  Node* lookup(const TokenChain& chain, size_t index);
  bool insert(const TokenChain& chain, size_t index, model::KvPage page);

  // The part of a node that evict() can remove now: `whole` nodes have no children.
  struct Removable {
    std::unordered_map<uint64_t, Node>::iterator node;
    bool whole;
  };
  std::optional<Removable> oldest_removable();
  uint64_t remove(const Removable& what);

  const model::PageSizes sizes_;
  uint64_t bytes_ = 0;
  std::unique_ptr<PageStore> store_;
  std::unordered_map<uint64_t, Node> nodes_;              // by the chain's hash
  std::unordered_multimap<uint64_t, uint64_t> children_;  // hashes of the pages that follow a hash or a salt
  uint64_t clock_ = 0;
};

}  // namespace binhdan::engine
