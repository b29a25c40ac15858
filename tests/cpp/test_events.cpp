#include "engine/events.h"

#ifndef _WIN32
#include <poll.h>
#endif

#include <atomic>
#include <map>
#include <thread>
#include <vector>

#include "check.h"

using binhdan::Code;
using binhdan::Error;
using binhdan::engine::Event;
using binhdan::engine::EventQueue;

namespace {

Event token_event(uint64_t request, int32_t token) {
  Event event;
  event.kind = Event::Kind::token;
  event.request = request;
  event.token = token;
  return event;
}

#ifdef _WIN32
constexpr bool kDescriptors = false;
bool readable(int, int = 0) {
  return false;
}
#else
constexpr bool kDescriptors = true;
bool readable(int fd, int timeout_ms = 0) {
  pollfd waiting{fd, POLLIN, 0};
  return poll(&waiting, 1, timeout_ms) == 1 && (waiting.revents & POLLIN);
}
#endif

}  // namespace

TEST(events_keep_their_order_and_contents) {
  EventQueue queue;
  Event first = token_event(7, 3);
  first.text = "thủ đô";
  first.top = {{3, -0.5f}, {4, -2.f}};
  queue.push(first);
  queue.push(token_event(8, 4));
  const auto a = queue.next(-1), b = queue.next(0);
  CHECK(a && a->request == 7 && a->text == "thủ đô" && a->top == first.top);
  CHECK(b && b->request == 8 && b->token == 4);
  CHECK(queue.next(0) == nullptr);
  CHECK(queue.next(5) == nullptr);
}

TEST(events_can_be_read_after_end) {
  EventQueue queue;
  queue.push(token_event(1, 1));
  queue.end();
  queue.push(token_event(1, 2));
  CHECK(!queue.closed());
  CHECK(queue.next(-1)->token == 1);
  CHECK_FAILS(queue.next(-1), "engine is closed");
}

TEST(close_drops_unread_events) {
  EventQueue queue;
  queue.push(token_event(1, 1));
  queue.close();
  queue.push(token_event(1, 2));
  CHECK(queue.closed());
  CHECK_FAILS(queue.next(0), "queue is closed");
}

#ifndef _WIN32
TEST(descriptor_is_readable_while_the_queue_has_events) {
  EventQueue queue;
  queue.push(token_event(1, 1));
  const int fd = queue.fd();
  CHECK(fd == queue.fd());
  CHECK(readable(fd));
  queue.push(token_event(1, 2));
  queue.next(0);
  CHECK(readable(fd));
  queue.next(0);
  CHECK(!readable(fd));
  queue.push(token_event(1, 3));
  CHECK(readable(fd));
  queue.end();
  queue.next(0);
  CHECK(readable(fd));
}

TEST(descriptor_is_readable_after_end_and_close) {
  EventQueue ended, closed;
  ended.end();
  CHECK(readable(ended.fd()));
  const int fd = closed.fd();
  CHECK(!readable(fd));
  std::thread closer([&] { closed.close(); });
  CHECK(readable(fd, 10000));
  closer.join();
}
#endif

TEST(close_unblocks_every_reader) {
  EventQueue queue;
  std::atomic<int> failed = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i)
    readers.emplace_back([&, i] {
      try {
        queue.next(i % 2 ? -1 : 60000);
      } catch (const Error& error) {
        failed += error.code() == Code::closed;
      }
    });
  queue.close();
  for (std::thread& reader : readers) reader.join();
  CHECK(failed == 4);
}

TEST(concurrent_writers_and_readers_lose_no_event) {
  constexpr int kWriters = 4, kReaders = 4, kEvents = 2000;
  EventQueue queue;
  std::vector<std::thread> readers, writers;
  std::vector<std::vector<Event>> read(kReaders);
  if (kDescriptors) queue.fd();
  for (int r = 0; r < kReaders; ++r)
    readers.emplace_back([&, r] {
      try {
        while (true)  // each reader waits in another way; the last one polls the descriptor
          if (r == 3 && kDescriptors) {
            readable(queue.fd(), 1000);
            if (auto event = queue.next(0)) read[r].push_back(*event);
          } else if (auto event = queue.next(r - 1)) {
            read[r].push_back(*event);
          }
      } catch (const Error& error) {
        CHECK(error.code() == Code::closed);
      }
    });
  for (int w = 0; w < kWriters; ++w)
    writers.emplace_back([&, w] {
      for (int i = 0; i < kEvents; ++i) queue.push(token_event(w, i));
    });
  for (std::thread& writer : writers) writer.join();
  queue.end();
  for (std::thread& reader : readers) reader.join();

  std::map<uint64_t, std::vector<int>> times;
  for (const auto& events : read) {
    std::map<uint64_t, int32_t> last;
    for (const Event& event : events) {
      auto& seen = times[event.request];
      seen.resize(kEvents);
      ++seen[event.token];
      const auto [entry, added] = last.try_emplace(event.request, -1);
      CHECK(event.token > entry->second);  // a reader gets the events of one writer in order
      entry->second = event.token;
    }
  }
  CHECK(times.size() == kWriters);
  for (const auto& [writer, seen] : times) CHECK(seen == std::vector<int>(kEvents, 1));
}
