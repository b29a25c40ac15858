// How fast this machine reads memory: the ceiling of decoding, which reads every weight once per token.
#pragma once

namespace binhdan {

// Bytes per second that `threads` threads read together, each from memory of its own, far more than caches
// hold (256 MiB in all). The best of the passes of about half a second. Throws Error: invalid_argument,
// out_of_memory.
double measure_bandwidth(int threads);

}  // namespace binhdan
