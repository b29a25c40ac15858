// The descriptor of a model and of each layer, read from GGUF keys. The forward pass reads only descriptors.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gguf/reader.h"
#include "model/families.h"
#include "model/rope.h"

namespace binhdan::model {

// What mixes the positions of a sequence in a layer.
enum class Mixer : uint8_t { attention, short_convolution, delta_net };

// How the final hidden states of a text's tokens become one embedding. `rank`: a classifier on one of them
// returns a score instead.
enum class Pooling { none, mean, cls /* the first token */, last, rank };
inline constexpr const char* kPoolingNames[] = {"none", "mean", "cls", "last", "rank"};

struct LayerConfig {
  Mixer mixer = Mixer::attention;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;  // attention
  int64_t window = 0;                             // positions that a row sees; 0: all
  int rope = -1;                                  // index in Config::ropes; -1: no RoPE
  int64_t kv_layer = 0;  // the layer whose keys and values it reads: this one, or one before it
  int64_t ffn = 0;       // width of the feed-forward network
};

// Gated delta net (Yang et al. 2024). Value head h uses key head h % key_heads.
struct DeltaNetConfig {
  int64_t heads, key_heads, key_dim, value_dim;

  int64_t key_width() const { return key_heads * key_dim; }
  int64_t value_width() const { return heads * value_dim; }
  int64_t channels() const { return 2 * key_width() + value_width(); }  // of the convolution: q, k, v
};

struct Config {
  std::string architecture;
  const Family* family;
  int64_t dim;      // width of hidden states
  int64_t context;  // context length, in tokens
  int64_t vocabulary;
  bool causal;      // false: an encoder, whose tokens attend to all tokens of the text
  Pooling pooling;  // mean when the file has no key, or none
  float norm_epsilon;

  float embedding_scale, residual_scale, logit_scale;  // factors
  double attention_scale;                              // factor of q . k; 0: 1 / sqrt(head_dim)
  float attention_softcap, logit_softcap;              // x becomes cap * tanh(x / cap); 0: none
  // Queries at position p are multiplied by 1 + scale * log(1 + floor(p / length)); scale 0: no factor.
  double temperature_scale, temperature_length;

  std::vector<RopeConfig> ropes;
  std::vector<LayerConfig> layers;
  int64_t unused_layers;     // at the end of the file: they predict further tokens (MTP)
  int64_t convolution_taps;  // of short_convolution and delta_net layers
  DeltaNetConfig delta_net;
  int64_t per_layer_dim;  // width of each layer's own input embedding (Gemma 4); 0: none

  double scale_of(const LayerConfig& layer) const;
  // The factor of queries at a position (temperature_scale).
  float query_factor(int64_t position) const;
  bool stores_kv(size_t layer) const {
    return layers[layer].mixer == Mixer::attention && layers[layer].kv_layer == static_cast<int64_t>(layer);
  }
  bool is_recurrent() const;
  // The last layer that stores keys and values or has a recurrent state: all rows of a prompt go through
  // it; later layers compute only rows that need an output.
  size_t last_state_layer() const;
  // Bytes of one token's F16 keys and values in all layers.
  uint64_t kv_bytes_per_token() const;
  // Throws Error that names the key: unsupported for an architecture or a feature that the forward pass
  // lacks, bad_format for an invalid value.
  static Config read(const gguf::File& file);
};

}  // namespace binhdan::model
