// A small network that scores the choices of doubtful words from the words around them, on both sides.
//
// Its input is what the n-grams found: for each word near the doubtful one, the embeddings of its three most likely forms
// times their probabilities, plus the embedding of its shape (capitals, kind of punctuation). Two hidden layers and a direct
// product give a vector; the score of a form is its product with the form's vector, plus a bias.
//
// The file, little-endian: magic "BDSCORE\n"; u32 version, ids, checksum of the forms' text, width, near, hidden 1, hidden 2,
// output width; then each matrix, row by row, in blocks of Q5_0, so widths of rows are multiples of 32; biases in float32. Matrices:
// embeddings [ids][width], shapes [16][width], first [inputs][hidden 1], second [hidden 1][hidden 2], third
// [hidden 2][output], direct [inputs][output], forms [ids][output]; biases: first, second, third, forms.
// examples/train_restorer/scorer.py writes it. The products use the kernels of Q8_0.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "kernels/kernels.h"
#include "ops/matmul.h"
#include "text/restore/decoder.h"
#include "text/restore/tokens.h"

namespace binhdan::text::restore {

// What a token looks like: 0 to 2 a syllable (small letters, a capital, all capitals), 3 and 4 another word (4: starts
// with a capital), 5 a number, 6 to 13 punctuation, 14 outside the sentence.
inline constexpr uint8_t kNoShape = 14, kShapes = 16;
// text: what the token's bytes belong to.
uint8_t shape_of(const Token& token, std::string_view text);

class Scorer {
 public:
  // Throws Error: those of FileMap; bad_format for a file that is damaged, not of this format or for other n-grams.
  static std::shared_ptr<const Scorer> open(const std::string& path, const NgramModel& model);

  // Of a thread.
  struct Buffers {
    std::vector<float> tokens, inputs, first, second, output;
    std::vector<uint32_t> doubtful;
    ops::Activations activations;
    Buffer scratch;
  };
  // Adds to decoder.extras() the scores of the choices of doubtful slots. probabilities: of Decoder. shapes: of the
  // slots. Does nothing if no slot is doubtful.
  // false: nothing was added.
  bool add(Decoder& decoder, std::span<const float> probabilities, std::span<const uint8_t> shapes,
           Buffers& buffers) const;

 private:
  // Values of rows in int8 with a scale per row.
  struct Rows {
    std::size_t width = 0;
    std::vector<float> scales;
    std::vector<int8_t> values;
  };

  struct Layer {
    ops::Matrix matrix;  // of `weights`
    Buffer weights;
    std::vector<float> biases;  // one per output
  };

  // A matrix of the file.
  struct Table {
    std::size_t width = 0;
    std::vector<float> values;
  };
  static Rows quantize(const Table& table);
  // tables: [input][output], of the same inputs; their outputs become those of one layer.
  static Layer pack(const KernelTable& table, std::span<const Table> tables);
  void embed(const Decoder& decoder, std::span<const float> probabilities, std::span<const uint8_t> shapes,
             std::vector<float>& out) const;
  // The vectors of the rows in buffers.inputs, into buffers.output.
  void run(std::size_t rows, Buffers& buffers) const;
  void apply(const Layer& layer, std::size_t rows, const float* in, std::size_t in_stride,
             std::vector<float>& out, Buffers& buffers) const;

  const KernelTable* table_ = nullptr;
  std::size_t width_ = 0, near_ = 0, inputs_ = 0, hidden1_ = 0, output_ = 0;
  Rows embeddings_, shapes_, forms_;
  std::vector<float> form_biases_;
  Layer first_, second_, third_;  // the last outputs of first_ are the direct product
};

}  // namespace binhdan::text::restore
