// The limits of control groups; 0 where there is none. `root` is where the file system begins: tests have
// their own.
#pragma once
#include <cstdint>
#include <string>

namespace binhdan {

// Cores that this process may use at a time, rounded up.
int cgroup_cores(const std::string& root = "");
// Bytes that it may hold.
uint64_t cgroup_memory(const std::string& root = "");

}  // namespace binhdan
