// Memory bandwidth: the upper limit of decoding speed, because decoding reads every weight once per token.
#pragma once

namespace binhdan {

// Bytes per second that `threads` threads read together. Each thread reads its own memory, 256 MiB in all,
// which exceeds the caches. Returns the fastest pass of about half a second. Throws Error: invalid_argument,
// out_of_memory.
double measure_bandwidth(int threads);

}  // namespace binhdan
