// What vocabularies in SentencePiece's style share: U+2581 stands for a space, and tokens such as <0x0A> for
// single bytes.
#pragma once
#include <array>
#include <bitset>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocab.h"

namespace binhdan::text {

inline constexpr std::string_view kSpace = "▁";

std::string mark_spaces(std::string_view text);
// The text of a token with spaces in place of U+2581, or the byte of a byte token.
std::string marked_bytes(const Vocab& vocab, Token token);

// Cuts text into words that can be tokenized one at a time: before a space, unless some token has a space after
// the same byte.
class WordCutter {
 public:
  explicit WordCutter(const Vocab& vocab);
  // Calls word(std::string_view) for each word, in order. A word starts with its spaces.
  template <typename Word>
  void cut(std::string_view text, const Word& word) const {
    for (std::size_t start = 0; start < text.size();) {
      const std::size_t end = word_end(text, start);
      word(text.substr(start, end - start));
      start = end;
    }
  }

 private:
  std::size_t word_end(std::string_view text, std::size_t start) const;

  std::bitset<256> joined_;  // the bytes before an inner space of any token
};

// The byte tokens of a vocabulary.
class ByteTokens {
 public:
  explicit ByteTokens(const Vocab& vocab);
  bool complete() const { return complete_; }
  // Appends the token of each byte of `text`, in which U+2581 alone is a space. A byte without a token becomes
  // the unknown token or is lost.
  void spell(std::string_view text, std::vector<Token>& out) const;

 private:
  std::array<Token, 256> tokens_;  // -1: not in the vocabulary
  std::optional<Token> unknown_;
  bool complete_ = true;
};

}  // namespace binhdan::text
