// The embedded model, loaded once per kernel table, and prompts for it.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"

inline std::shared_ptr<const binhdan::model::Model> embedded_model(const std::string& isa = "") {
  static std::map<std::string, std::shared_ptr<const binhdan::model::Model>> loaded;
  auto& model = loaded[isa];
  if (!model)
    model = std::make_shared<const binhdan::model::Model>(
        binhdan::model::Model::load(BINHDAN_TEST_MODEL, isa, {.threads = 2}));
  return model;
}

// `n` tokens that depend only on `seed`.
inline std::vector<binhdan::text::Token> some_tokens(size_t n, uint32_t seed = 1) {
  std::vector<binhdan::text::Token> tokens;
  uint32_t state = seed * 2654435761u + 12345;
  for (size_t i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    tokens.push_back(static_cast<binhdan::text::Token>(3 + (state >> 8) % 8000));
  }
  return tokens;
}
