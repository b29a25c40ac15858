// Writes a JSON document (RFC 8259), with commas and escapes. Bytes that are not UTF-8 become U+FFFD.
#pragma once
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace binhdan::api {

class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  template <std::integral T>
  JsonWriter& value(T number) {
    if constexpr (std::same_as<T, bool>) return raw(number ? "true" : "false");
    return raw(std::to_string(number));
  }
  // The shortest digits that parse to the same number; null for infinities and NaN, which JSON lacks.
  JsonWriter& value(float number);
  JsonWriter& value(double number);
  JsonWriter& null() { return raw("null"); }

  template <typename T>
  JsonWriter& field(std::string_view name, const T& content) {
    return key(name).value(content);
  }

  const std::string& text() const { return out_; }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  JsonWriter& raw(std::string_view text);
  void separate();
  void quote(std::string_view text);

  std::string out_;
  bool first_ = true;  // no value since the last opening bracket or key
};

}  // namespace binhdan::api
