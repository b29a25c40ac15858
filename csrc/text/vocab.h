// A model's vocabulary, read from GGUF's tokenizer.ggml.* keys.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/reader.h"
#include "text/flat_map.h"

namespace binhdan::text {

using Token = int32_t;

// Values of tokenizer.ggml.token_type.
enum class TokenKind : uint8_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

enum class VocabModel : uint8_t {
  byte_bpe,   // "gpt2": bytes merge by rank
  char_bpe,   // "gemma4", "whitespace" and some "gpt2": characters merge by rank
  spm_bpe,    // "llama": characters merge by score
  unigram,    // "t5": the sum of scores decides
  wordpiece,  // "bert": the longest token
};

// Two adjacent tokens become `token`; the lowest cost merges first. A float holds ranks exactly, since they
// are below 2^24.
struct Merge {
  float cost;
  Token token;
};

// Two tokens in text order, as the key of a hash map.
struct TokenPair {
  Token left = -1, right = -1;
  bool operator==(const TokenPair&) const = default;
};
struct TokenPairHash {
  std::size_t operator()(TokenPair pair) const {
    const uint64_t key = static_cast<uint64_t>(pair.left) << 32 | static_cast<uint32_t>(pair.right);
    return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u) >> 32);  // Fibonacci hashing
  }
};

struct Vocab {
  // Throws Error that names the key of a missing, inconsistent or unsupported vocabulary. Logs a warning when it
  // uses a default pre-tokenizer or ignores a key.
  static Vocab read(const gguf::File& file);

  Vocab() = default;
  Vocab(Vocab&&) = default;
  Vocab& operator=(Vocab&&) = default;
  Vocab(const Vocab&) = delete;  // `ids` views `tokens`
  Vocab& operator=(const Vocab&) = delete;

  VocabModel model = VocabModel::byte_bpe;
  std::string pre;                  // tokenizer.ggml.pre: the pre-tokenizer's name ("default" when absent)
  std::vector<std::string> tokens;  // as in the file: byte-level alphabet for byte_bpe, U+2581 for the others
  std::vector<TokenKind> kinds;
  std::vector<float> scores;  // spm_bpe, unigram
  FlatMap<std::string_view, Token, std::hash<std::string_view>>
      ids;                                          // keys view `tokens`; of equal texts, the last token
  FlatMap<TokenPair, Merge, TokenPairHash> merges;  // byte_bpe, char_bpe
  // bos is [CLS] and separator [SEP] in a wordpiece vocabulary.
  std::optional<Token> bos, eos, eot, eom, unknown, padding, separator;
  bool add_bos = false, add_eos = false;
  bool add_separator = false;     // in place of eos; wordpiece
  bool add_space_prefix = false;  // in wordpiece: every word has one, which decoding removes at the start
  bool remove_extra_whitespaces = false;          // unigram
  bool lowercase = false, strip_accents = false;  // wordpiece; lowercase: also the pre-tokenizer "whitespace"
  std::vector<uint8_t> charsmap;                  // unigram; see charsmap.h
  std::vector<bool> strips_left, strips_right;  // by token: takes the white space beside it; empty: none does
  std::string chat_template;                    // "" when the file has none
  std::vector<Token> end_of_generation;         // eos, eot, eom and common end markers, ascending

  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  bool is_special(Token token) const;  // control or unknown
  bool is_text(Token token) const;     // merging may produce it; never a special token
  bool ends_generation(Token token) const;
  // `unknown`, unless that is a control token: a stray byte must not become <|endoftext|>.
  std::optional<Token> unknown_in_text() const;
  std::optional<Token> find(std::string_view text) const;
};

}  // namespace binhdan::text
