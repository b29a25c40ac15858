// A counter that threads wait for: they spin for a short time, then yield, and then park, as the engine shares
// its cores with servers and event loops.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace binhdan {

class Gate {
 public:
  // `spin_ns`: how long a waiter may burn its core before it yields; 0: it parks at once.
  explicit Gate(int64_t spin_ns) : spin_ns_(spin_ns) {}

  uint32_t value() const { return value_.load(std::memory_order_acquire); }
  // Changes the value and wakes every waiter.
  void advance();
  // Returns once the value differs from `old`.
  void wait_past(uint32_t old);

 private:
  bool spin_past(uint32_t old) const;

  const int64_t spin_ns_;
  std::atomic<uint32_t> value_{0};
  // advance() writes value_ then reads parked_; a waiter writes parked_ then reads value_; all four in the
  // one order of sequential consistency, so at least one of the two sees the other and no wake-up is lost.
  std::atomic<int> parked_{0};
  std::mutex mutex_;
  std::condition_variable woken_;
};

}  // namespace binhdan
