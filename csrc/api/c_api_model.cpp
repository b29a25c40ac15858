// The C ABI: models and text.
#include <cstdlib>
#include <cstring>

#include "api/c_api.h"
#include "api/inspect.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "model/pack_file.h"
#include "text/chat.h"
#include "text/pair.h"

using namespace binhdan;
using namespace binhdan::api;

namespace {

void copy_name(char* out, size_t capacity, std::string_view name) {
  const size_t size = std::min(name.size(), capacity - 1);
  std::memcpy(out, name.data(), size);
  out[size] = '\0';
}

text::ChatFamily chat_family(const model::Model& model, int32_t family) {
  if (family == BINHDAN_CHAT_AUTO) return text::detect_chat_family(model.tokenizer.vocab());
  if (family < BINHDAN_CHAT_PLAIN || family > BINHDAN_CHAT_LLAMA3)
    fail(Code::invalid_argument, "family: expected ", BINHDAN_CONSTANT(BINHDAN_CHAT_AUTO), " to ",
         BINHDAN_CONSTANT(BINHDAN_CHAT_LLAMA3), ", got ", family);
  return static_cast<text::ChatFamily>(family);
}

model::Model load(const char* path, const binhdan_model_options* given, bool use_pack_file) {
  require(path, "path");
  const auto options = read_struct(given, "binhdan_model_options", binhdan_model_options{});
  check_flags(options.flags,
              {BINHDAN_CONSTANT(BINHDAN_MODEL_NO_MEMORY_CHECK), BINHDAN_CONSTANT(BINHDAN_MODEL_NO_PACK_FILE),
               BINHDAN_CONSTANT(BINHDAN_MODEL_VOCABULARY_ONLY)});
  const char* environment = std::getenv("BINHDAN_ISA");
  const char* isa = options.isa ? options.isa : environment ? environment : "";
  model::LoadOptions load;
  load.threads = options.flags & BINHDAN_MODEL_VOCABULARY_ONLY ? 0 : checked_threads(options.threads);
  if (options.progress)
    load.progress = [=](float done) { return options.progress(options.progress_user, done) != 0; };
  load.use_pack_file = use_pack_file && !(options.flags & BINHDAN_MODEL_NO_PACK_FILE);
  if (!(options.flags & BINHDAN_MODEL_NO_MEMORY_CHECK)) load.available_memory = available_memory();
  return model::Model::load(path, isa, load);
}

}  // namespace

int32_t binhdan_model_open(const char* path, const binhdan_model_options* given, binhdan_model* out) {
  return guarded([&] {
    require(out, "model");
    const int64_t start = now_ns();
    auto opened = std::make_shared<const model::Model>(load(path, given, true));
    log(LogLevel::info, "opened ", path, ": ", opened->config.architecture, ", ", opened->weights.bytes,
        " bytes, ", opened->table->isa, ", ", (now_ns() - start) / 1000000, " ms",
        opened->weights.from_pack_file ? ", from a pack file" : "");
    *out = models().add(std::move(opened));
  });
}

int32_t binhdan_model_pack(const char* path, const binhdan_model_options* given, const char* output) {
  return guarded([&] {
    const model::Model model = load(path, given, false);
    model.weights.write_pack_file(model.file, output ? output : model::PackFile::path_of(path));
  });
}

int32_t binhdan_model_close(binhdan_model handle) {
  return guarded([&] { models().remove(handle, "model"); });
}

int32_t binhdan_model_describe(binhdan_model handle, binhdan_model_info* out) {
  return guarded([&] {
    const auto model = models().get(handle, "model");
    const model::Config& config = model->config;
    const text::Vocab& vocab = model->tokenizer.vocab();
    binhdan_model_info info{};
    copy_name(info.architecture, sizeof info.architecture, config.architecture);
    copy_name(info.isa, sizeof info.isa, model->table->isa);
    info.parameters = model->weights.parameters;
    info.file_bytes = model->file.bytes();
    info.weight_bytes = model->weights.bytes;
    info.bytes_per_token = model->weights.bytes_per_token();
    info.kv_bytes_per_token = config.kv_bytes_per_token();
    info.context = static_cast<int32_t>(config.context);
    info.vocabulary = static_cast<int32_t>(config.vocabulary);
    info.embedding = static_cast<int32_t>(model->weights.embedding_size(config));
    info.layers = static_cast<int32_t>(config.layers.size());
    info.heads = static_cast<int32_t>(config.layers[0].heads);
    info.kv_heads = static_cast<int32_t>(config.layers[0].kv_heads);
    info.head_dim = static_cast<int32_t>(config.layers[0].head_dim);
    info.bos = vocab.bos.value_or(-1);
    info.eos = vocab.eos.value_or(-1);
    info.unknown = vocab.unknown.value_or(-1);
    info.padding = vocab.padding.value_or(-1);
    info.chat_family = static_cast<int32_t>(text::detect_chat_family(vocab));
    info.pooling = static_cast<int32_t>(config.pooling);
    info.causal = config.causal;
    write_struct(out, "binhdan_model_info", info);
  });
}

int32_t binhdan_model_metadata(binhdan_model handle, const char* key, char* out, size_t capacity,
                               size_t* size) {
  return guarded([&] {
    const auto model = models().get(handle, "model");
    const gguf::Value* value = model->file.find(require(key, "key"));
    if (const std::string& chat = model->tokenizer.vocab().chat_template;
        key == std::string_view("tokenizer.chat_template") && !chat.empty())
      return write_array<char>(chat, out, capacity, size);
    if (!value || value->type != gguf::ValueType::string)
      fail(Code::not_found, "metadata: expected a string, found none under the key ", key);
    const std::string_view found = model->file.get_string(key);
    write_array<char>(found, out, capacity, size);
    model->file.check_intact();
  });
}

int32_t binhdan_model_warnings(binhdan_model handle, char* out, size_t capacity, size_t* size) {
  return guarded([&] {
    const auto model = models().get(handle, "model");
    std::string lines;
    for (const std::string& warning : model->warnings) lines.append(warning).append("\n");
    write_array<char>(lines, out, capacity, size);
  });
}

int32_t binhdan_inspect(const char* path, char* out, size_t capacity, size_t* size) {
  return guarded([&] { write_array<char>(inspect_json(require(path, "path")), out, capacity, size); });
}

int32_t binhdan_tokenize(binhdan_model handle, const char* data, size_t data_size, uint32_t flags,
                         int32_t* tokens, size_t capacity, size_t* count) {
  return guarded([&] {
    check_flags(flags, {BINHDAN_CONSTANT(BINHDAN_ADD_SPECIAL), BINHDAN_CONSTANT(BINHDAN_PARSE_SPECIAL)});
    const auto model = models().get(handle, "model");
    write_array<int32_t>(model->tokenizer.encode(api::text(data, data_size, "text"),
                                                 flags & BINHDAN_ADD_SPECIAL, flags & BINHDAN_PARSE_SPECIAL),
                         tokens, capacity, count);
  });
}

int32_t binhdan_tokenize_segments(binhdan_model handle, const binhdan_segment* segments, size_t n_segments,
                                  uint32_t flags, int32_t* tokens, size_t capacity, size_t* count) {
  return guarded([&] {
    check_flags(flags, {BINHDAN_CONSTANT(BINHDAN_ADD_SPECIAL)});
    const auto model = models().get(handle, "model");
    std::vector<text::Segment> parts;
    for (const binhdan_segment& segment : array(segments, n_segments, "segments"))
      parts.push_back({api::text(segment.text, segment.size, "segment.text"), segment.markup != 0});
    write_array<int32_t>(model->tokenizer.encode(parts, flags & BINHDAN_ADD_SPECIAL), tokens, capacity,
                         count);
  });
}

int32_t binhdan_chat_tokenize(binhdan_model handle, int32_t family, const binhdan_message* messages,
                              size_t n_messages, int32_t add_generation_prompt, int32_t* tokens,
                              size_t capacity, size_t* count) {
  return guarded([&] {
    const auto model = models().get(handle, "model");
    std::vector<text::ChatMessage> turns;
    for (const binhdan_message& message : array(messages, n_messages, "messages"))
      turns.push_back({require(message.role, "message.role"),
                       api::text(message.content, message.size, "message.content")});
    write_array<int32_t>(
        text::encode_chat(model->tokenizer, chat_family(*model, family), turns, add_generation_prompt != 0),
        tokens, capacity, count);
  });
}

int32_t binhdan_tokenize_pair(binhdan_model handle, const char* query, size_t query_size,
                              const char* document, size_t document_size, int32_t* tokens, size_t capacity,
                              size_t* count) {
  return guarded([&] {
    const auto model = models().get(handle, "model");
    write_array<int32_t>(
        text::encode_pair(model->file, model->tokenizer, api::text(query, query_size, "query"),
                          api::text(document, document_size, "document")),
        tokens, capacity, count);
  });
}

int32_t binhdan_detokenize(binhdan_model handle, const int32_t* tokens, size_t n_tokens, uint32_t flags,
                           char* out, size_t capacity, size_t* size) {
  return guarded([&] {
    check_flags(flags, {BINHDAN_CONSTANT(BINHDAN_WRITE_SPECIAL)});
    const auto model = models().get(handle, "model");
    const auto ids = array(tokens, n_tokens, "tokens");
    for (size_t i = 0; i < ids.size(); ++i)
      if (ids[i] < 0 || ids[i] >= model->config.vocabulary)
        fail(Code::invalid_argument, "tokens[", i, "]: expected 0 to ", model->config.vocabulary - 1,
             ", got ", ids[i]);
    write_array<char>(model->tokenizer.decode(ids, flags & BINHDAN_WRITE_SPECIAL), out, capacity, size);
  });
}

int32_t binhdan_token_role(binhdan_model handle, int32_t token, int32_t* role) {
  return guarded([&] {
    const auto model = models().get(handle, "model");
    const text::Vocab& vocab = model->tokenizer.vocab();
    if (token < 0 || token >= vocab.size())
      fail(Code::invalid_argument, "token: expected 0 to ", vocab.size() - 1, ", got ", token);
    *require(role, "role") = vocab.ends_generation(token) ? 1 : vocab.is_special(token) ? 2 : 0;
  });
}
