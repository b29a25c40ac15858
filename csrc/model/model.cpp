#include "model/model.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/log.h"
#include "base/utf8.h"

namespace binhdan::model {
namespace {

// Keys under an architecture's prefix that do not change results, without the prefix: they describe how the
// file was made, or repeat what the tensors' shapes say.
constexpr std::string_view kInformational[] = {
    "vocab_size",
    "tensor_data_layout",
    "rope.scaling.finetuned",
    "rope.dimension_sections",  // of images; text uses one position for all
    "expert_used_count",
    "dense_2_feat_in",
    "dense_2_feat_out",
    "dense_3_feat_in",
    "dense_3_feat_out",
};

struct Parts {
  Config config;
  std::optional<text::Tokenizer> tokenizer;
  Weights weights;
};

void check_tensor_types(const gguf::File& file) {
  if (file.unsupported_tensors().empty()) return;
  const gguf::UnsupportedTensor& tensor = file.unsupported_tensors().front();
  std::string names;
  for (const DTypeInfo& info : all_dtypes()) names.append(names.empty() ? "" : ", ").append(info.name);
  fail(Code::unsupported, file.path(), ": tensor ", quote_name(tensor.name), ": tensor type ", tensor.type,
       " is not supported; expected one of ", names);
}

void read_tokenizer(const gguf::File& file, const Config& config, std::optional<text::Tokenizer>& into) {
  into.emplace(text::Vocab::read(file));
  if (into->vocab().size() != config.vocabulary)
    fail(Code::bad_format, file.path(), ": key 'tokenizer.ggml.tokens': expected ", config.vocabulary,
         " tokens, one per row of token_embd.weight, got ", into->vocab().size());
}

// A key that changes results must not be ignored in silence.
void warn_about_unread_keys(const gguf::File& file, const gguf::KeyRecorder& recorder,
                            const std::string& prefix) {
  std::string names;
  for (const std::string& key : recorder.unread(prefix)) {
    const std::string_view name = std::string_view(key).substr(prefix.size());
    if (std::find(std::begin(kInformational), std::end(kInformational), name) == std::end(kInformational))
      names.append(names.empty() ? "" : ", ").append(quote_name(key));
  }
  if (!names.empty())
    log(LogLevel::warning, file.path(), ": keys that are not known here are ignored: ", names,
        ". If one of them changes the results of the model, its answers are worse");
}

// Reads all parts of a model.
Parts read_parts(const gguf::File& file, const KernelTable& table, const LoadOptions& options) {
  const gguf::KeyRecorder recorder(file);
  if (file.find("general.type") && file.get_string("general.type") == "adapter")
    fail(Code::unsupported, file.path(),
         ": key 'general.type': the file is an adapter, not a model; open its base model and load it there");
  check_tensor_types(file);
  Parts parts{.config = Config::read(file), .tokenizer = {}, .weights = {}};
  const auto tokenizer = [&] { read_tokenizer(file, parts.config, parts.tokenizer); };
  parts.weights = Weights::load(file, parts.config, table, options, tokenizer);
  if (options.threads == 0) tokenizer();
  warn_about_unread_keys(file, recorder, parts.config.architecture + ".");
  return parts;
}

}  // namespace

Model Model::load(const std::string& path, std::string_view isa, const LoadOptions& options) {
  const WarningCollector collector;
  const KernelTable& table = options.table ? *options.table : select_table(isa);
  gguf::File file = gguf::File::open(path);
  Parts parts = read_parts(file, table, options);
  file.check_intact();
  return {.file = std::move(file),
          .table = &table,
          .config = std::move(parts.config),
          .tokenizer = std::move(*parts.tokenizer),
          .weights = std::move(parts.weights),
          .warnings = collector.warnings};
}

Check check(const gguf::File& file) {
  const WarningCollector collector;
  Check result;
  try {
    Parts parts = read_parts(file, select_table("scalar"), {.threads = 0});
    result.config = std::move(parts.config);
    result.weight_bytes = parts.weights.needed_bytes;
  } catch (const Error& failed) {
    result.error = failed;
  }
  result.warnings = collector.warnings;
  return result;
}

}  // namespace binhdan::model
