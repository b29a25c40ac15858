// Builds the bytes of a GGUF file from its parts, valid or not.
#pragma once
#include <cstdint>
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
    data_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  GgufBuilder& text(std::string_view text) {
    data_ += text;
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
  GgufBuilder& tensor(std::string_view name, std::initializer_list<uint64_t> shape, uint32_t dtype,
                      uint64_t offset) {
    string(name).add(static_cast<uint32_t>(shape.size()));
    for (const uint64_t size : shape) add(size);
    return add(dtype).add(offset);
  }
  GgufBuilder& pad(std::size_t alignment = 32) {
    return fill((alignment - data_.size() % alignment) % alignment);
  }
  GgufBuilder& fill(std::size_t count, int value = 0) {
    data_.append(count, static_cast<char>(value));
    return *this;
  }

  // Valid until the builder changes or is destroyed.
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(data_.data(), data_.size())); }
  // A copy of the first `size` bytes. Its allocation has this size, so that sanitizers detect reads past its
  // end.
  std::vector<std::byte> copy(std::size_t size) const { return {bytes().begin(), bytes().begin() + size}; }
  std::size_t size() const { return data_.size(); }

 private:
  std::string data_;
};
