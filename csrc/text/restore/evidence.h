// What the typed marks of a text show.
#pragma once
#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>

#include "base/utf8.h"
#include "text/restore/formats.h"
#include "text/restore/tokens.h"

namespace binhdan::text::restore {

struct Evidence {
  std::size_t marked = 0, toned = 0;  // words
  std::size_t old_place = 0, new_place = 0;
  std::size_t composed = 0, decomposed = 0;

  void add(const Token& token);
  bool new_style() const { return new_place > old_place; }
  bool nfd() const { return decomposed > composed; }
};

// Calls body(begin, end) for the lines of the spans that are UTF-8.
template <typename Body>
void for_each_line(std::string_view text, std::span<const Span> spans, Body body) {
  for (const Span& span : spans)
    for (std::size_t begin = span.begin; begin < span.end;) {
      const std::size_t end = std::min(text.find('\n', begin), span.end - 1) + 1;
      const std::string_view line = text.substr(begin, end - begin);
      if (utf8_valid_prefix(line) == line.size()) body(begin, end);
      begin = end;
    }
}

// Of the lines of the spans.
Evidence find_evidence(std::string_view text, std::span<const Span> spans);

}  // namespace binhdan::text::restore
