// Pre-tokenizers: they cut text into words before BPE merges. To add one, add a row to the table in
// pretokenizer.cpp.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace binhdan::text {

// How a match is cut further. Regular expressions that look far ahead count from the end of a run; to count in a
// match of the whole run takes linear time.
enum class Cut : uint8_t {
  none,
  thousands,  // groups of three characters, counted from the end: 1|234|567
  // As thousands. A match with a word character after it stays a part of the text between two matches.
  thousands_of_whole_numbers,
  spaces,  // white space without line ends: 512 characters, as often as possible, then 256, 128, ... 4, 2, 1
};

// A regular expression. It cuts the pieces of the stage before it: a match is a piece, and so is the text between
// two matches.
struct Stage {
  constexpr Stage(std::string_view p, Cut c = Cut::none) : pattern(p), cut(c) {}
  constexpr Stage(const char* p) : pattern(p) {}  // implicit, for tables
  std::string_view pattern;
  Cut cut = Cut::none;
};

// How a vocabulary spells text.
enum class Spelling : uint8_t {
  bytes,           // every byte as one printable character (byte-level BPE)
  marked_spaces,   // UTF-8, with U+2581 for a space
  without_spaces,  // UTF-8; white space cuts words and is dropped
};

struct Pretokenizer {
  std::string_view name;  // as in tokenizer.ggml.pre
  std::span<const Stage> stages;
  bool ignore_merges = false;  // a word that is a token becomes that token, even if no merges lead to it
  bool add_bos = false;        // default when the file has no add_bos_token
  Spelling spelling = Spelling::bytes;
};

// nullptr for an unknown name.
const Pretokenizer* find_pretokenizer(std::string_view name);
// Throws Error(unsupported) for an unknown name.
const Pretokenizer& need_pretokenizer(std::string_view name);
std::span<const Pretokenizer> pretokenizers();

// The compiled patterns of a pre-tokenizer.
class WordSplitter {
 public:
  explicit WordSplitter(const Pretokenizer& pretokenizer);

  // Calls word(std::string_view) for each word of `text`, in order. Linear time: no pattern of the table reads
  // far beyond the end of its match. Adds the number of characters read to *work.
  template <typename Word>
  void split(std::string_view text, const Word& word, std::size_t* work = nullptr) const {
    split_from(0, text, word, work);
  }

 private:
  template <typename Word>
  void split_from(std::size_t stage, std::string_view text, const Word& word, std::size_t* work) const {
    if (stage == stages_.size()) {
      if (!text.empty()) word(text);
      return;
    }
    std::size_t begin = 0;  // of the text between two matches
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = stages_[stage].match(text, at, work);
      if (end == Regex::kNoMatch) {
        at = next_character(text, at);
        continue;
      }
      if (cuts_[stage] == Cut::thousands_of_whole_numbers && starts_with_word_character(text.substr(end))) {
        at = end;
        continue;
      }
      if (begin < at) split_from(stage + 1, text.substr(begin, at - begin), word, work);
      const std::string_view match = text.substr(at, end - at);
      for (std::size_t cut = 0; cut < match.size();) {
        const std::size_t size = piece_size(cuts_[stage], match, cut);
        split_from(stage + 1, match.substr(cut, size), word, work);
        cut += size;
      }
      begin = at = end;
    }
    if (begin < text.size()) split_from(stage + 1, text.substr(begin), word, work);
  }
  static std::size_t next_character(std::string_view text, std::size_t at);
  // Bytes of the piece of a match that starts at `at`.
  static std::size_t piece_size(Cut cut, std::string_view match, std::size_t at) {
    return cut == Cut::none ? match.size() : counted_piece_size(cut, match, at);
  }
  static bool starts_with_word_character(std::string_view text);
  static std::size_t counted_piece_size(Cut cut, std::string_view match, std::size_t at);

  std::vector<Regex> stages_;
  std::vector<Cut> cuts_;  // of the stages
};

}  // namespace binhdan::text
