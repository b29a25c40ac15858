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

// A stretch of input. Control tokens are recognised inside one markup segment and never in content, nor
// across a border: that is what keeps "<|im_start|>" typed by a user from becoming a role. Plain text that
// meets at a border is tokenized as one, as the model saw it in training.
struct Segment {
  std::string_view text;
  bool markup;
};

// May be used by many threads at once.
class Tokenizer {
 public:
  // Throws Error(unsupported) naming a pre-tokenizer that is not in the table.
  explicit Tokenizer(Vocab vocab);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;

  const Vocab& vocab() const;
  // add_special: the vocabulary's own BOS/EOS where it asks for them. parse_special: control tokens written
  // out in `text` become themselves. User-defined tokens always do (as in llama.cpp). O(n log n) time at
  // worst; any bytes are accepted, what is not UTF-8 goes through byte tokens. Throws Error(too_large) for a
  // text of 1 GiB or more.
  std::vector<Token> encode(std::string_view text, bool add_special, bool parse_special) const;
  std::vector<Token> encode(std::span<const Segment> segments, bool add_special) const;
  // The bytes of one token; "" for control tokens unless `special`, and for unused ones. For spm_bpe U+2581
  // is a space. Throws Error(invalid_argument) for a number that is no token, as do all that take tokens.
  std::string_view piece(Token token, bool special = false) const;
  // decode(encode(x, false, false)) == x for any bytes. A space that add_space_prefix put in front of text
  // (at the start and after a special token) is taken off. Exceptions: a byte that has no token and no byte
  // token becomes the unknown token or is lost; in spm_bpe U+2581 itself becomes a space.
  std::string decode(std::span<const Token> tokens, bool special = false) const;

 private:
  friend class StreamDecoder;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Turns tokens into text as they come: only whole UTF-8 characters leave. Bytes that can no longer become a
// character leave as U+FFFD.
class StreamDecoder {
 public:
  // `previous` is the token before the first, if any: what continues plain text may start with its own space.
  explicit StreamDecoder(const Tokenizer& tokenizer, std::optional<Token> previous = std::nullopt);
  std::string push(Token token);
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  std::string pending_;
  bool starts_ = true;  // nothing or a special token stands before
};

}  // namespace binhdan::text
