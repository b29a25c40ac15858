// Guesses the next tokens of an answer with a draft model: a smaller model of the same vocabulary (Leviathan et al.
// 2023). The engine verifies a guess in one forward pass of its model, so that answers do not change.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/forward.h"
#include "model/model.h"
#include "model/state.h"
#include "text/vocab.h"

namespace binhdan::engine {

// How many tokens to guess: as many as make the expected time of an answer shortest, by the share of guesses that
// were right and the cost of a guess.
class GuessLength {
 public:
  // cost: of a guessed token, as a share of the cost of a step without guesses.
  explicit GuessLength(double cost) : cost_(cost) {}

  // At most `limit`; 0 while guessing does not pay.
  int64_t next(int64_t limit);
  // `accepted` of `guessed` tokens were right.
  void record(int64_t guessed, int64_t accepted);

 private:
  static constexpr int64_t kFirstPause = 8, kLastPause = 64;  // steps

  // Expected tokens in the time of a step without guesses.
  double speedup(int64_t guesses) const;

  const double cost_;
  double right_ = 0.8;                            // share of right guesses, a moving average
  int64_t pause_ = 0, next_pause_ = kFirstPause;  // steps without a guess
};

// The draft model's view of one sequence.
class Draft {
 public:
  Draft(std::shared_ptr<const model::StateLayout> layout, double cost)
      : state_(std::move(layout)), length_(cost) {}

  std::span<const text::Token> guess() const { return guess_; }
  // How many tokens of the guess the engine's model chose.
  void accept(int64_t tokens);
  void release();
  uint64_t bytes() const { return state_.bytes(); }
  int32_t drafted() const { return drafted_; }
  int32_t accepted() const { return accepted_; }

 private:
  friend class Drafter;

  model::SequenceState state_;
  std::vector<text::Token> computed_;  // tokens in state_
  std::vector<text::Token> guess_;
  GuessLength length_;
  int32_t drafted_ = 0, accepted_ = 0;
};

// Owns the forward pass of the draft model. Used by the stepping thread alone.
class Drafter {
 public:
  // context, chunk, type: of the engine. Throws Error(invalid_argument) if the models do not fit together.
  Drafter(std::shared_ptr<const model::Model> draft, const model::Model& target, int threads, int64_t context,
          int64_t chunk, KvType type);

  // What a Draft of so many tokens may need, in bytes.
  uint64_t max_bytes(int64_t tokens) const { return layout_->max_bytes(std::min(tokens, context_), chunk_); }
  std::unique_ptr<Draft> make_draft() const { return std::make_unique<Draft>(layout_, cost_); }

  struct Task {
    Draft* draft;
    std::span<const text::Token> tokens;  // the prompt and the answer so far
    int64_t limit;                        // of the guess
  };
  // Sets the guess of each draft. Computes at most `budget` tokens that the drafts have not seen; a draft that is not
  // complete after that guesses nothing. An error of the draft model ends guessing, not the answers.
  void run(std::span<const Task> tasks, int64_t budget);

 private:
  void guess(std::span<const Task> tasks, int64_t budget);
  int64_t wanted_tokens(const Task& task) const;

  const std::shared_ptr<const model::Model> draft_;
  const model::Model& target_;
  const int64_t context_, chunk_;
  const std::shared_ptr<const model::StateLayout> layout_;
  const double cost_;
  model::Forward forward_;
  bool failed_ = false;
};

}  // namespace binhdan::engine
