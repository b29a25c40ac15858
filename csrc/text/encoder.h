// The interface of the vocabulary models: converts text without special tokens to tokens and back.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocab.h"

namespace binhdan::text {

class Encoder {
 public:
  virtual ~Encoder() = default;
  // Appends to `out`. starts: the text follows no token or a special token. text.size() < 2^31 / 3.
  virtual void encode(std::string_view text, bool starts, std::vector<Token>& out) const = 0;
  // The bytes of a token that is neither special nor user-defined.
  virtual std::string bytes(Token token) const = 0;
};

// They keep a reference to the vocabulary. They throw Error(unsupported) for an unknown pre-tokenizer, and
// Error(bad_format) for a damaged charsmap or a token that is too long.
std::unique_ptr<Encoder> make_byte_bpe(const Vocab& vocab);
std::unique_ptr<Encoder> make_char_bpe(const Vocab& vocab);
std::unique_ptr<Encoder> make_spm_bpe(const Vocab& vocab);
std::unique_ptr<Encoder> make_unigram(const Vocab& vocab);
std::unique_ptr<Encoder> make_wordpiece(const Vocab& vocab);

}  // namespace binhdan::text
