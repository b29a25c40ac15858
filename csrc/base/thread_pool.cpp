#include "base/thread_pool.h"

#include <algorithm>
#include <exception>
#include <mutex>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/gate.h"
#include "base/process.h"
#include "base/team_size.h"

namespace binhdan {
namespace {

// About the time that it takes to wake a parked thread. A longer spin costs more than it can save.
constexpr int64_t kSpinNs = 50'000;

// sync() throws it in the other ranks when one rank has thrown. run() never passes it on.
struct TeamBroken {};

}  // namespace

struct ThreadPool::State {
  State(int size, int64_t spin_ns)
      : size(size), best_size(size), barrier(spin_ns), done(spin_ns), taken(2 * static_cast<size_t>(size)) {
    for (int rank = 0; rank < size; ++rank) starts.push_back(std::make_unique<Gate>(spin_ns));
  }

  const int size;
  TeamSize best_size;
  const int64_t process = process_id();
  std::vector<std::thread> threads;
  std::atomic<uint32_t> running{0};  // not bool: exchanging a byte needs libatomic on RISC-V

  // Written by the caller of run() before it advances the starts of the ranks that it needs.
  const std::function<void(Team&)>* work = nullptr;  // null: the threads end
  int ranks = 0;                                     // of this run
  std::vector<std::unique_ptr<Gate>> starts;         // of each rank

  std::atomic<int64_t> late_ns{0};  // the time that ranks waited for late ones, summed over the ranks
  Gate barrier;
  std::atomic<int> arrived{0};
  std::atomic<bool> broken{false};

  Gate done;
  std::atomic<int> unfinished{0};

  // Items taken of each rank's share in distribute(). The phases between barriers use two sets in turn:
  // sync() clears the set of the next phase while the other one is in use.
  struct alignas(kCacheLine) Taken {
    std::atomic<int64_t> items{0};
  };
  std::vector<Taken> taken;
  std::atomic<int64_t>& taken_of(int rank, uint32_t phase) {
    return taken[2 * static_cast<size_t>(rank) + phase % 2].items;
  }

  std::mutex error_mutex;
  std::exception_ptr error;

  void sync();
  void wait_past(Gate& gate, uint32_t phase);
  void work_as(Team& team);
  void break_team(std::exception_ptr reason);
  void serve(Team team);
  void stop();
};

void ThreadPool::State::wait_past(Gate& gate, uint32_t phase) {
  const int64_t late = gate.wait_past(phase);
  if (late > 0) late_ns.fetch_add(late, std::memory_order_relaxed);
}

void ThreadPool::State::sync() {
  const uint32_t phase = barrier.value();
  if (broken.load()) throw TeamBroken{};
  if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == ranks) {
    arrived.store(0, std::memory_order_relaxed);
    barrier.advance();
  } else {
    wait_past(barrier, phase);
  }
  if (broken.load()) throw TeamBroken{};
}

void ThreadPool::State::break_team(std::exception_ptr reason) {
  {
    const std::lock_guard lock(error_mutex);
    if (!error) error = std::move(reason);
  }
  broken.store(true);
  barrier.advance();
}

void ThreadPool::State::work_as(Team& team) {
  try {
    (*work)(team);
  } catch (const TeamBroken&) {
    return;
  } catch (...) {
    break_team(std::current_exception());
  }
}

void ThreadPool::State::serve(Team team) {
  for (uint32_t seen = 0;; ++seen) {
    starts[static_cast<size_t>(team.rank_)]->wait_past(seen);
    if (!work) return;
    Team fresh(team.pool_, team.rank_, ranks);
    work_as(fresh);
    if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) done.advance();
  }
}

void ThreadPool::State::stop() {
  work = nullptr;
  for (const auto& start : starts) start->advance();
  for (std::thread& thread : threads) thread.join();
}

ThreadPool::ThreadPool(int threads) {
  if (threads < 1) fail(Code::invalid_argument, "threads: expected at least 1 thread, got ", threads);
  // With more threads than cores, a spinning thread may occupy the core that another one needs.
  state_ = std::make_unique<State>(threads, threads <= usable_cores() ? kSpinNs : 0);
  try {
    for (int rank = 1; rank < threads; ++rank)
      state_->threads.push_back(
          start_thread("binhdan-worker",
                       [state = state_.get(), team = Team(this, rank, threads)] { state->serve(team); }));
  } catch (...) {
    state_->stop();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  if (state_->process == process_id())
    state_->stop();
  else
    // The threads do not exist in a forked child: join() would never return, and ~thread() would terminate.
    (void)state_.release();
}

int ThreadPool::size() const {
  return state_->size;
}

void ThreadPool::run_adaptive(const std::function<void(Team&)>& work) {
  const int64_t start = now_ns();
  state_->late_ns.store(0, std::memory_order_relaxed);
  run(work, state_->best_size.size());
  state_->best_size.record(now_ns() - start, state_->late_ns.load(std::memory_order_relaxed));
}

void ThreadPool::run(const std::function<void(Team&)>& work, int ranks) {
  State& state = *state_;
  if (ranks == 0) ranks = state.size;
  if (state.process != process_id())
    fail(Code::closed, "this process is a forked child: the thread pool belongs to its parent");
  if (state.running.exchange(1)) fail(Code::busy, "the thread pool is already running");
  state.error = nullptr;
  state.broken.store(false);
  state.arrived.store(0);
  state.ranks = ranks;
  state.unfinished.store(ranks - 1);
  for (State::Taken& taken : state.taken) taken.items.store(0);
  state.work = &work;
  const uint32_t before = state.done.value();
  for (int rank = 1; rank < ranks; ++rank) state.starts[static_cast<size_t>(rank)]->advance();
  Team self(this, 0, ranks);
  state.work_as(self);
  if (ranks > 1) state.wait_past(state.done, before);
  const std::exception_ptr error = std::move(state.error);
  state.running.store(0);
  if (error) std::rethrow_exception(error);
}

void Team::sync() {
  // The next phase's set was last used in the previous phase, which every rank has left.
  pool_->state_->taken_of(rank_, ++phase_).store(0, std::memory_order_relaxed);
  if (size_ > 1) pool_->state_->sync();
}

Range Team::share_of(int rank, int64_t count, int64_t grain) const {
  const int64_t grains = (count + grain - 1) / grain;
  return {std::min(count, grains * rank / size_ * grain),
          std::min(count, grains * (rank + 1) / size_ * grain)};
}

// The next piece of this rank's share, or of the next rank whose share is not used up.
std::optional<Range> Team::take(int64_t count, int64_t max_piece) {
  for (int i = 0; i < size_; ++i) {
    const int rank = (rank_ + i) % size_;
    const auto [begin, end] = share_of(rank, count, 1);
    std::atomic<int64_t>& taken = pool_->state_->taken_of(rank, phase_);
    const int64_t left = end - begin - taken.load(std::memory_order_relaxed);
    if (left <= 0) continue;
    // Pieces become smaller towards the end of a share, because all ranks wait for the last one.
    const int64_t size = std::clamp<int64_t>((left + 1) / 2, 1, max_piece);
    const int64_t first = begin + taken.fetch_add(size, std::memory_order_relaxed);
    if (first < end) return Range{first, std::min(end, first + size)};
  }
  return std::nullopt;
}

}  // namespace binhdan
