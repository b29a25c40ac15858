#include "gguf/reader.h"

#include <algorithm>
#include <cstdio>
#include <optional>
#include <sstream>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/utf8.h"

namespace binhdan::gguf {
namespace {

// "model-00002-of-00005.gguf" is part 2 of 5.
struct SplitName {
  std::string prefix;
  uint64_t number, count;

  std::string part(uint64_t n) const {
    char suffix[64];
    std::snprintf(suffix, sizeof suffix, "-%05llu-of-%05llu.gguf", static_cast<unsigned long long>(n),
                  static_cast<unsigned long long>(count));
    return prefix + suffix;
  }
};

std::optional<SplitName> parse_split_name(const std::string& path) {
  constexpr std::string_view kShape = "-00000-of-00000.gguf";
  if (path.size() < kShape.size()) return std::nullopt;
  const std::string_view suffix = std::string_view(path).substr(path.size() - kShape.size());
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  for (std::size_t i = 0; i < kShape.size(); ++i)
    if (digit(kShape[i]) ? !digit(suffix[i]) : suffix[i] != kShape[i]) return std::nullopt;
  const auto number = [&](std::size_t at) { return std::stoull(std::string(suffix.substr(at, 5))); };
  return SplitName{path.substr(0, path.size() - kShape.size()), number(1), number(10)};
}

uint64_t split_key(const Part& part, const std::string& path, const char* key, uint64_t default_value) {
  const auto found = part.values.find(key);
  if (found == part.values.end()) return default_value;
  const auto value = load_integer<uint64_t>(found->second.type, found->second.raw.data());
  if (!value) fail(Code::bad_format, path, ": key '", key, "': expected an unsigned integer");
  return *value;
}

[[noreturn]] void wrong_type(const std::string& path, std::string_view key, const char* expected,
                             const Value& value) {
  const bool array = value.type == ValueType::array;
  fail(Code::bad_format, path, ": key ", quote_name(key), ": expected ", expected, ", got ",
       array ? "an array of " : "", value_type_name(value.element));
}

[[noreturn]] void wrong_value(const std::string& path, std::string_view key, const char* expected,
                              const Value& value) {
  std::ostringstream got;
  if (const auto real = load_float(value.type, value.raw.data()))
    got << *real;
  else if (const auto natural = load_integer<uint64_t>(value.type, value.raw.data()))
    got << *natural;
  else
    got << load_integer<int64_t>(value.type, value.raw.data()).value_or(0);
  fail(Code::bad_format, path, ": key ", quote_name(key), ": expected ", expected, ", got ",
       value_type_name(value.type), " ", got.str());
}

bool is_number(const Value& value) {
  return is_integer(value.type) || value.type == ValueType::f32 || value.type == ValueType::f64;
}

}  // namespace

std::vector<std::string> KeyRecorder::unread(std::string_view prefix) const {
  std::vector<std::string> keys;
  for (const std::string& key : file_.keys())
    if (key.starts_with(prefix) && !read_.contains(key)) keys.push_back(key);
  return keys;
}

// ---- opening -----------------------------------------------------------------------------------------

File File::open(const std::string& path) {
  File file;
  file.path_ = path;
  try {
    file.open_parts();
  } catch (const Error&) {
    file.check_intact();  // truncation may be the cause of the other error
    throw;
  }
  file.check_intact();
  return file;
}

File File::parse(std::span<const std::byte> bytes, std::string name) {
  File file;
  file.path_ = std::move(name);
  file.sources_.push_back({nullptr, bytes});
  Part part = parse_part(bytes, file.path_, 0);
  if (split_key(part, file.path_, "split.count", 1) > 1)
    fail(Code::invalid_argument, file.path_, ": one part of a split model; open it by its path");
  file.version_ = part.version;
  file.keys_ = std::move(part.keys);
  file.values_ = std::move(part.values);
  file.add_tensors(part);
  return file;
}

void File::open_parts() {
  add_part(path_);
  const uint64_t count = get_uint("split.count", 1);
  if (count <= 1) return;
  const auto name = parse_split_name(path_);
  if (!name || name->count != count)
    fail(Code::bad_format, path_, ": the first of ", count, " parts; expected a name that ends in ",
         SplitName{"", 1, count}.part(1));
  for (uint64_t n = 2; n <= count; ++n) add_part(name->part(n));
  const uint64_t total = get_uint("split.tensors.count", tensors_.size());
  if (total != tensors_.size())
    fail(Code::bad_format, path_, ": key 'split.tensors.count': expected ", total,
         " tensors, the parts have ", tensors_.size());
}

void File::add_part(const std::string& path) {
  const uint64_t number = sources_.size();
  auto map = std::make_unique<FileMap>(path);
  const auto bytes = map->bytes();
  sources_.push_back({std::move(map), bytes});
  Part part = parse_part(bytes, path, static_cast<int>(number));
  const uint64_t actual = split_key(part, path, "split.no", number);
  if (number == 0 && actual != 0)
    fail(Code::invalid_argument, path, ": part ", actual + 1, " of a split model; open the first part");
  if (actual != number) fail(Code::bad_format, path, ": key 'split.no' is ", actual, ", expected ", number);
  if (number == 0) {
    version_ = part.version;
    keys_ = std::move(part.keys);
    values_ = std::move(part.values);
  } else if (split_key(part, path, "split.count", 0) != get_uint("split.count")) {
    fail(Code::bad_format, path, ": key 'split.count' differs from that of ", path_);
  }
  add_tensors(part);
}

void File::add_tensors(Part& part) {
  for (UnsupportedTensor& tensor : part.unsupported) unsupported_.push_back(std::move(tensor));
  for (TensorInfo& tensor : part.tensors) {
    if (!tensor_index_.emplace(tensor.name, tensors_.size()).second)
      fail(Code::bad_format, path_, ": tensor ", quote_name(tensor.name), " occurs twice");
    tensors_.push_back(std::move(tensor));
  }
}

// ---- metadata ----------------------------------------------------------------------------------------

const Value* File::find(std::string_view key) const {
  if (recorder_) recorder_->read_.emplace(key);
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

const Value& File::need(std::string_view key) const {
  const Value* value = find(key);
  if (!value) fail(Code::bad_format, path_, ": key ", quote_name(key), " is missing");
  return *value;
}

const Value& File::need_array(std::string_view key) const {
  const Value& value = need(key);
  if (value.type != ValueType::array) wrong_type(path_, key, "an array", value);
  return value;
}

uint64_t File::get_uint(std::string_view key) const {
  const Value& value = need(key);
  if (!is_number(value)) wrong_type(path_, key, "an integer", value);
  const auto number = load_exact_uint(value.type, value.raw.data());
  if (!number) wrong_value(path_, key, "an integer of 0 or more", value);
  return *number;
}

double File::get_float(std::string_view key) const {
  const Value& value = need(key);
  if (!is_number(value)) wrong_type(path_, key, "a number", value);
  const auto number = load_exact_double(value.type, value.raw.data());
  if (!number) wrong_value(path_, key, "a number that a double holds exactly", value);
  return *number;
}

std::string_view File::get_string(std::string_view key) const {
  const Value& value = need(key);
  if (value.type != ValueType::string) wrong_type(path_, key, "a string", value);
  auto bytes = value.raw;
  return take_string(bytes);
}

bool File::get_bool(std::string_view key, bool default_value) const {
  const Value* value = find(key);
  if (!value) return default_value;
  if (value->type == ValueType::boolean) return value->raw[0] != std::byte{0};
  if (!is_integer(value->type)) wrong_type(path_, key, "a bool", *value);
  const auto number = load_integer<uint64_t>(value->type, value->raw.data());
  if (!number || *number > 1) wrong_value(path_, key, "a bool or an integer of 0 or 1", *value);
  return *number == 1;
}

uint64_t File::get_uint(std::string_view key, uint64_t default_value) const {
  return find(key) ? get_uint(key) : default_value;
}

double File::get_float(std::string_view key, double default_value) const {
  return find(key) ? get_float(key) : default_value;
}

std::string_view File::get_string(std::string_view key, std::string_view default_value) const {
  return find(key) ? get_string(key) : default_value;
}

std::vector<std::string_view> File::get_strings(std::string_view key) const {
  const Value& value = need_array(key);
  if (value.element != ValueType::string) wrong_type(path_, key, "an array of strings", value);
  std::vector<std::string_view> strings(value.count);
  auto bytes = value.raw;
  for (std::string_view& text : strings) text = take_string(bytes);
  return strings;
}

std::vector<int64_t> File::get_ints(std::string_view key) const {
  const Value& value = need_array(key);
  const bool bools = value.element == ValueType::boolean;
  if (!bools && !is_integer(value.element)) wrong_type(path_, key, "an array of integers", value);
  const ValueType element = bools ? ValueType::u8 : value.element;
  const std::size_t size = scalar_size(element);
  std::vector<int64_t> numbers(value.count);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const auto number = load_integer<int64_t>(element, value.raw.data() + i * size);
    if (!number)
      fail(Code::bad_format, path_, ": key ", quote_name(key), ": element ", i, " does not fit in 63 bits");
    numbers[i] = *number;
  }
  return numbers;
}

std::vector<float> File::get_floats(std::string_view key) const {
  const Value& value = need_array(key);
  if (!is_integer(value.element) && value.element != ValueType::f32 && value.element != ValueType::f64)
    wrong_type(path_, key, "an array of numbers", value);
  const std::size_t size = scalar_size(value.element);
  std::vector<float> numbers(value.count);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const auto number = load_exact_double(value.element, value.raw.data() + i * size);
    if (!number)
      fail(Code::bad_format, path_, ": key ", quote_name(key), ": element ", i, " does not fit in a double");
    numbers[i] = static_cast<float>(*number);
  }
  return numbers;
}

// ---- tensors -----------------------------------------------------------------------------------------

const TensorInfo* File::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

std::span<const std::byte> File::data(const TensorInfo& tensor) const {
  return sources_.at(static_cast<std::size_t>(tensor.file)).bytes.subspan(tensor.offset, tensor.bytes);
}

void File::check_intact() const {
  for (const Source& source : sources_)
    if (source.map) source.map->check_intact();
}

void File::release(const TensorInfo& tensor, uint64_t offset, uint64_t size) const {
  const Source& source = sources_.at(static_cast<std::size_t>(tensor.file));
  if (source.map) source.map->release(tensor.offset + offset, size);
}

uint64_t File::content_hash() const {
  constexpr size_t kPiece = size_t{1} << 24;  // pages are released after each piece
  uint64_t hash = 0;
  for (const Source& source : sources_)
    for (size_t at = 0; at < source.bytes.size(); at += kPiece) {
      const size_t size = std::min(kPiece, source.bytes.size() - at);
      hash = hash_bytes(source.bytes.subspan(at, size), hash);
      if (source.map) source.map->release(at, size);
    }
  check_intact();
  return hash;
}

uint64_t File::identity() const {
  constexpr size_t kSamples = 32, kSample = 4096;
  uint64_t hash = 0;
  for (const Source& source : sources_) {
    const uint64_t facts[] = {source.bytes.size(),
                              source.map ? static_cast<uint64_t>(source.map->modified()) : 0};
    hash = hash_bytes(std::as_bytes(std::span(facts)), hash);
    const size_t size = std::min(kSample, source.bytes.size());
    for (size_t i = 0; i < kSamples; ++i) {  // the first sample is the start, the last one the end
      const uint64_t at = uint64_t{source.bytes.size() - size} * i / (kSamples - 1);
      hash = hash_bytes(source.bytes.subspan(static_cast<size_t>(at), size), hash);
    }
  }
  check_intact();
  return hash;
}

uint64_t File::bytes() const {
  uint64_t total = 0;
  for (const Source& source : sources_) total += source.bytes.size();
  return total;
}

}  // namespace binhdan::gguf
