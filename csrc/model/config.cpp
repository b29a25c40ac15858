#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/checked.h"
#include "base/utf8.h"
#include "kernels/kernels.h"

namespace binhdan::model {
namespace {

// Properties that follow from the architecture's name: GGUF has no keys for them.
struct Architecture {
  const char* name;
  bool rope_neox;
  bool requires_qkv_bias;
  bool qk_norm;
};
constexpr Architecture kArchitectures[] = {
    {"llama", false, false, false},
    {"qwen2", true, true, false},
    {"qwen3", true, false, true},
};

const Architecture& find_architecture(const gguf::File& file, std::string_view name) {
  for (const Architecture& architecture : kArchitectures)
    if (name == architecture.name) return architecture;
  fail(Code::unsupported, file.path(), ": key 'general.architecture': expected one of ",
       supported_architectures(), ", got ", quote_name(name));
}

// Bounds above any real model. They keep every later product far below 64 bits.
constexpr uint64_t kMaxLayers = 1024, kMaxHeads = 4096, kMaxHeadDim = 1024, kMaxWidth = 1 << 20;
constexpr uint64_t kMaxContext = uint64_t{1} << 30;

// Reads the keys of one architecture and checks their bounds.
class Keys {
 public:
  Keys(const gguf::File& file, const std::string& architecture) : file_(file), prefix_(architecture + ".") {}

  uint64_t size(const char* key, uint64_t limit) const {
    return bounded(key, file_.get_uint(prefix_ + key), limit);
  }
  uint64_t size(const char* key, uint64_t limit, uint64_t default_value) const {
    return bounded(key, file_.get_uint(prefix_ + key, default_value), limit);
  }
  // One value for all layers, or an array with one for each.
  std::vector<uint64_t> sizes(const char* key, uint64_t limit, uint64_t layers) const {
    const gguf::Value* value = file_.find(prefix_ + key);
    if (!value || value->type != gguf::ValueType::array)
      return std::vector<uint64_t>(layers, size(key, limit));
    const std::vector<int64_t> values = file_.get_ints(prefix_ + key);
    if (values.size() != layers)
      fail_key(Code::bad_format, key, "expected ", layers, " values, one per layer, got ", values.size());
    std::vector<uint64_t> sizes;
    for (const int64_t v : values) sizes.push_back(bounded(key, v < 0 ? 0 : static_cast<uint64_t>(v), limit));
    return sizes;
  }
  double positive(const char* key, double default_value) const {
    const double value = file_.get_float(prefix_ + key, default_value);
    if (!(value > 0) || !std::isfinite(value))
      fail_key(Code::bad_format, key, "expected a positive number, got ", value);
    return value;
  }
  std::string_view string(const char* key, std::string_view default_value) const {
    return file_.get_string(prefix_ + key, default_value);
  }
  bool has(const char* key) const { return file_.find(prefix_ + key) != nullptr; }
  // Throws an Error that names the file and the key.
  template <typename... Pieces>
  [[noreturn]] void fail_key(Code code, const char* key, const Pieces&... pieces) const {
    fail(code, file_.path(), ": key ", quote_name(prefix_ + key), ": ", pieces...);
  }

 private:
  uint64_t bounded(const char* key, uint64_t value, uint64_t limit) const {
    if (value == 0 || value > limit)
      fail_key(Code::bad_format, key, "expected 1 to ", limit, ", got ", value);
    return value;
  }
  const gguf::File& file_;
  std::string prefix_;
};

RopeConfig read_rope(const Keys& keys, bool neox, uint64_t head_dim, int64_t context) {
  RopeConfig rope{};
  rope.neox = neox;
  rope.dim = static_cast<int64_t>(keys.size("rope.dimension_count", head_dim, head_dim));
  if (rope.dim % 2 != 0)
    keys.fail_key(Code::bad_format, "rope.dimension_count", "expected an even number, got ", rope.dim);
  rope.base = keys.positive("rope.freq_base", 10000.0);
  rope.factor = keys.positive("rope.scaling.factor", 1.0);
  const std::string_view type = keys.string("rope.scaling.type", "none");
  if (type == "none") {
    rope.scaling = RopeConfig::Scaling::none;
  } else if (type == "linear") {
    rope.scaling = RopeConfig::Scaling::linear;
  } else if (type == "yarn") {
    rope.scaling = RopeConfig::Scaling::yarn;
  } else {
    keys.fail_key(Code::unsupported, "rope.scaling.type", "expected none, linear or yarn, got \"", type,
                  "\"");
  }
  // Files of 2023 have rope.scale_linear instead of a type and a factor.
  if (!keys.has("rope.scaling.type") && keys.has("rope.scale_linear")) {
    rope.scaling = RopeConfig::Scaling::linear;
    rope.factor = keys.positive("rope.scale_linear", 1.0);
  }
  rope.original_context = static_cast<double>(
      keys.size("rope.scaling.original_context_length", kMaxContext, static_cast<uint64_t>(context)));
  rope.attention_factor = keys.positive("rope.scaling.attn_factor", 1.0);
  rope.beta_fast = keys.positive("rope.scaling.yarn_beta_fast", 32.0);
  rope.beta_slow = keys.positive("rope.scaling.yarn_beta_slow", 1.0);
  return rope;
}

std::vector<LayerConfig> read_layers(const Keys& keys, const Architecture& architecture, uint64_t dim) {
  const uint64_t layers = keys.size("block_count", kMaxLayers);
  const auto heads = keys.sizes("attention.head_count", kMaxHeads, layers);
  const auto kv_heads =
      keys.has("attention.head_count_kv") ? keys.sizes("attention.head_count_kv", kMaxHeads, layers) : heads;
  const auto ffn = keys.sizes("feed_forward_length", kMaxWidth, layers);
  const uint64_t head_dim =
      keys.size("attention.key_length", kMaxHeadDim, std::max<uint64_t>(1, dim / heads[0]));
  if (const uint64_t value_dim = keys.size("attention.value_length", kMaxHeadDim, head_dim);
      value_dim != head_dim)
    keys.fail_key(Code::unsupported, "attention.value_length", "expected the key_length ", head_dim, ", got ",
                  value_dim);
  if (head_dim % 8 != 0)
    keys.fail_key(Code::unsupported, "attention.key_length", "expected a multiple of 8, got ", head_dim);

  std::vector<LayerConfig> result;
  for (uint64_t i = 0; i < layers; ++i) {
    if (heads[i] % kv_heads[i] != 0)
      keys.fail_key(Code::bad_format, "attention.head_count", "layer ", i, " has ", heads[i],
                    " heads, not a multiple of its ", kv_heads[i], " KV heads");
    result.push_back({.heads = static_cast<int64_t>(heads[i]),
                      .kv_heads = static_cast<int64_t>(kv_heads[i]),
                      .head_dim = static_cast<int64_t>(head_dim),
                      .ffn = static_cast<int64_t>(ffn[i]),
                      .requires_qkv_bias = architecture.requires_qkv_bias,
                      .qk_norm = architecture.qk_norm});
  }
  return result;
}

// The values are llama.cpp's: 0 none, 1 mean, 2 cls, 3 last, 4 rank.
Pooling read_pooling(const gguf::File& file, const Keys& keys, const std::string& architecture) {
  constexpr auto kLast = static_cast<uint64_t>(Pooling::rank);
  const uint64_t type = file.get_uint(architecture + ".pooling_type", static_cast<uint64_t>(Pooling::mean));
  if (type > kLast)
    keys.fail_key(Code::unsupported, "pooling_type",
                  "expected 0 (none), 1 (mean), 2 (cls), 3 (last) or 4 (rank), got ", type);
  return static_cast<Pooling>(type);
}

}  // namespace

std::string supported_architectures() {
  std::string names;
  for (const Architecture& architecture : kArchitectures) {
    if (!names.empty()) names += ", ";
    names += architecture.name;
  }
  return names;
}

uint64_t Config::kv_bytes_per_token() const {
  uint64_t bytes = 0;
  for (const LayerConfig& layer : layers)
    bytes += static_cast<uint64_t>(layer.kv_heads) * kv_page_size(KvType::f16, layer.head_dim);
  return bytes / kKvPageTokens;
}

Config Config::read(const gguf::File& file) {
  Config config{};
  config.architecture = std::string(file.get_string("general.architecture"));
  const Architecture& architecture = find_architecture(file, config.architecture);
  const Keys keys(file, config.architecture);
  if (keys.has("expert_count") && file.get_uint(config.architecture + ".expert_count") != 0)
    keys.fail_key(Code::unsupported, "expert_count", "expected 0; mixtures of experts are not supported");

  config.dim = static_cast<int64_t>(keys.size("embedding_length", kMaxWidth));
  config.context = static_cast<int64_t>(keys.size("context_length", kMaxContext));
  config.norm_epsilon = static_cast<float>(keys.positive("attention.layer_norm_rms_epsilon", 1e-5));
  config.layers = read_layers(keys, architecture, static_cast<uint64_t>(config.dim));
  config.rope = read_rope(keys, architecture.rope_neox, static_cast<uint64_t>(config.layers[0].head_dim),
                          config.context);

  config.causal = file.get_bool(config.architecture + ".attention.causal", true);
  config.pooling = read_pooling(file, keys, config.architecture);

  const gguf::TensorInfo* embedding = file.find_tensor("token_embd.weight");
  if (!embedding)
    fail(Code::bad_format, file.path(), ": tensor 'token_embd.weight' is missing; expected a row of ",
         config.dim, " columns for each token");
  config.vocabulary = checked_cast<int32_t>(embedding->rows(), "rows of token_embd.weight");
  return config;
}

RopeFrequencies rope_frequencies(const RopeConfig& rope, std::span<const float> factors) {
  const auto dim = static_cast<double>(rope.dim);
  // The dimension whose wavelength fits `rotations` times into the original context (YaRN, section 3.2).
  const auto correction = [&](double rotations) {
    return dim * std::log(rope.original_context / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(rope.base));
  };
  const double low = std::max(0.0, std::floor(correction(rope.beta_fast)));
  const double high = std::min(dim - 1, std::ceil(correction(rope.beta_slow)));

  RopeFrequencies result{std::vector<double>(static_cast<size_t>(rope.dim / 2)), 1.0};
  for (size_t i = 0; i < result.frequencies.size(); ++i) {
    double frequency = std::pow(rope.base, -2.0 * static_cast<double>(i) / dim);
    if (!factors.empty()) frequency /= static_cast<double>(factors[i]);
    if (rope.scaling == RopeConfig::Scaling::linear) frequency /= rope.factor;
    if (rope.scaling == RopeConfig::Scaling::yarn) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / std::max(0.001, high - low), 0.0, 1.0);
      frequency *= ramp / rope.factor + (1.0 - ramp);
    }
    result.frequencies[i] = frequency;
  }
  if (rope.scaling == RopeConfig::Scaling::yarn)
    result.magnitude = rope.attention_factor * (1.0 + 0.1 * std::log(rope.factor));
  return result;
}

}  // namespace binhdan::model
