// Messages that are no errors go to a sink that the embedding program sets, or nowhere.
#pragma once
#include <cstdint>
#include <sstream>
#include <string>

namespace binhdan {

enum class LogLevel : int32_t { debug = 0, info = 1, warning = 2 };
using LogSink = void (*)(void* user, int32_t level, const char* message);

void set_log_sink(LogSink sink, void* user);
bool log_wanted();
void log_message(LogLevel level, const std::string& message);

template <typename... Pieces>
void log(LogLevel level, const Pieces&... pieces) {
  if (!log_wanted()) return;
  std::ostringstream text;
  (text << ... << pieces);
  log_message(level, text.str());
}

}  // namespace binhdan
