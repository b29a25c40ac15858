#include "text/charsmap.h"

#include <algorithm>

#include "base/error.h"

namespace binhdan::text {
namespace {

constexpr char kKey[] = "tokenizer.ggml.precompiled_charsmap";

// A unit of the double array (darts-clone, DoubleArrayUnit). With kIsValue, the other bits are a value.
constexpr uint32_t kIsValue = 1u << 31;
bool has_value(uint32_t unit) {
  return unit >> 8 & 1;
}
uint32_t label(uint32_t unit) {
  return unit & (kIsValue | 0xFF);
}
uint32_t offset(uint32_t unit) {
  return unit >> 10 << ((unit & 1u << 9) >> 6);
}

uint32_t load(std::span<const uint8_t> bytes) {
  return bytes[0] | static_cast<uint32_t>(bytes[1]) << 8 | static_cast<uint32_t>(bytes[2]) << 16 |
         static_cast<uint32_t>(bytes[3]) << 24;
}

}  // namespace

Charsmap::Charsmap(std::span<const uint8_t> blob) {
  if (blob.size() < 4) fail(Code::bad_format, kKey, ": expected at least 4 bytes, got ", blob.size());
  const uint32_t trie_bytes = load(blob);
  blob = blob.subspan(4);
  if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > blob.size())
    fail(Code::bad_format, kKey, ": expected a trie of 4 to ", blob.size(), " bytes, in units of 4, got ",
         trie_bytes);
  for (std::size_t i = 0; i < trie_bytes; i += 4) units_.push_back(load(blob.subspan(i)));
  const std::span<const uint8_t> rest = blob.subspan(trie_bytes);
  replacements_.assign(rest.begin(), rest.end());
  for (std::size_t begin = 0; begin < replacements_.size();) {
    const std::size_t end = replacements_.find('\0', begin);
    if (end == std::string::npos)
      fail(Code::bad_format, kKey, ": the last replacement: expected a final NUL byte");
    if (end - begin > kMaxReplacementBytes)
      fail(Code::bad_format, kKey, ": a replacement: expected at most ", kMaxReplacementBytes, " bytes, got ",
           end - begin);
    begin = end + 1;
  }
}

Charsmap::Match Charsmap::find(std::string_view text) const {
  Match match;
  if (units_.empty()) return match;
  std::size_t at = offset(units_[0]);
  for (std::size_t i = 0; i < std::min(text.size(), kMaxKeyBytes); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size() || label(units_[at]) != byte) break;
    const uint32_t unit = units_[at];
    at ^= offset(unit);
    if (!has_value(unit)) continue;
    if (at >= units_.size()) break;
    const uint32_t begin = units_[at] & ~kIsValue;
    if (begin >= replacements_.size()) break;
    match = {i + 1, std::string_view(replacements_.c_str() + begin)};
  }
  return match;
}

}  // namespace binhdan::text
