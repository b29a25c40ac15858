// BPE on the characters of UTF-8 text, with merges by rank (gemma4, sarvam-moe, whitespace): spaces are U+2581
// or, with the pre-tokenizer "whitespace", cut the text and are dropped. Characters outside of the vocabulary
// become byte tokens.
#include <algorithm>

#include "text/encoder.h"
#include "text/merge.h"
#include "text/pretokenizer.h"
#include "text/space_marker.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

class CharBpe final : public Encoder {
 public:
  explicit CharBpe(const Vocab& vocab)
      : vocab_(vocab),
        pre_(need_pretokenizer(vocab.pre)),
        splitter_(pre_),
        byte_tokens_(vocab),
        cutter_(vocab) {}

  void encode(std::string_view text, bool, std::vector<Token>& out) const override {
    Merger merger;
    if (pre_.spelling == Spelling::without_spaces) {
      const std::string lower = vocab_.lowercase ? lowercase(text) : std::string(text);
      splitter_.split(lower, [&](std::string_view word) {
        std::size_t i = 0;
        if (!is_whitespace(next_codepoint(word, i))) encode_word(word, merger, out);
      });
      return;
    }
    const std::string marked = mark_spaces(text);
    splitter_.split(marked, [&](std::string_view line) {
      if (line.front() == '\n' && take_whole(line, out)) return;
      cutter_.cut(line, [&](std::string_view word) { encode_word(word, merger, out); });
    });
  }

  std::string bytes(Token token) const override { return marked_bytes(vocab_, token); }

 private:
  static std::string lowercase(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size();) append_utf8(out, to_lower(next_codepoint(text, i)));
    return out;
  }

  // Some files lack the merges of newlines.
  bool take_whole(std::string_view newlines, std::vector<Token>& out) const {
    const auto token = vocab_.find(newlines);
    if (!token || !vocab_.is_text(*token)) return false;
    out.push_back(*token);
    return true;
  }

  void encode_word(std::string_view word, Merger& merger, std::vector<Token>& out) const {
    merger.clear();
    for (std::size_t i = 0; i < word.size();) {
      const std::size_t begin = i;
      next_codepoint(word, i);
      const auto token = vocab_.find(word.substr(begin, i - begin));
      merger.add(static_cast<uint32_t>(begin), static_cast<uint32_t>(i - begin),
                 token && vocab_.is_text(*token) ? *token : -1);
    }
    merger.run([this](const Symbol& left, const Symbol& right) {
      return vocab_.merges.find({left.token, right.token});
    });
    merger.each([&](const Symbol& symbol) {
      if (symbol.token >= 0)
        out.push_back(symbol.token);
      else
        byte_tokens_.spell(word.substr(symbol.begin, symbol.size), out);
    });
  }

  const Vocab& vocab_;
  const Pretokenizer& pre_;
  const WordSplitter splitter_;
  const ByteTokens byte_tokens_;
  const WordCutter cutter_;
};

}  // namespace

std::unique_ptr<Encoder> make_char_bpe(const Vocab& vocab) {
  return std::make_unique<CharBpe>(vocab);
}

}  // namespace binhdan::text
