// Measuring what a team of threads can do at best, on a machine that others disturb.
#pragma once
#include <cstdint>
#include <functional>

#include "base/thread_pool.h"

namespace binhdan {

// Every rank does work(rank), all of them together, again and again for `duration_ns`: the nanoseconds of the
// fastest round.
int64_t fastest_round_ns(ThreadPool& pool, int64_t duration_ns, const std::function<void(int rank)>& work);

}  // namespace binhdan
