// Pre-tokenizers: they cut text into words before byte-level BPE merges. To add one, add a row to the table in
// pretokenizer.cpp.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace binhdan::text {

struct Pretokenizer {
  std::string_view name;  // as in tokenizer.ggml.pre
  // Regular expressions. Each one cuts the pieces of the one before it: a match is a piece, and so is the text
  // between two matches.
  std::span<const std::string_view> patterns;
  bool ignore_merges = false;  // a word that is a token becomes that token, even if no merges lead to it
  bool add_bos = false;        // default when the file has no add_bos_token
};

// nullptr for an unknown name.
const Pretokenizer* find_pretokenizer(std::string_view name);
std::span<const Pretokenizer> pretokenizers();

// The compiled patterns of a pre-tokenizer.
class WordSplitter {
 public:
  explicit WordSplitter(const Pretokenizer& pretokenizer);

  // Calls word(std::string_view) for each word of `text`, in order. Linear time: no pattern of the table reads
  // far beyond the end of its match.
  template <typename Word>
  void split(std::string_view text, const Word& word) const {
    split_from(0, text, word);
  }

 private:
  template <typename Word>
  void split_from(std::size_t stage, std::string_view text, const Word& word) const {
    if (stage == stages_.size()) {
      if (!text.empty()) word(text);
      return;
    }
    std::size_t begin = 0;  // of the text between two matches
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = stages_[stage].match(text, at);
      if (end == Regex::kNoMatch) {
        at = next_character(text, at);
        continue;
      }
      if (begin < at) split_from(stage + 1, text.substr(begin, at - begin), word);
      split_from(stage + 1, text.substr(at, end - at), word);
      begin = at = end;
    }
    if (begin < text.size()) split_from(stage + 1, text.substr(begin), word);
  }
  static std::size_t next_character(std::string_view text, std::size_t at);

  std::vector<Regex> stages_;
};

}  // namespace binhdan::text
