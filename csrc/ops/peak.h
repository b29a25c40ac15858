// The other limit of a machine, beside its memory's: multiply-adds per second.
#pragma once
#include "kernels/kernels.h"

namespace binhdan::ops {

// Of `threads` threads together with a table's instructions for `format`, taken now in about a fifth of a
// second; 0 when the table does not say. Throws Error when the threads cannot be made.
double measure_peak(const KernelTable& table, Activation format, int threads);

}  // namespace binhdan::ops
