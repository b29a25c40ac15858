// Finds tokens that are written out in text, such as <|im_start|>.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "text/vocab.h"

namespace binhdan::text {

// Aho and Corasick's automaton (1975) over the reversed tokens: read from the text's end, it knows at every
// byte the longest token that starts there. That is linear in the text for any set of tokens, which a trie
// tried at each position is not.
class SpecialTokens {
 public:
  struct Match {
    std::size_t begin, size;
    Token token;
  };

  SpecialTokens() = default;
  // Throws Error(bad_format) when the texts are absurdly long together.
  explicit SpecialTokens(const std::vector<std::pair<std::string_view, Token>>& tokens);
  // Leftmost first, the longest of those that start at one place; in text order, not overlapping.
  std::vector<Match> find(std::string_view text) const;

 private:
  struct Node {
    uint8_t byte = 0;
    uint32_t child = 0, sibling = 0;  // 0: none, as the root is nobody's child
    uint32_t shorter = 0;             // the node of the longest proper suffix
    Token token = -1;                 // the longest token that ends here, through `shorter` too
    uint32_t size = 0;                // its bytes
  };
  uint32_t step(uint32_t node, uint8_t byte) const;
  void link();

  std::vector<Node> nodes_{Node{}};
};

}  // namespace binhdan::text
