#include "text/unicode.h"

#include <algorithm>
#include <iterator>

#include "text/unicode_tables.h"

namespace binhdan::text {
namespace {

struct Decoded {
  char32_t c;
  std::size_t length;  // of the character, or of the maximal part that could have started one
  bool valid;
  bool unfinished;  // invalid only because s ends
};

// The ranges of Table 3-7 of the Unicode Standard: only the second byte's range depends on the first.
Decoded decode(std::string_view s, std::size_t i) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(s[k]); };
  const unsigned lead = byte(i);
  if (lead < 0x80) return {lead, 1, true, false};
  if (lead < 0xC2 || lead > 0xF4) return {kReplacement, 1, false, false};
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t c = lead & (0x7Fu >> length);
  for (std::size_t k = 1; k < length; ++k) {
    if (i + k >= s.size()) return {kReplacement, k, false, true};
    if (byte(i + k) < low || byte(i + k) > high) return {kReplacement, k, false, false};
    c = c << 6 | (byte(i + k) & 0x3F);
    low = 0x80;
    high = 0xBF;
  }
  return {c, length, true, false};
}

// General categories in the order of CATEGORIES in make_unicode_tables.py.
constexpr std::string_view kCategoryNames[] = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl",
                                               "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc",
                                               "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Cn"};

}  // namespace

char32_t next_codepoint(std::string_view s, std::size_t& i) {
  const Decoded d = decode(s, i);
  i += d.valid ? d.length : 1;
  return d.c;
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
  }
  put(0x80 | (c & 0x3F));
}

std::size_t complete_prefix(std::string_view s) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, s.size()); ++back) {
    const std::size_t i = s.size() - back;
    const auto byte = static_cast<unsigned char>(s[i]);
    if (byte >= 0xC0) return decode(s, i).unfinished ? i : s.size();
    if (byte < 0x80) break;
  }
  return s.size();
}

std::string replace_invalid(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size();) {
    const Decoded d = decode(s, i);
    if (d.valid)
      out.append(s.substr(i, d.length));
    else
      append_utf8(out, kReplacement);
    i += d.length;
  }
  return out;
}

bool is_whitespace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

std::vector<char32_t> category_bounds(std::string_view name) {
  bool member[std::size(kCategoryNames)], known = false;
  for (std::size_t i = 0; i < std::size(kCategoryNames); ++i)
    known |= member[i] = !name.empty() && kCategoryNames[i].substr(0, name.size()) == name;
  std::vector<char32_t> bounds;
  if (!known) return bounds;
  for (const uint32_t run : kCategoryRuns)
    if (member[run & 31] != (bounds.size() % 2 == 1)) bounds.push_back(run >> 5);
  if (bounds.size() % 2 == 1) bounds.push_back(0x110000);
  return bounds;
}

std::string_view general_category(char32_t c) {
  if (c > 0x10FFFF) return "Cn";
  const auto after = std::upper_bound(std::begin(kCategoryRuns), std::end(kCategoryRuns), c << 5 | 31);
  return kCategoryNames[*std::prev(after) & 31];
}

char32_t to_lower(char32_t c) {
  if (c < 0x80) return c >= U'A' && c <= U'Z' ? c + 0x20 : c;
  if (c == 0x130) return U'i';
  const auto run = std::partition_point(std::begin(kLowercaseRuns), std::end(kLowercaseRuns),
                                        [c](const LowercaseRun& r) { return r.last < c; });
  const bool capital =
      run != std::end(kLowercaseRuns) && run->first <= c && (c - run->first) % run->step == 0;
  return capital ? c + static_cast<char32_t>(run->distance) : c;
}

}  // namespace binhdan::text
