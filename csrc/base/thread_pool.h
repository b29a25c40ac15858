// A team of threads that runs one function together (SPMD): each rank does its part, and sync() is the
// barrier. Waiting threads spin, then yield, then park (gate.h).
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace binhdan {

class ThreadPool;

using Range = std::pair<int64_t, int64_t>;  // [first, second)

// One thread's view of the running team.
class Team {
 public:
  int rank() const { return rank_; }
  int size() const { return size_; }
  // Returns when every rank has called it.
  void sync();
  // This rank's share [begin, end) of `count` items cut in multiples of `grain`, equal to within one grain.
  Range share(int64_t count, int64_t grain = 1) const { return share_of(rank_, count, grain); }
  // Calls work(begin, end) for pieces of `count` items until the ranks have taken all: first this rank's
  // share, then the rest of slower ranks' shares. A piece has at most `max_piece` items and ends at a
  // multiple of `grain`. Every rank must call it with the same numbers, and once at most between two
  // barriers.
  template <typename Work>
  void distribute(int64_t count, int64_t grain, int64_t max_piece, Work&& work) {
    const int64_t grains = (count + grain - 1) / grain;
    while (const auto piece = take(grains, std::max<int64_t>(1, max_piece / grain)))
      work(piece->first * grain, std::min(count, piece->second * grain));
  }

 private:
  friend class ThreadPool;
  Team(ThreadPool* pool, int rank, int size) : pool_(pool), rank_(rank), size_(size) {}
  Range share_of(int rank, int64_t count, int64_t grain) const;
  std::optional<Range> take(int64_t count, int64_t max_piece);

  ThreadPool* pool_;
  int rank_, size_;
  uint32_t phase_ = 0;  // number of calls of sync()
};

class ThreadPool {
 public:
  // `threads` >= 1 counts the caller of run(). Throws Error when a thread cannot be started.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;
  // Runs work(team) on `ranks` ranks (0: all), rank 0 on the caller's thread, and returns when all have ended. When a
  // rank throws, the next sync() of the others throws too, and run() rethrows the first exception; so work()
  // must not catch exceptions of unknown types. Throws Error(busy) when it is already running, and
  // Error(closed) in a forked child, where the threads do not exist.
  void run(const std::function<void(Team&)>& work, int ranks = 0);
  // run() with as many ranks as are fastest while other processes use the cores.
  void run_adaptive(const std::function<void(Team&)>& work);

 private:
  friend class Team;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace binhdan
