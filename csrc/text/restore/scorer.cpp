#include "text/restore/scorer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/file_map.h"
#include "kernels/codec.h"
#include "text/unicode.h"

namespace binhdan::text::restore {
namespace {

constexpr char kMagic[] = "BDSCORE\n";
constexpr uint32_t kVersion = 2;
constexpr std::size_t kFar = 8;    // words on each side after the near ones; their mean is an input
constexpr float kSure = 0.969f;    // a word with a higher probability is not doubtful
constexpr std::size_t kTop = 3;    // forms of a word
constexpr std::size_t kBatch = 8;  // doubtful words at once
constexpr float kWeight = 0.5f;    // of the scores, chosen on the validation text: the network is too sure
constexpr uint32_t kMaxWidth = 4096;
constexpr std::size_t kBlock = 32;  // values with one scale, in Q8_0 and Q5_0

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  void read(std::span<T> out) {
    need(out.size_bytes());
    std::memcpy(out.data(), bytes_.data(), out.size_bytes());
    bytes_ = bytes_.subspan(out.size_bytes());
  }
  uint32_t number() {
    uint32_t value = 0;
    read(std::span(&value, 1));
    return value;
  }
  std::vector<float> floats(std::size_t count) {
    need(count * sizeof(float));
    std::vector<float> values(count);
    read(std::span(values));
    check(values);
    return values;
  }
  // A matrix of count rows; width is a multiple of kBlock.
  std::vector<float> matrix(std::size_t count, std::size_t width) {
    const std::size_t bytes = row_bytes(DType::q5_0, width);
    need(count * bytes);
    std::vector<float> values(count * width);
    for (std::size_t row = 0; row < count; ++row)
      decode_row(DType::q5_0)(values.data() + row * width, bytes_.data() + row * bytes,
                              static_cast<int64_t>(width));
    bytes_ = bytes_.subspan(count * bytes);
    check(values);
    return values;
  }
  std::size_t left() const { return bytes_.size(); }

 private:
  static void check(const std::vector<float>& values) {
    for (const float value : values)
      if (!std::isfinite(value)) fail(Code::bad_format, "scorer file: expected finite numbers");
  }
  void need(std::size_t size) const {
    if (size > bytes_.size())
      fail(Code::bad_format, "scorer file: expected ", size, " more bytes, the file has ", bytes_.size());
  }

  std::span<const std::byte> bytes_;
};

}  // namespace

uint8_t shape_of(const Token& token, std::string_view text) {
  std::size_t at = token.begin;
  const char32_t c = next_codepoint(text, at);
  if (token.kind == kFirstForm) {
    if (token.capital) return 1;
    return token.letters.upper != 0 ? 2 : 0;
  }
  if (token.kind == kOther) return c >= 'A' && c <= 'Z' ? 4 : 3;
  if (token.kind == kNumber) return 5;
  constexpr std::u32string_view kKinds[] = {U",", U"([“«", U")]”»", U":;", U"-–—", U"\"'", U"/"};
  for (std::size_t i = 0; i < std::size(kKinds); ++i)
    if (kKinds[i].find(c) != std::u32string_view::npos) return static_cast<uint8_t>(6 + i);
  return 13;
}

std::shared_ptr<const Scorer> Scorer::open(const std::string& path, const NgramModel& model) {
  const FileMap file(path);
  Reader reader(file.bytes());
  std::array<char, 8> magic{};
  reader.read(std::span<char>(magic));
  if (std::memcmp(magic.data(), kMagic, 8) != 0)
    fail(Code::bad_format, "not a scorer file: expected the magic BDSCORE");
  if (const uint32_t version = reader.number(); version != kVersion)
    fail(Code::unsupported, "scorer file: expected version ", kVersion, ", got ", version);
  const uint32_t ids = reader.number(), sum = reader.number();
  if (ids != kFirstForm + model.forms().size() || sum != model.forms_checksum())
    fail(Code::bad_format, "scorer file: it belongs to another n-gram file: expected ",
         kFirstForm + model.forms().size(), " ids, got ", ids, ", or the forms differ");
  auto scorer = std::make_shared<Scorer>();
  std::array<uint32_t, 5> widths{};
  reader.read(std::span<uint32_t>(widths));
  for (const uint32_t width : widths)
    if (width == 0 || width > kMaxWidth)
      fail(Code::bad_format, "scorer file: expected widths of 1 to ", kMaxWidth, ", got ", width);
  const std::size_t hidden1 = widths[2], hidden2 = widths[3], output = widths[4];
  scorer->width_ = widths[0];
  scorer->near_ = widths[1];
  scorer->inputs_ = (2 * scorer->near_ + 3) * scorer->width_;
  scorer->hidden1_ = hidden1;
  scorer->output_ = output;
  for (const std::size_t width : {scorer->width_, hidden1, hidden2, output})
    if (width % kBlock != 0)
      fail(Code::bad_format, "scorer file: expected widths in multiples of ", kBlock, ", got ", width);
  const auto rows = [&](std::size_t count, std::size_t width) {
    return Table{width, reader.matrix(count, width)};
  };
  scorer->table_ = &select_table("");
  scorer->embeddings_ = quantize(rows(ids, scorer->width_));
  scorer->shapes_ = quantize(rows(kShapes, scorer->width_));
  std::array<Table, 2> from_inputs;
  from_inputs[0] = rows(scorer->inputs_, hidden1);
  const Table second = rows(hidden1, hidden2), third = rows(hidden2, output);
  from_inputs[1] = rows(scorer->inputs_, output);
  scorer->first_ = pack(*scorer->table_, from_inputs);
  scorer->second_ = pack(*scorer->table_, std::span(&second, 1));
  scorer->third_ = pack(*scorer->table_, std::span(&third, 1));
  scorer->forms_ = quantize(rows(ids, output));
  scorer->first_.biases = reader.floats(hidden1);
  scorer->first_.biases.resize(hidden1 + output);
  scorer->second_.biases = reader.floats(hidden2);
  scorer->third_.biases = reader.floats(output);
  scorer->form_biases_ = reader.floats(ids);
  if (reader.left() != 0) fail(Code::bad_format, "scorer file: ", reader.left(), " bytes too many");
  file.check_intact();
  return scorer;
}

Scorer::Rows Scorer::quantize(const Table& table) {
  Rows rows{table.width, std::vector<float>(table.values.size() / table.width), {}};
  rows.values.reserve(table.values.size());
  for (std::size_t row = 0; row < rows.scales.size(); ++row) {
    const auto values = std::span(table.values).subspan(row * table.width, table.width);
    float largest = 0;
    for (const float value : values) largest = std::max(largest, std::abs(value));
    rows.scales[row] = largest / 127;
    const float factor = largest > 0 ? 127 / largest : 0;
    for (const float value : values) rows.values.push_back(static_cast<int8_t>(std::lround(value * factor)));
  }
  return rows;
}

Scorer::Layer Scorer::pack(const KernelTable& table, std::span<const Table> tables) {
  const MatmulKernel& kernel = table.matmul[static_cast<std::size_t>(DType::q8_0)];
  const std::size_t inputs = tables[0].values.size() / tables[0].width,
                    bytes = row_bytes(DType::q8_0, inputs);
  std::vector<float> row(inputs);
  std::vector<std::byte> blocks;
  int64_t outputs = 0;
  for (const Table& one : tables)
    for (std::size_t o = 0; o < one.width; ++o, ++outputs) {
      for (std::size_t i = 0; i < inputs; ++i) row[i] = one.values[i * one.width + o];
      blocks.resize(blocks.size() + bytes);
      encode_row(DType::q8_0)(blocks.data() + blocks.size() - bytes, row.data(),
                              static_cast<int64_t>(inputs));
    }
  Layer layer;
  layer.matrix = {&kernel, outputs, static_cast<int64_t>(inputs), nullptr, {}};
  layer.weights = Buffer(layer.matrix.bytes());
  if (kernel.pack)
    kernel.pack(layer.weights.as<void>(), blocks.data(), outputs, layer.matrix.cols, 0, outputs);
  else
    std::memcpy(layer.weights.as<void>(), blocks.data(), blocks.size());
  layer.matrix.data = layer.weights.as<void>();
  return layer;
}

// The vectors of the tokens, with kFar + near of zeros of shape kNoShape on both sides.
void Scorer::embed(const Decoder& decoder, std::span<const float> probabilities,
                   std::span<const uint8_t> shapes, std::vector<float>& out) const {
  const std::size_t margin = near_ + kFar, count = decoder.slots().size();
  out.assign((count + 2 * margin) * width_, 0);
  const auto add_row = [&](std::size_t token, const Rows& rows, std::size_t row, float factor) {
    float* to = out.data() + token * width_;
    const int8_t* values = rows.values.data() + row * width_;
    factor *= rows.scales[row];
    for (std::size_t i = 0; i < width_; ++i) to[i] += factor * static_cast<float>(values[i]);
  };
  for (std::size_t token = 0; token < count + 2 * margin; ++token) {
    const bool inside = token >= margin && token < margin + count;
    add_row(token, shapes_, inside ? shapes[token - margin] : kNoShape, 1);
    if (!inside) continue;
    const Slot& slot = decoder.slots()[token - margin];
    std::array<std::pair<float, uint16_t>, kTop> top{};
    for (uint32_t k = slot.first; k < slot.first + slot.count; ++k) {
      std::pair<float, uint16_t> one{probabilities[k], decoder.choices()[k]};
      for (auto& place : top)
        if (one.first > place.first) std::swap(one, place);
    }
    for (const auto& [p, id] : top)
      if (p > 0) add_row(token, embeddings_, id, p);
  }
}

bool Scorer::add(Decoder& decoder, std::span<const float> probabilities, std::span<const uint8_t> shapes,
                 Buffers& b) const {
  const auto& slots = decoder.slots();
  b.doubtful.clear();
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const auto own = probabilities.subspan(slots[i].first, slots[i].count);
    if (own.size() > 1 && *std::ranges::max_element(own) < kSure)
      b.doubtful.push_back(static_cast<uint32_t>(i));
  }
  if (b.doubtful.empty()) return false;
  embed(decoder, probabilities, shapes, b.tokens);
  const std::size_t near_width = (2 * near_ + 1) * width_;
  for (std::size_t from = 0; from < b.doubtful.size(); from += kBatch) {
    const std::size_t rows = std::min(kBatch, b.doubtful.size() - from);
    b.inputs.assign(rows * inputs_, 0);
    for (std::size_t r = 0; r < rows; ++r) {
      float* in = b.inputs.data() + r * inputs_;
      const float* window = b.tokens.data() + (b.doubtful[from + r] + kFar) * width_;
      std::copy_n(window, near_width, in);
      for (std::size_t k = 0; k < kFar; ++k)
        for (std::size_t i = 0; i < width_; ++i) {
          in[near_width + i] += window[i - (k + 1) * width_] / kFar;
          in[near_width + width_ + i] += window[near_width + k * width_ + i] / kFar;
        }
    }
    run(rows, b);
    for (std::size_t r = 0; r < rows; ++r) {
      const Slot& slot = slots[b.doubtful[from + r]];
      for (uint32_t k = slot.first; k < slot.first + slot.count; ++k) {
        const uint16_t id = decoder.choices()[k];
        const int8_t* values = forms_.values.data() + id * output_;
        float sum = 0;
        for (std::size_t i = 0; i < output_; ++i)
          sum += b.output[r * output_ + i] * static_cast<float>(values[i]);
        const float score = std::clamp(sum * forms_.scales[id] + form_biases_[id], -30.0f, 30.0f);
        decoder.extras()[k] += static_cast<int32_t>(std::lround(score * kWeight * kScoreUnit));
      }
    }
  }
  return true;
}

void Scorer::run(std::size_t rows, Buffers& b) const {
  const auto rectify = [](std::vector<float>& values) {
    for (float& value : values) value = std::max(value, 0.0f);
  };
  const std::size_t stride = hidden1_ + output_;
  apply(first_, rows, b.inputs.data(), inputs_, b.first, b);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t i = 0; i < hidden1_; ++i)
      b.first[r * stride + i] = std::max(b.first[r * stride + i], 0.0f);
  apply(second_, rows, b.first.data(), stride, b.second, b);
  rectify(b.second);
  apply(third_, rows, b.second.data(), static_cast<std::size_t>(third_.matrix.cols), b.output, b);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t i = 0; i < output_; ++i) b.output[r * output_ + i] += b.first[r * stride + hidden1_ + i];
}

void Scorer::apply(const Layer& layer, std::size_t rows, const float* in, std::size_t in_stride,
                   std::vector<float>& out, Buffers& b) const {
  const ops::Matrix& matrix = layer.matrix;
  ops::Activations::Widths widths;
  widths.cover(matrix);
  b.activations.reserve(kBatch, widths);
  b.scratch.reserve(ops::matmul_scratch(matrix, kBatch));
  const auto count = static_cast<int64_t>(rows);
  const ops::ClassCounts classes{count, count};
  for (std::size_t r = 0; r < rows; ++r)
    b.activations.store(*table_, {&matrix}, classes, static_cast<int64_t>(r), in + r * in_stride, 0,
                        matrix.cols);
  out.resize(rows * layer.biases.size());
  ops::matmul(matrix, {0, matrix.rows}, b.activations, classes, out.data(), matrix.rows, b.scratch);
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t i = 0; i < layer.biases.size(); ++i) out[r * layer.biases.size() + i] += layer.biases[i];
}

}  // namespace binhdan::text::restore
