#include "model/model.h"

#include <optional>
#include <utility>

namespace binhdan::model {

Model Model::load(const std::string& path, std::string_view isa, int threads) {
  const KernelTable& table = select_table(isa);
  gguf::File file = gguf::File::open(path);
  Config config = Config::read(file);
  std::optional<text::Tokenizer> tokenizer;
  Weights weights = Weights::load(file, config, table, threads, [&] {
    tokenizer.emplace(text::Vocab::read(file));
    if (tokenizer->vocab().size() != config.vocabulary)
      fail(Code::bad_format, file.path(), ": key 'tokenizer.ggml.tokens': expected ", config.vocabulary,
           " tokens, one per row of token_embd.weight, got ", tokenizer->vocab().size());
  });
  file.check_intact();
  return {.file = std::move(file),
          .table = &table,
          .config = std::move(config),
          .tokenizer = std::move(*tokenizer),
          .weights = std::move(weights)};
}

}  // namespace binhdan::model
