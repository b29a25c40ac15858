// Ends an answer before any of its stop texts, wherever the borders of tokens fall.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace binhdan::engine {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops);  // empty strings are ignored
  // Takes new text and returns what can no longer be part of a stop text. Once stopped, returns "".
  std::string push(std::string_view text);
  // What was held back when the answer ended otherwise; whole UTF-8 characters in, whole characters out.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace binhdan::engine
