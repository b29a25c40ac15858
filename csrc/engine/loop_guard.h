// Finds the answers that repeat themselves without end, as small models under greedy decoding do.
#pragma once
#include <cstdint>
#include <vector>

#include "text/vocab.h"

namespace binhdan::engine {

class LoopGuard {
 public:
  // tokens: the least length of a loop; 0: finds none.
  explicit LoopGuard(int32_t tokens);
  // Appends a token of the answer. True if the last tokens repeat one part of at most kMaxPart tokens: at least four
  // times, and over `tokens` tokens at least.
  bool push(text::Token token);

 private:
  static constexpr int32_t kMaxPart = 256, kLeastTimes = 4;

  const int32_t tokens_;
  int64_t count_ = 0;
  std::vector<text::Token> last_;  // the last kMaxPart tokens, a ring
  std::vector<int32_t> equal_;     // [n - 1]: how many of the last tokens equal the one n tokens before
};

}  // namespace binhdan::engine
