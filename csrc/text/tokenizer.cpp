#include "text/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/encoder.h"
#include "text/special_tokens.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

constexpr std::size_t kMaxBytes = 1 << 30;

constexpr std::string_view kBlanks = " \t\n\v\f\r";

bool is_in(const std::vector<bool>& set, Token token) {
  return !set.empty() && set[static_cast<std::size_t>(token)];
}
std::string_view without_blanks_after(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}
std::string_view without_blanks_before(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kBlanks), text.size()));
}

template <typename Predicate>
SpecialTokens special_tokens(const Vocab& vocab, Predicate included) {
  std::vector<std::pair<std::string_view, Token>> found;
  for (Token token = 0; token < vocab.size(); ++token)
    if (included(token)) found.emplace_back(vocab.tokens[token], token);
  return SpecialTokens(found);
}

std::unique_ptr<Encoder> make_encoder(const Vocab& vocab) {
  switch (vocab.model) {
    case VocabModel::byte_bpe:
      return make_byte_bpe(vocab);
    case VocabModel::char_bpe:
      return make_char_bpe(vocab);
    case VocabModel::spm_bpe:
      return make_spm_bpe(vocab);
    case VocabModel::unigram:
      return make_unigram(vocab);
    case VocabModel::wordpiece:
      return make_wordpiece(vocab);
  }
  fail(Code::internal, "vocabulary: unknown model");
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(Vocab v);

  bool is_user_defined(Token token) const { return vocab.kinds[token] == TokenKind::user_defined; }
  // Whether text after this token counts as the start of a text, before which the vocabulary may add a space.
  bool starts_after(Token token) const { return vocab.is_special(token) || is_user_defined(token); }
  void check(Token token) const;
  std::string_view piece(Token token) const;
  void append_plain(std::string_view text, std::vector<Token>& out) const;
  void append_decoded(Token token, bool special, bool& starts, std::string& out) const;

  Vocab vocab;
  std::unique_ptr<Encoder> encoder;
  SpecialTokens control, user_defined;
  std::string pieces;                // of all tokens, one after another
  std::vector<std::size_t> offsets;  // the start of each piece, and the end of the last
};

Tokenizer::Impl::Impl(Vocab v) : vocab(std::move(v)) {
  encoder = make_encoder(vocab);
  control = special_tokens(vocab, [this](Token token) { return vocab.is_special(token); });
  user_defined = special_tokens(vocab, [this](Token token) { return is_user_defined(token); });
  offsets.reserve(vocab.tokens.size() + 1);
  for (Token token = 0; token < vocab.size(); ++token) {
    offsets.push_back(pieces.size());
    if (starts_after(token))
      pieces += vocab.tokens[token];
    else if (vocab.kinds[token] != TokenKind::unused)
      pieces += encoder->bytes(token);
  }
  offsets.push_back(pieces.size());
}

void Tokenizer::Impl::check(Token token) const {
  if (token < 0 || token >= vocab.size())
    fail(Code::invalid_argument, "token: expected 0 to ", vocab.size() - 1, ", got ", token);
}

std::string_view Tokenizer::Impl::piece(Token token) const {
  return std::string_view(pieces).substr(offsets[token], offsets[token + 1] - offsets[token]);
}

// Appends the tokens of text without control tokens.
void Tokenizer::Impl::append_plain(std::string_view text, std::vector<Token>& out) const {
  const auto append = [&](std::string_view part) {
    if (!part.empty()) encoder->encode(part, out.empty() || starts_after(out.back()), out);
  };
  std::size_t done = 0;
  bool strips = false;  // the token before has taken the white space that follows
  const auto between = [&](std::size_t end) {
    const std::string_view part = text.substr(done, end - done);
    return strips ? without_blanks_before(part) : part;
  };
  for (const SpecialTokens::Match& match : user_defined.find(text)) {
    const std::string_view part = between(match.begin);
    append(is_in(vocab.strips_left, match.token) ? without_blanks_after(part) : part);
    out.push_back(match.token);
    done = match.begin + match.size;
    strips = is_in(vocab.strips_right, match.token);
  }
  append(between(text.size()));
}

void Tokenizer::Impl::append_decoded(Token token, bool special, bool& starts, std::string& out) const {
  check(token);
  std::string_view text = piece(token);
  if (vocab.is_special(token) && !special) text = {};
  // The unknown token stands for text.
  const bool restarts = starts_after(token) && vocab.kinds[token] != TokenKind::unknown;
  if (starts && !restarts && vocab.add_space_prefix && text.starts_with(' ')) text.remove_prefix(1);
  starts = restarts;
  out += text;
}

Tokenizer::Tokenizer(Vocab vocab) : impl_(std::make_unique<Impl>(std::move(vocab))) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

const Vocab& Tokenizer::vocab() const {
  return impl_->vocab;
}

std::vector<Token> Tokenizer::encode(std::string_view text, bool add_special, bool parse_special) const {
  const Segment segment{text, parse_special};
  return encode({&segment, 1}, add_special);
}

std::vector<Token> Tokenizer::encode(std::span<const Segment> segments, bool add_special) const {
  std::size_t bytes = 0;
  for (const Segment& segment : segments) bytes += std::min(segment.text.size(), kMaxBytes);
  if (bytes >= kMaxBytes)
    fail(Code::too_large, "text: expected less than ", kMaxBytes, " bytes, got ", bytes, " or more");

  std::vector<Token> out;
  if (add_special && vocab().add_bos) out.push_back(*vocab().bos);
  std::string plain;    // since the last control token
  bool strips = false;  // that token takes the white space after it
  const auto add_plain = [&](std::string_view text) {
    if (strips && plain.empty()) text = without_blanks_before(text);
    plain += text;
  };
  for (const Segment& segment : segments) {
    std::size_t done = 0;
    if (segment.markup) {
      for (const SpecialTokens::Match& match : impl_->control.find(segment.text)) {
        add_plain(segment.text.substr(done, match.begin - done));
        if (is_in(vocab().strips_left, match.token)) plain.resize(without_blanks_after(plain).size());
        impl_->append_plain(plain, out);
        plain.clear();
        out.push_back(match.token);
        done = match.begin + match.size;
        strips = is_in(vocab().strips_right, match.token);
      }
    }
    add_plain(segment.text.substr(done));
  }
  impl_->append_plain(plain, out);
  if (add_special && vocab().add_separator)
    out.push_back(*vocab().separator);
  else if (add_special && vocab().add_eos)
    out.push_back(*vocab().eos);
  return out;
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool special) const {
  std::string out;
  bool starts = true;
  for (const Token token : tokens) impl_->append_decoded(token, special, starts, out);
  return out;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::optional<Token> previous)
    : tokenizer_(&tokenizer) {
  if (!previous) return;
  tokenizer.impl_->check(*previous);
  starts_ = tokenizer.impl_->starts_after(*previous);
}

std::string StreamDecoder::push(Token token) {
  tokenizer_->impl_->append_decoded(token, false, starts_, pending_);
  const std::size_t complete = complete_prefix(pending_);
  std::string text = replace_invalid(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text = replace_invalid(pending_);
  pending_.clear();
  return text;
}

}  // namespace binhdan::text
