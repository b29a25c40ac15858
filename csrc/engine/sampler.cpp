#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace binhdan::engine {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
// Infinite logits become this value, so that differences and penalties of logits stay numbers.
constexpr float kHighest = 1e30f;
// Tokens with less than this share of the most likely token's probability are dropped: the sum over a whole
// vocabulary of them is below the rounding error of a float.
constexpr float kNegligible = 1e-13f;

void require(const char* field, float value, float low, float high) {
  if (!(value >= low && value <= high))  // NaN too
    fail(Code::invalid_argument, field, ": expected ", low, " to ", high, ", got ", value);
}

void make_comparable(std::span<float> logits) {
  for (float& logit : logits) logit = logit <= kHighest ? logit : logit > kHighest ? kHighest : kNever;
}

// The token with the highest logit, the first of equals; -1 when none is above -inf. The maximum is found in
// separate lanes, because a single chain of comparisons cannot be vectorized; then the token is found in its
// block.
Token likeliest(std::span<const float> logits) {
  constexpr std::size_t kLanes = 32, kBlock = 64 * kLanes;
  float best = kNever;
  std::span<const float> found;
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const auto block = logits.subspan(begin, std::min(kBlock, logits.size() - begin));
    std::array<float, kLanes> lanes;
    lanes.fill(best);
    std::size_t i = 0;
    for (; i + kLanes <= block.size(); i += kLanes)
      for (std::size_t lane = 0; lane < kLanes; ++lane)
        lanes[lane] = block[i + lane] > lanes[lane] ? block[i + lane] : lanes[lane];
    for (; i < block.size(); ++i) lanes[0] = block[i] > lanes[0] ? block[i] : lanes[0];
    const float highest = *std::ranges::max_element(lanes);
    if (highest > best) {
      best = highest;
      found = block;
    }
  }
  return found.empty() ? -1
                       : static_cast<Token>(std::ranges::find(found, best) - found.begin() +
                                            (found.data() - logits.data()));
}

// exp(x) for -87 <= x <= 0 within two ulp, inline so that loops are vectorized: 2^n times the polynomial of
// Cephes' expf (Moshier) for the remainder.
inline float exp_inline(float x) {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  const float rounded = x * 1.44269504f + kRound;
  const float n = rounded - kRound;
  const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float p = 1.98756915e-4f;
  for (const float c : {1.39819995e-3f, 8.33345191e-3f, 4.16657959e-2f, 1.66666655e-1f, 0.5f}) p = p * r + c;
  return (p * r * r + r + 1) * std::bit_cast<float>((std::bit_cast<int32_t>(rounded) + 127) << 23);
}

// exp((logit - best) / temperature) of every logit, in place; a tiny temperature makes the quotient -inf,
// never NaN.
void exponentiate(std::span<float> logits, float best, float temperature) {
  for (float& x : logits) x = std::max((x - best) / temperature, -87.0f);
  for (float& x : logits) x = exp_inline(x);
}

// More likely tokens first; ties go to the smaller id.
constexpr auto likelier = [](const auto& a, const auto& b) {
  return a.value > b.value || (a.value == b.value && a.token < b.token);
};

// The `k` tokens with the highest logits, best first, into `top`.
template <typename Candidate>
void select_top(std::span<const float> logits, std::size_t k, std::vector<Candidate>& top) {
  top.clear();
  for (std::size_t token = 0; token < logits.size() && k > 0; ++token) {
    const float lowest =
        top.size() < k ? kNever : top.front().value;  // the front of the heap is the least likely
    if (logits[token] <= lowest) continue;
    if (top.size() == k) {
      std::ranges::pop_heap(top, likelier);
      top.pop_back();
    }
    top.push_back({static_cast<Token>(token), logits[token]});
    std::ranges::push_heap(top, likelier);
  }
  std::ranges::sort_heap(top, likelier);
}

struct Scored {
  Token token;
  float value;
};

void allow_only(std::span<float> logits, std::span<const uint32_t> mask) {
  for (std::size_t begin = 0; begin < logits.size(); begin += 32) {
    const uint32_t word = begin / 32 < mask.size() ? mask[begin / 32] : 0;
    if (word == ~uint32_t{0}) continue;
    const auto block = logits.subspan(begin, std::min<std::size_t>(32, logits.size() - begin));
    for (std::size_t bit = 0; bit < block.size(); ++bit)
      if (!(word >> bit & 1)) block[bit] = kNever;
  }
}

// log(sum of exp(logits)); changes the logits, of which at least one is above -inf.
float log_sum_of_exp(std::span<float> logits) {
  const float best = logits[static_cast<std::size_t>(likeliest(logits))];
  exponentiate(logits, best, 1);
  return best + static_cast<float>(std::log(std::reduce(logits.begin(), logits.end(), 0.0)));
}

// splitmix64 (Steele, Lea & Flood 2014), which xoshiro's authors recommend for seeding.
uint64_t next_splitmix(uint64_t& state) {
  uint64_t z = state += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

}  // namespace

void SamplingParams::check(int32_t vocabulary) const {
  require("temperature", temperature, 0, 100);
  if (top_k < 0) fail(Code::invalid_argument, "top_k: expected 0 or more, got ", top_k);
  require("top_p", top_p, 0, 1);
  require("min_p", min_p, 0, 1);
  require("repetition_penalty", repetition_penalty, 0.01f, 100);
  require("presence_penalty", presence_penalty, -2, 2);
  require("frequency_penalty", frequency_penalty, -2, 2);
  if (top_logprobs < -1 || top_logprobs > 20)
    fail(Code::invalid_argument, "top_logprobs: expected -1 to 20, got ", top_logprobs);
  for (const auto& [token, bias] : logit_bias) {
    if (token < 0 || token >= vocabulary)
      fail(Code::invalid_argument, "logit_bias: expected tokens 0 to ", vocabulary - 1, ", got ", token);
    require("logit_bias", bias, -100, 100);
  }
}

Choice log_probability(std::span<float> logits, Token token, size_t top_logprobs) {
  Choice choice{token, std::numeric_limits<float>::quiet_NaN(), {}};
  make_comparable(logits);
  if (likeliest(logits) < 0) return choice;
  choice.logprob = logits[static_cast<std::size_t>(token)];
  std::vector<Scored> top;
  select_top(std::span<const float>(logits), top_logprobs, top);
  const float log_sum = log_sum_of_exp(logits);
  choice.logprob -= log_sum;
  for (const Scored& one : top) choice.top.emplace_back(one.token, one.value - log_sum);
  return choice;
}

Sampler::Sampler(SamplingParams params, int32_t vocabulary) : params_(std::move(params)) {
  params_.check(vocabulary);
  penalties_ =
      params_.repetition_penalty != 1 || params_.presence_penalty != 0 || params_.frequency_penalty != 0;
  uint64_t state = params_.seed;
  for (uint64_t& word : random_) word = next_splitmix(state);
}

void Sampler::accept_prompt(std::span<const Token> tokens) {
  if (params_.repetition_penalty == 1) return;
  for (const Token token : tokens) seen_.try_emplace(token, 0);
}

void Sampler::accept(Token token) {
  if (penalties_) ++seen_[token];
}

Choice Sampler::sample(std::span<float> logits, std::span<const uint32_t> mask,
                       std::span<const Token> banned) {
  const bool needs_logprobs = params_.top_logprobs >= 0;
  const bool changes = penalties_ || !params_.logit_bias.empty() || !mask.empty() || !banned.empty();
  Choice choice;
  if (params_.temperature == 0 && !changes && !needs_logprobs) {  // no other pass over the logits is needed
    choice.token = likeliest(logits);
    return choice;
  }
  make_comparable(logits);
  if (needs_logprobs) model_logits_.assign(logits.begin(), logits.end());
  apply_bias_penalties_mask(logits, mask, banned);
  choice.token = likeliest(logits);
  if (choice.token < 0) return choice;
  if (params_.temperature > 0) choice.token = draw(logits, logits[choice.token]);
  if (needs_logprobs) add_logprobs(choice);
  return choice;
}

void Sampler::add_logprobs(Choice& choice) {
  choice.logprob = model_logits_[choice.token];
  select_top(model_logits_, params_.top_logprobs, candidates_);
  for (const Candidate& top : candidates_) choice.top.emplace_back(top.token, top.value);

  const float log_sum = log_sum_of_exp(model_logits_);
  choice.logprob -= log_sum;
  for (auto& [token, logprob] : choice.top) logprob -= log_sum;
}

void Sampler::apply_bias_penalties_mask(std::span<float> logits, std::span<const uint32_t> mask,
                                        std::span<const Token> banned) const {
  const auto inside = [&](Token token) {
    return token >= 0 && static_cast<std::size_t>(token) < logits.size();
  };
  for (const auto& [token, bias] : params_.logit_bias)
    if (inside(token)) logits[token] += bias;
  for (const auto& [token, count] : seen_) {
    if (!inside(token)) continue;
    float& logit = logits[token];
    logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    if (count > 0) logit -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
  }
  if (!mask.empty()) allow_only(logits, mask);
  for (const Token token : banned)
    if (inside(token)) logits[token] = kNever;
}

Token Sampler::draw(std::span<float> logits, float best) {
  if (params_.top_k > 0) {
    select_top(logits, params_.top_k, candidates_);
    for (Candidate& candidate : candidates_)
      candidate.value = std::exp((candidate.value - best) / params_.temperature);
  } else {
    exponentiate(logits, best, params_.temperature);
    candidates_.clear();
    for (std::size_t token = 0; token < logits.size(); ++token)
      if (logits[token] > kNegligible) candidates_.push_back({static_cast<Token>(token), logits[token]});
  }
  if (params_.top_p < 1) keep_top_p();
  const float min_p = std::max(params_.min_p, kNegligible);
  std::erase_if(candidates_, [&](const Candidate& candidate) { return candidate.value < min_p; });

  double total = 0;
  for (const Candidate& candidate : candidates_) total += candidate.value;
  double left = next_uniform() * total;
  for (const Candidate& candidate : candidates_) {
    left -= candidate.value;
    if (left < 0) return candidate.token;
  }
  return candidates_.back().token;
}

// Keeps the smallest set of most likely tokens whose total probability is at least top_p. A full sort is not
// needed: the values are first summed by their binary exponent, which finds the bucket of the last token that
// is kept; only this bucket is sorted.
void Sampler::keep_top_p() {
  const auto bucket = [](const Candidate& candidate) {  // n for values in [2^-n, 2^(1-n)), at most 63
    return std::min<int>(127 - static_cast<int>(std::bit_cast<uint32_t>(candidate.value) >> 23), 63);
  };
  std::array<double, 64> bucket_sums = {};
  for (const Candidate& candidate : candidates_) bucket_sums[bucket(candidate)] += candidate.value;
  const double target = params_.top_p * std::accumulate(bucket_sums.begin(), bucket_sums.end(), 0.0);
  double kept_sum = 0;
  int last = 0;
  while (last < 63 && kept_sum + bucket_sums[last] < target) kept_sum += bucket_sums[last++];

  std::erase_if(candidates_, [&](const Candidate& candidate) { return bucket(candidate) > last; });
  const auto above = [&](const Candidate& candidate) { return bucket(candidate) < last; };
  auto end = std::partition(candidates_.begin(), candidates_.end(), above);
  std::sort(end, candidates_.end(), likelier);
  do kept_sum += end++->value;
  while (kept_sum < target && end != candidates_.end());
  candidates_.erase(end, candidates_.end());
}

// xoshiro256**; its high 53 bits as a double in [0, 1).
double Sampler::next_uniform() {
  const uint64_t result = std::rotl(random_[1] * 5, 7) * 9;
  const uint64_t t = random_[1] << 17;
  random_[2] ^= random_[0];
  random_[3] ^= random_[1];
  random_[1] ^= random_[2];
  random_[0] ^= random_[3];
  random_[2] ^= t;
  random_[3] = std::rotl(random_[3], 45);
  return static_cast<double>(result >> 11) * 0x1p-53;
}

}  // namespace binhdan::engine
