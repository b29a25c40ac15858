// The typed values of GGUF metadata, as views into the file's bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace binhdan::gguf {

enum class ValueType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};
inline constexpr uint32_t kValueTypes = 13;
const char* value_type_name(ValueType type);
// Bytes of a scalar; 0 for strings and arrays, whose size is in the file.
std::size_t scalar_size(ValueType type);

// A metadata value as a checked view into the file. The reader rejects arrays of arrays.
struct Value {
  ValueType type;                  // for an array: ValueType::array
  ValueType element;               // an array's element type, else equal to `type`
  uint64_t count;                  // an array's length, else 1
  std::span<const std::byte> raw;  // the scalar or the packed elements; each string follows its length
};

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// The integer at `bytes`; empty when it does not fit into To or `type` is not an integer type.
template <typename To>
std::optional<To> load_integer(ValueType type, const std::byte* bytes) {
  const auto fit = [](auto value) {
    return std::in_range<To>(value) ? std::optional<To>(static_cast<To>(value)) : std::nullopt;
  };
  // clang-format off
  switch (type) {
    case ValueType::u8: return fit(load<uint8_t>(bytes));
    case ValueType::i8: return fit(load<int8_t>(bytes));
    case ValueType::u16: return fit(load<uint16_t>(bytes));
    case ValueType::i16: return fit(load<int16_t>(bytes));
    case ValueType::u32: return fit(load<uint32_t>(bytes));
    case ValueType::i32: return fit(load<int32_t>(bytes));
    case ValueType::u64: return fit(load<uint64_t>(bytes));
    case ValueType::i64: return fit(load<int64_t>(bytes));
    default: return std::nullopt;
  }
  // clang-format on
}

bool is_integer(ValueType type);
// The number at `bytes` of any integer or float type, where To holds it exactly; else empty.
std::optional<uint64_t> load_exact_uint(ValueType type, const std::byte* bytes);
std::optional<double> load_exact_double(ValueType type, const std::byte* bytes);
// Empty when `type` is neither f32 nor f64.
std::optional<double> load_float(ValueType type, const std::byte* bytes);
// The string at the start of `bytes`, after its length; removes both from `bytes`.
std::string_view take_string(std::span<const std::byte>& bytes);

}  // namespace binhdan::gguf
