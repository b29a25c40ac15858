#include "base/log.h"

#include <atomic>
#include <mutex>

namespace binhdan {
namespace {
std::mutex mutex;  // a sink is never called after set_log_sink has replaced it
LogSink current = nullptr;
void* current_user = nullptr;
std::atomic<bool> wanted{false};
}  // namespace

void set_log_sink(LogSink sink, void* user) {
  const std::lock_guard lock(mutex);
  current = sink;
  current_user = user;
  wanted.store(sink != nullptr, std::memory_order_relaxed);
}

bool log_wanted() {
  return wanted.load(std::memory_order_relaxed);
}

void log_message(LogLevel level, const std::string& message) {
  const std::lock_guard lock(mutex);
  if (current) current(current_user, static_cast<int32_t>(level), message.c_str());
}

}  // namespace binhdan
