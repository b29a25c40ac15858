#include "gguf/part.h"

#include <algorithm>
#include <bit>
#include <string_view>

#include "base/checked.h"
#include "base/utf8.h"
#include "gguf/cursor.h"
#include "gguf/foreign.h"

namespace binhdan::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "values are read in the byte order of the file");

constexpr uint64_t kLongestName = 65535;                     // bytes; the specification's limit for keys
constexpr uint64_t kSmallestKey = 8 + 1 + 4 + 1;             // length, name, type, value
constexpr uint64_t kSmallestTensor = 8 + 1 + 4 + 8 + 4 + 8;  // length, name, dimensions, shape, type, offset
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kLargestAlignment = uint64_t{1} << 20;
constexpr uint32_t kMaxDimensions = 4;

// Names of ggml's types, for those that binhdan does not support.
struct TypeName {
  uint32_t type;
  const char* name;
};
constexpr TypeName kTypeNames[] = {
    {4, "Q4_2"},      {5, "Q4_3"},      {9, "Q8_1"},        {15, "Q8_K"},       {24, "I8"},
    {25, "I16"},      {26, "I32"},      {27, "I64"},        {28, "F64"},        {31, "Q4_0_4_4"},
    {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"}, {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"},
};

std::string type_label(uint32_t type) {
  for (const TypeName& known : kTypeNames)
    if (known.type == type) return std::to_string(type) + " (" + known.name + ")";
  return std::to_string(type);
}

void check_utf8(const Cursor& in, std::string_view text, const char* what) {
  const std::size_t valid = utf8_valid_prefix(text);
  if (valid != text.size()) in.fail(Code::bad_format, what, " is not UTF-8 at its byte ", valid);
}

std::string read_name(Cursor& in, const char* what) {
  const std::string_view name = in.read_string(what);
  if (name.empty() || name.size() > kLongestName)
    in.fail(Code::bad_format, what, " has ", name.size(), " bytes, expected 1 to ", kLongestName);
  check_utf8(in, name, what);
  return std::string(name);
}

// ---- header and metadata -----------------------------------------------------------------------------

uint32_t read_version(Cursor& in, std::span<const std::byte> bytes) {
  constexpr char kMagic[] = "GGUF";
  if (bytes.empty() || std::memcmp(bytes.data(), kMagic, std::min<std::size_t>(bytes.size(), 4)) != 0)
    in.fail(Code::bad_format, "not a GGUF file: expected it to start with 'GGUF'; ", describe_foreign(bytes));
  in.take(4, "the magic number");
  const auto version = in.read<uint32_t>("the version");
  if (version != 0 && (version & 0xffff) == 0)
    in.fail(Code::unsupported, "expected a little-endian GGUF file, got a big-endian one");
  if (version != 2 && version != 3) in.fail(Code::unsupported, "expected GGUF version 2 or 3, got ", version);
  return version;
}

ValueType read_value_type(Cursor& in, const char* what) {
  const auto type = in.read<uint32_t>(what);
  if (type >= kValueTypes) in.fail(Code::bad_format, what, " is ", type, ", expected 0 to ", kValueTypes - 1);
  return static_cast<ValueType>(type);
}

void check_bools(const Cursor& in, const Value& value) {
  if (value.element != ValueType::boolean) return;
  for (const std::byte byte : value.raw)
    if (byte > std::byte{1})
      in.fail(Code::bad_format, "expected a bool of 0 or 1, got ", std::to_integer<int>(byte));
}

// Strings inside arrays may hold any bytes: vocabularies do.
void skip_strings(Cursor& in, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) in.read_string("a string of the array");
}

Value read_array(Cursor& in, std::span<const std::byte> bytes) {
  const ValueType element = read_value_type(in, "the array's element type");
  if (element == ValueType::array) in.fail(Code::bad_format, "arrays of arrays are not supported");
  const uint64_t size = scalar_size(element);
  const bool strings = element == ValueType::string;
  const uint64_t count = in.read_count(strings ? sizeof(uint64_t) : size, "the array's length");
  const uint64_t begin = in.offset();
  strings ? skip_strings(in, count) : void(in.take(count * size, "the array"));
  return {ValueType::array, element, count, bytes.subspan(begin, in.offset() - begin)};
}

Value read_value(Cursor& in, std::span<const std::byte> bytes) {
  const ValueType type = read_value_type(in, "the value's type");
  if (type == ValueType::array) return read_array(in, bytes);
  const uint64_t begin = in.offset();
  if (type == ValueType::string)
    check_utf8(in, in.read_string("the string"), "the string");
  else
    in.take(scalar_size(type), "the value");
  return {type, type, 1, bytes.subspan(begin, in.offset() - begin)};
}

void read_metadata(Cursor& in, std::span<const std::byte> bytes, uint64_t count, Part& part) {
  for (uint64_t i = 0; i < count; ++i) {
    in.enter("key " + std::to_string(i));
    std::string key = read_name(in, "the name");
    in.enter("key " + quote_name(key));
    const Value value = read_value(in, bytes);
    check_bools(in, value);
    if (!part.values.emplace(key, value).second) in.fail(Code::bad_format, "the key occurs twice");
    part.keys.push_back(std::move(key));
  }
}

uint64_t read_alignment(Cursor& in, const Part& part) {
  const auto found = part.values.find("general.alignment");
  if (found == part.values.end()) return kDefaultAlignment;
  const Value& value = found->second;
  in.enter("key 'general.alignment'");
  if (!is_integer(value.type))
    in.fail(Code::bad_format, "expected an integer, got ", value_type_name(value.type));
  const auto alignment = load_integer<uint64_t>(value.type, value.raw.data()).value_or(0);
  if (!std::has_single_bit(alignment) || alignment < 8 || alignment > kLargestAlignment)
    in.fail(Code::bad_format, "expected a power of two from 8 to ", kLargestAlignment, ", got ", alignment);
  return alignment;
}

// ---- tensors -----------------------------------------------------------------------------------------

std::vector<uint64_t> read_shape(Cursor& in) {
  const auto dimensions = in.read<uint32_t>("the number of dimensions");
  if (dimensions < 1 || dimensions > kMaxDimensions)
    in.fail(Code::bad_format, "expected 1 to ", kMaxDimensions, " dimensions, got ", dimensions);
  std::vector<uint64_t> shape(dimensions);
  for (uint64_t& size : shape) {
    size = in.read<uint64_t>("a dimension");
    if (size == 0) in.fail(Code::bad_format, "a dimension is 0");
  }
  return shape;
}

// The number of elements fits in 63 bits.
void check_elements(const Cursor& in, const std::vector<uint64_t>& shape) {
  try {
    uint64_t elements = 1;
    for (const uint64_t size : shape) elements = checked_mul(elements, size, "the number of elements");
    checked_cast<int64_t>(elements, "the number of elements");
  } catch (const Error& error) {
    in.fail(error.code(), error.what());
  }
}

uint64_t tensor_bytes(const Cursor& in, const TensorInfo& tensor) {
  try {
    return checked_mul(row_bytes(tensor.type, tensor.cols()), tensor.rows(), "the number of bytes");
  } catch (const Error& error) {
    in.fail(error.code(), error.what());
  }
}

// Offsets are still as in the file: from the start of the data.
uint64_t read_offset(Cursor& in, uint64_t alignment) {
  const auto offset = in.read<uint64_t>("the offset");
  if (offset % alignment != 0)
    in.fail(Code::bad_format, "its offset ", offset, " is not a multiple of the alignment ", alignment);
  return offset;
}

void read_tensor(Cursor& in, int file, uint64_t alignment, Part& part) {
  std::string name = read_name(in, "the name");
  in.enter("tensor " + quote_name(name));
  std::vector<uint64_t> shape = read_shape(in);
  check_elements(in, shape);
  const auto type = in.read<uint32_t>("the type");
  if (const DTypeInfo* info = find_dtype(type)) {
    TensorInfo tensor{std::move(name), info->type, std::move(shape), file, 0, 0};
    tensor.bytes = tensor_bytes(in, tensor);
    tensor.offset = read_offset(in, alignment);
    part.tensors.push_back(std::move(tensor));
  } else {
    const uint64_t offset = read_offset(in, alignment);
    part.unsupported.push_back({std::move(name), type_label(type), std::move(shape), file, offset, 0});
  }
}

template <typename Tensor>
void place_tensor(const std::string& name, uint64_t data_start, uint64_t file_size, Tensor& tensor) {
  const uint64_t available = data_start < file_size ? file_size - data_start : 0;
  if (tensor.offset > available || tensor.bytes > available - tensor.offset)
    fail(Code::bad_format, name, ": tensor ", quote_name(tensor.name), ": ", tensor.bytes,
         " bytes at offset ", tensor.offset, " go past the end of the data, which has ", available, " bytes");
  tensor.offset += data_start;
}

// The bytes of a tensor of an unsupported type are those up to the next tensor or the end of the file.
void measure_unsupported(Part& part, uint64_t file_size) {
  if (part.unsupported.empty()) return;
  std::vector<uint64_t> starts{file_size};
  for (const TensorInfo& tensor : part.tensors) starts.push_back(tensor.offset);
  for (const UnsupportedTensor& tensor : part.unsupported) starts.push_back(tensor.offset);
  std::sort(starts.begin(), starts.end());
  for (UnsupportedTensor& tensor : part.unsupported) {
    const auto next = std::upper_bound(starts.begin(), starts.end(), tensor.offset);
    tensor.bytes = (next == starts.end() ? file_size : *next) - tensor.offset;
  }
}

void check_overlaps(const std::string& name, const std::vector<TensorInfo>& tensors) {
  std::vector<const TensorInfo*> sorted;
  sorted.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < sorted.size(); ++i)
    if (sorted[i - 1]->offset + sorted[i - 1]->bytes > sorted[i]->offset)
      fail(Code::bad_format, name, ": tensors ", quote_name(sorted[i - 1]->name), " and ",
           quote_name(sorted[i]->name), " overlap at byte ", sorted[i]->offset);
}

}  // namespace

uint64_t TensorInfo::rows() const {
  uint64_t product = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) product *= shape[i];
  return product;
}

Part parse_part(std::span<const std::byte> bytes, const std::string& name, int file) {
  Part part;
  Cursor in(bytes, name);
  part.version = read_version(in, bytes);
  const uint64_t n_tensors = in.read_count(kSmallestTensor, "the number of tensors");
  const uint64_t n_keys = in.read_count(kSmallestKey, "the number of keys");
  read_metadata(in, bytes, n_keys, part);
  const uint64_t alignment = read_alignment(in, part);
  for (uint64_t i = 0; i < n_tensors; ++i) {
    in.enter("tensor " + std::to_string(i));
    read_tensor(in, file, alignment, part);
  }
  const uint64_t data_start = checked_align(in.offset(), alignment, "the start of the data");
  for (TensorInfo& tensor : part.tensors) place_tensor(name, data_start, bytes.size(), tensor);
  for (UnsupportedTensor& tensor : part.unsupported) place_tensor(name, data_start, bytes.size(), tensor);
  measure_unsupported(part, bytes.size());
  check_overlaps(name, part.tensors);
  return part;
}

}  // namespace binhdan::gguf
