#include "text/vocab.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "base/log.h"
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

struct ModelName {
  std::string_view name;
  VocabModel model;
};
constexpr ModelName kModels[] = {{"gpt2", VocabModel::byte_bpe},  {"gemma4", VocabModel::char_bpe},
                                 {"llama", VocabModel::spm_bpe},  {"t5", VocabModel::unigram},
                                 {"bert", VocabModel::wordpiece}, {"whitespace", VocabModel::char_bpe}};

// Ids that no one reads here. Some files have values for them that are not tokens.
constexpr const char* kUnusedIds[] = {"tokenizer.ggml.mask_token_id",    "tokenizer.ggml.fim_pre_token_id",
                                      "tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.fim_mid_token_id",
                                      "tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id",
                                      "tokenizer.ggml.fim_sep_token_id", "tokenizer.ggml.prefix_token_id",
                                      "tokenizer.ggml.suffix_token_id",  "tokenizer.ggml.middle_token_id"};

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

void read_model(const gguf::File& file, Vocab& vocab) {
  const std::string_view name = file.get_string("tokenizer.ggml.model");
  const auto entry = std::find_if(std::begin(kModels), std::end(kModels),
                                  [&](const ModelName& m) { return m.name == name; });
  if (entry == std::end(kModels)) {
    std::string names;
    for (const ModelName& m : kModels) names.append(names.empty() ? "" : ", ").append(m.name);
    fail(Code::unsupported, "tokenizer.ggml.model: expected one of ", names, ", got ", quote_name(name));
  }
  vocab.model = entry->model;
  if (vocab.model == VocabModel::char_bpe) {
    vocab.pre = name;
    return;
  }
  vocab.pre = file.get_string("tokenizer.ggml.pre", "default");
  if (vocab.model != VocabModel::byte_bpe) return;
  if (!file.find("tokenizer.ggml.pre"))
    log(LogLevel::warning, file.path(),
        ": the key tokenizer.ggml.pre is missing; the pre-tokenizer 'default' is ",
        "used. If the model was trained with another one, answers are worse: write its name into the key");
  if (need_pretokenizer(vocab.pre).spelling != Spelling::bytes) vocab.model = VocabModel::char_bpe;
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

// The vocabularies of char_bpe often give byte tokens no type of their own.
void mark_byte_tokens(Vocab& vocab) {
  for (Token id = 0; id < vocab.size(); ++id) {
    const std::string_view text = vocab.tokens[id];
    const bool is_byte = text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') &&
                         text.find_first_not_of("0123456789ABCDEF", 3) == 5;
    if (is_byte && vocab.kinds[id] == TokenKind::normal) vocab.kinds[id] = TokenKind::byte;
  }
}

enum class Need : uint8_t { yes, no };

// The token of a key, or the default when the key is missing. An id beyond the vocabulary is an error if the id is
// needed, else it is ignored.
std::optional<Token> read_id(const gguf::File& file, const Vocab& vocab, const char* key, Need need,
                             std::optional<Token> default_value = {}) {
  if (!file.find(key)) return default_value && *default_value < vocab.size() ? default_value : std::nullopt;
  const uint64_t id = file.get_uint(key);
  if (id < vocab.tokens.size()) return static_cast<Token>(id);
  if (need == Need::yes)
    fail(Code::bad_format, key, ": expected a token below ", vocab.tokens.size(), ", got ", id);
  log(LogLevel::warning, file.path(), ": ", key, ": expected a token below ", vocab.tokens.size(), ", got ",
      id, "; the key is ignored");
  return std::nullopt;
}

// Default ids for files without these keys: SentencePiece's, T5's and BERT's, as in llama.cpp.
struct DefaultIds {
  std::optional<Token> unknown = {}, bos = {}, eos = {}, separator = {}, padding = {};
};
DefaultIds default_ids(const Vocab& vocab) {
  const auto named = [&](std::string_view text, Token id) { return vocab.find(text).value_or(id); };
  const auto kind_unknown = std::find(vocab.kinds.begin(), vocab.kinds.end(), TokenKind::unknown);
  switch (vocab.model) {
    case VocabModel::spm_bpe:
      return {.unknown = 0, .bos = 1, .eos = 2};
    case VocabModel::unigram:
      return {.unknown = static_cast<Token>(
                  kind_unknown == vocab.kinds.end() ? 2 : kind_unknown - vocab.kinds.begin()),
              .eos = 1,
              .padding = 0};
    case VocabModel::wordpiece:
      return {.unknown = named("[UNK]", 100),
              .bos = named("[CLS]", 101),
              .separator = named("[SEP]", 102),
              .padding = named("[PAD]", 0)};
    default:
      return {};
  }
}

void read_special_ids(const gguf::File& file, Vocab& vocab) {
  const bool bpe = vocab.model == VocabModel::byte_bpe || vocab.model == VocabModel::char_bpe;
  const bool wordpiece = vocab.model == VocabModel::wordpiece;
  const Need in_wordpiece = wordpiece ? Need::yes : Need::no;
  const DefaultIds defaults = default_ids(vocab);
  vocab.unknown =
      read_id(file, vocab, "tokenizer.ggml.unknown_token_id", bpe ? Need::no : Need::yes, defaults.unknown);
  const auto cls = read_id(file, vocab, "tokenizer.ggml.cls_token_id", in_wordpiece);
  vocab.bos =
      read_id(file, vocab, "tokenizer.ggml.bos_token_id", Need::yes, wordpiece && cls ? cls : defaults.bos);
  vocab.eos = read_id(file, vocab, "tokenizer.ggml.eos_token_id", Need::yes, defaults.eos);
  vocab.eot = read_id(file, vocab, "tokenizer.ggml.eot_token_id", Need::yes);
  vocab.eom = read_id(file, vocab, "tokenizer.ggml.eom_token_id", Need::yes);
  vocab.padding = read_id(file, vocab, "tokenizer.ggml.padding_token_id", Need::no, defaults.padding);
  // The key has this spelling in all files.
  vocab.separator =
      read_id(file, vocab, "tokenizer.ggml.seperator_token_id", in_wordpiece, defaults.separator);
  for (const char* key : kUnusedIds) read_id(file, vocab, key, Need::no);
  // In files of these models the unknown token often has the type of a control token.
  if (vocab.unknown && (wordpiece || vocab.model == VocabModel::unigram))
    vocab.kinds[*vocab.unknown] = TokenKind::unknown;
}

void read_options(const gguf::File& file, Vocab& vocab) {
  const bool spm = vocab.model == VocabModel::spm_bpe, unigram = vocab.model == VocabModel::unigram;
  const bool wordpiece = vocab.model == VocabModel::wordpiece;
  const bool bpe = vocab.model == VocabModel::byte_bpe || vocab.model == VocabModel::char_bpe;
  const Pretokenizer* pre = bpe ? &need_pretokenizer(vocab.pre) : nullptr;
  const bool adds_bos = spm || wordpiece || (pre && pre->add_bos);
  vocab.add_bos = file.get_bool("tokenizer.ggml.add_bos_token", adds_bos) && vocab.bos;
  if (!vocab.add_bos && vocab.bos && pre && pre->add_bos && pre->spelling == Spelling::marked_spaces) {
    log(LogLevel::warning, file.path(), ": tokenizer.ggml.add_bos_token is false; as ", vocab.pre,
        " requires BOS, the key is ignored");
    vocab.add_bos = true;
  }
  vocab.add_eos = file.get_bool("tokenizer.ggml.add_eos_token", unigram) && vocab.eos;
  vocab.add_separator = wordpiece && file.get_bool("tokenizer.ggml.add_sep_token", true) && vocab.separator;
  vocab.add_space_prefix = wordpiece || (file.get_bool("tokenizer.ggml.add_space_prefix", true) && !bpe);
  vocab.remove_extra_whitespaces = unigram && file.get_bool("tokenizer.ggml.remove_extra_whitespaces", false);
  const bool without_spaces = pre && pre->spelling == Spelling::without_spaces;
  if (wordpiece || without_spaces)
    vocab.lowercase = file.get_bool("tokenizer.ggml.normalizer.lowercase", wordpiece);
  vocab.strip_accents =
      wordpiece && file.get_bool("tokenizer.ggml.normalizer.strip_accents", vocab.lowercase);
}

constexpr char kStripLeft[] = "binhdan.tokenizer.strip_left", kStripRight[] = "binhdan.tokenizer.strip_right";

std::vector<bool> read_token_set(const gguf::File& file, const Vocab& vocab, const char* key) {
  if (!file.find(key)) return {};
  std::vector<bool> set(vocab.tokens.size());
  for (const int64_t id : file.get_ints(key)) {
    if (id < 0 || id >= vocab.size())
      fail(Code::bad_format, key, ": expected tokens below ", vocab.size(), ", got ", id);
    set[static_cast<std::size_t>(id)] = true;
  }
  return set;
}

// GGUF has no standard key for these flags. As in llama.cpp, the special tokens of models named Phi-3 take the white
// space after them, except three.
void read_strips(const gguf::File& file, Vocab& vocab) {
  vocab.strips_left = read_token_set(file, vocab, kStripLeft);
  vocab.strips_right = read_token_set(file, vocab, kStripRight);
  std::string name(file.get_string("general.name", ""));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? c | 0x20 : c; });
  const bool phi3 = name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
  if (!phi3 || !vocab.strips_right.empty()) return;
  vocab.strips_right.resize(vocab.tokens.size());
  for (Token id = 0; id < vocab.size(); ++id)
    vocab.strips_right[static_cast<std::size_t>(id)] =
        vocab.is_special(id) || vocab.kinds[id] == TokenKind::user_defined;
  for (const char* text : {"<unk>", "<s>", "<|endoftext|>"})
    if (const auto token = vocab.find(text)) vocab.strips_right[static_cast<std::size_t>(*token)] = false;
}

// An array of u8 or i8.
void read_charsmap(const gguf::File& file, Vocab& vocab) {
  constexpr char kKey[] = "tokenizer.ggml.precompiled_charsmap";
  const gguf::Value* value = file.find(kKey);
  if (!value) return;
  if (value->type != gguf::ValueType::array || gguf::scalar_size(value->element) != 1)
    fail(Code::bad_format, kKey, ": expected an array of u8 or i8, got one of ",
         gguf::value_type_name(value->element));
  vocab.charsmap.resize(value->count);
  std::transform(value->raw.begin(), value->raw.end(), vocab.charsmap.begin(),
                 [](std::byte b) { return static_cast<uint8_t>(b); });
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
  if (vocab.eom) ends.push_back(*vocab.eom);
  for (const std::string_view marker : kEndMarkers)
    if (const auto token = vocab.find(marker); token && vocab.is_special(*token)) ends.push_back(*token);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  return ends;
}

}  // namespace

Vocab Vocab::read(const gguf::File& file) {
  Vocab vocab;
  read_model(file, vocab);
  read_tokens(file, vocab);
  read_kinds(file, vocab);
  protect_markers(vocab);
  if (vocab.model == VocabModel::char_bpe) mark_byte_tokens(vocab);
  if (vocab.model == VocabModel::byte_bpe || vocab.model == VocabModel::char_bpe)
    read_merges(file, vocab);
  else if (vocab.model != VocabModel::wordpiece)
    read_scores(file, vocab);
  if (vocab.model == VocabModel::unigram) read_charsmap(file, vocab);
  read_special_ids(file, vocab);
  read_options(file, vocab);
  read_strips(file, vocab);
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
