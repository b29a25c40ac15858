// A team of threads that walks one function together (SPMD): each rank does its part, sync() is the barrier.
// Waiting spins briefly and then parks, because two workers on two cores must not burn each other's time.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace binhdan {

class ThreadPool;

// One thread's view of the running team.
class Team {
 public:
  int rank() const { return rank_; }
  int size() const { return size_; }
  // Returns when every rank has called it.
  void sync();
  // This rank's share [begin, end) of `count` items cut in multiples of `grain`, equal to within one grain.
  std::pair<int64_t, int64_t> share(int64_t count, int64_t grain = 1) const;

 private:
  friend class ThreadPool;
  Team(ThreadPool* pool, int rank, int size) : pool_(pool), rank_(rank), size_(size) {}
  ThreadPool* pool_;
  int rank_, size_;
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
