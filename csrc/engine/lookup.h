// Guesses the next tokens of an answer from its prompt and its own beginning (prompt lookup decoding, Saxena 2023):
// the tokens that followed the last occurrence of the last four tokens; else, where the answer left the text that it
// copied, what follows the last two tokens or the last one a few tokens further in that text; else what followed the last
// occurrence of the last two tokens, or of the last one. The engine verifies the guess in one forward pass, so that
// answers do not change.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
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
  // between them longer, while they are wrong. only_longest_key: another way of guessing is better than short keys.
  std::span<const text::Token> guess(std::span<const text::Token> tokens, int64_t limit,
                                     bool only_longest_key = false);
  // How many tokens of the last guess the model chose.
  void accept(int64_t tokens);

  int32_t drafted() const { return drafted_; }
  int32_t accepted() const { return accepted_; }

 private:
  struct Key {
    size_t tokens;
    int64_t max_guess;  // short keys often occur by chance
  };
  static constexpr std::array<Key, 3> kKeys = {{{4, 15}, {2, 3}, {1, 2}}};
  // Keys in the text that the answer copies. After a change, such as another name, the copy goes on a few tokens
  // further: the answer then has no longer key in common with the text.
  static constexpr std::array<Key, 2> kCopyKeys = {{{2, 15}, {1, 3}}};
  static constexpr size_t kMaxChange = 16;  // tokens of the copied text
  static constexpr int64_t kMinLength = 3;  // a step with up to four tokens takes hardly longer than with one
  static constexpr int64_t kLastPause = 64;  // steps

  // Where a guess starts; its most tokens.
  struct Found {
    size_t at;
    int64_t max_guess;
  };

  std::optional<Found> find(std::span<const text::Token> tokens, bool only_longest_key) const;
  std::optional<Found> find_key(std::span<const text::Token> tokens, size_t key) const;
  std::optional<Found> find_in_copied_text(std::span<const text::Token> tokens) const;
  void index(std::span<const text::Token> tokens);
  static uint64_t hash(std::span<const text::Token> key);

  const int32_t max_tokens_;
  // Hash of a key -> the position after its last occurrence, for each length of keys.
  std::array<std::unordered_map<uint64_t, size_t>, kKeys.size()> after_;
  size_t indexed_ = 1;                  // keys that end before this position are in after_
  int64_t length_ = kMinLength;         // of the next guess
  int64_t pause_ = 0, next_pause_ = 0;  // steps without a guess
  int64_t guessed_ = 0;                 // tokens of the last guess
  size_t guessed_at_ = 0;               // where they start
  size_t copied_ = 0;  // the position after the last right guess in the text it came from; 0: none yet
  int32_t drafted_ = 0, accepted_ = 0;
};

}  // namespace binhdan::engine
