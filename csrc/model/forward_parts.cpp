// Parts that the steps of the forward pass share: inputs of products, buffers, measurements.
#include <algorithm>
#include <initializer_list>

#include "kernels/kernels.h"
#include "model/forward.h"

namespace binhdan::model {
namespace {

// Ranks take pieces of matrix rows. The products of a piece should stay in the second-level cache, and small
// pieces let a faster core take over the rest of a slower one.
constexpr int64_t kPieceFloats = 128 * 1024, kPieceRows = 256;
// Pieces end at multiples of kBlock, because the outputs of gate and up are quantized in blocks of 32. With
// more than kMaxSelfPreparedRows rows they end at multiples of 64, because every piece reads all rows of
// activations.
constexpr int64_t kBlock = 32, kManyRowsGrain = 64;

}  // namespace

// The rows row_at(0), row_at(1), ..., normalised unless `norm` is empty, in the formats that `readers`
// multiply with. Costs a barrier for more than kMaxSelfPreparedRows rows, which the ranks prepare together in
// `shared`.
Forward::Input Forward::prepare_input(Team& team, const RowSet& rows, ops::Activations::Readers readers,
                                      const Norm& norm, FunctionRef<const float*(int64_t)> row_at,
                                      InputBuffers& shared) {
  const ops::ClassCounts classes = rows.classes;
  const bool together = classes.total > kMaxSelfPreparedRows;
  InputBuffers& input = together ? shared : buffers_of(team).input;
  const int64_t width = (*readers.begin())->cols;
  const auto [begin, end] = together ? team.share(classes.total) : Range{0, classes.total};
  for (int64_t i = begin; i < end; ++i) {
    const float* row = row_at(i);
    if (norm.weight) {
      float* normed = buffers_of(team).row.as<float>();
      normalize(normed, row, norm, width);
      row = normed;
    }
    input.rows.store(*model_.table, readers, classes, i, row, 0, width);
    if (batch_.max_rank > 0) lower(rows, readers, i, row, input.low);
    if (observer_ && (together || team.rank() == 0)) observer_->observe(readers, i, row, 0, width);
  }
  record(team, Op::norm);
  if (together) barrier(team);
  Input prepared{input.rows, input.low.as<const float>()};
  std::copy(readers.begin(), readers.end(), prepared.readers.begin());
  return prepared;
}

void Forward::normalize(float* out, const float* x, const Norm& norm, int64_t n) const {
  const float epsilon = model_.config.norm_epsilon;
  if (model_.config.family->layer_norm)
    model_.table->layer_norm(out, x, norm.weight, norm.bias, n, epsilon);
  else
    model_.table->rms_norm(out, x, norm.weight, n, epsilon);
}

// Calls work(begin, end) for pieces of `rows` rows of a matrix until the ranks have taken all.
void Forward::distribute_rows(Team& team, int64_t rows, FunctionRef<void(int64_t, int64_t)> work) {
  const int64_t grain = batch_.all.size() > kMaxSelfPreparedRows ? kManyRowsGrain : kBlock;
  team.distribute(rows, grain, piece_size(), work);
}

// Computes several products of the same rows. The rows of all matrices, each padded to whole blocks, are
// distributed as those of one matrix.
void Forward::project(Team& team, const RowSet& rows, const Input& input,
                      std::initializer_list<Projection> projections) {
  int64_t total = 0;
  for (const Projection& to : projections) total += padded(to.matrix.rows);
  distribute_rows(team, total, [&](int64_t begin, int64_t end) {
    int64_t first = 0;
    for (const Projection& to : projections) {
      const int64_t from = std::max<int64_t>(begin - first, 0), until = std::min(end - first, to.matrix.rows);
      first += padded(to.matrix.rows);
      if (from >= until) continue;
      multiply(team, to.matrix, {from, until}, input, rows, to.out + from, to.stride);
      for (int64_t i = 0; i < rows.size() && to.bias; ++i)
        model_.table->add(to.out + i * to.stride + from, to.bias + from, until - from);
    }
  });
}

int64_t Forward::padded(int64_t rows) {
  return (rows + kManyRowsGrain - 1) / kManyRowsGrain * kManyRowsGrain;
}

// Rows of a matrix that a rank takes at once.
int64_t Forward::piece_size() const {
  const int64_t cached = kPieceFloats / batch_.all.size() / kBlock * kBlock;
  return std::clamp(cached, kBlock, kPieceRows);
}

// The rows that need an output, from the last layer with a state on. project_qkv() prepares them and all rows
// at the same time, in two buffers. All rows of a small batch are in the ranks' own buffers; then there is no
// second buffer, and all rows are used.
RowSet& Forward::output_rows() {
  const bool fewer = batch_.output.size() < batch_.all.size() && batch_.all.size() > kMaxSelfPreparedRows;
  return fewer ? batch_.output : batch_.all;
}

// ---- measuring --------------------------------------------------------------------------------------------

void Forward::barrier(Team& team) {
  team.sync();
  record(team, Op::wait);
}

void Forward::record(const Team& team, Op op, std::initializer_list<const Matrix*> read, int64_t rows) {
  if (profile_ && team.rank() == 0) profile_->record(op, read, rows);
}

void Forward::record_attention(const Team& team, size_t layer, const RowSet& active) {
  if (!profile_ || team.rank() != 0) return;
  // The positions that all rows attend to, and those whose keys and values are loaded: once for each
  // sequence, for its last row.
  const LayerConfig& shape = model_.config.layers[layer];
  uint64_t attended_positions = 0, loaded_positions = 0;
  for (size_t i = 0; i < active.index.size(); ++i) {
    const Row& row = batch_.rows[static_cast<size_t>(active.index[i])];
    auto positions = static_cast<uint64_t>(model_.config.causal ? row.position + 1 : row.length);
    if (shape.window > 0) positions = std::min(positions, static_cast<uint64_t>(shape.window));
    attended_positions += positions;
    if (i + 1 == active.index.size() ||
        batch_.rows[static_cast<size_t>(active.index[i + 1])].state != row.state)
      loaded_positions += positions;
  }
  const auto width = static_cast<uint64_t>(shape.heads * shape.head_dim);
  const uint64_t bytes = batch_.rows[0].state->layout().layer(layer).kv.bytes() / kKvPageTokens;
  profile_->record(Op::attention, loaded_positions * bytes, attended_positions * width * 2);
}

// ---- buffers ----------------------------------------------------------------------------------------------

Forward::Forward(const Model& model, int threads, int64_t context)
    : model_(model),
      pool_(threads),
      last_state_layer_(model.config.last_state_layer()),
      buffers_(static_cast<size_t>(threads)) {
  const Config& config = model.config;
  const Weights& weights = model.weights;
  for (const RopeConfig& rope : config.ropes) {
    const auto length = static_cast<double>(context > 0 ? context : config.context);
    const Vector by_length =
        length > rope.original_context ? weights.long_rope_factors : weights.short_rope_factors;
    const Vector factors = !rope.uses_factors     ? nullptr
                           : weights.rope_factors ? weights.rope_factors
                                                  : by_length;
    const auto pairs = static_cast<size_t>(rope.dim / 2);
    ropes_.push_back(rope_frequencies(rope, {factors, factors ? pairs : 0}));
  }
  for (const LayerConfig& layer : config.layers) {
    window_of_.push_back(add_window_kind(layer));
    max_.ffn = std::max(max_.ffn, layer.ffn);
    int64_t attended = config.dim, mixed = 0;
    if (layer.mixer == Mixer::attention) {
      attended = layer.heads * layer.head_dim;
      mixed = config.family->gated_attention ? 2 * attended : 0;
      max_.kv = std::max(max_.kv, layer.kv_heads * layer.head_dim);
    } else if (layer.mixer == Mixer::short_convolution) {
      mixed = 3 * config.dim;
    } else {
      attended = config.delta_net.value_width();
      mixed = config.delta_net.channels();
    }
    max_.attended = std::max(max_.attended, attended);
    max_.mixed = std::max(max_.mixed, mixed);
  }
  for (const LayerWeights& w : weights.layers) {
    w.for_each_matrix([&](const Matrix& matrix) {
      const bool second = &matrix == &w.down || &matrix == &w.input_projection;
      (second ? ffn_widths_ : input_widths_).cover(matrix);
    });
  }
  if (config.per_layer_dim > 0) input_widths_.cover(weights.per_layer.projection);
  if (weights.output.rows > 0) input_widths_.cover(weights.output);
}

size_t Forward::add_window_kind(const LayerConfig& layer) {
  const int64_t group = layer.mixer == Mixer::attention ? layer.heads / layer.kv_heads : 0;
  size_t kind = 0;
  while (kind < windows_.size() && windows_[kind].window != layer.window) ++kind;
  if (kind == windows_.size()) windows_.push_back({layer.window, 0, 0});
  windows_[kind].heads_per_kv_head = std::max(windows_[kind].heads_per_kv_head, group);
  windows_[kind].head_dim = std::max(windows_[kind].head_dim, layer.head_dim);
  return kind;
}

void Forward::reserve_buffers() {
  const Config& config = model_.config;
  const Weights& weights = model_.weights;
  const auto reserve = [](Buffer& buffer, int64_t rows, int64_t width) {
    buffer.reserve(static_cast<uint64_t>(rows * width) * sizeof(float));
  };
  const int64_t n = batch_.all.size();
  const auto logits = static_cast<int64_t>(batch_.logits.size());
  const auto hidden = static_cast<int64_t>(batch_.hidden_rows.size());
  const int64_t prepared = std::max(n, logits);
  reserve(x_, n, config.dim);
  reserve(q_, n, max_.attended);
  reserve(kv_, n, 2 * max_.kv);
  reserve(mixed_, n, max_.mixed);
  if (max_.mixed > 0) reserve(gates_, n, max_.attended);
  reserve(decay_beta_, n, 2 * config.delta_net.heads);
  reserve(attended_, n, max_.attended);
  if (config.family->norms != NormPlaces::before) reserve(product_, n, config.dim);
  reserve(layer_inputs_, n, std::ssize(config.layers) * config.per_layer_dim);
  reserve(query_factors_, n, 1);
  cos_sin_.resize(ropes_.size());
  for (size_t i = 0; i < ropes_.size(); ++i) reserve(cos_sin_[i], n, config.ropes[i].dim);
  reserve(hidden_, hidden, config.dim);
  reserve(logits_, logits, config.vocabulary);
  ffn_input_.rows.reserve(n, ffn_widths_);
  if (prepared > kMaxSelfPreparedRows) input_.rows.reserve(prepared, input_widths_);

  plan_attention(batch_.all);
  if (RowSet& last = output_rows(); &last != &batch_.all) {
    plan_attention(last);
    if (last.size() > kMaxSelfPreparedRows) output_input_.rows.reserve(last.size(), input_widths_);
  }
  size_t scratch = 0;
  if (weights.output.rows > 0) scratch = ops::matmul_scratch(weights.output, std::max<int64_t>(1, logits));
  if (config.per_layer_dim > 0)
    scratch = std::max(scratch, ops::matmul_scratch(weights.per_layer.projection, n));
  for (const LayerWeights& w : weights.layers)
    w.for_each_matrix(
        [&](const Matrix& matrix) { scratch = std::max(scratch, ops::matmul_scratch(matrix, n)); });
  const int64_t low = kMaxReaders * batch_.max_rank;
  for (InputBuffers* input : {&input_, &output_input_, &ffn_input_}) reserve(input->low, prepared, low);
  if (low > 0) reserve(gated_rows_, n, std::max(max_.ffn, config.per_layer_dim));
  const int64_t piece = std::min(piece_size(), std::max(max_.ffn, config.dim));
  for (RankBuffers& buffers : buffers_) {
    buffers.scratch.reserve(scratch);
    reserve(buffers.row, 2, std::max(config.dim, max_.attended));
    reserve(buffers.product, n, piece);
    reserve(buffers.gated, n, piece);
    reserve(buffers.input.low, std::min(prepared, kMaxSelfPreparedRows), low);
    buffers.input.rows.reserve(std::min(prepared, kMaxSelfPreparedRows), input_widths_);
  }
}

void Forward::plan_attention(RowSet& rows) {
  rows.attention.resize(windows_.size());
  for (size_t kind = 0; kind < windows_.size(); ++kind) {
    const WindowKind& window = windows_[kind];
    if (window.head_dim == 0) continue;
    const PagePart part = window.window > 0 ? PagePart::window : PagePart::full;
    std::vector<ops::AttentionRow> at;
    for (const int64_t row : rows.index)
      at.push_back(batch_.rows[static_cast<size_t>(row)].attention_row(part));
    rows.attention[kind].prepare(*model_.table, batch_.rows[0].state->kv_type(), at, rows.classes,
                                 {window.window, model_.config.causal}, window.heads_per_kv_head,
                                 window.head_dim, pool_.size());
  }
}

}  // namespace binhdan::model
