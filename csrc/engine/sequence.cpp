#include "engine/sequence.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/clock.h"

namespace binhdan::engine {
namespace {
constexpr size_t kMaxStops = 64, kMaxStopBytes = 4096, kMaxStopTokens = 1024;
constexpr auto kPage = static_cast<size_t>(kKvPageTokens);
// While a recurrent model decodes, a checkpoint is kept for a page in this many at least, and for fewer if one
// has more bytes than the keys and values of so many pages.
constexpr size_t kMaxCheckpointInterval = 8;
constexpr int32_t kLeastLoopGuard = 16, kMostLoopGuard = 1 << 20, kMostDraftTokens = 15;
// Tokens of an answer that are scored in one batch: each has a row of logits.
constexpr size_t kScoredRows = 32;

// One vector for each text is what callers of an embedding expect, so `none` is the mean.
model::Pooling pooling_of(const Request& request, const model::Config& config) {
  const model::Pooling pooling = request.pooling.value_or(config.pooling);
  return pooling == model::Pooling::none ? model::Pooling::mean : pooling;
}
}  // namespace

void Request::check(const model::Model& model, int64_t context) const {
  if (kind != Kind::embed && !model.config.causal)
    fail(Code::invalid_argument, "kind: this model is an encoder (architecture ", model.config.architecture,
         "), which generates no text; use embed");
  if (kind == Kind::embed) check_embedding(model);
  if (prompt.empty()) fail(Code::invalid_argument, "tokens: expected at least one, got none");
  if (std::cmp_greater(prompt.size(), context))
    fail(Code::too_large, "tokens: the prompt has ", prompt.size(), " tokens, but the context holds ",
         context, "; shorten the prompt, or create the engine with a larger context");
  for (size_t i = 0; i < prompt.size(); ++i)
    if (prompt[i] < 0 || prompt[i] >= model.config.vocabulary)
      fail(Code::invalid_argument, "tokens[", i, "]: expected 0 to ", model.config.vocabulary - 1, ", got ",
           prompt[i]);
  if (max_tokens < -1) fail(Code::invalid_argument, "max_tokens: expected -1 or more, got ", max_tokens);
  if (stops.size() > kMaxStops)
    fail(Code::too_large, "stop: expected at most ", kMaxStops, " texts, got ", stops.size());
  for (const std::string& stop : stops)
    if (stop.size() > kMaxStopBytes)
      fail(Code::too_large, "stop: expected at most ", kMaxStopBytes, " bytes, got ", stop.size());
  if (stop_tokens.size() > kMaxStopTokens)
    fail(Code::too_large, "stop_tokens: expected at most ", kMaxStopTokens, ", got ", stop_tokens.size());
  for (const Token token : stop_tokens)
    if (token < 0 || token >= model.config.vocabulary)
      fail(Code::invalid_argument, "stop_tokens: expected tokens 0 to ", model.config.vocabulary - 1,
           ", got ", token);
  if (min_tokens < 0) fail(Code::invalid_argument, "min_tokens: expected 0 or more, got ", min_tokens);
  if (loop_guard != 0 && (loop_guard < kLeastLoopGuard || loop_guard > kMostLoopGuard))
    fail(Code::invalid_argument, "loop_guard: expected 0 or ", kLeastLoopGuard, " to ", kMostLoopGuard,
         ", got ", loop_guard);
  if (max_draft_tokens < 0 || max_draft_tokens > kMostDraftTokens)
    fail(Code::invalid_argument, "max_draft_tokens: expected 0 to ", kMostDraftTokens, ", got ",
         max_draft_tokens);
  if (kind == Kind::score && (score_from < 1 || score_from >= prompt.size()))
    fail(Code::invalid_argument, "score_from: expected 1 to n_tokens - 1 = ", prompt.size() - 1, ", got ",
         score_from);
  if (adapter && &adapter->model() != &model)
    fail(Code::invalid_argument, "adapter: expected one that was opened for this model, got one of another");
  sampling.check(static_cast<int32_t>(model.config.vocabulary));
}

void Request::check_embedding(const model::Model& model) const {
  const bool scores = pooling_of(*this, model.config) == model::Pooling::rank;
  if (scores && !model.weights.classifier)
    fail(Code::invalid_argument, "pooling: expected another value than rank; this model has no classifier");
  const int64_t limit = scores ? 1 : model.weights.embedding_size(model.config);
  if (dimensions < 0 || dimensions > limit)
    fail(Code::invalid_argument, "dimensions: expected 0 to ", limit, ", the size of this model's ",
         scores ? "scores" : "embeddings", ", got ", dimensions);
}

Sequence::Sequence(uint64_t id, const model::Model& model, Request request, int64_t context, int64_t chunk,
                   std::shared_ptr<const model::StateLayout> layout, std::shared_ptr<EventQueue> queue,
                   const Drafter* drafter)
    : id_(id),
      model_(model),
      request_(std::move(request)),
      context_(context),
      max_chunk_(chunk),
      queue_(std::move(queue)),
      state_(std::move(layout)),
      sampler_(request_.sampling, static_cast<int32_t>(model.config.vocabulary)),
      decoder_(model.tokenizer, request_.prompt.back()),
      stop_(request_.stops),
      chain_(request_.cache_salt ^ (request_.adapter ? request_.adapter->identity() : 0), request_.prompt),
      loop_guard_(request_.loop_guard),
      drafter_(drafter),
      lookup_(state_.layout().is_recurrent() || request_.use_mask ? 0 : request_.max_draft_tokens),
      pooling_(pooling_of(request_, model.config)),
      submitted_ns_(now_ns()) {
  sampler_.accept_prompt(request_.prompt);
  if (request_.min_tokens > 0) {
    end_tokens_ = request_.stop_tokens;
    const auto& ends = model.tokenizer.vocab().end_of_generation;
    if (!request_.ignore_eos) end_tokens_.insert(end_tokens_.end(), ends.begin(), ends.end());
  }
  if (drafter_ && generates() && lookup_.on()) draft_ = drafter_->make_draft();
}

uint64_t Sequence::max_own_bytes() const {
  const int64_t prompt = static_cast<int64_t>(request_.prompt.size()), left = context_ - prompt;
  const int64_t answer = !generates()              ? 0
                         : request_.max_tokens < 0 ? left
                                                   : std::min(left, request_.max_tokens);
  const model::StateLayout& layout = state_.layout();
  return layout.max_bytes(prompt + answer, max_chunk_) + (draft_ ? drafter_->max_bytes(prompt + answer) : 0) -
         cached_pages_ * layout.sizes().part(model::PagePart::full);
}

void Sequence::take_pages_from(PrefixCache& cache) {
  if (!uses_cache() || phase_ != Phase::prefill || prompt_done_ % kPage != 0) return;
  const size_t own = prompt_done_ / kPage;
  if (cached_pages_ < own) return;  // the cache did not accept this sequence's own pages
  const size_t end = (prefill_end() - 1) / kPage;
  const auto pages =
      locked.admitted ? cache.find_or_load(chain_, own, end) : cache.find_in_memory(chain_, own, end);
  const size_t count = state_.usable(pages);
  state_.append_shared(std::span(pages).first(count));
  cached_pages_ += count;
  cached_tokens_ += count * kPage;
  prompt_done_ += count * kPage;
  if (locked.admitted && !state_.layout().is_recurrent()) take_partial_page_from(cache);
}

// Prompts with a common beginning usually differ inside a page, not at its end. Takes the positions of that
// page up to the first token that differs.
void Sequence::take_partial_page_from(PrefixCache& cache) {
  if (prompt_done_ + 1 >= prefill_end()) return;
  const size_t rest = std::min(prefill_end() - 1 - prompt_done_, kPage - 1);
  const auto next = std::span(request_.prompt).subspan(prompt_done_, rest);
  PartialPage partial = cache.find_or_load_partial(chain_, prompt_done_ / kPage, next);
  if (partial.tokens == 0) return;
  state_.append_partial(std::move(partial.page), static_cast<int64_t>(partial.tokens));
  cached_tokens_ += partial.tokens;
  prompt_done_ += partial.tokens;
}

void Sequence::add_pages_to(PrefixCache& cache) {
  if (!uses_cache()) return;
  const size_t draft = decoding_.empty() ? 0 : decoding_.size() - 1;  // not verified yet
  const auto whole = (static_cast<size_t>(state_.length()) - draft) / kPage;
  for (; cached_pages_ < whole; ++cached_pages_) {
    model::KvPage page = state_.page(cached_pages_);
    if (checkpoint_ && cached_pages_ == checkpoint_page_)
      page.checkpoint = std::exchange(checkpoint_, nullptr);
    if (!cache.add(chain_, cached_pages_, page)) return;
    state_.replace_page(cached_pages_, page);
  }
}

std::span<const uint64_t> Sequence::pages_ahead(int64_t tokens) const {
  if (!uses_cache()) return {};
  const size_t first = prompt_done_ / kPage, end = (prompt_done_ + static_cast<size_t>(tokens)) / kPage;
  return chain_.hashes().subspan(first, std::min(end, chain_.pages()) - first);
}

model::Chunk Sequence::next_chunk(int64_t budget, bool deterministic) {
  if (started_ns_ == 0) started_ns_ = now_ns();
  const bool decode = phase_ == Phase::decode;
  decoding_.clear();
  if (decode) {
    decoding_.push_back(last_);
    const auto guessed = looked_up_.empty() && draft_ ? draft_->guess() : looked_up_;
    decoding_.insert(decoding_.end(), guessed.begin(), guessed.end());
  }
  chunk_ = decode ? decoding_.size() : prompt_chunk(budget);
  state_.reserve(static_cast<int64_t>(chunk_));
  model::Chunk chunk{&state_, decoding_,
                     chunk_ > 1 ? model::Outputs::all_logits : model::Outputs::last_logits, true};
  chunk.adapter = request_.adapter.get();
  chunk.unverified = decode ? static_cast<int64_t>(chunk_) - 1 : 0;
  if (!decode) {
    chunk.tokens = std::span(request_.prompt).subspan(prompt_done_, chunk_);
    chunk.outputs = prefill_outputs();
    chunk.decode = deterministic || computes_scored_tokens();
  }
  if (uses_cache() && state_.layout().is_recurrent()) plan_checkpoint(chunk);
  return chunk;
}

// Guesses tokens for which there is a place.
std::optional<Drafter::Task> Sequence::guess(int64_t limit) {
  looked_up_ = {};
  if (!lookup_.on()) return std::nullopt;
  limit = std::min(limit, context_ - state_.length() - 1);
  if (request_.max_tokens >= 0) limit = std::min(limit, request_.max_tokens - answer_tokens_ - 1);
  looked_up_ = lookup_.guess(chain_.tokens(), limit, draft_ != nullptr);
  if (!draft_) return std::nullopt;
  // Also without a place for a guess: that clears the last one.
  const int64_t of_draft = looked_up_.empty() ? std::min<int64_t>(limit, request_.max_draft_tokens) : 0;
  return Drafter::Task{draft_.get(), chain_.tokens(), of_draft};
}

// Prompt tokens of the next chunk. Those of recurrent models end with a page, so that results do not depend
// on how a prompt was cut (ops/delta_rule.h), and prompts can continue there.
size_t Sequence::prompt_chunk(int64_t budget) const {
  // As a decoding sequence would compute them, so that their scores are those of the generated answer.
  if (computes_scored_tokens())
    return std::min(prompt_end() - prompt_done_, state_.layout().is_recurrent() ? 1 : kScoredRows);
  const size_t left = prefill_end() - prompt_done_;
  const size_t count = computes_prompt_at_once() ? left : std::min(left, static_cast<size_t>(budget));
  if (count == left || !state_.layout().is_recurrent()) return count;
  const size_t end = std::max((prompt_done_ + count) / kPage, prompt_done_ / kPage + 1) * kPage;
  return std::min(left, end - prompt_done_);
}

// Requests the recurrent state at the end of the last page that the chunk completes.
void Sequence::plan_checkpoint(model::Chunk& chunk) {
  const auto start = static_cast<size_t>(state_.length()), end = start + chunk.tokens.size();
  const size_t pages = end / kPage;
  if (pages * kPage <= start) return;
  const model::PageSizes& sizes = state_.layout().sizes();
  const size_t interval = std::clamp<size_t>(sizes.checkpoint / std::max<uint64_t>(1, sizes.all_parts()), 1,
                                             kMaxCheckpointInterval);
  if (phase_ == Phase::decode && pages % interval != 0) return;
  chunk.checkpoint = std::make_shared<Buffer>(sizes.checkpoint);
  chunk.checkpoint_tokens = static_cast<int64_t>(pages * kPage - start);
  checkpoint_ = chunk.checkpoint;
  checkpoint_page_ = pages - 1;
}

// Of the current chunk.
model::Outputs Sequence::prefill_outputs() const {
  using model::Outputs;
  using model::Pooling;
  const bool first = prompt_done_ == 0, last = prompt_done_ + chunk_ == prefill_end();
  if (computes_scored_tokens()) return Outputs::all_logits;
  if (!embeds()) return last ? Outputs::last_logits : Outputs::none;
  if (pooling_ == Pooling::mean) return Outputs::all_hidden;
  if (takes_last_token()) return last ? Outputs::last_hidden : Outputs::none;
  return first ? Outputs::first_hidden : Outputs::none;
}

// A classifier reads the one token that has attended to all others.
bool Sequence::takes_last_token() const {
  return pooling_ == model::Pooling::last || (pooling_ == model::Pooling::rank && model_.config.causal);
}

void Sequence::read_outputs(model::Forward& forward, size_t index) {
  const model::Outputs outputs = phase_ == Phase::prefill ? prefill_outputs() : model::Outputs::none;
  if (generates() || outputs == model::Outputs::none) return;
  if (request_.kind == Request::Kind::logits) {
    const auto logits = forward.logits(index);
    values_.assign(logits.begin(), logits.end());
    return;
  }
  if (scores()) {
    const size_t rows = outputs == model::Outputs::all_logits ? chunk_ : 1;
    const size_t next = prompt_done_ + chunk_ - rows + 1;  // the token that row 0 predicts
    const auto tops = static_cast<size_t>(std::max(0, request_.sampling.top_logprobs));
    for (size_t row = 0; row < rows; ++row) {
      const Choice scored = log_probability(forward.logits(index, row), request_.prompt[next + row], tops);
      values_.push_back(scored.logprob);
      top_.insert(top_.end(), scored.top.begin(), scored.top.end());
      top_.resize(values_.size() * tops, {-1, 0.0f});  // fewer if logits are not numbers
    }
    return;
  }
  const size_t rows = outputs == model::Outputs::all_hidden ? chunk_ : 1;
  for (size_t row = 0; row < rows; ++row) {
    const std::span<const float> hidden = forward.hidden(index, row);
    if (pooling_ == model::Pooling::rank) {
      pooled_ = {model_.weights.classifier.score(hidden)};
    } else {
      pooled_.resize(hidden.size());
      for (size_t i = 0; i < hidden.size(); ++i) pooled_[i] += static_cast<double>(hidden[i]);
    }
  }
}

void Sequence::advance() {
  if (phase_ != Phase::prefill) return;
  prompt_done_ += chunk_;
  if (generates() || prompt_done_ < prompt_end()) return;
  if (embeds()) return finish_embedding();
  finish_values(scores() ? Event::Kind::scores : Event::Kind::logits);
}

void Sequence::finish_values(Event::Kind kind) {
  if (kind == Event::Kind::scores && !std::ranges::all_of(values_, [](float x) { return std::isfinite(x); }))
    return finish_not_numbers();
  Event event = make_event(kind);
  event.values = std::move(values_);
  event.top = std::move(top_);
  send(std::move(event));
  finish(Event::Finish::stop);
}

void Sequence::finish_embedding() {
  if (pooling_ == model::Pooling::mean)
    for (double& value : pooled_) value /= static_cast<double>(request_.prompt.size());
  if (pooling_ != model::Pooling::rank) pooled_ = model_.weights.project_embedding(std::move(pooled_));
  if (request_.dimensions > 0) pooled_.resize(static_cast<size_t>(request_.dimensions));
  double squares = 0;
  for (const double value : pooled_) squares += value * value;
  if (!std::isfinite(squares)) return finish_not_numbers();
  double scale = 1;
  if (pooling_ == model::Pooling::rank) {
    if (request_.normalize) pooled_[0] = 1 / (1 + std::exp(-pooled_[0]));
  } else if (request_.normalize) {
    scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
  }
  Event event = make_event(Event::Kind::embedding);
  for (const double value : pooled_) event.values.push_back(static_cast<float>(value * scale));
  send(std::move(event));
  finish(Event::Finish::stop);
}

void Sequence::finish_not_numbers() {
  finish(
      Event::Finish::error, static_cast<int32_t>(Code::internal),
      "the model computed values that are not numbers. Its file is probably damaged: verify the SHA-256, or "
      "pull the model again");
}

void Sequence::sample(model::Forward& forward, size_t index,
                      const std::optional<std::vector<uint32_t>>& mask) {
  if (request_.max_tokens == 0) return;
  const std::span<float> logits = forward.logits(index);
  if (request_.use_mask && !mask) {
    kept_logits_.assign(logits.begin(), logits.end());
    phase_ = Phase::waiting_for_mask;
    return;
  }
  sample_one(logits, allowed_by(mask));
  for (size_t row = 1; row < decoding_.size() && choices_.back().token == decoding_[row]; ++row) {
    if (ends_answer(choices_.back().token)) break;
    sample_one(forward.logits(index, row), {});
  }
}

// A mask without words allows no token, but Sampler::sample() reads an empty span as "no mask".
std::span<const uint32_t> Sequence::allowed_by(const std::optional<std::vector<uint32_t>>& mask) const {
  static constexpr uint32_t kNothing[1] = {0};
  if (!request_.use_mask) return {};
  return mask->empty() ? std::span(kNothing) : std::span<const uint32_t>(*mask);
}

void Sequence::sample_one(std::span<float> logits, std::span<const uint32_t> allowed) {
  choices_.push_back(sampler_.sample(logits, allowed, banned()));
  const Token token = choices_.back().token;
  if (token >= 0 && !ends_answer(token)) sampler_.accept(token);
}

// The tokens that may not be the next one.
std::span<const Token> Sequence::banned() const {
  const auto tokens = static_cast<size_t>(answer_tokens_) + choices_.size();
  return std::cmp_less(tokens, request_.min_tokens) ? std::span<const Token>(end_tokens_)
                                                    : std::span<const Token>();
}

bool Sequence::ends_answer(Token token) const {
  if (token < 0) return false;
  if (std::ranges::find(request_.stop_tokens, token) != request_.stop_tokens.end()) return true;
  return !request_.ignore_eos && model_.tokenizer.vocab().ends_generation(token);
}

void Sequence::resume(const std::optional<std::vector<uint32_t>>& mask) {
  sample_one(kept_logits_, allowed_by(mask));
  commit_tokens();
}

void Sequence::commit_tokens() {
  if (request_.max_tokens == 0) return finish(Event::Finish::length);
  if (choices_.empty()) return;
  std::vector<Choice> choices;
  choices.swap(choices_);
  if (decoding_.size() > 1) {
    const auto right = static_cast<int64_t>(choices.size()) - 1;
    looked_up_.empty() ? draft_->accept(right) : lookup_.accept(right);
    looked_up_ = {};
    state_.truncate(static_cast<int64_t>(decoding_.size() - choices.size()));
    decoding_.resize(1);
  }
  for (size_t i = 0; i < choices.size() && phase_ != Phase::finished; ++i)
    commit(choices[i], static_cast<int64_t>(choices.size() - 1 - i));
}

// `later`: tokens of the same step that follow; their keys and values are already computed.
void Sequence::commit(const Choice& choice, int64_t later) {
  last_token_ns_ = now_ns();
  if (first_token_ns_ == 0) first_token_ns_ = last_token_ns_;
  if (choice.token < 0) {
    if (request_.use_mask) return finish(Event::Finish::stop);
    return finish_not_numbers();
  }
  last_ = choice.token;
  if (ends_answer(last_)) return finish(Event::Finish::stop);
  chain_.append(last_);
  phase_ = Phase::decode;
  ++answer_tokens_;
  send_token(choice);
  if (stop_.stopped()) {
    finish(Event::Finish::stop);
  } else if (answer_tokens_ == request_.max_tokens) {
    finish(Event::Finish::length);
  } else if (state_.length() - later >= context_) {
    finish(Event::Finish::context);
  } else if (loop_guard_.push(last_) && answer_tokens_ >= request_.min_tokens) {
    finish(Event::Finish::repetition);
  }
}

void Sequence::send_token(const Choice& choice) {
  Event event = make_event(Event::Kind::token);
  event.token = choice.token;
  event.logprob = choice.logprob;
  event.top = choice.top;
  std::string text = decoder_.push(choice.token);
  event.text = answer_tokens_ > request_.min_tokens ? stop_.push(text) : std::move(text);
  send(std::move(event));
}

void Sequence::finish(Event::Finish reason, int32_t status, std::string message) {
  if (phase_ == Phase::finished) return;
  phase_ = Phase::finished;
  Event event = make_event(Event::Kind::finished);
  event.finish = reason;
  event.status = status;
  event.stop_text = stop_.matched();
  if (reason == Event::Finish::stop && ends_answer(last_)) event.token = last_;
  if (reason == Event::Finish::error) {
    event.text = std::move(message);
  } else {
    // Without decoder_.finish(): the answer ends before a character that was not completed.
    event.text = stop_.finish();
  }
  event.prompt_tokens = static_cast<int32_t>(request_.prompt.size());
  event.cached_tokens = static_cast<int32_t>(cached_tokens_);
  event.answer_tokens = answer_tokens_;
  event.drafted_tokens = lookup_.drafted() + (draft_ ? draft_->drafted() : 0);
  event.accepted_tokens = lookup_.accepted() + (draft_ ? draft_->accepted() : 0);
  const int64_t now = now_ns();
  const int64_t started = started_ns_ ? started_ns_ : now;
  const int64_t first = first_token_ns_ ? first_token_ns_ : now;
  event.queue_ns = started - submitted_ns_;
  event.prefill_ns = started_ns_ ? first - started : 0;
  event.decode_ns = first_token_ns_ ? last_token_ns_ - first_token_ns_ : 0;
  send(std::move(event));
  state_.release();
  if (draft_) draft_->release();
  checkpoint_.reset();
  cached_pages_ = 0;
  kept_logits_ = {};
}

Event Sequence::make_event(Event::Kind kind) const {
  Event event{};
  event.kind = kind;
  event.request = id_;
  return event;
}

void Sequence::send(Event event) {
  // A closed queue has no readers.
  if (!queue_->closed()) queue_->push(std::move(event));
}

}  // namespace binhdan::engine
