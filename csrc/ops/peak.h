// The peak rate of multiply-adds. It limits the speed of prefill; memory bandwidth limits the speed of
// decode.
#pragma once
#include "kernels/kernels.h"

namespace binhdan::ops {

// Multiply-adds per second of `threads` threads together, with the instructions that the table's kernels use
// for `format`. The measurement takes 0.2 s. 0 if the table has no loop for it. Throws Error if the threads
// cannot be created.
double measure_peak(const KernelTable& table, Activation format, int threads);

}  // namespace binhdan::ops
