// lattices NGRAMS SHARE OUT < sentences: what the n-grams find for each sentence without its marks.
//
// Input: a sentence a line, with its marks. SHARE of the sentences keep a random part of their marks. Output, little-endian:
// OUT.sentences: u16 tokens of each. OUT.tokens: for each u16 the right id, u16 the best id, u16 the first choice, u8
// choices, u8 shape, u8 1 if the word itself is a choice too, u8 the index of the right choice or 255. OUT.choices: for each
// choice of tokens with several u8 -16 ln p, at most 240, or 255 if it was dropped.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <random>
#include <string>

#include "text/restore/decoder.h"
#include "text/restore/restore.h"
#include "text/restore/tokens.h"

using namespace binhdan::text::restore;

namespace {

struct File {
  explicit File(const std::string& path) : out(path, std::ios::binary) {}
  template <typename T>
  void put(T value) {
    out.write(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  std::ofstream out;
};

class Sentences {
 public:
  Sentences(const NgramModel& model, double share, const std::string& out)
      : model_(model),
        share_(share),
        sentences_(out + ".sentences"),
        tokens_(out + ".tokens"),
        choices_(out + ".choices") {
    decoder_.use(model);
  }

  void read(const std::string& line) {
    TokenReader reader(line);
    std::vector<Token> tokens;
    for (Token token; reader.next(token);) {
      if (token.kind != kEnd) tokens.push_back(token);
      if (token.kind == kEnd || tokens.size() == 256) write(line, tokens);
    }
    write(line, tokens);
  }

 private:
  // Adds the slot of a token with the letters that are left of its marks.
  void add_slot(const Token& token, const Syllable& left, bool capitals) {
    auto& choices = decoder_.choices();
    Slot slot;
    slot.first = static_cast<uint32_t>(choices.size());
    slot.typed = token.kind;
    if (token.kind == kFirstForm) {
      const auto [first, last] = model_.forms_of(left.bare);
      slot.typed = model_.id_of(left);
      if (left.marked()) {
        choices.push_back(slot.typed);
      } else {
        for (uint16_t id = first; id < last; ++id) choices.push_back(id);
        slot.penalized = first < last;
        if (slot.typed == kOther) choices.push_back(kOther);
      }
      slot.capital = capitals && token.capital && before_ != kEnd && before_ != kMark;
    } else {
      choices.push_back(token.kind);
    }
    slot.count = static_cast<uint32_t>(choices.size()) - slot.first;
    decoder_.slots().push_back(slot);
    before_ = token.kind;
  }

  void write(const std::string& line, std::vector<Token>& tokens) {
    if (tokens.empty()) return;
    const double keep = uniform_(random_) < share_ ? uniform_(random_) : 0;
    std::size_t words = 0, capitals = 0;
    for (const Token& token : tokens) {
      words += token.kind == kFirstForm;
      capitals += token.capital;
    }
    decoder_.clear();
    before_ = kEnd;
    for (const Token& token : tokens) {
      Syllable left = token.letters;
      if (uniform_(random_) >= keep) left.qualities = left.tone = 0;
      add_slot(token, left, 2 * capitals <= words + 1);
    }
    decoder_.extras().assign(decoder_.choices().size(), 0);
    decoder_.decode(true);
    decoder_.find_probabilities(probabilities_);
    sentences_.put(static_cast<uint16_t>(tokens.size()));
    for (std::size_t i = 0; i < tokens.size(); ++i) write_token(line, tokens[i], i);
    tokens.clear();
  }

  void write_token(const std::string& line, const Token& token, std::size_t i) {
    const Slot& slot = decoder_.slots()[i];
    const uint16_t first = decoder_.choices()[slot.first];
    const bool other = slot.count > 1 && decoder_.choices()[slot.first + slot.count - 1] == kOther;
    const uint16_t right = token.kind == kFirstForm ? model_.id_of(token.letters) : token.kind;
    std::size_t index = 255;
    for (std::size_t k = 0; k < slot.count && slot.count > 1; ++k)
      if (decoder_.choices()[slot.first + k] == right) index = k;
    tokens_.put(right);
    tokens_.put(decoder_.best()[i]);
    tokens_.put(first);
    tokens_.put(static_cast<uint8_t>(slot.count > 1 ? slot.count - other : 0));
    tokens_.put(shape_of(token, line));
    tokens_.put(static_cast<uint8_t>(other));
    tokens_.put(static_cast<uint8_t>(index));
    if (slot.count < 2) return;
    for (std::size_t k = slot.first; k < slot.first + slot.count; ++k) {
      const float p = probabilities_[k];
      choices_.put(static_cast<uint8_t>(p == 0 ? 255 : std::min(240.0f, std::round(-16 * std::log(p)))));
    }
  }

  const NgramModel& model_;
  const double share_;
  File sentences_, tokens_, choices_;
  Decoder decoder_;
  std::vector<float> probabilities_;
  uint16_t before_ = kEnd;
  std::mt19937 random_{1};
  std::uniform_real_distribution<double> uniform_{0, 1};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s NGRAMS SHARE OUT < sentences\n", argv[0]);
    return 2;
  }
  try {
    const auto model = NgramModel::open(argv[1]);
    Sentences sentences(*model, std::stod(argv[2]), argv[3]);
    for (std::string line; std::getline(std::cin, line);) sentences.read(line);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
