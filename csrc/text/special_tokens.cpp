#include "text/special_tokens.h"

#include <algorithm>

#include "base/error.h"

namespace binhdan::text {
namespace {
constexpr std::size_t kMaxBytes = 4 << 20;
}

SpecialTokens::SpecialTokens(const std::vector<std::pair<std::string_view, Token>>& tokens) {
  std::size_t bytes = 0;
  for (const auto& [text, token] : tokens) bytes += text.size();
  if (bytes > kMaxBytes)
    fail(Code::bad_format, "tokenizer.ggml.tokens: special tokens: expected at most ", kMaxBytes,
         " bytes together, got ", bytes);
  for (const auto& [text, token] : tokens) {
    uint32_t node = 0;
    for (auto c = text.rbegin(); c != text.rend(); ++c) {
      const auto byte = static_cast<uint8_t>(*c);
      uint32_t next = step(node, byte);
      if (next == 0) {
        next = static_cast<uint32_t>(nodes_.size());
        nodes_.push_back({.byte = byte, .sibling = nodes_[node].child});
        nodes_[node].child = next;
      }
      node = next;
    }
    if (node == 0) continue;
    nodes_[node].token = token;
    nodes_[node].size = static_cast<uint32_t>(text.size());
  }
  link();
}

uint32_t SpecialTokens::step(uint32_t node, uint8_t byte) const {
  uint32_t next = nodes_[node].child;
  while (next != 0 && nodes_[next].byte != byte) next = nodes_[next].sibling;
  return next;
}

// Breadth first, so that a shorter node is complete before a longer one uses it.
void SpecialTokens::link() {
  std::vector<uint32_t> order{0};
  for (std::size_t i = 0; i < order.size(); ++i) {
    const uint32_t parent = order[i];
    for (uint32_t n = nodes_[parent].child; n != 0;) {
      Node& node = nodes_[n];
      uint32_t shorter = nodes_[parent].shorter;
      while (shorter != 0 && step(shorter, node.byte) == 0) shorter = nodes_[shorter].shorter;
      node.shorter = parent == 0 ? 0 : step(shorter, node.byte);
      const Node& suffix = nodes_[static_cast<std::size_t>(node.shorter)];
      if (node.token < 0) {
        node.token = suffix.token;
        node.size = suffix.size;
      }
      order.push_back(n);
      n = node.sibling;
    }
  }
}

std::vector<SpecialTokens::Match> SpecialTokens::find(std::string_view text) const {
  std::vector<Match> matches;
  if (nodes_.size() == 1) return matches;
  uint32_t node = 0;
  for (std::size_t i = text.size(); i-- > 0;) {
    const auto byte = static_cast<uint8_t>(text[i]);
    uint32_t next = step(node, byte);
    while (next == 0 && node != 0) {
      node = nodes_[node].shorter;
      next = step(node, byte);
    }
    node = next;
    const Node& now = nodes_[node];
    if (now.token >= 0) matches.push_back({i, now.size, now.token});
  }
  std::reverse(matches.begin(), matches.end());
  std::size_t end = 0;
  std::erase_if(matches, [&end](const Match& match) {
    if (match.begin < end) return true;
    end = match.begin + match.size;
    return false;
  });
  return matches;
}

}  // namespace binhdan::text
