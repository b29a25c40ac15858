#include "base/big_cores.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <vector>

namespace binhdan {

// Linux, Documentation/ABI/testing/sysfs-devices-system-cpu: cpu_capacity, 1024 for the fastest core.
int big_cores(const std::string& root) {
  constexpr int kMaxCores = 4096;
  std::vector<int64_t> capacities;
  for (int core = 0; core < kMaxCores; ++core) {
    std::ifstream file(root + "/sys/devices/system/cpu/cpu" + std::to_string(core) + "/cpu_capacity");
    int64_t capacity = 0;
    if (!(file >> capacity) || capacity <= 0) break;
    capacities.push_back(capacity);
  }
  if (capacities.empty()) return 0;
  const int64_t fastest = *std::max_element(capacities.begin(), capacities.end());
  return static_cast<int>(
      std::count_if(capacities.begin(), capacities.end(), [&](int64_t c) { return c > fastest / 5 * 3; }));
}

}  // namespace binhdan
