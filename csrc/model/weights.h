// The tensors of a model, with checked shapes, packed for one kernel table.
#pragma once
#include <cstdint>
#include <functional>
#include <vector>

#include "base/buffer.h"
#include "gguf/reader.h"
#include "model/config.h"
#include "ops/matmul.h"

namespace binhdan::model {

using ops::Matrix;
using Vector = const float*;  // owned by Weights; nullptr when the model has none

struct LayerWeights {
  Vector attention_norm;  // (dim)
  Matrix q, k, v;         // (heads * head_dim, dim), (kv_heads * head_dim, dim) twice
  Vector q_bias, k_bias, v_bias;
  Vector q_norm, k_norm;    // (head_dim)
  Matrix attention_output;  // (dim, heads * head_dim)
  Vector ffn_norm;          // (dim)
  Matrix gate, up;          // (ffn, dim)
  Matrix down;              // (dim, ffn)
};

class Weights {
 public:
  // Packs with `threads` threads (0: checks the tensors without packing them) and releases the file's pages that it has copied. Calls `run_on_caller` on
  // the caller's thread while the other threads pack. Throws Error that names a tensor that is missing,
  // unknown or of the wrong shape.
  static Weights load(const gguf::File& file, const Config& config, const KernelTable& table, int threads,
                      const std::function<void()>& run_on_caller = {});

  Matrix embedding;  // (vocabulary, dim)
  std::vector<LayerWeights> layers;
  Vector output_norm;  // (dim)
  Matrix output;       // (vocabulary, dim); equals `embedding` when the model ties them
  RopeFrequencies rope;
  uint64_t parameters = 0;
  uint64_t bytes = 0;   // in private memory or in the file map
  bool mapped = false;  // some weights are in the file map

  // Bytes of all matrices that decoding one token reads: all except an untied embedding.
  uint64_t bytes_per_token() const;

 private:
  std::vector<Buffer> memory_;
  friend class Loader;
};

}  // namespace binhdan::model
