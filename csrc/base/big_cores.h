// The big cores of a processor that has cores of several speeds (big.LITTLE, DynamIQ).
#pragma once
#include <string>

namespace binhdan {

// The number of cores with more than 60 % of the capacity of the fastest: in an RK3588 the four Cortex-A76
// (1024) and not the four Cortex-A55 (530). 0 where the operating system does not state capacities, as on
// x86-64. Tests pass another `root` of the file system.
int big_cores(const std::string& root = "");

}  // namespace binhdan
