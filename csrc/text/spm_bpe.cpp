// BPE as SentencePiece does it (Kudo and Richardson 2018): spaces are U+2581, the characters of a text merge
// by score, and characters outside of the vocabulary become byte tokens.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>

#include "text/encoder.h"
#include "text/merge.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

constexpr std::string_view kSpace = "▁";

class SpmBpe final : public Encoder {
 public:
  explicit SpmBpe(const Vocab& vocab) : vocab_(vocab), unknown_(vocab.unknown_in_text()) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof name, "<0x%02X>", byte);
      const auto token = vocab.find(name);
      const bool is_byte = token && vocab.kinds[*token] == TokenKind::byte;
      byte_tokens_[byte] = is_byte ? *token : -1;
    }
    for (Token id = 0; id < vocab.size(); ++id) {
      const std::string& token = vocab.tokens[id];
      longest_ = std::max(longest_, token.size());
      words_end_at_spaces_ = words_end_at_spaces_ && !(vocab.is_text(id) && has_inner_space(token));
    }
  }

  void encode(std::string_view text, bool starts, std::vector<Token>& out) const override {
    std::string escaped;
    escaped.reserve(text.size() + text.size() / 2);
    if (starts && vocab_.add_space_prefix) escaped += kSpace;
    for (const char c : text) c == ' ' ? escaped += kSpace : escaped += c;
    Merger merger;
    for (std::size_t start = 0; start < escaped.size();) {
      const std::size_t end = words_end_at_spaces_ ? word_end(escaped, start) : escaped.size();
      encode_word(std::string_view(escaped).substr(start, end - start), merger, out);
      start = end;
    }
  }

  std::string bytes(Token token) const override {
    std::string_view text = vocab_.tokens[token];
    if (vocab_.kinds[token] == TokenKind::byte) {
      unsigned byte = 0;  // "<0x0A>"
      if (text.size() == 6) std::from_chars(text.data() + 3, text.data() + 5, byte, 16);
      return std::string(1, static_cast<char>(byte));
    }
    std::string out;
    for (std::size_t space; (space = text.find(kSpace)) != std::string_view::npos;) {
      out.append(text.substr(0, space)).push_back(' ');
      text.remove_prefix(space + kSpace.size());
    }
    return out.append(text);
  }

 private:
  // Whether the token has a space after another character.
  static bool has_inner_space(std::string_view token) {
    for (std::size_t i = token.find(kSpace); i != std::string_view::npos;
         i = token.find(kSpace, i + kSpace.size()))
      if (i != 0 && !token.substr(0, i).ends_with(kSpace)) return true;
    return false;
  }

  // When no token spans the start of a run of spaces, no merge does, so words are merged one at a time.
  static std::size_t word_end(std::string_view text, std::size_t start) {
    while (text.substr(start).starts_with(kSpace)) start += kSpace.size();
    return std::min(text.find(kSpace, start), text.size());
  }

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
        spell(word.substr(symbol.begin, symbol.size), out);
    });
  }

  void spell(std::string_view character, std::vector<Token>& out) const {
    if (character == kSpace) character = " ";
    for (const char c : character) {
      const Token token = byte_tokens_[static_cast<uint8_t>(c)];
      if (token >= 0)
        out.push_back(token);
      else if (unknown_)
        out.push_back(*unknown_);
    }
  }

  const Vocab& vocab_;
  std::array<Token, 256> byte_tokens_;  // -1: not in the vocabulary
  std::optional<Token> unknown_;
  std::size_t longest_ = 0;  // bytes of the longest token
  bool words_end_at_spaces_ = true;
};

}  // namespace

std::unique_ptr<Encoder> make_spm_bpe(const Vocab& vocab) {
  return std::make_unique<SpmBpe>(vocab);
}

}  // namespace binhdan::text
