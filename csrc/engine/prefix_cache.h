// Keys and values of what was computed before, so that a prompt that begins alike need not be computed again:
// system prompts, examples, the history of a chat.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/state.h"
#include "text/vocab.h"

namespace binhdan::engine {

// The tokens of a sequence and a hash of each whole page of them, which covers all before it too.
class TokenChain {
 public:
  // Chains with different salts have nothing in common.
  TokenChain(uint64_t salt, std::span<const text::Token> tokens);

  void append(text::Token token);
  size_t pages() const { return hashes_.size(); }  // whole ones
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

// A copy of a page of which the first `tokens` positions are wanted; the others may be written.
struct PageStart {
  std::shared_ptr<Buffer> page;
  size_t tokens = 0;
};

// How many tokens two texts begin with alike.
size_t common_start(std::span<const text::Token> a, std::span<const text::Token> b);

// Full pages as a forest: a page's parent is the one before it. Pages leave in the order of their last use,
// children before parents, and never while a sequence holds them. With a store they are on disk too, and may
// come back from there. Used by one thread.
class PrefixCache {
 public:
  explicit PrefixCache(uint64_t page_bytes);
  PrefixCache(uint64_t page_bytes, std::unique_ptr<PageStore> store);  // nullptr: none
  ~PrefixCache();

  // The known pages among [first, end) of the chain, as many as follow each other. Their last use is now.
  std::vector<model::KvPage> find(const TokenChain& chain, size_t first, size_t end);
  // The same, and pages from the store, which take memory.
  std::vector<model::KvPage> fetch(const TokenChain& chain, size_t first, size_t end);
  // Behind the first `index` pages of the chain: of the known pages the one that begins like `next` for longest,
  // from the store when memory has none; no page when fewer than kLeastStart tokens agree.
  PageStart fetch_start(const TokenChain& chain, size_t index, std::span<const text::Token> next);
  // Keeps page `index` of the chain, or gives back the one that is known already in its place. False when it
  // cannot be kept: the one before it is not known, or another chain has the same hash.
  bool add(const TokenChain& chain, size_t index, model::KvPage& page);
  // Lets pages go until `bytes` are free or all that are left are in use; returns how many are free.
  uint64_t evict(uint64_t bytes);

  uint64_t page_bytes() const { return page_bytes_; }
  uint64_t bytes() const { return nodes_.size() * page_bytes_; }

  static constexpr size_t kLeastStart = 8;  // fewer are computed as soon as a page is copied

 private:
  struct Node {
    uint64_t before;  // the chain's hash without this page
    bool root;
    std::vector<text::Token> tokens;
    model::KvPage page;
    uint64_t last_use;
  };

  // The node of a chain's page, or nullptr. Tokens are compared: hashes may collide.
  Node* known(const TokenChain& chain, size_t index);
  bool keep(const TokenChain& chain, size_t index, model::KvPage page);

  uint64_t page_bytes_;
  std::unique_ptr<PageStore> store_;
  std::unordered_map<uint64_t, Node> nodes_;              // by the chain's hash
  std::unordered_multimap<uint64_t, uint64_t> children_;  // the hashes of pages behind a hash or a salt
  uint64_t clock_ = 0;
};

}  // namespace binhdan::engine
