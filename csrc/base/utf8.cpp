#include "base/utf8.h"

namespace binhdan {

std::string quote_name(std::string_view s) {
  constexpr std::size_t kLongest = 120;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (std::size_t i = 0; i < s.size();) {
    if (out.size() > kLongest) return out + "…'";
    const std::size_t length = utf8_length(s, i);
    const auto byte = static_cast<unsigned char>(s[i]);
    // U+0080 to U+009F are control characters too: c2 80 to c2 9f.
    const bool control =
        byte < 0x20 || byte == 0x7f || (length == 2 && byte == 0xc2 && (s[i + 1] & 0x60) == 0);
    if (length == 0 || control) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
      ++i;
    } else {
      out += s.substr(i, length);
      i += length;
    }
  }
  return out + "'";
}

}  // namespace binhdan
