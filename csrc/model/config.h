// The descriptor of a model and of each layer, read from GGUF keys. The forward pass reads only descriptors.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "gguf/reader.h"

namespace binhdan::model {

// Rotary position embedding (Su et al. 2021) with its scalings.
struct RopeConfig {
  int64_t dim;  // rotated dimensions of a head, even
  bool neox;    // rotates pairs (i, i + dim/2); else (2i, 2i + 1)
  double base;
  enum class Scaling { none, linear, yarn } scaling;
  double factor;            // divides positions
  double original_context;  // YaRN (Peng et al. 2023), as the fields below
  double attention_factor;
  double beta_fast, beta_slow;
};

// How the final hidden states of a text's tokens become one embedding. `rank`: a classifier on one of them
// returns a score instead.
enum class Pooling { none, mean, cls /* the first token */, last, rank };

struct LayerConfig {
  int64_t heads, kv_heads, head_dim;
  int64_t ffn;             // width of the feed-forward network
  bool requires_qkv_bias;  // false: the biases of Q, K and V are optional
  bool qk_norm;            // RMS norm of every query and key head
};

struct Config {
  std::string architecture;
  int64_t dim;      // width of hidden states
  int64_t context;  // trained context length, in tokens
  int64_t vocabulary;
  float norm_epsilon;
  bool causal;      // false: an encoder, whose tokens attend to all tokens of the text
  Pooling pooling;  // mean when the file has no key
  RopeConfig rope;
  std::vector<LayerConfig> layers;

  // Bytes of one token's F16 keys and values in all layers.
  uint64_t kv_bytes_per_token() const;
  // Throws Error that names the key: unsupported for an architecture or a feature that the forward pass
  // lacks, bad_format for an invalid value.
  static Config read(const gguf::File& file);
};

// The architectures that the forward pass supports, separated by ", ".
std::string supported_architectures();

// The angle of pair i at position p is p * frequencies[i]; its cosine and sine are multiplied by `magnitude`.
struct RopeFrequencies {
  std::vector<double> frequencies;  // (dim / 2)
  double magnitude;
};
// factors: (dim / 2) divisors from the tensor rope_freqs.weight (Llama 3's scaling), or empty.
RopeFrequencies rope_frequencies(const RopeConfig& rope, std::span<const float> factors);

}  // namespace binhdan::model
