// LoRA adapters (Hu et al. 2021, arXiv:2106.09685): low-rank changes of a model's matrices, which are added to their
// products. The weights stay as they are, so that requests with different adapters share a batch.
#pragma once
#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/buffer.h"
#include "gguf/reader.h"
#include "model/model.h"

namespace binhdan::model {

// The change of one matrix: y += up (scale down x). Both are float16, as KernelTable::add_products reads them.
struct LowRank {
  int64_t rank;
  float scale;
  const uint16_t* down;  // (cols of the matrix, rank)
  const uint16_t* up;    // (rank, rows of the matrix)

  // The part of `up` for the rows from `row` on, a multiple of kProductLanes.
  const uint16_t* up_from(int64_t row) const { return up + row * rank; }
};

// Changes by their matrix, in one array: a decode step looks up every matrix after the weights have displaced everything
// else from the caches, and a std::unordered_map misses them three times.
class ChangeTable {
 public:
  // count: of the changes that will be added.
  explicit ChangeTable(size_t count = 0) : slots_(std::bit_ceil(2 * count + 1)) {}

  // matrix: has no change yet.
  void add(const Matrix& matrix, const LowRank& change) {
    size_t slot = first_slot(matrix);
    while (slots_[slot].matrix) slot = next(slot);
    slots_[slot] = {&matrix, change};
  }
  // nullptr: none.
  const LowRank* find(const Matrix& matrix) const {
    for (size_t slot = first_slot(matrix); slots_[slot].matrix; slot = next(slot))
      if (slots_[slot].matrix == &matrix) return &slots_[slot].change;
    return nullptr;
  }

 private:
  struct Slot {
    const Matrix* matrix;
    LowRank change;
  };
  size_t first_slot(const Matrix& matrix) const {
    return (reinterpret_cast<uintptr_t>(&matrix) * uint64_t{0x9e3779b97f4a7c15} >> 32) & (slots_.size() - 1);
  }
  size_t next(size_t slot) const { return (slot + 1) & (slots_.size() - 1); }

  std::vector<Slot> slots_;  // at most half of them are used
};

// Constant after loading; engines share it.
class Adapter {
 public:
  // Reads an adapter in llama.cpp's format: tensors NAME.lora_a (rank, cols) and NAME.lora_b (rows, rank) for tensors
  // NAME of the model. Throws Error that names what does not fit the model.
  static Adapter load(const std::string& path, std::shared_ptr<const Model> model);
  static Adapter read(const gguf::File& file, std::shared_ptr<const Model> model);

  // nullptr if the adapter does not change this matrix of the model.
  const LowRank* find(const Matrix& matrix) const { return changes_.find(matrix); }

  const Model& model() const { return *model_; }
  // Not 0. The same for files of the same content: requests with it share keys and values in the prefix cache.
  uint64_t identity() const { return identity_; }
  int64_t max_rank() const { return max_rank_; }
  uint64_t parameters() const { return parameters_; }  // in the file
  uint64_t bytes() const { return memory_.size(); }    // of memory

 private:
  explicit Adapter(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  std::shared_ptr<const Model> model_;
  Buffer memory_;  // all weights: one buffer is in huge pages, and reading on needs no new page
  ChangeTable changes_;
  uint64_t identity_ = 0, parameters_ = 0;
  int64_t max_rank_ = 0;
  friend class AdapterReader;
};

}  // namespace binhdan::model
