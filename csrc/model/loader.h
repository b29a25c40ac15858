// Takes the tensors of a model from its file, and packs the matrices or maps them from the pack file. A part of
// weights.cpp.
#pragma once
#include <algorithm>
#include <atomic>
#include <charconv>
#include <functional>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/hash.h"
#include "base/thread_pool.h"
#include "base/utf8.h"
#include "kernels/codec.h"
#include "kernels/panels.h"
#include "model/pack_file.h"
#include "model/weights.h"

namespace binhdan::model {

// Takes tensors from the file by name. pack_all() checks that all were taken, and packs the matrices.
class Loader {
 public:
  Loader(const gguf::File& file, const Config& config, const KernelTable& table, Weights& into)
      : file_(file), config_(config), table_(table), into_(into) {}

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }
  int64_t rows(const std::string& name) const {
    return checked_cast<int64_t>(file_.find_tensor(name)->rows(), "rows of a tensor");
  }

  // `matrix` must not move before pack_all().
  void take_matrix(Matrix& matrix, const std::string& name, int64_t rows, int64_t cols) {
    take_stacked(name, cols, {{&matrix, rows}});
  }
  // Matrices that one tensor contains, one below the other.
  struct Part {
    Matrix* matrix;
    int64_t rows;
  };
  void take_stacked(const std::string& name, int64_t cols, std::initializer_list<Part> parts) {
    int64_t rows = 0;
    for (const Part& part : parts) rows += part.rows;
    const gguf::TensorInfo& tensor = take(name, rows, cols);
    const MatmulKernel& kernel = table_.matmul[static_cast<uint32_t>(tensor.type)];
    const uint64_t row_bytes = tensor.bytes / static_cast<uint64_t>(rows);
    uint64_t offset = 0;
    for (const auto& [matrix, count] : parts) {
      *matrix = {.kernel = &kernel,
                 .rows = count,
                 .cols = cols,
                 .data = file_.data(tensor).data() + offset,
                 .tensor = tensor.name};
      if (kernel.pack)
        to_pack_.push_back({matrix, &tensor, offset, row_bytes, 0});
      else
        into_.mapped_bytes += matrix->bytes();
      into_.mapped = into_.mapped || !kernel.pack;
      into_.bytes += matrix->bytes();
      into_.needed_bytes += matrix->bytes();
      offset += static_cast<uint64_t>(count) * row_bytes;
    }
  }

  Lookup lookup(const std::string& name, int64_t rows, int64_t cols) {
    const gguf::TensorInfo& tensor = take(name, rows, cols);
    into_.mapped = true;
    into_.bytes += tensor.bytes;
    return {decode_row(tensor.type), file_.data(tensor).data(),
            static_cast<size_t>(tensor.bytes / static_cast<uint64_t>(rows)), cols};
  }

  Vector vector(const std::string& name, int64_t n) { return values(name, 1, n); }
  Vector vector_if(bool required, const std::string& name, int64_t n) {
    return required || has(name) ? vector(name, n) : nullptr;
  }
  // All values of a small tensor, row after row.
  Vector values(const std::string& name, int64_t rows, int64_t cols) {
    return keep(decode(name, rows, cols));
  }
  // The same, transposed: (cols, rows).
  Vector transposed(const std::string& name, int64_t rows, int64_t cols) {
    const Buffer source = decode(name, rows, cols);
    Buffer target(source.size());
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) target.as<float>()[c * rows + r] = source.as<float>()[r * cols + c];
    return keep(std::move(target));
  }
  // The weight and, for LayerNorm, the bias of a norm.
  Norm norm(const std::string& name, int64_t n, bool with_bias) {
    return {vector(name + ".weight", n), with_bias ? vector(name + ".bias", n) : nullptr};
  }

  // Rank 0, the caller's thread, runs `run_on_caller` first; the other ranks take over its pieces.
  void pack_all(const LoadOptions& options, const std::function<void()>& run_on_caller) {
    check_all_taken();
    const uint64_t packed_bytes = place_packed();
    if (options.threads == 0) return;
    check_memory(options);
    into_.loaded = true;
    into_.packed_layout_ = hash_layout();
    ThreadPool pool(options.threads);
    if (options.use_pack_file && !to_pack_.empty() && map_packed(pool, packed_bytes, run_on_caller)) return;
    pack_here(pool, packed_bytes, into_.from_pack_file ? std::function<void()>() : run_on_caller,
              options.progress);
    into_.from_pack_file = false;
  }

 private:
  struct ToPack {
    Matrix* matrix;
    const gguf::TensorInfo* tensor;
    uint64_t tensor_offset, row_bytes;  // of the matrix in the tensor
    size_t offset;                      // in the packed memory
  };
  struct Piece {
    const ToPack* item;
    Range rows;
  };
  static constexpr uint64_t kPieceBytes = 1 << 20;

  const gguf::TensorInfo& take(const std::string& name, int64_t rows, int64_t cols) {
    const gguf::TensorInfo* tensor = file_.find_tensor(name);
    if (!tensor)
      fail(Code::bad_format, file_.path(), ": tensor '", name, "' is missing; architecture ",
           config_.architecture, " requires it, with ", rows, " rows of ", cols, " columns");
    if (tensor->cols() != static_cast<uint64_t>(cols) || tensor->rows() != static_cast<uint64_t>(rows))
      fail(Code::bad_format, file_.path(), ": tensor '", name, "': expected ", rows, " rows of ", cols,
           " columns, got ", tensor->rows(), " rows of ", tensor->cols());
    check_addressable(*tensor);
    if (taken_.insert(name).second)
      into_.parameters += static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols);
    return *tensor;
  }

  // Panels and decoded vectors are larger than the tensor in the file. On a 32-bit processor, their sizes must
  // fit in size_t.
  void check_addressable(const gguf::TensorInfo& tensor) const {
    constexpr uint64_t kMaxElements = SIZE_MAX / sizeof(float) / 2;
    const uint64_t panel_rows = checked_align(tensor.rows(), kPanelRows, "rows of a tensor");
    const uint64_t elements = checked_mul(panel_rows, tensor.cols(), "elements of a tensor");
    if (elements > kMaxElements)
      fail(Code::unsupported, file_.path(), ": tensor ", quote_name(tensor.name), ": expected at most ",
           kMaxElements, " elements on this processor, got ", elements, "; use a 64-bit system");
  }

  void check_all_taken() const {
    for (const gguf::TensorInfo& tensor : file_.tensors())
      if (!taken_.contains(tensor.name) && !is_ignored(tensor.name))
        fail(Code::unsupported, file_.path(), ": tensor ", quote_name(tensor.name), ": architecture ",
             config_.architecture, " has no tensor of this name");
  }

  // A tensor of a layer that generation does not use.
  bool is_ignored(std::string_view name) const {
    if (!name.starts_with("blk.")) return false;
    int64_t layer = 0;
    const auto [end, error] = std::from_chars(name.data() + 4, name.data() + name.size(), layer);
    const int64_t used = std::ssize(config_.layers);
    return error == std::errc() && layer >= used && layer < used + config_.unused_layers;
  }

  // Before anything large is allocated.
  void check_memory(const LoadOptions& options) const {
    if (!options.available_memory || into_.needed_bytes <= *options.available_memory) return;
    fail(Code::out_of_memory, file_.path(), ": the weights need ", into_.needed_bytes,
         " bytes of memory, and ", *options.available_memory,
         " are available; use a smaller model or tensor type, stop other programs, or switch the memory "
         "check off");
  }

  // Maps the pack file of the model, if there is one, and checks all of it. Sets from_pack_file when the
  // caller's function has run.
  bool map_packed(ThreadPool& pool, uint64_t bytes, const std::function<void()>& run_on_caller) {
    const PackIdentity identity{file_.identity(), into_.packed_layout_, bytes};
    std::optional<PackFile> pack = PackFile::open(PackFile::path_of(file_.path()), identity);
    if (!pack) return false;
    pool.run([&](Team& team) {
      if (team.rank() == 0 && run_on_caller) run_on_caller();
      pack->hash_weights(team);
    });
    into_.from_pack_file = true;
    if (!pack->intact()) return false;
    into_.packed_ = pack->weights();
    into_.pack_map_ = pack->take_map();
    into_.mapped_bytes += bytes;
    set_packed();
    return true;
  }

  // Packs piece by piece and releases the file's pages after each, so that the memory stays near that of one
  // copy.
  void pack_here(ThreadPool& pool, uint64_t bytes, const std::function<void()>& run_on_caller,
                 const std::function<bool(float)>& progress) {
    const Buffer& packed = into_.memory_.emplace_back(bytes);
    const std::vector<Piece> pieces = make_pieces();
    std::atomic<size_t> done{0};
    std::atomic<int> cancelled{0};
    pool.run([&](Team& team) {
      if (team.rank() == 0 && run_on_caller) run_on_caller();
      team.distribute(static_cast<int64_t>(pieces.size()), 1, 1, [&](int64_t i, int64_t) {
        if (cancelled) return;
        pack(pieces[static_cast<size_t>(i)], packed);
        const auto part = static_cast<float>(++done) / static_cast<float>(pieces.size());
        if (team.rank() == 0 && progress && !progress(part)) cancelled = 1;
      });
    });
    if (cancelled) fail(Code::closed, file_.path(), ": the caller's progress function has ended the loading");
    file_.check_intact();
    into_.packed_ = {packed.as(), packed.size()};
    set_packed();
    for (const ToPack& item : to_pack_)
      file_.release(*item.tensor, 0, item.tensor->bytes);  // the pages between two pieces
  }

  void set_packed() {
    for (const ToPack& item : to_pack_) item.matrix->data = into_.packed_.data() + item.offset;
  }

  // Of tensors, places, and what each kernel makes of one panel of known blocks: it changes with the layout of
  // the panels.
  uint64_t hash_layout() const {
    constexpr int64_t kCols = 256;
    uint64_t hash = 0;
    std::set<DType> types;
    for (const ToPack& item : to_pack_) {
      const Matrix& matrix = *item.matrix;
      const uint64_t place[] = {static_cast<uint64_t>(matrix.kernel->type),
                                static_cast<uint64_t>(matrix.rows), static_cast<uint64_t>(matrix.cols),
                                item.offset};
      hash = hash_bytes(std::as_bytes(std::span(item.tensor->name)), hash);
      hash = hash_bytes(std::as_bytes(std::span(place)), hash);
      if (!types.insert(matrix.kernel->type).second) continue;
      const MatmulKernel& kernel = *matrix.kernel;
      std::vector<std::byte> blocks(kernel.panel_rows * row_bytes(kernel.type, kCols));
      for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(i * 37 >> 2);
      Buffer panel(kernel.packed_size(kernel.panel_rows, kCols));
      panel.zero();
      kernel.pack(panel.as(), blocks.data(), kernel.panel_rows, kCols, 0, kernel.panel_rows);
      hash = hash_bytes({panel.as(), panel.size()}, hash);
    }
    return hash;
  }

  // All matrices are in one buffer, in the order in which the forward pass reads them. Returns its size.
  uint64_t place_packed() {
    uint64_t size = 0;
    for (ToPack& item : to_pack_) {
      item.offset = checked_cast<size_t>(size, "packed weights");
      size += checked_align(item.matrix->bytes(), kCacheLine, "packed weights");
    }
    return size;
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
    const uint64_t row_bytes = piece.item->row_bytes;
    file_.release(*piece.item->tensor, piece.item->tensor_offset + static_cast<uint64_t>(begin) * row_bytes,
                  static_cast<uint64_t>(end - begin) * row_bytes);
  }

  Buffer decode(const std::string& name, int64_t rows, int64_t cols) {
    const gguf::TensorInfo& tensor = take(name, rows, cols);
    Buffer values(static_cast<size_t>(rows * cols) * sizeof(float));
    const uint64_t row_bytes = tensor.bytes / static_cast<uint64_t>(rows);
    for (int64_t r = 0; r < rows; ++r)
      decode_row(tensor.type)(values.as<float>() + r * cols,
                              file_.data(tensor).data() + static_cast<uint64_t>(r) * row_bytes, cols);
    return values;
  }

  Vector keep(Buffer values) {
    into_.bytes += values.size();
    into_.needed_bytes += values.size();
    into_.memory_.push_back(std::move(values));
    return into_.memory_.back().as<const float>();
  }

  const gguf::File& file_;
  const Config& config_;
  const KernelTable& table_;
  Weights& into_;
  std::vector<ToPack> to_pack_;
  std::unordered_set<std::string> taken_;
};

}  // namespace binhdan::model
