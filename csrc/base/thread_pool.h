// A team of threads that walks one function together (SPMD): each rank does its part, sync() is the barrier.
// Waiting spins briefly and then parks, because two workers on two cores must not burn each other's time.
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
  // Calls work(begin, end) for pieces of `count` items, of at most `most` items and cut in multiples of
  // `grain`, until all are taken: first those of this rank's share, then what slower ranks have left of
  // theirs. Every rank calls it with the same numbers, and not twice without a sync() between.
  template <typename Work>
  void deal(int64_t count, int64_t grain, int64_t most, Work&& work) {
    const int64_t grains = (count + grain - 1) / grain;
    while (const auto piece = take(grains, std::max<int64_t>(1, most / grain)))
      work(piece->first * grain, std::min(count, piece->second * grain));
  }

 private:
  friend class ThreadPool;
  Team(ThreadPool* pool, int rank, int size) : pool_(pool), rank_(rank), size_(size) {}
  Range share_of(int rank, int64_t count, int64_t grain) const;
  std::optional<Range> take(int64_t count, int64_t most);

  ThreadPool* pool_;
  int rank_, size_;
  uint32_t phase_ = 0;  // how often it has synced
};

class ThreadPool {
 public:
  // `threads` >= 1, the caller of run() included. Throws Error when threads cannot be made.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;
  // Runs work(team) on every rank, rank 0 on the caller's thread, and returns when all have ended. The first
  // exception that a rank threw is thrown again here; it releases the other ranks by an exception out of
  // their next sync(), so work() must not swallow what it does not know. Not reentrant; one caller at a time,
  // else Error(busy). After a fork in the child there are no threads: throws Error(closed).
  void run(const std::function<void(Team&)>& work);

 private:
  friend class Team;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace binhdan
