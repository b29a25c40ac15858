// Whole-sequence passes for calibration and evaluation: inputs of matrices, and scores of tokens.
#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>

#include "api/c_api.h"
#include "api/internal.h"
#include "base/buffer.h"
#include "model/forward.h"
#include "model/state.h"

namespace binhdan::internal {
namespace {

constexpr size_t kChunk = 64;  // limits the memory for logits and inputs

void check_tokens(const model::Model& model, std::span<const int32_t> tokens) {
  if (tokens.empty() || std::ssize(tokens) > model.config.context)
    fail(Code::invalid_argument, "tokens: expected 1 to ", model.config.context, " tokens, got ",
         tokens.size());
  for (const int32_t token : tokens)
    if (token < 0 || token >= model.config.vocabulary)
      fail(Code::invalid_argument, "token: expected 0 to ", model.config.vocabulary - 1, ", got ", token);
}

// ---- inputs of matrices -----------------------------------------------------------------------------------

// Keeps the rows of one batch, for matrices of the wanted tensors.
class InputRecorder final : public model::InputObserver {
 public:
  InputRecorder(const model::Model& model, const std::set<std::string>& wanted) {
    const auto add = [&](const ops::Matrix& matrix) {
      if (wanted.empty() || wanted.contains(std::string(matrix.tensor))) inputs_[&matrix];
    };
    for (const model::LayerWeights& layer : model.weights.layers) layer.for_each_matrix(add);
    if (model.weights.per_layer.projection.rows > 0) add(model.weights.per_layer.projection);
    if (model.weights.output.rows > 0) add(model.weights.output);
  }

  void start(size_t rows) { rows_ = rows; }

  void observe(ops::Activations::Readers readers, int64_t row, const float* x, int64_t column,
               int64_t n) override {
    for (const ops::Matrix* reader : readers) {
      const auto found = inputs_.find(reader);
      if (found == inputs_.end()) continue;
      // The first wanted matrix has the rows; the others share them.
      {
        const std::lock_guard lock(mutex_);
        Input& input = found->second;
        if (input.tensors.empty()) {
          input.order = next_++;
          for (const ops::Matrix* other : readers)
            if (inputs_.contains(other)) input.tensors.emplace(other->tensor);
        }
        input.rows.resize(rows_ * static_cast<size_t>(reader->cols));
      }
      std::copy_n(x, n, found->second.rows.data() + row * reader->cols + column);
      return;
    }
  }

  // In the order of the forward pass.
  void visit(const std::function<void(const ObservedInput&)>& each) {
    std::vector<const Entry*> entries;
    for (const Entry& entry : inputs_)
      if (!entry.second.rows.empty()) entries.push_back(&entry);
    std::ranges::sort(entries, {}, [](const Entry* entry) { return entry->second.order; });
    for (const Entry* entry : entries) each({entry->second.tensors, entry->first->cols, entry->second.rows});
    for (auto& [matrix, input] : inputs_) input.rows.clear();
  }

 private:
  struct Input {
    std::set<std::string> tensors;
    size_t order = 0;
    std::vector<float> rows;  // (rows of the batch, cols)
  };
  using Entry = std::pair<const ops::Matrix* const, Input>;

  std::mutex mutex_;
  std::map<const ops::Matrix*, Input> inputs_;
  size_t rows_ = 0, next_ = 0;
};

// ---- scores -----------------------------------------------------------------------------------------------

// e^x for x <= 0, relative error below 2e-7; 0 below -87. A loop over it becomes vector code.
inline float exp_negative(float x) {
  const float clamped = std::max(x, -87.0f);
  const float shifted = clamped * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;  // Cephes expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const auto power = std::bit_cast<float>((std::bit_cast<int32_t>(shifted) - 0x4B400000 + 127) << 23);
  return x < -87.0f ? 0.0f : p * power;
}

constexpr size_t kLanes = 16;  // independent results of a loop, so that it becomes vector code

// Calls add(lane, i) for all i in [0, n) in blocks, and end_block() after each.
template <typename Add, typename EndBlock>
void for_blocks(size_t n, const Add& add, const EndBlock& end_block) {
  constexpr size_t kBlock = 512;
  for (size_t begin = 0; begin < n; begin += kBlock) {
    const size_t end = std::min(begin + kBlock, n);
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes)
      for (size_t lane = 0; lane < kLanes; ++lane) add(lane, i + lane);
    for (; i < end; ++i) add(0, i);
    end_block();
  }
}

// A sum of floats in blocks, of doubles between them.
struct LaneSum {
  float lanes[kLanes] = {};
  double sum = 0;
  void end_block() {
    for (float& lane : lanes) {
      sum += static_cast<double>(lane);
      lane = 0;
    }
  }
};

// The logarithm of the sum of e^x.
double log_sum_exp(std::span<const float> x, float max) {
  LaneSum sum;
  for_blocks(
      x.size(), [&](size_t lane, size_t i) { sum.lanes[lane] += exp_negative(x[i] - max); },
      [&] { sum.end_block(); });
  return static_cast<double>(max) + std::log(sum.sum);
}

struct LogitRange {
  float low, high;
};
LogitRange range_of(std::span<const float> x) {
  float low[kLanes], high[kLanes];
  std::fill_n(low, kLanes, x[0]);
  std::fill_n(high, kLanes, x[0]);
  for_blocks(
      x.size(),
      [&](size_t lane, size_t i) {
        low[lane] = x[i] < low[lane] ? x[i] : low[lane];
        high[lane] = x[i] > high[lane] ? x[i] : high[lane];
      },
      [] {});
  return {*std::ranges::min_element(low), *std::ranges::max_element(high)};
}

// The first index of a value that occurs.
template <typename T>
size_t index_of(std::span<const T> values, T value) {
  return static_cast<size_t>(std::ranges::find(values, value) - values.begin());
}

void check_finite(std::span<const float> logits, size_t position) {
  // A sum of x - x is 0, or NaN if some x is not finite.
  LaneSum sum;
  for_blocks(
      logits.size(), [&](size_t lane, size_t i) { sum.lanes[lane] += logits[i] - logits[i]; },
      [&] { sum.end_block(); });
  if (sum.sum != 0)
    fail(Code::bad_format, "logits at position ", position,
         ": expected finite values; the weights of the model are damaged");
}

void store(const LogitRow& to, std::span<uint16_t> codes, std::span<const float> logits, size_t best) {
  const auto [low, high] = range_of(logits);
  const float step = (high - low) / 65535.0f, inverse = step > 0 ? 1 / step : 0;
  std::vector<float> kept(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const float code = std::min((logits[i] - low) * inverse + 0.5f, 65535.0f);
    codes[i] = static_cast<uint16_t>(static_cast<int32_t>(code));
    kept[i] = low + step * static_cast<float>(codes[i]);
  }
  *to.low = static_cast<double>(low);
  *to.step = static_cast<double>(step);
  *to.best = static_cast<double>(best);
  *to.log_sum = log_sum_exp(kept, kept[best]);
}

// KL divergence of `logits` from the reference, over the columns that both have.
void compare(TokenScore& score, double log_sum, std::span<const float> logits, const LogitRow& row,
             std::span<const uint16_t> codes, std::span<const int32_t> columns) {
  std::vector<uint16_t> chosen;
  if (!columns.empty()) {
    chosen.reserve(columns.size());
    for (const int32_t column : columns) chosen.push_back(codes[static_cast<size_t>(column)]);
    codes = chosen;
  }
  uint16_t highest = 0;
  for (const uint16_t code : codes) highest = std::max(highest, code);
  // Several logits may have the highest code: the store says which one was the highest.
  const auto best = static_cast<size_t>(score.best);
  const auto column = columns.empty() ? static_cast<int64_t>(best) : int64_t{columns[best]};
  const bool is_best = static_cast<double>(column) == *row.best;

  const auto low = static_cast<float>(*row.low), step = static_cast<float>(*row.step);
  const float max = low + step * static_cast<float>(highest);
  LaneSum weights, weighted;
  for_blocks(
      logits.size(),
      [&](size_t lane, size_t i) {
        const float reference = low + step * static_cast<float>(codes[i]);
        const float weight = exp_negative(reference - max);
        weights.lanes[lane] += weight;
        weighted.lanes[lane] += weight * (reference - logits[i]);
      },
      [&] {
        weights.end_block();
        weighted.end_block();
      });
  const double kept_sum = static_cast<double>(max) + std::log(weights.sum);
  score.kl = std::max(0.0, weighted.sum / weights.sum + log_sum - kept_sum);
  score.same_best = is_best || index_of<uint16_t>(codes, highest) == best;
  score.kept = std::exp(kept_sum - *row.log_sum);
}

void check_shape(const char* what, const LogitStore& logits, size_t rows, size_t vocabulary) {
  if (logits.rows != rows || logits.columns != vocabulary)
    fail(Code::invalid_argument, what, ": expected logits of ", rows, " rows and ", vocabulary,
         " columns, got ", logits.rows, " and ", logits.columns);
}

}  // namespace

void observe_inputs(uint64_t handle, std::span<const int32_t> tokens, int threads,
                    const std::set<std::string>& tensors,
                    const std::function<void(const ObservedInput&)>& visit) {
  const auto model = api::models().get(handle, "model");
  check_tokens(*model, tokens);
  InputRecorder recorder(*model, tensors);
  model::Forward forward(*model, api::checked_threads(threads));
  forward.set_observer(&recorder);
  model::SequenceState state(model->config, KvType::f16);
  // Rows of an encoder attend to all others, so they must be in one batch.
  const size_t step = model->config.causal ? kChunk : tokens.size();
  for (size_t begin = 0; begin < tokens.size(); begin += step) {
    const auto part = tokens.subspan(begin, std::min(step, tokens.size() - begin));
    recorder.start(part.size());
    state.reserve(std::ssize(part));
    const model::Chunk chunk{&state, part, model::Outputs::all_hidden, false};
    forward.run({&chunk, 1});
    recorder.visit(visit);
  }
}

void score_tokens(uint64_t handle, std::span<const int32_t> tokens, size_t first, int threads,
                  const ScoreOptions& options, std::span<TokenScore> scores) {
  const auto model = api::models().get(handle, "model");
  check_tokens(*model, tokens);
  if (model->weights.output.rows == 0)
    fail(Code::invalid_argument, "model: ", model->config.architecture,
         " has no output matrix, so it does not predict tokens");
  if (first >= tokens.size() || scores.size() != tokens.size() - 1 - first)
    fail(Code::internal, "scores: expected one for each token after ", first, ", got ", scores.size());
  const auto vocabulary = static_cast<size_t>(model->config.vocabulary);
  if (options.record) check_shape("record", *options.record, scores.size(), vocabulary);
  if (options.reference) {
    const size_t columns = options.columns.empty() ? vocabulary : options.reference->columns;
    check_shape("reference", *options.reference, scores.size(), columns);
    if (!options.columns.empty() && options.columns.size() != vocabulary)
      fail(Code::invalid_argument, "columns: expected ", vocabulary, ", got ", options.columns.size());
    for (const int32_t column : options.columns)
      if (column < 0 || static_cast<size_t>(column) >= columns)
        fail(Code::invalid_argument, "columns: expected 0 to ", columns - 1, ", got ", column);
  }

  model::Forward forward(*model, api::checked_threads(threads));
  model::SequenceState state(model->config, options.kv_type);
  const size_t end = tokens.size() - 1;  // nothing follows the last token
  size_t begin = 0;
  while (begin < end) {
    const bool scored = begin >= first;
    const size_t count = std::min(kChunk, (scored ? end : first) - begin);
    state.reserve(static_cast<int64_t>(count));
    const model::Chunk chunk{&state, tokens.subspan(begin, count),
                             scored ? model::Outputs::all_logits : model::Outputs::none, false};
    forward.run({&chunk, 1});
    if (scored) {
      for (size_t i = 0; i < count; ++i) check_finite(forward.logits(0, i), begin + i);
      forward.parallel_for(count, [&](size_t i) {
        const size_t position = begin + i, row = position - first;
        const std::span<const float> logits = forward.logits(0, i);
        TokenScore& score = scores[row];
        const float highest = range_of(logits).high;
        const size_t best = index_of(logits, highest);
        const double log_sum = log_sum_exp(logits, highest);
        score.best = static_cast<int32_t>(best);
        score.nll = log_sum - static_cast<double>(logits[static_cast<size_t>(tokens[position + 1])]);
        if (options.record) store(options.record->row(row), options.record->codes_of(row), logits, best);
        if (options.reference)
          compare(score, log_sum, logits, options.reference->row(row), options.reference->codes_of(row),
                  options.columns);
      });
    }
    begin += count;
  }
}

}  // namespace binhdan::internal
