#include "base/bandwidth.h"

#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/buffer.h"
#include "base/error.h"
#include "base/fastest_round.h"
#include "base/thread_pool.h"

namespace binhdan {
namespace {

constexpr std::size_t kTotalBytes = std::size_t{256} << 20;
constexpr int64_t kDurationNs = 400'000'000;
constexpr int kMaxThreads = 1024;

// Reads one word of every cache line, which loads the whole line. Fewer instructions keep more loads in
// flight. With full-width loads the result would depend on the vector unit (16-byte loads reach 80 % of
// 64-byte loads). Four independent sums, so that no addition waits for another.
uint64_t read_lines(const uint64_t* words, std::size_t count) {
  constexpr std::size_t kStep = kCacheLine / sizeof(uint64_t);
  uint64_t a = 0, b = 0, c = 0, d = 0;
  for (std::size_t i = 0; i + 4 * kStep <= count; i += 4 * kStep) {
    a += words[i];
    b += words[i + kStep];
    c += words[i + 2 * kStep];
    d += words[i + 3 * kStep];
  }
  return a + b + c + d;
}

}  // namespace

double measure_bandwidth(int threads) {
  if (threads < 1 || threads > kMaxThreads)
    fail(Code::invalid_argument, "threads: expected 1 to ", kMaxThreads, ", got ", threads);
  const std::size_t bytes = kTotalBytes / static_cast<std::size_t>(threads) / 256 * 256;
  ThreadPool pool(threads);
  std::vector<Buffer> buffers(static_cast<std::size_t>(threads));
  std::atomic<uint64_t> sink{0};  // keeps the compiler from removing the reads
  pool.run([&](Team& team) {
    Buffer& buffer = buffers[static_cast<std::size_t>(team.rank())];
    buffer = Buffer(bytes);
    std::memset(buffer.as<>(), 1, bytes);  // unwritten pages would all map to one page of zeros
  });
  const int64_t best = fastest_round_ns(pool, kDurationNs, [&](int rank) {
    sink +=
        read_lines(buffers[static_cast<std::size_t>(rank)].as<const uint64_t>(), bytes / sizeof(uint64_t));
  });
  return static_cast<double>(bytes) * threads / (static_cast<double>(best) * 1e-9);
}

}  // namespace binhdan
