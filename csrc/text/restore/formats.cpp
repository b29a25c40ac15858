#include "text/restore/formats.h"

#include <algorithm>

namespace binhdan::text::restore {
namespace {

bool is_alpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool starts_with_lower(std::string_view text, std::string_view lower) {
  if (text.size() < lower.size()) return false;
  for (std::size_t i = 0; i < lower.size(); ++i)
    if ((text[i] >= 'A' && text[i] <= 'Z' ? text[i] + ('a' - 'A') : text[i]) != lower[i]) return false;
  return true;
}

class Scanner {
 public:
  Scanner(std::string_view text, std::vector<Span>& out) : text_(text), out_(out) {}

  void markup(bool markdown) {
    std::size_t from = 0, i = 0;
    while (i < text_.size()) {
      std::size_t end = i;
      const char c = text_[i];
      if (c == '<') {
        end = after_tag(i);
      } else if (c == '&') {
        end = after_entity(i);
      } else if (markdown && (c == '`' || c == '~')) {
        end = after_code(i);
      } else if (markdown && c == ']' && at(i + 1) == '(') {
        const std::size_t close = text_.find_first_of(")\n", i + 2);
        if (close != std::string_view::npos) end = close;
      }
      if (end == i) {
        ++i;
        continue;
      }
      add(from, i);
      from = i = end;
    }
    add(from, i);
  }

  void subtitles() {
    for_each_line([&](std::size_t begin, std::size_t end) {
      const std::string_view line = text_.substr(begin, end - begin);
      if (line.find("-->") != std::string_view::npos || line.starts_with("WEBVTT")) return;
      std::size_t from = begin;
      for (std::size_t i = begin; i < end;) {
        const char close = text_[i] == '<' ? '>' : text_[i] == '{' ? '}' : '\0';
        const std::size_t found = close ? line.find(close, i - begin) : std::string_view::npos;
        if (found == std::string_view::npos) {
          ++i;
          continue;
        }
        add(from, i);
        from = i = begin + found + 1;
      }
      add(from, end);
    });
  }

  void csv() {
    bool header = true;
    for_each_line([&](std::size_t begin, std::size_t end) {
      if (!header) add(begin, end);
      header = false;
    });
  }

  void json() {
    for (std::size_t i = 0; i < text_.size();) {
      if (text_[i] != '"') {
        ++i;
        continue;
      }
      const std::size_t end = after_string(i, '"', true);
      std::size_t next = end;
      while (next < text_.size() && std::string_view(" \t\r\n").find(text_[next]) != std::string_view::npos)
        ++next;
      if (at(next) != ':') add_string(i + 1, end - 1);
      i = end;
    }
  }

  void po() {
    bool in_translation = false, empty_id = false, in_id = false;
    for_each_line([&](std::size_t begin, std::size_t end) {
      const std::string_view line = text_.substr(begin, end - begin);
      if (line.starts_with("msgid")) {
        in_id = true;
        in_translation = false;
        empty_id = line.find("\"\"") != std::string_view::npos;
      } else if (line.starts_with("msgstr")) {
        in_translation = true;
        in_id = false;
      } else if (!line.starts_with('"')) {
        in_translation = in_id = false;
      } else if (in_id) {
        empty_id = false;
      }
      const std::size_t open = line.find('"');
      if (!in_translation || empty_id || open == std::string_view::npos) return;
      add_string(begin + open + 1, std::min(end, after_string(begin + open, '"', false) - 1));
    });
  }

  // Comments of C-like languages and of those with '#'.
  void code() {
    for (std::size_t i = 0; i < text_.size();) {
      const char c = text_[i];
      if (c == '"' || c == '\'') {
        i = after_string(i, c, false);
      } else if (c == '#' || (c == '/' && at(i + 1) == '/')) {
        const std::size_t end = std::min(text_.find('\n', i), text_.size());
        add(i + 1, end);
        i = end;
      } else if (c == '/' && at(i + 1) == '*') {
        const std::size_t close = std::min(text_.find("*/", i + 2), text_.size());
        add(i + 2, close);
        i = std::min(text_.size(), close + 2);
      } else {
        ++i;
      }
    }
  }

 private:
  char at(std::size_t i) const { return i < text_.size() ? text_[i] : '\0'; }

  void add(std::size_t begin, std::size_t end) {
    if (begin < end) out_.push_back({begin, end});
  }
  // The parts of a quoted string between its escapes.
  void add_string(std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      if (text_[i] != '\\') continue;
      add(begin, i);
      std::size_t skip = at(i + 1) == 'u' ? 6 : 2;
      i += skip - 1;
      begin = std::min(end, i + 1);
    }
    add(begin, end);
  }

  template <typename Body>
  void for_each_line(Body body) {
    for (std::size_t begin = 0; begin < text_.size();) {
      const std::size_t end = std::min(text_.find('\n', begin), text_.size() - 1) + 1;
      body(begin, end);
      begin = end;
    }
  }

  // Past the closing quote, or past the end. Without `lines` a line end closes the string, too.
  std::size_t after_string(std::size_t i, char quote, bool lines) const {
    for (++i; i < text_.size(); ++i) {
      if (text_[i] == '\\') {
        ++i;
      } else if (text_[i] == quote || (!lines && text_[i] == '\n')) {
        return i + 1;
      }
    }
    return text_.size() + 1 > i ? text_.size() : i;
  }

  // Past the tag, comment, script or style that starts at i; i when there is none.
  std::size_t after_tag(std::size_t i) const {
    const char next = at(i + 1);
    if (!is_alpha(next) && next != '/' && next != '!' && next != '?') return i;
    const std::string_view rest = text_.substr(i);
    if (rest.starts_with("<!--")) return past(i, "-->");
    for (const std::string_view name : {"script", "style", "code", "pre", "textarea"}) {
      if (!starts_with_lower(rest.substr(1), name) || is_alpha(at(i + 1 + name.size()))) continue;
      for (std::size_t close = i; (close = text_.find("</", close + 1)) != std::string_view::npos;)
        if (starts_with_lower(text_.substr(close + 2), name)) return past(close, ">");
      return text_.size();
    }
    char quote = '\0';
    for (std::size_t k = i + 1; k < text_.size(); ++k) {
      const char c = text_[k];
      if (quote != '\0') {
        if (c == quote) quote = '\0';
      } else if (c == '"' || c == '\'') {
        quote = c;
      } else if (c == '>') {
        return k + 1;
      }
    }
    return text_.size();
  }
  std::size_t past(std::size_t i, std::string_view end) const {
    const std::size_t found = text_.find(end, i);
    return found == std::string_view::npos ? text_.size() : found + end.size();
  }
  std::size_t after_entity(std::size_t i) const {
    constexpr std::size_t kMaxEntity = 32;
    for (std::size_t k = i + 1; k < text_.size() && k < i + kMaxEntity; ++k) {
      if (text_[k] == ';') return k > i + 1 ? k + 1 : i;
      if (!is_alpha(text_[k]) && text_[k] != '#' && !(text_[k] >= '0' && text_[k] <= '9')) break;
    }
    return i;
  }
  // Past a code span or a fenced block that starts at i.
  std::size_t after_code(std::size_t i) const {
    std::size_t run = i;
    while (run < text_.size() && text_[run] == text_[i]) ++run;
    const std::string_view fence = text_.substr(i, run - i);
    if (text_[i] == '~' && fence.size() < 3) return i;
    for (std::size_t close = text_.find(fence, run); close != std::string_view::npos;) {
      std::size_t end = close;
      while (end < text_.size() && text_[end] == text_[i]) ++end;
      if (end - close == fence.size()) return end;
      close = text_.find(fence, end);
    }
    return fence.size() >= 3 ? text_.size() : run;
  }

  std::string_view text_;
  std::vector<Span>& out_;
};

}  // namespace

void find_text(std::string_view text, Format format, std::vector<Span>& out) {
  out.clear();
  Scanner scanner(text, out);
  switch (format) {
    case Format::text:
      if (!text.empty()) out.push_back({0, text.size()});
      break;
    case Format::html:
    case Format::markdown:
      scanner.markup(format == Format::markdown);
      break;
    case Format::srt:
      scanner.subtitles();
      break;
    case Format::csv:
      scanner.csv();
      break;
    case Format::json:
      scanner.json();
      break;
    case Format::po:
      scanner.po();
      break;
    case Format::code:
      scanner.code();
      break;
  }
}

}  // namespace binhdan::text::restore
