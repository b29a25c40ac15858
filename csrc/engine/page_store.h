// Pages of keys and values in a folder, so that a prompt that was known before a restart is known after it.
//
// A page is one file: a header that says what it was computed from, its tokens, the keys and values, and a
// checksum. Whatever does not match is not there: another model, another layout of kernels, damage. Files are
// written beside their place and moved into it; any of them may be deleted at any time.
#pragma once
#include <cstdint>
#include <filesystem>
#include <list>
#include <string>
#include <unordered_map>

#include "engine/prefix_cache.h"
#include "model/state.h"

namespace binhdan::engine {

class PageStore {
 public:
  // `identity` is a hash of everything that pages depend on beside their tokens and the chain's salt. Makes
  // the folder, which its owner alone may enter, and counts what is there. Throws Error(io).
  PageStore(const std::string& folder, uint64_t identity, uint64_t page_bytes, uint64_t most_bytes);

  // nullptr when it is not there or not whole. Throws Error(out_of_memory).
  model::KvPage load(const TokenChain& chain, size_t index);
  // Keeps it, and lets go of the pages that were not used for longest where there are too many bytes. A
  // failure costs the page and leaves a line in the log.
  void save(const TokenChain& chain, size_t index, const Buffer& page);

  uint64_t bytes() const { return order_.size() * file_bytes_; }

 private:
  struct Header;

  uint64_t name_of(const TokenChain& chain, size_t index) const;
  std::filesystem::path path_of(uint64_t name) const;
  Header header_of(const TokenChain& chain, size_t index, const Buffer& page) const;
  bool read(uint64_t name, const TokenChain& chain, size_t index, const Buffer& page) const;
  bool write(uint64_t name, const TokenChain& chain, size_t index, const Buffer& page) const;
  void use(uint64_t name);
  void drop(uint64_t name);

  std::filesystem::path folder_;
  uint64_t identity_, page_bytes_, file_bytes_, most_bytes_;
  std::list<uint64_t> order_;  // names, the one used last at the end
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> known_;
};

}  // namespace binhdan::engine
