// Guesses the next tokens of an answer from its prompt and its own beginning: the tokens that followed the last
// occurrence of the last three tokens (prompt lookup decoding, Saxena 2023). The engine verifies the guess in one
// forward pass, so that answers do not change.
#pragma once
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "text/vocab.h"

namespace binhdan::engine {

class Lookup {
 public:
  // max_tokens: of a guess; 0: none.
  explicit Lookup(int32_t max_tokens) : max_tokens_(max_tokens) {}

  bool on() const { return max_tokens_ > 0; }
  // `tokens`: the prompt and the answer so far; it only grows. At most `limit` tokens. Guesses become shorter, and pauses
  // between them longer, while they are wrong.
  std::span<const text::Token> guess(std::span<const text::Token> tokens, int64_t limit);
  // How many tokens of the last guess the model chose.
  void accept(int64_t tokens);

  int32_t drafted() const { return drafted_; }
  int32_t accepted() const { return accepted_; }

 private:
  static constexpr size_t kKey = 3;          // tokens
  static constexpr int64_t kLastPause = 64;  // steps

  void index(std::span<const text::Token> tokens);
  static uint64_t key(const text::Token* tokens);

  const int32_t max_tokens_;
  std::unordered_map<uint64_t, size_t>
      after_;                           // key of kKey tokens -> the position after their last occurrence
  size_t indexed_ = 0;                  // keys that end before this position are in after_
  int64_t length_ = 2;                  // of the next guess
  int64_t pause_ = 0, next_pause_ = 2;  // steps without a guess
  int64_t guessed_ = 0;                 // tokens of the last guess
  int32_t drafted_ = 0, accepted_ = 0;
};

}  // namespace binhdan::engine
