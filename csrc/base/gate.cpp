#include "base/gate.h"

#include <thread>

#include "base/clock.h"

namespace binhdan {
namespace {

// Tells the core that this is a waiting loop: saves power and lets a hyper-thread sibling work.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#elif defined(__riscv)
  // pause (Zihintpause); a harmless fence where it is unknown
  asm volatile(".4byte 0x0100000f" ::: "memory");
#endif
}

constexpr int kPausesPerLook = 8;
// A core that has nothing to do goes to sleep. In a virtual machine on a busy host it may come back milliseconds
// later; the others wait for it, sleep too, and so on. So a waiter yields for so many times the time that it
// spins, to whoever needs the core, before it parks.
constexpr int64_t kPatience = 40;

}  // namespace

void Gate::advance() {
  value_.fetch_add(1, std::memory_order_seq_cst);
  if (parked_.load(std::memory_order_seq_cst) == 0) return;
  // A waiter between its look at the value and its sleep holds the mutex.
  std::unique_lock(mutex_).unlock();
  woken_.notify_all();
}

void Gate::wait_past(uint32_t old) {
  if (spin_past(old)) return;
  std::unique_lock lock(mutex_);
  parked_.fetch_add(1, std::memory_order_seq_cst);
  woken_.wait(lock, [&] { return value_.load(std::memory_order_seq_cst) != old; });
  parked_.fetch_sub(1, std::memory_order_relaxed);
}

bool Gate::spin_past(uint32_t old) const {
  if (value() != old) return true;
  if (spin_ns_ == 0) return false;
  const int64_t start = now_ns();
  for (int64_t waited = 0; waited < kPatience * spin_ns_; waited = now_ns() - start) {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (value() != old) return true;
      relax();
    }
    if (waited > spin_ns_) std::this_thread::yield();
  }
  return false;
}

}  // namespace binhdan
