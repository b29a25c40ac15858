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

std::optional<Lookup::Found> Lookup::find_key(std::span<const text::Token> tokens, size_t key) const {
  const auto [n, max_guess] = kKeys[key];
  if (tokens.size() < n) return std::nullopt;
  const auto last = tokens.last(n);
  const auto found = after_[key].find(hash(last));
  if (found == after_[key].end()) return std::nullopt;
  const size_t at = found->second;
  if (!std::ranges::equal(tokens.subspan(at - n, n), last))
    return std::nullopt;  // another key of the same hash
  return Found{at, max_guess};
}

std::optional<Lookup::Found> Lookup::find_in_copied_text(std::span<const text::Token> tokens) const {
  if (copied_ == 0) return std::nullopt;
  const size_t end = std::min(copied_ + 1 + kMaxChange, tokens.size());
  for (const auto [n, max_guess] : kCopyKeys)
    for (size_t at = std::max(copied_ + 1, n); at < end; ++at)
      if (std::ranges::equal(tokens.subspan(at - n, n), tokens.last(n))) return Found{at, max_guess};
  return std::nullopt;
}

std::optional<Lookup::Found> Lookup::find(std::span<const text::Token> tokens, bool only_longest_key) const {
  auto found = find_key(tokens, 0);
  if (found || only_longest_key) return found;
  found = find_in_copied_text(tokens);
  for (size_t key = 1; key < kKeys.size() && !found; ++key) found = find_key(tokens, key);
  return found;
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
  const auto found = find(tokens, only_longest_key);
  if (!found) return {};
  guessed_at_ = found->at;
  guessed_ = std::max<int64_t>(0, std::min({length_, found->max_guess, limit, int64_t{max_tokens_},
                                            static_cast<int64_t>(tokens.size() - found->at)}));
  drafted_ += static_cast<int32_t>(guessed_);
  return tokens.subspan(guessed_at_, static_cast<size_t>(guessed_));
}

void Lookup::accept(int64_t tokens) {
  if (guessed_ == 0) return;
  accepted_ += static_cast<int32_t>(tokens);
  length_ =
      std::max(kMinLength, tokens == guessed_ ? std::min<int64_t>(2 * length_, max_tokens_) : tokens + 1);
  if (tokens > 0) {
    copied_ = guessed_at_ + static_cast<size_t>(tokens);
    next_pause_ = 0;
  } else {
    pause_ = next_pause_;
    next_pause_ = std::clamp<int64_t>(2 * next_pause_, 1, kLastPause);
  }
  guessed_ = 0;
}

}  // namespace binhdan::engine
