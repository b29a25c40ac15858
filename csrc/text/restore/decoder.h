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
    extras_.clear();
  }
  std::vector<Slot>& slots() { return slots_; }
  const std::vector<Slot>& slots() const { return slots_; }
  std::vector<uint16_t>& choices() { return choices_; }
  const std::vector<uint16_t>& choices() const { return choices_; }
  // Added to the scores of choices(); empty: nothing is added.
  std::vector<int32_t>& extras() { return extras_; }

  // The best ids of all slots, into best(), and its score. Ends with the end of a sentence. keep_edges: for
  // find_probabilities.
  int32_t decode(bool keep_edges = false);
  // decode() with the choices that have a probability of at least 1/1000, and the best of each slot. probabilities: of
  // choices().
  int32_t decode_likely(std::span<const float> probabilities);
  std::span<const uint16_t> best() const { return best_; }
  // The score of the ids in `path`, one per slot; `with_extras`: with those of the scorer.
  int32_t score(std::span<const uint16_t> path, bool with_extras = true) const;
  // After decode(true): the probability of each choice of all slots, over the paths of the beam. The order is that of
  // choices(). A choice that the beam dropped has 0.
  void find_probabilities(std::vector<float>& out);

 private:
  // A history that the model distinguishes: the last `size` ids, which longer n-grams start with, and their backoffs.
  struct State {
    int32_t score = 0;
    uint32_t previous = 0;
    std::array<int32_t, kMaxOrder - 1> backoff{};
    uint64_t history = 0;  // 14 bits per id, the last lowest
    uint32_t place = 0;    // in fresh_, before the beam drops states
    uint16_t id = kEnd;
    uint8_t size = 0;
  };
  // A step of a path to a state; the state keeps only the best one.
  struct Edge {
    uint32_t from = 0, to = 0;
    int32_t score = 0;  // of the path that ends with it
  };
  // The n-grams of orders 2 and up that end with one id after a state; an order is found only if those before it are.
  using Found = std::array<Entry, kMaxOrder - 1>;

  State start() const;
  State extend(const State& state, uint16_t id, const Found& found) const;
  State extend(const State& state, uint16_t id) const;
  void find_ngrams(std::span<const State> states, std::span<const uint16_t> choices);
  int32_t own_score(const Slot& slot, std::size_t choice) const;
  void step(const Slot& slot);
  void keep_edges_of_layer(std::size_t first_edge);

  const NgramModel* model_ = nullptr;
  std::vector<Slot> slots_, spare_slots_;
  std::vector<uint16_t> choices_, spare_choices_, best_;
  std::vector<int32_t> extras_, spare_extras_;  // of choices_
  std::vector<State> states_, fresh_;
  std::vector<uint32_t> layers_;  // the first state of each slot
  bool keep_edges_ = false;
  std::vector<Edge> edges_;
  std::vector<uint32_t> kept_places_;
  std::vector<double> forward_, backward_;  // of states_
  std::vector<Found> found_;                // [state][choice]
  std::vector<uint64_t> keys_;
  std::vector<uint32_t> places_;  // of keys_ in found_
  std::vector<Entry> entries_;    // of keys_
};

}  // namespace binhdan::text::restore
