// Arithmetic on sizes from untrusted input. An overflow throws Error; the message starts with `what`.
#pragma once
#include <cstdint>
#include <utility>

#include "base/error.h"

namespace binhdan {

inline uint64_t checked_add(uint64_t a, uint64_t b, const char* what) {
  uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum))
    fail(Code::bad_format, what, ": ", a, " + ", b, " overflows 64 bits");
  return sum;
}

inline uint64_t checked_mul(uint64_t a, uint64_t b, const char* what) {
  uint64_t product;
  if (__builtin_mul_overflow(a, b, &product))
    fail(Code::bad_format, what, ": ", a, " * ", b, " overflows 64 bits");
  return product;
}

template <typename To, typename From>
To checked_cast(From value, const char* what) {
  if (!std::in_range<To>(value)) fail(Code::bad_format, what, ": ", value, " is out of range");
  return static_cast<To>(value);
}

// Smallest multiple of `alignment` (a power of two) that is >= value.
inline uint64_t checked_align(uint64_t value, uint64_t alignment, const char* what) {
  return checked_add(value, alignment - 1, what) & ~(alignment - 1);
}

}  // namespace binhdan
