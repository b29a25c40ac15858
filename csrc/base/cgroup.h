// The limits of this process's control groups; 0 = no limit. Tests pass another `root` of the file system.
#pragma once
#include <cstdint>
#include <string>

namespace binhdan {

// Cores, rounded up.
int cgroup_cores(const std::string& root = "");
// Bytes of memory.
uint64_t cgroup_memory(const std::string& root = "");

}  // namespace binhdan
