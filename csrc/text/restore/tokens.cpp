#include "text/restore/tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace binhdan::text::restore {
namespace {

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_alpha(char c) {
  return is_lower(c) || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
// A byte of a letter or digit; all bytes of characters past ASCII count.
bool is_word(char c) {
  return is_alpha(c) || is_digit(c) || static_cast<unsigned char>(c) >= 0x80;
}

enum class Class { space, letter, digit, combining, end, underscore, mark };

Class class_of(char32_t c) {
  if (c < 0x80) {
    const char b = static_cast<char>(c);
    if (is_alpha(b)) return Class::letter;
    if (is_digit(b)) return Class::digit;
    if (c == '\n' || c == '.' || c == '!' || c == '?') return Class::end;
    if (is_space(b) || (c >= 0x1c && c <= 0x1f)) return Class::space;
    return c == '_' ? Class::underscore : Class::mark;
  }
  if (c == 0x2026) return Class::end;
  if (letter_of(c).base != 0) return Class::letter;
  if (is_whitespace(c)) return Class::space;
  const std::string_view category = general_category(c);
  if (category[0] == 'L') return Class::letter;
  if (category[0] == 'N') return Class::digit;
  return category == "Mn" ? Class::combining : Class::mark;
}

// A letter starts at byte `i`. Words with and without marks are alike, so that restoring cannot change what is protected.
bool letter_at(std::string_view text, std::size_t i) {
  return i < text.size() && class_of(next_codepoint(text, i)) == Class::letter;
}
bool small_letter_at(std::string_view text, std::size_t i) {
  if (i >= text.size()) return false;
  if (static_cast<unsigned char>(text[i]) < 0x80) return is_lower(text[i]);
  return general_category(next_codepoint(text, i)) == "Ll";
}

}  // namespace

bool is_protected(std::string_view chunk) {
  if (chunk.size() < 2) return false;
  const auto at = [&](std::size_t i) { return i < chunk.size() ? chunk[i] : ' '; };
  if (chunk.starts_with("www.") || chunk.starts_with("WWW.") || chunk.starts_with("~/")) return true;
  std::size_t slashes = 0;
  for (std::size_t i = 0; i < chunk.size(); ++i) {
    const char c = chunk[i], after = at(i + 1), before = i > 0 ? chunk[i - 1] : ' ';
    switch (c) {
      case '@':
      case '\\':
      case '`':
        return true;
      case '#':  // a hashtag, a color, an anchor
      case '$':
      case '{':
      case '%':
        if (letter_at(chunk, i + 1) || after == '{' || after == '(') return true;
        break;
      case '_':
      case '=':
        if (is_word(before) && is_word(after)) return true;
        if (c == '_' && letter_at(chunk, i + 1)) return true;
        break;
      case '-':
        if ((i == 0 && is_alpha(after) && chunk.size() == 2) ||
            (i == 0 && after == '-' && letter_at(chunk, 2)) || after == '>')
          return true;
        break;
      case ':':
        if ((after == '/' && at(i + 2) == '/') || (after == ':' && letter_at(chunk, i + 2))) return true;
        break;
      case '/':
        ++slashes;
        if (i == 0 && letter_at(chunk, i + 1)) return true;
        if (slashes == 2 && is_word(after)) return true;
        break;
      case '.':
        if (is_word(before) && small_letter_at(chunk, i + 1)) return true;
        if (i == 0 && (letter_at(chunk, i + 1) || after == '/')) return true;
        break;
      case '(':
        if (after == ')' && is_word(before)) return true;
        break;
      case '<':
        if (letter_at(chunk, i + 1) || (after == '/' && letter_at(chunk, i + 2))) return true;
        break;
      case '&':
        if (letter_at(chunk, i + 1) && chunk.find(';', i) != std::string_view::npos) return true;
        break;
      default:
        break;
    }
  }
  return false;
}

bool TokenReader::next(Token& token) {
  while (at_ < text_.size()) {
    if (at_ >= chunk_end_) {
      if (is_space(text_[at_]) && text_[at_] != '\n') {
        ++at_;
        continue;
      }
      std::size_t end = at_;
      while (end < text_.size() && !is_space(text_[end])) ++end;
      chunk_end_ = end;
      if (is_protected(text_.substr(at_, end - at_))) {
        while (end > at_ + 1 && std::string_view(".!?").find(text_[end - 1]) != std::string_view::npos) --end;
        token = {};
        token.begin = static_cast<uint32_t>(at_);
        token.end = static_cast<uint32_t>(at_ = end);
        token.kind = kOther;
        return true;
      }
      if (end == at_) chunk_end_ = at_ + 1;  // a line end
    }
    std::size_t next = at_;
    const Class first = class_of(next_codepoint(text_, next));
    if (first == Class::space || first == Class::combining) {
      at_ = next;
      continue;
    }
    token = {};
    token.begin = static_cast<uint32_t>(at_);
    if (first == Class::letter || first == Class::digit) {
      read_word(token);
      return true;
    }
    token.kind = first == Class::end ? kEnd : kMark;
    while (first != Class::mark && next < text_.size()) {
      std::size_t after = next;
      if (class_of(next_codepoint(text_, after)) != first) break;
      next = after;
    }
    token.end = static_cast<uint32_t>(at_ = next);
    return true;
  }
  return false;
}

void TokenReader::read_word(Token& token) {
  bool vietnamese = true, number = false;
  std::size_t letters = 0;
  while (at_ < text_.size()) {
    std::size_t next = at_;
    const char32_t c = next_codepoint(text_, next);
    const Class kind = class_of(c);
    if (kind == Class::digit) {
      number = true;
    } else if (kind == Class::letter) {
      const Letter letter = letter_of(c);
      vietnamese = vietnamese && letter.base != 0 && token.letters.append(letter);
      ++letters;
    } else if (kind == Class::combining) {
      const Letter mark = mark_of(c);
      token.decomposed = true;
      vietnamese = vietnamese && mark.base != 0 && token.letters.add_mark(mark);
    } else {
      break;
    }
    at_ = next;
  }
  token.end = static_cast<uint32_t>(at_);
  if (number || !vietnamese) {
    token.kind = number ? kNumber : kOther;
    return;
  }
  const unsigned upper = token.letters.upper, all = (1u << token.letters.count) - 1;
  token.capital = upper == 1 && letters > 0;
  // Capitals inside a word: a name of a product or code.
  token.kind = upper == 0 || upper == 1 || upper == all ? uint16_t{kFirstForm} : uint16_t{kOther};
}

}  // namespace binhdan::text::restore
