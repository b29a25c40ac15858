#include "base/bandwidth.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace binhdan {
namespace {

constexpr std::size_t kTotalBytes = std::size_t{256} << 20;
constexpr int64_t kDurationNs = 400'000'000;
constexpr int kMostThreads = 1024;

// 64 bytes at once, in whatever registers the compiler has.
using Line = uint64_t __attribute__((vector_size(64)));

// Independent sums, so that loads and not the adder's latency set the pace.
uint64_t read_all(const Line* lines, std::size_t count) {
  Line a{}, b{}, c{}, d{};
  for (std::size_t i = 0; i + 4 <= count; i += 4) {
    a += lines[i];
    b += lines[i + 1];
    c += lines[i + 2];
    d += lines[i + 3];
  }
  const Line sum = a + b + c + d;
  return sum[0] + sum[7];
}

}  // namespace

double measure_bandwidth(int threads) {
  if (threads < 1 || threads > kMostThreads)
    fail(Code::invalid_argument, "expected 1 to ", kMostThreads, " threads, got ", threads);
  const std::size_t bytes = kTotalBytes / static_cast<std::size_t>(threads) / 256 * 256;
  ThreadPool pool(threads);
  std::vector<Buffer> buffers(static_cast<std::size_t>(threads));
  std::atomic<uint64_t> sink{0};  // so that the reads are not optimised away
  int64_t best = INT64_MAX;
  std::atomic<bool> more{true};
  pool.run([&](Team& team) {
    Buffer& buffer = buffers[static_cast<std::size_t>(team.rank())];
    buffer = Buffer(bytes);
    std::memset(buffer.as<>(), 1, bytes);  // untouched pages would all be the same page of zeros
    const int64_t begin = now_ns();
    while (more) {
      team.sync();
      const int64_t start = now_ns();
      sink += read_all(buffer.as<const Line>(), bytes / sizeof(Line));
      team.sync();
      if (team.rank() == 0) {
        best = std::min(best, now_ns() - start);
        more = now_ns() - begin < kDurationNs;
      }
      team.sync();
    }
  });
  return static_cast<double>(bytes) * threads / (static_cast<double>(best) * 1e-9);
}

}  // namespace binhdan
