#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/checked.h"
#include "base/utf8.h"
#include "kernels/kernels.h"

namespace binhdan::model {
namespace {

// Bounds above any real model. They keep every later product far below 64 bits.
constexpr uint64_t kMaxLayers = 1024, kMaxHeads = 4096, kMaxHeadDim = 1024, kMaxWidth = 1 << 20;
constexpr uint64_t kMaxContext = uint64_t{1} << 30, kMaxTaps = 8;

// Reads the keys of one architecture and checks their bounds.
class Keys {
 public:
  Keys(const gguf::File& file, const std::string& architecture) : file_(file), prefix_(architecture + ".") {}

  uint64_t size(const char* key, uint64_t limit) const {
    return bounded(key, file_.get_uint(prefix_ + key), 1, limit);
  }
  uint64_t size(const char* key, uint64_t limit, uint64_t default_value) const {
    return bounded(key, file_.get_uint(prefix_ + key, default_value), 1, limit);
  }
  uint64_t size_or_zero(const char* key, uint64_t limit) const {
    return bounded(key, file_.get_uint(prefix_ + key, 0), 0, limit);
  }
  // One value for all layers, or an array with one for each.
  std::vector<int64_t> sizes(const char* key, uint64_t limit, uint64_t layers, uint64_t least = 1) const {
    if (!is_array(key))
      return std::vector<int64_t>(
          layers, static_cast<int64_t>(bounded(key, file_.get_uint(prefix_ + key), least, limit)));
    std::vector<int64_t> values = per_layer(key, layers);
    for (const int64_t v : values) bounded(key, v < 0 ? limit + 1 : static_cast<uint64_t>(v), least, limit);
    return values;
  }
  // An array of bools or integers, one for each layer.
  std::vector<int64_t> per_layer(const char* key, uint64_t layers) const {
    std::vector<int64_t> values = file_.get_ints(prefix_ + key);
    if (values.size() < layers)
      fail_key(Code::bad_format, key, "expected ", layers, " values, one per layer, got ", values.size());
    values.resize(layers);
    return values;
  }
  double positive(const char* key, double default_value) const {
    const double value = file_.get_float(prefix_ + key, default_value);
    if (!(value > 0) || !std::isfinite(value))
      fail_key(Code::bad_format, key, "expected a positive number, got ", value);
    return value;
  }
  double positive_or_zero(const char* key, double default_value) const {
    const double value = file_.get_float(prefix_ + key, default_value);
    if (!(value >= 0) || !std::isfinite(value))
      fail_key(Code::bad_format, key, "expected 0 or a positive number, got ", value);
    return value;
  }
  bool boolean(const char* key, bool default_value) const {
    return file_.get_bool(prefix_ + key, default_value);
  }
  std::string_view string(const char* key, std::string_view default_value) const {
    return file_.get_string(prefix_ + key, default_value);
  }
  bool has(const char* key) const { return file_.find(prefix_ + key) != nullptr; }
  bool is_array(const char* key) const {
    const gguf::Value* value = file_.find(prefix_ + key);
    return value && value->type == gguf::ValueType::array;
  }
  // Throws an Error that names the file and the key.
  template <typename... Pieces>
  [[noreturn]] void fail_key(Code code, const char* key, const Pieces&... pieces) const {
    fail(code, file_.path(), ": key ", quote_name(prefix_ + key), ": ", pieces...);
  }

 private:
  uint64_t bounded(const char* key, uint64_t value, uint64_t least, uint64_t limit) const {
    if (value < least || value > limit)
      fail_key(Code::bad_format, key, "expected ", least, " to ", limit, ", got ", value);
    return value;
  }
  const gguf::File& file_;
  std::string prefix_;
};

const Family& family_of(const gguf::File& file, std::string_view name) {
  const Family* family = find_family(name);
  if (!family)
    fail(Code::unsupported, file.path(), ": key 'general.architecture': expected one of ",
         supported_architectures(), ", got ", quote_name(name));
  return *family;
}

int64_t rope_dim(const Keys& keys, const char* key, int64_t head_dim, int64_t default_value) {
  const auto dim = static_cast<int64_t>(keys.size(key, static_cast<uint64_t>(head_dim),
                                                  static_cast<uint64_t>(std::min(default_value, head_dim))));
  if (dim % 2 != 0) keys.fail_key(Code::bad_format, key, "expected an even number, got ", dim);
  return dim;
}

RopeConfig read_rope(const Keys& keys, const Family& family, int64_t head_dim, int64_t context) {
  RopeConfig rope{.dim = rope_dim(keys, "rope.dimension_count", head_dim, head_dim),
                  .neox = family.rope_neox,
                  .base = keys.positive("rope.freq_base", 10000.0),
                  .uses_factors = true};
  // Files of 2023 have rope.scale_linear instead of a type and a factor.
  const char* factor = keys.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  rope.factor = keys.positive(factor, 1.0);
  const std::string_view type = keys.string("rope.scaling.type", keys.has(factor) ? "linear" : "none");
  if (type == "linear") {
    rope.scaling = RopeConfig::Scaling::linear;
  } else if (type == "yarn") {
    rope.scaling = RopeConfig::Scaling::yarn;
  } else if (type != "none" && type != "longrope") {
    keys.fail_key(Code::unsupported, "rope.scaling.type", "expected none, linear, yarn or longrope, got ",
                  quote_name(type));
  }
  rope.original_context = static_cast<double>(
      keys.size("rope.scaling.original_context_length", kMaxContext, static_cast<uint64_t>(context)));
  rope.attention_factor = keys.positive("rope.scaling.attn_factor", 1.0);
  rope.beta_fast = keys.positive("rope.scaling.yarn_beta_fast", 32.0);
  rope.beta_slow = keys.positive("rope.scaling.yarn_beta_slow", 1.0);
  rope.log_multiplier = keys.positive_or_zero("rope.scaling.yarn_log_multiplier", 0.0);
  return rope;
}

// The RoPE of layers with a window: another base, no scaling.
RopeConfig read_window_rope(const Keys& keys, const Family& family, const RopeConfig& full,
                            int64_t head_dim) {
  RopeConfig rope{.dim = rope_dim(keys, "rope.dimension_count_swa", head_dim, full.dim),
                  .neox = full.neox,
                  .base = keys.positive("rope.freq_base_swa",
                                        family.window_rope_base > 0 ? family.window_rope_base : full.base)};
  rope.original_context = full.original_context;
  return rope;
}

// 1 for each layer with a window, 0 for each that sees all positions.
std::vector<int64_t> read_window_pattern(const Keys& keys, const Family& family, uint64_t layers) {
  constexpr const char* kKey = "attention.sliding_window_pattern";
  if (keys.is_array(kKey)) return keys.per_layer(kKey, layers);
  const uint64_t interval =
      keys.has(kKey) ? keys.size(kKey, kMaxLayers) : static_cast<uint64_t>(family.window_pattern);
  std::vector<int64_t> pattern(layers, 1);
  for (uint64_t i = 0; i < layers && interval > 0; ++i) pattern[i] = (i + 1) % interval != 0;
  return pattern;
}

int64_t read_head_dim(const Keys& keys, const char* key, const char* value_key, uint64_t default_value) {
  const uint64_t dim = keys.size(key, kMaxHeadDim, std::max<uint64_t>(1, default_value));
  if (const uint64_t value_dim = keys.size(value_key, kMaxHeadDim, dim); value_dim != dim)
    keys.fail_key(Code::unsupported, value_key, "expected ", dim, " as ", key, ", got ", value_dim);
  if (dim % 8 != 0) keys.fail_key(Code::unsupported, key, "expected a multiple of 8, got ", dim);
  return static_cast<int64_t>(dim);
}

// Layers without keys and values of their own read those of the last layer before them that has the same
// kind of window.
void share_kv(const Keys& keys, std::vector<LayerConfig>& layers) {
  constexpr const char* kKey = "attention.shared_kv_layers";
  const uint64_t shared = keys.size_or_zero(kKey, layers.size());
  const size_t own = layers.size() - shared;
  for (size_t i = 0; i < layers.size(); ++i) {
    layers[i].kv_layer = static_cast<int64_t>(i);
    if (i < own) continue;
    size_t from = own;
    while (from > 0 && layers[from - 1].window != layers[i].window) --from;
    if (from == 0 || layers[from - 1].kv_heads != layers[i].kv_heads ||
        layers[from - 1].head_dim != layers[i].head_dim)
      keys.fail_key(Code::bad_format, kKey, "expected a layer before layer ", own,
                    " with the window and the shape of layer ", i, ", got ", shared);
    layers[i].kv_layer = static_cast<int64_t>(from - 1);
  }
}

bool is_delta_net(const Keys& keys, const Family& family, uint64_t layer, uint64_t layers) {
  if (!family.delta_net) return false;
  constexpr const char* kKey = "attention.recurrent_layers";
  if (keys.has(kKey)) return keys.per_layer(kKey, layers)[layer] != 0;
  return (layer + 1) % keys.size("full_attention_interval", kMaxLayers, 4) != 0;
}

void read_layers(const Keys& keys, Config& config) {
  const Family& family = *config.family;
  const uint64_t extra = keys.size_or_zero("nextn_predict_layers", kMaxLayers);
  const uint64_t all = keys.size("block_count", kMaxLayers);
  if (extra >= all)
    keys.fail_key(Code::bad_format, "nextn_predict_layers", "expected less than the block_count ", all,
                  ", got ", extra);
  const uint64_t layers = all - extra;
  config.unused_layers = static_cast<int64_t>(extra);
  const auto heads = keys.sizes("attention.head_count", kMaxHeads, layers);
  const uint64_t least_kv_heads = family.short_convolution ? 0 : 1;
  const auto kv_heads = keys.has("attention.head_count_kv")
                            ? keys.sizes("attention.head_count_kv", kMaxHeads, layers, least_kv_heads)
                            : heads;
  const auto ffn = keys.sizes("feed_forward_length", kMaxWidth, layers);

  const auto dim = static_cast<uint64_t>(config.dim), per_head = dim / static_cast<uint64_t>(heads[0]);
  const int64_t head_dim = read_head_dim(keys, "attention.key_length", "attention.value_length", per_head);
  const auto window = static_cast<int64_t>(keys.has("attention.sliding_window")
                                               ? keys.size_or_zero("attention.sliding_window", kMaxContext)
                                               : static_cast<uint64_t>(family.window));
  const auto windowed = read_window_pattern(keys, family, layers);
  int64_t window_head_dim = head_dim;
  if (window > 0)
    window_head_dim = read_head_dim(keys, "attention.key_length_swa", "attention.value_length_swa",
                                    static_cast<uint64_t>(head_dim));
  if (family.rope) {
    config.ropes.push_back(read_rope(keys, family, head_dim, config.context));
    config.ropes.push_back(read_window_rope(keys, family, config.ropes[0], window_head_dim));
  }

  for (uint64_t i = 0; i < layers; ++i) {
    LayerConfig layer{.heads = heads[i], .kv_heads = kv_heads[i], .ffn = ffn[i]};
    if (family.short_convolution && layer.kv_heads == 0)
      layer.mixer = Mixer::short_convolution;
    else if (is_delta_net(keys, family, i, layers))
      layer.mixer = Mixer::delta_net;
    else if (layer.heads % layer.kv_heads != 0)
      keys.fail_key(Code::bad_format, "attention.head_count", "layer ", i, " has ", layer.heads,
                    " heads, not a multiple of its ", layer.kv_heads, " KV heads");
    layer.window = windowed[i] ? window : 0;
    layer.head_dim = layer.window > 0 ? window_head_dim : head_dim;
    const bool without =
        family.no_rope_interval > 0 && (i + 1) % static_cast<uint64_t>(family.no_rope_interval) == 0;
    // Without a base of its own, a layer with a window rotates as the others.
    const bool own_rope = layer.window > 0 && (family.window_rope_base > 0 || keys.has("rope.freq_base_swa"));
    layer.rope = !family.rope || without ? -1 : own_rope ? 1 : 0;
    config.layers.push_back(layer);
  }
  share_kv(keys, config.layers);
}

void read_recurrence(const Keys& keys, Config& config) {
  if (config.family->short_convolution)
    config.convolution_taps = static_cast<int64_t>(keys.size("shortconv.l_cache", kMaxTaps));
  if (!config.family->delta_net) return;
  config.convolution_taps = static_cast<int64_t>(keys.size("ssm.conv_kernel", kMaxTaps));
  const auto inner = static_cast<int64_t>(keys.size("ssm.inner_size", kMaxWidth));
  DeltaNetConfig& delta = config.delta_net;
  delta.heads = static_cast<int64_t>(keys.size("ssm.time_step_rank", kMaxHeads));
  delta.key_heads = static_cast<int64_t>(keys.size("ssm.group_count", kMaxHeads));
  delta.key_dim = static_cast<int64_t>(keys.size("ssm.state_size", kMaxHeadDim));
  delta.value_dim = inner / delta.heads;
  if (inner % delta.heads != 0 || delta.value_dim % 8 != 0 || delta.value_dim == 0)
    keys.fail_key(Code::bad_format, "ssm.inner_size", "expected a multiple of 8 for each of ", delta.heads,
                  " heads, got ", inner);
  if (delta.heads % delta.key_heads != 0)
    keys.fail_key(Code::bad_format, "ssm.time_step_rank", "expected a multiple of the ", delta.key_heads,
                  " groups, got ", delta.heads);
  if (delta.key_dim % 8 != 0)
    keys.fail_key(Code::unsupported, "ssm.state_size", "expected a multiple of 8, got ", delta.key_dim);
}

void read_scales(const Keys& keys, Config& config) {
  const Family& family = *config.family;
  const double dim = static_cast<double>(config.dim), heads = static_cast<double>(config.layers[0].heads);
  const double embedding = family.scaled_embedding ? std::sqrt(dim) : 1.0;
  config.embedding_scale = static_cast<float>(keys.positive("embedding_scale", embedding));
  config.residual_scale = static_cast<float>(keys.positive("residual_scale", 1.0));
  const double logit = keys.positive("logit_scale", 1.0);
  config.logit_scale = static_cast<float>(family.divides_logits ? 1.0 / logit : logit);
  const bool wide = std::cmp_equal(family.wide_scale_layers, config.layers.size());
  config.attention_scale = keys.positive_or_zero(
      "attention.scale", wide ? 1.0 / std::sqrt(std::floor(dim / heads)) : family.attention_scale);
  config.attention_softcap =
      static_cast<float>(keys.positive_or_zero("attn_logit_softcapping", family.attention_softcap));
  config.logit_softcap =
      static_cast<float>(keys.positive_or_zero("final_logit_softcapping", family.logit_softcap));
  config.temperature_scale = keys.positive_or_zero("attention.temperature_scale", 0.0);
  if (!config.ropes.empty()) config.temperature_length = config.ropes[0].original_context;
}

// The values are llama.cpp's: 0 none, 1 mean, 2 cls, 3 last, 4 rank.
Pooling read_pooling(const Keys& keys) {
  constexpr auto kLast = static_cast<uint64_t>(Pooling::rank);
  const uint64_t type = keys.size_or_zero("pooling_type", UINT32_MAX);
  if (type > kLast)
    keys.fail_key(Code::unsupported, "pooling_type",
                  "expected 0 (none), 1 (mean), 2 (cls), 3 (last) or 4 (rank), got ", type);
  return type == 0 ? Pooling::mean : static_cast<Pooling>(type);
}

}  // namespace

double Config::scale_of(const LayerConfig& layer) const {
  return attention_scale > 0 ? attention_scale : 1.0 / std::sqrt(static_cast<double>(layer.head_dim));
}

float Config::query_factor(int64_t position) const {
  const double steps = std::floor(static_cast<double>(position) / std::max(1.0, temperature_length));
  return static_cast<float>(1.0 + temperature_scale * std::log1p(steps));
}

bool Config::is_recurrent() const {
  return std::ranges::any_of(layers,
                             [](const LayerConfig& layer) { return layer.mixer != Mixer::attention; });
}

size_t Config::last_state_layer() const {
  size_t last = layers.size() - 1;
  while (last > 0 && layers[last].mixer == Mixer::attention && !stores_kv(last)) --last;
  return last;
}

uint64_t Config::kv_bytes_per_token() const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < layers.size(); ++i)
    if (stores_kv(i))
      bytes += static_cast<uint64_t>(layers[i].kv_heads) * kv_page_size(KvType::f16, layers[i].head_dim);
  return bytes / kKvPageTokens;
}

Config Config::read(const gguf::File& file) {
  Config config{};
  config.architecture = std::string(file.get_string("general.architecture"));
  config.family = &family_of(file, config.architecture);
  const Keys keys(file, config.architecture);
  if (keys.size_or_zero("expert_count", kMaxWidth) != 0)
    keys.fail_key(Code::unsupported, "expert_count", "expected 0; mixtures of experts are not supported");

  config.dim = static_cast<int64_t>(keys.size("embedding_length", kMaxWidth));
  config.context = static_cast<int64_t>(keys.size("context_length", kMaxContext));
  config.causal = keys.boolean("attention.causal", config.family->causal);
  config.norm_epsilon =
      static_cast<float>(config.family->layer_norm ? keys.positive("attention.layer_norm_epsilon", 1e-12)
                                                   : keys.positive("attention.layer_norm_rms_epsilon", 1e-5));
  read_layers(keys, config);
  read_recurrence(keys, config);
  read_scales(keys, config);
  config.per_layer_dim =
      static_cast<int64_t>(keys.size_or_zero("embedding_length_per_layer_input", kMaxWidth));
  // A file with YaRN may have the context from before the extension.
  if (!config.ropes.empty() && config.ropes[0].scaling == RopeConfig::Scaling::yarn)
    config.context =
        std::max(config.context,
                 static_cast<int64_t>(std::min(config.ropes[0].factor * config.ropes[0].original_context,
                                               static_cast<double>(kMaxContext))));

  config.pooling = read_pooling(keys);

  const gguf::TensorInfo* embedding = file.find_tensor("token_embd.weight");
  if (!embedding)
    fail(Code::bad_format, file.path(), ": tensor 'token_embd.weight' is missing; expected a row of ",
         config.dim, " columns for each token");
  config.vocabulary = checked_cast<int32_t>(embedding->rows(), "rows of token_embd.weight");
  return config;
}

}  // namespace binhdan::model
