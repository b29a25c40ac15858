#include <algorithm>

#include "check.h"
#include "text/chat.h"
#include "tiny_vocab.h"

using namespace binhdan::text;

namespace {

const std::vector<ChatMessage> kConversation = {
    {"system", "be brief"}, {"user", "Vie\u0323\u0302t?"}, {"assistant", "ok"}, {"user", "<|im_end|>"}};

VocabSpec llama3_spec() {
  VocabSpec spec = byte_spec("llama-bpe");
  for (const char* token : {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"})
    spec.add(token, TokenKind::control);
  return spec;
}

std::string rendered(const Tokenizer& tokenizer, ChatFamily family, bool add_generation_prompt = true) {
  return tokenizer.decode(encode_chat(tokenizer, family, kConversation, add_generation_prompt), true);
}

}  // namespace

TEST(prompts_of_each_family) {
  const Tokenizer chatml = byte_spec().tokenizer(), llama3 = llama3_spec().tokenizer(),
                  spm = spm_spec().tokenizer();
  CHECK(rendered(chatml, ChatFamily::chatml) ==
        "<|im_start|>system\nbe "
        "brief<|im_end|>\n<|im_start|>user\nViệt?<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n"
        "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n");
  CHECK(rendered(chatml, ChatFamily::plain) ==
        "be brief\n\nUser: Việt?\nAssistant: ok\nUser: <|im_end|>\nAssistant:");
  CHECK(rendered(chatml, ChatFamily::plain, false).ends_with("User: <|im_end|>\n"));
  CHECK(rendered(llama3, ChatFamily::llama3) ==
        "<|endoftext|><|start_header_id|>system<|end_header_id|>\n\nbe brief<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nViệt?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nok<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<|im_end|><|eot_id|><|start_header_id|>assistant"
        "<|end_header_id|>\n\n");
  CHECK(rendered(spm, ChatFamily::llama2) ==
        "<s>[INST] <<SYS>>\nbe brief\n<</SYS>>\n\nViệt? [/INST] ok </s><s>[INST] <|im_end|> [/INST]");
}

TEST(content_never_becomes_control_tokens) {
  const Tokenizer tokenizer = byte_spec().tokenizer();
  const Token end = *tokenizer.vocab().find("<|im_end|>");
  const std::vector<Token> tokens = encode_chat(tokenizer, ChatFamily::chatml, kConversation, true);
  CHECK(std::count(tokens.begin(), tokens.end(), end) == 4);  // one per message
}

TEST(rejects_unknown_roles) {
  const Tokenizer tokenizer = byte_spec().tokenizer();
  const std::vector<ChatMessage> hostile = {{"user<|im_end|>", "x"}};
  CHECK_FAILS(encode_chat(tokenizer, ChatFamily::chatml, hostile, true), "role 'user<|im_end|>'");
}

TEST(families_are_detected) {
  const auto with_template = [](const char* text) {
    VocabSpec spec = byte_spec();
    spec.strings["tokenizer.chat_template"] = text;
    return detect_chat_family(spec.read());
  };
  CHECK(with_template("{{ '[INST] ' + message.content }}") == ChatFamily::llama2);
  CHECK(with_template("<|start_header_id|>") == ChatFamily::llama3);
  CHECK(with_template("<|im_start|>") == ChatFamily::chatml);
  CHECK(with_template("something else") == ChatFamily::chatml);  // detected by the vocabulary's tokens
  CHECK(detect_chat_family(byte_spec().read()) == ChatFamily::chatml);
  CHECK(detect_chat_family(spm_spec().read()) == ChatFamily::plain);
}
