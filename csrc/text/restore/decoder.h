// The most likely forms of the syllables of one sentence: a beam search over the lattice of their possible forms.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "text/restore/model.h"

namespace binhdan::text::restore {

// The possible ids of one token: `count` ids from choices[first] on. `typed`: the id of the token as it is.
struct Slot {
  uint32_t first = 0, count = 0;
  uint16_t typed = kOther;
  bool capital = false;    // use the score of capitals
  bool penalized = false;  // kOther has the model's penalty here
};

// One sentence. Keep it for the next one: then nothing is allocated.
class Decoder {
 public:
  // Call it before the other functions.
  void use(const NgramModel& model) { model_ = &model; }

  void clear() {
    slots_.clear();
    choices_.clear();
  }
  std::vector<Slot>& slots() { return slots_; }
  std::vector<uint16_t>& choices() { return choices_; }

  // The best ids of all slots, into best(), and its score. Ends with the end of a sentence.
  int32_t decode();
  std::span<const uint16_t> best() const { return best_; }
  // The score of the ids in `path`, one per slot.
  int32_t score(std::span<const uint16_t> path) const;
  // The probability of each choice of a slot when the other slots have the ids of `path`; the order is that of choices().
  void choice_probabilities(std::span<uint16_t> path, std::size_t slot, std::vector<float>& out) const;

 private:
  // A history that the model distinguishes: the last `size` ids, which longer n-grams start with, and their backoffs.
  struct State {
    int32_t score = 0;
    uint32_t previous = 0;
    std::array<int32_t, kMaxOrder - 1> backoff{};
    uint64_t history = 0;  // 14 bits per id, the last lowest
    uint16_t id = kEnd;
    uint8_t size = 0;
  };
  // The n-grams of orders 2 and up that end with one id after a state; an order is found only if those before it are.
  using Found = std::array<Entry, kMaxOrder - 1>;

  State start() const;
  State extend(const State& state, uint16_t id, const Found& found) const;
  State extend(const State& state, uint16_t id) const;
  void find_ngrams(std::span<const State> states, std::span<const uint16_t> choices);
  int32_t own_score(const Slot& slot, uint16_t id) const;
  void step(const Slot& slot, std::span<const uint16_t> choices);

  const NgramModel* model_ = nullptr;
  std::vector<Slot> slots_;
  std::vector<uint16_t> choices_, best_;
  std::vector<State> states_, fresh_;
  std::vector<uint32_t> layers_;  // the first state of each slot
  std::vector<Found> found_;      // [state][choice]
  std::vector<uint64_t> keys_;
  std::vector<uint32_t> places_;  // of keys_ in found_
  std::vector<Entry> entries_;    // of keys_
};

}  // namespace binhdan::text::restore
