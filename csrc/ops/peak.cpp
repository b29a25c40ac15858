#include "ops/peak.h"

#include <algorithm>
#include <atomic>

#include "base/clock.h"
#include "base/thread_pool.h"

namespace binhdan::ops {

double measure_peak(const KernelTable& table, Activation format, int threads) {
  constexpr int64_t kRounds = 20'000;  // about half a millisecond
  constexpr int64_t kDurationNs = 200'000'000;
  int64_t (*const run)(int64_t) = table.peak[static_cast<size_t>(format)];
  if (!run) return 0;
  ThreadPool pool(threads);
  std::atomic<int64_t> macs{0};
  int64_t best = INT64_MAX;
  std::atomic<bool> more{true};
  pool.run([&](Team& team) {
    const int64_t begin = now_ns();
    while (more) {
      team.sync();
      const int64_t start = now_ns();
      const int64_t done = run(kRounds);
      team.sync();
      if (team.rank() == 0) {
        best = std::min(best, now_ns() - start);
        macs = done;
        more = now_ns() - begin < kDurationNs;
      }
      team.sync();
    }
  });
  return static_cast<double>(macs) * threads / (static_cast<double>(best) * 1e-9);
}

}  // namespace binhdan::ops
