// Chooses a token from logits, in this order: log probabilities of the model's own logits; bias, penalties,
// mask, banned tokens, temperature, top-k, top-p, min-p, draw.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/vocab.h"

namespace binhdan::engine {

using text::Token;

// Meanings and defaults: binhdan_request in binhdan.h.
struct SamplingParams {
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  int32_t top_logprobs = -1;
  uint64_t seed = 0;
  std::vector<std::pair<Token, float>> logit_bias = {};

  // Throws Error(invalid_argument) naming the field that is NaN or out of range.
  void check(int32_t vocabulary) const;
};

// Log probabilities are natural logs of softmax(the model's logits), before bias, penalties, mask and
// temperature.
struct Choice {
  Token token = -1;                          // -1: the mask allows no token, or no logit is a number
  float logprob = 0;                         // of `token`, when top_logprobs >= 0
  std::vector<std::pair<Token, float>> top;  // the top_logprobs most likely tokens, best first
};

// The natural log of softmax(logits)[token], in `logprob`, and the `top_logprobs` most likely tokens. NaN if no logit
// is a number. Changes the logits.
Choice log_probability(std::span<float> logits, Token token, size_t top_logprobs = 0);

// One per sequence. The same parameters and calls give the same bits on the same machine.
class Sampler {
 public:
  // Throws as SamplingParams::check.
  Sampler(SamplingParams params, int32_t vocabulary);
  // Tokens of the prompt, for repetition_penalty; tokens of the answer, for all penalties.
  void accept_prompt(std::span<const Token> tokens);
  void accept(Token token);
  // logits: (vocabulary), changed in place. mask: bit t allows token t, missing bits allow nothing; empty
  // allows all. banned: tokens that are not chosen. Ties go to the smaller id; NaN counts as -inf, which is never
  // chosen.
  Choice sample(std::span<float> logits, std::span<const uint32_t> mask, std::span<const Token> banned = {});

 private:
  struct Candidate {
    Token token;
    float value;  // logit, or exp((logit - best) / temperature)
  };

  void apply_bias_penalties_mask(std::span<float> logits, std::span<const uint32_t> mask,
                                 std::span<const Token> banned) const;
  Token draw(std::span<float> logits, float best);
  void add_logprobs(Choice& choice);
  void keep_top_p();
  double next_uniform();

  SamplingParams params_;
  bool penalties_;
  std::unordered_map<Token, int32_t> seen_;  // tokens of prompt and answer, with their count in the answer
  std::array<uint64_t, 4> random_;           // xoshiro256** state (Blackman & Vigna 2018)
  std::vector<float> model_logits_;          // (vocabulary), when the request needs log probabilities
  std::vector<Candidate> candidates_;
};

}  // namespace binhdan::engine
