// A trie over the bytes of tokens: finds the tokens that start at a place of a text.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "text/vocab.h"

namespace binhdan::text {

class Trie {
 public:
  // The longest token that a trie takes. It bounds the work per byte of text.
  static constexpr std::size_t kMaxTokenBytes = 512;

  // Throws Error(bad_format) for a token of more than kMaxTokenBytes bytes. Of equal texts, the last one counts.
  explicit Trie(const std::vector<std::pair<std::string_view, Token>>& texts);

  // Calls found(bytes, token) for each token that `text` starts with, the shortest first.
  template <typename Found>
  void prefixes(std::string_view text, const Found& found) const {
    uint32_t node = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      node = child(node, static_cast<uint8_t>(text[i]));
      if (node == 0) return;
      if (nodes_[node].token >= 0) found(i + 1, nodes_[node].token);
    }
  }

 private:
  struct Node {
    uint32_t children;  // the first one; the next node's first child is the end of them
    Token token;        // -1: none ends here
  };
  // 0 when there is none: the root is no child.
  uint32_t child(uint32_t node, uint8_t byte) const {
    if (node == 0) return root_[byte];
    const auto begin = labels_.begin() + nodes_[node].children,
               end = labels_.begin() + nodes_[node + 1].children;
    const auto label = std::lower_bound(begin, end, byte);
    return label != end && *label == byte ? static_cast<uint32_t>(label - labels_.begin()) : 0;
  }

  // In breadth-first order, so that the children of a node are adjacent; by label among them. One node more
  // marks the end.
  std::vector<Node> nodes_;
  std::vector<uint8_t> labels_;  // of each node: the byte that leads to it
  std::array<uint32_t, 256> root_{};
};

}  // namespace binhdan::text
