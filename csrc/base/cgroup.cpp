// Control groups v2 (https://docs.kernel.org/admin-guide/cgroup-v2.html: cpu.max, memory.max) and v1
// (https://docs.kernel.org/scheduler/sched-bwc.html, .../cgroup-v1/memory.html). The limits of all
// ancestors apply too.
#include "base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

namespace binhdan {
namespace {

constexpr auto kNoLimit = std::numeric_limits<uint64_t>::max();

// Reads the limit from a controller's files in the folder `group`.
using Read = uint64_t (*)(const std::string& group);

uint64_t cores(long long quota, long long period) {
  if (quota <= 0 || period <= 0) return kNoLimit;
  return static_cast<uint64_t>(quota / period + (quota % period != 0));
}

// "200000 100000", or "max 100000" for no limit.
uint64_t read_cpu_v2(const std::string& group) {
  std::ifstream file(group + "/cpu.max");
  long long quota = 0, period = 0;
  return file >> quota >> period ? cores(quota, period) : kNoLimit;
}

uint64_t read_cpu_v1(const std::string& group) {
  std::ifstream quota_file(group + "/cpu.cfs_quota_us"), period_file(group + "/cpu.cfs_period_us");
  long long quota = 0, period = 0;
  return quota_file >> quota && period_file >> period ? cores(quota, period) : kNoLimit;
}

// "1073741824", or "max" for no limit.
uint64_t read_bytes(const std::string& path) {
  std::ifstream file(path);
  uint64_t bytes = 0;
  return file >> bytes && bytes > 0 ? bytes : kNoLimit;
}
uint64_t read_memory_v2(const std::string& group) {
  return read_bytes(group + "/memory.max");
}
uint64_t read_memory_v1(const std::string& group) {
  return read_bytes(group + "/memory.limit_in_bytes");
}

// The value of `key` in a file of lines "key value"; 0 if there is none.
uint64_t read_stat(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  uint64_t value = 0;
  for (std::string name; file >> name >> value;)
    if (name == key) return value;
  return 0;
}

// What a limit leaves of itself. The kernel drops the cache of files before it fails an allocation.
uint64_t free_bytes(uint64_t limit, const std::string& usage, const std::string& stat,
                    const std::string& prefix) {
  if (limit == kNoLimit) return kNoLimit;
  const uint64_t used = read_bytes(usage);
  const uint64_t cache = read_stat(stat, prefix + "inactive_file") + read_stat(stat, prefix + "active_file");
  if (used == kNoLimit) return limit;  // the usage is not readable
  const uint64_t needed = used - std::min(used, cache);
  return limit - std::min(limit, needed);
}
uint64_t read_free_v2(const std::string& group) {
  return free_bytes(read_memory_v2(group), group + "/memory.current", group + "/memory.stat", "");
}
uint64_t read_free_v1(const std::string& group) {
  return free_bytes(read_memory_v1(group), group + "/memory.usage_in_bytes", group + "/memory.stat",
                    "total_");
}

// The smallest limit of `group` ("/a/b") and its parents below `mount`. In a container the path may be the
// host's, which does not exist here; then only the mount itself counts, which is the container's group.
uint64_t smallest_limit(const std::string& mount, std::string group, Read read) {
  uint64_t limit = kNoLimit;
  while (!group.empty() && group != "/") {
    limit = std::min(limit, read(mount + group));
    group.erase(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
  return std::min(limit, read(mount));
}

bool lists(const std::string& controllers, const std::string& controller) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');)
    if (name == controller) return true;
  return false;
}

uint64_t limit_of(const std::string& root, const std::string& controller, Read v2, Read v1) {
  const std::string mount = root + "/sys/fs/cgroup";
  std::ifstream groups(root + "/proc/self/cgroup");
  uint64_t limit = kNoLimit;
  const auto look = [&](const std::string& below, const std::string& group, Read read) {
    limit = std::min(limit, smallest_limit(mount + below, group, read));
  };
  // Lines are "0::/user.slice" (v2) or "4:cpu,cpuacct:/docker/ab12" (v1).
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      look("", group, v2);
      look("/unified", group, v2);
    } else if (lists(controllers, controller)) {
      look("/" + controllers, group, v1);
      look("/" + controller, group, v1);
    }
  }
  return limit;
}

uint64_t or_zero(uint64_t limit) {
  return limit == kNoLimit ? 0 : limit;
}

}  // namespace

int cgroup_cores(const std::string& root) {
  const uint64_t cores = or_zero(limit_of(root, "cpu", read_cpu_v2, read_cpu_v1));
  return cores > std::numeric_limits<int>::max() ? 0 : static_cast<int>(cores);
}

uint64_t cgroup_memory(const std::string& root) {
  return or_zero(limit_of(root, "memory", read_memory_v2, read_memory_v1));
}

std::optional<uint64_t> cgroup_free_memory(const std::string& root) {
  const uint64_t left = limit_of(root, "memory", read_free_v2, read_free_v1);
  return left == kNoLimit ? std::nullopt : std::optional(left);
}

}  // namespace binhdan
