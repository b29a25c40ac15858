// The attention of a layer.
#include <algorithm>

#include "model/forward.h"

namespace binhdan::model {

// attended = softmax(q . keys) values, for the active rows.
void Forward::mix_attention(Team& team, size_t layer, const RowSet& active) {
  const LayerConfig& shape = model_.config.layers[layer];
  project_qkv(team, layer, active);
  barrier(team);
  if (active.empty()) return;
  ops::attention(team, *model_.table, batch_.rows[0].state->layout().layer(layer).kv,
                 active.attention[window_of_[layer]], shape.heads, model_.config.attention_softcap,
                 q_.as<float>(), shape.heads * shape.head_dim, attended_.as<float>());
  record_attention(team, layer, active);
  barrier(team);
}

// q = rotated queries of the active rows. Stores the rotated keys and the values of all rows in their KV
// pages, if the layer has its own. A rank takes whole heads, so that bias, norm, rotation and store follow
// the product without a barrier.
void Forward::project_qkv(Team& team, size_t layer, const RowSet& active) {
  constexpr int64_t kBlock = 32;  // rows of whole panels
  const Config& config = model_.config;
  const LayerConfig& shape = config.layers[layer];
  const LayerWeights& w = model_.weights.layers[layer];
  const KernelTable& table = *model_.table;
  const int64_t head_dim = shape.head_dim, kv_width = shape.kv_heads * head_dim;
  const int64_t q_head = config.family->gated_attention ? 2 * head_dim : head_dim;  // rows of a head in w.q
  const bool stores_kv = config.stores_kv(layer), has_v = w.v.rows > 0;
  const RowSet& all = batch_.all;
  const Matrix& k_reader = stores_kv ? w.k : w.q;
  const Matrix& v_reader = has_v ? w.v : k_reader;
  const auto input_of = [&](const RowSet& rows, InputBuffers& shared) {
    return prepare_input(
        team, rows, {&w.q, &k_reader, &v_reader}, w.attention_norm,
        [&](int64_t i) { return x(rows.index[static_cast<size_t>(i)]); }, shared);
  };
  const Input input = input_of(all, input_);
  const Input active_input = &active == &all ? input : input_of(active, output_input_);

  struct HeadProjection {
    const Matrix& matrix;
    int64_t head_rows;
    const float* bias;
    const RowSet& rows;
    const Input& input;
    float* out;
    int64_t stride;
  };
  float* q_out = config.family->gated_attention ? mixed_.as<float>() : q_.as<float>();
  const HeadProjection q{w.q, q_head, w.q_bias, active, active_input, q_out, shape.heads * q_head};
  const HeadProjection k{w.k, head_dim, w.k_bias, all, input, kv_.as<float>(), 2 * kv_width};
  const HeadProjection v{w.v, head_dim, w.v_bias, all, input, kv_.as<float>() + kv_width, 2 * kv_width};
  const auto project_heads = [&](const HeadProjection& to, Range heads, const auto& finish_head) {
    const int64_t begin = heads.first * to.head_rows, width = (heads.second - heads.first) * to.head_rows;
    if (width <= 0 || to.rows.empty()) return;
    multiply(team, to.matrix, {begin, begin + width}, to.input, to.rows, to.out + begin, to.stride);
    for (int64_t i = 0; i < to.rows.size(); ++i) {
      float* values = to.out + i * to.stride + begin;
      if (to.bias) table.add(values, to.bias + begin, width);
      for (int64_t head = heads.first; head < heads.second; ++head, values += to.head_rows)
        finish_head(i, to.rows.index[static_cast<size_t>(i)], head, values);
    }
  };
  const StateLayout::Layer& place = batch_.rows[0].state->layout().layer(layer);
  const auto row_at = [&](int64_t row) {
    return batch_.rows[static_cast<size_t>(row)].attention_row(place.part);
  };
  const auto store_value = [&](int64_t row, int64_t head, float* values) {
    if (config.family->v_norm) table.rms_norm(values, values, nullptr, head_dim, config.norm_epsilon);
    ops::store_value(table, place.kv, head, row_at(row), values);
  };

  // The unit of work is the smallest number of heads whose rows fill whole panels of the matrix. The units of
  // q, then k, then v are numbered from 0.
  int64_t unit_heads = 1;
  while (unit_heads * head_dim % kBlock != 0) ++unit_heads;
  const auto units = [&](int64_t heads) { return (heads + unit_heads - 1) / unit_heads; };
  const int64_t q_units = units(shape.heads), k_units = stores_kv ? units(shape.kv_heads) : 0;
  const int64_t v_units = has_v ? k_units : 0;
  team.distribute(
      q_units + k_units + v_units, 1, piece_size() / (unit_heads * q_head), [&](int64_t begin, int64_t end) {
        const auto heads_from = [&](int64_t first_unit, int64_t heads) {
          return Range{std::clamp<int64_t>((begin - first_unit) * unit_heads, 0, heads),
                       std::clamp<int64_t>((end - first_unit) * unit_heads, 0, heads)};
        };
        project_heads(q, heads_from(0, shape.heads),
                      [&](int64_t i, int64_t row, int64_t head, float* values) {
                        finish_query(layer, i, row, head, values);
                      });
        if (!stores_kv) return;
        project_heads(k, heads_from(q_units, shape.kv_heads),
                      [&](int64_t, int64_t row, int64_t head, float* values) {
                        if (!has_v) {  // keys serve as values
                          float* copy = buffers_of(team).row.as<float>();
                          store_value(row, head, std::copy_n(values, head_dim, copy) - head_dim);
                        }
                        norm_and_rotate(values, w.k_norm, shape, row);
                        ops::store_key(table, place.kv, head, row_at(row), values);
                      });
        if (!has_v) return;
        project_heads(
            v, heads_from(q_units + k_units, shape.kv_heads),
            [&](int64_t, int64_t row, int64_t head, float* values) { store_value(row, head, values); });
      });
  if (stores_kv && has_v)
    record(team, Op::qkv, {&w.q, &w.k, &w.v}, all.size());
  else if (stores_kv)
    record(team, Op::qkv, {&w.q, &w.k}, all.size());
  else
    record(team, Op::qkv, {&w.q}, active.size());
}

// Normalises, rotates and scales a query head. In gated attention the projection is (head, 2, head_dim):
// query, then gate.
void Forward::finish_query(size_t layer, int64_t i, int64_t row, int64_t head, float* values) {
  const Config& config = model_.config;
  const LayerConfig& shape = config.layers[layer];
  const int64_t at = (i * shape.heads + head) * shape.head_dim;
  float* query = values;
  if (config.family->gated_attention) {
    query = q_.as<float>() + at;
    std::copy_n(values, shape.head_dim, query);
    std::copy_n(values + shape.head_dim, shape.head_dim, gates_.as<float>() + at);
  }
  norm_and_rotate(query, model_.weights.layers[layer].q_norm, shape, row);
  model_.table->scale(query, ops::query_scale(config.scale_of(shape)) * query_factors_.as<float>()[row],
                      shape.head_dim);
}

void Forward::norm_and_rotate(float* head, const float* norm, const LayerConfig& shape, int64_t row) const {
  const Config& config = model_.config;
  if (norm) model_.table->rms_norm(head, head, norm, shape.head_dim, config.norm_epsilon);
  if (shape.rope < 0) return;
  const auto index = static_cast<size_t>(shape.rope);
  const RopeConfig& rope = config.ropes[index];
  model_.table->rope(head, cos_sin_[index].as<float>() + row * rope.dim, rope.dim, rope.neox);
}

}  // namespace binhdan::model
