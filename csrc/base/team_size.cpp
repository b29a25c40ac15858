#include "base/team_size.h"

#include <algorithm>

namespace binhdan {

// While a rank is late, the others wait. So a team of n does the work of n - 1 threads or less when somebody is late
// for 1/n of the time.
void TeamSize::record(int64_t wall, int64_t late) {
  wall_ += wall;
  late_ += late;
  if (size_ < max_) until_trial_ -= wall;
  if (wall_ < kWindow) return;
  const bool too_late = size_ > 1 && late_ * size_ > wall_ * (size_ - 1);
  wall_ = late_ = 0;
  if (too_late) {
    --size_;
    trial_interval_ = trial_ ? std::min(2 * trial_interval_, kLastTrial) : kFirstTrial;
    until_trial_ = trial_interval_;
    trial_ = false;
  } else if (size_ < max_ && until_trial_ <= 0) {
    ++size_;
    trial_ = true;
    until_trial_ = trial_interval_;
  } else if (size_ == max_) {
    trial_ = false;
  }
}

}  // namespace binhdan
