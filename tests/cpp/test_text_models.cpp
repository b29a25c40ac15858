// The vocabulary models that normalize text or merge characters: compared with definitions that try every way.
// tests/text compares them with the libraries of the models.
#include <cmath>
#include <limits>
#include <random>

#include "check.h"
#include "text/charsmap.h"
#include "text/merge.h"
#include "text/pretokenizer.h"
#include "tiny_vocab.h"

using namespace binhdan::text;

namespace {

using Tokens = std::vector<Token>;

std::vector<std::string> texts_of(const Tokenizer& tokenizer, const Tokens& tokens) {
  std::vector<std::string> out;
  for (const Token token : tokens) out.push_back(tokenizer.vocab().tokens[static_cast<size_t>(token)]);
  return out;
}
using Texts = std::vector<std::string>;

Texts cut(const VocabSpec& spec, std::string_view text) {
  const Tokenizer tokenizer = spec.tokenizer();
  return texts_of(tokenizer, tokenizer.encode(text, false, false));
}

// The highest sum of scores of any way to cut `text` from `start`; an unknown character costs `unknown`.
double best_score(const Vocab& vocab, const std::string& text, size_t start, double unknown) {
  if (start == text.size()) return 0;
  size_t next = start + 1;
  while (next < text.size() && (text[next] & 0xC0) == 0x80) ++next;
  double best = unknown + best_score(vocab, text, next, unknown);
  for (size_t end = start + 1; end <= text.size(); ++end) {
    const auto token = vocab.find(text.substr(start, end - start));
    if (token && vocab.kinds[*token] == TokenKind::normal)
      best = std::max(best, vocab.scores[*token] + best_score(vocab, text, end, unknown));
  }
  return best;
}

}  // namespace

TEST(unigram_finds_the_best_sum_of_scores) {
  const Tokenizer tokenizer = unigram_spec(true).tokenizer();
  const Vocab& vocab = tokenizer.vocab();
  double unknown = 0;
  for (Token id = 0; id < vocab.size(); ++id)
    if (vocab.kinds[id] == TokenKind::normal) unknown = std::min<double>(unknown, vocab.scores[id] - 10);
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    std::string text, marked = "▁";
    for (size_t n = 1 + random() % 9; n > 0; --n) {
      const std::string part =
          std::vector<std::string>{"a", "a", "b", "th", "à", " ", "n", "g", "ệ"}[random() % 9];
      text += part;
      marked += part == " " ? "▁" : part;
    }
    double sum = 0;
    for (const Token token : tokenizer.encode(text, false, false)) {
      if (vocab.kinds[token] != TokenKind::byte)
        sum += vocab.scores[token];
      else if ((tokenizer.decode(Tokens{token})[0] & 0xC0) != 0x80)  // the first byte of an unknown character
        sum += unknown;
    }
    CHECK(std::abs(sum - best_score(vocab, marked, 0, unknown)) < 1e-6);
  }
}

TEST(unigram_joins_unknown_characters_or_spells_their_bytes) {
  CHECK((cut(unigram_spec(), "aệ日a") == Texts{"▁a", "<unk>", "a"}));
  CHECK((cut(unigram_spec(true), "a日") == Texts{"▁a", "<0xE6>", "<0x97>", "<0xA5>"}));
  CHECK((cut(unigram_spec(), "</s>") == Texts{"▁", "<unk>"}));
}

TEST(unigram_normalizes_with_its_charsmap) {
  CHECK((cut(charsmap_spec(), "AC") == Texts{"▁a", "<unk>"}));
  CHECK((cut(charsmap_spec(), "B") == Texts{"▁", "b", "▁", "b"}));
  VocabSpec spec = charsmap_spec();
  CHECK((cut(spec, " a  a ") == Texts{"▁", "▁a", "▁", "▁a", "▁"}));
  spec.bools["tokenizer.ggml.remove_extra_whitespaces"] = true;
  CHECK((cut(spec, " a  a ") == Texts{"▁a", "▁a"}));
  CHECK(cut(spec, "  ").empty() && cut(spec, "").empty());
}

TEST(a_charsmap_reads_a_bounded_part_of_the_text) {
  // Every unit leads to itself with the next byte, and has a value.
  std::vector<uint8_t> blob = {0, 8, 0, 0};
  for (uint32_t i = 0; i < 512; ++i) {
    const uint32_t unit = 'x' | 1u << 8 | ('x' << 10);
    for (int shift = 0; shift < 32; shift += 8) blob.push_back(static_cast<uint8_t>(unit >> shift));
  }
  blob.insert(blob.end(), {'y', 0});
  const Charsmap charsmap(blob);
  CHECK(charsmap.find(std::string(100'000, 'x')).size <= Charsmap::kMaxKeyBytes);
}

TEST(wordpiece_takes_the_longest_token) {
  CHECK((cut(wordpiece_spec(), "Tháng, a") == Texts{"▁tha", "ng", "▁,", "▁a"}));
  CHECK((cut(wordpiece_spec(), "thet thx") == Texts{"▁th", "et", "[UNK]"}));
  CHECK((cut(wordpiece_spec(), "[CLS]") == Texts{"[UNK]", "[UNK]", "[UNK]"}));
  VocabSpec spec = wordpiece_spec();
  spec.bools["tokenizer.ggml.normalizer.lowercase"] = false;
  CHECK((cut(spec, "THA tha") == Texts{"[UNK]", "▁tha"}));
  const Tokenizer tokenizer = wordpiece_spec().tokenizer();
  CHECK((tokenizer.encode("a", true, false) == Tokens{2, *tokenizer.vocab().find("▁a"), 3}));
  CHECK(tokenizer.decode(tokenizer.encode("tháng a", true, false)) == "thang a");
}

TEST(characters_merge_by_rank) {
  CHECK((cut(char_spec(), "ab thà ") == Texts{"ab", "▁th", "à", "▁"}));
  CHECK((cut(char_spec(), "a> b") == Texts{"a", ">▁", "b"}));  // a token may have a space inside
  CHECK((cut(char_spec(), "a\n\n\nb") == Texts{"a", "\n\n\n", "b"}));
  CHECK((cut(char_spec(), "Đ<think>b") == Texts{"<0xC4>", "<0x90>", "<think>", "b"}));
  VocabSpec spec = char_spec();
  spec.strings = {{"tokenizer.ggml.model", "whitespace"}};
  spec.bools["tokenizer.ggml.normalizer.lowercase"] = true;
  CHECK((cut(spec, " AB \n Thb") == Texts{"ab", "th", "b"}));
}

TEST(tokens_take_the_white_space_beside_them) {
  VocabSpec spec = byte_spec();
  const Token start = *spec.read().find("<|im_start|>"), think = *spec.read().find("<think>");
  spec.arrays = {{"binhdan.tokenizer.strip_right", {start, think}},
                 {"binhdan.tokenizer.strip_left", {think}}};
  const Tokenizer tokenizer = spec.tokenizer();
  CHECK((tokenizer.encode("<|im_start|> \na", false, true) == Tokens{start, 'a'}));
  const std::vector<Segment> segments = {{"<|im_start|>\n", true}, {"\n b", false}};
  CHECK((tokenizer.encode(segments, false) == Tokens{start, 'b'}));
  CHECK((tokenizer.encode("n <think>\n n", false, false) == Tokens{'n', think, 'n'}));
  VocabSpec phi = byte_spec();
  phi.strings["general.name"] = "Phi-3 mini";
  CHECK((phi.tokenizer().encode("<|im_start|>\nn", false, true) == Tokens{start, 'n'}));
  CHECK((byte_spec().tokenizer().encode("<|im_start|>\nn", false, true) == Tokens{start, '\n', 'n'}));
}

// Work is counted in characters that regular expressions read.
TEST(pre_tokenizers_read_a_text_a_bounded_number_of_times) {
  constexpr size_t kSize = 4000;
  const auto work = [](const WordSplitter& splitter, std::string_view unit, size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += unit;
    text += "x";
    size_t read = 0, size = 0;
    splitter.split(text, [&](std::string_view word) { size += word.size(); }, &read);
    CHECK(size == text.size());
    return read;
  };
  const Stage* last = nullptr;
  for (const Pretokenizer& pre : pretokenizers()) {
    if (pre.stages.data() == last) continue;  // rows with the same stages are neighbours
    last = pre.stages.data();
    const WordSplitter splitter(pre);
    for (const char* unit : {" ", "\n", "A", "Aa", "1", "1a", "'", "a ", " \u0301", "🦙", "<sentinel:", "\t ",
                             " \n", "漢", "½1"})
      CHECK(work(splitter, unit, 4 * kSize) < 5 * work(splitter, unit, kSize));
  }
}

TEST(merging_looks_up_a_bounded_number_of_pairs_per_symbol) {
  for (const bool merges : {false, true}) {
    constexpr uint32_t kSymbols = 10'000;
    Merger merger;
    for (uint32_t i = 0; i < kSymbols; ++i) merger.add(i, 1, 0);
    size_t look_ups = 0;
    merger.run([&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
      ++look_ups;
      if (!merges) return std::nullopt;
      return Merge{static_cast<float>(left.size + right.size), 0};
    });
    CHECK(look_ups < 3 * kSymbols);
  }
}
