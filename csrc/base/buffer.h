// Owned memory aligned to a cache line, not initialised: packed weights, activations, KV pages. Large buffers
// use huge pages: fewer page faults and fewer TLB misses.
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
inline constexpr std::size_t kHugePage = std::size_t{2} << 20;
// A hint for Linux; no effect on other systems.
void prefer_huge_pages(void* data, std::size_t size);

class Buffer {
 public:
  Buffer() = default;
  // 64 bits: on a 32-bit processor, sizes of files and of models do not fit in size_t.
  explicit Buffer(uint64_t bytes) : size_(static_cast<std::size_t>(bytes)) {
    if (bytes == 0) return;
    if (bytes <= PTRDIFF_MAX) data_ = ::operator new(size_, alignment(), std::nothrow);
    if (!data_) fail(Code::out_of_memory, "out of memory: cannot allocate ", bytes, " bytes");
    if (size_ >= kHugePage) prefer_huge_pages(data_, size_);
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { ::operator delete(data_, alignment()); }

  template <typename T = std::byte>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t size() const { return size_; }
  void zero() {
    if (size_) std::memset(data_, 0, size_);
  }
  // Grows to at least `bytes`; the contents are lost when it grows.
  void reserve(uint64_t bytes) {
    if (bytes > size_) *this = Buffer(bytes);
  }

 private:
  std::align_val_t alignment() const { return std::align_val_t{size_ >= kHugePage ? kHugePage : kCacheLine}; }

  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace binhdan
