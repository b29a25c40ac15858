// Scanners for the regular expressions that models were trained with; a comment above each function has the
// expression. \s, \p{L}, \p{M} and \p{N} are Unicode's. A byte that is not UTF-8 counts as U+FFFD, a symbol.
#include "text/pretokenizer.h"

#include "text/unicode.h"

namespace binhdan::text {
namespace {

enum class Kind { letter, mark, number, newline, space /* other \s */, symbol, end };

Kind kind_of(char32_t c) {
  if (c == '\r' || c == '\n') return Kind::newline;
  if (is_letter(c)) return Kind::letter;
  if (is_number(c)) return Kind::number;
  if (is_whitespace(c)) return Kind::space;
  return is_mark(c) ? Kind::mark : Kind::symbol;
}

// Reads one character after another.
class Reader {
 public:
  Reader(std::string_view text, std::size_t start) : text_(text), next_(start) { advance(); }

  Kind kind() const { return kind_; }
  char32_t c() const { return c_; }
  std::size_t at() const { return at_; }
  void advance() {
    at_ = next_;
    kind_ = Kind::end;
    if (at_ == text_.size()) return;
    c_ = next_codepoint(text_, next_);
    kind_ = kind_of(c_);
  }
  template <typename Predicate>
  void skip(Predicate accepted) {
    while (kind_ != Kind::end && accepted(kind_)) advance();
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0, next_;
  char32_t c_ = 0;
  Kind kind_ = Kind::end;
};

bool is_space(Kind kind) {
  return kind == Kind::space || kind == Kind::newline;
}

// 's|'t|'re|'ve|'m|'ll|'d: returns the end of the match, or `start` when there is none.
std::size_t contraction_end(std::string_view text, std::size_t start, bool any_case) {
  if (text[start] != '\'') return start;
  const auto letter = [&](std::size_t i) -> char {
    if (i >= text.size()) return 0;
    return any_case && text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] | 0x20) : text[i];
  };
  const char first = letter(start + 1), second = letter(start + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return start + 2;
  const bool pair = ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l');
  return pair ? start + 3 : start;
}

// \s+(?!\S)|\s+: all white space except the last character before a word, which belongs to the word.
std::size_t space_end(Reader reader) {
  const std::size_t start = reader.at();
  std::size_t last = start;
  for (; is_space(reader.kind()); reader.advance()) last = reader.at();
  return reader.kind() == Kind::end || last == start ? reader.at() : last;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t gpt2(std::string_view text, std::size_t start) {
  if (const std::size_t end = contraction_end(text, start, false); end != start) return end;
  Reader reader(text, start);
  if (reader.c() == ' ') reader.advance();
  if (is_space(reader.kind()) || reader.kind() == Kind::end) return space_end(Reader(text, start));
  const auto group = [](Kind kind) { return kind == Kind::mark ? Kind::symbol : kind; };
  const Kind first = group(reader.kind());
  reader.skip([=](Kind kind) { return group(kind) == first; });
  return reader.at();
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,Digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
// \s+(?!\S)|\s+   and with Marks: [\p{L}\p{M}] for \p{L}, except in the first class.
template <int Digits, bool Marks>
std::size_t cl100k(std::string_view text, std::size_t start) {
  const auto in_word = [](Kind kind) { return kind == Kind::letter || (Marks && kind == Kind::mark); };
  const auto is_symbol = [](Kind kind) { return kind == Kind::symbol || (!Marks && kind == Kind::mark); };

  if (const std::size_t end = contraction_end(text, start, true); end != start) return end;
  Reader reader(text, start);
  if (reader.kind() == Kind::number) {
    for (int n = 0; n < Digits && reader.kind() == Kind::number; ++n) reader.advance();
    return reader.at();
  }
  Reader second = reader;
  second.advance();
  if (in_word(reader.kind()) || (reader.kind() != Kind::newline && in_word(second.kind()))) {
    second.skip(in_word);
    return second.at();
  }
  if (is_symbol(reader.kind()) || (reader.c() == ' ' && is_symbol(second.kind()))) {
    second.skip(is_symbol);
    second.skip([](Kind kind) { return kind == Kind::newline; });
    return second.at();
  }
  std::size_t lines_end = start;
  for (; is_space(reader.kind());) {
    const bool newline = reader.kind() == Kind::newline;
    reader.advance();
    if (newline) lines_end = reader.at();
  }
  return lines_end != start ? lines_end : space_end(Reader(text, start));
}

constexpr Pretokenizer kTable[] = {
    {"gpt-2", gpt2},
    {"default", gpt2},
    {"mpt", gpt2},
    {"phi-2", gpt2},
    {"olmo", gpt2},
    {"qwen2", cl100k<1, false>},
    {"deepseek-r1-qwen", cl100k<1, false>},
    {"stablelm2", cl100k<1, false>},
    {"megrez", cl100k<1, false>},
    {"qwen35", cl100k<1, true>},
    {"llama-bpe", cl100k<3, false>, true, true},
    {"llama3", cl100k<3, false>, true, true},
    {"llama-v3", cl100k<3, false>, true, true},
    {"falcon3", cl100k<3, false>, true, true},
    {"pixtral", cl100k<3, false>, true, true},
    {"lfm2", cl100k<3, false>, true, true},
    {"smaug-bpe", cl100k<3, false>},
    {"dbrx", cl100k<3, false>},
};

}  // namespace

const Pretokenizer* find_pretokenizer(std::string_view name) {
  for (const Pretokenizer& entry : kTable)
    if (entry.name == name) return &entry;
  return nullptr;
}

}  // namespace binhdan::text
