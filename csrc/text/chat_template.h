// The Jinja chat template of a file.
#pragma once
#include <string_view>

#include "gguf/reader.h"

namespace binhdan::text {

// "tokenizer.chat_template", or in a file without a default template the first "tokenizer.chat_template.NAME",
// with a warning. "" when the file has none. The template "rerank" is not one for conversations.
std::string_view find_chat_template(const gguf::File& file);

}  // namespace binhdan::text
