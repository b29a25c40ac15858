#include <limits>

#include "base/log.h"
#include "check.h"
#include "tiny_vocab.h"

using namespace binhdan::text;

namespace {

// The warnings of reading a vocabulary.
std::vector<std::string> warnings(const VocabSpec& spec) {
  std::vector<std::string> out;
  binhdan::set_log_sink(
      [](void* user, int32_t level, const char* message) {
        if (level == static_cast<int32_t>(binhdan::LogLevel::warning))
          static_cast<std::vector<std::string>*>(user)->emplace_back(message);
      },
      &out);
  spec.read();
  binhdan::set_log_sink(nullptr, nullptr);
  return out;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST(reads_a_vocabulary) {
  VocabSpec spec = byte_spec();
  spec.strings["tokenizer.chat_template"] = "{{ x }}";
  const Vocab vocab = spec.read();
  const Token end_of_text = *vocab.find("<|endoftext|>"), im_end = *vocab.find("<|im_end|>");
  CHECK(vocab.model == VocabModel::byte_bpe && vocab.pre == "qwen2" && vocab.chat_template == "{{ x }}");
  CHECK(vocab.size() == static_cast<int32_t>(spec.tokens.size()) && vocab.tokens == spec.tokens);
  CHECK(vocab.bos == end_of_text && vocab.eos == im_end && !vocab.eot && !vocab.unknown && !vocab.padding);
  CHECK(vocab.is_special(im_end) && !vocab.is_special(*vocab.find("<think>")) && vocab.is_text(0));
  CHECK((vocab.end_of_generation == std::vector{end_of_text, im_end}));
  CHECK(vocab.ends_generation(im_end) && !vocab.ends_generation(*vocab.find("<|im_start|>")));
  CHECK(!vocab.find("no such token"));
}

TEST(defaults_follow_the_model) {
  const Vocab qwen = byte_spec("qwen2").read(), llama3 = byte_spec("llama-bpe").read(),
              spm = spm_spec().read();
  CHECK(!qwen.add_bos && !qwen.add_eos && !qwen.add_space_prefix);
  CHECK(llama3.add_bos && !llama3.add_eos && !llama3.add_space_prefix);
  CHECK(spm.add_bos && !spm.add_eos && spm.add_space_prefix);
  CHECK(spm.unknown == 0 && spm.bos == 1 && spm.eos == 2 && spm.pre == "default");
  VocabSpec spec = spm_spec();
  spec.bools = {{"tokenizer.ggml.add_bos_token", false},
                {"tokenizer.ggml.add_eos_token", true},
                {"tokenizer.ggml.add_space_prefix", false}};
  const Vocab explicit_keys = spec.read();
  CHECK(!explicit_keys.add_bos && explicit_keys.add_eos && !explicit_keys.add_space_prefix);
}

TEST(user_defined_turn_markers_become_control_tokens) {
  VocabSpec spec = byte_spec();
  for (int32_t& kind : spec.kinds)
    if (kind == static_cast<int32_t>(TokenKind::control))
      kind = static_cast<int32_t>(TokenKind::user_defined);
  const Vocab vocab = spec.read();
  CHECK(vocab.is_special(*vocab.find("<|im_start|>")) && vocab.is_special(*vocab.find("<|im_end|>")));
}

TEST(errors_of_invalid_vocabularies_name_the_key) {
  const auto broken = [](VocabSpec spec, auto change) {
    change(spec);
    return [spec] { return spec.read(); };
  };
  using S = VocabSpec&;
  CHECK_FAILS(broken(byte_spec(), [](S s) { s.strings.erase("tokenizer.ggml.model"); })(),
              "tokenizer.ggml.model");
  CHECK_FAILS(broken(byte_spec(), [](S s) { s.strings["tokenizer.ggml.model"] = "rwkv"; })(), "'rwkv'");
  CHECK_FAILS(broken(byte_spec(), [](S s) { s.tokens.clear(); })(), "tokenizer.ggml.tokens");
  CHECK_FAILS(broken(byte_spec(), [](S s) { s.kinds.pop_back(); })(), "tokenizer.ggml.token_type");
  CHECK_FAILS(broken(byte_spec(), [](S s) { s.kinds[3] = 7; })(), "tokenizer.ggml.token_type: token 3");
  CHECK_FAILS(broken(byte_spec(), [](S s) { s.kinds[3] = -1; })(), "tokenizer.ggml.token_type: token 3");
  CHECK_FAILS(broken(byte_spec(), [](S s) { s.merges.reset(); })(), "tokenizer.ggml.merges");
  CHECK_FAILS(broken(byte_spec(), [](S s) { (*s.merges)[2] = "aa zz"; })(), "tokenizer.ggml.merges: entry 2");
  CHECK_FAILS(broken(byte_spec(), [](S s) { (*s.merges)[2] = "a ng"; })(), "entry 2 names 'ang'");
  CHECK_FAILS(broken(byte_spec(), [](S s) { (*s.merges)[2] = "aaaa"; })(), "tokenizer.ggml.merges: entry 2");
  CHECK_FAILS(broken(byte_spec(), [](S s) { (*s.merges)[2] = ""; })(), "tokenizer.ggml.merges: entry 2");
  CHECK_FAILS(broken(byte_spec(), [](S s) { (*s.merges)[2] = "a "; })(), "tokenizer.ggml.merges: entry 2");
  CHECK_FAILS(broken(spm_spec(), [](S s) { s.scores.reset(); })(), "tokenizer.ggml.scores");
  CHECK_FAILS(broken(spm_spec(), [](S s) { s.scores->pop_back(); })(), "tokenizer.ggml.scores");
  CHECK_FAILS(broken(spm_spec(), [](S s) { (*s.scores)[9] = std::numeric_limits<float>::quiet_NaN(); })(),
              "tokenizer.ggml.scores: the score of token 9");
  for (const char* role : {"bos", "eos", "eot", "eom", "unknown"}) {
    const std::string key = std::string("tokenizer.ggml.") + role + "_token_id";
    CHECK_FAILS(broken(spm_spec(), [&](S s) { s.numbers[key] = static_cast<uint32_t>(s.tokens.size()); })(),
                key);
    CHECK_FAILS(broken(spm_spec(), [&](S s) { s.bools[key] = true; })(), key);
  }
  CHECK_FAILS(broken(spm_spec(), [](S s) { s.numbers["tokenizer.chat_template"] = 1; })(),
              "tokenizer.chat_template");
  CHECK_FAILS(broken(spm_spec(), [](S s) { s.strings["tokenizer.ggml.add_bos_token"] = "yes"; })(),
              "add_bos_token");
  CHECK_FAILS(Tokenizer(byte_spec("klingon").read()), "'klingon'");
}

TEST(rejects_special_tokens_that_are_too_long) {
  VocabSpec spec = byte_spec();
  spec.add(std::string(5 << 20, 'x'), TokenKind::control);
  CHECK_FAILS(spec.tokenizer(), "tokenizer.ggml.tokens");
}

TEST(a_missing_pre_tokenizer_is_a_warning) {
  VocabSpec spec = byte_spec();
  CHECK(warnings(spec).empty());
  spec.strings.erase("tokenizer.ggml.pre");
  const auto messages = warnings(spec);
  CHECK(messages.size() == 1 && contains(messages[0], "tokenizer.ggml.pre is missing") &&
        contains(messages[0], "'default'"));
  CHECK(spec.read().pre == "default");
  for (const VocabSpec& other : {spm_spec(), char_spec(), unigram_spec(), wordpiece_spec()})
    CHECK(warnings(other).empty());
}

TEST(an_unknown_pre_tokenizer_is_an_error_that_lists_the_known_ones) {
  CHECK_FAILS(byte_spec("klingon").read(), "'klingon'");
  CHECK_FAILS(byte_spec("klingon").read(), "write that name into the key: default, gpt-2,");
}

TEST(ids_that_generation_does_not_need_are_ignored_with_a_warning) {
  for (const char* role :
       {"mask", "cls", "padding", "seperator", "fim_pre", "fim_suf", "fim_mid", "unknown"}) {
    VocabSpec spec = byte_spec();
    const std::string key = std::string("tokenizer.ggml.") + role + "_token_id";
    spec.numbers[key] = 1 << 20;
    const auto messages = warnings(spec);
    CHECK(messages.size() == 1 && contains(messages[0], key) && contains(messages[0], "got 1048576"));
    CHECK(!spec.read().padding && !spec.read().separator && !spec.read().unknown);
  }
  for (const char* role : {"cls", "seperator", "unknown"}) {
    VocabSpec spec = wordpiece_spec();
    spec.numbers[std::string("tokenizer.ggml.") + role + "_token_id"] = 1 << 20;
    CHECK_FAILS(spec.read(), role);
  }
}

TEST(models_and_their_special_tokens) {
  const Vocab characters = char_spec().read(), unigram = unigram_spec().read(),
              wordpiece = wordpiece_spec().read();
  CHECK(characters.model == VocabModel::char_bpe && characters.pre == "gemma4" && characters.add_bos);
  CHECK(characters.kinds[*characters.find("<0x41>")] == TokenKind::byte);
  CHECK(unigram.model == VocabModel::unigram && unigram.unknown == 3 && unigram.add_bos && unigram.add_eos);
  CHECK(wordpiece.model == VocabModel::wordpiece && wordpiece.bos == 2 && wordpiece.separator == 3);
  CHECK(wordpiece.unknown == 1 && wordpiece.kinds[1] == TokenKind::unknown && wordpiece.lowercase);
  VocabSpec sarvam = char_spec();
  sarvam.strings = {{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", "sarvam-moe"}};
  CHECK(sarvam.read().model == VocabModel::char_bpe && !sarvam.read().add_bos);
  VocabSpec without_bos = char_spec();
  without_bos.bools["tokenizer.ggml.add_bos_token"] = false;
  CHECK(without_bos.read().add_bos && warnings(without_bos).size() == 1);
  VocabSpec eom = byte_spec();
  eom.numbers["tokenizer.ggml.eom_token_id"] = 'a';
  CHECK(eom.read().ends_generation('a'));
}

TEST(errors_of_the_other_models) {
  VocabSpec spec = unigram_spec();
  spec.bytes["tokenizer.ggml.precompiled_charsmap"] = {1};
  CHECK_FAILS(spec.tokenizer(), "expected at least 4 bytes, got 1");
  spec = unigram_spec();
  spec.strings["tokenizer.ggml.precompiled_charsmap"] = "x";
  CHECK_FAILS(spec.read(), "expected an array of u8 or i8");
  spec = unigram_spec();
  spec.add(std::string(513, 'x'), TokenKind::normal);
  CHECK_FAILS(spec.tokenizer(), "expected at most 512 bytes, got 513");
  spec = byte_spec();
  spec.arrays["binhdan.tokenizer.strip_right"] = {-1};
  CHECK_FAILS(spec.read(), "binhdan.tokenizer.strip_right");
}
