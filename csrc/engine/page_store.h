// KV pages in a folder, so that the prefix cache survives a restart.
//
// Each page is one file: a header (identity, hashes, checksum), the page's tokens, its keys and values, and
// its checkpoint if it has one.
// The store ignores files that do not match: of another model, another kernel layout, or damaged. It writes
// to a temporary name and renames; any file may be deleted at any time.
#pragma once
#include <cstdint>
#include <filesystem>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <unordered_map>

#include "engine/prefix_cache.h"
#include "model/page.h"

namespace binhdan::engine {

class PageStore {
 public:
  // `identity` is a hash of everything that a page depends on, except its tokens and the chain's salt.
  // Creates the folder, which only its owner may enter, and lists its files. Throws Error(io).
  PageStore(const std::string& folder, uint64_t identity, const model::PageSizes& sizes, uint64_t max_bytes);

  // Nothing when the page is missing or damaged. Throws Error(out_of_memory).
  std::optional<model::KvPage> load(const TokenChain& chain, size_t index);
  // Of the pages that follow the first `index` pages of the chain, the one with the longest common prefix
  // with `next`, if it has at least `min_tokens` tokens. Compares a limited number of pages. Throws
  // Error(out_of_memory).
  PartialPage load_partial(const TokenChain& chain, size_t index, std::span<const text::Token> next,
                           size_t min_tokens);
  // Writes the page, which has all its parts, and deletes the least recently used ones beyond max_bytes. A
  // failure to write is logged.
  void save(const TokenChain& chain, size_t index, const model::KvPage& page);

  uint64_t bytes() const { return bytes_; }

 private:
  struct Header;
  struct Opened;
  // Chain hashes mixed with the identity, because the folder may also hold pages of other models and layouts.
  struct Name {
    uint64_t parent_hash, hash;
  };
  struct Entry {
    uint64_t parent_hash, bytes;
    std::list<uint64_t>::iterator order;
  };

  uint64_t with_identity(uint64_t chain_hash) const;
  Name name_of(const TokenChain& chain, size_t index) const;
  std::filesystem::path path_of(Name name) const;
  uint64_t file_bytes(bool with_checkpoint) const;
  uint64_t checksum(std::span<const text::Token> tokens, const model::KvPage& page) const;
  Header header_of(uint64_t hash, uint64_t parent_hash, size_t index, const Header& other) const;
  // open() reads header and tokens; read() reads keys and values and checks the checksum.
  std::optional<Opened> open(Name name) const;
  std::optional<model::KvPage> read(const Opened& opened) const;
  // Returns the error, if any; the page's file is then missing.
  std::error_code write(Name name, const TokenChain& chain, size_t index, const model::KvPage& page) const;
  void add(Name name, uint64_t bytes);
  void mark_used(uint64_t hash);
  void remove(uint64_t hash);

  std::filesystem::path folder_;
  uint64_t identity_;
  model::PageSizes sizes_;
  uint64_t max_bytes_, bytes_ = 0;  // of all files
  std::list<uint64_t> order_;       // hashes in Names, the most recently used at the end
  std::unordered_map<uint64_t, Entry> entries_;
  std::unordered_multimap<uint64_t, uint64_t> children_;  // Name::hash by Name::parent_hash
};

}  // namespace binhdan::engine
