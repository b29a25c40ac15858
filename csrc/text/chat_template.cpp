#include "text/chat_template.h"

#include <string>

#include "base/log.h"
#include "base/utf8.h"

namespace binhdan::text {

std::string_view find_chat_template(const gguf::File& file) {
  constexpr std::string_view kDefault = "tokenizer.chat_template", kNamed = "tokenizer.chat_template.";
  if (file.find(kDefault)) return file.get_string(kDefault);
  for (const std::string& key : file.keys()) {
    if (!key.starts_with(kNamed) || key == "tokenizer.chat_template.rerank") continue;
    log(LogLevel::warning, file.path(), ": the file has no default chat template; ", quote_name(key),
        " is used");
    return file.get_string(key);
  }
  return "";
}

}  // namespace binhdan::text
