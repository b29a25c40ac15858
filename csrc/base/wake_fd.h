// A pollable descriptor that can be set and cleared, for event loops.
#pragma once

namespace binhdan {

class WakeFd {
 public:
  WakeFd();  // throws Error(io); Error(unsupported) on Windows
  ~WakeFd();
  WakeFd(const WakeFd&) = delete;
  WakeFd& operator=(const WakeFd&) = delete;

  int fd() const { return fd_; }  // becomes readable after set()
  void set() noexcept;
  void clear() noexcept;

 private:
  int fd_ = -1;
  int write_fd_ = -1;
};

}  // namespace binhdan
