#include "base/log.h"

#include <atomic>
#include <mutex>
#include <shared_mutex>

namespace binhdan {
namespace {
// set_log_sink returns after the last call of the old sink. Calls of the sink do not wait for each other: one may close
// a model whose thread logs.
std::shared_mutex mutex;
LogSink current = nullptr;
void* current_user = nullptr;
std::atomic<bool> enabled{false};
thread_local WarningCollector* collector = nullptr;
}  // namespace

void set_log_sink(LogSink sink, void* user) {
  const std::lock_guard lock(mutex);
  current = sink;
  current_user = user;
  enabled.store(sink != nullptr, std::memory_order_relaxed);
}

WarningCollector::WarningCollector() : outer_(collector) {
  collector = this;
}

WarningCollector::~WarningCollector() {
  collector = outer_;
}

bool log_enabled() {
  return collector || enabled.load(std::memory_order_relaxed);
}

void log_message(LogLevel level, const std::string& message) {
  if (collector && level == LogLevel::warning) collector->warnings.push_back(message);
  const std::shared_lock lock(mutex);
  if (current) current(current_user, static_cast<int32_t>(level), message.c_str());
}

}  // namespace binhdan
