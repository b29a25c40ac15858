#include "text/chat.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/utf8.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};

// Collects a prompt: markup of ours, content of others, and tokens that stand apart.
class Prompt {
 public:
  explicit Prompt(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  Prompt& markup(std::string_view text) { return add(std::string(text), true); }
  Prompt& content(std::string_view text) { return add(nfc(text), false); }
  Prompt& token(std::optional<Token> token) {
    flush();
    if (token) tokens_.push_back(*token);
    return *this;
  }
  std::vector<Token> finish() {
    flush();
    return std::move(tokens_);
  }

 private:
  struct Part {
    std::string text;
    bool markup;
  };

  Prompt& add(std::string text, bool markup) {
    parts_.push_back({std::move(text), markup});
    return *this;
  }
  void flush() {
    std::vector<Segment> segments;
    for (const Part& part : parts_) segments.push_back({part.text, part.markup});
    const std::vector<Token> tokens = tokenizer_.encode(segments, false);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    parts_.clear();
  }

  const Tokenizer& tokenizer_;
  std::vector<Part> parts_;
  std::vector<Token> tokens_;
};

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpaces);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpaces) - first + 1);
}

std::optional<Token> wanted_bos(const Vocab& vocab) {
  return vocab.add_bos ? vocab.bos : std::nullopt;
}

const char* speaker(std::string_view role) {
  if (role == "user") return "User: ";
  return role == "tool" ? "Tool: " : "Assistant: ";
}

void write_plain(Prompt& prompt, std::span<const ChatMessage> messages, bool answer) {
  for (const ChatMessage& message : messages) {
    if (message.role == "system") {
      prompt.content(message.content).markup("\n\n");
      continue;
    }
    prompt.markup(speaker(message.role)).content(message.content).markup("\n");
  }
  if (answer) prompt.markup("Assistant:");
}

void write_chatml(Prompt& prompt, std::span<const ChatMessage> messages, bool answer) {
  for (const ChatMessage& message : messages)
    prompt.markup("<|im_start|>")
        .markup(message.role)
        .markup("\n")
        .content(message.content)
        .markup("<|im_end|>\n");
  if (answer) prompt.markup("<|im_start|>assistant\n");
}

void write_llama3(Prompt& prompt, std::span<const ChatMessage> messages, bool answer) {
  const auto header = [&](std::string_view role) {
    prompt.markup("<|start_header_id|>").markup(role).markup("<|end_header_id|>\n\n");
  };
  for (const ChatMessage& message : messages) {
    header(message.role == "tool" ? "ipython" : message.role);
    prompt.content(trim(message.content)).markup("<|eot_id|>");
  }
  if (answer) header("assistant");
}

// A system message goes into the question after it. Each pair of question and answer stands between BOS and
// EOS.
void write_llama2(Prompt& prompt, const Vocab& vocab, std::span<const ChatMessage> messages) {
  bool open = false;  // a question that is not answered yet
  bool system = false;
  const auto ask = [&] {
    if (!open) prompt.token(vocab.bos).markup("[INST] ");
    open = true;
  };
  const auto end_question = [&] {
    if (open) prompt.markup(" [/INST]");
    open = false;
    system = false;
  };
  for (const ChatMessage& message : messages) {
    if (message.role == "assistant") {
      if (!open) ask();
      end_question();
      prompt.markup(" ").content(trim(message.content)).markup(" ").token(vocab.eos);
    } else if (message.role == "system") {
      end_question();
      ask();
      prompt.markup("<<SYS>>\n").content(trim(message.content)).markup("\n<</SYS>>\n\n");
      system = true;
    } else {
      if (!system) end_question();
      ask();
      prompt.content(trim(message.content));
      system = false;
    }
  }
  end_question();
}

std::optional<ChatFamily> family_of_template(std::string_view chat_template) {
  const auto has = [&](std::string_view marker) {
    return chat_template.find(marker) != std::string_view::npos;
  };
  if (has("<|im_start|>")) return ChatFamily::chatml;
  if (has("<|start_header_id|>")) return ChatFamily::llama3;
  if (has("[INST]")) return ChatFamily::llama2;
  return std::nullopt;
}

}  // namespace

ChatFamily detect_chat_family(const Vocab& vocab) {
  if (const auto family = family_of_template(vocab.chat_template)) return *family;
  const auto has = [&](std::string_view marker) {
    const auto token = vocab.find(marker);
    return token && vocab.is_special(*token);
  };
  if (has("<|im_start|>") && has("<|im_end|>")) return ChatFamily::chatml;
  if (has("<|start_header_id|>") && has("<|eot_id|>")) return ChatFamily::llama3;
  return ChatFamily::plain;
}

std::vector<Token> encode_chat(const Tokenizer& tokenizer, ChatFamily family,
                               std::span<const ChatMessage> messages, bool add_generation_prompt) {
  for (const ChatMessage& message : messages)
    if (std::find(kRoles.begin(), kRoles.end(), message.role) == kRoles.end())
      fail(Code::invalid_argument, "role ", quote_name(message.role),
           ": expected 'system', 'user', 'assistant' or 'tool'");
  const Vocab& vocab = tokenizer.vocab();
  Prompt prompt(tokenizer);
  switch (family) {
    case ChatFamily::plain:
      prompt.token(wanted_bos(vocab));
      write_plain(prompt, messages, add_generation_prompt);
      break;
    case ChatFamily::chatml:
      prompt.token(wanted_bos(vocab));
      write_chatml(prompt, messages, add_generation_prompt);
      break;
    case ChatFamily::llama3:
      prompt.token(vocab.bos);
      write_llama3(prompt, messages, add_generation_prompt);
      break;
    case ChatFamily::llama2:  // the end of a question is where the answer starts
      write_llama2(prompt, vocab, messages);
      break;
  }
  return prompt.finish();
}

std::vector<std::string> chat_stops(ChatFamily family) {
  switch (family) {
    case ChatFamily::plain:
      return {"\nUser:"};
    case ChatFamily::chatml:
      return {"<|im_end|>"};
    case ChatFamily::llama2:
      return {"</s>"};
    case ChatFamily::llama3:
      return {"<|eot_id|>"};
  }
  return {};
}

}  // namespace binhdan::text
