// From logits to a token. Order: bias, penalties, mask, log probabilities, temperature, top-k, top-p, min-p, draw.
#pragma once
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
  std::vector<std::pair<Token, float>> logit_bias;

  // Throws Error(invalid_argument) naming the field that is NaN or out of range.
  void check(int32_t vocabulary) const;
};

struct Choice {
  Token token = -1;                            // -1: the mask allows nothing, or no logit is a number
  float logprob = 0;                           // of `token`: natural log, before temperature
  std::vector<std::pair<Token, float>> top;    // the top_logprobs likeliest, best first
};

class Sampler {
 public:
  Sampler(SamplingParams params, int32_t vocabulary);
  // Tokens that repetition_penalty looks at (prompt), and those that all penalties look at (answer).
  void accept_prompt(std::span<const Token> tokens);
  void accept(Token token);
  // logits: (vocabulary), changed in place. mask: bit t allows token t; empty allows all. Ties go to the smaller id;
  // NaN counts as -inf. The same seed and calls give the same tokens.
  Choice sample(std::span<float> logits, std::span<const uint32_t> mask);

 private:
  SamplingParams params_;
  std::unordered_map<Token, int32_t> answer_counts_;   // tokens of the answer, how often
  std::vector<bool> seen_;                             // prompt or answer
  uint64_t random_[4];                                 // xoshiro256** state (Blackman & Vigna 2018)
  std::vector<std::pair<float, Token>> candidates_;
};

}  // namespace binhdan::engine
