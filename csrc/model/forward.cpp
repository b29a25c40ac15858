#include "model/forward.h"

#include <algorithm>
#include <cmath>

namespace binhdan::model {

Forward::Forward(const Model& model, int threads)
    : model_(model), pool_(threads), scratch_(static_cast<size_t>(threads)) {
  for (const LayerConfig& layer : model.config.layers) {
    max_group_ = std::max(max_group_, layer.heads / layer.kv_heads);
    max_head_dim_ = std::max(max_head_dim_, layer.head_dim);
    max_q_width_ = std::max(max_q_width_, layer.heads * layer.head_dim);
    max_kv_width_ = std::max(max_kv_width_, layer.kv_heads * layer.head_dim);
    max_ffn_ = std::max(max_ffn_, layer.ffn);
  }
}

void Forward::run(std::span<const Chunk> chunks) {
  plan(chunks);
  reserve();
  if (profile_) profile_->start();
  pool_.run([this](Team& team) { walk(team); });
  if (profile_) profile_->stop();
  model_.check_intact();
  for (const Chunk& chunk : chunks) chunk.state->advance(static_cast<int64_t>(chunk.tokens.size()));
}

std::span<float> Forward::logits(size_t chunk, size_t row) {
  const auto vocabulary = static_cast<size_t>(model_.config.vocabulary);
  return {logits_.as<float>() + (static_cast<size_t>(first_output_[chunk]) + row) * vocabulary, vocabulary};
}

std::span<const float> Forward::hidden(size_t chunk, size_t row) {
  const auto dim = static_cast<size_t>(model_.config.dim);
  return {hidden_.as<float>() + (static_cast<size_t>(first_output_[chunk]) + row) * dim, dim};
}

// Lays the chunks out as rows, and decides whose final states are wanted.
void Forward::plan(std::span<const Chunk> chunks) {
  rows_.clear();
  output_rows_.clear();
  first_output_.assign(chunks.size(), 0);
  classes_ = {};
  std::vector<int64_t> first_row;
  for (const Chunk& chunk : chunks) {
    first_row.push_back(rows());
    int64_t position = chunk.state->length();
    for (const text::Token token : chunk.tokens) rows_.push_back({chunk.state, token, position++});
    if (chunk.decode) classes_.few = rows();
  }
  classes_.total = rows();

  for (const bool want_logits : {true, false}) {
    for (size_t i = 0; i < chunks.size(); ++i) {
      const Wanted wanted = chunks[i].wanted;
      if (wanted == Wanted::nothing || (wanted == Wanted::all_hidden) == want_logits) continue;
      const int64_t end = first_row[i] + static_cast<int64_t>(chunks[i].tokens.size());
      first_output_[i] = static_cast<int64_t>(output_rows_.size());
      for (int64_t row = wanted == Wanted::last_logits ? end - 1 : first_row[i]; row < end; ++row)
        output_rows_.push_back(row);
    }
    if (want_logits) logit_rows_ = static_cast<int64_t>(output_rows_.size());
  }
}

void Forward::reserve() {
  const Config& config = model_.config;
  const auto floats = [](Buffer& buffer, int64_t rows, int64_t width) {
    buffer.reserve(static_cast<size_t>(rows * width) * sizeof(float));
  };
  const int64_t n = rows();
  const auto outputs = static_cast<int64_t>(output_rows_.size());
  floats(x_, n, config.dim);
  floats(normed_, n, config.dim);
  floats(branch_, n, config.dim);
  floats(q_, n, max_q_width_);
  floats(attended_, n, max_q_width_);
  floats(kv_, n, 2 * max_kv_width_);
  floats(gate_, n, max_ffn_);
  floats(up_, n, max_ffn_);
  floats(cos_sin_, n, config.rope.dim);
  floats(hidden_, outputs, config.dim);
  floats(logits_, logit_rows_, config.vocabulary);
  activations_.reserve(std::max(n, outputs), std::max({config.dim, max_q_width_, max_ffn_}));

  attention_rows_.clear();
  for (const Row& row : rows_) attention_rows_.push_back({row.state->pages(), row.position});
  attention_plan_.prepare(*model_.table, attention_rows_, classes_, max_group_, max_head_dim_, pool_.size());
  size_t scratch = ops::matmul_scratch(model_.weights.output, std::max<int64_t>(1, logit_rows_));
  for (const LayerWeights& w : model_.weights.layers)
    for (const Matrix* matrix : {&w.q, &w.k, &w.v, &w.attention_output, &w.gate, &w.up, &w.down})
      scratch = std::max(scratch, ops::matmul_scratch(*matrix, n));
  for (Buffer& buffer : scratch_) buffer.reserve(scratch);
}

void Forward::walk(Team& team) {
  const Config& config = model_.config;
  const auto [begin, end] = team.share(rows());
  for (int64_t i = begin; i < end; ++i) {
    const Row& row = rows_[static_cast<size_t>(i)];
    model_.weights.embedding.get_row(x_.as<float>() + i * config.dim, row.token);
    float* pair = cos_sin_.as<float>() + i * config.rope.dim;
    for (const double frequency : model_.weights.rope.frequencies) {
      const double angle = static_cast<double>(row.position) * frequency;
      *pair++ = static_cast<float>(std::cos(angle) * model_.weights.rope.magnitude);
      *pair++ = static_cast<float>(std::sin(angle) * model_.weights.rope.magnitude);
    }
  }
  done(team, Op::embedding);
  sync(team);
  for (size_t layer = 0; layer < config.layers.size(); ++layer) {
    attention_block(team, layer);
    feed_forward_block(team, layer);
  }
  if (!output_rows_.empty()) output_block(team);
}

// The barrier, and what this rank waits there.
void Forward::sync(Team& team) {
  team.sync();
  done(team, Op::wait);
}

// Charges the time since the last call to `op`, which multiplied all rows with what it read.
void Forward::done(const Team& team, Op op, std::initializer_list<const Matrix*> read) {
  if (profile_ && team.rank() == 0) profile_->done(op, read, op == Op::logits ? logit_rows_ : rows());
}

void Forward::done_attention(const Team& team, const LayerConfig& shape) {
  if (!profile_ || team.rank() != 0) return;
  uint64_t seen = 0, cached = 0;  // positions: by every row, and by the last row of every sequence
  for (size_t i = 0; i < rows_.size(); ++i) {
    const auto positions = static_cast<uint64_t>(rows_[i].position) + 1;
    seen += positions;
    if (i + 1 == rows_.size() || rows_[i + 1].state != rows_[i].state) cached += positions;
  }
  const auto width = static_cast<uint64_t>(shape.heads * shape.head_dim);
  const auto kv_width = static_cast<uint64_t>(shape.kv_heads * shape.head_dim);
  profile_->done(Op::attention, cached * kv_width * 2 * sizeof(uint16_t), seen * width * 2);
}

// x += W_o attention(norm(x)), its end synced.
void Forward::attention_block(Team& team, size_t layer) {
  const KernelTable& table = *model_.table;
  const LayerConfig& shape = model_.config.layers[layer];
  const LayerWeights& w = model_.weights.layers[layer];
  const int64_t dim = model_.config.dim, q_width = shape.heads * shape.head_dim;
  const int64_t kv_width = shape.kv_heads * shape.head_dim;
  Buffer& scratch = scratch_[static_cast<size_t>(team.rank())];

  const auto [begin, end] = team.share(rows());
  for (int64_t i = begin; i < end; ++i)
    table.rms_norm(normed_.as<float>() + i * dim, x_.as<float>() + i * dim, w.attention_norm, dim,
                   model_.config.norm_epsilon);
  const struct {
    const Matrix& matrix;
    const float* bias;
    float* out;
    int64_t stride;
  } projections[] = {{w.q, w.q_bias, q_.as<float>(), q_width},
                     {w.k, w.k_bias, kv_.as<float>(), 2 * kv_width},
                     {w.v, w.v_bias, kv_.as<float>() + kv_width, 2 * kv_width}};
  done(team, Op::norm);
  const Matrix* prepared = nullptr;
  for (const auto& projection : projections) {
    if (!prepared || !ops::Activations::reads_like(*prepared, projection.matrix)) {
      if (prepared) sync(team);  // others may still read the former format
      activations_.prepare(team, table, projection.matrix, normed_.as<float>(), dim, classes_);
      sync(team);
      prepared = &projection.matrix;
    }
    ops::matmul(team, projection.matrix, activations_, classes_, projection.out, projection.stride, scratch);
    if (projection.bias)
      add_bias(projection.out, projection.stride, projection.bias, ops::row_share(team, projection.matrix));
  }
  done(team, Op::qkv, {&w.q, &w.k, &w.v});
  sync(team);
  rotate_and_store(team, layer);
  done(team, Op::rope);
  sync(team);
  ops::attention(team, table, rows_[0].state->layer(layer), attention_plan_, shape.heads, q_.as<float>(),
                 q_width, attended_.as<float>());
  done_attention(team, shape);
  sync(team);
  activations_.prepare(team, table, w.attention_output, attended_.as<float>(), q_width, classes_);
  done(team, Op::norm);
  sync(team);
  add_product(team, Op::attention_output, w.attention_output);
}

// x += W_down (silu(W_gate h) * (W_up h)) with h = norm(x), its end synced.
void Forward::feed_forward_block(Team& team, size_t layer) {
  const KernelTable& table = *model_.table;
  const LayerWeights& w = model_.weights.layers[layer];
  const int64_t dim = model_.config.dim, ffn = model_.config.layers[layer].ffn;
  Buffer& scratch = scratch_[static_cast<size_t>(team.rank())];

  const auto [begin, end] = team.share(rows());
  for (int64_t i = begin; i < end; ++i)
    table.rms_norm(normed_.as<float>() + i * dim, x_.as<float>() + i * dim, w.ffn_norm, dim,
                   model_.config.norm_epsilon);
  activations_.prepare(team, table, w.gate, normed_.as<float>(), dim, classes_);
  done(team, Op::norm);
  sync(team);
  ops::matmul(team, w.gate, activations_, classes_, gate_.as<float>(), ffn, scratch);
  if (!ops::Activations::reads_like(w.gate, w.up)) {
    sync(team);
    activations_.prepare(team, table, w.up, normed_.as<float>(), dim, classes_);
    sync(team);
  }
  ops::matmul(team, w.up, activations_, classes_, up_.as<float>(), ffn, scratch);
  done(team, Op::gate_up, {&w.gate, &w.up});
  sync(team);
  for (int64_t i = begin; i < end; ++i)
    table.silu_mul(gate_.as<float>() + i * ffn, up_.as<float>() + i * ffn, ffn);
  activations_.prepare(team, table, w.down, gate_.as<float>(), ffn, classes_);
  done(team, Op::silu);
  sync(team);
  add_product(team, Op::down, w.down);
}

// x += matrix . activations; ends synced.
void Forward::add_product(Team& team, Op op, const Matrix& matrix) {
  const int64_t dim = model_.config.dim;
  ops::matmul(team, matrix, activations_, classes_, branch_.as<float>(), dim,
              scratch_[static_cast<size_t>(team.rank())]);
  const auto [begin, end] = ops::row_share(team, matrix);
  for (int64_t i = 0; i < rows(); ++i)
    model_.table->add(x_.as<float>() + i * dim + begin, branch_.as<float>() + i * dim + begin, end - begin);
  done(team, op, {&matrix});
  sync(team);
}

void Forward::add_bias(float* out, int64_t stride, const float* bias,
                       std::pair<int64_t, int64_t> range) const {
  for (int64_t i = 0; i < rows(); ++i)
    model_.table->add(out + i * stride + range.first, bias + range.first, range.second - range.first);
}

// Head by head: norm, rotation, and for keys and values the way into the cache.
void Forward::rotate_and_store(Team& team, size_t layer) {
  const KernelTable& table = *model_.table;
  const Config& config = model_.config;
  const LayerConfig& shape = config.layers[layer];
  const LayerWeights& w = model_.weights.layers[layer];
  const int64_t head_dim = shape.head_dim, kv_width = shape.kv_heads * head_dim;
  const float query_scale = ops::query_scale(head_dim);
  const ops::KvLayer& kv_layer = rows_[0].state->layer(layer);

  const auto normed_and_rotated = [&](float* head, const float* norm, int64_t row) {
    if (norm) table.rms_norm(head, head, norm, head_dim, config.norm_epsilon);
    table.rope(head, cos_sin_.as<float>() + row * config.rope.dim, config.rope.dim, config.rope.neox);
  };
  const int64_t heads_of_row = shape.heads + shape.kv_heads;
  const auto [begin, end] = team.share(rows() * heads_of_row);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t i = item / heads_of_row, head = item % heads_of_row;
    if (head < shape.heads) {
      float* q = q_.as<float>() + (i * shape.heads + head) * head_dim;
      normed_and_rotated(q, w.q_norm, i);
      table.scale(q, query_scale, head_dim);
    } else {
      const int64_t kv_head = head - shape.heads;
      float* k = kv_.as<float>() + i * 2 * kv_width + kv_head * head_dim;
      normed_and_rotated(k, w.k_norm, i);
      ops::store_kv(table, kv_layer, kv_head, attention_rows_[static_cast<size_t>(i)], k, k + kv_width);
    }
  }
}

// Final norm of the wanted rows, and their logits. Always in the class of few rows: these are few.
void Forward::output_block(Team& team) {
  const KernelTable& table = *model_.table;
  const int64_t dim = model_.config.dim;
  const auto [begin, end] = team.share(static_cast<int64_t>(output_rows_.size()));
  for (int64_t i = begin; i < end; ++i)
    table.rms_norm(hidden_.as<float>() + i * dim, x_.as<float>() + output_rows_[static_cast<size_t>(i)] * dim,
                   model_.weights.output_norm, dim, model_.config.norm_epsilon);
  done(team, Op::norm);
  sync(team);
  if (logit_rows_ == 0) return;
  const ops::Classes classes{logit_rows_, logit_rows_};
  activations_.prepare(team, table, model_.weights.output, hidden_.as<float>(), dim, classes);
  done(team, Op::norm);
  sync(team);
  ops::matmul(team, model_.weights.output, activations_, classes, logits_.as<float>(),
              model_.config.vocabulary, scratch_[static_cast<size_t>(team.rank())]);
  done(team, Op::logits, {&model_.weights.output});
}

}  // namespace binhdan::model
