// A model's vocabulary, read from GGUF's tokenizer.ggml.* keys.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gguf/reader.h"

namespace binhdan::text {

using Token = int32_t;

// Values of tokenizer.ggml.token_type.
enum class TokenKind : uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

enum class VocabModel : uint8_t { byte_bpe /* "gpt2" */, spm_bpe /* "llama" */ };

struct Vocab {
  // Throws Error naming the key for a vocabulary that is missing, inconsistent or of an unknown kind.
  static Vocab read(const gguf::File& file);

  VocabModel model;
  std::string pre;                       // tokenizer.ggml.pre: the pre-tokenizer's name ("default" when absent)
  std::vector<std::string> tokens;       // as in the file: byte-level alphabet for byte_bpe, U+2581 for spm_bpe
  std::vector<TokenKind> kinds;
  std::vector<float> scores;             // spm_bpe
  std::unordered_map<std::string_view, Token> ids;     // views into `tokens`
  std::unordered_map<uint64_t, int32_t> merges;        // (left id << 32 | right id) -> rank; byte_bpe
  std::optional<Token> bos, eos, eot, unknown, padding;
  bool add_bos = false, add_eos = false, add_space_prefix = false;
  std::string chat_template;             // "" when the file has none
  std::vector<Token> end_of_generation;  // eos, eot and the well-known end markers of the vocabulary, ascending

  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  bool is_special(Token token) const;    // control or unknown
  bool ends_generation(Token token) const;
  std::optional<Token> find(std::string_view text) const;
};

}  // namespace binhdan::text
