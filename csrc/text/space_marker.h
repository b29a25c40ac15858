// What vocabularies in SentencePiece's style share: U+2581 stands for a space, and tokens such as <0x0A> for
// single bytes.
#pragma once
#include <array>
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

// Whether no token has a space after another character. Then no token spans the start of a run of spaces, and
// a text can be cut into words there.
bool words_end_at_spaces(const Vocab& vocab);
// The end of the word at `start`: a run of spaces and the characters up to the next one.
std::size_t word_end(std::string_view text, std::size_t start);

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
