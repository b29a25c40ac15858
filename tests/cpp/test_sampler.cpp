#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "check.h"

using binhdan::engine::Choice;
using binhdan::engine::Sampler;
using binhdan::engine::SamplingParams;
using binhdan::text::Token;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Choice sample_once(const SamplingParams& params, std::vector<float> logits,
                   const std::vector<uint32_t>& mask = {}) {
  return Sampler(params, static_cast<int32_t>(logits.size())).sample(logits, mask);
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature = 1) {
  std::vector<double> p;
  const double best = *std::max_element(logits.begin(), logits.end());
  for (const float logit : logits) p.push_back(std::exp((logit - best) / temperature));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

// Keeps the entries for which keep(i) is true, and scales their sum to 1.
std::vector<double> only(std::vector<double> p, const std::function<bool(std::size_t)>& keep) {
  for (std::size_t i = 0; i < p.size(); ++i)
    if (!keep(i)) p[i] = 0;
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

// Draws 5,000 tokens and compares their counts with `p` by Pearson's chi-square test. The seed is fixed, so
// the result is deterministic. 99.99 % of seeds stay below the bound (Wilson & Hilferty 1931).
bool draws_from(const SamplingParams& params, const std::vector<float>& logits, const std::vector<double>& p,
                const std::vector<uint32_t>& mask = {}) {
  constexpr int kDraws = 5000;
  Sampler sampler(params, static_cast<int32_t>(logits.size()));
  std::vector<int> counts(logits.size());
  std::vector<float> work;
  for (int i = 0; i < kDraws; ++i) {
    work = logits;
    ++counts[sampler.sample(work, mask).token];
  }
  double statistic = 0;
  int categories = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      if (counts[i] != 0) return false;
      continue;
    }
    const double expected = p[i] * kDraws;
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++categories;
  }
  const double k = std::max(categories - 1, 1);
  return statistic < k * std::pow(1 - 2 / (9 * k) + 3.72 * std::sqrt(2 / (9 * k)), 3);
}

const std::vector<float> kLogits = {1.0f, 2.0f, 0.5f, -1.0f, 2.5f, 0.0f, 1.5f, -0.5f};
const std::vector<std::size_t> kOrder = {4, 1, 6, 0, 2, 5, 7, 3};  // of kLogits, highest first

bool among_best(std::size_t token, std::size_t n) {
  return std::find(kOrder.begin(), kOrder.begin() + n, token) != kOrder.begin() + n;
}

// Logits of a large vocabulary, the same on every machine.
std::vector<float> many_logits(std::size_t n, uint32_t state = 1) {
  std::vector<float> logits(n);
  for (float& logit : logits) {
    float sum = 0;
    for (int i = 0; i < 4; ++i) {
      state = state * 1664525 + 1013904223;
      sum += static_cast<float>(state >> 8) * 0x1p-24f;
    }
    logit = (sum - 2) * 6;
  }
  return logits;
}

}  // namespace

TEST(greedy_takes_the_highest_logit_and_the_smallest_id_of_ties) {
  CHECK(sample_once({}, kLogits).token == 4);
  CHECK(sample_once({}, {1, 3, 3, 2}).token == 1);
  std::vector<float> logits = many_logits(151936);
  logits[777] = logits[151935] = 50;
  CHECK(sample_once({}, logits).token == 777);
}

TEST(nan_and_infinite_logits) {
  SamplingParams warm{.temperature = 1};
  for (const SamplingParams& params :
       {SamplingParams{}, warm, SamplingParams{.temperature = 1, .top_k = 3}}) {
    CHECK(sample_once(params, {kNan, -3, kNan}).token == 1);
    CHECK(sample_once(params, {0, kInf, 5}).token == 1);
    CHECK(sample_once(params, {-kInf, -kInf, -2}).token == 2);
    CHECK(sample_once(params, {kNan, -kInf}).token == -1);
    CHECK(sample_once(params, {}).token == -1);
  }
  CHECK(draws_from(warm, {kInf, 7, kInf, kNan}, {0.5, 0, 0.5, 0}));
}

TEST(extreme_temperatures) {
  for (const float temperature : {1e-3f, 1e-30f, std::numeric_limits<float>::denorm_min()})
    for (const int32_t top_k : {0, 4})
      CHECK(draws_from({.temperature = temperature, .top_k = top_k, .top_p = 0.9f}, kLogits,
                       {0, 0, 0, 0, 1, 0, 0, 0}));
  CHECK(draws_from({.temperature = 100}, kLogits, softmax(kLogits, 100)));
  CHECK(draws_from({.temperature = 1}, {3e38f, -3e38f, 3e38f}, {0.5, 0, 0.5}));
}

TEST(temperature_draws_from_the_softmax) {
  for (const float temperature : {0.5f, 1.0f, 2.0f})
    CHECK(draws_from({.temperature = temperature, .seed = 11}, kLogits, softmax(kLogits, temperature)));
  CHECK(!draws_from({.temperature = 1.2f, .seed = 11}, kLogits,
                    softmax(kLogits)));  // shows that draws_from() can fail
}

TEST(top_k_draws_from_the_k_highest) {
  for (const int32_t k : {1, 3, 8, 1000}) {
    const auto p = only(softmax(kLogits), [&](std::size_t i) { return among_best(i, std::min(k, 8)); });
    CHECK(draws_from({.temperature = 1, .top_k = k}, kLogits, p));
  }
  CHECK(draws_from({.temperature = 1, .top_k = 2}, {5, 7, 5, 5}, softmax({5, 7, -kInf, -kInf})));  // ties
}

TEST(top_p_draws_from_the_smallest_set_with_probability_p) {
  const auto p = softmax(kLogits);
  for (const float top_p : {0.0f, 0.3f, 0.6f, 0.9f, 0.999f}) {
    std::size_t n = 0;
    for (double held = 0; held < top_p || n == 0; ++n) held += p[kOrder[n]];
    CHECK(draws_from({.temperature = 1, .top_p = top_p}, kLogits,
                     only(p, [&](std::size_t i) { return among_best(i, n); })));
  }
}

TEST(top_p_applies_after_top_k) {
  // Of the two highest, the first has probability 0.62, which is enough for 0.6. Without top_k it has less
  // than 0.5.
  CHECK(draws_from({.temperature = 1, .top_k = 2, .top_p = 0.6f}, kLogits, {0, 0, 0, 0, 1, 0, 0, 0}));
}

TEST(min_p_draws_from_tokens_near_the_highest) {
  const auto p = softmax(kLogits);
  for (const float min_p : {0.05f, 0.3f, 1.0f})
    CHECK(draws_from({.temperature = 1, .min_p = min_p}, kLogits,
                     only(p, [&](std::size_t i) { return p[i] >= min_p * p[4]; })));
}

TEST(top_p_of_a_large_flat_distribution) {
  // The sampler must sort several blocks. The expected set is from a full sort.
  const std::vector<float> logits = many_logits(5000);
  const auto p = softmax(logits, 20);
  std::vector<Token> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](Token a, Token b) { return logits[a] > logits[b] || (logits[a] == logits[b] && a < b); });
  std::vector<bool> inside(logits.size());
  std::ptrdiff_t count = 0;
  for (double held = 0; held < 0.5; ++count) {
    inside[order[count]] = true;
    held += p[order[count]];
  }
  CHECK(count > 1000);
  Sampler sampler({.temperature = 20, .top_p = 0.5f}, 5000);
  std::vector<bool> drawn(logits.size());
  for (int i = 0; i < 10000; ++i) {
    std::vector<float> work = logits;
    const Token token = sampler.sample(work, {}).token;
    CHECK(inside[token]);
    drawn[token] = true;
  }
  CHECK(std::count(drawn.begin(), drawn.end(), true) > count * 9 / 10);
}

TEST(repetition_penalty_lowers_logits_of_seen_tokens) {
  Sampler sampler({.repetition_penalty = 2}, 4);
  sampler.accept_prompt(std::vector<Token>{0, 1, 1});
  sampler.accept(3);
  std::vector<float> logits = {4, -1, 3, 5};
  CHECK(sampler.sample(logits, {}).token == 2);
  CHECK((logits == std::vector<float>{2, -2, 3, 2.5f}));
}

TEST(presence_and_frequency_penalties_count_answer_tokens_only) {
  Sampler sampler({.presence_penalty = 0.5f, .frequency_penalty = 0.25f}, 3);
  sampler.accept_prompt(std::vector<Token>{0, 0});
  sampler.accept(1);
  sampler.accept(1);
  sampler.accept(2);
  std::vector<float> logits = {1, 1, 1};
  sampler.sample(logits, {});
  CHECK((logits == std::vector<float>{1, 0, 0.25f}));
}

TEST(bias_is_applied_before_penalties) {
  Sampler sampler({.repetition_penalty = 2, .logit_bias = {{1, 100}, {2, -100}}}, 3);
  sampler.accept(1);
  std::vector<float> logits = {1, -2, 3};
  CHECK(sampler.sample(logits, {}).token == 1);
  CHECK((logits == std::vector<float>{1, 49, -97}));
}

TEST(mask_allows_only_tokens_of_set_bits) {
  const std::vector<uint32_t> mask = {1u << 2 | 1u << 6};
  CHECK(sample_once({}, kLogits, mask).token == 6);
  CHECK(sample_once({}, kLogits, {0}).token == -1);
  CHECK(sample_once({.temperature = 1}, kLogits, {0}).token == -1);
  CHECK(draws_from({.temperature = 1}, kLogits,
                   only(softmax(kLogits), [](std::size_t i) { return i == 2 || i == 6; }), mask));
  std::vector<float> logits = many_logits(100);
  logits[70] = 50;
  CHECK(sample_once({}, logits, {~0u, ~0u, ~0u, ~0u}).token == 70);
  CHECK(sample_once({}, logits, {0, 0, 1u << 7}).token == 71);
  CHECK(sample_once({}, logits, {1u << 31}).token == 31);  // shorter than the vocabulary
  // The mask forces a token with a very low logit.
  CHECK(sample_once({.temperature = 0.1f, .logit_bias = {{3, -100}}}, kLogits, {1u << 3}).token == 3);
}

TEST(banned_tokens_are_never_chosen) {
  for (const float temperature : {0.0f, 100.0f}) {
    Sampler sampler({.temperature = temperature, .top_logprobs = 1}, 3);
    for (int i = 0; i < 20; ++i) {
      std::vector<float> logits = {1, 9, 3};
      const Choice choice = sampler.sample(logits, {}, std::array<Token, 2>{1, 0});
      CHECK(choice.token == 2 && choice.top[0].first == 1);  // log probabilities are those of the model
    }
    std::vector<float> logits = {1, 9, 3};
    CHECK(sampler.sample(logits, {}, std::array<Token, 3>{0, 1, 2}).token == -1);
  }
}

TEST(the_log_probability_of_one_token_and_of_the_most_likely_ones) {
  std::vector<float> logits = {1, 9, 3};
  const Choice choice = binhdan::engine::log_probability(logits, 2, 2);
  CHECK(choice.token == 2 && choice.top.size() == 2);
  CHECK(choice.top[0].first == 1 && choice.top[1].first == 2 && choice.top[1].second == choice.logprob);
  std::vector<float> nothing(3, kNan);
  const Choice none = binhdan::engine::log_probability(nothing, 0, 2);
  CHECK(std::isnan(none.logprob) && none.top.empty());
}

TEST(log_probabilities_are_those_of_the_model) {
  const auto p = softmax(kLogits);
  const auto near = [&](float logprob, std::size_t token) {
    return std::abs(logprob - std::log(p[token])) < 1e-6;
  };
  Choice choice = sample_once({.top_logprobs = 3}, kLogits);
  CHECK(choice.token == 4 && near(choice.logprob, 4));
  CHECK(choice.top.size() == 3);
  for (std::size_t i = 0; i < choice.top.size(); ++i)
    CHECK(choice.top[i].first == static_cast<Token>(kOrder[i]) && near(choice.top[i].second, kOrder[i]));
  choice =
      sample_once({.temperature = 0.2f, .top_logprobs = 1, .logit_bias = {{3, 100}}}, kLogits, {1u << 3});
  CHECK(choice.token == 3 && near(choice.logprob, 3));
  CHECK(choice.top.size() == 1 && choice.top[0].first == 4 && near(choice.top[0].second, 4));
  CHECK(sample_once({.top_logprobs = 0}, kLogits).top.empty());
  CHECK(sample_once({.top_logprobs = 20}, kLogits).top.size() == 8);
  CHECK(sample_once({.top_logprobs = 20}, {kNan, 1, -kInf}).top.size() == 1);
  CHECK(sample_once({}, kLogits).logprob == 0);
}

TEST(log_probabilities_of_a_large_vocabulary) {
  const std::vector<float> logits = many_logits(151936);
  const auto p = softmax(logits);
  const Choice choice = sample_once({.top_logprobs = 20}, logits);
  CHECK(choice.top.size() == 20 && choice.top[0].first == choice.token);
  for (const auto& [token, logprob] : choice.top) CHECK(std::abs(logprob - std::log(p[token])) < 1e-5);
  CHECK(std::is_sorted(choice.top.rbegin(), choice.top.rend(),
                       [](const auto& a, const auto& b) { return a.second < b.second; }));
}

TEST(the_same_seed_draws_the_same_tokens) {
  const std::vector<float> logits = many_logits(5000);
  const auto tokens = [&](uint64_t seed) {
    Sampler sampler(
        {.temperature = 0.9f, .top_p = 0.95f, .min_p = 0.01f, .repetition_penalty = 1.1f, .seed = seed},
        5000);
    std::vector<Token> all;
    for (int i = 0; i < 200; ++i) {
      std::vector<float> work = logits;
      all.push_back(sampler.sample(work, {}).token);
      sampler.accept(all.back());
    }
    return all;
  };
  CHECK(tokens(5) == tokens(5));
  CHECK(tokens(5) != tokens(6));
  CHECK(tokens(0) != tokens(1));
}

TEST(the_random_numbers_are_pinned) {
  // Expected values: xoshiro256** seeded by splitmix64(42), computed from the authors' definition.
  Sampler sampler({.temperature = 1, .seed = 42}, 1000);
  std::vector<Token> tokens;
  for (int i = 0; i < 6; ++i) {
    std::vector<float> flat(1000, 0.0f);
    tokens.push_back(sampler.sample(flat, {}).token);
  }
  CHECK((tokens == std::vector<Token>{83, 378, 680, 924, 991, 769}));
}

TEST(errors_of_check_name_the_field) {
  const auto check = [](const SamplingParams& params) { params.check(100); };
  check({.temperature = 2,
         .top_k = 40,
         .top_p = 0,
         .min_p = 1,
         .repetition_penalty = 0.5f,
         .presence_penalty = -2,
         .frequency_penalty = 2,
         .top_logprobs = 20,
         .logit_bias = {{0, 100}, {99, -100}}});
  CHECK_FAILS(check({.temperature = -1}), "temperature");
  CHECK_FAILS(check({.temperature = kInf}), "temperature");
  CHECK_FAILS(check({.temperature = kNan}), "temperature");
  CHECK_FAILS(check({.top_k = -1}), "top_k");
  CHECK_FAILS(check({.top_p = 1.1f}), "top_p");
  CHECK_FAILS(check({.min_p = -0.1f}), "min_p");
  CHECK_FAILS(check({.repetition_penalty = 0}), "repetition_penalty");
  CHECK_FAILS(check({.presence_penalty = 2.5f}), "presence_penalty");
  CHECK_FAILS(check({.frequency_penalty = kNan}), "frequency_penalty");
  CHECK_FAILS(check({.top_logprobs = 21}), "top_logprobs");
  CHECK_FAILS(check({.logit_bias = {{100, 1}}}), "logit_bias: expected tokens 0 to 99, got 100");
  CHECK_FAILS(check({.logit_bias = {{-1, 1}}}), "logit_bias");
  CHECK_FAILS(check({.logit_bias = {{1, 101}}}), "logit_bias");
  CHECK_FAILS(Sampler({.top_p = kNan}, 100), "top_p");
}
