#include "text/space_marker.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace binhdan::text {
namespace {

bool has_inner_space(std::string_view token) {
  for (std::size_t i = token.find(kSpace); i != std::string_view::npos;
       i = token.find(kSpace, i + kSpace.size()))
    if (i != 0 && !token.substr(0, i).ends_with(kSpace)) return true;
  return false;
}

}  // namespace

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

bool words_end_at_spaces(const Vocab& vocab) {
  for (Token id = 0; id < vocab.size(); ++id)
    if (vocab.is_text(id) && has_inner_space(vocab.tokens[id])) return false;
  return true;
}

std::size_t word_end(std::string_view text, std::size_t start) {
  while (text.substr(start).starts_with(kSpace)) start += kSpace.size();
  return std::min(text.find(kSpace, start), text.size());
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
