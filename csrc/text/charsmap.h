// SentencePiece's precompiled_charsmap: replaces byte sequences of a text, as in NFKC. The format is a length, a
// double-array trie (darts-clone) whose values are offsets, and the replacements, each with a final NUL.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace binhdan::text {

class Charsmap {
 public:
  static constexpr std::size_t kMaxKeyBytes = 256, kMaxReplacementBytes = 256;

  Charsmap() = default;  // replaces nothing
  // Throws Error(bad_format) for a damaged map.
  explicit Charsmap(std::span<const uint8_t> blob);

  struct Match {
    std::size_t size = 0;  // bytes of the key; 0: none
    std::string_view replacement;
  };
  // The longest key of at most kMaxKeyBytes bytes that `text` starts with. Any trie is safe to walk.
  Match find(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace binhdan::text
