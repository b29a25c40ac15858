// Owned memory aligned to a cache line: packed weights, activations, KV pages. Not initialised unless asked.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "base/error.h"

namespace binhdan {

inline constexpr std::size_t kCacheLine = 64;

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes) : size_(bytes) {
    if (bytes == 0) return;
    data_ = ::operator new(bytes, std::align_val_t{kCacheLine}, std::nothrow);
    if (!data_) fail(Code::out_of_memory, "out of memory: ", bytes, " bytes were asked for");
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { ::operator delete(data_, std::align_val_t{kCacheLine}); }

  template <typename T = std::byte>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t size() const { return size_; }
  void zero() {
    if (size_) std::memset(data_, 0, size_);
  }
  // Grows to at least `bytes`; what was inside is lost.
  void reserve(std::size_t bytes) {
    if (bytes > size_) *this = Buffer(bytes);
  }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace binhdan
