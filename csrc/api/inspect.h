// Describes a GGUF file as JSON, including files that this build cannot run.
#pragma once
#include <string>

#include "gguf/reader.h"

namespace binhdan::api {

// One object:
//   version, file_bytes, architecture, name, parameters
//   context, embedding, layers, heads, kv_heads, head_dim, kv_bytes_per_token (F16 keys and values),
//               each null when the file lacks it
//   supported (whether this build supports the model), reason (null when it does, else the error of loading
//               it), damaged (the reason is a missing or wrong part, not one that this build lacks), warnings
//               (of loading it), causal (false: an encoder, which only embeds) and pooling (of embeddings:
//               mean, cls, last or rank), both null when it is not supported
//   tokenizer   {model, pre, size, has_chat_template}, or null
//   types       [{type, tensors, parameters, bytes}], by bytes in descending order; a type that binhdan does
//               not support is "19 (IQ1_S)"
//   metadata    {key: scalar, or {type, count, values of short arrays}}; long strings are truncated, except
//               chat templates
//   tensors     [{name, type, shape, bytes}], shape[0] is the row length
// Throws Error as File::open does.
std::string inspect_json(const std::string& path);
std::string describe_file(const gguf::File& file);

}  // namespace binhdan::api
