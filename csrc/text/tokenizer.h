// Text to tokens and back.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocab.h"

namespace binhdan::text {

// A stretch of input. Control tokens are recognised inside one markup segment and never in content, nor across a
// border: that is what keeps "<|im_start|>" typed by a user from becoming a role. Plain text that meets at a border
// is tokenized as one, as the model saw it in training.
struct Segment {
  std::string_view text;
  bool markup;
};

class Tokenizer {
 public:
  explicit Tokenizer(Vocab vocab);  // throws Error(unsupported) naming a pre-tokenizer that is not in the table
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  const Vocab& vocab() const;
  // add_special: the vocabulary's own BOS/EOS where it asks for them. parse_special: control tokens written out in
  // `text` become themselves. User-defined tokens always do (as in llama.cpp). Linear time in text.size().
  // Any bytes are accepted; what is not UTF-8 goes through byte tokens.
  std::vector<Token> encode(std::string_view text, bool add_special, bool parse_special) const;
  std::vector<Token> encode(std::span<const Segment> segments, bool add_special) const;
  // The bytes of one token; "" for control tokens unless `special`. For spm_bpe a leading U+2581 is a space.
  std::string_view piece(Token token, bool special = false) const;
  // decode(encode(x, false, false)) == x for any bytes. The space that add_space_prefix put in front is taken off.
  std::string decode(std::span<const Token> tokens, bool special = false) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Turns tokens into text as they come: only whole UTF-8 characters leave. Bytes that can no longer become a
// character leave as U+FFFD.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  std::string push(Token token);
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
  bool first_ = true;
};

}  // namespace binhdan::text
