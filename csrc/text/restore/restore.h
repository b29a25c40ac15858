// Restores the diacritics of Vietnamese text, and changes nothing else.
//
// Typed marks are evidence. A word with a tone stays. A word with a quality (â, đ) may get a tone if the
// text has no tones. In a text with marks,
// a sentence changes only if the model prefers the change more than chance explains (change_cost in restore.cpp), so a
// text that has all its marks stays as it is.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/restore/formats.h"
#include "text/restore/model.h"
#include "text/restore/scorer.h"
#include "text/restore/typing.h"

namespace binhdan::text::restore {

struct Options {
  Style style = Style::keep;  // keep: typed tones keep their place; others follow them, or have the old place
  Format format = Format::text;
  float min_confidence = 0;      // a word with a lower probability stays
  Typing typing = Typing::none;  // the text has the keys of an input method
  const Scorer* scorer = nullptr;
};

struct Alternative {
  std::string text;
  float probability = 0;
};
// A word that had a choice.
struct Choice {
  std::size_t begin = 0, end = 0;         // bytes of the input
  std::vector<Alternative> alternatives;  // best first, at most 5
};

// Replaces `out` by the restored text. `choices`, if not null, gets the words that had a choice. Throws
// Error(invalid_argument) for a text with a NUL byte. Bytes that are not UTF-8 protect their line. Calls from several
// threads may share the model. After the first calls of a thread nothing is allocated, except for `out` and `choices`.
void restore(const NgramModel& model, std::string_view text, const Options& options, std::string& out,
             std::vector<Choice>* choices = nullptr);

// Throws Error: invalid_argument for a text with a NUL byte, too_large from 2 GiB on.
void check_text(std::string_view text);

}  // namespace binhdan::text::restore
