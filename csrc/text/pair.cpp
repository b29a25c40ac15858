#include "text/pair.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

constexpr const char* kTemplate = "tokenizer.chat_template.rerank";
constexpr std::string_view kQuery = "{query}", kDocument = "{document}";
constexpr const char* kSeparator = "tokenizer.ggml.seperator_token_id";  // GGUF's spelling

std::vector<Token> fill_template(const Tokenizer& tokenizer, std::string_view form, std::string_view query,
                                 std::string_view document) {
  std::vector<Segment> segments;
  while (!form.empty()) {
    const std::size_t q = form.find(kQuery), d = form.find(kDocument), next = std::min(q, d);
    segments.push_back({form.substr(0, next), true});
    if (next == std::string_view::npos) break;
    segments.push_back({q < d ? query : document, false});
    form.remove_prefix(next + (q < d ? kQuery : kDocument).size());
  }
  return tokenizer.encode(segments, false);
}

// The token between the end of the query and the document. Files without the key add_sep_token that have a
// separator are older conversions of XLM-R, which need it. In WordPiece the separator is already the end.
std::optional<Token> separator(const gguf::File& file, const Vocab& vocab) {
  if (!file.find(kSeparator) || !vocab.add_eos || file.get_string("tokenizer.ggml.model") == "bert" ||
      !file.get_bool("tokenizer.ggml.add_sep_token", true))
    return std::nullopt;
  const uint64_t id = file.get_uint(kSeparator);
  if (std::cmp_greater_equal(id, vocab.size()))
    fail(Code::bad_format, file.path(), ": key '", kSeparator, "': expected a token below ", vocab.size(),
         ", got ", id);
  return static_cast<Token>(id);
}

}  // namespace

std::vector<Token> encode_pair(const gguf::File& file, const Tokenizer& tokenizer, std::string_view query,
                               std::string_view document) {
  const std::string first = nfc(query), second = nfc(document);
  const std::string_view form = file.get_string(kTemplate, "");
  if (!form.empty() && (form.find(kQuery) == form.npos || form.find(kDocument) == form.npos))
    fail(Code::bad_format, file.path(), ": key '", kTemplate, "': expected ", kQuery, " and ", kDocument,
         " in the template, got neither or one");
  if (!form.empty()) return fill_template(tokenizer, form, first, second);
  const Vocab& vocab = tokenizer.vocab();
  std::vector<Token> tokens = tokenizer.encode(first, true, false);
  const std::vector<Token> rest = tokenizer.encode(second, true, false);
  if (const auto token = separator(file, vocab)) tokens.push_back(*token);
  const bool skip_bos = vocab.add_bos && !rest.empty() && rest.front() == *vocab.bos;
  tokens.insert(tokens.end(), rest.begin() + skip_bos, rest.end());
  return tokens;
}

}  // namespace binhdan::text
