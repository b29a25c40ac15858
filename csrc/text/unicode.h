// UTF-8, the character classes of pre-tokenizers, lower case, and NFC. make_unicode_tables.py writes unicode_tables.inc,
// which states the version of Unicode.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace binhdan::text {

inline constexpr char32_t kReplacement = 0xFFFD;

// Decodes the code point that starts at s[i] and moves i past it. A byte that starts no valid UTF-8 sequence
// (also surrogates, overlong forms and values past U+10FFFF) returns kReplacement and moves i by one.
char32_t next_codepoint(std::string_view s, std::size_t& i);
void append_utf8(std::string& out, char32_t c);
// Length of the longest prefix of s that does not end inside a valid, incomplete UTF-8 sequence.
std::size_t complete_prefix(std::string_view s);
// Each maximal part of s that is not UTF-8 becomes one U+FFFD (Unicode 3.9, as bytes.decode(errors="replace")
// in Python).
std::string replace_invalid(std::string_view s);

bool is_whitespace(char32_t c);  // \s: White_Space
// The code points of a general category ("Lu", "L"): the first member, the first code point after the run, the
// first member of the next run, ... Empty for an unknown name.
std::vector<char32_t> category_bounds(std::string_view name);

// The general category of a code point ("Lu"); "Cn" past U+10FFFF.
std::string_view general_category(char32_t c);
// The small letter of a capital, else c. U+0130, whose lower case is two characters, becomes i.
char32_t to_lower(char32_t c);
// Appends the full canonical decomposition of c, which is c itself for most characters.
void decompose(char32_t c, std::vector<char32_t>& out);

// Canonical composition (UAX #15). Bytes that are not UTF-8 stay unchanged. At most O(n log n).
std::string nfc(std::string_view s);

}  // namespace binhdan::text
