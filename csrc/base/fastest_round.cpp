#include "base/fastest_round.h"

#include <algorithm>
#include <atomic>

#include "base/clock.h"

namespace binhdan {

// Run even when they exceed the duration, because the host of a virtual machine may delay one or two.
constexpr int kMinRounds = 3;

int64_t fastest_round_ns(ThreadPool& pool, int64_t duration_ns, const std::function<void(int rank)>& work) {
  int64_t best = INT64_MAX;
  std::atomic<bool> more{true};
  pool.run([&](Team& team) {
    const int64_t begin = now_ns();
    for (int rounds = 1; more; ++rounds) {
      team.sync();
      const int64_t start = now_ns();
      work(team.rank());
      team.sync();
      if (team.rank() == 0) {
        best = std::min(best, now_ns() - start);
        more = rounds < kMinRounds || now_ns() - begin < duration_ns;
      }
      team.sync();
    }
  });
  return best;
}

}  // namespace binhdan
