// Finds misspelled Vietnamese syllables: those whose sentence is much more likely with a similar syllable (similar.h).
//
// The text has its marks; a sentence in which few words have marks is left to restore(). A capital that does not start a
// sentence makes a name, and names stay.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/restore/restore.h"

namespace binhdan::text::restore {

struct SpellOptions {
  Format format = Format::text;
  float min_confidence = 0.7f;  // a word whose best suggestion has a lower probability is not reported
};
struct Misspelling {
  std::size_t begin = 0, end = 0;        // bytes of the input
  std::vector<Alternative> suggestions;  // best first, at least 1, at most 5
};

// Replaces `out` by the misspelled words, in order. Throws Error(invalid_argument) for a text with a NUL byte. Lines that
// are not UTF-8 are skipped. Calls from several threads may share the model.
void spell(const NgramModel& model, std::string_view text, const SpellOptions& options,
           std::vector<Misspelling>& out);

}  // namespace binhdan::text::restore
