#include "model/forward.h"

#include <algorithm>
#include <cmath>
#include <optional>

namespace binhdan::model {
namespace {

constexpr int64_t kBlock = 32, kLogitRows = 1024;  // of a piece of the output matrix

}  // namespace

void Forward::run(std::span<const Chunk> chunks) {
  batch_.assign(chunks);
  const std::optional<text::Token>& separator = model_.tokenizer.vocab().separator;
  if (model_.config.pooling == Pooling::rank && model_.weights.has_second_type && separator &&
      model_.tokenizer.vocab().model == text::VocabModel::wordpiece)
    batch_.mark_second_texts(*separator);
  reserve_buffers();
  if (profile_) profile_->start();
  pool_.run_adaptive([this](Team& team) { run_layers(team); });
  if (profile_) profile_->stop();
  model_.check_intact();
  for (const Chunk& chunk : chunks)
    chunk.state->advance(static_cast<int64_t>(chunk.tokens.size()), chunk.unverified);
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
  pool_.run_adaptive([&](Team& team) {
    team.distribute(static_cast<int64_t>(count), 1, 1,
                    [&](int64_t i, int64_t) { work(static_cast<size_t>(i)); });
  });
}

// ---- the layers -------------------------------------------------------------------------------------------

void Forward::run_layers(Team& team) {
  embed(team);
  barrier(team);
  if (model_.config.per_layer_dim > 0) {
    project_layer_inputs(team);
    barrier(team);
  }
  const RowSet& outputs = output_rows();
  for (size_t layer = 0; layer < model_.config.layers.size(); ++layer) {
    const RowSet& active = layer < last_state_layer_ ? batch_.all : outputs;
    if (layer > last_state_layer_ && active.empty()) break;
    run_layer(team, layer, active);
  }
  compute_outputs(team);
}

// x = embedding of the token. Angles and query factors of its position.
void Forward::embed(Team& team) {
  const Config& config = model_.config;
  const Weights& w = model_.weights;
  const KernelTable& table = *model_.table;
  const auto [begin, end] = team.share(batch_.all.size());
  for (int64_t i = begin; i < end; ++i) {
    const Row& row = batch_.rows[static_cast<size_t>(i)];
    w.get_embedding(x(i), row.token);
    if (config.embedding_scale != 1.0f) table.scale(x(i), config.embedding_scale, config.dim);
    if (config.family->position_embedding) {
      float* position = buffers_of(team).row.as<float>();
      w.position_embedding.get_row(position, row.position);
      table.add(x(i), position, config.dim);
      if (w.token_types) table.add(x(i), w.token_types + (row.in_second_text ? config.dim : 0), config.dim);
      normalize(x(i), x(i), w.embedding_norm, config.dim);
    }
    if (config.per_layer_dim > 0) {
      const int64_t width = w.per_layer.embedding.cols;
      float* inputs = layer_inputs_.as<float>() + i * width;
      w.per_layer.embedding.get_row(inputs, row.token);
      table.scale(inputs, std::sqrt(static_cast<float>(config.per_layer_dim)), width);
    }
    for (size_t r = 0; r < ropes_.size(); ++r) {
      float* pair = cos_sin_[r].as<float>() + i * config.ropes[r].dim;
      for (const double frequency : ropes_[r].frequencies) {
        const double angle = static_cast<double>(row.position) * frequency;
        *pair++ = static_cast<float>(std::cos(angle) * ropes_[r].magnitude);
        *pair++ = static_cast<float>(std::sin(angle) * ropes_[r].magnitude);
      }
    }
    query_factors_.as<float>()[i] = config.query_factor(row.position);
  }
  record(team, Op::embedding);
}

// layer_inputs = (norm(projection . x / sqrt(dim)) + layer_inputs) / sqrt(2), the norm for each layer.
void Forward::project_layer_inputs(Team& team) {
  const Config& config = model_.config;
  const PerLayerWeights& w = model_.weights.per_layer;
  const KernelTable& table = *model_.table;
  const int64_t p = config.per_layer_dim;
  const RowSet& all = batch_.all;
  const Input input = prepare_input(team, all, {&w.projection}, {}, [&](int64_t i) { return x(i); });
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.dim)));
  team.distribute(w.projection.rows, p, std::max(p, piece_size()), [&](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    float* product = buffers_of(team).product.as<float>();
    multiply(team, w.projection, {begin, end}, input, all, product, width);
    for (int64_t i = 0; i < all.size(); ++i, product += width) {
      table.scale(product, scale, width);
      for (int64_t at = 0; at < width; at += p) normalize(product + at, product + at, w.norm, p);
      float* inputs = layer_inputs_.as<float>() + i * w.projection.rows + begin;
      table.add(inputs, product, width);
      table.scale(inputs, std::sqrt(0.5f), width);
    }
  });
  record(team, Op::embedding, {&w.projection}, all.size());
}

// x += W_o mixer(norm(x)); x += W_down (f(W_gate norm(x)) * W_up norm(x)); norms as NormPlaces says.
//
// A barrier separates a step that writes a buffer from the step in which other ranks read it: five in a layer
// with attention and without norms of products. prepare_input() adds one where the batch has more than
// kMaxSelfPreparedRows rows.
void Forward::run_layer(Team& team, size_t layer, const RowSet& active) {
  const LayerConfig& shape = model_.config.layers[layer];
  const LayerWeights& w = model_.weights.layers[layer];

  if (shape.mixer == Mixer::attention) mix_attention(team, layer, active);
  if (shape.mixer == Mixer::short_convolution) mix_convolution(team, layer);
  if (shape.mixer == Mixer::delta_net) mix_delta_net(team, layer);
  if (active.empty()) return;  // a batch without outputs: the states of all layers are complete
  add_product(team, Op::attention_output, active, w.attention_output, w.attention_output_bias,
              w.post_attention_norm, prepare_input(team, active, {&w.attention_output}, {}, [&](int64_t i) {
                return attended_row(team, layer, i, active.index[static_cast<size_t>(i)]);
              }));
  barrier(team);

  feed_forward(team, layer, active);
  if (model_.config.per_layer_dim > 0) add_layer_input(team, layer, active);
  if (w.output_scale != 1.0f) {
    const auto [begin, end] = team.share(active.size());
    for (int64_t i = begin; i < end; ++i)
      model_.table->scale(x(active.index[static_cast<size_t>(i)]), w.output_scale, model_.config.dim);
    barrier(team);
  }
}

void Forward::feed_forward(Team& team, size_t layer, const RowSet& active) {
  const LayerWeights& w = model_.weights.layers[layer];
  multiply_gated(team, active,
                 {.op = Op::gate_up,
                  .reader = w.down,
                  .norm = w.ffn_norm,
                  .gate = w.gate.rows > 0 ? &w.gate : nullptr,
                  .up = &w.up,
                  .gate_bias = w.gate_bias,
                  .up_bias = w.up_bias});
  barrier(team);
  add_product(team, Op::down, active, w.down, w.down_bias, w.post_ffn_norm,
              gated_input(team, active, w.down));
  barrier(team);
}

// x += norm(projection . (f(gate . x) * input embedding of the layer)).
void Forward::add_layer_input(Team& team, size_t layer, const RowSet& active) {
  const LayerWeights& w = model_.weights.layers[layer];
  const int64_t p = model_.config.per_layer_dim;
  multiply_gated(team, active,
                 {.op = Op::layer_input,
                  .reader = w.input_projection,
                  .gate = &w.input_gate,
                  .factor = layer_inputs_.as<float>() + static_cast<int64_t>(layer) * p,
                  .factor_stride = std::ssize(model_.config.layers) * p});
  barrier(team);
  add_product(team, Op::layer_input, active, w.input_projection, nullptr, w.post_input_norm,
              gated_input(team, active, w.input_projection));
  barrier(team);
}

void Forward::multiply_gated(Team& team, const RowSet& active, const GatedProduct& product) {
  const KernelTable& table = *model_.table;
  const auto activate = table.apply[static_cast<size_t>(model_.config.family->activation)];
  const Matrix* gate_matrix = product.gate ? product.gate : product.up;
  const float* gate_bias = product.gate ? product.gate_bias : product.up_bias;
  const Matrix* up_matrix = product.gate ? product.up : nullptr;
  const Matrix* second = up_matrix ? up_matrix : gate_matrix;
  const Input input = prepare_input(team, active, {gate_matrix, second}, product.norm,
                                    [&](int64_t i) { return x(active.index[static_cast<size_t>(i)]); });
  RankBuffers& buffers = buffers_of(team);
  distribute_rows(team, gate_matrix->rows, [&](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    float *gate = buffers.gated.as<float>(), *up = buffers.product.as<float>();
    multiply(team, *gate_matrix, {begin, end}, input, active, gate, width);
    if (up_matrix) multiply(team, *up_matrix, {begin, end}, input, active, up, width);
    for (int64_t i = 0; i < active.size(); ++i, gate += width, up += width) {
      if (gate_bias) table.add(gate, gate_bias + begin, width);
      const float* factor = nullptr;
      if (up_matrix) {
        if (product.up_bias) table.add(up, product.up_bias + begin, width);
        factor = up;
      } else if (product.factor) {
        factor = product.factor + active.index[static_cast<size_t>(i)] * product.factor_stride + begin;
      }
      activate(gate, factor, width);
      ffn_input_.rows.store(table, {&product.reader}, active.classes, i, gate, begin, width);
      if (batch_.max_rank > 0)
        std::copy_n(gate, width, gated_rows_.as<float>() + i * product.reader.cols + begin);
      if (observer_) observer_->observe({&product.reader}, i, gate, begin, width);
    }
  });
  if (up_matrix)
    record(team, product.op, {gate_matrix, up_matrix}, active.size());
  else
    record(team, product.op, {gate_matrix}, active.size());
}

// x += matrix . input + bias. Families with a norm after the product or the sum need all of a row for it:
// one more barrier.
void Forward::add_product(Team& team, Op op, const RowSet& active, const Matrix& matrix, const float* bias,
                          const Norm& norm, const Input& input) {
  const KernelTable& table = *model_.table;
  const Config& config = model_.config;
  const int64_t dim = config.dim;
  RankBuffers& buffers = buffers_of(team);
  const auto add = [&](float* to, const float* product, int64_t n) {
    if (config.residual_scale == 1.0f)
      table.add(to, product, n);
    else
      table.add_scaled(to, product, config.residual_scale, n);
  };
  const bool to_buffer = norm.weight != nullptr;
  distribute_rows(team, matrix.rows, [&](int64_t begin, int64_t end) {
    const int64_t width = end - begin, stride = to_buffer ? dim : width;
    float* product = to_buffer ? product_.as<float>() + begin : buffers.product.as<float>();
    multiply(team, matrix, {begin, end}, input, active, product, stride);
    for (const int64_t row : active.index) {
      if (bias) table.add(product, bias + begin, width);
      if (!to_buffer) add(x(row) + begin, product, width);
      product += stride;
    }
  });
  record(team, op, {&matrix}, active.size());
  if (!to_buffer) return;
  barrier(team);
  const auto [begin, end] = team.share(active.size());
  for (int64_t i = begin; i < end; ++i) {
    float *row = x(active.index[static_cast<size_t>(i)]), *product = product_.as<float>() + i * dim;
    if (config.family->norms == NormPlaces::before_and_after) normalize(product, product, norm, dim);
    add(row, product, dim);
    if (config.family->norms == NormPlaces::after_sum) normalize(row, row, norm, dim);
  }
  record(team, Op::norm);
}

// hidden = norm(x) and logits = W norm(x), each for the rows that need it. Logits are always computed as
// decode rows, since there are few of them.
void Forward::compute_outputs(Team& team) {
  const Config& config = model_.config;
  const KernelTable& table = *model_.table;
  const Matrix& output = model_.weights.output;
  const Norm& norm = model_.weights.output_norm;
  const std::vector<int64_t>& hidden_rows = batch_.hidden_rows;
  const auto [begin, end] = team.share(static_cast<int64_t>(hidden_rows.size()));
  for (int64_t i = begin; i < end; ++i) {
    float* hidden = hidden_.as<float>() + i * config.dim;
    const float* row = x(hidden_rows[static_cast<size_t>(i)]);
    if (norm.weight)
      normalize(hidden, row, norm, config.dim);
    else
      std::copy_n(row, config.dim, hidden);
    if (observer_ && output.rows > 0) observer_->observe({&output}, i, hidden, 0, config.dim);
  }
  const RowSet& rows = batch_.logits;
  if (rows.empty()) return;
  const Input input = prepare_input(team, rows, {&output}, norm,
                                    [&](int64_t i) { return x(rows.index[static_cast<size_t>(i)]); });
  team.distribute(output.rows, kBlock, kLogitRows, [&](int64_t first, int64_t last) {
    float* logits = logits_.as<float>() + first;
    multiply(team, output, {first, last}, input, rows, logits, output.rows);
    for (int64_t i = 0; i < rows.size(); ++i, logits += output.rows) {
      if (config.logit_scale != 1.0f) table.scale(logits, config.logit_scale, last - first);
      if (config.logit_softcap > 0) table.softcap(logits, config.logit_softcap, last - first);
    }
  });
  record(team, Op::logits, {&output}, rows.size());
}

}  // namespace binhdan::model
