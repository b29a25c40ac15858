// Pages of keys and values in a folder, so that a prompt that was known before a restart is known after it.
//
// A page is one file: a header that says what it was computed from, its tokens, the keys and values, and a
// checksum. Whatever does not match is not there: another model, another layout of kernels, damage. Files are
// written beside their place and moved into it; any of them may be deleted at any time.
#pragma once
#include <cstdint>
#include <filesystem>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>

#include "engine/prefix_cache.h"
#include "model/state.h"

namespace binhdan::engine {

class PageStore {
 public:
  // `identity` is a hash of everything that pages depend on beside their tokens and the chain's salt. Makes
  // the folder, which its owner alone may enter, and counts what is there. Throws Error(io).
  PageStore(const std::string& folder, uint64_t identity, uint64_t page_bytes, uint64_t max_bytes);

  // nullptr when it is not there or not whole. Throws Error(out_of_memory).
  model::KvPage load(const TokenChain& chain, size_t index);
  // Of the pages behind the first `index` of the chain one that begins like `next`, if at least `least` tokens
  // agree: the best of a few. Throws Error(out_of_memory).
  PageStart load_start(const TokenChain& chain, size_t index, std::span<const text::Token> next,
                       size_t least);
  // Keeps it, and lets go of the pages that were not used for longest where there are too many bytes. A
  // failure costs the page and leaves a line in the log.
  void save(const TokenChain& chain, size_t index, const Buffer& page);

  uint64_t bytes() const { return order_.size() * file_bytes_; }

 private:
  struct Header;
  struct Opened;
  // Hashes with the identity: pages of other models and layouts may lie in the same folder.
  struct Name {
    uint64_t before, own;
  };
  struct Entry {
    uint64_t before;
    std::list<uint64_t>::iterator order;
  };

  uint64_t hashed(uint64_t chain_hash) const;
  Name name_of(const TokenChain& chain, size_t index) const;
  std::filesystem::path path_of(Name name) const;
  uint64_t checksum(std::span<const text::Token> tokens, const Buffer& page) const;
  Header header_of(uint64_t hash, uint64_t hash_before, size_t index, uint64_t checksum) const;
  // Header and tokens, when it is there; then its keys and values, when they are whole.
  std::optional<Opened> open(Name name) const;
  bool read(const Opened& opened, const Buffer& page) const;
  bool write(Name name, const TokenChain& chain, size_t index, const Buffer& page) const;
  void add(Name name);
  void use(uint64_t own);
  void drop(uint64_t own);

  std::filesystem::path folder_;
  uint64_t identity_, page_bytes_, file_bytes_, max_bytes_;
  std::list<uint64_t> order_;  // own names, the one used last at the end
  std::unordered_map<uint64_t, Entry> known_;
  std::unordered_multimap<uint64_t, uint64_t> behind_;  // own names by the one before
};

}  // namespace binhdan::engine
