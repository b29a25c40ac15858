// Describes a GGUF file as JSON, also one that this build cannot run.
#pragma once
#include <string>

#include "gguf/reader.h"

namespace binhdan::api {

// One object:
//   version, file_bytes, architecture, name, parameters
//   context, embedding, layers, heads, kv_heads, head_dim, kv_bytes_per_token (F16 keys and values),
//               each null when the file lacks it
//   supported (whether this build supports the architecture), reason (why not, or null)
//   tokenizer   {model, pre, size, has_chat_template}, or null
//   types       [{type, tensors, parameters, bytes}], most bytes first
//   metadata    {key: scalar, or {type, count, values when short}}; long strings are cut, chat templates not
//   tensors     [{name, type, shape, bytes}], shape[0] is the row length
// Throws as File::open.
std::string inspect_json(const std::string& path);
std::string describe_file(const gguf::File& file);

}  // namespace binhdan::api
