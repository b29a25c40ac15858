// From GGUF keys to a descriptor of the model and of each layer. The forward pass reads descriptors only,
// never keys.
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
  bool neox;    // pairs (i, i + dim/2); else neighbours (2i, 2i + 1)
  double base;
  enum class Scaling { none, linear, yarn } scaling;
  double factor;            // positions are stretched by this
  double original_context;  // YaRN (Peng et al. 2023) and below
  double attention_factor;
  double beta_fast, beta_slow;
};

struct LayerConfig {
  int64_t heads, kv_heads, head_dim;
  int64_t ffn;    // width of the feed-forward part
  bool qkv_bias;  // must be there; where it need not, it may
  bool qk_norm;   // RMS norm of every query and key head
};

struct Config {
  std::string architecture;
  int64_t dim;      // width of hidden states
  int64_t context;  // tokens it was trained for
  int64_t vocabulary;
  float norm_epsilon;
  RopeConfig rope;
  std::vector<LayerConfig> layers;

  // F16 keys and values of one token in all layers, as pages keep them.
  uint64_t kv_bytes_per_token() const;
  // Throws Error naming the key: unsupported for an architecture or a feature that the forward pass lacks,
  // bad_format for values that cannot be.
  static Config read(const gguf::File& file);
};

// Architectures that the forward pass can run, separated by ", ".
std::string supported_architectures();

// What cos and sin are taken of: the angle of pair i at position p is p * frequencies[i]; both are
// multiplied by magnitude.
struct RopeFrequencies {
  std::vector<double> frequencies;  // (dim / 2)
  double magnitude;
};
// factors: (dim / 2) divisors from the tensor rope_freqs.weight (Llama 3's scaling), or empty.
RopeFrequencies rope_frequencies(const RopeConfig& rope, std::span<const float> factors);

}  // namespace binhdan::model
