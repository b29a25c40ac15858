#include "engine/loop_guard.h"

#include <algorithm>

namespace binhdan::engine {

LoopGuard::LoopGuard(int32_t tokens) : tokens_(tokens) {
  if (tokens_ == 0) return;
  last_.resize(kMaxPart);
  equal_.resize(kMaxPart);
}

bool LoopGuard::push(text::Token token) {
  if (tokens_ == 0) return false;
  bool loops = false;
  const auto parts = static_cast<int32_t>(std::min<int64_t>(count_, kMaxPart));
  for (int32_t part = 1; part <= parts; ++part) {
    int32_t& equal = equal_[static_cast<size_t>(part - 1)];
    equal = token == last_[static_cast<size_t>((count_ - part) % kMaxPart)] ? equal + 1 : 0;
    loops = loops || equal + part >= std::max(tokens_, kLeastTimes * part);
  }
  last_[static_cast<size_t>(count_++ % kMaxPart)] = token;
  return loops;
}

}  // namespace binhdan::engine
