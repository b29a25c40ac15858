#include "model/families.h"

namespace binhdan::model {
namespace {

// Facts from the reference implementations (transformers, llama.cpp).
constexpr Family kFamilies[] = {
    {.name = "llama", .rope_neox = false},
    {.name = "qwen2", .requires_qkv_bias = true},
    {.name = "qwen3", .qk_norm = true},
    {.name = "qwen35",
     .ffn_norm = "post_attention_norm",
     .qk_norm = true,
     .gated_attention = true,
     .delta_net = true},
    {.name = "gemma", .activation = Nonlinearity::gelu_tanh, .scaled_embedding = true},
    {.name = "gemma2",
     .norms = NormPlaces::before_and_after,
     .wide_scale_layers = 46,
     .window_pattern = 2,
     .window = 4096,
     .activation = Nonlinearity::gelu_tanh,
     .scaled_embedding = true,
     .attention_softcap = 50,
     .logit_softcap = 30},
    {.name = "gemma3",
     .norms = NormPlaces::before_and_after,
     .qk_norm = true,
     .wide_scale_layers = 62,
     .window_pattern = 6,
     .window_rope_base = 10000,
     .activation = Nonlinearity::gelu_tanh,
     .scaled_embedding = true},
    {.name = "gemma-embedding",
     .norms = NormPlaces::before_and_after,
     .qk_norm = true,
     .causal = false,
     .window_pattern = 6,
     .window_rope_base = 10000,
     .activation = Nonlinearity::gelu_tanh,
     .scaled_embedding = true,
     .has_logits = false},
    {.name = "gemma4",
     .norms = NormPlaces::before_and_after,
     .qk_norm = true,
     .v_norm = true,
     .attention_scale = 1,
     .window_pattern = 6,
     .window_rope_base = 10000,
     .activation = Nonlinearity::gelu_tanh,
     .scaled_embedding = true,
     .logit_softcap = 30},
    {.name = "phi3"},
    {.name = "smollm3", .rope_neox = false, .no_rope_interval = 4},
    {.name = "granite", .rope_neox = false, .divides_logits = true},
    {.name = "mistral3", .rope_neox = false},
    {.name = "lfm2", .output_norm = "token_embd_norm", .qk_norm = true, .short_convolution = true},
    {.name = "bert",
     .layer_norm = true,
     .norms = NormPlaces::after_sum,
     .output_norm = nullptr,
     .causal = false,
     .rope = false,
     .activation = Nonlinearity::gelu,
     .gated_ffn = false,
     .position_embedding = true,
     .has_logits = false},
};

}  // namespace

const Family* find_family(std::string_view name) {
  for (const Family& family : kFamilies)
    if (name == family.name) return &family;
  return nullptr;
}

std::string supported_architectures() {
  std::string names;
  for (const Family& family : kFamilies) {
    if (!names.empty()) names += ", ";
    names += family.name;
  }
  return names;
}

}  // namespace binhdan::model
