#include "model/forward.h"

#include <algorithm>
#include <cmath>

namespace binhdan::model {
namespace {

// Up to this many rows, each rank prepares all rows itself, into its own buffer: that takes less time than a
// barrier.
constexpr int64_t kMaxSelfPreparedRows = 8;
// Ranks take pieces of matrix rows. The products of a piece should stay in the second-level cache, and small
// pieces let a faster core take over the rest of a slower one.
constexpr int64_t kPieceFloats = 128 * 1024, kPieceRows = 256, kLogitRows = 1024;
// Pieces end at multiples of kBlock, because the outputs of gate and up are quantized in blocks of 32. With
// more than kMaxSelfPreparedRows rows they end at multiples of 64, because every piece reads all rows of
// activations.
constexpr int64_t kBlock = 32, kManyRowsGrain = 64;

int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace

void Forward::run(std::span<const Chunk> chunks) {
  batch_.assign(chunks);
  reserve_buffers();
  if (profile_) profile_->start();
  pool_.run([this](Team& team) { run_layers(team); });
  if (profile_) profile_->stop();
  model_.check_intact();
  for (const Chunk& chunk : chunks) chunk.state->advance(static_cast<int64_t>(chunk.tokens.size()));
}

std::span<float> Forward::logits(size_t chunk, size_t row) {
  const auto vocabulary = static_cast<size_t>(model_.config.vocabulary);
  return {logits_.as<float>() + (batch_.first_result[chunk] + row) * vocabulary, vocabulary};
}

std::span<const float> Forward::hidden(size_t chunk, size_t row) {
  const auto dim = static_cast<size_t>(model_.config.dim);
  return {hidden_.as<float>() + (batch_.first_result[chunk] + row) * dim, dim};
}

void Forward::parallel_for(size_t count, const std::function<void(size_t)>& work) {
  if (count == 1) return work(0);  // needs no other thread
  pool_.run([&](Team& team) {
    team.distribute(static_cast<int64_t>(count), 1, 1,
                    [&](int64_t i, int64_t) { work(static_cast<size_t>(i)); });
  });
}

// ---- the layers -------------------------------------------------------------------------------------------

void Forward::run_layers(Team& team) {
  const size_t layers = model_.config.layers.size();
  embed(team);
  barrier(team);
  for (size_t layer = 0; layer < layers; ++layer)
    run_layer(team, layer, layer + 1 < layers ? batch_.all : last_layer_rows());
  compute_outputs(team);
}

// x = embedding of the token; the angles of its position.
void Forward::embed(Team& team) {
  const int64_t rope_dim = model_.config.rope.dim;
  const RopeFrequencies& rope = model_.weights.rope;
  const auto [begin, end] = team.share(batch_.all.size());
  for (int64_t i = begin; i < end; ++i) {
    const Row& row = batch_.rows[static_cast<size_t>(i)];
    model_.weights.embedding.get_row(x(i), row.token);
    float* pair = cos_sin_.as<float>() + i * rope_dim;
    for (const double frequency : rope.frequencies) {
      const double angle = static_cast<double>(row.position) * frequency;
      *pair++ = static_cast<float>(std::cos(angle) * rope.magnitude);
      *pair++ = static_cast<float>(std::sin(angle) * rope.magnitude);
    }
  }
  record(team, Op::embedding);
}

// x += W_o attention(W_qkv norm(x)); x += W_down (silu(W_gate norm(x)) * W_up norm(x)).
//
// A barrier separates a step that writes a buffer from the step in which other ranks read it: five in a
// layer. prepare_input() adds one where the batch has more than kMaxSelfPreparedRows rows.
void Forward::run_layer(Team& team, size_t layer, const RowSet& active) {
  const LayerWeights& w = model_.weights.layers[layer];

  project_qkv(team, layer, active);
  barrier(team);
  if (active.empty()) return;  // the last layer of a batch without outputs: the KV pages are complete
  attend(team, layer, active);
  barrier(team);
  const auto attended = [&, width = w.attention_output.cols](int64_t i) {
    return attended_.as<float>() + i * width;
  };
  add_product(team, Op::attention_output, active, w.attention_output,
              prepare_input(team, active.classes, {&w.attention_output}, nullptr, attended));
  barrier(team);

  project_gate_up(team, layer, active);
  barrier(team);
  add_product(team, Op::down, active, w.down, ffn_input_);
  barrier(team);
}

// q = rotated queries of the active rows. Stores the rotated keys and the values of all rows in their KV
// pages. A rank takes whole heads, so that bias, norm, rotation and store follow the product without a
// barrier.
void Forward::project_qkv(Team& team, size_t layer, const RowSet& active) {
  const LayerConfig& shape = model_.config.layers[layer];
  const LayerWeights& w = model_.weights.layers[layer];
  const KernelTable& table = *model_.table;
  const int64_t head_dim = shape.head_dim, kv_width = shape.kv_heads * head_dim;
  const RowSet& all = batch_.all;
  const auto input_of = [&](const RowSet& rows) -> const ops::Activations& {
    return prepare_input(team, rows.classes, {&w.q, &w.k, &w.v}, w.attention_norm,
                         [&](int64_t i) { return x(rows.index[i]); });
  };
  const ops::Activations& input = input_of(all);
  const ops::Activations& active_input = &active == &all ? input : input_of(active);

  struct Projection {
    const Matrix& matrix;
    const float* bias;
    const RowSet& rows;
    const ops::Activations& input;
    float* out;
    int64_t stride;
  };
  const Projection q{w.q, w.q_bias, active, active_input, q_.as<float>(), shape.heads * head_dim};
  const Projection k{w.k, w.k_bias, all, input, kv_.as<float>(), 2 * kv_width};
  const Projection v{w.v, w.v_bias, all, input, kv_.as<float>() + kv_width, 2 * kv_width};
  const auto project = [&](const Projection& to, Range heads, const auto& finish_head) {
    const int64_t begin = heads.first * head_dim, width = (heads.second - heads.first) * head_dim;
    if (width <= 0 || to.rows.empty()) return;
    ops::matmul(to.matrix, {begin, begin + width}, to.input, to.rows.classes, to.out + begin, to.stride,
                buffers_of(team).scratch);
    for (int64_t i = 0; i < to.rows.size(); ++i) {
      float* values = to.out + i * to.stride + begin;
      if (to.bias) table.add(values, to.bias + begin, width);
      for (int64_t head = heads.first; head < heads.second; ++head, values += head_dim)
        finish_head(to.rows.index[i], head, values);
    }
  };
  const ops::KvLayer& pages = batch_.rows[0].state->layer(layer);
  const auto row_at = [&](int64_t row) { return batch_.rows[static_cast<size_t>(row)].attention_row(); };

  // The unit of work is the smallest number of heads whose rows fill whole panels of the matrix. The units of
  // q, then k, then v are numbered from 0.
  int64_t unit_heads = 1;
  while (unit_heads * head_dim % kBlock != 0) ++unit_heads;
  const int64_t q_units = divide_up(shape.heads, unit_heads),
                kv_units = divide_up(shape.kv_heads, unit_heads);
  team.distribute(
      q_units + 2 * kv_units, 1, piece_size() / (unit_heads * head_dim), [&](int64_t begin, int64_t end) {
        const auto heads_from = [&](int64_t first_unit, int64_t heads) {
          return Range{std::clamp<int64_t>((begin - first_unit) * unit_heads, 0, heads),
                       std::clamp<int64_t>((end - first_unit) * unit_heads, 0, heads)};
        };
        project(q, heads_from(0, shape.heads), [&](int64_t row, int64_t, float* values) {
          norm_and_rotate(values, w.q_norm, head_dim, row);
          table.scale(values, ops::query_scale(1 / std::sqrt(static_cast<double>(head_dim))), head_dim);
        });
        project(k, heads_from(q_units, shape.kv_heads), [&](int64_t row, int64_t head, float* values) {
          norm_and_rotate(values, w.k_norm, head_dim, row);
          ops::store_key(table, pages, head, row_at(row), values);
        });
        project(v, heads_from(q_units + kv_units, shape.kv_heads),
                [&](int64_t row, int64_t head, float* values) {
                  ops::store_value(table, pages, head, row_at(row), values);
                });
      });
  record(team, Op::qkv, {&w.q, &w.k, &w.v}, all.size());
}

void Forward::norm_and_rotate(float* head, const float* norm, int64_t head_dim, int64_t row) const {
  const Config& config = model_.config;
  if (norm) model_.table->rms_norm(head, head, norm, head_dim, config.norm_epsilon);
  model_.table->rope(head, cos_sin_.as<float>() + row * config.rope.dim, config.rope.dim, config.rope.neox);
}

// attended = softmax(q . keys) values.
void Forward::attend(Team& team, size_t layer, const RowSet& active) {
  const LayerConfig& shape = model_.config.layers[layer];
  ops::attention(team, *model_.table, batch_.rows[0].state->layer(layer), active.attention, shape.heads, 0.0f,
                 q_.as<float>(), shape.heads * shape.head_dim, attended_.as<float>());
  record_attention(team, layer, active);
}

// ffn_input = silu(W_gate h) * (W_up h) with h = norm(x).
void Forward::project_gate_up(Team& team, size_t layer, const RowSet& active) {
  const KernelTable& table = *model_.table;
  const LayerWeights& w = model_.weights.layers[layer];
  const ops::Activations& input = prepare_input(team, active.classes, {&w.gate, &w.up}, w.ffn_norm,
                                                [&](int64_t i) { return x(active.index[i]); });
  RankBuffers& buffers = buffers_of(team);
  distribute_rows(team, w.gate, [&](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    float *gate = buffers.gated.as<float>(), *up = buffers.product.as<float>();
    ops::matmul(w.gate, {begin, end}, input, active.classes, gate, width, buffers.scratch);
    ops::matmul(w.up, {begin, end}, input, active.classes, up, width, buffers.scratch);
    for (int64_t i = 0; i < active.size(); ++i, gate += width, up += width) {
      table.apply[static_cast<size_t>(Nonlinearity::silu)](gate, up, width);
      ffn_input_.store(table, {&w.down}, active.classes, i, gate, begin, width);
    }
  });
  record(team, Op::gate_up, {&w.gate, &w.up}, active.size());
}

// x += matrix . input.
void Forward::add_product(Team& team, Op op, const RowSet& active, const Matrix& matrix,
                          const ops::Activations& input) {
  RankBuffers& buffers = buffers_of(team);
  distribute_rows(team, matrix, [&](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    float* product = buffers.product.as<float>();
    ops::matmul(matrix, {begin, end}, input, active.classes, product, width, buffers.scratch);
    for (const int64_t row : active.index) {
      model_.table->add(x(row) + begin, product, width);
      product += width;
    }
  });
  record(team, op, {&matrix}, active.size());
}

// hidden = norm(x) and logits = W norm(x), each for the rows that need it. Logits are always computed as
// decode rows, since there are few of them.
void Forward::compute_outputs(Team& team) {
  const Config& config = model_.config;
  const Matrix& output = model_.weights.output;
  const std::vector<int64_t>&hidden_rows = batch_.hidden_rows, &logit_rows = batch_.logit_rows;
  const auto [begin, end] = team.share(static_cast<int64_t>(hidden_rows.size()));
  for (int64_t i = begin; i < end; ++i)
    model_.table->rms_norm(hidden_.as<float>() + i * config.dim, x(hidden_rows[i]),
                           model_.weights.output_norm, config.dim, config.norm_epsilon);
  if (logit_rows.empty()) return;
  const auto rows = static_cast<int64_t>(logit_rows.size());
  const ops::ClassCounts classes{rows, rows};
  const ops::Activations& input = prepare_input(team, classes, {&output}, model_.weights.output_norm,
                                                [&](int64_t i) { return x(logit_rows[i]); });
  team.distribute(output.rows, kBlock, kLogitRows, [&](int64_t first, int64_t last) {
    ops::matmul(output, {first, last}, input, classes, logits_.as<float>() + first, output.rows,
                buffers_of(team).scratch);
  });
  record(team, Op::logits, {&output}, rows);
}

// ---- parts of the steps -----------------------------------------------------------------------------------

// The rows row_at(0), row_at(1), ..., normalised unless `norm` is null, in the formats that `readers`
// multiply with. Costs a barrier for more than kMaxSelfPreparedRows rows, which the ranks prepare together.
template <typename RowAt>
const ops::Activations& Forward::prepare_input(Team& team, ops::ClassCounts classes,
                                               ops::Activations::Readers readers, const float* norm,
                                               const RowAt& row_at) {
  const bool together = classes.total > kMaxSelfPreparedRows;
  ops::Activations& input = together ? input_ : buffers_of(team).input;
  const int64_t width = (*readers.begin())->cols;
  const auto [begin, end] = together ? team.share(classes.total) : Range{0, classes.total};
  for (int64_t i = begin; i < end; ++i) {
    const float* row = row_at(i);
    if (norm) {
      float* normed = buffers_of(team).normed.as<float>();
      model_.table->rms_norm(normed, row, norm, width, model_.config.norm_epsilon);
      row = normed;
    }
    input.store(*model_.table, readers, classes, i, row, 0, width);
  }
  record(team, Op::norm);
  if (together) barrier(team);
  return input;
}

// Calls work(begin, end) for pieces of the matrix's rows until the ranks have taken all.
template <typename Work>
void Forward::distribute_rows(Team& team, const Matrix& matrix, const Work& work) {
  const int64_t grain = batch_.all.size() > kMaxSelfPreparedRows ? kManyRowsGrain : kBlock;
  team.distribute(matrix.rows, grain, piece_size(), work);
}

// Rows of a matrix that a rank takes at once.
int64_t Forward::piece_size() const {
  const int64_t cached = kPieceFloats / batch_.all.size() / kBlock * kBlock;
  return std::clamp(cached, kBlock, kPieceRows);
}

// The rows of which the last layer computes more than keys and values. Only the output rows are needed.
// project_qkv() prepares them and all rows at the same time, in two buffers. So the output rows are used if
// they fit in the ranks' own buffers (RankBuffers::input) while all rows are in the shared input_. Otherwise
// both sets would need the same buffer, and all rows are used.
RowSet& Forward::last_layer_rows() {
  const bool fewer = batch_.output.size() <= kMaxSelfPreparedRows && batch_.all.size() > kMaxSelfPreparedRows;
  return fewer ? batch_.output : batch_.all;
}

// ---- measuring --------------------------------------------------------------------------------------------

void Forward::barrier(Team& team) {
  team.sync();
  record(team, Op::wait);
}

// Adds the time since the last call to `op`, which multiplied `rows` rows with the matrices in `read`.
void Forward::record(const Team& team, Op op, std::initializer_list<const Matrix*> read, int64_t rows) {
  if (profile_ && team.rank() == 0) profile_->record(op, read, rows);
}

void Forward::record_attention(const Team& team, size_t layer, const RowSet& active) {
  if (!profile_ || team.rank() != 0) return;
  // The positions that all rows attend to, and those whose keys and values are loaded: once for each
  // sequence, for its last row.
  uint64_t attended_positions = 0, loaded_positions = 0;
  for (size_t i = 0; i < active.index.size(); ++i) {
    const Row& row = batch_.rows[static_cast<size_t>(active.index[i])];
    const auto positions = static_cast<uint64_t>(row.position) + 1;
    attended_positions += positions;
    if (i + 1 == active.index.size() ||
        batch_.rows[static_cast<size_t>(active.index[i + 1])].state != row.state)
      loaded_positions += positions;
  }
  const LayerConfig& shape = model_.config.layers[layer];
  const auto width = static_cast<uint64_t>(shape.heads * shape.head_dim);
  const uint64_t bytes = batch_.rows[0].state->layer(layer).bytes() / kKvPageTokens;
  profile_->record(Op::attention, loaded_positions * bytes, attended_positions * width * 2);
}

// ---- buffers ----------------------------------------------------------------------------------------------

Forward::Forward(const Model& model, int threads)
    : model_(model), pool_(threads), buffers_(static_cast<size_t>(threads)) {
  for (const LayerConfig& layer : model.config.layers) {
    max_heads_per_kv_head_ = std::max(max_heads_per_kv_head_, layer.heads / layer.kv_heads);
    max_head_dim_ = std::max(max_head_dim_, layer.head_dim);
    max_q_width_ = std::max(max_q_width_, layer.heads * layer.head_dim);
    max_kv_width_ = std::max(max_kv_width_, layer.kv_heads * layer.head_dim);
    max_ffn_ = std::max(max_ffn_, layer.ffn);
  }
  for (const LayerWeights& w : model.weights.layers) {
    for (const Matrix* matrix : {&w.q, &w.k, &w.v, &w.attention_output, &w.gate, &w.up})
      input_widths_.cover(*matrix);
    ffn_widths_.cover(w.down);
  }
  input_widths_.cover(model.weights.output);
}

void Forward::reserve_buffers() {
  const Config& config = model_.config;
  const auto reserve = [](Buffer& buffer, int64_t rows, int64_t width) {
    buffer.reserve(static_cast<size_t>(rows * width) * sizeof(float));
  };
  const int64_t n = batch_.all.size();
  const auto logits = static_cast<int64_t>(batch_.logit_rows.size());
  const auto hidden = static_cast<int64_t>(batch_.hidden_rows.size());
  const int64_t prepared = std::max(n, logits);
  reserve(x_, n, config.dim);
  reserve(q_, n, max_q_width_);
  reserve(kv_, n, 2 * max_kv_width_);
  reserve(attended_, n, max_q_width_);
  reserve(cos_sin_, n, config.rope.dim);
  reserve(hidden_, hidden, config.dim);
  reserve(logits_, logits, config.vocabulary);
  ffn_input_.reserve(n, ffn_widths_);
  if (prepared > kMaxSelfPreparedRows) input_.reserve(prepared, input_widths_);

  plan_attention(batch_.all);
  if (RowSet& last = last_layer_rows(); &last != &batch_.all) plan_attention(last);
  size_t scratch = ops::matmul_scratch(model_.weights.output, std::max<int64_t>(1, logits));
  for (const LayerWeights& w : model_.weights.layers)
    for (const Matrix* matrix : {&w.q, &w.k, &w.v, &w.attention_output, &w.gate, &w.up, &w.down})
      scratch = std::max(scratch, ops::matmul_scratch(*matrix, n));
  const int64_t piece = std::min(piece_size(), std::max(max_ffn_, config.dim));
  for (RankBuffers& buffers : buffers_) {
    buffers.scratch.reserve(scratch);
    reserve(buffers.normed, 1, config.dim);
    reserve(buffers.product, n, piece);
    reserve(buffers.gated, n, piece);
    buffers.input.reserve(std::min(prepared, kMaxSelfPreparedRows), input_widths_);
  }
}

void Forward::plan_attention(RowSet& rows) {
  std::vector<ops::AttentionRow> at;
  for (const int64_t row : rows.index) at.push_back(batch_.rows[static_cast<size_t>(row)].attention_row());
  rows.attention.prepare(*model_.table, batch_.rows[0].state->kv_type(), at, rows.classes,
                         ops::AttentionSpan{}, max_heads_per_kv_head_, max_head_dim_, pool_.size());
}

}  // namespace binhdan::model
