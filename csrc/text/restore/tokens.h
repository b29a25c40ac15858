// Splits text into syllables and other tokens. examples/train_restorer/tokens.py splits training text in the same way.
#pragma once
#include <cstdint>
#include <string_view>

#include "text/restore/model.h"
#include "text/restore/syllable.h"

namespace binhdan::text::restore {

// kind: kEnd, kOther, kNumber, kMark, or kFirstForm for a word of Vietnamese letters (then `letters` is set).
struct Token {
  uint32_t begin = 0, end = 0;  // bytes of the text
  uint16_t kind = kEnd;
  Syllable letters;
  bool capital = false;     // the first letter only is a capital
  bool decomposed = false;  // it has combining characters
};

// Reads the tokens of `text` (valid UTF-8) one after another, without allocation. A chunk between spaces that is a link,
// an e-mail address, a handle, a hashtag, a path, a placeholder or code is one token kOther.
class TokenReader {
 public:
  explicit TokenReader(std::string_view text) : text_(text) {}
  bool next(Token& token);

 private:
  void read_word(Token& token);

  std::string_view text_;
  std::size_t at_ = 0, chunk_end_ = 0;
};

// Whether a chunk of non-space characters must stay as it is.
bool is_protected(std::string_view chunk);

}  // namespace binhdan::text::restore
