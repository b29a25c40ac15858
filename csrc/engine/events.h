// The events of requests, and the queue that callers read them from.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/wake_fd.h"
#include "text/vocab.h"

namespace binhdan::engine {

// Fields and enum values are those of binhdan_event.
struct Event {
  enum class Kind : int32_t { token = 1, finished = 2, embedding = 3, scores = 4, logits = 5 };
  enum class Finish : int32_t {
    none = 0,
    stop = 1,
    length = 2,
    context = 3,
    cancelled = 4,
    error = 5,
    repetition = 6
  };

  Kind kind;
  uint64_t request;
  text::Token token = -1;
  int32_t stop_text = -1;
  float logprob = 0;
  std::string text;
  std::vector<std::pair<text::Token, float>> top;
  std::vector<float> values;
  Finish finish = Finish::none;
  int32_t status = 0;
  int32_t prompt_tokens = 0, cached_tokens = 0, answer_tokens = 0;
  int32_t drafted_tokens = 0, accepted_tokens = 0;
  int64_t queue_ns = 0, prefill_ns = 0, decode_ns = 0;
};

// For any number of writers and readers. Unbounded, because the engine bounds the number of requests.
class EventQueue {
 public:
  void push(Event event);
  // Waits up to timeout_ms (-1: without limit); nullptr when the time is over. Throws Error(closed) when the
  // queue is closed, or when it is empty after end().
  std::unique_ptr<Event> next(int32_t timeout_ms);
  // Readable while the queue has events, and after close() or end(). Created at the first call. Throws as
  // WakeFd.
  int fd();
  void end();    // no more events; those in the queue can still be read
  void close();  // readers return with an error; the events are dropped
  bool closed() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Event> events_;
  std::unique_ptr<WakeFd> wake_;
  bool ended_ = false, closed_ = false;
};

}  // namespace binhdan::engine
