#include "model/weights.h"

#include <algorithm>
#include <string>
#include <unordered_set>

#include "base/checked.h"
#include "base/thread_pool.h"
#include "base/utf8.h"
#include "kernels/codec.h"

namespace binhdan::model {

// Takes tensors from the file by name. pack_all() checks that all were taken, and packs the matrices.
class Loader {
 public:
  Loader(const gguf::File& file, const Config& config, const KernelTable& table, Weights& into)
      : file_(file), architecture_(config.architecture), table_(table), into_(into) {}

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

  // `matrix` must not move before pack_all().
  void take_matrix(Matrix& matrix, const std::string& name, int64_t rows, int64_t cols) {
    const gguf::TensorInfo& tensor = take(name, rows, cols);
    const MatmulKernel& kernel = table_.matmul[static_cast<uint32_t>(tensor.type)];
    matrix = {.kernel = &kernel, .rows = rows, .cols = cols, .data = file_.data(tensor).data()};
    if (kernel.pack)
      to_pack_.push_back({&matrix, &tensor, 0});
    else
      into_.mapped = true;
    into_.bytes += matrix.bytes();
  }

  Vector vector(const std::string& name, int64_t n) {
    const gguf::TensorInfo& tensor = take(name, 1, n);
    Buffer values(static_cast<size_t>(n) * sizeof(float));
    decode_row(tensor.type)(values.as<float>(), file_.data(tensor).data(), n);
    into_.bytes += values.size();
    into_.memory_.push_back(std::move(values));
    return into_.memory_.back().as<const float>();
  }
  Vector vector_if(bool required, const std::string& name, int64_t n) {
    return required || has(name) ? vector(name, n) : nullptr;
  }

  // Packs piece by piece and releases the file's pages after each, so that the memory stays near that of one
  // copy. Rank 0, the caller's thread, runs `run_on_caller` first; the other ranks take over its pieces.
  void pack_all(int threads, const std::function<void()>& run_on_caller) {
    check_all_taken();
    if (threads == 0) return;
    const Buffer& packed = into_.memory_.emplace_back(allocate_packed());
    const std::vector<Piece> pieces = make_pieces();
    ThreadPool(threads).run([&](Team& team) {
      if (team.rank() == 0 && run_on_caller) run_on_caller();
      team.distribute(static_cast<int64_t>(pieces.size()), 1, 1,
                      [&](int64_t i, int64_t) { pack(pieces[static_cast<size_t>(i)], packed); });
    });
    file_.check_intact();
    for (const ToPack& item : to_pack_) {
      item.matrix->data = packed.as<std::byte>() + item.offset;
      file_.release(*item.tensor, 0, item.tensor->bytes);  // the pages between two pieces
    }
  }

 private:
  struct ToPack {
    Matrix* matrix;
    const gguf::TensorInfo* tensor;
    size_t offset;  // in the packed memory
  };
  struct Piece {
    const ToPack* item;
    Range rows;
  };
  static constexpr uint64_t kPieceBytes = 1 << 20;

  const gguf::TensorInfo& take(const std::string& name, int64_t rows, int64_t cols) {
    const gguf::TensorInfo* tensor = file_.find_tensor(name);
    if (!tensor)
      fail(Code::bad_format, file_.path(), ": tensor '", name, "' is missing; architecture ", architecture_,
           " requires it, with ", rows, " rows of ", cols, " columns");
    if (tensor->cols() != static_cast<uint64_t>(cols) || tensor->rows() != static_cast<uint64_t>(rows))
      fail(Code::bad_format, file_.path(), ": tensor '", name, "': expected ", rows, " rows of ", cols,
           " columns, got ", tensor->rows(), " rows of ", tensor->cols());
    if (taken_.insert(name).second)
      into_.parameters += static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols);
    return *tensor;
  }

  void check_all_taken() const {
    for (const gguf::TensorInfo& tensor : file_.tensors())
      if (!taken_.contains(tensor.name))
        fail(Code::unsupported, file_.path(), ": tensor ", quote_name(tensor.name), ": architecture ",
             architecture_, " has no tensor of this name");
  }

  // One buffer for all matrices, in the order in which the forward pass reads them.
  Buffer allocate_packed() {
    size_t size = 0;
    for (ToPack& item : to_pack_) {
      item.offset = size;
      size += (item.matrix->bytes() + kCacheLine - 1) / kCacheLine * kCacheLine;
    }
    return Buffer(size);
  }

  std::vector<Piece> make_pieces() const {
    std::vector<Piece> pieces;
    for (const ToPack& item : to_pack_) {
      const Matrix& matrix = *item.matrix;
      const int64_t panel = matrix.kernel->panel_rows, panels = (matrix.rows + panel - 1) / panel;
      const uint64_t panel_bytes = std::max<uint64_t>(1, matrix.bytes() / static_cast<uint64_t>(panels));
      const auto step = static_cast<int64_t>(std::max<uint64_t>(1, kPieceBytes / panel_bytes)) * panel;
      for (int64_t row = 0; row < matrix.rows; row += step)
        pieces.push_back({&item, {row, std::min(row + step, matrix.rows)}});
    }
    return pieces;
  }

  void pack(const Piece& piece, const Buffer& packed) const {
    const Matrix& matrix = *piece.item->matrix;
    const auto [begin, end] = piece.rows;
    matrix.kernel->pack(packed.as<std::byte>() + piece.item->offset, matrix.data, matrix.rows, matrix.cols,
                        begin, end);
    const uint64_t row = piece.item->tensor->bytes / static_cast<uint64_t>(matrix.rows);
    file_.release(*piece.item->tensor, static_cast<uint64_t>(begin) * row,
                  static_cast<uint64_t>(end - begin) * row);
  }

  const gguf::File& file_;
  const std::string& architecture_;
  const KernelTable& table_;
  Weights& into_;
  std::vector<ToPack> to_pack_;
  std::unordered_set<std::string> taken_;
};

namespace {

void load_layer(Loader& loader, LayerWeights& w, const LayerConfig& layer, int64_t dim, size_t index) {
  const std::string prefix = "blk." + std::to_string(index) + ".";
  const int64_t q_rows = layer.heads * layer.head_dim, kv_rows = layer.kv_heads * layer.head_dim;
  w.attention_norm = loader.vector(prefix + "attn_norm.weight", dim);
  loader.take_matrix(w.q, prefix + "attn_q.weight", q_rows, dim);
  loader.take_matrix(w.k, prefix + "attn_k.weight", kv_rows, dim);
  loader.take_matrix(w.v, prefix + "attn_v.weight", kv_rows, dim);
  w.q_bias = loader.vector_if(layer.requires_qkv_bias, prefix + "attn_q.bias", q_rows);
  w.k_bias = loader.vector_if(layer.requires_qkv_bias, prefix + "attn_k.bias", kv_rows);
  w.v_bias = loader.vector_if(layer.requires_qkv_bias, prefix + "attn_v.bias", kv_rows);
  if (layer.qk_norm) {
    w.q_norm = loader.vector(prefix + "attn_q_norm.weight", layer.head_dim);
    w.k_norm = loader.vector(prefix + "attn_k_norm.weight", layer.head_dim);
  }
  loader.take_matrix(w.attention_output, prefix + "attn_output.weight", dim, q_rows);
  w.ffn_norm = loader.vector(prefix + "ffn_norm.weight", dim);
  loader.take_matrix(w.gate, prefix + "ffn_gate.weight", layer.ffn, dim);
  loader.take_matrix(w.up, prefix + "ffn_up.weight", layer.ffn, dim);
  loader.take_matrix(w.down, prefix + "ffn_down.weight", dim, layer.ffn);
}

}  // namespace

Weights Weights::load(const gguf::File& file, const Config& config, const KernelTable& table, int threads,
                      const std::function<void()>& run_on_caller) {
  Weights weights;
  Loader loader(file, config, table, weights);
  loader.take_matrix(weights.embedding, "token_embd.weight", config.vocabulary, config.dim);
  weights.layers.resize(config.layers.size());
  for (size_t i = 0; i < config.layers.size(); ++i)
    load_layer(loader, weights.layers[i], config.layers[i], config.dim, i);
  weights.output_norm = loader.vector("output_norm.weight", config.dim);
  const bool tied = !loader.has("output.weight");
  if (!tied) loader.take_matrix(weights.output, "output.weight", config.vocabulary, config.dim);
  const int64_t pairs = config.rope.dim / 2;
  const Vector factors = loader.vector_if(false, "rope_freqs.weight", pairs);
  weights.rope = rope_frequencies(
      config.rope, factors ? std::span(factors, static_cast<size_t>(pairs)) : std::span<const float>());
  loader.pack_all(threads, run_on_caller);
  if (tied) weights.output = weights.embedding;
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
