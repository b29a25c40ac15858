// A request on its way: prompt, state, sampler, and the text that leaves.
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

// Used by one thread, but for the fields in `shared`, which the engine's mutex guards.
class Sequence {
 public:
  Sequence(uint64_t id, const model::Model& model, Request request, int64_t context, KvType kv_type,
           std::shared_ptr<EventQueue> queue);

  enum class Phase {
    prompt,  // tokens of the prompt wait for the forward pass
    decode,  // the last sampled token does
    masked,  // logits are there, the caller's mask is not
    finished,
  };

  struct Shared {
    bool admitted = false;  // among the running
    bool cancelled = false;
    std::optional<std::vector<uint32_t>> mask;
  } shared;

  uint64_t id() const { return id_; }
  Phase phase() const { return phase_; }
  bool uses_mask() const { return request_.use_mask; }
  const EventQueue* queue() const { return queue_.get(); }
  // Pages of keys and values, of which the prefix cache holds the first shared_pages(): now, and at most.
  size_t pages() const { return state_.bytes() / state_.page_bytes(); }
  size_t shared_pages() const { return shared_pages_; }
  size_t max_pages() const;

  // Takes over what the cache knows of the rest of the prompt, but for its last token; with its pages on
  // disk once this one is among the running, and max_pages() are set aside for it.
  void adopt(PrefixCache& cache);
  // Gives the cache the pages that were computed meanwhile.
  void share(PrefixCache& cache);
  // What the next tokens of the prompt will compute, as hashes of whole pages; for requests that share.
  std::span<const uint64_t> pages_ahead(int64_t tokens) const;

  // The next chunk, of at most `budget` prompt tokens; reserves its KV. Throws Error(out_of_memory).
  model::Chunk next_chunk(int64_t budget, bool deterministic);
  // After the forward pass: results of this sequence's chunk.
  void take_hidden(std::span<const float> row);  // embed: one row of the chunk
  // Moves past the chunk; an embed request whose prompt is all computed sends its answer and ends.
  void chunk_done();
  // The logits of the last position: chooses the next token at once, or keeps them until set_mask when the
  // request wants a mask. Sequences may choose at the same time.
  void choose(std::span<float> logits, const std::optional<std::vector<uint32_t>>& mask);
  // Sends the token that was chosen, if any, and goes on or ends.
  void take_choice();
  // For a masked sequence whose mask has come.
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
  Phase phase_ = Phase::prompt;
  model::SequenceState state_;
  Sampler sampler_;
  text::StreamDecoder decoder_;
  StopMatcher stop_;
  TokenChain chain_;
  size_t shared_pages_ = 0, cached_tokens_ = 0;
  size_t prompt_done_ = 0, chunk_ = 0;
  Token last_ = -1;
  int32_t answer_tokens_ = 0;
  std::optional<Choice> choice_;    // until it is taken
  std::vector<float> kept_logits_;  // phase masked
  std::vector<double> pooled_;      // embed: sum of the hidden states
  int64_t submitted_ns_, started_ns_ = 0, first_token_ns_ = 0, last_token_ns_ = 0;
};

}  // namespace binhdan::engine
