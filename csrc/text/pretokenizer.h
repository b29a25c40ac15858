// Pre-tokenizers: they cut text into words before byte-level BPE merges. Add one to the table in
// pretokenizer.cpp.
#pragma once
#include <cstddef>
#include <string_view>

namespace binhdan::text {

struct Pretokenizer {
  std::string_view name;  // as in tokenizer.ggml.pre
  // The end of the word that starts at text[start]. Linear time over a whole text.
  std::size_t (*word_end)(std::string_view text, std::size_t start);
  bool ignore_merges = false;  // a word that is a token becomes that token, even if no merges lead to it
  bool add_bos = false;        // default when the file has no add_bos_token
};

// nullptr for an unknown name.
const Pretokenizer* find_pretokenizer(std::string_view name);

}  // namespace binhdan::text
