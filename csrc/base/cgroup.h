// The limits of this process's control groups; 0 = no limit. Tests pass another `root` of the file system.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace binhdan {

// Cores, rounded up.
int cgroup_cores(const std::string& root = "");
// Bytes of memory.
uint64_t cgroup_memory(const std::string& root = "");
// Bytes that the limits leave: the cache of files counts as free. nullopt = no limit.
std::optional<uint64_t> cgroup_free_memory(const std::string& root = "");

}  // namespace binhdan
