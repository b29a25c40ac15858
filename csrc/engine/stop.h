// Ends an answer before the first stop text that occurs in it. A stop text may span tokens.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace binhdan::engine {

// Reads each byte once per stop text (Knuth, Morris & Pratt 1977). The stop text that completes first ends
// the answer. If several complete at the same byte, the longest one does. So the answer does not depend on
// how the text is split into push() calls.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // UTF-8; empty strings are ignored
  // Takes new text and returns what can no longer be part of a stop text. Once stopped, returns "".
  std::string push(std::string_view text);
  // The text held back, when the answer ended without a stop text. When every push() got whole UTF-8
  // characters, it is whole characters too.
  std::string finish();
  bool stopped() const { return matched_ >= 0; }
  int32_t matched() const { return matched_; }  // index of the stop text that ended the answer; -1: none

 private:
  struct Stop {
    Stop(std::string text, int32_t index);
    bool advance(char byte);  // true when the stop text is complete

    std::string text;
    int32_t index;                    // in the constructor's list
    std::vector<std::size_t> border;  // [n]: longest proper prefix of text[0, n] that also ends it
    std::size_t matched = 0;          // longest prefix of `text` that ends what was read
  };

  std::vector<Stop> stops_;
  std::string held_;
  int32_t matched_ = -1;
};

}  // namespace binhdan::engine
