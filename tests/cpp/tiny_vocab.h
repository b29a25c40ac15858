// Small vocabularies as GGUF bytes, so that tests read them like a model file.
#pragma once
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gguf/reader.h"
#include "gguf_builder.h"
#include "text/tokenizer.h"

// The keys of a vocabulary; write() returns a GGUF v3 file with these keys and no tensors.
struct VocabSpec {
  std::map<std::string, std::string> strings;
  std::map<std::string, uint32_t> numbers;
  std::map<std::string, bool> bools;
  std::vector<std::string> tokens;
  std::vector<int32_t> kinds;
  std::map<std::string, std::vector<int32_t>> arrays;
  std::map<std::string, std::vector<uint8_t>> bytes;
  std::optional<std::vector<float>> scores;
  std::optional<std::vector<std::string>> merges;

  binhdan::text::Token add(std::string token, binhdan::text::TokenKind kind, float score = 0) {
    tokens.push_back(std::move(token));
    kinds.push_back(static_cast<int32_t>(kind));
    if (scores) scores->push_back(score);
    return static_cast<binhdan::text::Token>(tokens.size()) - 1;
  }
  std::vector<std::byte> write() const;
  binhdan::text::Vocab read() const {
    const std::vector<std::byte> bytes = write();
    return binhdan::text::Vocab::read(binhdan::gguf::File::parse(bytes, "tiny.gguf"));
  }
  binhdan::text::Tokenizer tokenizer() const { return binhdan::text::Tokenizer(read()); }
};

inline std::vector<std::byte> VocabSpec::write() const {
  using binhdan::gguf::ValueType;
  GgufBuilder file(0, strings.size() + numbers.size() + bools.size() + arrays.size() + bytes.size() + 2 +
                          scores.has_value() + merges.has_value());
  for (const auto& [name, value] : strings) file.key(name, value);
  for (const auto& [name, value] : numbers) file.key(name, ValueType::u32, value);
  for (const auto& [name, value] : bools) file.key(name, ValueType::boolean, uint8_t{value});
  for (const auto& [name, values] : arrays) {
    file.array(name, ValueType::i32, values.size());
    for (const int32_t value : values) file.add(value);
  }
  for (const auto& [name, values] : bytes) {
    file.array(name, ValueType::u8, values.size());
    for (const uint8_t value : values) file.add(value);
  }
  file.array("tokenizer.ggml.tokens", ValueType::string, tokens.size());
  for (const std::string& token : tokens) file.string(token);
  file.array("tokenizer.ggml.token_type", ValueType::i32, kinds.size());
  for (const int32_t kind : kinds) file.add(kind);
  if (scores) file.array("tokenizer.ggml.scores", ValueType::f32, scores->size());
  if (scores)
    for (const float score : *scores) file.add(score);
  if (merges) file.array("tokenizer.ggml.merges", ValueType::string, merges->size());
  if (merges)
    for (const std::string& merge : *merges) file.string(merge);
  return {file.bytes().begin(), file.bytes().end()};
}

// Converts bytes to the alphabet of byte-level vocabularies, independently of the library's table.
inline std::string spell(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    const unsigned b = static_cast<unsigned char>(c);
    unsigned letter = b;
    if (b <= 0x20) letter = 0x100 + b;
    if (b >= 0x7F && b <= 0xA0) letter = 0x121 + (b - 0x7F);
    if (b == 0xAD) letter = 0x143;
    if (letter < 0x80) {
      out += static_cast<char>(letter);
    } else {
      out += static_cast<char>(0xC0 | letter >> 6);
      out += static_cast<char>(0x80 | (letter & 0x3F));
    }
  }
  return out;
}

inline const std::vector<std::pair<std::string, std::string>>& byte_merges() {
  static const std::vector<std::pair<std::string, std::string>> merges = {
      {"a", "a"},        {"\xC3", "\xA0"},     {"aa", "aa"},       {"n", "g"},   {" ", "a"},   {" ", " "},
      {"b", "a"},        {"\xE1", "\xBB"},     {"a", "b"},         {"t", "h"},   {"  ", "  "}, {"ab", "ab"},
      {"i", "\xE1\xBB"}, {"\xE1\xBB", "\x87"}, {"th", "\xC3\xA0"}, {"\n", "\n"}, {"1", "1"},   {"<", "|"},
      {"i", "m"},        {"_", "s"},           {" a", "b"},        {"'", "s"},   {"<|", "im"},
  };
  return merges;
}

// Tokens 0 to 255 are the bytes, then the merges, then: <|endoftext|>, <|im_start|>, <|im_end|> (control),
// <think> (user-defined).
inline VocabSpec byte_spec(const std::string& pre = "qwen2") {
  using binhdan::text::TokenKind;
  VocabSpec spec;
  spec.strings = {{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", pre}};
  for (int byte = 0; byte < 256; ++byte)
    spec.add(spell(std::string(1, static_cast<char>(byte))), TokenKind::normal);
  spec.merges.emplace();
  for (const auto& [left, right] : byte_merges()) {
    spec.add(spell(left + right), TokenKind::normal);
    spec.merges->push_back(spell(left) + " " + spell(right));
  }
  spec.numbers["tokenizer.ggml.bos_token_id"] = spec.add("<|endoftext|>", TokenKind::control);
  spec.add("<|im_start|>", TokenKind::control);
  spec.numbers["tokenizer.ggml.eos_token_id"] = spec.add("<|im_end|>", TokenKind::control);
  spec.add("<think>", TokenKind::user_defined);
  return spec;
}

// Tokens 0 to 2 are <unk>, <s>, </s>, then the bytes, then pieces with scores, then <think> (user-defined).
inline VocabSpec spm_spec() {
  using binhdan::text::TokenKind;
  VocabSpec spec;
  spec.strings = {{"tokenizer.ggml.model", "llama"}};
  spec.scores.emplace();
  spec.add("<unk>", TokenKind::unknown);
  spec.add("<s>", TokenKind::control);
  spec.add("</s>", TokenKind::control);
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    spec.add(name, TokenKind::byte);
  }
  float score = 0;
  for (const char* piece :
       {"aa", "▁a", "▁▁", "ab", "aaaa", "▁▁▁▁", "ba", "▁th", "th", "ng", "thà", "▁ab", "bab", "</", "s>",
        "ệt", "▁",  "a",  "b",  "t",    "h",    "n",  "g",   "s",  "à",  "ệ",   "i",   "<",   "/",  ">"})
    spec.add(piece, TokenKind::normal, --score);
  spec.add("<think>", TokenKind::user_defined);
  return spec;
}

// Characters that merge by rank, as in Gemma 4: <pad>, <eos>, <bos>, <unk>, the bytes, characters, merges.
inline VocabSpec char_spec() {
  using binhdan::text::TokenKind;
  VocabSpec spec;
  spec.strings = {{"tokenizer.ggml.model", "gemma4"}};
  for (const char* text : {"<pad>", "<eos>", "<bos>"}) spec.add(text, TokenKind::control);
  spec.add("<unk>", TokenKind::unknown);
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    spec.add(name, byte % 2 == 0 ? TokenKind::byte : TokenKind::normal);
  }
  for (const char* text : {"▁", "\n", "a", "b", "t", "h", "à", "ệ", "n", "g", ">", "\n\n\n"})
    spec.add(text, TokenKind::normal);
  spec.merges.emplace();
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{{"▁", "▁"},
                                                                                    {"a", "b"},
                                                                                    {"t", "h"},
                                                                                    {"▁", "th"},
                                                                                    {"▁▁", "▁▁"},
                                                                                    {"n", "g"},
                                                                                    {"▁", "a"},
                                                                                    {"th", "à"},
                                                                                    {">", "▁"},
                                                                                    {"\n", "\n"}}) {
    spec.add(left + right, TokenKind::normal);
    spec.merges->push_back(left + " " + right);
  }
  spec.add("<think>", TokenKind::user_defined);
  spec.numbers = {{"tokenizer.ggml.bos_token_id", 2}, {"tokenizer.ggml.eos_token_id", 1}};
  return spec;
}

// <s>, <pad>, </s>, <unk>, then pieces with scores, and the bytes if wanted.
inline VocabSpec unigram_spec(bool bytes = false) {
  using binhdan::text::TokenKind;
  VocabSpec spec;
  spec.strings = {{"tokenizer.ggml.model", "t5"}};
  spec.scores.emplace();
  for (const char* text : {"<s>", "<pad>", "</s>"}) spec.add(text, TokenKind::control);
  spec.add("<unk>", TokenKind::unknown);
  float score = -1;
  for (const char* piece :
       {"▁", "▁a", "aa", "ab", "th", "thà", "ng", "▁th", "ệt", "a", "b", "t", "h", "n", "g"})
    spec.add(piece, TokenKind::normal, score -= 0.5f);
  for (int byte = 0; bytes && byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    spec.add(name, TokenKind::byte);
  }
  spec.numbers = {{"tokenizer.ggml.bos_token_id", 0}, {"tokenizer.ggml.eos_token_id", 2}};
  spec.bools = {{"tokenizer.ggml.add_bos_token", true}};
  return spec;
}

// [PAD], [UNK], [CLS], [SEP], then tokens that start a word (marked) and others.
inline VocabSpec wordpiece_spec() {
  using binhdan::text::TokenKind;
  VocabSpec spec;
  spec.strings = {{"tokenizer.ggml.model", "bert"}};
  for (const char* text : {"[PAD]", "[UNK]", "[CLS]", "[SEP]"}) spec.add(text, TokenKind::control);
  for (const char* piece : {"▁a", "▁tha", "▁th", "▁,", "a", "b", "ng", "et", "n", "e", "t"})
    spec.add(piece, TokenKind::normal);
  return spec;
}

// unigram_spec() with a charsmap that maps A to a and B to "b b".
inline VocabSpec charsmap_spec() {
  VocabSpec spec = unigram_spec();
  constexpr uint32_t kHasValue = 1u << 8, kValue = 1u << 31;
  // The root's offset is 0x100. The unit of a key has an offset that leads to the value.
  std::vector<uint32_t> units(0x200);
  units[0] = 0x100u << 10;
  const auto map = [&](uint32_t key, uint32_t value_unit, uint32_t value) {
    units[0x100 ^ key] = key | kHasValue | (0x100 ^ key ^ value_unit) << 10;
    units[value_unit] = kValue | value;
  };
  map('A', 0x180, 0);
  map('B', 0x181, 2);
  std::vector<uint8_t>& blob = spec.bytes["tokenizer.ggml.precompiled_charsmap"];
  const auto add = [&](uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8) blob.push_back(static_cast<uint8_t>(word >> shift));
  };
  add(static_cast<uint32_t>(4 * units.size()));
  for (const uint32_t unit : units) add(unit);
  for (const char c : std::string("a\0b b\0", 6)) blob.push_back(static_cast<uint8_t>(c));
  return spec;
}
