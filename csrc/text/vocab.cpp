#include "text/vocab.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "base/utf8.h"
#include "text/chat_template.h"
#include "text/pretokenizer.h"

namespace binhdan::text {
namespace {

constexpr std::size_t kMaxEntries = 1 << 24;  // tokens or merges; a float holds such ranks exactly

constexpr char kTokens[] = "tokenizer.ggml.tokens";
constexpr char kKinds[] = "tokenizer.ggml.token_type";
constexpr char kScores[] = "tokenizer.ggml.scores";
constexpr char kMerges[] = "tokenizer.ggml.merges";

// Tokens that end an answer in many model families, in addition to eos_token_id.
constexpr std::string_view kEndMarkers[] = {"<|im_end|>",
                                            "<|endoftext|>",
                                            "<|eot_id|>",
                                            "<|eom_id|>",
                                            "<|end_of_text|>",
                                            "<|end|>",
                                            "<|return|>",
                                            "<end_of_turn>",
                                            "<turn|>",
                                            "<eos>",
                                            "</s>",
                                            "<EOT>",
                                            "[EOT]",
                                            "<｜end▁of▁sentence｜>"};
// Tokens that start a turn in a chat template.
constexpr std::string_view kTurnMarkers[] = {"<|im_start|>", "<|start_header_id|>", "<|end_header_id|>",
                                             "<start_of_turn>", "<|begin_of_text|>"};

void check_count(const char* key, std::size_t count, std::size_t tokens) {
  if (count != tokens)
    fail(Code::bad_format, key, ": expected ", tokens, " entries, one per token, got ", count);
}

void check_size(const char* key, std::size_t count) {
  if (count > kMaxEntries)
    fail(Code::bad_format, key, ": expected at most ", kMaxEntries, " entries, got ", count);
}

VocabModel read_model(const gguf::File& file) {
  const std::string_view name = file.get_string("tokenizer.ggml.model");
  if (name == "gpt2") return VocabModel::byte_bpe;
  if (name == "llama") return VocabModel::spm_bpe;
  fail(Code::unsupported, "tokenizer.ggml.model: expected 'gpt2' or 'llama', got ", quote_name(name));
}

void read_tokens(const gguf::File& file, Vocab& vocab) {
  const auto tokens = file.get_strings(kTokens);
  if (tokens.empty()) fail(Code::bad_format, kTokens, ": expected at least one token");
  check_size(kTokens, tokens.size());
  vocab.tokens.assign(tokens.begin(), tokens.end());
  vocab.ids = decltype(vocab.ids)(tokens.size());
  for (Token id = 0; id < vocab.size(); ++id) {
    const std::string& text = vocab.tokens[id];
    if (!text.empty()) *vocab.ids.insert(text).first = id;
  }
}

void read_kinds(const gguf::File& file, Vocab& vocab) {
  vocab.kinds.assign(vocab.tokens.size(), TokenKind::normal);
  if (!file.find(kKinds)) return;
  const auto kinds = file.get_ints(kKinds);
  check_count(kKinds, kinds.size(), vocab.tokens.size());
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] < 0 || kinds[i] > 6)
      fail(Code::bad_format, kKinds, ": token ", i, ": expected type 0 to 6, got ", kinds[i]);
    if (kinds[i] != 0) vocab.kinds[i] = static_cast<TokenKind>(kinds[i]);  // 0 is "undefined"
  }
}

void read_scores(const gguf::File& file, Vocab& vocab) {
  vocab.scores = file.get_floats(kScores);
  check_count(kScores, vocab.scores.size(), vocab.tokens.size());
  const auto nan =
      std::find_if(vocab.scores.begin(), vocab.scores.end(), [](float x) { return std::isnan(x); });
  if (nan != vocab.scores.end())
    fail(Code::bad_format, kScores, ": the score of token ", nan - vocab.scores.begin(), " is not a number");
}

Token merge_part(const Vocab& vocab, std::string_view text, std::size_t rank) {
  const auto token = vocab.find(text);
  if (!token)
    fail(Code::bad_format, kMerges, ": entry ", rank, " names ", quote_name(text), ", which is not in ",
         kTokens);
  return *token;
}

void read_merges(const gguf::File& file, Vocab& vocab) {
  const auto merges = file.get_strings(kMerges);
  check_size(kMerges, merges.size());
  vocab.merges = decltype(vocab.merges)(merges.size());
  std::string joined;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos)
      fail(Code::bad_format, kMerges, ": entry ", rank, " is ", quote_name(merge),
           ", expected two tokens with a space between");
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    joined.assign(left).append(right);
    const TokenPair pair{merge_part(vocab, left, rank), merge_part(vocab, right, rank)};
    const Token result = merge_part(vocab, joined, rank);
    if (!vocab.is_text(result)) continue;
    const auto [entry, is_new] = vocab.merges.insert(pair);
    if (is_new) *entry = {static_cast<float>(rank), result};
  }
}

std::optional<Token> read_id(const gguf::File& file, const Vocab& vocab, const char* key,
                             std::optional<Token> default_value = {}) {
  if (!file.find(key)) return default_value && *default_value < vocab.size() ? default_value : std::nullopt;
  const uint64_t id = file.get_uint(key);
  if (id >= vocab.tokens.size())
    fail(Code::bad_format, key, ": expected a token below ", vocab.tokens.size(), ", got ", id);
  return static_cast<Token>(id);
}

void read_special_ids(const gguf::File& file, Vocab& vocab) {
  const bool spm = vocab.model == VocabModel::spm_bpe;
  // SentencePiece's default ids, for old files without these keys.
  const auto usual = [spm](Token id) { return spm ? std::optional(id) : std::nullopt; };
  vocab.unknown = read_id(file, vocab, "tokenizer.ggml.unknown_token_id", usual(0));
  vocab.bos = read_id(file, vocab, "tokenizer.ggml.bos_token_id", usual(1));
  vocab.eos = read_id(file, vocab, "tokenizer.ggml.eos_token_id", usual(2));
  vocab.eot = read_id(file, vocab, "tokenizer.ggml.eot_token_id");
  vocab.padding = read_id(file, vocab, "tokenizer.ggml.padding_token_id");

  const Pretokenizer* pre = spm ? nullptr : find_pretokenizer(vocab.pre);
  vocab.add_bos = file.get_bool("tokenizer.ggml.add_bos_token", spm || (pre && pre->add_bos)) && vocab.bos;
  vocab.add_eos = file.get_bool("tokenizer.ggml.add_eos_token", false) && vocab.eos;
  vocab.add_space_prefix = file.get_bool("tokenizer.ggml.add_space_prefix", true) && spm;
}

// Some converters write markers as user-defined tokens, which would be recognised in users' text.
void protect_markers(Vocab& vocab) {
  const auto protect = [&vocab](std::string_view marker) {
    const auto token = vocab.find(marker);
    if (token && vocab.kinds[*token] == TokenKind::user_defined) vocab.kinds[*token] = TokenKind::control;
  };
  std::for_each(std::begin(kEndMarkers), std::end(kEndMarkers), protect);
  std::for_each(std::begin(kTurnMarkers), std::end(kTurnMarkers), protect);
}

std::vector<Token> end_tokens(const Vocab& vocab) {
  std::vector<Token> ends;
  if (vocab.eos) ends.push_back(*vocab.eos);
  if (vocab.eot) ends.push_back(*vocab.eot);
  for (const std::string_view marker : kEndMarkers)
    if (const auto token = vocab.find(marker); token && vocab.is_special(*token)) ends.push_back(*token);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

}  // namespace

Vocab Vocab::read(const gguf::File& file) {
  Vocab vocab;
  vocab.model = read_model(file);
  vocab.pre = file.get_string("tokenizer.ggml.pre", "default");
  read_tokens(file, vocab);
  read_kinds(file, vocab);
  protect_markers(vocab);
  if (vocab.model == VocabModel::spm_bpe)
    read_scores(file, vocab);
  else
    read_merges(file, vocab);
  read_special_ids(file, vocab);
  vocab.end_of_generation = end_tokens(vocab);
  vocab.chat_template = find_chat_template(file);
  return vocab;
}

bool Vocab::is_special(Token token) const {
  const TokenKind kind = kinds[token];
  return kind == TokenKind::control || kind == TokenKind::unknown;
}

bool Vocab::is_text(Token token) const {
  const TokenKind kind = kinds[token];
  return kind == TokenKind::normal || kind == TokenKind::user_defined;
}

bool Vocab::ends_generation(Token token) const {
  return std::binary_search(end_of_generation.begin(), end_of_generation.end(), token);
}

std::optional<Token> Vocab::unknown_in_text() const {
  return unknown && kinds[*unknown] == TokenKind::unknown ? unknown : std::nullopt;
}

std::optional<Token> Vocab::find(std::string_view text) const {
  const Token* token = ids.find(text);
  return token ? std::optional(*token) : std::nullopt;
}

}  // namespace binhdan::text
