#include "model/memory.h"

#include <algorithm>

namespace binhdan::model {
namespace {

constexpr uint64_t kBytesPerRank = 3 << 20;  // pieces of products, partial sums, scratch memory of kernels

}  // namespace

uint64_t buffer_bytes(const Config& config, int64_t rows, int64_t outputs, int threads) {
  int64_t attended = config.dim, mixed = 0, kv = 0, ffn = 0;
  for (const LayerConfig& layer : config.layers) {
    ffn = std::max(ffn, layer.ffn);
    switch (layer.mixer) {
      case Mixer::attention:
        attended = std::max(attended, layer.heads * layer.head_dim);
        kv = std::max(kv, layer.kv_heads * layer.head_dim);
        if (config.family->gated_attention) mixed = std::max(mixed, 2 * layer.heads * layer.head_dim);
        break;
      case Mixer::short_convolution:
        mixed = std::max(mixed, 3 * config.dim);
        break;
      case Mixer::delta_net:
        attended = std::max(attended, config.delta_net.value_width());
        mixed = std::max(mixed, config.delta_net.channels());
        break;
    }
  }
  // Floats of a row: residual stream, queries, keys and values, outputs of mixers, inputs of the layers.
  const int64_t floats =
      2 * config.dim + 3 * attended + 2 * kv + mixed + std::ssize(config.layers) * config.per_layer_dim;
  // Quantized activations have 48 bytes for 32 values: of the layer, of the output rows, of the network.
  const int64_t quantized = (2 * attended + ffn) * 48 / 32;
  return static_cast<uint64_t>(rows * (floats * 4 + quantized) + outputs * config.vocabulary * 4) +
         static_cast<uint64_t>(threads) * kBytesPerRank;
}

}  // namespace binhdan::model
