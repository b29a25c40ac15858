// Finds the texts of tokens in a text, such as <|im_start|>.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "text/vocab.h"

namespace binhdan::text {

// Aho and Corasick's automaton (1975) over the reversed tokens. It reads the text from the end and finds at
// every byte the longest token that starts there. Its time is linear in the text for any set of tokens; a
// trie's is not.
class SpecialTokens {
 public:
  struct Match {
    std::size_t begin, size;
    Token token;
  };

  SpecialTokens() = default;
  // Throws Error(bad_format) when the texts together exceed a limit.
  explicit SpecialTokens(const std::vector<std::pair<std::string_view, Token>>& tokens);
  // Leftmost-longest matches, in text order, without overlaps.
  std::vector<Match> find(std::string_view text) const;

 private:
  struct Node {
    uint8_t byte = 0;
    uint32_t child = 0, sibling = 0;  // 0: none, because the root is never a child
    uint32_t shorter = 0;             // the node of the longest proper suffix
    Token token = -1;                 // the longest token that ends here, through `shorter` too
    uint32_t size = 0;                // its bytes
  };
  uint32_t step(uint32_t node, uint8_t byte) const;
  void link();

  std::vector<Node> nodes_{Node{}};
};

}  // namespace binhdan::text
