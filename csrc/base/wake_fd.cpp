#include "base/wake_fd.h"

#include "base/error.h"

#if defined(__linux__)
#include <sys/eventfd.h>
#endif
#ifndef _WIN32
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#endif

namespace binhdan {

#if defined(__linux__)

WakeFd::WakeFd() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), write_fd_(fd_) {
  if (fd_ < 0) fail(Code::io, "cannot create an eventfd: ", std::strerror(errno));
}

WakeFd::~WakeFd() {
  ::close(fd_);
}

#elif !defined(_WIN32)

WakeFd::WakeFd() {
  int ends[2];
  if (pipe(ends) != 0) fail(Code::io, "cannot create a pipe: ", std::strerror(errno));
  for (const int end : ends) {
    fcntl(end, F_SETFD, FD_CLOEXEC);
    fcntl(end, F_SETFL, O_NONBLOCK);
  }
  fd_ = ends[0];
  write_fd_ = ends[1];
}

WakeFd::~WakeFd() {
  ::close(fd_);
  ::close(write_fd_);
}

#endif

#ifdef _WIN32

WakeFd::WakeFd() {
  fail(Code::unsupported, "a pollable descriptor for events is not supported on Windows");
}
WakeFd::~WakeFd() = default;
void WakeFd::set() noexcept {}
void WakeFd::clear() noexcept {}

#else

// Eight bytes, because an eventfd requires them. A full pipe or counter is readable already, so EAGAIN is
// harmless.
void WakeFd::set() noexcept {
  const uint64_t one = 1;
  while (::write(write_fd_, &one, sizeof one) < 0 && errno == EINTR) continue;
}

void WakeFd::clear() noexcept {
  uint64_t bytes[8];
  ssize_t got;
  do got = ::read(fd_, bytes, sizeof bytes);
  while (got == sizeof bytes || (got < 0 && errno == EINTR));
}

#endif

}  // namespace binhdan
