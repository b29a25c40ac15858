// Syllables that are often confused with another one: tones hỏi and ngã, s and x, ch and tr, d, gi and r, final n and ng, c and t,
// missing marks, and slips of the keyboard.
#pragma once
#include <cstdint>
#include <vector>

#include "text/restore/model.h"

namespace binhdan::text::restore {

inline constexpr std::size_t kMaxSimilar = 16;

struct Similar {
  uint16_t id = kOther;
  int32_t cost = 0;  // of writing the typed word for this form: -ln P in units of kScoreUnit
};

// Replaces `out` by the forms that are similar to `typed`, at most kMaxSimilar, without `typed` itself.
void find_similar(const NgramModel& model, const Syllable& typed, std::vector<Similar>& out);

}  // namespace binhdan::text::restore
