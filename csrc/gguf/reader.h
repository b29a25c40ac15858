// Reads GGUF v2 and v3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), whole or split. Nothing of a file
// is trusted: every count, offset, string, array and tensor range is checked before use, and the memory taken is
// bounded by a small multiple of the file's size.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"
#include "base/file_map.h"

namespace binhdan::gguf {

enum class ValueType : uint32_t {
  u8 = 0, i8 = 1, u16 = 2, i16 = 3, u32 = 4, i32 = 5, f32 = 6, boolean = 7, string = 8, array = 9, u64 = 10, i64 = 11,
  f64 = 12,
};
const char* value_type_name(ValueType type);

// A metadata value as a checked view into the file. Arrays of arrays are refused when read.
struct Value {
  ValueType type;                  // for an array: ValueType::array
  ValueType element;               // an array's element type, else equal to `type`
  uint64_t count;                  // an array's length, else 1
  std::span<const std::byte> raw;  // the scalar, the packed elements, or for strings the length-prefixed bytes
};

struct TensorInfo {
  std::string name;
  DType type;
  std::vector<uint64_t> shape;  // as in the file: shape[0] is the row length (1 to 4 dimensions)
  int file;                     // which split
  uint64_t offset;              // from the start of that file
  uint64_t bytes;

  uint64_t cols() const { return shape[0]; }
  uint64_t rows() const;        // product of the others
};

class File {
 public:
  // Opens `path`; a name that ends in -00001-of-0000N.gguf opens all N. Throws Error naming the key, the tensor or
  // the byte where the file is wrong.
  static File open(const std::string& path);
  // For tests and fuzzing: parses bytes that the caller keeps alive.
  static File parse(std::span<const std::byte> bytes, std::string name);

  uint32_t version() const { return version_; }
  const std::vector<std::string>& keys() const { return keys_; }  // in the file's order
  const Value* find(std::string_view key) const;                  // nullptr when absent

  // Typed reads. Without a default, a missing key is an Error naming it; a value of the wrong type always is.
  // Integers of any width and sign convert when they fit.
  uint64_t get_uint(std::string_view key) const;
  uint64_t get_uint(std::string_view key, uint64_t otherwise) const;
  double get_float(std::string_view key) const;
  double get_float(std::string_view key, double otherwise) const;
  bool get_bool(std::string_view key, bool otherwise) const;
  std::string_view get_string(std::string_view key) const;
  std::string_view get_string(std::string_view key, std::string_view otherwise) const;
  std::vector<std::string_view> get_strings(std::string_view key) const;  // an array of strings
  std::vector<int64_t> get_ints(std::string_view key) const;              // an array of any integer type, or bool
  std::vector<float> get_floats(std::string_view key) const;              // an array of f32 or f64

  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find_tensor(std::string_view name) const;
  std::span<const std::byte> data(const TensorInfo& tensor) const;
  // Throws Error(io) when a mapped file shrank while it was read.
  void check_intact() const;
  // Lets the OS drop the pages of a tensor that was copied.
  void release(const TensorInfo& tensor) const;
  uint64_t bytes() const;  // of all splits
  const std::string& path() const { return path_; }

 private:
  struct Part {
    std::unique_ptr<FileMap> map;  // null when the bytes are the caller's
    std::span<const std::byte> bytes;
  };
  std::string path_;
  uint32_t version_ = 0;
  std::vector<Part> parts_;
  std::vector<std::string> keys_;
  std::unordered_map<std::string, Value> values_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, std::size_t> tensor_index_;
  void parse_part(int file);
};

}  // namespace binhdan::gguf
