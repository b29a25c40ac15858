// A submitted request: its prompt, state, sampler and text output.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/events.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "engine/stop.h"
#include "model/forward.h"
#include "model/model.h"
#include "model/state.h"
#include "text/tokenizer.h"

namespace binhdan::engine {

struct Request {
  enum class Kind { generate, embed } kind = Kind::generate;
  std::vector<Token> prompt;
  int64_t max_tokens = -1;  // -1: as many as the context holds
  SamplingParams sampling;
  std::vector<std::string> stops;
  bool ignore_eos = false;
  bool use_mask = false;
  bool use_cache = true;    // read and write the prefix cache
  uint64_t cache_salt = 0;  // requests with different salts share nothing

  // Throws Error naming the field.
  void check(const model::Model& model, int64_t context) const;
};

// For one thread, except the fields in `shared`, which the engine's mutex guards.
class Sequence {
 public:
  Sequence(uint64_t id, const model::Model& model, Request request, int64_t context, KvType kv_type,
           std::shared_ptr<EventQueue> queue);

  enum class Phase {
    prefill,           // prompt tokens are left to compute
    decode,            // the last token is left to compute
    waiting_for_mask,  // the logits are computed; the caller's mask is missing
    finished,
  };

  struct Shared {
    bool admitted = false;  // is among the running sequences
    bool cancelled = false;
    std::optional<std::vector<uint32_t>> mask;
  } shared;

  uint64_t id() const { return id_; }
  Phase phase() const { return phase_; }
  bool uses_mask() const { return request_.use_mask; }
  const EventQueue* queue() const { return queue_.get(); }
  // KV pages; the prefix cache holds the first shared_pages() of them. max_pages(): at the end of the answer.
  size_t pages() const { return state_.bytes() / state_.page_bytes(); }
  size_t shared_pages() const { return shared_pages_; }
  size_t max_pages() const;

  // Adopts cached pages of the rest of the prompt, without its last token. A running sequence, for which the
  // engine has reserved max_pages(), also adopts pages from disk.
  void adopt(PrefixCache& cache);
  // Adds the newly computed pages to the cache.
  void share(PrefixCache& cache);
  // Hashes of the full pages that the next `tokens` prompt tokens will compute; none for a request without
  // cache.
  std::span<const uint64_t> pages_ahead(int64_t tokens) const;

  // The next chunk, of at most `budget` prompt tokens; reserves its KV pages. Throws Error(out_of_memory).
  model::Chunk next_chunk(int64_t budget, bool deterministic);
  // After the forward pass: results of this sequence's chunk.
  void take_hidden(std::span<const float> row);  // embed: one row of the chunk
  // Advances past the chunk. An embed request sends its embedding and ends after the last chunk.
  void chunk_done();
  // Chooses the next token from the logits of the last position, or keeps the logits until resume() when the
  // request needs a mask. Sequences may choose in parallel.
  void choose(std::span<float> logits, const std::optional<std::vector<uint32_t>>& mask);
  // Sends the chosen token, if any, then continues or ends.
  void take_choice();
  // For a sequence in waiting_for_mask, when the mask has arrived.
  void resume(const std::optional<std::vector<uint32_t>>& mask);
  void finish(Event::Finish reason, int32_t status = 0, std::string message = {});

 private:
  bool shares() const { return request_.use_cache && request_.kind == Request::Kind::generate; }
  void adopt_start(PrefixCache& cache);
  void emit(const Choice& choice);
  Event make_event(Event::Kind kind) const;
  void send(Event event);

  const uint64_t id_;
  const model::Model& model_;
  const Request request_;
  const int64_t context_;
  std::shared_ptr<EventQueue> queue_;
  Phase phase_ = Phase::prefill;
  model::SequenceState state_;
  Sampler sampler_;
  text::StreamDecoder decoder_;
  StopMatcher stop_;
  TokenChain chain_;
  size_t shared_pages_ = 0, cached_tokens_ = 0;
  size_t prompt_done_ = 0, chunk_ = 0;
  Token last_ = -1;
  int32_t answer_tokens_ = 0;
  std::optional<Choice> choice_;    // between choose() and take_choice()
  std::vector<float> kept_logits_;  // phase waiting_for_mask
  std::vector<double> pooled_;      // embed: sum of the hidden states
  int64_t submitted_ns_, started_ns_ = 0, first_token_ns_ = 0, last_token_ns_ = 0;
};

}  // namespace binhdan::engine
