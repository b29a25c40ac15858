// The process as the operating system numbers it: how a pool notices that it lives in a forked child.
#pragma once
#include <cstdint>

namespace binhdan {
int64_t process_id();
}  // namespace binhdan
