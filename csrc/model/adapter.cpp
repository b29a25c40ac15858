#include "model/adapter.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/half.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "kernels/codec.h"

namespace binhdan::model {
namespace {

constexpr int64_t kMaxRank = 1024;
constexpr std::string_view kDownSuffix = ".lora_a", kUpSuffix = ".lora_b";

// A matrix in a tensor of the model: the whole tensor, or some of its rows.
struct Target {
  const Matrix* matrix;
  int64_t first_row;
};

// The matrices that an adapter may change, by tensor. Matrices in one tensor follow each other.
std::map<std::string, std::vector<Target>, std::less<>> targets_of(const Weights& weights) {
  std::map<std::string, std::vector<Target>, std::less<>> targets;
  const auto add = [&](const Matrix& matrix) {
    std::vector<Target>& parts = targets[std::string(matrix.tensor)];
    const int64_t first = parts.empty() ? 0 : parts.back().first_row + parts.back().matrix->rows;
    parts.push_back({&matrix, first});
  };
  for (const LayerWeights& layer : weights.layers) layer.for_each_matrix(add);
  if (weights.output.rows > 0 && !weights.tied) add(weights.output);
  return targets;
}

// The values of a small tensor times 2^-exponent, which are at most 1: float16 is most exact there.
struct Values {
  Buffer values;  // (rows, cols)
  int64_t rows, cols;
  int exponent;

  float at(int64_t row, int64_t col) const { return values.as<const float>()[row * cols + col]; }
};

Values read_values(const gguf::File& file, const gguf::TensorInfo& tensor) {
  const auto rows = static_cast<int64_t>(tensor.rows()), cols = static_cast<int64_t>(tensor.cols());
  Values result{Buffer(static_cast<size_t>(rows * cols) * sizeof(float)), rows, cols, 0};
  auto* values = result.values.as<float>();
  const uint64_t row_bytes = tensor.bytes / tensor.rows();
  for (int64_t r = 0; r < rows; ++r)
    decode_row(tensor.type)(values + r * cols,
                            file.data(tensor).data() + static_cast<uint64_t>(r) * row_bytes, cols);
  float largest = 0;
  for (int64_t i = 0; i < rows * cols; ++i) {
    if (!std::isfinite(values[i]))
      fail(Code::bad_format, file.path(), ": tensor ", quote_name(tensor.name),
           ": expected finite values, got ", values[i], " at index ", i);
    largest = std::max(largest, std::fabs(values[i]));
  }
  std::frexp(largest, &result.exponent);
  for (int64_t i = 0; i < rows * cols; ++i) values[i] = std::ldexp(values[i], -result.exponent);
  return result;
}

constexpr int64_t panels_of(int64_t n) {
  return (n + kProductLanes - 1) / kProductLanes;
}

// Float16 values of packed products, rounded up to whole cache lines.
constexpr int64_t packed_length(int64_t terms, int64_t n) {
  constexpr int64_t kLine = static_cast<int64_t>(kCacheLine / sizeof(uint16_t));
  return (panels_of(n) * kProductLanes * terms + kLine - 1) / kLine * kLine;
}

// Writes value(t, i) for t < terms and i < n, as KernelTable::add_products reads them.
template <typename Value>
void pack_products(uint16_t* to, int64_t terms, int64_t n, const Value& value) {
  for (int64_t panel = 0; panel < panels_of(n); ++panel)
    for (int64_t t = 0; t < terms; ++t)
      for (int64_t i = panel * kProductLanes; i < (panel + 1) * kProductLanes; ++i)
        *to++ = i < n ? f32_to_f16(value(t, i)) : uint16_t{0};
}

// "blk.0.attn_q.weight" of "blk.0.attn_q.weight.lora_a"; "" for another name.
std::string_view target_name(std::string_view tensor) {
  for (const std::string_view suffix : {kDownSuffix, kUpSuffix})
    if (tensor.ends_with(suffix)) return tensor.substr(0, tensor.size() - suffix.size());
  return "";
}

}  // namespace

class AdapterReader {
 public:
  AdapterReader(const gguf::File& file, Adapter& into)
      : file_(file), into_(into), targets_(targets_of(into.model().weights)) {}

  void read() {
    check_keys();
    std::vector<Pair> pairs;
    int64_t values = 0;
    size_t changes = 0;
    for (const gguf::TensorInfo& tensor : file_.tensors()) {
      if (!check_name(tensor.name).ends_with(kDownSuffix)) continue;
      pairs.push_back(check_pair(tensor));
      values += packed_size(pairs.back());
      changes += pairs.back().parts->size();
    }
    if (pairs.empty()) fail(Code::bad_format, file_.path(), ": the adapter changes no tensor");
    // In the order of the model's weights, which is about that of a step, so that prefetching on loads what comes next.
    std::ranges::sort(pairs, std::less{}, [](const Pair& pair) { return pair.parts->front().matrix; });
    into_.changes_ = ChangeTable(changes);
    into_.memory_ = Buffer(static_cast<uint64_t>(values) * sizeof(uint16_t));
    next_ = into_.memory_.as<uint16_t>();
    for (const Pair& pair : pairs)
      add(*pair.parts, read_values(file_, *pair.down), read_values(file_, *pair.up));
  }

 private:
  // The tensors of a change, and the matrices that it changes.
  struct Pair {
    const std::vector<Target>* parts;
    const gguf::TensorInfo *down, *up;
  };

  void check_keys() const {
    const std::string_view type = file_.get_string("general.type", "model");
    if (type != "adapter")
      fail(Code::bad_format, file_.path(), ": key 'general.type': expected \"adapter\", got ",
           quote_name(type), "; open a model with its own function, and convert a PEFT folder first");
    if (const auto kind = file_.get_string("adapter.type"); kind != "lora")
      fail(Code::unsupported, file_.path(), ": key 'adapter.type': expected \"lora\", got ",
           quote_name(kind));
    if (file_.find("adapter.alora.invocation_tokens"))
      fail(Code::unsupported, file_.path(),
           ": key 'adapter.alora.invocation_tokens': adapters that begin at certain tokens (aLoRA) are not "
           "supported");
    const std::string& model = into_.model().config.architecture;
    if (const auto wanted = file_.get_string("general.architecture"); wanted != model)
      fail(Code::unsupported, file_.path(), ": the adapter is for architecture ", quote_name(wanted),
           ", but the model is of ", model, "; use an adapter that was trained for this model");
    if (!file_.unsupported_tensors().empty()) {
      const gguf::UnsupportedTensor& tensor = file_.unsupported_tensors().front();
      fail(Code::unsupported, file_.path(), ": tensor ", quote_name(tensor.name), ": tensor type ",
           tensor.type, " is not supported; convert the adapter to F16");
    }
  }

  std::string_view check_name(std::string_view name) const {
    const std::string_view target = target_name(name);
    if (target.empty())
      fail(Code::unsupported, file_.path(), ": tensor ", quote_name(name),
           ": expected names that end in .lora_a or .lora_b");
    if (!targets_.contains(target))
      fail(Code::unsupported, file_.path(), ": tensor ", quote_name(name), ": the model has no matrix ",
           quote_name(target), " that an adapter can change");
    for (const std::string_view suffix : {kDownSuffix, kUpSuffix})
      if (!file_.find_tensor(std::string(target).append(suffix)))
        fail(Code::bad_format, file_.path(), ": tensor ", quote_name(name), " has no partner ",
             quote_name(std::string(target).append(suffix)));
    return name;
  }

  Pair check_pair(const gguf::TensorInfo& down) {
    const std::string_view name = target_name(down.name);
    const gguf::TensorInfo& up = *file_.find_tensor(std::string(name).append(kUpSuffix));
    const std::vector<Target>& parts = targets_.find(name)->second;
    const int64_t rows = parts.back().first_row + parts.back().matrix->rows, cols = parts[0].matrix->cols;
    const auto rank = down.rows();
    if (rank < 1 || rank > static_cast<uint64_t>(kMaxRank))
      fail(Code::unsupported, file_.path(), ": tensor ", quote_name(down.name), ": expected a rank of 1 to ",
           kMaxRank, ", got ", rank);
    check_shape(down, rank, static_cast<uint64_t>(cols));
    check_shape(up, static_cast<uint64_t>(rows), rank);
    into_.parameters_ += rank * static_cast<uint64_t>(rows + cols);
    return {&parts, &down, &up};
  }

  static int64_t packed_size(const Pair& pair) {
    const auto rank = static_cast<int64_t>(pair.down->rows());
    int64_t size = packed_length(pair.parts->front().matrix->cols, rank);
    for (const Target& part : *pair.parts) size += packed_length(rank, part.matrix->rows);
    return size;
  }

  void check_shape(const gguf::TensorInfo& tensor, uint64_t rows, uint64_t cols) const {
    if (tensor.rows() != rows || tensor.cols() != cols)
      fail(Code::bad_format, file_.path(), ": tensor ", quote_name(tensor.name), ": the model needs ", rows,
           " rows of ", cols, " columns, got ", tensor.rows(), " rows of ", tensor.cols(),
           "; use an adapter that was trained for this model");
  }

  void add(const std::vector<Target>& parts, const Values& down, const Values& up) {
    const int64_t rank = down.rows;
    // alpha = 0: no factor, as in llama.cpp.
    const double alpha = file_.get_float("adapter.lora.alpha");
    const double factor = alpha == 0 ? 1 : alpha / static_cast<double>(rank);
    const auto scale = static_cast<float>(std::ldexp(factor, down.exponent + up.exponent));
    if (!std::isfinite(scale))
      fail(Code::bad_format, file_.path(),
           ": key 'adapter.lora.alpha': expected a number that gives finite changes, got ", alpha);
    const uint16_t* packed_down =
        pack(down.cols, rank, [&](int64_t col, int64_t k) { return down.at(k, col); });
    for (const auto& [matrix, first] : parts) {
      const uint16_t* packed_up =
          pack(rank, matrix->rows, [&](int64_t k, int64_t row) { return up.at(first + row, k); });
      into_.changes_.add(*matrix, {rank, scale, packed_down, packed_up});
    }
    into_.max_rank_ = std::max(into_.max_rank_, rank);
  }

  template <typename Value>
  const uint16_t* pack(int64_t terms, int64_t n, const Value& value) {
    pack_products(next_, terms, n, value);
    return std::exchange(next_, next_ + packed_length(terms, n));
  }

  const gguf::File& file_;
  Adapter& into_;
  const std::map<std::string, std::vector<Target>, std::less<>> targets_;
  uint16_t* next_ = nullptr;  // free memory of the adapter
};

Adapter Adapter::read(const gguf::File& file, std::shared_ptr<const Model> model) {
  Adapter adapter(std::move(model));
  AdapterReader(file, adapter).read();
  adapter.identity_ = std::max<uint64_t>(1, file.content_hash());
  return adapter;
}

Adapter Adapter::load(const std::string& path, std::shared_ptr<const Model> model) {
  const gguf::File file = gguf::File::open(path);
  Adapter adapter = read(file, std::move(model));
  file.check_intact();
  return adapter;
}

}  // namespace binhdan::model
