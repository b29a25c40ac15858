// How byte-level BPE cuts text into words before merging. The next pre-tokenizer is an entry of the table in
// the .cpp.
#pragma once
#include <cstddef>
#include <string_view>

namespace binhdan::text {

struct Pretokenizer {
  std::string_view name;  // as in tokenizer.ggml.pre
  // Where the word that starts at text[start] ends. Linear time over a whole text.
  std::size_t (*word_end)(std::string_view text, std::size_t start);
  bool ignore_merges = false;  // a word that is a token is taken whole, reachable by merges or not
  bool add_bos = false;        // when the file does not say
};

// nullptr when there is none of this name.
const Pretokenizer* find_pretokenizer(std::string_view name);

}  // namespace binhdan::text
