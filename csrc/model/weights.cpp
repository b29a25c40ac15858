#include "model/weights.h"

#include <string>
#include <unordered_set>

#include "base/checked.h"
#include "base/thread_pool.h"
#include "kernels/codec.h"

namespace binhdan::model {

// Takes tensors from the file by name, and knows in the end which were never asked for.
class Loader {
 public:
  Loader(const gguf::File& file, const KernelTable& table, int threads, Weights& into)
      : file_(file), table_(table), pool_(threads), into_(into) {}

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

  Matrix matrix(const std::string& name, int64_t rows, int64_t cols) {
    const gguf::TensorInfo& tensor = take(name, rows, cols);
    const MatmulKernel& kernel = table_.matmul[static_cast<uint32_t>(tensor.type)];
    Matrix matrix{.kernel = &kernel, .rows = rows, .cols = cols, .data = file_.data(tensor).data()};
    if (kernel.pack) {
      Buffer packed(kernel.packed_size(rows, cols));
      pool_.run([&](Team& team) {
        const auto [begin, end] = team.share(rows, kernel.panel_rows);
        if (begin < end) kernel.pack(packed.as<void>(), matrix.data, rows, cols, begin, end);
      });
      matrix.data = keep(std::move(packed));
      file_.check_intact();
      file_.release(tensor);
    } else {
      into_.mapped = true;
    }
    into_.bytes += matrix.bytes();
    return matrix;
  }

  Vector vector(const std::string& name, int64_t n) {
    const gguf::TensorInfo& tensor = take(name, 1, n);
    Buffer values(static_cast<size_t>(n) * sizeof(float));
    decode_row(tensor.type)(values.as<float>(), file_.data(tensor).data(), n);
    file_.check_intact();
    into_.bytes += values.size();
    return static_cast<const float*>(keep(std::move(values)));
  }
  Vector vector_if(bool required, const std::string& name, int64_t n) {
    return required || has(name) ? vector(name, n) : nullptr;
  }

  void check_all_taken() const {
    for (const gguf::TensorInfo& tensor : file_.tensors())
      if (!taken_.contains(tensor.name))
        fail(Code::unsupported, "tensor ", tensor.name, ": the architecture has no use for it");
  }

 private:
  const gguf::TensorInfo& take(const std::string& name, int64_t rows, int64_t cols) {
    const gguf::TensorInfo* tensor = file_.find_tensor(name);
    if (!tensor) fail(Code::bad_format, "tensor ", name, " is missing");
    if (tensor->cols() != static_cast<uint64_t>(cols) || tensor->rows() != static_cast<uint64_t>(rows))
      fail(Code::bad_format, "tensor ", name, ": expected ", rows, " rows of ", cols, ", got ",
           tensor->rows(), " of ", tensor->cols());
    if (taken_.insert(name).second)
      into_.parameters += static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols);
    return *tensor;
  }
  const void* keep(Buffer buffer) {
    into_.memory_.push_back(std::move(buffer));
    return into_.memory_.back().as<void>();
  }

  const gguf::File& file_;
  const KernelTable& table_;
  ThreadPool pool_;
  Weights& into_;
  std::unordered_set<std::string> taken_;
};

namespace {

LayerWeights load_layer(Loader& loader, const LayerConfig& layer, int64_t dim, size_t index) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const int64_t q_rows = layer.heads * layer.head_dim, kv_rows = layer.kv_heads * layer.head_dim;
  LayerWeights w{};
  w.attention_norm = loader.vector(prefix + "attn_norm.weight", dim);
  w.q = loader.matrix(prefix + "attn_q.weight", q_rows, dim);
  w.k = loader.matrix(prefix + "attn_k.weight", kv_rows, dim);
  w.v = loader.matrix(prefix + "attn_v.weight", kv_rows, dim);
  w.q_bias = loader.vector_if(layer.qkv_bias, prefix + "attn_q.bias", q_rows);
  w.k_bias = loader.vector_if(layer.qkv_bias, prefix + "attn_k.bias", kv_rows);
  w.v_bias = loader.vector_if(layer.qkv_bias, prefix + "attn_v.bias", kv_rows);
  if (layer.qk_norm) {
    w.q_norm = loader.vector(prefix + "attn_q_norm.weight", layer.head_dim);
    w.k_norm = loader.vector(prefix + "attn_k_norm.weight", layer.head_dim);
  }
  w.attention_output = loader.matrix(prefix + "attn_output.weight", dim, q_rows);
  w.ffn_norm = loader.vector(prefix + "ffn_norm.weight", dim);
  w.gate = loader.matrix(prefix + "ffn_gate.weight", layer.ffn, dim);
  w.up = loader.matrix(prefix + "ffn_up.weight", layer.ffn, dim);
  w.down = loader.matrix(prefix + "ffn_down.weight", dim, layer.ffn);
  return w;
}

}  // namespace

Weights Weights::load(const gguf::File& file, const Config& config, const KernelTable& table, int threads) {
  Weights weights;
  Loader loader(file, table, threads, weights);
  weights.embedding = loader.matrix("token_embd.weight", config.vocabulary, config.dim);
  for (size_t i = 0; i < config.layers.size(); ++i)
    weights.layers.push_back(load_layer(loader, config.layers[i], config.dim, i));
  weights.output_norm = loader.vector("output_norm.weight", config.dim);
  weights.output = loader.has("output.weight") ? loader.matrix("output.weight", config.vocabulary, config.dim)
                                               : weights.embedding;
  const int64_t pairs = config.rope.dim / 2;
  const Vector factors = loader.vector_if(false, "rope_freqs.weight", pairs);
  weights.rope = rope_frequencies(
      config.rope, factors ? std::span(factors, static_cast<size_t>(pairs)) : std::span<const float>());
  loader.check_all_taken();
  return weights;
}

uint64_t Weights::bytes_per_token() const {
  uint64_t sum = output.bytes();
  for (const LayerWeights& w : layers)
    for (const Matrix* matrix : {&w.q, &w.k, &w.v, &w.attention_output, &w.gate, &w.up, &w.down})
      sum += matrix->bytes();
  return sum;
}

}  // namespace binhdan::model
