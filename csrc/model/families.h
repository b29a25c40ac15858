// What a family of models is, besides the numbers in the keys of its files. A family is one row of data; the
// forward pass has no code for a family.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/kernels.h"

namespace binhdan::model {

// Where a layer normalises.
enum class NormPlaces : uint8_t {
  before,            // x += f(norm(x))
  before_and_after,  // x += norm(f(norm(x)))
  after_sum,         // x = norm(x + f(x))
};

struct Family {
  const char* name;  // general.architecture

  // Norms
  bool layer_norm = false;  // LayerNorm with mean and bias; else RMS norm
  NormPlaces norms = NormPlaces::before;
  const char* ffn_norm = "ffn_norm";        // name of the norm before the feed-forward network
  const char* output_norm = "output_norm";  // name of the final norm; nullptr: none
  bool qk_norm = false;                     // RMS norm of every query and key head
  bool v_norm = false;                      // RMS norm of every value head, without weights

  // Attention
  bool causal = true;
  bool requires_qkv_bias = false;  // else biases are optional
  bool gated_attention = false;    // attn_q contains a gate after each query head: output * sigmoid(gate)
  double attention_scale = 0;      // factor of q . k; 0: 1 / sqrt(head_dim)
  int64_t wide_scale_layers = 0;   // models of this many layers: 1 / sqrt(embedding_length / heads)

  // Windows: if window_pattern is n, every n-th layer sees all positions and the others a window. A file may
  // have the key attention.sliding_window_pattern instead. 0: a window applies to all layers.
  int64_t window_pattern = 0;
  int64_t window = 0;           // if the file has no key attention.sliding_window
  double window_rope_base = 0;  // RoPE base of layers with a window, if the file has no key; 0: as the others

  // RoPE
  bool rope = true;
  bool rope_neox = true;         // rotates pairs (i, i + dim / 2); else (2i, 2i + 1)
  int64_t no_rope_interval = 0;  // every n-th layer has no RoPE; 0: all have

  // Feed-forward network
  Nonlinearity activation = Nonlinearity::silu;
  bool gated_ffn = true;  // f(gate) * up; else f(up)

  // Embeddings and outputs
  bool scaled_embedding = false;                    // times sqrt(embedding_length)
  bool position_embedding = false;                  // adds absolute positions and token types, then a norm
  bool has_logits = true;                           // false: an encoder without an output matrix
  bool divides_logits = false;                      // by the key logit_scale
  double attention_softcap = 0, logit_softcap = 0;  // if the file has no keys; 0: none

  // Recurrent layers
  bool short_convolution = false;  // layers without KV heads are gated short convolutions (LFM2)
  bool delta_net = false;          // all layers but every n-th are gated delta nets (Qwen3.5)
};

// Returns nullptr if there is no family of this name.
const Family* find_family(std::string_view name);
// The names of all families, separated by ", ".
std::string supported_architectures();

}  // namespace binhdan::model
