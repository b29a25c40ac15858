#ifndef _WIN32
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/file_map.h"
#include "base/sigbus_guard.h"

namespace binhdan {
namespace {

[[noreturn]] void fail_open(const std::string& path, int error) {
  fail(error == ENOENT || error == ENOTDIR ? Code::not_found : Code::io, path, ": ", std::strerror(error));
}

struct stat check_file(int fd, const std::string& path) {
  struct stat info;
  if (fstat(fd, &info) != 0) fail_open(path, errno);
  if (S_ISDIR(info.st_mode)) fail(Code::bad_format, path, ": expected a file, got a directory");
  if (!S_ISREG(info.st_mode))
    fail(Code::bad_format, path, ": expected a regular file, got a device or a pipe");
  if (info.st_size == 0) fail(Code::bad_format, path, ": the file is empty; download or copy it again");
  return info;
}

}  // namespace

FileMap::FileMap(const std::string& path) : path_(path) {
  if (path.find('\0') != std::string::npos) fail(Code::invalid_argument, "path: expected no NUL character");
  // O_NONBLOCK: opening a pipe must not wait for its writer.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd_ < 0) fail_open(path, errno);
  void* data = MAP_FAILED;
  try {
    const struct stat info = check_file(fd_, path);
    size_ = checked_cast<std::size_t>(info.st_size, path.c_str());
    modified_ = static_cast<int64_t>(info.st_mtime);
    data = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_, 0);
    if (data == MAP_FAILED) fail(Code::io, path, ": cannot map the file: ", std::strerror(errno));
    slot_ = sigbus_guard(data, size_);
  } catch (...) {
    if (data != MAP_FAILED) munmap(data, size_);
    ::close(fd_);
    throw;
  }
  data_ = static_cast<const std::byte*>(data);
}

FileMap::~FileMap() {
  sigbus_unguard(slot_);
  munmap(const_cast<std::byte*>(data_), size_);
  ::close(fd_);
}

void FileMap::check_intact() const {
  // A file raises no SIGBUS when it shrinks within its last page or before a read: check its size too.
  struct stat info;
  const bool shrank = fstat(fd_, &info) != 0 || static_cast<std::size_t>(info.st_size) < size_;
  if (shrank || sigbus_lost(slot_)) fail(Code::io, path_, ": the file was truncated while it was in use");
}

void FileMap::release(std::size_t offset, std::size_t size) const {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  if (offset >= size_) return;
  const std::size_t begin = (offset + page - 1) / page * page;
  const std::size_t end = (offset + std::min(size, size_ - offset)) / page * page;
  if (begin < end) madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace binhdan
#endif
