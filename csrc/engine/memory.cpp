#include "engine/memory.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "model/memory.h"

namespace binhdan::engine {
namespace {

// The largest number of bytes that the keys and values of a sequence take, with those of the draft model.
class SequenceBytes {
 public:
  SequenceBytes(const EngineOptions& options, const model::StateLayout& layout)
      : layout_(layout), chunk_(options.prefill_chunk) {
    if (!options.draft) return;
    draft_.emplace(options.draft->config, options.kv_type);
    draft_context_ = options.draft->config.context;
  }

  uint64_t of(int64_t tokens) const {
    const uint64_t draft = draft_ ? draft_->max_bytes(std::min(tokens, draft_context_), chunk_) : 0;
    return layout_.max_bytes(tokens, chunk_) + draft;
  }

 private:
  const model::StateLayout& layout_;
  std::optional<model::StateLayout> draft_;
  int64_t draft_context_ = 0, chunk_;
};

// The longest context of whole pages whose keys and values fit in `bytes`; at least one page.
int64_t longest_context(const EngineOptions& options, const SequenceBytes& sequence, uint64_t bytes) {
  int64_t least = 1, too_many = options.context / kKvPageTokens + 1;  // pages
  while (too_many - least > 1) {
    const int64_t middle = (least + too_many) / 2;
    (sequence.of(middle * kKvPageTokens) <= bytes ? least : too_many) = middle;
  }
  return std::min(options.context, least * kKvPageTokens);
}

void check_available(const EngineOptions& options, const model::Model& model, const SequenceBytes& sequence) {
  if (!options.available_memory) return;
  // Mapped weights count as available memory, but every step reads them.
  uint64_t mapped = 0, buffers = 0;
  for (const model::Model* one : {&model, options.draft.get()}) {
    if (!one) continue;
    mapped += one->weights.mapped_bytes;
    buffers += model::buffer_bytes(one->config, options.prefill_chunk + options.max_sequences,
                                   options.max_sequences, options.threads);
  }
  const uint64_t available = *options.available_memory - std::min(*options.available_memory, mapped);
  const uint64_t kv = sequence.of(options.context);
  if (kv <= available && buffers <= available - kv) return;
  const bool any_fits = available > buffers && sequence.of(kKvPageTokens) <= available - buffers;
  const std::string advice =
      any_fits ? "a context of " + std::to_string(longest_context(options, sequence, available - buffers)) +
                     " tokens fits" +
                     (options.kv_type == KvType::f16 ? ", with KV type q8_0 nearly twice as many" : "")
               : "reduce prefill_chunk or stop other programs";
  fail(Code::out_of_memory, "engine: a context of ", options.context, " tokens needs ", kv,
       " bytes for keys and values and about ", buffers, " for buffers, and ", available,
       " are available beside the weights; ", advice);
}

}  // namespace

EngineOptions within_memory(EngineOptions options, const model::Model& model,
                            const model::StateLayout& layout) {
  const SequenceBytes sequence(options, layout);
  if (sequence.of(kKvPageTokens) > options.max_kv_bytes)
    fail(Code::invalid_argument, "max_kv_bytes: expected at least ", sequence.of(kKvPageTokens),
         ", the keys and values of ", kKvPageTokens, " tokens, got ", options.max_kv_bytes);
  if (sequence.of(options.context) > options.max_kv_bytes)
    options.context = longest_context(options, sequence, options.max_kv_bytes);
  check_available(options, model, sequence);
  return options;
}

}  // namespace binhdan::engine
