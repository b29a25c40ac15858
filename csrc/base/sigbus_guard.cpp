// As in libwayland's shared-memory pools: the handler uses no lock and no allocation, only lock-free atomics.
#include "base/sigbus_guard.h"

#ifndef _WIN32
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "base/error.h"

namespace binhdan {
namespace {

struct Slot {
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<uintptr_t> end{0};
  std::atomic<uint32_t> lost{0};  // not bool: RISC-V has no atomics of one byte
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);

constexpr int kSlots = 1024;
Slot slots[kSlots];
std::mutex slots_mutex;  // writers only; the handler never takes it
struct sigaction previous;
uintptr_t page_size;

Slot* find_slot(uintptr_t address) {
  for (Slot& slot : slots) {
    const uintptr_t begin = slot.begin.load();
    const uintptr_t end = slot.end.load();
    // begin is read again because another thread may have reused the slot meanwhile.
    if (begin != 0 && begin <= address && address < end && slot.begin.load() == begin) return &slot;
  }
  return nullptr;
}

// All pages past the new end of the file are missing, so the whole tail becomes zeros at once.
bool replace_by_zeros(Slot& slot, uintptr_t address) {
  const uintptr_t page = address & ~(page_size - 1);
  void* expected = reinterpret_cast<void*>(page);
  void* got =
      mmap(expected, slot.end.load() - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (got != expected) return false;
  slot.lost.store(1);
  return true;
}

void pass_on(int signal, siginfo_t* info, void* context) {
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
  if (previous.sa_handler == SIG_IGN && info->si_code <= 0) return;
  // Restores the previous handler; the default action follows when the faulting instruction runs again.
  sigaction(signal, &previous, nullptr);
  if (info->si_code <= 0) raise(signal);  // sent by kill(): no instruction will fault again
}

void on_sigbus(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  Slot* slot = info->si_code > 0 ? find_slot(address) : nullptr;
  if (!slot || !replace_by_zeros(*slot, address)) pass_on(signal, info, context);
  errno = saved_errno;
}

void install_once() {
  static bool installed = false;
  if (installed) return;
  page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  struct sigaction ours = {};
  ours.sa_sigaction = on_sigbus;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&ours.sa_mask);
  if (sigaction(SIGBUS, nullptr, &previous) != 0 || sigaction(SIGBUS, &ours, nullptr) != 0)
    fail(Code::io, "cannot install the SIGBUS handler: ", std::strerror(errno));
  installed = true;
}

}  // namespace

int sigbus_guard(const void* data, std::size_t size) {
  const std::lock_guard lock(slots_mutex);
  install_once();
  for (int i = 0; i < kSlots; ++i) {
    Slot& slot = slots[i];
    if (slot.begin.load() != 0) continue;
    slot.lost.store(0);
    slot.end.store(reinterpret_cast<uintptr_t>(data) + size);
    slot.begin.store(reinterpret_cast<uintptr_t>(data));
    return i;
  }
  fail(Code::too_large, "expected at most ", kSlots, " mapped files at the same time; close a model first");
}

void sigbus_unguard(int slot) {
  const std::lock_guard lock(slots_mutex);
  slots[slot].end.store(0);
  slots[slot].begin.store(0);
}

bool sigbus_lost(int slot) {
  return slots[slot].lost.load() != 0;
}

}  // namespace binhdan
#endif
