#include "engine/drafter.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/log.h"

namespace binhdan::engine {
namespace {
// A row that verifies a guess costs this share of a step. Assumed: a step of up to eight rows reads the same weights as
// one of a single row.
constexpr double kRowCost = 0.05;
// Guessing must promise this speedup.
constexpr double kLeastSpeedup = 1.05;
// Weight of a new guess in the share of right guesses.
constexpr double kNewest = 0.08;
// Up to this many tokens that a draft has not seen are computed as decode rows.
constexpr size_t kDecodeRows = 8;

void check_vocabularies(const text::Vocab& draft, const text::Vocab& target) {
  // Larger models of a family pad the vocabulary with unused tokens.
  const size_t common = std::min(draft.tokens.size(), target.tokens.size());
  const auto end = draft.tokens.begin() + static_cast<std::ptrdiff_t>(common);
  const auto different = std::mismatch(draft.tokens.begin(), end, target.tokens.begin()).first;
  if (different != end) {
    const auto token = static_cast<size_t>(different - draft.tokens.begin());
    fail(Code::invalid_argument, "draft: expected a model with the tokens of the engine's model, but token ",
         token, " is \"", draft.tokens[token], "\" in the draft model and \"", target.tokens[token],
         "\" in the engine's model");
  }
}

std::shared_ptr<const model::Model> checked(std::shared_ptr<const model::Model> draft,
                                            const model::Model& target) {
  check_vocabularies(draft->tokenizer.vocab(), target.tokenizer.vocab());
  for (const model::Model* model : {draft.get(), &target}) {
    const char* which = model == &target ? "engine's" : "draft";
    if (!model->config.causal)
      fail(Code::invalid_argument, "draft: the ", which, " model (architecture ", model->config.architecture,
           ") is an encoder, which generates no text");
    if (model::StateLayout(model->config).is_recurrent())
      fail(Code::invalid_argument, "draft: the ", which, " model (architecture ", model->config.architecture,
           ") has recurrent layers, whose state cannot go back behind a wrong guess; load it without a draft "
           "model");
  }
  return draft;
}

}  // namespace

double GuessLength::speedup(int64_t guesses) const {
  // 1 + a + a^2 + ... tokens are expected, with a share `a` of right guesses.
  double tokens = 0, all_right = 1;
  for (int64_t i = 0; i <= guesses; ++i) {
    tokens += all_right;
    all_right *= right_;
  }
  return tokens / (1 + static_cast<double>(guesses) * (cost_ + kRowCost));
}

int64_t GuessLength::next(int64_t limit) {
  if (limit <= 0) return 0;
  if (pause_ > 0) {
    --pause_;
    return 0;
  }
  int64_t best = 0;
  for (int64_t guesses = 1; guesses <= limit; ++guesses)
    if (speedup(guesses) > std::max(kLeastSpeedup, speedup(best))) best = guesses;
  if (best > 0) {
    next_pause_ = kFirstPause;
    return best;
  }
  // A single guess shows whether the model has become predictable, then a pause follows.
  pause_ = next_pause_;
  next_pause_ = std::min(2 * next_pause_, kLastPause);
  return 1;
}

void GuessLength::record(int64_t guessed, int64_t accepted) {
  for (int64_t i = 0; i < std::min(guessed, accepted + 1); ++i)
    right_ += kNewest * ((i < accepted ? 1.0 : 0.0) - right_);
}

void Draft::accept(int64_t tokens) {
  drafted_ += static_cast<int32_t>(guess_.size());
  accepted_ += static_cast<int32_t>(tokens);
  length_.record(std::ssize(guess_), tokens);
  guess_.clear();
}

void Draft::release() {
  state_.release();
  computed_ = {};
  guess_ = {};
}

Drafter::Drafter(std::shared_ptr<const model::Model> draft, const model::Model& target, int threads,
                 int64_t context, int64_t chunk, KvType type)
    : draft_(checked(std::move(draft), target)),
      target_(target),
      context_(std::min(context, draft_->config.context)),
      chunk_(chunk),
      layout_(std::make_shared<const model::StateLayout>(draft_->config, type)),
      cost_(static_cast<double>(draft_->weights.bytes_per_token()) /
            static_cast<double>(std::max<uint64_t>(1, target.weights.bytes_per_token()))),
      forward_(*draft_, threads, context_) {}

// How many tokens to guess; 0 also if the context of the draft model ends.
int64_t Drafter::wanted_tokens(const Task& task) const {
  const auto fits_all = [&](text::Token token) { return token < draft_->config.vocabulary; };
  if (!std::ranges::all_of(task.tokens.subspan(std::min(task.tokens.size(), task.draft->computed_.size())),
                           fits_all))
    return 0;
  return task.draft->length_.next(std::min(task.limit, context_ - std::ssize(task.tokens)));
}

void Drafter::run(std::span<const Task> tasks, int64_t budget) {
  for (const Task& task : tasks) task.draft->guess_.clear();
  if (failed_) return;
  try {
    guess(tasks, budget);
  } catch (const std::exception& error) {
    failed_ = true;
    log(LogLevel::warning, "the draft model failed and is not used any more: ", error.what());
    for (const Task& task : tasks) task.draft->release();
  }
}

void Drafter::guess(std::span<const Task> tasks, int64_t budget) {
  struct Guess {
    Draft* draft;
    int64_t left;                         // tokens to guess
    std::span<const text::Token> tokens;  // of the next forward pass
  };
  std::vector<Guess> guesses;
  std::vector<model::Chunk> chunks;
  const auto add = [&](Draft& draft, std::span<const text::Token> tokens, bool complete, int64_t unverified) {
    draft.state_.reserve(std::ssize(tokens));
    draft.computed_.insert(draft.computed_.end(), tokens.begin(), tokens.end());
    chunks.push_back({&draft.state_, tokens, complete ? model::Outputs::last_logits : model::Outputs::none,
                      tokens.size() <= kDecodeRows});
    chunks.back().unverified = unverified;
  };
  for (const Task& task : tasks) {
    Draft& draft = *task.draft;
    const int64_t wanted = wanted_tokens(task);
    if (wanted == 0) continue;
    // Guesses that were wrong.
    const auto first_wrong = std::ranges::mismatch(draft.computed_, task.tokens).in1;
    draft.state_.truncate(draft.computed_.end() - first_wrong);
    draft.computed_.erase(first_wrong, draft.computed_.end());
    const auto unseen = task.tokens.subspan(draft.computed_.size());
    if (budget <= 0 || unseen.empty()) continue;
    const auto now = unseen.first(std::min(unseen.size(), static_cast<size_t>(std::min(budget, chunk_))));
    budget -= std::ssize(now);
    const bool complete = now.size() == unseen.size();
    add(draft, now, complete, 0);
    if (complete) guesses.push_back({&draft, wanted, now});
  }
  // Chunks of decode rows come first in a batch, so results are found by the state.
  const auto result_of = [&](const Draft& draft) {
    const auto is_of = [&](const model::Chunk& chunk) { return chunk.state == &draft.state_; };
    return static_cast<size_t>(std::ranges::find_if(chunks, is_of) - chunks.begin());
  };
  while (!chunks.empty()) {
    std::ranges::partition(chunks, [](const model::Chunk& chunk) { return chunk.decode; });
    forward_.run(chunks);
    std::vector<Guess> next;
    for (Guess& one : guesses) {
      const auto logits = forward_.logits(result_of(*one.draft));
      const auto best = std::ranges::max_element(logits);
      const auto token = static_cast<text::Token>(best - logits.begin());
      if (!std::isfinite(*best) || token >= target_.config.vocabulary) continue;
      one.draft->guess_.push_back(token);
      if (--one.left > 0 && !target_.tokenizer.vocab().ends_generation(token)) next.push_back(one);
    }
    guesses = std::move(next);
    chunks.clear();
    for (Guess& one : guesses)
      add(*one.draft, std::span(one.draft->guess_).last(1), true, std::ssize(one.draft->guess_));
  }
}

}  // namespace binhdan::engine
