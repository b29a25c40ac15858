#include <atomic>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/team_size.h"
#include "base/thread_pool.h"
#include "check.h"
#include "sanitizers.h"

#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace binhdan;

TEST(every_rank_runs_once) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.size() == threads);
    std::vector<int> seen(static_cast<std::size_t>(threads));
    pool.run([&](Team& team) {
      CHECK(team.size() == threads);
      ++seen[static_cast<std::size_t>(team.rank())];
    });
    CHECK(seen == std::vector<int>(static_cast<std::size_t>(threads), 1));
  }
}

TEST(rank_0_is_the_caller) {
  ThreadPool pool(3);
  std::thread::id first;
  pool.run([&](Team& team) {
    if (team.rank() == 0) first = std::this_thread::get_id();
  });
  CHECK(first == std::this_thread::get_id());
}

// The counts are plain ints, so that ThreadSanitizer reports missing synchronization between the caller of
// run() and the ranks.
TEST(many_short_runs_lose_no_notification) {
  ThreadPool pool(4);
  std::vector<int> counts(4);
  for (int i = 0; i < 3000; ++i) {
    pool.run([&](Team& team) { ++counts[static_cast<std::size_t>(team.rank())]; });
    if (i % 100 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));  // long enough to park
  }
  CHECK(counts == std::vector<int>(4, 3000));
}

// In each round, every rank reads the values that the other ranks wrote in that round.
TEST(sync_orders_memory) {
  constexpr int kThreads = 4, kRounds = 2000;
  ThreadPool pool(kThreads);
  std::vector<int> values(kThreads), sums(kThreads);
  pool.run([&](Team& team) {
    const auto rank = static_cast<std::size_t>(team.rank());
    for (int round = 1; round <= kRounds; ++round) {
      values[rank] = round;
      team.sync();
      if (std::accumulate(values.begin(), values.end(), 0) == kThreads * round) ++sums[rank];
      team.sync();
    }
  });
  CHECK(sums == std::vector<int>(kThreads, kRounds));
}

TEST(share_covers_every_item_once) {
  for (const int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (const int64_t grain : {1, 16}) {
      for (const int64_t count : {0, 1, 15, 16, 17, 100, 4864}) {
        std::vector<std::pair<int64_t, int64_t>> parts(static_cast<std::size_t>(threads));
        pool.run(
            [&](Team& team) { parts.at(static_cast<std::size_t>(team.rank())) = team.share(count, grain); });
        int64_t next = 0;
        for (const auto& [begin, end] : parts) {
          CHECK(begin == next && end >= begin);
          CHECK(begin % grain == 0 || begin == count);
          CHECK(end - begin <= (count / threads / grain + 2) * grain);
          next = end;
        }
        CHECK(next == count);
      }
    }
  }
}

TEST(run_rethrows_and_the_pool_stays_usable) {
  ThreadPool pool(3);
  for (int thrower = 0; thrower < 3; ++thrower) {
    std::string caught;
    try {
      pool.run([&](Team& team) {
        if (team.rank() == thrower) throw std::runtime_error("rank " + std::to_string(thrower));
      });
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    CHECK(caught == "rank " + std::to_string(thrower));
  }
  std::atomic<int> ran{0};
  pool.run([&](Team& team) {
    team.sync();
    ++ran;
  });
  CHECK(ran == 3);
}

TEST(a_rank_that_throws_unblocks_ranks_in_sync) {
  ThreadPool pool(4);
  for (int i = 0; i < 200; ++i) {
    std::atomic<int> passed{0};
    std::string caught;
    try {
      pool.run([&](Team& team) {
        team.sync();
        if (team.rank() == i % 4) throw std::runtime_error("one");
        team.sync();
        team.sync();
        ++passed;
      });
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    CHECK(caught == "one");
    CHECK(passed == 0);
  }
}

TEST(rejects_a_nested_run) {
  ThreadPool pool(2);
  CHECK_FAILS(pool.run([&](Team& team) {
    if (team.rank() == 0) pool.run([](Team&) {});
  }),
              "already running");
  CHECK_FAILS(ThreadPool(0), "at least 1 thread");
}

#ifndef _WIN32
// ThreadSanitizer does not support fork() in a process with threads.
#if !BINHDAN_TSAN
TEST(a_forked_child_gets_an_error_and_can_destroy_the_pool) {
  auto* pool = new ThreadPool(4);
  pool->run([](Team&) {});
  const pid_t child = fork();
  if (child == 0) {
    int status = 1;
    try {
      pool->run([](Team&) {});
    } catch (const Error& error) {
      status = error.code() == Code::closed ? 0 : 2;
    }
    delete pool;
    _exit(status);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  int ran = 0;
  pool->run([&](Team& team) { ran += team.rank() == 0; });
  CHECK(ran == 1);
  delete pool;
}
#endif
#endif

// Many calls with barriers between them: the counters of one call must not affect the next call.
TEST(distribute_assigns_every_item_to_one_rank) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (const int64_t count : {0, 1, 7, 64, 1000}) {
      constexpr int kRounds = 20;
      std::vector<std::atomic<int>> taken(static_cast<std::size_t>(count));
      pool.run([&](Team& team) {
        for (int round = 0; round < kRounds; ++round) {
          team.distribute(count, 4, round + 1, [&](int64_t begin, int64_t end) {
            CHECK(begin % 4 == 0 && begin < end && end <= count);
            CHECK(end - begin <= std::max(4, round + 1));
            for (int64_t i = begin; i < end; ++i) ++taken[static_cast<std::size_t>(i)];
          });
          team.sync();
        }
      });
      for (const auto& times : taken) CHECK(times == kRounds);
    }
  }
}

TEST(distribute_assigns_the_rest_of_a_slow_rank_to_others) {
  ThreadPool pool(2);
  std::vector<int64_t> items(2);
  std::atomic<bool> blocked{false}, rest_done{false};
  pool.run([&](Team& team) {
    const auto rank = static_cast<std::size_t>(team.rank());
    team.distribute(100, 1, 1, [&](int64_t begin, int64_t end) {
      items[rank] += end - begin;
      if (team.rank() == 0) blocked = true;  // in its first piece
      while (team.rank() == 0 ? !rest_done : !blocked) std::this_thread::yield();
    });
    if (team.rank() == 1) rest_done = true;
  });
  CHECK(items[0] == 1 && items[1] == 99);
}

TEST(a_smaller_team_runs_some_ranks) {
  ThreadPool pool(4);
  for (const int ranks : {1, 2, 4, 3, 1, 4}) {
    std::atomic<int> seen{0}, size{0};
    pool.run(
        [&](Team& team) {
          ++seen;
          size = team.size();
          team.sync();
        },
        ranks);
    CHECK(seen == ranks && size == ranks);
  }
  int total = 0;
  pool.run_adaptive([&](Team& team) {
    if (team.rank() == 0) total = team.size();
  });
  CHECK(total >= 1 && total <= 4);
}

TEST(a_team_shrinks_while_ranks_are_late_and_grows_again) {
  constexpr int64_t kMs = 1'000'000;
  TeamSize team(2);
  for (int i = 0; i < 20; ++i)
    team.record(kMs, kMs / 4);  // late for a quarter of the time: two are still faster
  CHECK(team.size() == 2);
  for (int i = 0; i < 20; ++i) team.record(kMs, 9 * kMs / 10);
  CHECK(team.size() == 1);
  int trials = 0;
  for (int i = 0; i < 10'000; ++i) {  // ten seconds
    if (team.size() == 2) ++trials;
    team.record(kMs, team.size() == 2 ? 9 * kMs / 10 : 0);
  }
  CHECK(trials >= 20 && trials < 200);  // milliseconds
  for (int i = 0; i < 4'000; ++i) team.record(kMs, 0);
  CHECK(team.size() == 2);

  TeamSize eight(8);  // one core of eight is shared: seven threads
  for (int i = 0; i < 20; ++i) eight.record(kMs, eight.size() == 8 ? 4 * kMs : 0);
  CHECK(eight.size() == 7);
  TeamSize one(1);
  one.record(100 * kMs, 0);
  CHECK(one.size() == 1);
}
