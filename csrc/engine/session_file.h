// One file with the keys and values of a conversation: its tokens, its full KV pages, and a note of the caller.
//
// The layout is a header (magic, identity, sizes, checksum), the note, the tokens, then for each page its parts and its
// checkpoint, each with its size before it (0: freed). Reading checks sizes before it allocates, and the checksum.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/page.h"
#include "text/vocab.h"

namespace binhdan::engine {

struct SavedSession {
  std::string note;
  std::vector<text::Token> tokens;
  std::vector<model::KvPage> pages;  // of the first tokens
};

// `identity` is a hash of everything that the pages depend on, except the tokens. The file appears whole or not at all.
// Throws Error(io).
void write_session(const std::string& path, uint64_t identity, const SavedSession& session);
// The note alone when `with_pages` is false. Throws Error: not_found, io, bad_format for a damaged file, unsupported for
// another identity, too_large for more than max_tokens.
SavedSession read_session(const std::string& path, uint64_t identity, const model::PageSizes& sizes,
                          int64_t max_tokens, bool with_pages);

}  // namespace binhdan::engine
