// Whole-sequence evaluation and sampling for tests, benchmarks and the quantizer.
#include "api/internal.h"

#include <algorithm>

#include "api/c_api.h"
#include "engine/sampler.h"
#include "gguf/reader.h"
#include "model/forward.h"
#include "model/state.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"

namespace binhdan::internal {

KvType kv_type_by_name(const std::string& name) {
  if (name == "f16") return KvType::f16;
  if (name == "q8_0") return KvType::q8_0;
  fail(Code::invalid_argument, "kv_type: expected \"f16\" or \"q8_0\", got \"", name, "\"");
}

void forward_logits(uint64_t handle, std::span<const int32_t> tokens, int threads, bool decode,
                    KvType kv_type, const std::function<void(int64_t, std::span<const float>)>& row) {
  constexpr size_t kChunk = 64;  // limits the memory for logits
  const auto model = api::models().get(handle, "model");
  for (const int32_t token : tokens)
    if (token < 0 || token >= model->config.vocabulary)
      fail(Code::invalid_argument, "token: expected 0 to ", model->config.vocabulary - 1, ", got ", token);
  model::Forward forward(*model, api::checked_threads(threads));
  model::SequenceState state(model->config, kv_type);
  for (size_t begin = 0; begin < tokens.size(); begin += kChunk) {
    const size_t count = std::min(kChunk, tokens.size() - begin);
    state.reserve(static_cast<int64_t>(count));
    const model::Chunk chunk{&state, tokens.subspan(begin, count), model::Outputs::all_logits, decode};
    forward.run({&chunk, 1});
    for (size_t i = 0; i < count; ++i) row(static_cast<int64_t>(begin + i), forward.logits(0, i));
  }
}

namespace {

const text::Pretokenizer& pretokenizer(const std::string& name) {
  if (const text::Pretokenizer* found = text::find_pretokenizer(name)) return *found;
  fail(Code::invalid_argument, "pretokenizer: expected one of pretokenizer_names(), got \"", name, "\"");
}

}  // namespace

std::vector<std::string> pretokenizer_names() {
  std::vector<std::string> names;
  for (const text::Pretokenizer& entry : text::pretokenizers()) names.emplace_back(entry.name);
  return names;
}

std::vector<std::string> pretokenizer_patterns(const std::string& name) {
  std::vector<std::string> patterns;
  for (const text::Stage& stage : pretokenizer(name).stages) patterns.emplace_back(stage.pattern);
  return patterns;
}

std::vector<size_t> split_words(const std::string& name, const std::string& text) {
  std::vector<size_t> ends;
  text::WordSplitter(pretokenizer(name)).split(text, [&](std::string_view word) {
    ends.push_back(static_cast<size_t>(word.data() - text.data()) + word.size());
  });
  return ends;
}

FileTokenizer::FileTokenizer(const std::string& path)
    : tokenizer_(std::make_shared<const text::Tokenizer>(text::Vocab::read(gguf::File::open(path)))) {}

std::vector<int32_t> FileTokenizer::encode(std::string_view text, bool parse_special) const {
  return tokenizer_->encode(text, false, parse_special);
}

std::string FileTokenizer::decode(std::span<const int32_t> tokens, bool special) const {
  return tokenizer_->decode(tokens, special);
}

int32_t sample(std::vector<float> logits, float temperature, int32_t top_k, float top_p, float min_p,
               uint64_t seed) {
  const engine::SamplingParams params{
      .temperature = temperature, .top_k = top_k, .top_p = top_p, .min_p = min_p, .seed = seed};
  engine::Sampler sampler(params, static_cast<int32_t>(logits.size()));
  return sampler.sample(logits, {}).token;
}

}  // namespace binhdan::internal
