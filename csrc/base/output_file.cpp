#include "base/output_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/process.h"

#ifdef _WIN32
#include <io.h>
#else
#include <unistd.h>
#endif

namespace fs = std::filesystem;

namespace binhdan {
namespace {

// UTF-8 on every system.
fs::path to_path(const std::string& name) {
  return fs::path(std::u8string(name.begin(), name.end()));
}

bool flush_to_disk(std::FILE* file) {
#ifdef _WIN32
  return std::fflush(file) == 0 && _commit(_fileno(file)) == 0;
#else
  return std::fflush(file) == 0 && fsync(fileno(file)) == 0;
#endif
}

}  // namespace

OutputFile::OutputFile(std::string path)
    : path_(std::move(path)), partial_(path_ + "." + std::to_string(process_id()) + ".partial") {
  if (path_.find('\0') != std::string::npos) fail(Code::invalid_argument, "path: expected no NUL character");
#ifdef _WIN32
  file_ = _wfopen(to_path(partial_).c_str(), L"wb");
#else
  file_ = std::fopen(partial_.c_str(), "wb");
#endif
  if (!file_) fail_write("cannot create the file");
}

OutputFile::~OutputFile() {
  if (!file_) return;
  std::fclose(file_);
  std::error_code ignored;
  fs::remove(to_path(partial_), ignored);
}

void OutputFile::fail_write(const char* what) const {
  fail(Code::io, partial_, ": ", what, ": ", std::strerror(errno));
}

void OutputFile::write(std::span<const std::byte> bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) fail_write("cannot write the file");
}

void OutputFile::commit() {
  if (!flush_to_disk(file_)) fail_write("cannot write the file");
  const bool closed = std::fclose(std::exchange(file_, nullptr)) == 0;
  std::error_code error;
  if (closed) fs::rename(to_path(partial_), to_path(path_), error);
  if (closed && !error) return;
  std::error_code ignored;
  fs::remove(to_path(partial_), ignored);
  fail(Code::io, path_, ": cannot write the file: ", closed ? error.message() : std::strerror(errno));
}

}  // namespace binhdan
