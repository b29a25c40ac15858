// Reads the bytes of a file from front to back. It checks every step; errors name the item and the byte.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "gguf/value.h"

namespace binhdan::gguf {

class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return bytes_.size() - offset_; }
  // The item that the next errors name: "key 'general.name'".
  void enter(std::string place) { place_ = std::move(place); }

  template <typename... Pieces>
  [[noreturn]] void fail(Code code, const Pieces&... pieces) const {
    binhdan::fail(code, file_, ": ", place_, ", byte ", item_, ": ", pieces...);
  }

  std::span<const std::byte> take(uint64_t size, const char* what) {
    item_ = offset_;
    if (size > left())
      fail(Code::bad_format, what, " needs ", size, " bytes, but the file ends after ", left());
    const auto part = bytes_.subspan(static_cast<std::size_t>(offset_), static_cast<std::size_t>(size));
    offset_ += size;
    return part;
  }

  template <typename T>
  T read(const char* what) {
    return load<T>(take(sizeof(T), what).data());
  }

  // A 64-bit count of items of at least `min_bytes` bytes each. Throws Error when the rest of the file cannot
  // hold them.
  uint64_t read_count(uint64_t min_bytes, const char* what) {
    const auto count = read<uint64_t>(what);
    if (count > left() / min_bytes)
      fail(Code::bad_format, what, " is ", count, ", more than the ", left(), " bytes left can hold");
    return count;
  }

  std::string_view read_string(const char* what) {
    const auto text = take(read_count(1, what), what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  std::string place_ = "header";
  uint64_t offset_ = 0;
  uint64_t item_ = 0;  // the start of the last item
};

}  // namespace binhdan::gguf
