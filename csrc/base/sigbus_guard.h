// The process-wide SIGBUS handler of file_map_posix.cpp: it knows the ranges of memory where a read past the
// end of a truncated file must give zeros. Faults anywhere else go to the handler that was there before.
#pragma once
#include <cstddef>

namespace binhdan {

// Guards [data, data + size), which starts on a page, until sigbus_unguard. Returns the slot's number.
// Throws Error(too_large) when all slots are taken, Error(io) when the handler cannot be installed.
int sigbus_guard(const void* data, std::size_t size);
void sigbus_unguard(int slot);
// Whether a page of the range was found missing.
bool sigbus_lost(int slot);

}  // namespace binhdan
