#include "text/trie.h"

#include "base/error.h"

namespace binhdan::text {
namespace {
constexpr std::size_t kMaxBytes = 1 << 30;  // a node has a 32-bit index

struct Entry {
  uint64_t start;  // the first bytes, so that most comparisons do not read the text
  std::string_view text;
  Token token;
  auto operator<=>(const Entry&) const = default;
};

uint64_t first_bytes(std::string_view text) {
  uint64_t bytes = 0;
  for (std::size_t i = 0; i < sizeof bytes; ++i)
    bytes = bytes << 8 | (i < text.size() ? static_cast<uint8_t>(text[i]) : 0);
  return bytes;
}
}  // namespace

Trie::Trie(const std::vector<std::pair<std::string_view, Token>>& texts) {
  std::size_t bytes = 0;
  std::vector<Entry> tokens;
  tokens.reserve(texts.size());
  for (const auto& [text, token] : texts) {
    if (text.size() > kMaxTokenBytes)
      fail(Code::bad_format, "tokenizer.ggml.tokens: token ", token, ": expected at most ", kMaxTokenBytes,
           " bytes, got ", text.size());
    bytes += text.size();
    tokens.push_back({first_bytes(text), text, token});
  }
  if (bytes > kMaxBytes)
    fail(Code::bad_format, "tokenizer.ggml.tokens: expected at most ", kMaxBytes, " bytes together, got ",
         bytes);
  std::sort(tokens.begin(), tokens.end());
  // The tokens of a node: those from `begin` to `end` share their first `depth` bytes.
  struct Range {
    std::size_t begin, end, depth;
  };
  std::vector<Range> ranges{{0, tokens.size(), 0}};
  labels_.push_back(0);
  for (std::size_t node = 0; node < ranges.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    Token token = -1;
    for (; begin < end && tokens[begin].text.size() == depth; ++begin) token = tokens[begin].token;
    nodes_.push_back({static_cast<uint32_t>(ranges.size()), token});
    while (begin < end) {
      const auto label = static_cast<uint8_t>(tokens[begin].text[depth]);
      const auto other = std::partition_point(
          tokens.begin() + static_cast<std::ptrdiff_t>(begin),
          tokens.begin() + static_cast<std::ptrdiff_t>(end),
          [=, depth = depth](const auto& entry) { return static_cast<uint8_t>(entry.text[depth]) == label; });
      const auto next = static_cast<std::size_t>(other - tokens.begin());
      if (node == 0) root_[label] = static_cast<uint32_t>(ranges.size());
      labels_.push_back(label);
      ranges.push_back({begin, next, depth + 1});
      begin = next;
    }
  }
  nodes_.push_back({static_cast<uint32_t>(ranges.size()), -1});
}

}  // namespace binhdan::text
