#include "text/restore/decoder.h"

#include <algorithm>
#include <cmath>

namespace binhdan::text::restore {
namespace {

constexpr std::size_t kBeam = 14;
constexpr int32_t kMaxLoss =
    12 * kScoreUnit;                       // states with a lower score than the best minus this are dropped
constexpr uint16_t kEndChoice[] = {kEnd};  // of the slot after the last one
constexpr uint32_t kDropped = UINT32_MAX;
constexpr float kUnlikely = 1e-3f;

uint64_t last_ids(uint64_t history, unsigned count) {
  return history & ((uint64_t{1} << (kIdBits * count)) - 1);
}

// exp of a score between -kMaxLoss and 0; 0 below.
double exp_score(int32_t score) {
  static const auto table = [] {
    std::array<float, kMaxLoss + 1> values;
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(std::exp(-static_cast<double>(i) / kScoreUnit));
    return values;
  }();
  return score < -kMaxLoss ? 0.0 : static_cast<double>(table[static_cast<std::size_t>(-score)]);
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

int32_t Decoder::own_score(const Slot& slot, std::size_t choice) const {
  const uint16_t id = choices_[choice];
  const int32_t extra = extras_.empty() ? 0 : extras_[choice];
  if (id == kOther) return extra - (slot.penalized ? model_->other_penalty() : 0);
  return extra + (slot.capital ? model_->capital(id) : 0);
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

void Decoder::step(const Slot& slot) {
  const auto choices = slot.count == 0 ? std::span(kEndChoice)
                                       : std::span<const uint16_t>(choices_).subspan(slot.first, slot.count);
  const std::size_t begin = layers_.back(), end = states_.size();
  const std::size_t first_edge = edges_.size();
  find_ngrams(std::span(states_).subspan(begin), choices);
  fresh_.clear();
  for (std::size_t c = 0; c < choices.size(); ++c) {
    const std::size_t first = fresh_.size();
    const int32_t own = slot.count == 0 ? 0 : own_score(slot, slot.first + c);
    for (std::size_t i = begin; i < end; ++i) {
      State next = extend(states_[i], choices[c], found_[(i - begin) * choices.size() + c]);
      next.score += own;
      next.previous = static_cast<uint32_t>(i);
      const auto same =
          std::find_if(fresh_.begin() + static_cast<std::ptrdiff_t>(first), fresh_.end(),
                       [&](const State& s) { return s.history == next.history && s.size == next.size; });
      next.place = static_cast<uint32_t>(same - fresh_.begin());
      if (keep_edges_) edges_.push_back({static_cast<uint32_t>(i), next.place, next.score});
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
  if (keep_edges_) keep_edges_of_layer(first_edge);
}

// Edges of the last layer have places in fresh_; afterwards they have states, and those of dropped states are gone.
void Decoder::keep_edges_of_layer(std::size_t first_edge) {
  kept_places_.assign(edges_.size() - first_edge, kDropped);  // at most one state per edge
  for (std::size_t i = layers_.back(); i < states_.size(); ++i)
    kept_places_[states_[i].place] = static_cast<uint32_t>(i);
  std::size_t kept = first_edge;
  for (std::size_t i = first_edge; i < edges_.size(); ++i) {
    Edge edge = edges_[i];
    edge.to = kept_places_[edge.to];
    if (edge.to != kDropped) edges_[kept++] = edge;
  }
  edges_.resize(kept);
}

int32_t Decoder::decode(bool keep_edges) {
  keep_edges_ = keep_edges;
  edges_.clear();
  states_.clear();
  layers_.clear();
  states_.push_back(start());
  layers_.push_back(0);
  for (const Slot& slot : slots_) step(slot);
  step({});  // the end of the sentence
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

int32_t Decoder::decode_likely(std::span<const float> probabilities) {
  spare_slots_.clear();
  spare_choices_.clear();
  spare_extras_.clear();
  for (Slot slot : slots_) {
    const auto own = probabilities.subspan(slot.first, slot.count);
    const float limit = std::min(kUnlikely, *std::ranges::max_element(own));
    const std::size_t first = slot.first;
    slot.first = static_cast<uint32_t>(spare_choices_.size());
    for (std::size_t k = 0; k < own.size(); ++k) {
      if (own[k] < limit) continue;
      spare_choices_.push_back(choices_[first + k]);
      if (!extras_.empty()) spare_extras_.push_back(extras_[first + k]);
    }
    slot.count = static_cast<uint32_t>(spare_choices_.size()) - slot.first;
    spare_slots_.push_back(slot);
  }
  const auto swap_all = [this] {
    slots_.swap(spare_slots_);
    choices_.swap(spare_choices_);
    extras_.swap(spare_extras_);
  };
  swap_all();
  const int32_t score = decode();
  swap_all();
  return score;
}

int32_t Decoder::score(std::span<const uint16_t> path, bool with_extras) const {
  State state = start();
  for (std::size_t i = 0; i < path.size(); ++i) {
    state = extend(state, path[i]);
    const auto first = choices_.begin() + slots_[i].first;
    const auto found = std::find(first, first + slots_[i].count, path[i]);
    if (found == first + slots_[i].count) continue;
    const auto choice = static_cast<std::size_t>(found - choices_.begin());
    state.score += own_score(slots_[i], choice);
    if (!with_extras && !extras_.empty()) state.score -= extras_[choice];
  }
  return extend(state, kEnd).score;
}

// The forward-backward algorithm over the edges. The weight of an edge is exp(score - best score of its state), so the
// best path has the weight 1 everywhere.
void Decoder::find_probabilities(std::vector<float>& out) {
  forward_.assign(states_.size(), 0);
  backward_.assign(states_.size(), 0);
  forward_[0] = 1;
  std::size_t first = 0;
  const auto scale = [](std::span<double> values) {
    const double highest = *std::ranges::max_element(values);
    for (double& value : values) value /= highest;
  };
  const auto weight = [&](const Edge& edge) { return exp_score(edge.score - states_[edge.to].score); };
  const auto states_of = [&](std::size_t layer) {
    const std::size_t end = layer + 1 < layers_.size() ? layers_[layer + 1] : states_.size();
    return std::pair<std::size_t, std::size_t>{layers_[layer], end - layers_[layer]};
  };
  for (std::size_t layer = 1; layer < layers_.size(); ++layer) {
    const auto [begin, count] = states_of(layer);
    for (; first < edges_.size() && edges_[first].to < begin + count; ++first)
      forward_[edges_[first].to] += forward_[edges_[first].from] * weight(edges_[first]);
    scale(std::span(forward_).subspan(begin, count));
  }
  backward_.back() = 1;
  for (std::size_t layer = layers_.size() - 1; layer > 0; --layer) {
    const auto [begin, count] = states_of(layer);
    scale(std::span(backward_).subspan(begin, count));
    for (; first > 0 && edges_[first - 1].to >= begin; --first)
      backward_[edges_[first - 1].from] += backward_[edges_[first - 1].to] * weight(edges_[first - 1]);
  }
  out.assign(choices_.size(), 0);
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const auto [begin, count] = states_of(i + 1);
    double sum = 0;
    for (std::size_t s = begin; s < begin + count; ++s) sum += forward_[s] * backward_[s];
    for (std::size_t s = begin; s < begin + count; ++s)
      for (uint32_t k = slots_[i].first; k < slots_[i].first + slots_[i].count; ++k)
        if (choices_[k] == states_[s].id) out[k] += static_cast<float>(forward_[s] * backward_[s] / sum);
  }
}

}  // namespace binhdan::text::restore
