// Which parts of a file are text: the rest, such as tags, keys and code, is never changed.
#pragma once
#include <cstddef>
#include <string_view>
#include <vector>

namespace binhdan::text::restore {

// Values are those of binhdan_text_format in binhdan.h.
enum class Format : int { text = 0, html = 1, markdown = 2, srt = 3, csv = 4, json = 5, po = 6, code = 7 };
inline constexpr int kFormats = 8;

struct Span {
  std::size_t begin, end;
};

// Replaces `out` by the parts of `text` that are natural language, in order, without empty ones.
void find_text(std::string_view text, Format format, std::vector<Span>& out);

}  // namespace binhdan::text::restore
