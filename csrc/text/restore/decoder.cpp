#include "text/restore/decoder.h"

#include <algorithm>
#include <cmath>

namespace binhdan::text::restore {
namespace {

constexpr std::size_t kBeam = 16;
constexpr int32_t kMaxLoss = 14 * kScoreUnit;  // states with a lower score than the best minus this are dropped
constexpr uint16_t kEndChoice[] = {kEnd};

uint64_t last_ids(uint64_t history, unsigned count) {
  return history & ((uint64_t{1} << (kIdBits * count)) - 1);
}

}  // namespace

Decoder::State Decoder::start() const {
  State state;
  state.size = 1;
  state.history = kEnd;
  state.backoff[0] = model_->unigram(kEnd).backoff;
  return state;
}

Decoder::State Decoder::extend(const State& state, uint16_t id) const {
  return extend(state, id, state.size == 0 ? Entry{} : model_->find(2, last_ids(state.history, 1) << kIdBits | id));
}

// Longer n-grams exist only if the shorter ones that they end with do, so the search stops at the first missing one.
Decoder::State Decoder::extend(const State& state, uint16_t id, const Entry& bigram) const {
  const Entry unigram = model_->unigram(id);
  State next;
  next.id = id;
  next.backoff[0] = unigram.backoff;
  next.history = id;
  next.size = 1;
  int32_t p = unigram.p;
  unsigned used = 0;  // ids of the history in the longest n-gram that was found
  bool inner = true;
  Entry entry = bigram;
  while (used < state.size && entry.found) {
    ++used;
    p = entry.p;
    inner = inner && entry.inner;
    if (inner && used < model_->order() - 1) {
      next.backoff[used] = entry.backoff;
      next.history |= (state.history >> (kIdBits * (used - 1)) & ((1u << kIdBits) - 1)) << (kIdBits * used);
      next.size = static_cast<uint8_t>(used + 1);
    }
    if (used < state.size) entry = model_->find(used + 2, last_ids(state.history, used + 1) << kIdBits | id);
  }
  for (unsigned i = used; i < state.size; ++i) p += state.backoff[i];
  next.score = state.score + p;
  if (id == kEnd) {
    next.history = kEnd;
    next.size = 1;
  }
  return next;
}

int32_t Decoder::own_score(const Slot& slot, uint16_t id) const {
  if (id == kOther) return slot.penalized ? -model_->other_penalty() : 0;
  return slot.capital ? model_->capital(id) : 0;
}

void Decoder::step(const Slot& slot, std::span<const uint16_t> choices) {
  const std::size_t begin = layers_.back(), end = states_.size();
  // Many states have the same last id: look up its bigrams once.
  pairs_.clear();
  bigrams_.clear();
  for (std::size_t i = begin; i < end; ++i) {
    const uint16_t id = states_[i].id;
    if (std::ranges::find(pairs_, id, &Pair::id) != pairs_.end()) continue;
    pairs_.push_back({id, static_cast<uint32_t>(bigrams_.size())});
    for (const uint16_t choice : choices) bigrams_.push_back(model_->find(2, uint64_t{id} << kIdBits | choice));
  }
  fresh_.clear();
  for (std::size_t c = 0; c < choices.size(); ++c) {
    const std::size_t first = fresh_.size();
    const int32_t own = own_score(slot, choices[c]);
    for (std::size_t i = begin; i < end; ++i) {
      const auto pair = std::ranges::find(pairs_, states_[i].id, &Pair::id);
      State next = extend(states_[i], choices[c], bigrams_[pair->first + c]);
      next.score += own;
      next.previous = static_cast<uint32_t>(i);
      const auto same = std::find_if(fresh_.begin() + static_cast<std::ptrdiff_t>(first), fresh_.end(), [&](const State& s) {
        return s.history == next.history && s.size == next.size;
      });
      if (same == fresh_.end())
        fresh_.push_back(next);
      else if (next.score > same->score)
        *same = next;
    }
  }
  const auto better = [](const State& a, const State& b) { return a.score > b.score; };
  if (fresh_.size() > kBeam) {
    std::ranges::nth_element(fresh_, fresh_.begin() + kBeam, better);
    fresh_.resize(kBeam);
  }
  const int32_t limit = std::ranges::max_element(fresh_, {}, &State::score)->score - kMaxLoss;
  layers_.push_back(static_cast<uint32_t>(end));
  for (const State& state : fresh_)
    if (state.score >= limit) states_.push_back(state);
}

int32_t Decoder::decode() {
  states_.clear();
  layers_.clear();
  states_.push_back(start());
  layers_.push_back(0);
  for (const Slot& slot : slots_) step(slot, std::span(choices_).subspan(slot.first, slot.count));
  step({}, kEndChoice);
  const auto last = std::max_element(states_.begin() + layers_.back(), states_.end(),
                                     [](const State& a, const State& b) { return a.score < b.score; });
  best_.resize(slots_.size());
  uint32_t at = last->previous;
  for (std::size_t i = slots_.size(); i-- > 0;) {
    best_[i] = states_[at].id;
    at = states_[at].previous;
  }
  return last->score;
}

int32_t Decoder::score(std::span<const uint16_t> path) const {
  State state = start();
  for (std::size_t i = 0; i < path.size(); ++i) {
    state = extend(state, path[i]);
    state.score += own_score(slots_[i], path[i]);
  }
  return extend(state, kEnd).score;
}

void Decoder::choice_probabilities(std::span<uint16_t> path, std::size_t slot, std::vector<float>& out) const {
  const uint16_t chosen = path[slot];
  const std::size_t from = slot - std::min<std::size_t>(slot, kMaxOrder - 1);
  const std::size_t to = std::min(path.size(), slot + kMaxOrder);
  out.clear();
  for (const uint16_t choice : std::span(choices_).subspan(slots_[slot].first, slots_[slot].count)) {
    path[slot] = choice;
    State state = from == 0 ? start() : State{};
    for (std::size_t i = from; i < to; ++i) {
      state = extend(state, path[i]);
      if (i == slot) state.score += own_score(slots_[i], path[i]);
    }
    if (to == path.size()) state = extend(state, kEnd);
    out.push_back(static_cast<float>(state.score) / kScoreUnit);
  }
  path[slot] = chosen;
  const float highest = *std::ranges::max_element(out);
  float sum = 0;
  for (float& value : out) sum += value = std::exp(value - highest);
  for (float& value : out) value /= sum;
}

}  // namespace binhdan::text::restore
