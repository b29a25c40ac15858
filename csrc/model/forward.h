// The forward pass: a batch of chunks of any sequences through all layers. One function serves every
// architecture: it reads the descriptors of config.h.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "model/batch.h"
#include "model/model.h"
#include "model/profile.h"

namespace binhdan::model {

// Owns the threads and the buffers; runs one batch at a time.
class Forward {
 public:
  Forward(const Model& model, int threads);

  // Computes the batch and advances the states. Throws Error(out_of_memory) before it changes anything,
  // Error(io) when the model file became shorter while it ran.
  void run(std::span<const Chunk> chunks);
  // Results of the last run, by chunk. A sampler may write to the logits.
  std::span<float> logits(size_t chunk, size_t row = 0);        // (vocabulary)
  std::span<const float> hidden(size_t chunk, size_t row = 0);  // (dim)
  int threads() const { return pool_.size(); }
  // Calls work(0) to work(count - 1) on the same threads.
  void parallel_for(size_t count, const std::function<void(size_t)>& work);
  // Adds the cost of the next runs to `profile`, which must outlive them; nullptr stops.
  void set_profile(Profile* profile) { profile_ = profile; }

 private:
  // The buffers of one thread.
  struct RankBuffers {
    Buffer scratch;          // of the matrix kernels
    Buffer normed;           // (dim) one row
    Buffer product, gated;   // (n, columns of a piece)
    ops::Activations input;  // up to kMaxSelfPreparedRows rows, prepared by this rank
  };

  void reserve_buffers();
  void plan_attention(RowSet& rows);
  RowSet& last_layer_rows();
  int64_t piece_size() const;

  // The steps of the pass. Every rank calls each of them.
  void run_layers(Team& team);
  void embed(Team& team);
  void run_layer(Team& team, size_t layer, const RowSet& active);
  void project_qkv(Team& team, size_t layer, const RowSet& active);
  void attend(Team& team, size_t layer, const RowSet& active);
  void project_gate_up(Team& team, size_t layer, const RowSet& active);
  void add_product(Team& team, Op op, const RowSet& active, const Matrix& matrix,
                   const ops::Activations& input);
  void compute_outputs(Team& team);

  template <typename RowAt>
  const ops::Activations& prepare_input(Team& team, ops::ClassCounts classes,
                                        ops::Activations::Readers readers, const float* norm,
                                        const RowAt& row_at);
  template <typename Work>
  void distribute_rows(Team& team, const Matrix& matrix, const Work& work);
  void norm_and_rotate(float* head, const float* norm, int64_t head_dim, int64_t row) const;
  void barrier(Team& team);
  void record(const Team& team, Op op, std::initializer_list<const Matrix*> read = {}, int64_t rows = 0);
  void record_attention(const Team& team, size_t layer, const RowSet& active);

  RankBuffers& buffers_of(const Team& team) { return buffers_[static_cast<size_t>(team.rank())]; }
  float* x(int64_t row) const { return x_.as<float>() + row * model_.config.dim; }

  const Model& model_;
  ThreadPool pool_;
  Profile* profile_ = nullptr;
  Batch batch_;

  // Shapes: n = rows of the batch; widths are the largest of all layers.
  Buffer x_;                    // (n, dim) the residual stream
  Buffer q_;                    // (n, heads * head_dim)
  Buffer kv_;                   // (n, 2, kv_heads * head_dim)
  Buffer attended_;             // (n, heads * head_dim)
  Buffer cos_sin_;              // (n, rope dim / 2, 2)
  Buffer hidden_;               // (hidden rows, dim)
  Buffer logits_;               // (logit rows, vocabulary)
  ops::Activations input_;      // (n, dim or heads * head_dim) prepared by all ranks together
  ops::Activations ffn_input_;  // (n, ffn) of the down projection
  std::vector<RankBuffers> buffers_;
  ops::Activations::Widths input_widths_, ffn_widths_;
  int64_t max_heads_per_kv_head_ = 0, max_head_dim_ = 0, max_kv_width_ = 0, max_q_width_ = 0, max_ffn_ = 0;
};

}  // namespace binhdan::model
