#include "engine/lookup.h"

#include <algorithm>

namespace binhdan::engine {

uint64_t Lookup::hash(std::span<const text::Token> key) {
  uint64_t hash = 0;
  for (const text::Token token : key)
    hash = (hash ^ static_cast<uint64_t>(static_cast<uint32_t>(token))) * 0x9e3779b97f4a7c15;
  return hash;
}

// All keys but the last ones, which have no token after them yet.
void Lookup::index(std::span<const text::Token> tokens) {
  for (; indexed_ < tokens.size(); ++indexed_)
    for (size_t i = 0; i < kKeys.size(); ++i)
      if (const size_t n = kKeys[i].tokens; n <= indexed_)
        after_[i][hash(tokens.subspan(indexed_ - n, n))] = indexed_;
}

std::span<const text::Token> Lookup::guess(std::span<const text::Token> tokens, int64_t limit,
                                           bool only_longest_key) {
  guessed_ = 0;
  if (!on()) return {};
  if (pause_ > 0) {
    --pause_;
    return {};
  }
  index(tokens);
  for (size_t i = 0; i < (only_longest_key ? 1 : kKeys.size()); ++i) {
    const size_t n = kKeys[i].tokens;
    if (tokens.size() < n) continue;
    const auto last = tokens.last(n);
    const auto found = after_[i].find(hash(last));
    if (found == after_[i].end()) continue;
    const size_t at = found->second;
    if (!std::ranges::equal(tokens.subspan(at - n, n), last)) continue;  // another key of the same hash
    guessed_ = std::max<int64_t>(0, std::min({length_, kKeys[i].max_guess, limit, int64_t{max_tokens_},
                                              static_cast<int64_t>(tokens.size() - at)}));
    drafted_ += static_cast<int32_t>(guessed_);
    return tokens.subspan(at, static_cast<size_t>(guessed_));
  }
  return {};
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
    next_pause_ = 1;
  } else {
    pause_ = next_pause_;
    next_pause_ = std::min(2 * next_pause_, kLastPause);
  }
  guessed_ = 0;
}

}  // namespace binhdan::engine
