#include <limits>

#include "check.h"
#include "tiny_vocab.h"

using namespace binhdan::text;

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
