// Reads GGUF v2 and v3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), whole or split. The file
// may be hostile: the reader checks every count, offset, string, array and tensor range before use, and its
// memory is bounded by a small multiple of the file's size.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_map.h"
#include "gguf/part.h"
#include "gguf/value.h"

namespace binhdan::gguf {

class KeyRecorder;

class File {
 public:
  // Opens `path`; of a split model, its first part (-00001-of-0000N.gguf) opens all. Throws Error that names
  // the key, the tensor or the byte of the problem.
  static File open(const std::string& path);
  // Parses bytes in memory, which the caller keeps alive. For tests and fuzzing.
  static File parse(std::span<const std::byte> bytes, std::string name);

  uint32_t version() const { return version_; }
  const std::vector<std::string>& keys() const { return keys_; }  // in the file's order
  const Value* find(std::string_view key) const;                  // nullptr when absent

  // Typed reads. A missing key without a default throws Error, as does a value of the wrong type. A number of
  // any type converts where the result is exact: writers differ in the types that they use.
  uint64_t get_uint(std::string_view key) const;
  uint64_t get_uint(std::string_view key, uint64_t default_value) const;
  double get_float(std::string_view key) const;
  double get_float(std::string_view key, double default_value) const;
  bool get_bool(std::string_view key, bool default_value) const;
  std::string_view get_string(std::string_view key) const;
  std::string_view get_string(std::string_view key, std::string_view default_value) const;
  std::vector<std::string_view> get_strings(std::string_view key) const;  // an array of strings
  std::vector<int64_t> get_ints(std::string_view key) const;  // an array of any integer type, or bool
  std::vector<float> get_floats(std::string_view key) const;  // an array of numbers, rounded to float

  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // Tensors of types that binhdan does not support. They can be listed, but not read.
  const std::vector<UnsupportedTensor>& unsupported_tensors() const { return unsupported_; }
  const TensorInfo* find_tensor(std::string_view name) const;
  std::span<const std::byte> data(const TensorInfo& tensor) const;
  // Throws Error(io) when a mapped file has become shorter.
  void check_intact() const;
  // Lets the OS drop the pages of a tensor's bytes [offset, offset + size), e.g. after copying them.
  void release(const TensorInfo& tensor, uint64_t offset, uint64_t size) const;
  uint64_t bytes() const;  // of all parts
  // A hash of all bytes of all parts. Throws as check_intact().
  uint64_t content_hash() const;
  // A hash of size, time of the last change and some of the bytes of all parts: cheap, and another value when
  // the file was replaced or changed in place. Parsed bytes have no time.
  uint64_t identity() const;
  const std::string& path() const { return path_; }

 private:
  struct Source {
    std::unique_ptr<FileMap> map;  // null when the caller owns the bytes
    std::span<const std::byte> bytes;
  };
  std::string path_;
  uint32_t version_ = 0;
  std::vector<Source> sources_;
  std::vector<std::string> keys_;
  ByName<Value> values_;  // of the first part
  std::vector<TensorInfo> tensors_;
  ByName<std::size_t> tensor_index_;
  std::vector<UnsupportedTensor> unsupported_;
  mutable KeyRecorder* recorder_ = nullptr;

  void open_parts();
  void add_part(const std::string& path);
  void add_tensors(Part& part);
  const Value& need(std::string_view key) const;
  const Value& need_array(std::string_view key) const;
  friend class KeyRecorder;
};

// Records which keys of a file are looked up as long as it exists. Only one thread may use the file meanwhile.
class KeyRecorder {
 public:
  explicit KeyRecorder(const File& file) : file_(file) { file.recorder_ = this; }
  ~KeyRecorder() { file_.recorder_ = nullptr; }
  KeyRecorder(const KeyRecorder&) = delete;
  KeyRecorder& operator=(const KeyRecorder&) = delete;

  // The keys that start with `prefix` and were not looked up, in the file's order.
  std::vector<std::string> unread(std::string_view prefix) const;

 private:
  friend class File;
  const File& file_;
  std::set<std::string, std::less<>> read_;
};

}  // namespace binhdan::gguf
