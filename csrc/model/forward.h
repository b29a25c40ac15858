// The forward pass: a batch of chunks of any sequences through all layers. One class serves every family: it
// reads the descriptors of config.h and families.h.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/function_ref.h"
#include "base/thread_pool.h"
#include "model/adapter.h"
#include "model/batch.h"
#include "model/model.h"
#include "model/observer.h"
#include "model/profile.h"

namespace binhdan::model {

// Owns the threads and the buffers; runs one batch at a time.
class Forward {
 public:
  // context: the maximum length of a sequence; 0: the model's. LongRoPE depends on it.
  Forward(const Model& model, int threads, int64_t context = 0);

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
  // Reports the inputs of all matrices to `observer` in the next runs; it must outlive them. nullptr stops.
  // Chunks with Outputs::all_hidden or all_logits compute all rows in every layer.
  void set_observer(InputObserver* observer) { observer_ = observer; }

 private:
  static constexpr int64_t kMaxReaders = 4;  // matrices that multiply with the same rows
  // Up to this many rows, each rank prepares all rows itself, into its own buffer: that takes less time than a
  // barrier.
  static constexpr int64_t kMaxSelfPreparedRows = 8;
  // Rows that matrices multiply with, and for rows with an adapter what the changes of these matrices need.
  struct InputBuffers {
    ops::Activations rows;
    Buffer low;  // (n, kMaxReaders, largest rank)
  };
  // The rows in InputBuffers, for certain matrices.
  struct Input {
    const ops::Activations& rows;
    const float* low;
    std::array<const Matrix*, kMaxReaders> readers{};
  };
  // The buffers of one thread.
  struct RankBuffers {
    Buffer scratch;         // of the matrix kernels
    Buffer delta_scratch;   // of the delta rule
    Buffer row;             // two rows: (2, dim) or (2, width of a mixer)
    Buffer product, gated;  // (n, columns of a piece)
    InputBuffers input;     // up to kMaxSelfPreparedRows rows, prepared by this rank
  };
  // A matrix product into a buffer: out[i * stride + r] = matrix row r . row i + bias[r].
  struct Projection {
    const Matrix& matrix;
    const float* bias;
    float* out;
    int64_t stride;
  };
  // The first half of a feed-forward network: f(gate . x) * up . x, f(up . x) if there is no gate, or
  // f(gate . x) * factor if there is no up.
  struct GatedProduct {
    Op op;
    const Matrix& reader;  // of the result
    Norm norm{};
    const Matrix* gate = nullptr;
    const Matrix* up = nullptr;
    const float *gate_bias = nullptr, *up_bias = nullptr;
    const float* factor = nullptr;  // of row 0
    int64_t factor_stride = 0;
  };

  // forward.cpp
  void plan_attention(RowSet& rows);
  RowSet& output_rows();
  void run_layers(Team& team);
  void embed(Team& team);
  void project_layer_inputs(Team& team);
  void run_layer(Team& team, size_t layer, const RowSet& active);
  void feed_forward(Team& team, size_t layer, const RowSet& active);
  void add_layer_input(Team& team, size_t layer, const RowSet& active);
  void multiply_gated(Team& team, const RowSet& active, const GatedProduct& product);
  void add_product(Team& team, Op op, const RowSet& active, const Matrix& matrix, const float* bias,
                   const Norm& norm, const Input& input);
  void compute_outputs(Team& team);

  // forward_attention.cpp, forward_recurrent.cpp: each mixer writes attended_ and ends with a barrier.
  void mix_attention(Team& team, size_t layer, const RowSet& active);
  void project_qkv(Team& team, size_t layer, const RowSet& active);
  void finish_query(size_t layer, int64_t i, int64_t row, int64_t head, float* values);
  void norm_and_rotate(float* head, const float* norm, const LayerConfig& shape, int64_t row) const;
  void mix_convolution(Team& team, size_t layer);
  void mix_delta_net(Team& team, size_t layer);
  void prepare_delta_block(const RowRun& run, size_t layer, int64_t block);
  const float* attended_row(Team& team, size_t layer, int64_t i, int64_t row);

  // forward_adapters.cpp
  void lower(const RowSet& rows, ops::Activations::Readers readers, int64_t i, const float* x, Buffer& low);
  Input gated_input(Team& team, const RowSet& rows, const Matrix& reader);
  void multiply(Team& team, const Matrix& matrix, Range range, const Input& input, const RowSet& rows,
                float* out, int64_t stride);
  void add_changes(const Matrix& matrix, Range range, const Input& input, const RowSet& rows, float* out,
                   int64_t stride);

  // forward_parts.cpp
  void reserve_buffers();
  size_t add_window_kind(const LayerConfig& layer);
  Input prepare_input(Team& team, const RowSet& rows, ops::Activations::Readers readers, const Norm& norm,
                      FunctionRef<const float*(int64_t)> row_at, InputBuffers& shared);
  Input prepare_input(Team& team, const RowSet& rows, ops::Activations::Readers readers, const Norm& norm,
                      FunctionRef<const float*(int64_t)> row_at) {
    return prepare_input(team, rows, readers, norm, row_at, input_);
  }
  void distribute_rows(Team& team, int64_t rows, FunctionRef<void(int64_t, int64_t)> work);
  void project(Team& team, const RowSet& rows, const Input& input,
               std::initializer_list<Projection> projections);
  void normalize(float* out, const float* x, const Norm& norm, int64_t n) const;
  static int64_t padded(int64_t rows);
  int64_t piece_size() const;
  void barrier(Team& team);
  void record(const Team& team, Op op, std::initializer_list<const Matrix*> read = {}, int64_t rows = 0);
  void record_attention(const Team& team, size_t layer, const RowSet& active);

  RankBuffers& buffers_of(const Team& team) { return buffers_[static_cast<size_t>(team.rank())]; }
  float* x(int64_t row) const { return x_.as<float>() + row * model_.config.dim; }
  float* mixed(int64_t row) const { return mixed_.as<float>() + row * max_.mixed; }

  const Model& model_;
  ThreadPool pool_;
  Profile* profile_ = nullptr;
  InputObserver* observer_ = nullptr;
  Batch batch_;
  size_t last_state_layer_;
  std::vector<RopeFrequencies> ropes_;
  // The kinds of windows, and the kind of each layer.
  struct WindowKind {
    int64_t window, heads_per_kv_head, head_dim;  // the largest of the layers
  };
  std::vector<WindowKind> windows_;
  std::vector<size_t> window_of_;

  // Shapes: n = rows of the batch; widths are the largest of all layers.
  Buffer x_;                     // (n, dim) the residual stream
  Buffer q_;                     // (n, heads * head_dim)
  Buffer kv_;                    // (n, 2, kv_heads * head_dim)
  Buffer mixed_;                 // (n, max_.mixed) projections of gated attention and of recurrent layers
  Buffer gates_;                 // (n, max_.attended) of the output of a mixer
  Buffer decay_beta_;            // (n, 2, heads) of the delta rule
  Buffer attended_;              // (n, max_.attended) output of a mixer
  Buffer product_;               // (n, dim) before a norm
  Buffer layer_inputs_;          // (n, layers, per_layer_dim)
  Buffer query_factors_;         // (n)
  std::vector<Buffer> cos_sin_;  // (n, rope dim / 2, 2), one for each RoPE
  Buffer hidden_;                // (hidden rows, dim)
  Buffer logits_;                // (logit rows, vocabulary)
  InputBuffers input_;           // (n, dim or max_.attended) prepared by all ranks together
  InputBuffers output_input_;    // (output rows, dim) of the last layer with a state
  InputBuffers ffn_input_;       // (n, ffn or per_layer_dim) of the second product of a network
  Buffer gated_rows_;            // the same as float, if the batch has adapters
  std::vector<RankBuffers> buffers_;
  ops::Activations::Widths input_widths_, ffn_widths_;
  struct {
    int64_t kv = 0, mixed = 0, attended = 0, ffn = 0;
  } max_;
};

}  // namespace binhdan::model
