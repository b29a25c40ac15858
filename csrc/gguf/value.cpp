#include "gguf/value.h"

#include <algorithm>
#include <cmath>

namespace binhdan::gguf {
namespace {
struct TypeInfo {
  const char* name;
  std::size_t size;
};
// In the order of ValueType.
constexpr TypeInfo kTypes[kValueTypes] = {
    {"u8", 1},   {"i8", 1},     {"u16", 2},   {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
    {"bool", 1}, {"string", 0}, {"array", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8},
};
}  // namespace

const char* value_type_name(ValueType type) {
  const auto index = static_cast<uint32_t>(type);
  return index < kValueTypes ? kTypes[index].name : "unknown";
}

std::size_t scalar_size(ValueType type) {
  return kTypes[static_cast<uint32_t>(type)].size;
}

bool is_integer(ValueType type) {
  switch (type) {
    case ValueType::f32:
    case ValueType::f64:
    case ValueType::boolean:
    case ValueType::string:
    case ValueType::array:
      return false;
    default:
      return true;
  }
}

std::optional<double> load_float(ValueType type, const std::byte* bytes) {
  if (type == ValueType::f32) return load<float>(bytes);
  if (type == ValueType::f64) return load<double>(bytes);
  return std::nullopt;
}

std::optional<uint64_t> load_exact_uint(ValueType type, const std::byte* bytes) {
  if (const auto integer = load_integer<uint64_t>(type, bytes)) return integer;
  const auto real = load_float(type, bytes);
  constexpr double kLimit = 18446744073709551616.0;  // 2^64
  if (!real || !(*real >= 0) || *real >= kLimit || *real != std::floor(*real)) return std::nullopt;
  return static_cast<uint64_t>(*real);
}

std::optional<double> load_exact_double(ValueType type, const std::byte* bytes) {
  if (const auto real = load_float(type, bytes)) return real;
  constexpr int64_t kLimit = int64_t{1} << 53;  // a double holds all integers up to this one
  const auto integer = load_integer<int64_t>(type, bytes);
  if (!integer || *integer > kLimit || *integer < -kLimit) return std::nullopt;
  return static_cast<double>(*integer);
}

std::string_view take_string(std::span<const std::byte>& bytes) {
  constexpr std::size_t kPrefix = sizeof(uint64_t);
  if (bytes.size() < kPrefix) return {};
  // The reader has checked the length; it is checked again because another process may write to the file.
  const std::size_t size = std::min<uint64_t>(load<uint64_t>(bytes.data()), bytes.size() - kPrefix);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kPrefix, size);
  bytes = bytes.subspan(kPrefix + size);
  return text;
}

}  // namespace binhdan::gguf
