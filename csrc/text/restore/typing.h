// The keystrokes of Telex and VNI: "tieesng", "tie6ng1" for "tiếng".
#pragma once
#include <array>
#include <string_view>

#include "text/restore/syllable.h"

namespace binhdan::text::restore {

enum class Typing : int { none = 0, telex = 1, vni = 2 };

// The syllables that the keys of a word can mean.
struct KeySyllables {
  static constexpr std::size_t kMax = 8;
  std::array<Syllable, kMax> syllables;
  std::size_t count = 0;
  bool literal = false;  // one of them is the word itself
};
// Reads a word of letters and digits (UTF-8). Only possible syllables are returned, in the order of preference. Marks of
// letters may also follow the syllable ("tiengse"). count is 0 for other words.
KeySyllables read_keys(std::string_view word, Typing typing);

}  // namespace binhdan::text::restore
