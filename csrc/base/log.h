// Log messages. They go to the sink that the embedding program sets; without one they are dropped.
#pragma once
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

namespace binhdan {

enum class LogLevel : int32_t { debug = 0, info = 1, warning = 2 };
using LogSink = void (*)(void* user, int32_t level, const char* message);

void set_log_sink(LogSink sink, void* user);
bool log_enabled();
void log_message(LogLevel level, const std::string& message);

// Collects the warnings of the thread that constructs it until it is destroyed, in addition to the sink.
class WarningCollector {
 public:
  WarningCollector();
  ~WarningCollector();
  WarningCollector(const WarningCollector&) = delete;
  WarningCollector& operator=(const WarningCollector&) = delete;

  std::vector<std::string> warnings;

 private:
  WarningCollector* outer_;
};

template <typename... Pieces>
void log(LogLevel level, const Pieces&... pieces) {
  if (!log_enabled()) return;
  std::ostringstream text;
  (text << ... << pieces);
  log_message(level, text.str());
}

}  // namespace binhdan
