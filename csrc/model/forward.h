// The one forward pass: a batch of chunks of any sequences through all layers.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"
#include "model/profile.h"
#include "model/state.h"
#include "ops/attention.h"
#include "text/vocab.h"

namespace binhdan::model {

// What a chunk wants from its rows.
enum class Wanted {
  nothing,  // fill the state only
  last_logits,
  all_logits,
  all_hidden,  // states after the final norm
};

// Consecutive tokens of one sequence; its state must have room for them (SequenceState::reserve).
struct Chunk {
  SequenceState* state;
  std::span<const text::Token> tokens;  // each in [0, vocabulary)
  Wanted wanted;
  bool decode;  // numeric class: few rows when true, many rows when false
};

// Buffers and threads for batches; one batch at a time.
class Forward {
 public:
  Forward(const Model& model, int threads);

  // Computes the batch and advances the states. Chunks with decode = true stand first. No sequence may occur
  // twice. Throws Error(out_of_memory) before anything was changed, Error(io) when the model file shrank
  // meanwhile.
  void run(std::span<const Chunk> chunks);
  // Results of the last run, chunk by chunk; changeable, so that a sampler may work in place.
  std::span<float> logits(size_t chunk, size_t row = 0);        // (vocabulary)
  std::span<const float> hidden(size_t chunk, size_t row = 0);  // (dim)
  int threads() const { return pool_.size(); }
  // Adds what the next runs cost to `profile`, which must outlive them; nullptr ends it.
  void measure(Profile* profile) { profile_ = profile; }

 private:
  struct Row {  // one token of the batch
    SequenceState* state;
    text::Token token;
    int64_t position;
  };
  void plan(std::span<const Chunk> chunks);
  void reserve();
  void walk(Team& team);
  void attention_block(Team& team, size_t layer);
  void feed_forward_block(Team& team, size_t layer);
  void rotate_and_store(Team& team, size_t layer);
  void add_product(Team& team, Op op, const Matrix& matrix);
  void output_block(Team& team);
  void add_bias(float* out, int64_t stride, const float* bias, std::pair<int64_t, int64_t> range) const;
  void sync(Team& team);
  void done(const Team& team, Op op, std::initializer_list<const Matrix*> read = {});
  void done_attention(const Team& team, const LayerConfig& shape);
  int64_t rows() const { return static_cast<int64_t>(rows_.size()); }

  const Model& model_;
  ThreadPool pool_;
  Profile* profile_ = nullptr;
  std::vector<Row> rows_;
  std::vector<ops::AttentionRow> attention_rows_;
  ops::Classes classes_{};
  std::vector<int64_t> output_rows_;  // rows whose final state is wanted; those that want logits first
  int64_t logit_rows_ = 0;
  std::vector<int64_t> first_output_;  // of each chunk, in output_rows_

  // Sizes: n = rows of the batch, widths are the largest over the layers.
  Buffer x_;          // (n, dim) the residual stream
  Buffer normed_;     // (n, dim)
  Buffer q_;          // (n, heads * head_dim)
  Buffer kv_;         // (n, 2, kv_heads * head_dim)
  Buffer attended_;   // (n, heads * head_dim)
  Buffer gate_, up_;  // (n, ffn)
  Buffer branch_;     // (n, dim) what a block adds to x
  Buffer cos_sin_;    // (n, rope dim / 2, 2)
  Buffer hidden_;     // (outputs, dim)
  Buffer logits_;     // (logit rows, vocabulary)
  ops::Activations activations_;
  ops::AttentionPlan attention_plan_;
  std::vector<Buffer> scratch_;  // one for each rank
  int64_t max_group_ = 0, max_head_dim_ = 0, max_kv_width_ = 0, max_q_width_ = 0, max_ffn_ = 0;
};

}  // namespace binhdan::model
