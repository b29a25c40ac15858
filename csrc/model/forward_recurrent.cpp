// Layers with a recurrent state: short convolutions (LFM2) and gated delta nets (Qwen3.5). They compute all
// rows of a batch, because the state depends on all of them.
#include <algorithm>
#include <cmath>

#include "model/forward.h"
#include "ops/convolution.h"
#include "ops/delta_rule.h"

namespace binhdan::model {
namespace {

ops::ConvolutionRun convolution_run(const RowRun& run, size_t offset) {
  ops::ConvolutionRun result{run.rows, run.state->recurrent() + offset};
  if (run.checkpoint) {
    result.checkpoint = run.checkpoint->as<float>() + offset;
    result.checkpoint_rows = run.checkpoint_rows;
  }
  return result;
}

float sigmoid(float x) {
  return 1.0f / (1.0f + std::exp(-x));
}

float softplus(float x) {
  return x > 20.0f ? x : std::log1p(std::exp(x));
}

}  // namespace

// (b, c, v) = W norm(x); attended = c * convolution(b * v).
void Forward::mix_convolution(Team& team, size_t layer) {
  const Config& config = model_.config;
  const LayerWeights& w = model_.weights.layers[layer];
  const KernelTable& table = *model_.table;
  const RowSet& all = batch_.all;
  const int64_t dim = config.dim, width = ops::kMaxConvolutionWidth;
  project(team, all,
          prepare_input(team, all, {&w.convolution_input}, w.attention_norm, [&](int64_t i) { return x(i); }),
          {{w.convolution_input, nullptr, mixed_.as<float>(), max_.mixed}});
  record(team, Op::qkv, {&w.convolution_input}, all.size());
  barrier(team);

  const size_t offset = batch_.rows[0].state->layout().layer(layer).convolution;
  const int64_t parts = (dim + width - 1) / width;
  team.distribute(std::ssize(batch_.runs) * parts, 1, 1, [&](int64_t item, int64_t) {
    const RowRun& run = batch_.runs[static_cast<size_t>(item / parts)];
    const int64_t begin = item % parts * width, n = std::min(width, dim - begin);
    for (int64_t row = run.row; row < run.row + run.rows; ++row)
      table.multiply(mixed(row) + begin, mixed(row) + 2 * dim + begin, n);
    ops::convolve(table, convolution_run(run, offset),
                  {w.convolution, config.convolution_taps, dim, begin, n}, mixed(run.row) + begin,
                  max_.mixed);
    for (int64_t row = run.row; row < run.row + run.rows; ++row) {
      float* out = attended_.as<float>() + row * dim + begin;
      std::copy_n(mixed(row) + begin, n, out);
      table.multiply(out, mixed(row) + dim + begin, n);
    }
  });
  record(team, Op::recurrence);
  barrier(team);
}

// q, k, v = silu(convolution(W norm(x))), q and k normalised; attended = delta rule. attended_row() applies
// the output norm and the gate z.
void Forward::mix_delta_net(Team& team, size_t layer) {
  const Config& config = model_.config;
  const DeltaNetConfig& delta = config.delta_net;
  const LayerWeights& w = model_.weights.layers[layer];
  const RowSet& all = batch_.all;
  const int64_t gates = 2 * delta.heads;
  project(team, all,
          prepare_input(team, all, {&w.convolution_input, &w.z, &w.alpha, &w.beta}, w.attention_norm,
                        [&](int64_t i) { return x(i); }),
          {{w.convolution_input, nullptr, mixed_.as<float>(), max_.mixed},
           {w.z, nullptr, gates_.as<float>(), delta.value_width()},
           {w.alpha, w.time_bias, decay_beta_.as<float>(), gates},
           {w.beta, nullptr, decay_beta_.as<float>() + delta.heads, gates}});
  record(team, Op::qkv, {&w.convolution_input, &w.z, &w.alpha, &w.beta}, all.size());
  barrier(team);

  const int64_t blocks = 2 * delta.key_heads + delta.heads;
  team.distribute(std::ssize(batch_.runs) * blocks, 1, 1, [&](int64_t item, int64_t) {
    prepare_delta_block(batch_.runs[static_cast<size_t>(item / blocks)], layer, item % blocks);
  });
  barrier(team);

  const size_t offset = batch_.rows[0].state->layout().layer(layer).delta;
  std::vector<ops::DeltaRun> runs;
  for (const RowRun& run : batch_.runs)
    runs.push_back({.row = run.row,
                    .rows = run.rows,
                    .position = run.state->length(),
                    .numeric_class = run.numeric_class,
                    .state = run.state->recurrent() + offset,
                    .checkpoint = run.checkpoint ? run.checkpoint->as<float>() + offset : nullptr,
                    .checkpoint_rows = run.checkpoint_rows});
  ops::delta_rule(team, *model_.table, runs, {delta.heads, delta.key_heads, delta.key_dim, delta.value_dim},
                  {.q = mixed_.as<float>(),
                   .k = mixed_.as<float>() + delta.key_width(),
                   .qk_stride = max_.mixed,
                   .v = mixed_.as<float>() + 2 * delta.key_width(),
                   .v_stride = max_.mixed,
                   .decay = decay_beta_.as<float>(),
                   .beta = decay_beta_.as<float>() + delta.heads,
                   .gate_stride = gates,
                   .out = attended_.as<float>(),
                   .out_stride = delta.value_width()},
                  buffers_of(team).delta_scratch);
  record(team, Op::recurrence);
  barrier(team);
}

// Block of a run: the convolution of one head of q, k or v, in this order. With a head of v also its decay
// and beta.
void Forward::prepare_delta_block(const RowRun& run, size_t layer, int64_t block) {
  const Config& config = model_.config;
  const DeltaNetConfig& delta = config.delta_net;
  const LayerWeights& w = model_.weights.layers[layer];
  const KernelTable& table = *model_.table;
  const bool is_query = block < delta.key_heads, is_value = block >= 2 * delta.key_heads;
  const int64_t head = block - 2 * delta.key_heads;  // of v
  const int64_t begin = is_value ? 2 * delta.key_width() + head * delta.value_dim : block * delta.key_dim;
  const int64_t n = is_value ? delta.value_dim : delta.key_dim;
  const size_t offset = run.state->layout().layer(layer).convolution;
  for (int64_t at = 0; at < n; at += ops::kMaxConvolutionWidth)
    ops::convolve(table, convolution_run(run, offset),
                  {w.convolution, config.convolution_taps, delta.channels(), begin + at,
                   std::min(ops::kMaxConvolutionWidth, n - at)},
                  mixed(run.row) + begin + at, max_.mixed);
  // x / sqrt(sum of x^2 + epsilon) is an RMS norm times 1 / sqrt(n). Queries are also scaled by 1 / sqrt(n).
  const auto size = static_cast<float>(n);
  const float scale = is_query ? 1.0f / size : 1.0f / std::sqrt(size);
  for (int64_t row = run.row; row < run.row + run.rows; ++row) {
    float* values = mixed(row) + begin;
    table.apply[static_cast<size_t>(Nonlinearity::silu)](values, nullptr, n);
    if (!is_value) {
      table.rms_norm(values, values, nullptr, n, config.norm_epsilon / size);
      table.scale(values, scale, n);
      continue;
    }
    float* decay = decay_beta_.as<float>() + row * 2 * delta.heads + head;
    float* beta = decay + delta.heads;
    *decay = w.decay[head] * softplus(*decay);
    *beta = sigmoid(*beta);
  }
}

// The output of a mixer for active row i, which is row `row` of the batch.
const float* Forward::attended_row(Team& team, size_t layer, int64_t i, int64_t row) {
  const Config& config = model_.config;
  const LayerConfig& shape = config.layers[layer];
  const LayerWeights& w = model_.weights.layers[layer];
  const KernelTable& table = *model_.table;
  const int64_t width = w.attention_output.cols;
  const bool is_attention = shape.mixer == Mixer::attention;
  const int64_t at = (is_attention ? i : row) * width;  // attention computes only the active rows
  const float *attended = attended_.as<float>() + at, *gate = gates_.as<float>() + at;
  float* out = buffers_of(team).row.as<float>();
  if (is_attention && config.family->gated_attention) {
    std::copy_n(gate, width, out);
    table.apply[static_cast<size_t>(Nonlinearity::sigmoid)](out, attended, width);
    return out;
  }
  if (shape.mixer != Mixer::delta_net) return attended;
  const DeltaNetConfig& delta = config.delta_net;
  float* normed = out + width;
  std::copy_n(gate, width, out);
  for (int64_t head = 0; head < delta.heads; ++head)
    table.rms_norm(normed + head * delta.value_dim, attended + head * delta.value_dim, w.value_norm,
                   delta.value_dim, config.norm_epsilon);
  table.apply[static_cast<size_t>(Nonlinearity::silu)](out, normed, width);
  return out;
}

}  // namespace binhdan::model
