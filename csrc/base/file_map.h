// A file mapped read-only. Another process may truncate the file under us, which POSIX answers with SIGBUS:
// a handler replaces the lost pages by zeros and marks the map, so that readers see an Error, not a crash.
#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace binhdan {

class FileMap {
 public:
  // Throws Error: not_found, io (message has the system's reason), bad_format for an empty file or none.
  explicit FileMap(const std::string& path);
  ~FileMap();
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Throws Error(io) once the file is shorter than what was mapped. Call it after reading.
  void check_intact() const;
  // Tells the OS that [offset, offset + size) will not be needed soon: its pages leave this process's memory.
  void release(std::size_t offset, std::size_t size) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int fd_ = -1;    // kept open to ask for the file's size (POSIX)
  int slot_ = -1;  // in the table that the signal handler reads (POSIX)
};

}  // namespace binhdan
