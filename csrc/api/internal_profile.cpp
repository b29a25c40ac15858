// The forward pass measured operation by operation.
#include <algorithm>

#include "api/c_api.h"
#include "api/internal.h"
#include "engine/engine.h"
#include "model/forward.h"
#include "model/profile.h"
#include "model/state.h"

namespace binhdan::internal {
namespace {

constexpr int64_t kMostTokens = 1 << 20, kMostSequences = 1024;

void check(const char* name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most)
    fail(Code::invalid_argument, name, ": expected ", least, " to ", most, ", got ", value);
}

// Sequences that go on behind `depth` blank positions.
class Workload {
 public:
  Workload(const model::Model& model, int threads, int64_t depth, int64_t sequences)
      : forward_(model, threads) {
    for (int64_t i = 0; i < sequences; ++i) states_.emplace_back(model.config).advance_blank(depth);
  }

  void prompt(std::span<const text::Token> tokens, int64_t chunk) {
    for (size_t begin = 0; begin < tokens.size(); begin += static_cast<size_t>(chunk)) {
      const auto part = tokens.subspan(begin, std::min(static_cast<size_t>(chunk), tokens.size() - begin));
      run({&states_[0], part, model::Wanted::last_logits, false});
    }
  }
  // One token of every sequence.
  void decode(std::span<const text::Token, 1> token) {
    std::vector<model::Chunk> chunks;
    for (model::SequenceState& state : states_) {
      state.reserve(1);
      chunks.push_back({&state, token, model::Wanted::last_logits, true});
    }
    forward_.run(chunks);
  }
  void measure(model::Profile* profile) { forward_.measure(profile); }

 private:
  void run(const model::Chunk& chunk) {
    chunk.state->reserve(static_cast<int64_t>(chunk.tokens.size()));
    forward_.run({&chunk, 1});
  }

  model::Forward forward_;
  std::vector<model::SequenceState> states_;
};

PassProfile listed(const model::Profile& profile) {
  PassProfile pass{profile.ns, {}};
  for (size_t i = 0; i < profile.ops.size(); ++i) {
    const model::OpCost& cost = profile.ops[i];
    pass.ops.push_back({model::kOpNames[i], cost.calls, cost.ns, cost.bytes, cost.macs});
  }
  return pass;
}

}  // namespace

ForwardProfile profile(uint64_t handle, int threads, int64_t prompt_tokens, int64_t decode_tokens,
                       int64_t depth, int64_t sequences) {
  const auto model = api::models().get(handle, "model");
  threads = api::checked_threads(threads);
  check("prompt_tokens", prompt_tokens, 0, kMostTokens);
  check("decode_tokens", decode_tokens, 0, kMostTokens);
  check("depth", depth, 0, kMostTokens);
  check("sequences", sequences, 1, kMostSequences);

  const std::vector<text::Token> tokens(static_cast<size_t>(std::max<int64_t>(prompt_tokens, 1)), 0);
  const int64_t chunk = engine::EngineOptions{}.prompt_chunk;
  model::Profile prompt, decode;
  if (prompt_tokens > 0) {
    Workload(*model, threads, 0, 1).prompt(tokens, chunk);
    Workload measured(*model, threads, depth, 1);
    measured.measure(&prompt);
    measured.prompt(tokens, chunk);
  }
  if (decode_tokens > 0) {
    Workload measured(*model, threads, depth, sequences);
    const std::span<const text::Token, 1> token(tokens.data(), 1);
    measured.decode(token);
    measured.measure(&decode);
    for (int64_t i = 0; i < decode_tokens; ++i) measured.decode(token);
  }
  return {listed(prompt), listed(decode)};
}

}  // namespace binhdan::internal
