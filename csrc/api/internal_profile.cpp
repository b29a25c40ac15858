// Profiles the forward pass by operation, and measures the peak speed of multiply-adds.
#include <algorithm>

#include "api/c_api.h"
#include "api/internal.h"
#include "engine/engine.h"
#include "model/forward.h"
#include "model/profile.h"
#include "model/state.h"
#include "ops/peak.h"

namespace binhdan::internal {
namespace {

constexpr int64_t kMaxTokens = 1 << 20, kMaxSequences = 1024;

void check(const char* name, int64_t value, int64_t min, int64_t max) {
  if (value < min || value > max)
    fail(Code::invalid_argument, name, ": expected ", min, " to ", max, ", got ", value);
}

// Sequences that start after `depth` positions of zeros.
class Workload {
 public:
  Workload(model::Forward& forward, const model::Model& model, int64_t depth, int64_t sequences,
           KvType kv_type)
      : forward_(forward) {
    for (int64_t i = 0; i < sequences; ++i) states_.emplace_back(model.config, kv_type).advance_blank(depth);
  }

  void prefill(std::span<const text::Token> tokens, int64_t chunk) {
    for (size_t begin = 0; begin < tokens.size(); begin += static_cast<size_t>(chunk)) {
      const auto part = tokens.subspan(begin, std::min(static_cast<size_t>(chunk), tokens.size() - begin));
      const bool last = begin + part.size() == tokens.size();
      run({&states_[0], part, last ? model::Outputs::last_logits : model::Outputs::none, false});
    }
  }
  // One token of every sequence.
  void decode(std::span<const text::Token, 1> token) {
    std::vector<model::Chunk> chunks;
    for (model::SequenceState& state : states_) {
      state.reserve(1);
      chunks.push_back({&state, token, model::Outputs::last_logits, true});
    }
    forward_.run(chunks);
  }

 private:
  void run(const model::Chunk& chunk) {
    chunk.state->reserve(static_cast<int64_t>(chunk.tokens.size()));
    forward_.run({&chunk, 1});
  }

  model::Forward& forward_;
  std::vector<model::SequenceState> states_;
};

PassProfile to_pass_profile(const model::Profile& profile) {
  PassProfile pass{profile.ns, {}};
  for (size_t i = 0; i < profile.ops.size(); ++i) {
    const model::OpStats& op = profile.ops[i];
    pass.ops.push_back({model::kOpNames[i], op.calls, op.ns, op.bytes, op.macs});
  }
  return pass;
}

}  // namespace

ForwardProfile profile(uint64_t handle, int threads, int64_t prompt_tokens, int64_t decode_tokens,
                       int64_t depth, int64_t sequences, KvType kv_type) {
  const auto model = api::models().get(handle, "model");
  threads = api::checked_threads(threads);
  check("prompt_tokens", prompt_tokens, 0, kMaxTokens);
  check("decode_tokens", decode_tokens, 0, kMaxTokens);
  check("depth", depth, 0, kMaxTokens);
  check("sequences", sequences, 1, kMaxSequences);

  const std::vector<text::Token> tokens(static_cast<size_t>(std::max<int64_t>(prompt_tokens, 1)), 0);
  const int64_t chunk = engine::EngineOptions{}.prefill_chunk;
  model::Forward forward(*model, threads);
  model::Profile prefill, decode;
  if (prompt_tokens > 0) {
    Workload(forward, *model, 0, 1, kv_type).prefill(tokens, chunk);
    Workload measured(forward, *model, depth, 1, kv_type);
    forward.set_profile(&prefill);
    measured.prefill(tokens, chunk);
    forward.set_profile(nullptr);
  }
  if (decode_tokens > 0) {
    Workload measured(forward, *model, depth, sequences, kv_type);
    const std::span<const text::Token, 1> token(tokens.data(), 1);
    measured.decode(token);
    forward.set_profile(&decode);
    for (int64_t i = 0; i < decode_tokens; ++i) measured.decode(token);
  }
  return {to_pass_profile(prefill), to_pass_profile(decode)};
}

double measure_peak(const std::string& isa, Activation format, int threads) {
  return ops::measure_peak(table(isa), format, api::checked_threads(threads));
}

}  // namespace binhdan::internal
