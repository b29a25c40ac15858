// How many threads run the next function of a team. When another process uses a core, the threads of a full team
// wait for the one that shares its core, at every barrier: a smaller team is then faster.
#pragma once
#include <cstdint>

namespace binhdan {

// Used by one thread. Times are in nanoseconds.
class TeamSize {
 public:
  explicit TeamSize(int max) : max_(max), size_(max) {}

  // 1 to max.
  int size() const { return size_; }
  // Reports a run with size() threads that took `wall`. `late`: the sum over all ranks of the time that they
  // waited at barriers for a late one, without usual waits, which are shorter than a spin.
  void record(int64_t wall, int64_t late);

 private:
  // A decision needs runs of this time.
  static constexpr int64_t kWindow = 10'000'000;
  // After a smaller team was better, one thread more is tried this much later; each failure doubles it.
  static constexpr int64_t kFirstTrial = 200'000'000, kLastTrial = 3'200'000'000;

  const int max_;
  int size_;
  int64_t wall_ = 0, late_ = 0;  // of the current window
  int64_t until_trial_ = kFirstTrial, trial_interval_ = kFirstTrial;
  bool trial_ = false;  // size_ was just raised
};

}  // namespace binhdan
