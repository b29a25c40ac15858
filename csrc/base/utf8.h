// Well-formed UTF-8 (Unicode standard, table 3-7): no overlong forms, no surrogates, nothing past U+10FFFF.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace binhdan {

// Bytes of the well-formed sequence that starts at s[i]; 0 when there is none.
inline std::size_t utf8_length(std::string_view s, std::size_t i) {
  const auto byte = [&](std::size_t k) { return k < s.size() ? static_cast<unsigned char>(s[k]) : 0u; };
  const auto continues = [&](std::size_t k) { return (byte(k) & 0xc0) == 0x80; };
  const unsigned first = byte(i);
  const unsigned second = byte(i + 1);
  if (i >= s.size()) return 0;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  if (first < 0xe0) return continues(i + 1) ? 2 : 0;
  const unsigned lowest = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned highest = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (second < lowest || second > highest || !continues(i + 2)) return 0;
  if (first < 0xf0) return 3;
  return continues(i + 3) ? 4 : 0;
}

// The offset of the first byte that is not part of well-formed UTF-8, or s.size().
inline std::size_t utf8_valid_prefix(std::string_view s) {
  std::size_t i = 0;
  while (i < s.size()) {
    const std::size_t length = utf8_length(s, i);
    if (length == 0) break;
    i += length;
  }
  return i;
}

// A name from a hostile file, for an error message: 'name' on one printable line of bounded length.
std::string quote_name(std::string_view s);

}  // namespace binhdan
