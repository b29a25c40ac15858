// The built-in chat families, for files without a template and for callers without Jinja.
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

// From the template's own markers, else from the control tokens in the vocabulary; plain when nothing fits.
ChatFamily detect_chat_family(const Vocab& vocab);
// Tokens of the conversation, ending where the assistant's answer starts when `add_generation_prompt`.
// Content is brought to NFC and never parsed for control tokens. Throws Error(invalid_argument) for an
// unknown role.
std::vector<Token> encode_chat(const Tokenizer& tokenizer, ChatFamily family,
                               std::span<const ChatMessage> messages, bool add_generation_prompt);
// Strings that end an answer of this family when the vocabulary has no token for it ("\nUser:" for plain).
std::vector<std::string> chat_stops(ChatFamily family);

}  // namespace binhdan::text
