// BPE as SentencePiece does it (Kudo and Richardson 2018): spaces are U+2581, the characters of a text merge
// by score, and characters outside of the vocabulary become byte tokens.
#include <algorithm>
#include <optional>

#include "text/encoder.h"
#include "text/merge.h"
#include "text/space_marker.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

class SpmBpe final : public Encoder {
 public:
  explicit SpmBpe(const Vocab& vocab) : vocab_(vocab), byte_tokens_(vocab), cutter_(vocab) {
    for (const std::string& token : vocab.tokens) longest_ = std::max(longest_, token.size());
  }

  void encode(std::string_view text, bool starts, std::vector<Token>& out) const override {
    std::string marked = mark_spaces(text);
    if (starts && vocab_.add_space_prefix) marked.insert(0, kSpace);
    Merger merger;
    cutter_.cut(marked, [&](std::string_view word) { encode_word(word, merger, out); });
  }

  std::string bytes(Token token) const override { return marked_bytes(vocab_, token); }

 private:
  std::optional<Token> find(std::string_view text) const {
    if (text.size() > longest_) return std::nullopt;
    const auto token = vocab_.find(text);
    return token && vocab_.is_text(*token) ? token : std::nullopt;
  }

  void encode_word(std::string_view word, Merger& merger, std::vector<Token>& out) const {
    merger.clear();
    for (std::size_t i = 0; i < word.size();) {
      const std::size_t begin = i;
      next_codepoint(word, i);
      merger.add(static_cast<uint32_t>(begin), static_cast<uint32_t>(i - begin),
                 find(word.substr(begin, i - begin)).value_or(-1));
    }
    merger.run([&](const Symbol& left, const Symbol& right) -> std::optional<Merge> {
      const auto token = find(word.substr(left.begin, left.size + right.size));
      if (!token) return std::nullopt;
      return Merge{-vocab_.scores[*token], *token};
    });
    merger.each([&](const Symbol& symbol) {
      if (symbol.token >= 0)
        out.push_back(symbol.token);
      else
        byte_tokens_.spell(word.substr(symbol.begin, symbol.size), out);
    });
  }

  const Vocab& vocab_;
  const ByteTokens byte_tokens_;
  const WordCutter cutter_;
  std::size_t longest_ = 0;  // bytes of the longest token
};

}  // namespace

std::unique_ptr<Encoder> make_spm_bpe(const Vocab& vocab) {
  return std::make_unique<SpmBpe>(vocab);
}

}  // namespace binhdan::text
