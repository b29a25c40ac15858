#include "text/restore/decoder.h"

#include <algorithm>
#include <cmath>

namespace binhdan::text::restore {
namespace {

constexpr std::size_t kBeam = 14;
constexpr int32_t kMaxLoss =
    12 * kScoreUnit;  // states with a lower score than the best minus this are dropped
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
  Found found{};
  for (unsigned n = 0; n < state.size; ++n) {
    found[n] = model_->find(n + 2, last_ids(state.history, n + 1) << kIdBits | id);
    if (!found[n].found) break;
  }
  return extend(state, id, found);
}

Decoder::State Decoder::extend(const State& state, uint16_t id, const Found& found) const {
  const Entry unigram = model_->unigram(id);
  State next;
  next.id = id;
  next.backoff[0] = unigram.backoff;
  next.history = id;
  next.size = 1;
  int32_t p = unigram.p;
  unsigned used = 0;  // ids of the history in the longest n-gram that was found
  bool inner = true;
  for (; used < state.size && found[used].found; ++used) {
    p = found[used].p;
    inner = inner && found[used].inner;
    if (!inner || used + 2 >= model_->order()) continue;
    next.backoff[used + 1] = found[used].backoff;
    next.history |= (state.history >> (kIdBits * used) & ((1u << kIdBits) - 1)) << (kIdBits * (used + 1));
    next.size = static_cast<uint8_t>(used + 2);
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

// Longer n-grams exist only if the shorter ones that they end with do, so each order is looked up where the one before
// was found.
void Decoder::find_ngrams(std::span<const State> states, std::span<const uint16_t> choices) {
  found_.assign(states.size() * choices.size(), {});
  for (unsigned n = 0; n + 1 < model_->order(); ++n) {
    keys_.clear();
    places_.clear();
    for (std::size_t i = 0; i < states.size(); ++i) {
      if (states[i].size <= n) continue;
      const uint64_t context = last_ids(states[i].history, n + 1) << kIdBits;
      for (std::size_t c = 0; c < choices.size(); ++c) {
        const auto place = static_cast<uint32_t>(i * choices.size() + c);
        if (n > 0 && !found_[place][n - 1].found) continue;
        keys_.push_back(context | choices[c]);
        places_.push_back(place);
      }
    }
    if (keys_.empty()) return;
    entries_.resize(keys_.size());
    model_->find_all(n + 2, keys_, entries_.data());
    for (std::size_t k = 0; k < keys_.size(); ++k) found_[places_[k]][n] = entries_[k];
  }
}

void Decoder::step(const Slot& slot, std::span<const uint16_t> choices) {
  const std::size_t begin = layers_.back(), end = states_.size();
  find_ngrams(std::span(states_).subspan(begin), choices);
  fresh_.clear();
  for (std::size_t c = 0; c < choices.size(); ++c) {
    const std::size_t first = fresh_.size();
    const int32_t own = own_score(slot, choices[c]);
    for (std::size_t i = begin; i < end; ++i) {
      State next = extend(states_[i], choices[c], found_[(i - begin) * choices.size() + c]);
      next.score += own;
      next.previous = static_cast<uint32_t>(i);
      const auto same =
          std::find_if(fresh_.begin() + static_cast<std::ptrdiff_t>(first), fresh_.end(),
                       [&](const State& s) { return s.history == next.history && s.size == next.size; });
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

void Decoder::choice_probabilities(std::span<uint16_t> path, std::size_t slot,
                                   std::vector<float>& out) const {
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
