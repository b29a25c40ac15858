#include "base/gate.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"

namespace binhdan {
namespace {

// The processor's hint for a spin loop: it saves power and frees the core for its other hardware thread.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#elif defined(__riscv)
  // pause (Zihintpause); processors without it execute a fence
  asm volatile(".4byte 0x0100000f" ::: "memory");
#endif
}

constexpr int kPausesPerCheck = 8;
// A waiter yields for this many times its spin time before it parks. An idle core of a virtual machine may
// need milliseconds to resume on a busy host; then the other threads wait for it, their cores become idle,
// and so on.
constexpr int64_t kYieldFactor = 40;

}  // namespace

void Gate::advance() {
  value_.fetch_add(1, std::memory_order_seq_cst);
  if (parked_.load(std::memory_order_seq_cst) == 0) return;
  // A waiter holds the mutex from its check of the value until it parks.
  std::unique_lock(mutex_).unlock();
  advanced_.notify_all();
}

int64_t Gate::wait_past(uint32_t old) {
  if (value() != old) return 0;
  const int64_t start = now_ns();
  if (!spin_past(old, start)) park_past(old);
  return std::max<int64_t>(0, now_ns() - start - spin_ns_);
}

void Gate::park_past(uint32_t old) {
  std::unique_lock lock(mutex_);
  parked_.fetch_add(1, std::memory_order_seq_cst);
  advanced_.wait(lock, [&] { return value_.load(std::memory_order_seq_cst) != old; });
  parked_.fetch_sub(1, std::memory_order_relaxed);
}

bool Gate::spin_past(uint32_t old, int64_t start) const {
  for (int64_t waited = 0; waited < kYieldFactor * spin_ns_; waited = now_ns() - start) {
    for (int i = 0; i < kPausesPerCheck; ++i) {
      if (value() != old) return true;
      relax();
    }
    if (waited > spin_ns_) std::this_thread::yield();
  }
  return false;
}

}  // namespace binhdan
