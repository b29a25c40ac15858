// SentencePiece's unigram model (Kudo 2018, "Subword Regularization"): of all ways to cut a text into tokens, the
// one with the highest sum of scores. Text is normalized first, with the precompiled charsmap.
#include <algorithm>
#include <limits>

#include "base/error.h"
#include "text/charsmap.h"
#include "text/encoder.h"
#include "text/space_marker.h"
#include "text/trie.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

constexpr double kUnknownPenalty = 10;  // SentencePiece's kUnkPenalty
constexpr std::size_t kMaxNormalized = 1 << 30;

std::vector<std::pair<std::string_view, Token>> text_tokens(const Vocab& vocab) {
  std::vector<std::pair<std::string_view, Token>> tokens;
  for (Token id = 0; id < vocab.size(); ++id)
    if (vocab.kinds[id] == TokenKind::normal && !vocab.tokens[id].empty())
      tokens.emplace_back(vocab.tokens[id], id);
  return tokens;
}

class Unigram final : public Encoder {
 public:
  explicit Unigram(const Vocab& vocab)
      : vocab_(vocab),
        charsmap_(vocab.charsmap.empty() ? Charsmap() : Charsmap(vocab.charsmap)),
        trie_(text_tokens(vocab)),
        byte_tokens_(vocab),
        cutter_(vocab) {
    double lowest = 0;
    bool any = false;
    for (Token id = 0; id < vocab.size(); ++id)
      if (vocab.kinds[id] == TokenKind::normal) {
        lowest = any ? std::min<double>(lowest, vocab.scores[id]) : vocab.scores[id];
        any = true;
      }
    unknown_score_ = lowest - kUnknownPenalty;
  }

  void encode(std::string_view text, bool starts, std::vector<Token>& out) const override {
    const std::string normalized = normalize(text, starts && vocab_.add_space_prefix);
    std::vector<Step> steps;
    cutter_.cut(normalized, [&](std::string_view word) { encode_word(word, steps, out); });
  }

  std::string bytes(Token token) const override { return marked_bytes(vocab_, token); }

 private:
  static constexpr Token kUnknown = -1, kUnreached = -2;
  // The last token of the best way to a place.
  struct Step {
    double score;
    uint32_t begin;
    Token token;
  };

  // As SentencePiece's Normalizer::Normalize.
  std::string normalize(std::string_view text, bool prefix) const {
    std::string out;
    out.reserve(text.size() + text.size() / 2);
    if (prefix) out += kSpace;
    bool after_space = vocab_.remove_extra_whitespaces;
    while (!text.empty()) {
      std::string replacement;
      std::string_view part = take_part(text, replacement);
      while (after_space && part.starts_with(' ')) part.remove_prefix(1);
      if (part.empty()) continue;
      after_space = vocab_.remove_extra_whitespaces && part.ends_with(' ');
      for (const char c : part) c == ' ' ? out += kSpace : out += c;
      if (out.size() >= kMaxNormalized)
        fail(Code::too_large, "text: expected less than ", kMaxNormalized, " bytes after normalization");
    }
    while (vocab_.remove_extra_whitespaces && out.ends_with(kSpace)) out.resize(out.size() - kSpace.size());
    return out;
  }

  // Removes one key of the charsmap or one character from `text` and returns what replaces it.
  std::string_view take_part(std::string_view& text, std::string& invalid) const {
    const Charsmap::Match match = charsmap_.find(text);
    if (match.size > 0) {
      text.remove_prefix(match.size);
      return match.replacement;
    }
    std::size_t size = 0;
    const char32_t c = next_codepoint(text, size);
    std::string_view part = text.substr(0, size);
    text.remove_prefix(size);
    if (c == kReplacement && size == 1) {
      append_utf8(invalid, kReplacement);
      part = invalid;
    }
    return part;
  }

  // Viterbi's algorithm. `steps` is memory to work with.
  void encode_word(std::string_view word, std::vector<Step>& steps, std::vector<Token>& out) const {
    steps.assign(word.size() + 1, {0, 0, kUnreached});
    for (std::size_t begin = 0; begin < word.size();) {
      const double score = steps[begin].score;
      const auto reach = [&](std::size_t end, double added, Token token) {
        Step& step = steps[end];
        if (step.token == kUnreached || score + added > step.score)
          step = {score + added, static_cast<uint32_t>(begin), token};
      };
      std::size_t end = begin;
      next_codepoint(word, end);
      bool known = false;  // whether the character alone is a token
      trie_.prefixes(word.substr(begin), [&](std::size_t size, Token token) {
        known = known || begin + size == end;
        reach(begin + size, vocab_.scores[token], token);
      });
      if (!known) reach(end, unknown_score_, kUnknown);
      begin = end;
    }
    const auto first = static_cast<std::ptrdiff_t>(out.size());
    for (std::size_t end = word.size(); end > 0;) {
      std::size_t begin = steps[end].begin;
      if (steps[end].token != kUnknown) {
        out.push_back(steps[end].token);
      } else {
        while (begin > 0 && steps[begin].token == kUnknown) begin = steps[begin].begin;
        append_unknown(word.substr(begin, end - begin), out);
      }
      end = begin;
    }
    std::reverse(out.begin() + first, out.end());
  }

  // Appends the tokens of unknown characters in reverse: their bytes, or one token for all.
  void append_unknown(std::string_view text, std::vector<Token>& out) const {
    const auto first = static_cast<std::ptrdiff_t>(out.size());
    if (byte_tokens_.complete())
      byte_tokens_.spell(text, out);
    else if (const auto unknown = vocab_.unknown_in_text())
      out.push_back(*unknown);
    std::reverse(out.begin() + first, out.end());
  }

  const Vocab& vocab_;
  const Charsmap charsmap_;
  const Trie trie_;
  const ByteTokens byte_tokens_;
  const WordCutter cutter_;
  double unknown_score_;
};

}  // namespace

std::unique_ptr<Encoder> make_unigram(const Vocab& vocab) {
  return std::make_unique<Unigram>(vocab);
}

}  // namespace binhdan::text
