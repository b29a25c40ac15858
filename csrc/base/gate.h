// A counter that threads wait for. A waiter spins, then yields, then parks, so that servers and event loops
// can use the same cores.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace binhdan {

class Gate {
 public:
  // `spin_ns`: how long a waiter spins before it yields; 0: it parks at once.
  explicit Gate(int64_t spin_ns) : spin_ns_(spin_ns) {}

  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  // Increments the value and notifies every waiter.
  void advance();
  // Returns once the value differs from `old`, with the time that it waited longer than a spin.
  int64_t wait_past(uint32_t old);

 private:
  bool spin_past(uint32_t old, int64_t start) const;
  void park_past(uint32_t old);

  const int64_t spin_ns_;
  std::atomic<uint32_t> value_{0};
  // advance() writes value_, then reads parked_; a waiter writes parked_, then reads value_. All four are
  // sequentially consistent, so at least one of the two sees the other's write: no notification is lost.
  std::atomic<int> parked_{0};
  std::mutex mutex_;
  std::condition_variable advanced_;
};

}  // namespace binhdan
