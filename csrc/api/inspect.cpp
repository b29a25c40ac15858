#include "api/inspect.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "api/json.h"
#include "base/cpu.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/utf8.h"
#include "model/memory.h"
#include "model/model.h"
#include "model/state.h"

namespace binhdan::api {
namespace {

using gguf::File;
using gguf::Value;
using gguf::ValueType;

constexpr uint64_t kMaxListed = 16;            // longer arrays are described without their elements
constexpr std::size_t kMaxStringBytes = 1000;  // longer strings are truncated

// ---- metadata ----------------------------------------------------------------------------------------

std::string truncated(std::string_view text) {
  if (text.size() <= kMaxStringBytes) return std::string(text);
  std::size_t end = kMaxStringBytes;
  while (end > kMaxStringBytes - 4 && (text[end] & 0xc0) == 0x80) --end;  // does not split a character
  return std::string(text.substr(0, end)) + "…";
}

void write_number(JsonWriter& out, ValueType type, const std::byte* bytes) {
  if (type == ValueType::boolean)
    out.value(*bytes != std::byte{0});
  else if (type == ValueType::f32)
    out.value(gguf::load<float>(bytes));
  else if (const auto real = gguf::load_float(type, bytes))
    out.value(*real);
  else if (const auto natural = gguf::load_integer<uint64_t>(type, bytes))
    out.value(*natural);
  else
    out.value(gguf::load_integer<int64_t>(type, bytes).value_or(0));
}

void write_elements(JsonWriter& out, const Value& value) {
  auto left = value.raw;
  for (uint64_t i = 0; i < value.count; ++i) {
    if (value.element == ValueType::string)
      out.value(truncated(gguf::take_string(left)));
    else
      write_number(out, value.element, value.raw.data() + i * gguf::scalar_size(value.element));
  }
}

void write_array(JsonWriter& out, const Value& value) {
  out.begin_object();
  out.field("type", gguf::value_type_name(value.element)).field("count", value.count);
  if (value.count <= kMaxListed) {
    out.key("values").begin_array();
    write_elements(out, value);
    out.end_array();
  }
  out.end_object();
}

void write_metadata(JsonWriter& out, const File& file) {
  out.key("metadata").begin_object();
  for (const std::string& key : file.keys()) {
    const Value& value = *file.find(key);
    out.key(key);
    if (value.type == ValueType::array)
      write_array(out, value);
    else if (value.type != ValueType::string)
      write_number(out, value.type, value.raw.data());
    else if (key.starts_with("tokenizer.chat_template"))
      out.value(file.get_string(key));
    else
      out.value(truncated(file.get_string(key)));
  }
  out.end_object();
}

// ---- the model's sizes -------------------------------------------------------------------------------

// One invalid value must not make the description fail: it counts as absent.
std::optional<std::string_view> find_string(const File& file, std::string_view key) {
  const Value* value = file.find(key);
  if (!value || value->type != ValueType::string) return std::nullopt;
  return file.get_string(key);
}

// One number, or one for each layer; empty when absent.
std::vector<uint64_t> find_numbers(const File& file, const std::string& key) {
  const Value* value = file.find(key);
  std::vector<uint64_t> numbers;
  if (!value || !gguf::is_integer(value->element)) return numbers;
  const std::size_t size = gguf::scalar_size(value->element);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto number = gguf::load_integer<uint64_t>(value->element, value->raw.data() + i * size);
    if (!number) return {};
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<uint64_t> largest(const std::vector<uint64_t>& numbers) {
  if (numbers.empty()) return std::nullopt;
  return *std::max_element(numbers.begin(), numbers.end());
}

std::optional<uint64_t> product(std::optional<uint64_t> a, std::optional<uint64_t> b) {
  uint64_t result;
  if (!a || !b || __builtin_mul_overflow(*a, *b, &result)) return std::nullopt;
  return result;
}

std::optional<uint64_t> sum(std::optional<uint64_t> a, std::optional<uint64_t> b) {
  uint64_t result;
  if (!a || !b || __builtin_add_overflow(*a, *b, &result)) return std::nullopt;
  return result;
}

// The width of a head in a KV page: kv_page_size() pads it to a multiple of 32.
std::optional<uint64_t> padded(std::optional<uint64_t> size) {
  const auto rounded = sum(size, 31);
  return rounded ? std::optional(*rounded / 32 * 32) : std::nullopt;
}

struct Sizes {
  std::optional<uint64_t> context, embedding, layers, heads, kv_heads, head_dim, kv_bytes_per_token;
};

Sizes find_sizes(const File& file, const std::string& architecture) {
  const auto numbers = [&](const char* key) { return find_numbers(file, architecture + "." + key); };
  Sizes s;
  s.context = largest(numbers("context_length"));
  s.embedding = largest(numbers("embedding_length"));
  s.layers = largest(numbers("block_count"));
  s.heads = largest(numbers("attention.head_count"));
  std::vector<uint64_t> kv_heads = numbers("attention.head_count_kv");
  if (kv_heads.empty()) kv_heads = numbers("attention.head_count");
  s.kv_heads = largest(kv_heads);
  s.head_dim = largest(numbers("attention.key_length"));
  if (!s.head_dim && s.embedding && s.heads.value_or(0) > 0) s.head_dim = *s.embedding / *s.heads;
  auto value_dim = largest(numbers("attention.value_length"));
  if (!value_dim) value_dim = s.head_dim;

  std::optional<uint64_t> heads_of_all_layers = kv_heads.size() == 1 ? product(s.kv_heads, s.layers) : 0;
  if (kv_heads.size() != 1)
    for (const uint64_t heads : kv_heads) heads_of_all_layers = sum(heads_of_all_layers, heads);
  if (!kv_heads.empty())
    s.kv_bytes_per_token =
        product(product(heads_of_all_layers, sum(padded(s.head_dim), padded(value_dim))), 2);
  return s;
}

template <typename T>
void write_optional(JsonWriter& out, const char* name, const std::optional<T>& content) {
  out.key(name);
  content ? out.value(*content) : out.null();
}

void write_sizes(JsonWriter& out, const Sizes& s) {
  write_optional(out, "context", s.context);
  write_optional(out, "embedding", s.embedding);
  write_optional(out, "layers", s.layers);
  write_optional(out, "heads", s.heads);
  write_optional(out, "kv_heads", s.kv_heads);
  write_optional(out, "head_dim", s.head_dim);
  write_optional(out, "kv_bytes_per_token", s.kv_bytes_per_token);
}

// Without the path, which the caller has passed.
std::string without_path(const File& file, std::string message) {
  const std::string place = file.path() + ": ";
  if (message.starts_with(place)) message.erase(0, place.size());
  return message;
}

// What an engine with default options needs: bytes for weights, for buffers, and for the state of a sequence.
// With n pages of page_tokens tokens, the state has fixed + n page + min(n, window_pages) window_page bytes.
void write_needs(JsonWriter& out, const model::Check& check) {
  constexpr int64_t kChunk = 512, kSequences = 8;  // the defaults of engine::EngineOptions
  out.key("needs");
  if (!check.config) {
    out.null();
    return;
  }
  const model::Config& config = *check.config;
  out.begin_object().field("weights", check.weight_bytes);
  out.field("buffers", model::buffer_bytes(config, kChunk + kSequences, kSequences, usable_cores()));
  out.field("page_tokens", uint64_t{kKvPageTokens}).key("kv").begin_object();
  for (const auto& [name, type] : {std::pair("f16", KvType::f16), std::pair("q8_0", KvType::q8_0)}) {
    const model::StateLayout layout(config, type);
    const model::PageSizes& sizes = layout.sizes();
    out.key(name).begin_object().field("fixed", sizes.checkpoint);
    out.field("page", sizes.part(model::PagePart::full));
    out.field("window_page", sizes.part(model::PagePart::window));
    out.field("window_pages", uint64_t{layout.max_window_pages(kChunk)}).end_object();
  }
  out.end_object().end_object();
}

void write_support(JsonWriter& out, const File& file) {
  const model::Check check = model::check(file);
  out.field("supported", !check.error.has_value()).key("reason");
  check.error ? out.value(without_path(file, check.error->what())) : out.null();
  out.field("damaged", check.error && check.error->code() == Code::bad_format);
  out.key("warnings").begin_array();
  for (const std::string& warning : check.warnings) out.value(without_path(file, warning));
  out.end_array();
  out.key("causal");
  check.config ? out.value(check.config->causal) : out.null();
  out.key("pooling");
  check.config ? out.value(model::kPoolingNames[static_cast<int>(check.config->pooling)]) : out.null();
  write_needs(out, check);
}

bool has_chat_template(const File& file) {
  return std::ranges::any_of(file.keys(), [&](const std::string& key) {
    const bool is_template = key == "tokenizer.chat_template" || key.starts_with("tokenizer.chat_template.");
    return is_template && file.find(key)->type == ValueType::string;
  });
}

void write_tokenizer(JsonWriter& out, const File& file) {
  out.key("tokenizer");
  const Value* tokens = file.find("tokenizer.ggml.tokens");
  if (!tokens || tokens->type != ValueType::array) {
    out.null();
    return;
  }
  out.begin_object();
  write_optional(out, "model", find_string(file, "tokenizer.ggml.model"));
  write_optional(out, "pre", find_string(file, "tokenizer.ggml.pre"));
  out.field("size", tokens->count);
  out.field("has_chat_template", has_chat_template(file));
  out.end_object();
}

// ---- tensors -----------------------------------------------------------------------------------------

struct Totals {
  std::string type;
  uint64_t tensors = 0, parameters = 0, bytes = 0;

  void add(const std::vector<uint64_t>& shape, uint64_t size) {
    uint64_t elements = 1;
    for (const uint64_t dimension : shape) elements *= dimension;
    tensors += 1;
    parameters += elements;
    bytes += size;
  }
};

// The sums of supported types cannot overflow, because tensors do not overlap in the files.
std::vector<Totals> totals_by_type(const File& file) {
  std::map<std::string, Totals> by_type;
  for (const gguf::TensorInfo& tensor : file.tensors())
    by_type[dtype_info(tensor.type).name].add(tensor.shape, tensor.bytes);
  for (const gguf::UnsupportedTensor& tensor : file.unsupported_tensors())
    by_type[tensor.type].add(tensor.shape, tensor.bytes);
  std::vector<Totals> all;
  for (auto& [type, totals] : by_type) {
    totals.type = type;
    all.push_back(totals);
  }
  std::sort(all.begin(), all.end(), [](const Totals& a, const Totals& b) {
    return std::pair(b.bytes, a.type) < std::pair(a.bytes, b.type);
  });
  return all;
}

void write_types(JsonWriter& out, const std::vector<Totals>& all) {
  out.key("types").begin_array();
  for (const Totals& totals : all) {
    out.begin_object().field("type", totals.type).field("tensors", totals.tensors);
    out.field("parameters", totals.parameters).field("bytes", totals.bytes).end_object();
  }
  out.end_array();
}

template <typename Tensor>
void write_tensor(JsonWriter& out, const Tensor& tensor, std::string_view type) {
  out.begin_object().field("name", tensor.name).field("type", type).key("shape").begin_array();
  for (const uint64_t size : tensor.shape) out.value(size);
  out.end_array().field("bytes", tensor.bytes).end_object();
}

void write_tensors(JsonWriter& out, const File& file) {
  out.key("tensors").begin_array();
  for (const gguf::TensorInfo& tensor : file.tensors())
    write_tensor(out, tensor, dtype_info(tensor.type).name);
  for (const gguf::UnsupportedTensor& tensor : file.unsupported_tensors())
    write_tensor(out, tensor, tensor.type);
  out.end_array();
}

}  // namespace

std::string describe_file(const File& file) {
  const auto architecture = find_string(file, "general.architecture");
  const std::vector<Totals> totals = totals_by_type(file);
  uint64_t parameters = 0;
  for (const Totals& one : totals) parameters += one.parameters;

  JsonWriter out;
  out.begin_object();
  out.field("version", file.version()).field("file_bytes", file.bytes());
  write_optional(out, "architecture", architecture);
  write_optional(out, "name", find_string(file, "general.name"));
  out.field("parameters", parameters);
  write_sizes(out, find_sizes(file, std::string(architecture.value_or(""))));
  write_support(out, file);
  write_tokenizer(out, file);
  write_types(out, totals);
  write_metadata(out, file);
  write_tensors(out, file);
  out.end_object();
  return out.text();
}

std::string inspect_json(const std::string& path) {
  const File file = File::open(path);
  std::string json = describe_file(file);
  file.check_intact();
  return json;
}

}  // namespace binhdan::api
