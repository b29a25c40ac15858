// A pack file has the packed weights of a model, beside it as MODEL.gguf.pack. A model with a pack file starts
// without packing: it maps the file. The header says which model, and which layout of the panels, the weights
// are of; a checksum covers all weights. A file that does not match is not used.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/file_map.h"
#include "base/thread_pool.h"

namespace binhdan::model {

// What a pack file must be of.
struct PackIdentity {
  uint64_t model;   // gguf::File::identity()
  uint64_t layout;  // tensors with their places, and what the kernels make of known blocks
  uint64_t bytes;   // of the packed weights
};

class PackFile {
 public:
  static std::string path_of(const std::string& model_path) { return model_path + ".pack"; }

  // The pack file of a model, with a header that matches; nullopt if there is no file. Writes a warning to the
  // log and returns nullopt if the file does not match or cannot be read.
  static std::optional<PackFile> open(const std::string& path, const PackIdentity& identity);
  static void write(const std::string& path, const PackIdentity& identity,
                    std::span<const std::byte> weights);

  // Hashes the weights with all ranks of the team. The model is used only if intact() is true afterwards.
  void hash_weights(Team& team);
  // Writes a warning to the log if it is false.
  bool intact() const;
  std::span<const std::byte> weights() const;
  // Moves the file map out; the weights stay where they are.
  std::unique_ptr<FileMap> take_map() { return std::move(map_); }

 private:
  explicit PackFile(std::unique_ptr<FileMap> map);

  std::unique_ptr<FileMap> map_;
  std::vector<uint64_t> hashes_;  // of the pieces
};

}  // namespace binhdan::model
