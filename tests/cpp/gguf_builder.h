// Writes the bytes of a GGUF file piece by piece, right or wrong as the test wants.
#pragma once
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/value.h"

class GgufBuilder {
 public:
  explicit GgufBuilder(uint64_t tensors = 0, uint64_t keys = 0, uint32_t version = 3) {
    text("GGUF").add(version).add(tensors).add(keys);
  }

  template <typename T>
  GgufBuilder& add(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof value);
    return *this;
  }
  GgufBuilder& text(std::string_view text) {
    for (const char c : text) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
  }
  GgufBuilder& string(std::string_view s) { return add(uint64_t{s.size()}).text(s); }

  GgufBuilder& type(binhdan::gguf::ValueType type) { return add(static_cast<uint32_t>(type)); }
  template <typename T>
  GgufBuilder& key(std::string_view name, binhdan::gguf::ValueType t, T value) {
    return string(name).type(t).add(value);
  }
  GgufBuilder& key(std::string_view name, std::string_view value) {
    return string(name).type(binhdan::gguf::ValueType::string).string(value);
  }
  GgufBuilder& array(std::string_view name, binhdan::gguf::ValueType element, uint64_t count) {
    return string(name).type(binhdan::gguf::ValueType::array).type(element).add(count);
  }
  GgufBuilder& tensor(std::string_view name, std::initializer_list<uint64_t> shape, uint32_t dtype, uint64_t offset) {
    string(name).add(static_cast<uint32_t>(shape.size()));
    for (const uint64_t size : shape) add(size);
    return add(dtype).add(offset);
  }
  GgufBuilder& pad(std::size_t alignment = 32) {
    while (bytes_.size() % alignment != 0) bytes_.push_back(std::byte{0});
    return *this;
  }
  GgufBuilder& fill(std::size_t count, int value = 0) {
    bytes_.insert(bytes_.end(), count, static_cast<std::byte>(value));
    return *this;
  }

  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};
