// Measures the best case of a team of threads on a machine that other processes disturb.
#pragma once
#include <cstdint>
#include <functional>

#include "base/thread_pool.h"

namespace binhdan {

// All ranks call work(rank) at the same time, repeatedly for `duration_ns`. Returns the nanoseconds of the
// fastest round.
int64_t fastest_round_ns(ThreadPool& pool, int64_t duration_ns, const std::function<void(int rank)>& work);

}  // namespace binhdan
