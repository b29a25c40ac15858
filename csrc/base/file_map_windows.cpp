#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/file_map.h"

namespace binhdan {
namespace {

std::wstring wide(const std::string& path) {
  const int size = static_cast<int>(path.size());
  const int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.data(), size, nullptr, 0);
  if (length <= 0) fail(Code::invalid_argument, "path: expected one character or more, in UTF-8");
  std::wstring out(static_cast<std::size_t>(length), L'\0');
  MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.data(), size, out.data(), length);
  return out;
}

struct Handle {
  HANDLE value;
  ~Handle() {
    if (value && value != INVALID_HANDLE_VALUE) CloseHandle(value);
  }
};

}  // namespace

FileMap::FileMap(const std::string& path) : path_(path) {
  if (path.find('\0') != std::string::npos) fail(Code::invalid_argument, "path: expected no NUL character");
  const std::wstring name = wide(path);
  const DWORD attributes = GetFileAttributesW(name.c_str());
  if (attributes == INVALID_FILE_ATTRIBUTES) fail(Code::not_found, path, ": No such file or directory");
  if (attributes & FILE_ATTRIBUTE_DIRECTORY)
    fail(Code::bad_format, path, ": expected a file, got a directory");
  const Handle file{CreateFileW(name.c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr, OPEN_EXISTING,
                                FILE_ATTRIBUTE_NORMAL, nullptr)};
  LARGE_INTEGER size;
  if (file.value == INVALID_HANDLE_VALUE || !GetFileSizeEx(file.value, &size))
    fail(Code::io, path, ": cannot open the file: Windows error ", GetLastError());
  if (size.QuadPart == 0) fail(Code::bad_format, path, ": the file is empty; download or copy it again");
  size_ = checked_cast<std::size_t>(size.QuadPart, path.c_str());
  FILETIME written{};  // in units of 100 ns
  GetFileTime(file.value, nullptr, nullptr, &written);
  modified_ =
      static_cast<int64_t>((uint64_t{written.dwHighDateTime} << 32 | written.dwLowDateTime) / 10'000'000);
  const Handle mapping{CreateFileMappingW(file.value, nullptr, PAGE_READONLY, 0, 0, nullptr)};
  void* data = mapping.value ? MapViewOfFile(mapping.value, FILE_MAP_READ, 0, 0, 0) : nullptr;
  if (!data) fail(Code::io, path, ": cannot map the file: Windows error ", GetLastError());
  data_ = static_cast<const std::byte*>(data);
}

FileMap::~FileMap() {
  UnmapViewOfFile(data_);
}

// Windows refuses to truncate a file that is mapped.
void FileMap::check_intact() const {}

// VirtualUnlock on unlocked pages removes them from the working set.
void FileMap::release(std::size_t offset, std::size_t size) const {
  if (offset < size_ && size != 0)
    VirtualUnlock(const_cast<std::byte*>(data_) + offset, size < size_ - offset ? size : size_ - offset);
}

}  // namespace binhdan
#endif
