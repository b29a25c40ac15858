// What differs between the vocabulary models: how plain text, free of special tokens, becomes tokens and
// back.
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
  // Appends to `out`. starts: nothing or a special token stands before the text. text.size() < 2^31 / 3.
  virtual void encode(std::string_view text, bool starts, std::vector<Token>& out) const = 0;
  // What a token that is neither special nor user-defined stands for.
  virtual std::string bytes(Token token) const = 0;
};

// Keep a reference to the vocabulary. Throw Error(unsupported) for a pre-tokenizer that is not in the table.
std::unique_ptr<Encoder> make_byte_bpe(const Vocab& vocab);
std::unique_ptr<Encoder> make_spm_bpe(const Vocab& vocab);

}  // namespace binhdan::text
