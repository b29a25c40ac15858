// The tensors of a model, with checked shapes, packed for one kernel table.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/file_map.h"
#include "gguf/reader.h"
#include "kernels/codec.h"
#include "model/classifier.h"
#include "model/config.h"
#include "ops/matmul.h"

namespace binhdan::model {

using ops::Matrix;
using Vector = const float*;  // owned by Weights; nullptr when the model has none

struct Norm {
  Vector weight = nullptr, bias = nullptr;  // (n)
};

// Rows in the file map that are only looked up, not multiplied with.
struct Lookup {
  DecodeRow decode = nullptr;
  const std::byte* data = nullptr;
  size_t row_bytes = 0;
  int64_t cols = 0;

  void get_row(float* dst, int64_t row) const {
    decode(dst, data + static_cast<size_t>(row) * row_bytes, cols);
  }
};

// Input embeddings of the layers (Gemma 4); p = per_layer_dim.
struct PerLayerWeights {
  Lookup embedding;   // (vocabulary, layers * p)
  Matrix projection;  // (layers * p, dim) of the token's embedding
  Norm norm;          // (p)
};

// A linear layer after pooling.
struct Dense {
  int64_t rows, cols;
  Vector weight;  // (rows, cols)
};

struct LayerWeights {
  // before the mixer and after it; of the sum in families with NormPlaces::after_sum
  Norm attention_norm, post_attention_norm;  // (dim)

  // attention
  Matrix q, k, v;  // (heads * head_dim, dim), twice as many rows with gates; (kv_heads * head_dim, dim)
  Vector q_bias, k_bias, v_bias;
  Vector q_norm, k_norm;  // (head_dim)

  // short convolution and delta net; c = channels
  Matrix convolution_input;  // (3 * dim, dim); (c, dim)
  Vector convolution;        // (taps, c)
  Matrix z;                  // (heads * value_dim, dim) gates of the output
  Matrix alpha, beta;        // (heads, dim)
  Vector decay, time_bias;   // (heads)
  Vector value_norm;         // (value_dim)

  // of every mixer
  Matrix attention_output;  // (dim, width of the mixer)
  Vector attention_output_bias;

  // feed-forward network
  Norm ffn_norm, post_ffn_norm;  // (dim)
  Matrix gate, up;               // (ffn, dim); no gate if the family has none
  Matrix down;                   // (dim, ffn)
  Vector gate_bias, up_bias, down_bias;

  // input embedding of the layer
  Matrix input_gate, input_projection;  // (p, dim), (dim, p)
  Norm post_input_norm;                 // (dim)

  float output_scale = 1;  // of the residual stream after the layer

  // Calls visit(matrix) for every matrix that the layer has.
  template <typename Visit>
  void for_each_matrix(const Visit& visit) const {
    for (const Matrix* matrix : {&q, &k, &v, &convolution_input, &z, &alpha, &beta, &attention_output, &gate,
                                 &up, &down, &input_gate, &input_projection})
      if (matrix->rows > 0) visit(*matrix);
  }
};

struct LoadOptions {
  int threads = 1;                     // that pack the weights; 0: check the tensors without packing them
  const KernelTable* table = nullptr;  // instead of the one that the name selects: a table of another program
  bool use_pack_file = true;           // if there is one beside the file (pack_file.h)
  std::optional<uint64_t> available_memory =
      std::nullopt;  // bytes that the weights may take; nullopt: no limit
  // Called on the caller's thread with the packed part of the weights, 0 to 1. False ends the loading.
  std::function<bool(float)> progress = nullptr;
};

class Weights {
 public:
  // Maps the pack file, or packs the weights and releases the file's pages that it has copied. Calls
  // `run_on_caller` on the caller's thread while the other threads pack. Throws Error that names a tensor that
  // is missing, unknown or of the wrong shape, or Error(out_of_memory) before it allocates too much.
  static Weights load(const gguf::File& file, const Config& config, const KernelTable& table,
                      const LoadOptions& options, const std::function<void()>& run_on_caller = {});

  // Writes the pack file of `file`, of which these are the weights. They must be packed, not mapped.
  void write_pack_file(const gguf::File& file, const std::string& path) const;
  // Throws Error(io) if the pack file in use was truncated.
  void check_intact() const {
    if (pack_map_) pack_map_->check_intact();
  }

  void get_embedding(float* dst, int64_t token) const {
    tied ? output.get_row(dst, token) : embedding.get_row(dst, token);
  }

  // pooled: (dim). Returns the embedding, (embedding_size()).
  std::vector<double> project_embedding(std::vector<double> pooled) const;
  int64_t embedding_size(const Config& config) const {
    return projections.empty() ? config.dim : projections.back().rows;
  }

  bool tied = false;             // the embedding is the output matrix
  Lookup embedding;              // (vocabulary, dim) if not tied
  Lookup position_embedding;     // (context, dim)
  Vector token_types = nullptr;  // (types, dim); texts are of type 0, the second of a pair of type 1
  bool has_second_type = false;
  Norm embedding_norm;  // (dim)
  PerLayerWeights per_layer;
  std::vector<LayerWeights> layers;
  Norm output_norm;  // (dim)
  Matrix output;     // (vocabulary, dim); none in an encoder
  // Divisors of RoPE frequencies (rope dim / 2): for all contexts, or for contexts beyond the original one
  // and up to it.
  Vector rope_factors = nullptr, long_rope_factors = nullptr, short_rope_factors = nullptr;
  std::vector<Dense> projections;  // of the pooled hidden states (EmbeddingGemma)
  Classifier classifier;           // Pooling::rank
  uint64_t parameters = 0;
  bool loaded = false;        // not with LoadOptions::threads = 0: for the vocabulary alone
  uint64_t bytes = 0;         // in private memory or in a file map
  uint64_t needed_bytes = 0;  // of them, all but rows that are only looked up: decoding one token reads them
  bool mapped = false;        // some weights are in the file map
  bool from_pack_file = false;
  uint64_t mapped_bytes = 0;  // of needed_bytes, those in a file map: the system may drop and read them again

  // Bytes of all matrices that decoding one token reads.
  uint64_t bytes_per_token() const;

 private:
  std::vector<Buffer> memory_;
  std::span<const std::byte> packed_;  // in memory_ or in pack_map_
  uint64_t packed_layout_ = 0;
  std::unique_ptr<FileMap> pack_map_;
  friend class Loader;
};

}  // namespace binhdan::model
