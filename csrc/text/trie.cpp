#include "text/trie.h"

#include "base/error.h"

namespace binhdan::text {
namespace {
constexpr std::size_t kMaxBytes = 1 << 30;  // a node has a 32-bit index
}

Trie::Trie(std::vector<std::pair<std::string_view, Token>> tokens) {
  std::size_t bytes = 0;
  for (const auto& [text, token] : tokens) {
    if (text.size() > kMaxTokenBytes)
      fail(Code::bad_format, "tokenizer.ggml.tokens: token ", token, ": expected at most ", kMaxTokenBytes,
           " bytes, got ", text.size());
    bytes += text.size();
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
    for (; begin < end && tokens[begin].first.size() == depth; ++begin) token = tokens[begin].second;
    nodes_.push_back({static_cast<uint32_t>(ranges.size()), token});
    while (begin < end) {
      const auto label = static_cast<uint8_t>(tokens[begin].first[depth]);
      const auto other = std::partition_point(tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                                              tokens.begin() + static_cast<std::ptrdiff_t>(end),
                                              [=, depth = depth](const auto& entry) {
                                                return static_cast<uint8_t>(entry.first[depth]) == label;
                                              });
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
