// An open model: file, descriptor, vocabulary and weights. Constant after loading; engines share it.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gguf/reader.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/weights.h"
#include "text/tokenizer.h"

namespace binhdan::model {

struct Model {
  // isa: a kernel table's name, "" for the best that runs here; options.table overrides it. Throws Error.
  static Model load(const std::string& path, std::string_view isa, const LoadOptions& options);

  gguf::File file;
  const KernelTable* table;
  Config config;
  text::Tokenizer tokenizer;
  Weights weights;
  std::vector<std::string> warnings;  // of load(): keys that are ignored or replaced by a default

  // Throws Error(io) when weights are in a file map and the file was truncated.
  void check_intact() const {
    weights.check_intact();
    if (weights.mapped) file.check_intact();
  }
};

// What Model::load() would report about a file, without its packing of weights.
struct Check {
  std::optional<Error> error;
  std::optional<Config> config;  // if there is no error
  uint64_t weight_bytes = 0;     // Weights::needed_bytes
  std::vector<std::string> warnings;
};
Check check(const gguf::File& file);

}  // namespace binhdan::model
