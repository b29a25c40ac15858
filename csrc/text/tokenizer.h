// Text to tokens and back.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocab.h"

namespace binhdan::text {

// A part of the input. A control token is recognised inside one markup segment, never in content and never
// across two segments, so that "<|im_start|>" in a user's text does not become a role. Plain text of
// adjacent segments is tokenized as one text, as in training.
struct Segment {
  std::string_view text;
  bool markup;
};

// Thread-safe.
class Tokenizer {
 public:
  // Throws Error(unsupported) that names an unknown pre-tokenizer.
  explicit Tokenizer(Vocab vocab);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  const Vocab& vocab() const;
  // add_special: adds BOS and EOS, or [CLS] and [SEP], as the vocabulary specifies. parse_special: the text of a control token
  // becomes the token; the text of a user-defined token always does (as in llama.cpp). Accepts any bytes;
  // those that are not UTF-8 become byte tokens. At most O(n log n) time. Throws Error(too_large) for a text
  // of 1 GiB or more.
  std::vector<Token> encode(std::string_view text, bool add_special, bool parse_special) const;
  std::vector<Token> encode(std::span<const Segment> segments, bool add_special) const;
  // The bytes of the tokens. Unused tokens have no bytes; control tokens have bytes only if `special`. Throws
  // Error(invalid_argument) for an unknown token, as all functions that take tokens.
  // decode(encode(x, false, false)) == x for any bytes, without the space that add_space_prefix adds at the
  // start and after a special token. Exceptions: a byte without a token becomes the unknown token or is lost;
  // U+2581 becomes a space except in byte_bpe; unigram and wordpiece normalize text.
  std::string decode(std::span<const Token> tokens, bool special = false) const;

 private:
  friend class StreamDecoder;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Converts a stream of tokens to text in whole UTF-8 characters. Bytes that cannot become a character
// are replaced by U+FFFD.
class StreamDecoder {
 public:
  // `previous`: the token before the first, if any. After a text token, a leading space is kept.
  explicit StreamDecoder(const Tokenizer& tokenizer, std::optional<Token> previous = std::nullopt);
  std::string push(Token token);
  std::string finish();  // the bytes of an incomplete character at the end, as U+FFFD

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
  bool starts_ = true;  // the next token follows no token or a special token
};

}  // namespace binhdan::text
