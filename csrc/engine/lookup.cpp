#include "engine/lookup.h"

#include <algorithm>

namespace binhdan::engine {

uint64_t Lookup::key(const text::Token* tokens) {
  uint64_t key = 0;
  for (size_t i = 0; i < kKey; ++i)
    key = (key ^ static_cast<uint64_t>(static_cast<uint32_t>(tokens[i]))) * 0x9e3779b97f4a7c15;
  return key;
}

// All keys but the last one, which has no token after it yet.
void Lookup::index(std::span<const text::Token> tokens) {
  for (indexed_ = std::max(indexed_, kKey); indexed_ < tokens.size(); ++indexed_)
    after_[key(tokens.data() + indexed_ - kKey)] = indexed_;
}

std::span<const text::Token> Lookup::guess(std::span<const text::Token> tokens, int64_t limit) {
  guessed_ = 0;
  if (!on() || tokens.size() <= kKey) return {};
  if (pause_ > 0) {
    --pause_;
    return {};
  }
  index(tokens);
  const auto last = tokens.last(kKey);
  const auto found = after_.find(key(last.data()));
  if (found == after_.end()) return {};
  const size_t at = found->second;
  if (!std::ranges::equal(tokens.subspan(at - kKey, kKey), last)) return {};  // another key of the same hash
  const int64_t count =
      std::min({length_, limit, int64_t{max_tokens_}, static_cast<int64_t>(tokens.size() - at)});
  if (count <= 0) return {};
  guessed_ = count;
  drafted_ += static_cast<int32_t>(count);
  return tokens.subspan(at, static_cast<size_t>(count));
}

void Lookup::accept(int64_t tokens) {
  if (guessed_ == 0) return;
  accepted_ += static_cast<int32_t>(tokens);
  if (tokens == guessed_) {
    length_ = std::min<int64_t>(2 * length_, max_tokens_);
  } else {
    length_ = tokens + 1;
  }
  if (tokens > 0) {
    next_pause_ = 2;
  } else {
    pause_ = next_pause_;
    next_pause_ = std::min(2 * next_pause_, kLastPause);
  }
  guessed_ = 0;
}

}  // namespace binhdan::engine
