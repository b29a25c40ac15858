// The prefix cache: KV pages of earlier prompts and answers, for prompts with the same beginning (system
// prompts, examples, the history of a chat).
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/state.h"
#include "text/vocab.h"

namespace binhdan::engine {

// The tokens of a sequence, with a hash for each full page that covers all tokens up to the page's end.
class TokenChain {
 public:
  // Chains with different salts share no hash.
  TokenChain(uint64_t salt, std::span<const text::Token> tokens);

  void append(text::Token token);
  size_t pages() const { return hashes_.size(); }  // full ones
  std::span<const uint64_t> hashes() const { return hashes_; }
  uint64_t hash(size_t page) const { return hashes_[page]; }
  uint64_t hash_before(size_t page) const { return page == 0 ? salt_ : hashes_[page - 1]; }
  std::span<const text::Token> page(size_t index) const;

 private:
  uint64_t salt_;
  std::vector<text::Token> tokens_;
  std::vector<uint64_t> hashes_;
};

class PageStore;

// A copy of a page. Its first `tokens` positions are valid; the owner overwrites the others.
struct PageStart {
  std::shared_ptr<Buffer> page;
  size_t tokens = 0;
};

// The length of the common prefix.
size_t common_start(std::span<const text::Token> a, std::span<const text::Token> b);

// Full pages as a forest: a page's parent is the page before it. evict() removes the least recently used
// pages, children before parents, and never a page that a sequence holds. With a store, pages are also on
// disk. For one thread.
class PrefixCache {
 public:
  PrefixCache(uint64_t page_bytes, std::unique_ptr<PageStore> store);  // nullptr: memory only
  ~PrefixCache();

  // The cached pages of [first, end) of the chain, up to the first that is missing. Marks them as used.
  std::vector<model::KvPage> find(const TokenChain& chain, size_t first, size_t end);
  // The same, and loads pages from the store.
  std::vector<model::KvPage> fetch(const TokenChain& chain, size_t first, size_t end);
  // Of the pages that follow the first `index` pages of the chain, a copy of the one with the longest common
  // prefix with `next`; from the store when memory has none. No page when the prefix is shorter than
  // kMinStart.
  PageStart fetch_start(const TokenChain& chain, size_t index, std::span<const text::Token> next);
  // Adds page `index` of the chain, or replaces `page` by the cached page with the same tokens. Returns false
  // when its parent is not cached, or when another chain has the same hash.
  bool add(const TokenChain& chain, size_t index, model::KvPage& page);
  // Removes pages until `bytes` are free or all other pages are in use. Returns the bytes that it freed.
  uint64_t evict(uint64_t bytes);

  uint64_t page_bytes() const { return page_bytes_; }
  uint64_t bytes() const { return nodes_.size() * page_bytes_; }

  static constexpr size_t kMinStart = 8;  // copying a page takes as long as computing fewer tokens

 private:
  struct Node {
    uint64_t before;  // the chain's hash before this page
    bool root;
    std::vector<text::Token> tokens;
    model::KvPage page;
    uint64_t last_use;
  };

  // The node of a chain's page, or nullptr. Compares tokens, because hashes may collide.
  Node* known(const TokenChain& chain, size_t index);
  bool keep(const TokenChain& chain, size_t index, model::KvPage page);

  uint64_t page_bytes_;
  std::unique_ptr<PageStore> store_;
  std::unordered_map<uint64_t, Node> nodes_;              // by the chain's hash
  std::unordered_multimap<uint64_t, uint64_t> children_;  // hashes of the pages that follow a hash or a salt
  uint64_t clock_ = 0;
};

}  // namespace binhdan::engine
