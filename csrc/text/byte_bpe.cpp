// Byte-level BPE (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"): text is cut
// into words by a pre-tokenizer, and the bytes of a word merge by rank. Vocabularies spell every byte as one
// printable character.
#include <algorithm>
#include <array>

#include "text/encoder.h"
#include "text/merge.h"
#include "text/pretokenizer.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

// GPT-2's byte alphabet: printable Latin-1 maps to itself, the other bytes to U+0100 and up, in order.
constexpr std::array<char16_t, 256> kAlphabet = [] {
  std::array<char16_t, 256> alphabet{};
  char16_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    alphabet[byte] = printable ? static_cast<char16_t>(byte) : next++;
  }
  return alphabet;
}();

class ByteBpe final : public Encoder {
 public:
  explicit ByteBpe(const Vocab& vocab)
      : vocab_(vocab),
        pre_(need_pretokenizer(vocab.pre)),
        splitter_(pre_),
        unknown_(vocab.unknown_in_text()) {
    letter_bytes_.fill(-1);
    for (unsigned byte = 0; byte < 256; ++byte) {
      append_utf8(letters_[byte], kAlphabet[byte]);
      letter_bytes_[kAlphabet[byte]] = static_cast<int16_t>(byte);
      const auto token = vocab.find(letters_[byte]);
      byte_tokens_[byte] = token && vocab.is_text(*token) ? *token : -1;
    }
    for (const std::string& token : vocab.tokens) longest_ = std::max(longest_, token.size());
  }

  void encode(std::string_view text, bool, std::vector<Token>& out) const override {
    Merger merger;
    std::string spelled;
    splitter_.split(text, [&](std::string_view word) {
      if (!pre_.ignore_merges || !take_whole(word, spelled, out)) encode_word(word, merger, out);
    });
  }

  std::string bytes(Token token) const override {
    const std::string& text = vocab_.tokens[token];
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t start = i;
      const char32_t c = next_codepoint(text, i);
      const int byte = c < letter_bytes_.size() ? letter_bytes_[c] : -1;
      if (byte >= 0)
        out.push_back(static_cast<char>(byte));
      else
        out.append(text, start, i - start);
    }
    return out;
  }

 private:
  bool take_whole(std::string_view word, std::string& spelled, std::vector<Token>& out) const {
    if (word.size() > longest_) return false;
    spelled.clear();
    for (const char c : word) spelled += letters_[static_cast<uint8_t>(c)];
    const auto token = vocab_.find(spelled);
    if (!token || !vocab_.is_text(*token)) return false;
    out.push_back(*token);
    return true;
  }

  void encode_word(std::string_view word, Merger& merger, std::vector<Token>& out) const {
    merger.clear();
    for (uint32_t i = 0; i < word.size(); ++i) merger.add(i, 1, byte_tokens_[static_cast<uint8_t>(word[i])]);
    merger.run([this](const Symbol& left, const Symbol& right) {
      return vocab_.merges.find({left.token, right.token});
    });
    merger.each([&](const Symbol& symbol) {
      if (symbol.token >= 0)
        out.push_back(symbol.token);
      else if (unknown_)
        out.push_back(*unknown_);
    });
  }

  const Vocab& vocab_;
  const Pretokenizer& pre_;
  const WordSplitter splitter_;
  std::array<std::string, 256> letters_;
  std::array<int16_t, 0x144> letter_bytes_;  // the alphabet ends at U+0143
  std::array<Token, 256> byte_tokens_;       // -1: not in the vocabulary
  std::optional<Token> unknown_;
  std::size_t longest_ = 0;  // bytes of the longest token
};

}  // namespace

std::unique_ptr<Encoder> make_byte_bpe(const Vocab& vocab) {
  return std::make_unique<ByteBpe>(vocab);
}

}  // namespace binhdan::text
