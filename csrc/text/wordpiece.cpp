// WordPiece as BERT does it (Devlin et al. 2019): text is cleaned and cut into words, and a word into the longest
// tokens from its start. In GGUF, U+2581 marks the tokens that start a word; tokenizer.json marks the others.
#include <algorithm>

#include "text/encoder.h"
#include "text/space_marker.h"
#include "text/trie.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

constexpr std::size_t kMaxWordCharacters = 100;  // a longer word is unknown, as in BERT

bool is_cjk(char32_t c) {  // as BERT's tokenizer has it
  constexpr char32_t kRanges[][2] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                     {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F},
                                     {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [c](const auto& range) { return range[0] <= c && c <= range[1]; });
}

bool is_control(char32_t c) {
  return c != U'\t' && c != U'\n' && c != U'\r' && (c == kReplacement || general_category(c)[0] == 'C');
}

bool is_punctuation(char32_t c) {
  const bool ascii_symbol = c > 0x20 && c < 0x7F && general_category(c)[0] == 'S';
  return ascii_symbol || general_category(c)[0] == 'P';
}

// The tokens that start a word, without their mark, or the others. U+2581 alone continues a word.
std::vector<std::pair<std::string_view, Token>> text_tokens(const Vocab& vocab, bool starts) {
  std::vector<std::pair<std::string_view, Token>> tokens;
  for (Token id = 0; id < vocab.size(); ++id) {
    std::string_view text = vocab.tokens[id];
    const bool marked = text.starts_with(kSpace) && text != kSpace;
    if (!vocab.is_text(id) || text.empty() || marked != starts) continue;
    if (starts) text.remove_prefix(kSpace.size());
    tokens.emplace_back(text, id);
  }
  return tokens;
}

class WordPiece final : public Encoder {
 public:
  explicit WordPiece(const Vocab& vocab)
      : vocab_(vocab), starts_(text_tokens(vocab, true)), continues_(text_tokens(vocab, false)) {}

  void encode(std::string_view text, bool, std::vector<Token>& out) const override {
    Word word;
    std::vector<char32_t> parts;
    for (std::size_t i = 0; i < text.size();) {
      const char32_t c = next_codepoint(text, i);
      if (is_control(c)) continue;
      if (is_whitespace(c)) {
        finish(word, out);
        continue;
      }
      parts.clear();
      vocab_.strip_accents ? decompose(c, parts) : parts.push_back(c);
      for (const char32_t part : parts) {
        if (vocab_.strip_accents && general_category(part) == "Mn") continue;
        const bool alone = is_cjk(c) || is_punctuation(part);
        if (alone) finish(word, out);
        append_lower(part, word);
        if (alone) finish(word, out);
      }
    }
    finish(word, out);
  }

  std::string bytes(Token token) const override { return marked_bytes(vocab_, token); }

 private:
  struct Word {
    std::string text;
    std::size_t characters = 0;
  };

  void append_lower(char32_t c, Word& word) const {
    append_utf8(word.text, vocab_.lowercase ? to_lower(c) : c);
    ++word.characters;
    if (vocab_.lowercase && c == 0x130) {  // its lower case is i with a dot
      append_utf8(word.text, 0x307);
      ++word.characters;
    }
  }

  // Appends the tokens of the word, or the unknown token if they do not cover it, and clears the word.
  void finish(Word& word, std::vector<Token>& out) const {
    if (word.text.empty()) return;
    const std::size_t first = out.size();
    const bool known = word.characters <= kMaxWordCharacters && encode_word(word.text, out);
    if (!known) {
      out.resize(first);
      if (const auto unknown = vocab_.unknown_in_text()) out.push_back(*unknown);
    }
    word = {};
  }

  bool encode_word(std::string_view word, std::vector<Token>& out) const {
    for (std::size_t begin = 0; begin < word.size();) {
      std::size_t longest = 0;
      Token token = -1;
      (begin == 0 ? starts_ : continues_).prefixes(word.substr(begin), [&](std::size_t size, Token found) {
        longest = size;
        token = found;
      });
      if (longest == 0) return false;
      out.push_back(token);
      begin += longest;
    }
    return true;
  }

  const Vocab& vocab_;
  const Trie starts_, continues_;
};

}  // namespace

std::unique_ptr<Encoder> make_wordpiece(const Vocab& vocab) {
  return std::make_unique<WordPiece>(vocab);
}

}  // namespace binhdan::text
