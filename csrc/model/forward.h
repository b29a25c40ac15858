// The one forward pass: a batch of chunks of any sequences through all layers.
#pragma once
#include <cstdint>
#include <functional>
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
  SequenceState* state;                 // of one KvType in a batch
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
  // Calls work(0) to work(count - 1) on the same threads.
  void each(size_t count, const std::function<void(size_t)>& work);
  // Adds what the next runs cost to `profile`, which must outlive them; nullptr ends it.
  void measure(Profile* profile) { profile_ = profile; }

 private:
  struct Row {  // one token of the batch
    SequenceState* state;
    text::Token token;
    int64_t position;

    ops::AttentionRow place() const { return {state->pages(), position}; }
  };
  struct Rows {  // some rows of the batch, those of the class "few rows" first
    std::vector<int64_t> at;
    ops::NumericClasses classes{};
    ops::AttentionPlan attention;
  };
  struct Rank {            // what belongs to one thread
    Buffer scratch;        // of the matrix kernels
    Buffer normed;         // (dim) one row
    Buffer piece, other;   // (n, rows of a piece) products on their way
    ops::Activations own;  // of a batch of few rows
  };

  void plan(std::span<const Chunk> chunks);
  void reserve();
  void plan_attention(Rows& some);
  int64_t piece_rows() const;
  int64_t grain() const;

  void walk(Team& team);
  void embed(Team& team);
  void attention_block(Team& team, size_t layer, const Rows& live);
  void project_heads(Team& team, size_t layer, const Rows& live);
  void norm_and_rotate(float* head, const float* norm, int64_t head_dim, int64_t row) const;
  // What becomes of the row's head after its product.
  void finish_query(size_t layer, int64_t row, int64_t head, float* q) const;
  void finish_key(size_t layer, int64_t row, int64_t head, float* k) const;
  void finish_value(size_t layer, int64_t row, int64_t head, float* v) const;
  void feed_forward_block(Team& team, size_t layer, const Rows& live);
  void add_product(Team& team, Op op, const Rows& live, const Matrix& matrix, const ops::Activations& input);
  void output_block(Team& team);
  template <typename Source>
  const ops::Activations& prepare(Team& team, ops::NumericClasses classes, const Source& source,
                                  const float* norm, ops::Activations::Readers readers);

  Rank& of(const Team& team) { return ranks_[static_cast<size_t>(team.rank())]; }
  float* x(int64_t row) const { return x_.as<float>() + row * model_.config.dim; }
  void sync(Team& team);
  void done(const Team& team, Op op, std::initializer_list<const Matrix*> read = {}, int64_t rows = 0);
  void done_attention(const Team& team, size_t layer, const Rows& live);

  const Model& model_;
  ThreadPool pool_;
  Profile* profile_ = nullptr;

  std::vector<Row> rows_;
  Rows all_, wanted_;     // every row; rows whose final state is wanted
  Rows* last_ = nullptr;  // which of them go on behind the last layer's keys and values
  std::vector<int64_t> logit_rows_, hidden_rows_;
  std::vector<size_t> first_output_;  // of each chunk, in either

  // Sizes: n = rows of the batch, widths are the largest over the layers.
  Buffer x_;                 // (n, dim) the residual stream
  Buffer q_;                 // (n, heads * head_dim)
  Buffer kv_;                // (n, 2, kv_heads * head_dim)
  Buffer attended_;          // (n, heads * head_dim)
  Buffer cos_sin_;           // (n, rope dim / 2, 2)
  Buffer hidden_;            // (hidden rows, dim)
  Buffer logits_;            // (logit rows, vocabulary)
  ops::Activations shared_;  // (n, dim or heads * head_dim) of a batch of many rows
  ops::Activations ffn_;     // (n, ffn)
  std::vector<Rank> ranks_;
  ops::Activations::Widths widths_, ffn_widths_;
  int64_t max_group_ = 0, max_head_dim_ = 0, max_kv_width_ = 0, max_q_width_ = 0, max_ffn_ = 0;
};

}  // namespace binhdan::model
