// A submitted request: its prompt, state, sampler and text output.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/drafter.h"
#include "engine/events.h"
#include "engine/lookup.h"
#include "engine/loop_guard.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "engine/stop.h"
#include "model/adapter.h"
#include "model/forward.h"
#include "model/model.h"
#include "model/state.h"
#include "text/tokenizer.h"

namespace binhdan::engine {

struct Request {
  enum class Kind { generate, embed, score, logits } kind = Kind::generate;
  std::vector<Token> prompt;
  int64_t max_tokens = -1;  // -1: as many as the context holds
  SamplingParams sampling;
  std::vector<std::string> stops;
  std::vector<Token> stop_tokens;
  int32_t min_tokens = 0;  // before them nothing but max_tokens and the context ends the answer
  bool ignore_eos = false;
  bool use_mask = false;
  bool use_cache = true;                          // read and write the prefix cache
  uint64_t cache_salt = 0;                        // requests with different salts share nothing
  int32_t loop_guard = 0;                         // LoopGuard
  int32_t max_draft_tokens = 0;                   // Lookup, Drafter
  size_t score_from = 0;                          // Kind::score: the first token that is scored
  std::shared_ptr<const model::Adapter> adapter;  // of the model; nullptr: none

  // Kind::embed:
  std::optional<model::Pooling> pooling;  // nullopt: the model's
  int64_t dimensions = 0;                 // keeps the first values of the embedding; 0: all
  bool normalize = true;                  // scale the embedding to length 1, a score to 0 to 1

  // Throws Error naming the field.
  void check(const model::Model& model, int64_t context) const;

 private:
  void check_embedding(const model::Model& model) const;
};

// The stepping thread uses it alone, except for the fields in `locked`.
class Sequence {
 public:
  // chunk: the maximum prompt tokens in a batch. drafter: of the engine, or nullptr.
  Sequence(uint64_t id, const model::Model& model, Request request, int64_t context, int64_t chunk,
           std::shared_ptr<const model::StateLayout> layout, std::shared_ptr<EventQueue> queue,
           const Drafter* drafter);

  enum class Phase {
    prefill,           // prompt tokens are left to compute
    decode,            // the last token is left to compute
    waiting_for_mask,  // the logits are computed; the caller's mask is missing
    finished,
  };

  // The engine's mutex guards these fields.
  struct Locked {
    bool admitted = false;  // is among the running sequences
    bool cancelled = false;
    std::optional<std::vector<uint32_t>> mask;
  } locked;

  uint64_t id() const { return id_; }
  Phase phase() const { return phase_; }
  bool uses_mask() const { return request_.use_mask; }
  bool embeds() const { return request_.kind == Request::Kind::embed; }
  bool generates() const { return request_.kind == Request::Kind::generate; }
  // The rest of the prompt are tokens of an answer that is scored: decode rows.
  bool computes_scored_tokens() const { return scores() && prompt_done_ >= request_.score_from; }
  int64_t prompt_left() const { return static_cast<int64_t>(prompt_end() - prompt_done_); }
  // An encoder's tokens attend to all tokens of the prompt, so one batch computes them all.
  bool computes_prompt_at_once() const { return !model_.config.causal; }
  const EventQueue* queue() const { return queue_.get(); }
  // Bytes of its state, without pages that the prefix cache also holds: now, and at the end of the longest
  // answer.
  uint64_t own_bytes() const { return state_.bytes(cached_pages_) + (draft_ ? draft_->bytes() : 0); }
  uint64_t max_own_bytes() const;

  // Appends the cached pages of the rest of the prompt, without its last token, whose logits are needed. A
  // waiting sequence takes pages that are in memory. A running one, for which the engine has reserved
  // max_own_bytes(), also takes pages from disk and part of a page.
  void take_pages_from(PrefixCache& cache);
  // Adds the newly computed pages to the cache.
  void add_pages_to(PrefixCache& cache);
  // Hashes of the full pages that the next `tokens` prompt tokens will compute; none for a request without
  // cache.
  std::span<const uint64_t> pages_ahead(int64_t tokens) const;

  // For a sequence that decodes: guesses at most `limit` of the tokens after the last one, by looking them up. Returns
  // a task for the drafter if that finds none.
  std::optional<Drafter::Task> guess(int64_t limit);
  // The next chunk: at most `budget` prompt tokens unless computes_prompt_at_once(), or the last token of the answer
  // and the guess; reserves its KV pages. Throws Error(out_of_memory).
  model::Chunk next_chunk(int64_t budget, bool deterministic);
  // After the forward pass, other requests than generations: takes the hidden states or logits of chunk `index` of the
  // batch. Different sequences may do this in parallel.
  void read_outputs(model::Forward& forward, size_t index);
  // Advances past the chunk. Other requests than generations send their values and end after the last chunk.
  void advance();
  // Samples the next token from the logits of chunk `index`, and further ones while they are those of the draft. If the
  // request needs a mask that has not arrived, keeps the logits until resume(). Different sequences may sample in
  // parallel.
  void sample(model::Forward& forward, size_t index, const std::optional<std::vector<uint32_t>>& mask);
  // Appends and sends the sampled tokens, if any, then continues or ends.
  void commit_tokens();
  // For a sequence in waiting_for_mask, when the mask has arrived.
  void resume(const std::optional<std::vector<uint32_t>>& mask);
  void finish(Event::Finish reason, int32_t status = 0, std::string message = {});

 private:
  bool uses_cache() const { return request_.use_cache && !embeds(); }
  bool scores() const { return request_.kind == Request::Kind::score; }
  // The end of the tokens that are computed; of the tokens that are computed as a prompt.
  size_t prompt_end() const { return request_.prompt.size() - (scores() ? 1 : 0); }
  size_t prefill_end() const { return scores() ? request_.score_from : request_.prompt.size(); }
  model::Outputs prefill_outputs() const;
  bool takes_last_token() const;
  void finish_embedding();
  void finish_values(Event::Kind kind);
  void sample_one(std::span<float> logits, std::span<const uint32_t> allowed);
  std::span<const uint32_t> allowed_by(const std::optional<std::vector<uint32_t>>& mask) const;
  bool ends_answer(Token token) const;
  std::span<const Token> banned() const;
  void commit(const Choice& choice, int64_t later);
  void finish_not_numbers();
  void take_partial_page_from(PrefixCache& cache);
  size_t prompt_chunk(int64_t budget) const;
  void plan_checkpoint(model::Chunk& chunk);
  void send_token(const Choice& choice);
  Event make_event(Event::Kind kind) const;
  void send(Event event);

  const uint64_t id_;
  const model::Model& model_;
  const Request request_;
  const int64_t context_, max_chunk_;
  std::shared_ptr<EventQueue> queue_;
  Phase phase_ = Phase::prefill;
  model::SequenceState state_;
  Sampler sampler_;
  text::StreamDecoder decoder_;
  StopMatcher stop_;
  TokenChain chain_;
  size_t cached_pages_ = 0, cached_tokens_ = 0;
  size_t prompt_done_ = 0, chunk_ = 0;        // tokens: computed of the prompt; of the current chunk
  std::shared_ptr<const Buffer> checkpoint_;  // the recurrent state after page checkpoint_page_
  size_t checkpoint_page_ = 0;
  Token last_ = -1;
  int32_t answer_tokens_ = 0;
  LoopGuard loop_guard_;
  const Drafter* drafter_;
  Lookup lookup_;
  std::span<const Token> looked_up_;  // the guess of lookup_
  std::unique_ptr<Draft> draft_;      // nullptr: no draft model
  std::vector<Token> decoding_;       // tokens of the decode chunk: the last one and its draft
  std::vector<Choice> choices_;       // between sample() and commit_tokens()
  std::vector<float> values_;         // score, logits
  std::vector<std::pair<Token, float>>
      top_;                         // score: the most likely tokens, sampling.top_logprobs for each value
  std::vector<Token> end_tokens_;   // that min_tokens bans
  std::vector<float> kept_logits_;  // phase waiting_for_mask
  const model::Pooling pooling_;    // embed; never none
  std::vector<double> pooled_;      // embed: sum of the hidden states, or the one that `pooling_` takes
  int64_t submitted_ns_, started_ns_ = 0, first_token_ns_ = 0, last_token_ns_ = 0;
};

}  // namespace binhdan::engine
