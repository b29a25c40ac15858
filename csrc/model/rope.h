// Rotary position embedding (Su et al. 2021) with its scalings.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace binhdan::model {

struct RopeConfig {
  enum class Scaling { none, linear, yarn };

  int64_t dim;  // rotated dimensions of a head, even
  bool neox;    // rotates pairs (i, i + dim/2); else (2i, 2i + 1)
  double base;
  Scaling scaling = Scaling::none;
  double factor = 1;            // divides positions
  double original_context = 0;  // YaRN (Peng et al. 2023) and LongRoPE (Ding et al. 2024)
  double attention_factor = 1;  // multiplies cosines and sines
  double beta_fast = 32, beta_slow = 1, log_multiplier = 0;  // YaRN
  bool uses_factors = false;                                 // the tensors of frequency factors apply
};

// The angle of pair i at position p is p * frequencies[i]; its cosine and sine are multiplied by `magnitude`.
struct RopeFrequencies {
  std::vector<double> frequencies;  // (dim / 2)
  double magnitude;
};
// factors: (dim / 2) divisors of the frequencies (Llama 3, LongRoPE, Gemma 4), or empty.
RopeFrequencies rope_frequencies(const RopeConfig& rope, std::span<const float> factors);

}  // namespace binhdan::model
