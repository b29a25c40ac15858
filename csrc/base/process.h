// The process as the operating system sees it: its number, and threads that keep out of the way.
#pragma once
#include <cstdint>
#include <functional>
#include <thread>

namespace binhdan {

// Bytes of memory that this process may use: the smaller of the machine's and the cgroup's limit.
uint64_t usable_memory();

// How a pool notices that it lives in a forked child.
int64_t process_id();

// Starts a thread that takes none of the application's signals (Ctrl-C must reach the application's own
// threads; faults still arrive). `name` shows in debuggers, up to 15 bytes. Throws Error(out_of_memory) when
// there are no more threads to have.
std::thread start_thread(const char* name, std::function<void()> body);

}  // namespace binhdan
