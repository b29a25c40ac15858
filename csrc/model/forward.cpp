#include "model/forward.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace binhdan::model {
namespace {

// Preparing a few rows costs less than waiting for others who prepare them: each rank does them all.
constexpr int64_t kOwnRows = 8;
// Matrices are dealt out in pieces of rows. Their products, kept between two steps, should stay in the
// second-level cache; and small ones leave something to take over from a slower core.
constexpr int64_t kPieceFloats = 128 * 1024, kPieceRows = 256, kLogitRows = 1024;
// Pieces of what is quantized next are cut at borders of blocks. Many rows of activations are read anew for
// every piece, so that pieces should not become small.
constexpr int64_t kBlock = 32, kManyRowsGrain = 64;

}  // namespace

Forward::Forward(const Model& model, int threads)
    : model_(model), pool_(threads), ranks_(static_cast<size_t>(threads)) {
  for (const LayerConfig& layer : model.config.layers) {
    max_group_ = std::max(max_group_, layer.heads / layer.kv_heads);
    max_head_dim_ = std::max(max_head_dim_, layer.head_dim);
    max_q_width_ = std::max(max_q_width_, layer.heads * layer.head_dim);
    max_kv_width_ = std::max(max_kv_width_, layer.kv_heads * layer.head_dim);
    max_ffn_ = std::max(max_ffn_, layer.ffn);
  }
  for (const LayerWeights& w : model.weights.layers) {
    for (const Matrix* matrix : {&w.q, &w.k, &w.v, &w.attention_output, &w.gate, &w.up})
      widths_.cover(*matrix);
    ffn_widths_.cover(w.down);
  }
  widths_.cover(model.weights.output);
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
  return {logits_.as<float>() + (first_output_[chunk] + row) * vocabulary, vocabulary};
}

std::span<const float> Forward::hidden(size_t chunk, size_t row) {
  const auto dim = static_cast<size_t>(model_.config.dim);
  return {hidden_.as<float>() + (first_output_[chunk] + row) * dim, dim};
}

void Forward::each(size_t count, const std::function<void(size_t)>& work) {
  if (count == 1) return work(0);  // wakes nobody
  pool_.run([&](Team& team) {
    team.deal(static_cast<int64_t>(count), 1, 1, [&](int64_t i, int64_t) { work(static_cast<size_t>(i)); });
  });
}

// Lays the chunks out as rows, and decides whose final states are wanted.
void Forward::plan(std::span<const Chunk> chunks) {
  rows_.clear();
  wanted_.at.clear();
  all_.classes = wanted_.classes = {};
  logit_rows_.clear();
  hidden_rows_.clear();
  first_output_.clear();
  for (const Chunk& chunk : chunks) {
    if (chunk.state->kv_type() != chunks[0].state->kv_type())
      fail(Code::internal, "a batch of sequences with keys and values of different types");
    int64_t position = chunk.state->length();
    for (const text::Token token : chunk.tokens) rows_.push_back({chunk.state, token, position++});
    const auto end = static_cast<int64_t>(rows_.size()), size = static_cast<int64_t>(chunk.tokens.size());
    std::vector<int64_t>& outputs = chunk.wanted == Wanted::all_hidden ? hidden_rows_ : logit_rows_;
    first_output_.push_back(outputs.size());
    const int64_t count = chunk.wanted == Wanted::nothing       ? 0
                          : chunk.wanted == Wanted::last_logits ? 1
                                                                : size;
    for (int64_t row = end - count; row < end; ++row) {
      outputs.push_back(row);
      wanted_.at.push_back(row);
    }
    if (chunk.decode) {
      all_.classes.decode = end;
      wanted_.classes.decode = static_cast<int64_t>(wanted_.at.size());
    }
  }
  all_.at.resize(rows_.size());
  std::iota(all_.at.begin(), all_.at.end(), 0);
  for (Rows* rows : {&all_, &wanted_}) rows->classes.total = static_cast<int64_t>(rows->at.size());
  last_ = wanted_.classes.total <= kOwnRows && all_.classes.total > kOwnRows ? &wanted_ : &all_;
}

void Forward::reserve() {
  const Config& config = model_.config;
  const auto floats = [](Buffer& buffer, size_t rows, int64_t width) {
    buffer.reserve(rows * static_cast<size_t>(width) * sizeof(float));
  };
  const size_t n = rows_.size();
  const auto rows = static_cast<int64_t>(n), outputs = static_cast<int64_t>(logit_rows_.size());
  const int64_t prepared = std::max(rows, outputs);
  floats(x_, n, config.dim);
  floats(q_, n, max_q_width_);
  floats(kv_, n, 2 * max_kv_width_);
  floats(attended_, n, max_q_width_);
  floats(cos_sin_, n, config.rope.dim);
  floats(hidden_, hidden_rows_.size(), config.dim);
  floats(logits_, logit_rows_.size(), config.vocabulary);
  ffn_.reserve(rows, ffn_widths_);
  if (prepared > kOwnRows) shared_.reserve(prepared, widths_);

  plan_attention(all_);
  if (last_ != &all_) plan_attention(*last_);
  size_t scratch = ops::matmul_scratch(model_.weights.output, std::max<int64_t>(1, outputs));
  for (const LayerWeights& w : model_.weights.layers)
    for (const Matrix* matrix : {&w.q, &w.k, &w.v, &w.attention_output, &w.gate, &w.up, &w.down})
      scratch = std::max(scratch, ops::matmul_scratch(*matrix, rows));
  const int64_t widest = std::max(max_ffn_, config.dim);
  for (Rank& rank : ranks_) {
    rank.scratch.reserve(scratch);
    floats(rank.normed, 1, config.dim);
    for (Buffer* products : {&rank.piece, &rank.other}) floats(*products, n, std::min(piece_rows(), widest));
    rank.own.reserve(std::min(prepared, kOwnRows), widths_);
  }
}

void Forward::plan_attention(Rows& some) {
  std::vector<ops::AttentionRow> places;
  for (const int64_t row : some.at) places.push_back(rows_[static_cast<size_t>(row)].place());
  some.attention.prepare(*model_.table, rows_[0].state->kv_type(), places, some.classes, max_group_,
                         max_head_dim_, pool_.size());
}

// Rows of a matrix that a rank takes at once.
int64_t Forward::piece_rows() const {
  const int64_t cached = kPieceFloats / static_cast<int64_t>(rows_.size()) / kBlock * kBlock;
  return std::clamp(cached, kBlock, kPieceRows);
}

int64_t Forward::grain() const {
  return all_.classes.total > kOwnRows ? kManyRowsGrain : kBlock;
}

// ---- the walk of every rank ------------------------------------------------------------------------------

void Forward::walk(Team& team) {
  const size_t layers = model_.config.layers.size();
  embed(team);
  for (size_t layer = 0; layer < layers; ++layer) {
    const Rows& live = layer + 1 < layers ? all_ : *last_;
    attention_block(team, layer, live);
    if (live.at.empty()) return;
    feed_forward_block(team, layer, live);
  }
  output_block(team);
}

void Forward::embed(Team& team) {
  const int64_t rope_dim = model_.config.rope.dim;
  const RopeFrequencies& rope = model_.weights.rope;
  const auto [begin, end] = team.share(static_cast<int64_t>(rows_.size()));
  for (int64_t i = begin; i < end; ++i) {
    const Row& row = rows_[static_cast<size_t>(i)];
    model_.weights.embedding.get_row(x(i), row.token);
    float* pair = cos_sin_.as<float>() + i * rope_dim;
    for (const double frequency : rope.frequencies) {
      const double angle = static_cast<double>(row.position) * frequency;
      *pair++ = static_cast<float>(std::cos(angle) * rope.magnitude);
      *pair++ = static_cast<float>(std::sin(angle) * rope.magnitude);
    }
  }
  done(team, Op::embedding);
  sync(team);
}

// x += W_o attention(norm(x)) for the live rows, and keys and values of all rows; ends synced.
void Forward::attention_block(Team& team, size_t layer, const Rows& live) {
  const LayerConfig& shape = model_.config.layers[layer];
  const LayerWeights& w = model_.weights.layers[layer];
  const int64_t q_width = shape.heads * shape.head_dim;
  project_heads(team, layer, live);
  sync(team);
  if (live.at.empty()) return;
  ops::attention(team, *model_.table, rows_[0].state->layer(layer), live.attention, shape.heads,
                 q_.as<float>(), q_width, attended_.as<float>());
  done_attention(team, layer, live);
  sync(team);
  const auto attended = [&](int64_t i) { return attended_.as<float>() + i * q_width; };
  add_product(team, Op::attention_output, live, w.attention_output,
              prepare(team, live.classes, attended, nullptr, {&w.attention_output}));
}

// Queries of the live rows, keys and values of all. Whole heads are one rank's work, so that norm, rotation
// and the way into the cache need no barrier before them.
void Forward::project_heads(Team& team, size_t layer, const Rows& live) {
  const LayerConfig& shape = model_.config.layers[layer];
  const LayerWeights& w = model_.weights.layers[layer];
  const int64_t head_dim = shape.head_dim, kv_width = shape.kv_heads * head_dim;
  const auto input = [&](const Rows& rows) -> const ops::Activations& {
    return prepare(team, rows.classes, [&](int64_t i) { return x(rows.at[i]); }, w.attention_norm,
                   {&w.q, &w.k, &w.v});
  };
  const ops::Activations &all_input = input(all_), &live_input = &live == &all_ ? all_input : input(live);
  const struct {
    const Matrix& matrix;
    const float* bias;
    int64_t heads;
    const Rows& rows;
    const ops::Activations& input;
    float* out;
    int64_t stride;
    void (Forward::*finish)(size_t layer, int64_t row, int64_t head, float* values) const;
  } parts[] = {
      {w.q, w.q_bias, shape.heads, live, live_input, q_.as<float>(), shape.heads * head_dim,
       &Forward::finish_query},
      {w.k, w.k_bias, shape.kv_heads, all_, all_input, kv_.as<float>(), 2 * kv_width, &Forward::finish_key},
      {w.v, w.v_bias, shape.kv_heads, all_, all_input, kv_.as<float>() + kv_width, 2 * kv_width,
       &Forward::finish_value}};

  // All heads in a row, in groups that end where panels do.
  int64_t group = 1;
  while (group * head_dim % kBlock != 0) ++group;
  const auto groups_of = [&](int64_t heads) { return (heads + group - 1) / group; };
  const int64_t groups = groups_of(shape.heads) + 2 * groups_of(shape.kv_heads);
  team.deal(groups, 1, piece_rows() / (group * head_dim), [&](int64_t begin, int64_t end) {
    for (const auto& part : parts) {
      const int64_t here = groups_of(part.heads);
      const int64_t first = std::clamp<int64_t>(begin, 0, here) * group;
      const int64_t last = std::min(part.heads, std::clamp<int64_t>(end, 0, here) * group);
      begin -= here;
      end -= here;
      if (first >= last || part.rows.at.empty()) continue;
      const int64_t offset = first * head_dim, width = (last - first) * head_dim;
      ops::matmul(part.matrix, {offset, offset + width}, part.input, part.rows.classes, part.out + offset,
                  part.stride, of(team).scratch);
      for (int64_t i = 0; i < part.rows.classes.total; ++i) {
        float* values = part.out + i * part.stride + offset;
        if (part.bias) model_.table->add(values, part.bias + offset, width);
        for (int64_t head = first; head < last; ++head, values += head_dim)
          (this->*part.finish)(layer, part.rows.at[i], head, values);
      }
    }
  });
  done(team, Op::qkv, {&w.q, &w.k, &w.v}, all_.classes.total);
}

void Forward::norm_and_rotate(float* head, const float* norm, int64_t head_dim, int64_t row) const {
  const Config& config = model_.config;
  if (norm) model_.table->rms_norm(head, head, norm, head_dim, config.norm_epsilon);
  model_.table->rope(head, cos_sin_.as<float>() + row * config.rope.dim, config.rope.dim, config.rope.neox);
}

void Forward::finish_query(size_t layer, int64_t row, int64_t, float* q) const {
  const int64_t head_dim = model_.config.layers[layer].head_dim;
  norm_and_rotate(q, model_.weights.layers[layer].q_norm, head_dim, row);
  model_.table->scale(q, ops::query_scale(head_dim), head_dim);
}

void Forward::finish_key(size_t layer, int64_t row, int64_t head, float* k) const {
  const Row& place = rows_[static_cast<size_t>(row)];
  norm_and_rotate(k, model_.weights.layers[layer].k_norm, model_.config.layers[layer].head_dim, row);
  ops::store_key(*model_.table, place.state->layer(layer), head, place.place(), k);
}

void Forward::finish_value(size_t layer, int64_t row, int64_t head, float* v) const {
  const Row& place = rows_[static_cast<size_t>(row)];
  ops::store_value(*model_.table, place.state->layer(layer), head, place.place(), v);
}

// x += W_down (silu(W_gate h) * (W_up h)) with h = norm(x), for the live rows; ends synced.
void Forward::feed_forward_block(Team& team, size_t layer, const Rows& live) {
  const KernelTable& table = *model_.table;
  const LayerWeights& w = model_.weights.layers[layer];
  const ops::Activations& input =
      prepare(team, live.classes, [&](int64_t i) { return x(live.at[i]); }, w.ffn_norm, {&w.gate, &w.up});
  Rank& rank = of(team);
  team.deal(w.gate.rows, grain(), piece_rows(), [&](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    float *gate = rank.piece.as<float>(), *up = rank.other.as<float>();
    ops::matmul(w.gate, {begin, end}, input, live.classes, gate, width, rank.scratch);
    ops::matmul(w.up, {begin, end}, input, live.classes, up, width, rank.scratch);
    for (int64_t i = 0; i < live.classes.total; ++i, gate += width, up += width) {
      table.silu_mul(gate, up, width);
      ffn_.store(table, {&w.down}, live.classes, i, gate, begin, width);
    }
  });
  done(team, Op::gate_up, {&w.gate, &w.up}, live.classes.total);
  sync(team);
  add_product(team, Op::down, live, w.down, ffn_);
}

// x += matrix . input for the live rows; ends synced.
void Forward::add_product(Team& team, Op op, const Rows& live, const Matrix& matrix,
                          const ops::Activations& input) {
  Rank& rank = of(team);
  team.deal(matrix.rows, grain(), piece_rows(), [&](int64_t begin, int64_t end) {
    const int64_t width = end - begin;
    float* product = rank.piece.as<float>();
    ops::matmul(matrix, {begin, end}, input, live.classes, product, width, rank.scratch);
    for (const int64_t row : live.at) {
      model_.table->add(x(row) + begin, product, width);
      product += width;
    }
  });
  done(team, op, {&matrix}, live.classes.total);
  sync(team);
}

// Final states, and logits. Always in the class of few rows: these are few.
void Forward::output_block(Team& team) {
  const Config& config = model_.config;
  const Matrix& output = model_.weights.output;
  const auto [begin, end] = team.share(static_cast<int64_t>(hidden_rows_.size()));
  for (int64_t i = begin; i < end; ++i)
    model_.table->rms_norm(hidden_.as<float>() + i * config.dim, x(hidden_rows_[i]),
                           model_.weights.output_norm, config.dim, config.norm_epsilon);
  if (logit_rows_.empty()) return;
  const auto rows = static_cast<int64_t>(logit_rows_.size());
  const ops::NumericClasses classes{rows, rows};
  const ops::Activations& input = prepare(team, classes, [this](int64_t i) { return x(logit_rows_[i]); },
                                          model_.weights.output_norm, {&output});
  team.deal(output.rows, kBlock, kLogitRows, [&](int64_t first, int64_t last) {
    ops::matmul(output, {first, last}, input, classes, logits_.as<float>() + first, output.rows,
                of(team).scratch);
  });
  done(team, Op::logits, {&output}, rows);
}

// Rows source(0), source(1), ..., normalised unless `norm` is null, as `readers` want them.
template <typename Source>
const ops::Activations& Forward::prepare(Team& team, ops::NumericClasses classes, const Source& source,
                                         const float* norm, ops::Activations::Readers readers) {
  const bool own = classes.total <= kOwnRows;
  ops::Activations& into = own ? of(team).own : shared_;
  const int64_t width = (*readers.begin())->cols;
  const auto [begin, end] = own ? Range{0, classes.total} : team.share(classes.total);
  for (int64_t i = begin; i < end; ++i) {
    const float* row = source(i);
    if (norm) {
      float* normed = of(team).normed.as<float>();
      model_.table->rms_norm(normed, row, norm, width, model_.config.norm_epsilon);
      row = normed;
    }
    into.store(*model_.table, readers, classes, i, row, 0, width);
  }
  done(team, Op::norm);
  if (!own) sync(team);
  return into;
}

// ---- measuring --------------------------------------------------------------------------------------------

// The barrier, and what this rank waits there.
void Forward::sync(Team& team) {
  team.sync();
  done(team, Op::wait);
}

// Charges the time since the last call to `op`, which multiplied `rows` rows with what it read.
void Forward::done(const Team& team, Op op, std::initializer_list<const Matrix*> read, int64_t rows) {
  if (profile_ && team.rank() == 0) profile_->done(op, read, rows);
}

void Forward::done_attention(const Team& team, size_t layer, const Rows& live) {
  if (!profile_ || team.rank() != 0) return;
  uint64_t seen = 0, cached = 0;  // positions: by every row, and by the last row of every sequence
  for (size_t i = 0; i < live.at.size(); ++i) {
    const Row& row = rows_[static_cast<size_t>(live.at[i])];
    const auto positions = static_cast<uint64_t>(row.position) + 1;
    seen += positions;
    if (i + 1 == live.at.size() || rows_[static_cast<size_t>(live.at[i + 1])].state != row.state)
      cached += positions;
  }
  const LayerConfig& shape = model_.config.layers[layer];
  const auto width = static_cast<uint64_t>(shape.heads * shape.head_dim);
  const uint64_t bytes = rows_[0].state->layer(layer).bytes() / kKvPageTokens;
  profile_->done(Op::attention, cached * bytes, seen * width * 2);
}

}  // namespace binhdan::model
