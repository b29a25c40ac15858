#include "text/chat.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/utf8.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};

// Collects a prompt from markup, content that must not become markup, and single tokens.
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

// What Python's str.strip() removes, and so Jinja's trim.
bool is_stripped(char32_t c) {
  return is_whitespace(c) || (c >= 0x1C && c <= 0x1F);
}

std::string_view trim_end(std::string_view text) {
  std::size_t end = 0;
  for (std::size_t i = 0; i < text.size();)
    if (!is_stripped(next_codepoint(text, i))) end = i;
  return text.substr(0, end);
}

std::string_view trim(std::string_view text) {
  text = trim_end(text);
  std::size_t begin = 0;
  for (std::size_t i = 0; i < text.size() && is_stripped(next_codepoint(text, i));) begin = i;
  return text.substr(begin);
}

std::string_view trim_newlines(std::string_view text) {
  const std::size_t first = text.find_first_not_of('\n');
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of('\n') - first + 1);
}

std::string_view skip_newlines(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of('\n'), text.size()));
}

// Features of the file's template in addition to the turns of its family.
struct TemplateTraits {
  bool bos = false;            // begins with BOS
  std::string default_system;  // content of the system message that it adds when there is none; "": adds none
  bool thinking = false;       // Qwen3: reasoning in answers, and an empty one when thinking is off
  bool tool_responses = false;  // Qwen: tool messages become parts of a user message
  bool ipython = false;         // Llama 3.1: the role of tool messages
};

// The text of "<|im_start|>system\nTEXT<|im_end|>" where a string literal of the template holds all of it.
std::string default_system_message(std::string_view chat_template) {
  constexpr std::string_view kBegin = "<|im_start|>system\\n", kEnd = "<|im_end|>";
  for (std::size_t at = 0; (at = chat_template.find(kBegin, at)) != std::string_view::npos;) {
    at += kBegin.size();
    std::string_view literal = chat_template.substr(at);
    literal = literal.substr(0, literal.find_first_of("'\"{}"));
    const std::size_t end = literal.find(kEnd);
    if (end == std::string_view::npos) {
      at += literal.size();
      continue;
    }
    std::string text;
    for (std::size_t i = 0; i < end; ++i) {
      const bool newline = literal.substr(i, 2) == "\\n";
      text += newline ? '\n' : literal[i];
      i += newline;
    }
    return text;
  }
  return {};
}

TemplateTraits read_traits(const Vocab& vocab, ChatFamily family) {
  const std::string_view source = vocab.chat_template;
  const auto has = [&](std::string_view text) { return source.find(text) != std::string_view::npos; };
  TemplateTraits traits;
  if (source.empty() || detect_chat_family(vocab) != family) {  // the common form of the family
    traits.bos = vocab.add_bos || family == ChatFamily::llama3;
    traits.ipython = true;
    return traits;
  }
  traits.bos = has("bos_token") || (family == ChatFamily::plain && vocab.add_bos);
  traits.default_system = default_system_message(source);
  traits.thinking = has("enable_thinking") && has("<think>\\n\\n</think>\\n\\n");
  traits.tool_responses = has("<tool_response>");
  traits.ipython = has("ipython");
  return traits;
}

const char* speaker(std::string_view role) {
  if (role == "user") return "User: ";
  return role == "tool" ? "Tool: " : "Assistant: ";
}

void write_plain(Prompt& prompt, std::span<const ChatMessage> messages, bool add_generation_prompt) {
  for (const ChatMessage& message : messages) {
    if (message.role == "system")
      prompt.content(message.content).markup("\n\n");
    else
      prompt.markup(speaker(message.role)).content(message.content).markup("\n");
  }
  if (add_generation_prompt) prompt.markup("Assistant:");
}

// An answer of Qwen3. `last`: it is the last message; `current`: it follows the last question.
void write_thinking_answer(Prompt& prompt, std::string_view answer, bool current, bool last) {
  constexpr std::string_view kBegin = "<think>", kEnd = "</think>";
  std::string_view reasoning, content = answer;
  if (const std::size_t end = answer.find(kEnd); end != std::string_view::npos) {
    reasoning = answer.substr(0, end);
    reasoning = reasoning.substr(0, reasoning.find_last_not_of('\n') + 1);
    if (const std::size_t begin = reasoning.rfind(kBegin); begin != std::string_view::npos)
      reasoning = reasoning.substr(begin + kBegin.size());
    reasoning = trim_newlines(reasoning);
    content = skip_newlines(answer.substr(answer.rfind(kEnd) + kEnd.size()));
  }
  if (current && (last || !reasoning.empty()))
    prompt.markup("<think>\n").content(reasoning).markup("\n</think>\n\n").content(skip_newlines(content));
  else
    prompt.content(content);
}

void write_chatml(Prompt& prompt, const TemplateTraits& traits, std::span<const ChatMessage> messages,
                  bool add_generation_prompt) {
  const auto begin = [&](std::string_view role) { prompt.markup("<|im_start|>").markup(role).markup("\n"); };
  const auto end = [&] { prompt.markup("<|im_end|>\n"); };
  const auto is_tool = [&](std::size_t i) { return i < messages.size() && messages[i].role == "tool"; };
  std::size_t last_question = messages.size();
  for (std::size_t i = 0; i < messages.size(); ++i)
    if (messages[i].role == "user") last_question = i;

  if (!traits.default_system.empty() && (messages.empty() || messages[0].role != "system")) {
    begin("system");
    prompt.markup(traits.default_system);
    end();
  }
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (traits.tool_responses && message.role == "tool") {
      if (i == 0 || !is_tool(i - 1)) prompt.markup("<|im_start|>user");
      prompt.markup("\n<tool_response>\n").content(message.content).markup("\n</tool_response>");
      if (!is_tool(i + 1)) end();
      continue;
    }
    begin(message.role);
    if (traits.thinking && message.role == "assistant")
      write_thinking_answer(prompt, message.content, i > last_question, i + 1 == messages.size());
    else
      prompt.content(message.content);
    end();
  }
  if (!add_generation_prompt) return;
  begin("assistant");
  if (traits.thinking) prompt.markup("<think>\n\n</think>\n\n");
}

void write_llama3(Prompt& prompt, const TemplateTraits& traits, std::span<const ChatMessage> messages,
                  bool add_generation_prompt) {
  const auto header = [&](std::string_view role) {
    prompt.markup("<|start_header_id|>").markup(role).markup("<|end_header_id|>\n\n");
  };
  for (const ChatMessage& message : messages) {
    header(message.role == "tool" && traits.ipython ? "ipython" : message.role);
    prompt.content(trim(message.content)).markup("<|eot_id|>");
  }
  if (add_generation_prompt) header("assistant");
}

// A system message becomes a part of the question after it. BOS and EOS enclose each question with its
// answer.
void write_llama2(Prompt& prompt, const Vocab& vocab, std::span<const ChatMessage> messages) {
  bool open = false;                 // a question that has no answer yet
  const char* system_end = nullptr;  // of a system message before the question
  const auto begin_question = [&] {
    if (!open) prompt.token(vocab.bos).markup("[INST] ");
    open = true;
  };
  const auto end_question = [&] {
    if (system_end) prompt.markup(system_end);
    if (open) prompt.markup(" [/INST]");
    open = false;
    system_end = nullptr;
  };
  for (const ChatMessage& message : messages) {
    if (message.role == "assistant") {
      begin_question();
      end_question();
      prompt.markup(" ").content(trim(message.content)).markup(" ").token(vocab.eos);
    } else if (message.role == "system") {
      end_question();
      begin_question();
      prompt.markup("<<SYS>>\n").content(message.content);
      system_end = "\n<</SYS>>";
    } else if (system_end) {
      // The template strips system message and question as one text.
      if (const std::string_view question = trim_end(message.content); !question.empty())
        prompt.markup("\n<</SYS>>\n\n").content(question);
      else
        prompt.markup(system_end);
      system_end = nullptr;
    } else {
      end_question();
      begin_question();
      prompt.content(trim(message.content));
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
  const TemplateTraits traits = read_traits(vocab, family);
  Prompt prompt(tokenizer);
  if (traits.bos && family != ChatFamily::llama2) prompt.token(vocab.bos);
  switch (family) {
    case ChatFamily::plain:
      write_plain(prompt, messages, add_generation_prompt);
      break;
    case ChatFamily::chatml:
      write_chatml(prompt, traits, messages, add_generation_prompt);
      break;
    case ChatFamily::llama3:
      write_llama3(prompt, traits, messages, add_generation_prompt);
      break;
    case ChatFamily::llama2:  // the answer begins where the question ends: there is no generation prompt
      write_llama2(prompt, vocab, messages);
      break;
  }
  return prompt.finish();
}

}  // namespace binhdan::text
