// The head of a reranker: a hidden state becomes one score.
#pragma once
#include <cstdint>
#include <span>

namespace binhdan::model {

// logits = W_out tanh(W_dense h + b_dense) + b_out; without a dense layer, W_out h + b_out.
// As BertForSequenceClassification and XLMRobertaForSequenceClassification of transformers. The vectors belong
// to Weights; nullptr: the model has none.
struct Classifier {
  const float *dense = nullptr, *dense_bias = nullptr;    // (dim, dim), (dim)
  const float *output = nullptr, *output_bias = nullptr;  // (classes, dim), (classes)
  int64_t classes = 0;                                    // 1, or 2: "yes" and "no" (Qwen3-Reranker)

  explicit operator bool() const { return output != nullptr; }
  // The logit of the first class, minus that of the second if there is one. Its sigmoid is a probability.
  double score(std::span<const float> hidden) const;
};

}  // namespace binhdan::model
