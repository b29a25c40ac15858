// Unicode by generated tables (text/unicode_tables.inc, made by text/make_unicode_tables.py from Python's unicodedata).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace binhdan::text {

inline constexpr char32_t kReplacement = 0xFFFD;

// Decodes the code point that starts at s[i] and moves i past it. A byte that starts no valid UTF-8 sequence
// (surrogates, overlong forms and values past U+10FFFF included) gives kReplacement and moves i by one.
char32_t next_codepoint(std::string_view s, std::size_t& i);
void append_utf8(std::string& out, char32_t c);
bool is_valid_utf8(std::string_view s);
// Length of the longest prefix of s that does not end inside a valid but unfinished UTF-8 sequence.
std::size_t complete_prefix(std::string_view s);

bool is_letter(char32_t c);       // \p{L}
bool is_mark(char32_t c);         // \p{M}
bool is_number(char32_t c);       // \p{N}
bool is_whitespace(char32_t c);   // \s: White_Space
bool is_punctuation(char32_t c);  // \p{P}
bool is_symbol(char32_t c);       // \p{S}
bool is_upper(char32_t c);        // \p{Lu} or \p{Lt}
bool is_lower(char32_t c);        // \p{Ll}
bool is_han(char32_t c);
char32_t to_lower(char32_t c);    // simple case mapping

// Canonical composition (UAX #15). Bytes that are not UTF-8 pass through unchanged.
std::string nfc(std::string_view s);

}  // namespace binhdan::text
