// The process-wide SIGBUS handler of file_map_posix.cpp. In guarded ranges, a read past the end of a
// truncated file returns zeros. Other faults go to the previous handler.
#pragma once
#include <cstddef>

namespace binhdan {

// Guards [data, data + size), which starts at a page, until sigbus_unguard. Returns the slot's number. Throws
// Error(too_large) when all slots are in use, Error(io) when the handler cannot be installed.
int sigbus_guard(const void* data, std::size_t size);
void sigbus_unguard(int slot);
// Whether a read hit a missing page of the range.
bool sigbus_lost(int slot);

}  // namespace binhdan
