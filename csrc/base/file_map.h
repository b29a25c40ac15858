// A read-only file map. When another process truncates the file, POSIX raises SIGBUS at the next read: a
// handler replaces the missing pages by zeros and marks the map, so that readers get an Error instead of a
// crash.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace binhdan {

class FileMap {
 public:
  // Throws Error: not_found, io (with the system's message), bad_format for an empty file or a directory.
  explicit FileMap(const std::string& path);
  ~FileMap();
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // When the file was changed last, in seconds; the start of the count depends on the system.
  int64_t modified() const { return modified_; }
  // Throws Error(io) when the file has become shorter. Call it after reading.
  void check_intact() const;
  // Removes the pages of [offset, offset + size) from this process's memory; a later read loads them again.
  void release(std::size_t offset, std::size_t size) const;

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  int64_t modified_ = 0;
  int fd_ = -1;    // stays open so that check_intact() can read the file's size (POSIX)
  int slot_ = -1;  // of sigbus_guard (POSIX)
};

}  // namespace binhdan
