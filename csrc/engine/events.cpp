#include "engine/events.h"

#include <chrono>

#include "base/error.h"

namespace binhdan::engine {

// Notifications and changes of the descriptor happen under the lock, because the reader of the last event may
// destroy the queue.

void EventQueue::push(Event event) {
  const std::lock_guard lock(mutex_);
  if (ended_ || closed_) return;
  events_.push_back(std::move(event));
  if (wake_ && events_.size() == 1) wake_->set();
  arrived_.notify_one();
}

std::unique_ptr<Event> EventQueue::next(int32_t timeout_ms) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] { return !events_.empty() || ended_ || closed_; };
  if (timeout_ms < 0) {
    arrived_.wait(lock, ready);
  } else if (!arrived_.wait_for(lock, std::chrono::milliseconds(timeout_ms), ready)) {
    return nullptr;
  }
  if (closed_) fail(Code::closed, "queue_next: the queue is closed");
  if (events_.empty())
    fail(Code::closed, "queue_next: the engine is closed and all events of this queue were read");
  auto event = std::make_unique<Event>(std::move(events_.front()));
  events_.pop_front();
  if (wake_ && events_.empty() && !ended_) wake_->clear();
  return event;
}

int EventQueue::fd() {
  const std::lock_guard lock(mutex_);
  if (!wake_) {
    wake_ = std::make_unique<WakeFd>();
    if (!events_.empty() || ended_ || closed_) wake_->set();
  }
  return wake_->fd();
}

void EventQueue::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  if (wake_) wake_->set();
  arrived_.notify_all();
}

void EventQueue::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  events_.clear();
  if (wake_) wake_->set();
  arrived_.notify_all();
}

bool EventQueue::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

}  // namespace binhdan::engine
