#include "ops/peak.h"

#include <atomic>

#include "base/fastest_round.h"

namespace binhdan::ops {

double measure_peak(const KernelTable& table, Activation format, int threads) {
  constexpr int64_t kRounds = 20'000;  // about half a millisecond
  constexpr int64_t kDurationNs = 200'000'000;
  int64_t (*const run)(int64_t) = table.peak[static_cast<size_t>(format)];
  if (!run) return 0;
  ThreadPool pool(threads);
  std::atomic<int64_t> macs{0};  // of one thread in one round
  const int64_t best = fastest_round_ns(pool, kDurationNs, [&](int) { macs = run(kRounds); });
  return static_cast<double>(macs) * threads / (static_cast<double>(best) * 1e-9);
}

}  // namespace binhdan::ops
