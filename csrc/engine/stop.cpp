#include "engine/stop.h"

#include <algorithm>
#include <utility>

namespace binhdan::engine {

StopMatcher::Stop::Stop(std::string stop) : text(std::move(stop)), border(text.size(), 0) {
  for (std::size_t n = 1, length = 0; n < text.size(); ++n) {
    while (length > 0 && text[n] != text[length]) length = border[length - 1];
    if (text[n] == text[length]) ++length;
    border[n] = length;
  }
}

bool StopMatcher::Stop::advance(char byte) {
  while (matched > 0 && text[matched] != byte) matched = border[matched - 1];
  if (text[matched] == byte) ++matched;
  return matched == text.size();
}

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& stop : stops)
    if (!stop.empty()) stops_.emplace_back(std::move(stop));
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  for (const char byte : text) {
    held_ += byte;
    std::size_t complete = 0;
    for (Stop& stop : stops_)
      if (stop.advance(byte)) complete = std::max(complete, stop.text.size());
    if (complete > 0) {
      stopped_ = true;
      held_.resize(held_.size() - complete);
      return std::exchange(held_, {});
    }
  }
  std::size_t keep = 0;
  for (const Stop& stop : stops_) keep = std::max(keep, stop.matched);
  std::string free = held_.substr(0, held_.size() - keep);
  held_.erase(0, free.size());
  return free;
}

std::string StopMatcher::finish() {
  return std::exchange(held_, {});
}

}  // namespace binhdan::engine
