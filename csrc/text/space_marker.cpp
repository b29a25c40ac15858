#include "text/space_marker.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace binhdan::text {
std::string mark_spaces(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  for (const char c : text) c == ' ' ? out += kSpace : out += c;
  return out;
}

std::string marked_bytes(const Vocab& vocab, Token token) {
  std::string_view text = vocab.tokens[token];
  if (vocab.kinds[token] == TokenKind::byte) {
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

WordCutter::WordCutter(const Vocab& vocab) {
  for (Token id = 0; id < vocab.size(); ++id) {
    if (!vocab.is_text(id)) continue;
    const std::string_view token = vocab.tokens[id];
    for (std::size_t i = token.find(kSpace, 1); i != std::string_view::npos; i = token.find(kSpace, i + 1))
      if (!token.substr(0, i).ends_with(kSpace)) joined_.set(static_cast<uint8_t>(token[i - 1]));
  }
}

std::size_t WordCutter::word_end(std::string_view text, std::size_t start) const {
  while (true) {
    while (text.substr(start).starts_with(kSpace)) start += kSpace.size();
    start = text.find(kSpace, start);
    if (start == std::string_view::npos) return text.size();
    if (!joined_.test(static_cast<uint8_t>(text[start - 1]))) return start;
  }
}

ByteTokens::ByteTokens(const Vocab& vocab) : unknown_(vocab.unknown_in_text()) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    const auto token = vocab.find(name);
    const bool found = token && vocab.kinds[*token] == TokenKind::byte;
    tokens_[byte] = found ? *token : -1;
    complete_ = complete_ && found;
  }
}

void ByteTokens::spell(std::string_view text, std::vector<Token>& out) const {
  if (text == kSpace) text = " ";
  for (const char c : text) {
    const Token token = tokens_[static_cast<uint8_t>(c)];
    if (token >= 0)
      out.push_back(token);
    else if (unknown_)
      out.push_back(*unknown_);
  }
}

}  // namespace binhdan::text
