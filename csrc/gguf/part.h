// One GGUF file: the whole model, or one part of a split one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "gguf/value.h"

namespace binhdan::gguf {

// Ordered, because hostile names could make a hash table slow.
template <typename T>
using ByName = std::map<std::string, T, std::less<>>;

struct TensorInfo {
  std::string name;
  DType type;
  std::vector<uint64_t> shape;  // as in the file: shape[0] is the row length (1 to 4 dimensions)
  int file;                     // number of the part
  uint64_t offset;              // from the start of that file
  uint64_t bytes;

  uint64_t cols() const { return shape[0]; }
  uint64_t rows() const;  // product of the others
};

// A tensor of a type that binhdan does not support. `bytes` reaches to the next tensor.
struct UnsupportedTensor {
  std::string name;
  std::string type;  // "19 (IQ1_S)"
  std::vector<uint64_t> shape;
  int file;
  uint64_t offset;  // as in TensorInfo
  uint64_t bytes;
};

struct Part {
  uint32_t version = 0;
  std::vector<std::string> keys;  // in the file's order
  ByName<Value> values;
  std::vector<TensorInfo> tensors;
  std::vector<UnsupportedTensor> unsupported;
};

// Reads and checks everything except the tensors' data. `name` is for messages, `file` is for TensorInfo.
Part parse_part(std::span<const std::byte> bytes, const std::string& name, int file);

}  // namespace binhdan::gguf
