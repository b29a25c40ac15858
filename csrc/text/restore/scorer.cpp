#include "text/restore/scorer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/file_map.h"
#include "text/unicode.h"

namespace binhdan::text::restore {
namespace {

constexpr char kMagic[] = "BDSCORE\n";
constexpr uint32_t kVersion = 1;
constexpr std::size_t kFar = 8;    // words on each side after the near ones; their mean is an input
constexpr float kSure = 0.969f;    // a word with a higher probability is not doubtful
constexpr std::size_t kTop = 3;    // forms of a word
constexpr std::size_t kBatch = 8;  // doubtful words at once
constexpr float kWeight = 0.8f;    // of the scores, against those of the n-grams
constexpr uint32_t kMaxWidth = 4096;

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
    for (const float value : values)
      if (!std::isfinite(value)) fail(Code::bad_format, "scorer file: expected finite numbers");
    return values;
  }
  std::vector<int8_t> integers(std::size_t count) {
    need(count);
    std::vector<int8_t> values(count);
    read(std::span(values));
    return values;
  }
  std::size_t left() const { return bytes_.size(); }

 private:
  void need(std::size_t size) const {
    if (size > bytes_.size())
      fail(Code::bad_format, "scorer file: expected ", size, " more bytes, the file has ", bytes_.size());
  }

  std::span<const std::byte> bytes_;
};

// out[row][:] += in[row][:] * weights, for all rows at once: a row of the weights is read once.
void multiply(std::span<const float> in, std::size_t rows, std::size_t inputs, std::span<const float> weights,
              std::size_t outputs, float* out) {
  for (std::size_t i = 0; i < inputs; ++i) {
    const float* weight = weights.data() + i * outputs;
    for (std::size_t r = 0; r < rows; ++r) {
      const float x = in[r * inputs + i];
      if (x == 0) continue;
      float* sums = out + r * outputs;
      for (std::size_t o = 0; o < outputs; ++o) sums[o] += x * weight[o];
    }
  }
}

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
  const auto rows = [&](std::size_t count, std::size_t width) {
    Rows table{width, reader.floats(count), {}};
    table.values = reader.integers(count * width);
    return table;
  };
  const auto layer = [&](std::size_t inputs, std::size_t outputs) {
    const Rows table = rows(inputs, outputs);
    Layer made{inputs, outputs, {}, std::vector<float>(outputs, 0.0f)};
    made.weights.resize(inputs * outputs);
    for (std::size_t i = 0; i < made.weights.size(); ++i)
      made.weights[i] = table.scales[i / outputs] * static_cast<float>(table.values[i]);
    return made;
  };
  scorer->embeddings_ = rows(ids, scorer->width_);
  scorer->shapes_ = rows(kShapes, scorer->width_);
  scorer->first_ = layer(scorer->inputs_, hidden1);
  scorer->second_ = layer(hidden1, hidden2);
  scorer->third_ = layer(hidden2, output);
  scorer->direct_ = layer(scorer->inputs_, output);
  scorer->forms_ = rows(ids, output);
  for (Layer* one : {&scorer->first_, &scorer->second_, &scorer->third_})
    one->biases = reader.floats(one->outputs);
  scorer->form_biases_ = reader.floats(ids);
  if (reader.left() != 0) fail(Code::bad_format, "scorer file: ", reader.left(), " bytes too many");
  file.check_intact();
  return scorer;
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
  const std::size_t near_width = (2 * near_ + 1) * width_, output = third_.outputs;
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
    const auto run = [&](const Layer& layer, const std::vector<float>& in, std::vector<float>& out) {
      out.resize(rows * layer.outputs);
      for (std::size_t r = 0; r < rows; ++r)
        std::ranges::copy(layer.biases, out.begin() + static_cast<std::ptrdiff_t>(r * layer.outputs));
      multiply(in, rows, layer.inputs, layer.weights, layer.outputs, out.data());
    };
    const auto rectify = [](std::vector<float>& values) {
      for (float& value : values) value = std::max(value, 0.0f);
    };
    run(first_, b.inputs, b.first);
    rectify(b.first);
    run(second_, b.first, b.second);
    rectify(b.second);
    run(third_, b.second, b.output);
    multiply(b.inputs, rows, inputs_, direct_.weights, output, b.output.data());
    for (std::size_t r = 0; r < rows; ++r) {
      const Slot& slot = slots[b.doubtful[from + r]];
      for (uint32_t k = slot.first; k < slot.first + slot.count; ++k) {
        const uint16_t id = decoder.choices()[k];
        const int8_t* values = forms_.values.data() + id * output;
        float sum = 0;
        for (std::size_t i = 0; i < output; ++i)
          sum += b.output[r * output + i] * static_cast<float>(values[i]);
        const float score = std::clamp(sum * forms_.scales[id] + form_biases_[id], -30.0f, 30.0f);
        decoder.extras()[k] += static_cast<int32_t>(std::lround(score * kWeight * kScoreUnit));
      }
    }
  }
  return true;
}

}  // namespace binhdan::text::restore
