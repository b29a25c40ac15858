// Chat prompts without Jinja: for C callers, and for files without a chat template.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace binhdan::text {

enum class ChatFamily { plain = 0, chatml = 1, llama2 = 2, llama3 = 3 };

struct ChatMessage {
  std::string_view role;  // "system", "user", "assistant" or "tool"
  std::string_view content;
};

// The family whose turn markers the file's template contains; without a template or a known marker, the
// family of the vocabulary's control tokens; else plain.
ChatFamily detect_chat_family(const Vocab& vocab);
// The tokens of a conversation. With `add_generation_prompt` they end where the model's answer begins.
// Content is normalized to NFC and never parsed for control tokens.
//
// When the file's template is of `family`, the prompt equals what that template renders (with thinking off)
// for the templates of Qwen2, Qwen2.5, Qwen3, SmolLM2, Llama 2 and Llama 3: these features are read from the
// template. Other templates may add text of their own, such as dates or tools, which the prompt lacks. Throws
// Error(invalid_argument) for an unknown role.
std::vector<Token> encode_chat(const Tokenizer& tokenizer, ChatFamily family,
                               std::span<const ChatMessage> messages, bool add_generation_prompt);

}  // namespace binhdan::text
