#include "engine/stop.h"

#include <algorithm>
#include <utility>

namespace binhdan::engine {

StopMatcher::Stop::Stop(std::string stop, int32_t number)
    : text(std::move(stop)), index(number), border(text.size(), 0) {
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
  for (size_t i = 0; i < stops.size(); ++i)
    if (!stops[i].empty()) stops_.emplace_back(std::move(stops[i]), static_cast<int32_t>(i));
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped()) return {};
  for (const char byte : text) {
    held_ += byte;
    std::size_t complete = 0;
    for (Stop& stop : stops_)
      if (stop.advance(byte) && stop.text.size() > complete) {
        complete = stop.text.size();
        matched_ = stop.index;
      }
    if (complete > 0) {
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
