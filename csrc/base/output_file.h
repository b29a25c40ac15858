// Writes a file that appears whole or not at all: the bytes go to a temporary file in the same folder, which
// replaces `path` in commit().
#pragma once
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>

namespace binhdan {

class OutputFile {
 public:
  // Throws Error(io) with the system's message, as do the other functions.
  explicit OutputFile(std::string path);
  ~OutputFile();  // removes the temporary file if commit() was not called
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  // Waits until the bytes are on the disk, then renames.
  void commit();

 private:
  [[noreturn]] void fail_write(const char* what) const;

  std::string path_, partial_;
  std::FILE* file_ = nullptr;
};

}  // namespace binhdan
