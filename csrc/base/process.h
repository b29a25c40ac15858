// The process: its memory, its id and its threads.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>

namespace binhdan {

// Bytes of memory that this process may use: the smaller of the machine's memory and the cgroup's limit.
uint64_t usable_memory();

// Bytes that this process can still allocate without swapping: the smaller of what the machine has available
// (Linux: MemAvailable) and what the cgroup's limit leaves. nullopt = the system does not state it. Tests pass
// another `root` of the file system.
std::optional<uint64_t> available_memory(const std::string& root = "");

// Thread pools and handles use it to detect a forked child.
int64_t process_id();

// Starts a thread that blocks all signals but those of faults, so that the application's threads receive its
// signals (Ctrl-C). Debuggers show `name`, at most 15 bytes. Throws Error(out_of_memory) when the system
// cannot create another thread.
std::thread start_thread(const char* name, std::function<void()> body);

}  // namespace binhdan
