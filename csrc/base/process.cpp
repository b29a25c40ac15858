#include "base/process.h"

#include <algorithm>
#include <fstream>
#include <system_error>
#include <utility>

#include "base/cgroup.h"
#include "base/error.h"

#ifdef _WIN32
#include <process.h>
#include <windows.h>
#else
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#endif

namespace binhdan {
namespace {

// Blocks all signals but those of faults, in this thread and in threads that it starts.
class BlockedSignals {
#ifdef _WIN32
 public:
  BlockedSignals() {}
#else
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS})
      sigdelset(&all, fault);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
#endif
};

void name_this_thread([[maybe_unused]] const char* name) {
#ifdef __linux__
  pthread_setname_np(pthread_self(), name);
#endif
}

}  // namespace

uint64_t usable_memory() {
#ifdef _WIN32
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  const uint64_t machine = GlobalMemoryStatusEx(&status) ? status.ullTotalPhys : 0;
#else
  const uint64_t machine =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
#endif
  const uint64_t group = cgroup_memory();
  return group > 0 ? std::min(group, machine) : machine;
}

std::optional<uint64_t> available_memory(const std::string& root) {
  std::optional<uint64_t> machine;
#ifdef _WIN32
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  if (GlobalMemoryStatusEx(&status)) machine = status.ullAvailPhys;
#else
  // Lines are "MemAvailable:    1234 kB".
  std::ifstream file(root + "/proc/meminfo");
  std::string name, rest;
  for (uint64_t kilobytes = 0; file >> name >> kilobytes && std::getline(file, rest);)
    if (name == "MemAvailable:") machine = kilobytes << 10;
#endif
  const std::optional<uint64_t> group = cgroup_free_memory(root);
  return machine && group ? std::min(*machine, *group) : machine ? machine : group;
}

int64_t process_id() {
#ifdef _WIN32
  return _getpid();
#else
  return getpid();
#endif
}

std::thread start_thread(const char* name, std::function<void()> body) {
  const BlockedSignals blocked;
  try {
    return std::thread([name, body = std::move(body)] {
      name_this_thread(name);
      body();
    });
  } catch (const std::system_error& error) {
    fail(Code::out_of_memory, "cannot start a thread: ", error.what());
  }
}

}  // namespace binhdan
