// Regular expressions for pre-tokenizers, compiled to a DFA: matching costs one table look-up per character.
//
// Syntax, as in the tokenizer.json files of models: literals, ., [...] with ranges and classes, \s \S \d \D
// \p{L} \P{L} (general categories of one or two letters, and Han), \r \n \t, groups (...), (?:...) and (?i:...)
// (ASCII letters of literals only), |, ?, *, +, {n}, {n,m}, $ (end of the piece), and the look-ahead (?=[...])
// and (?!...) of one character class. The first alternative that matches wins, and quantifiers are greedy, as
// in Perl.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace binhdan::text {

class Regex {
 public:
  static constexpr std::size_t kNoMatch = SIZE_MAX;

  // Throws Error(internal) for syntax that is not supported.
  explicit Regex(std::string_view pattern);

  // The end of the match that starts at `start`, or kNoMatch. The text ends at text.size(). A match is not
  // empty. Bytes that are not UTF-8 count as U+FFFD. Adds the number of characters read to *work.
  std::size_t match(std::string_view text, std::size_t start, std::size_t* work = nullptr) const;

 private:
  friend class RegexCompiler;
  // The first code point of each run of code points that all sets of the pattern treat alike, and its class.
  struct Run {
    char32_t first;
    uint8_t symbol;
  };
  uint8_t symbol_of(char32_t c) const;

  static constexpr std::size_t kDirect = 0x2000;  // code points with a direct entry: Latin to Vietnamese
  std::vector<uint8_t> direct_;
  std::vector<Run> runs_;
  std::size_t symbols_ = 0;  // classes of code points, and one for the end of the text
  // Transition of (state, symbol): next state << 1 | (a match ends before this character). State 0 is dead,
  // state 1 is the start.
  std::vector<uint16_t> next_;
};

}  // namespace binhdan::text
