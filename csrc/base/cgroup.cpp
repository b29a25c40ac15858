// The CPU quota of control groups, v2 (https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max) and v1
// (https://docs.kernel.org/scheduler/sched-bwc.html). A limit of any ancestor holds too, so all are read.
#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "base/cpu.h"

namespace binhdan {
namespace {

constexpr int kNoLimit = std::numeric_limits<int>::max();

int cores(long long quota, long long period) {
  if (quota <= 0 || period <= 0) return kNoLimit;
  const long long whole = quota / period + (quota % period != 0);
  return static_cast<int>(std::min<long long>(whole, kNoLimit));
}

// "200000 100000", or "max 100000" for no limit.
int read_v2(const std::string& group) {
  std::ifstream file(group + "/cpu.max");
  long long quota = 0, period = 0;
  return file >> quota >> period ? cores(quota, period) : kNoLimit;
}

int read_v1(const std::string& group) {
  std::ifstream quota_file(group + "/cpu.cfs_quota_us"), period_file(group + "/cpu.cfs_period_us");
  long long quota = 0, period = 0;
  return quota_file >> quota && period_file >> period ? cores(quota, period) : kNoLimit;
}

// The smallest limit of `group` ("/a/b") and its parents below `mount`. In a container the path may be that
// of the host, which is not visible; the walk then ends at the mount itself, which is the container's own
// group.
int walk(const std::string& mount, std::string group, int (*read)(const std::string&)) {
  int limit = kNoLimit;
  while (!group.empty() && group != "/") {
    limit = std::min(limit, read(mount + group));
    group.erase(group.rfind('/') == std::string::npos ? 0 : group.rfind('/'));
  }
  return std::min(limit, read(mount));
}

bool lists_cpu(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');)
    if (name == "cpu") return true;
  return false;
}

}  // namespace

int cgroup_cores(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  std::ifstream groups(root + "/proc/self/cgroup");
  int limit = kNoLimit;
  const auto look = [&](const std::string& below, const std::string& group, auto* read) {
    limit = std::min(limit, walk(mount + below, group, read));
  };
  // Lines are "0::/user.slice" (v2) or "4:cpu,cpuacct:/docker/ab12" (v1).
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      look("", group, read_v2);
      look("/unified", group, read_v2);
    } else if (lists_cpu(controllers)) {
      look("/" + controllers, group, read_v1);
      look("/cpu", group, read_v1);
    }
  }
  return limit == kNoLimit ? 0 : limit;
}

}  // namespace binhdan
