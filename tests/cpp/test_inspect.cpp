#include <cmath>
#include <limits>
#include <string>

#include "api/inspect.h"
#include "api/json.h"
#include "check.h"
#include "gguf/reader.h"
#include "gguf_builder.h"
#include "temporary_folder.h"

using namespace binhdan;
using api::JsonWriter;
using gguf::ValueType;
using Builder = GgufBuilder;

namespace {

std::string describe(const Builder& builder) {
  return api::describe_file(gguf::File::parse(builder.bytes(), "test.gguf"));
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST(json_writes_commas_and_escapes) {
  JsonWriter out;
  out.begin_object().field("a", 1).field("b", true).key("c").begin_array().value("x").null().begin_object();
  out.end_object().end_array().field("d", 0.5).field("e", 1e-6f).end_object();
  CHECK(out.text() == R"({"a":1,"b":true,"c":["x",null,{}],"d":0.5,"e":1e-06})");
  const auto quoted = [](std::string_view text) { return JsonWriter().value(text).text(); };
  CHECK(quoted("say \"chào\"\\\n\x01") == "\"say \\\"chào\\\"\\\\\\u000a\\u0001\"");
  CHECK(quoted("a\xff\xe1\xbaz") == "\"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"");
  CHECK(quoted(std::string_view("\0", 1)) == "\"\\u0000\"");
  CHECK(JsonWriter().value(std::nan("")).text() == "null");
  CHECK(JsonWriter().value(-std::numeric_limits<float>::infinity()).text() == "null");
  CHECK(JsonWriter().value(~uint64_t{0}).text() == "18446744073709551615");
  CHECK(JsonWriter().value(int64_t{-5}).text() == "-5");
}

TEST(describes_an_unsupported_model) {
  Builder b(2, 9);
  b.key("general.architecture", "mamba9").key("general.name", "thử");
  b.key("mamba9.block_count", ValueType::u32, uint32_t{4});
  b.key("mamba9.embedding_length", ValueType::u32, uint32_t{64});
  b.key("mamba9.context_length", ValueType::u64, uint64_t{2048});
  b.key("mamba9.attention.head_count", ValueType::u32, uint32_t{8});
  b.array("mamba9.attention.head_count_kv", ValueType::i32, 4);
  for (const int32_t heads : {2, 0, 2, 0}) b.add(heads);
  b.array("tokenizer.ggml.tokens", ValueType::string, 2).string("a").string("b");
  b.key("tokenizer.ggml.model", "gpt2");
  b.tensor("w", {4, 2}, 0, 0).tensor("q", {32, 4}, 8, 32).pad().fill(32 + 136);
  const std::string json = describe(b);
  CHECK(has(json, R"("architecture":"mamba9","name":"thử","parameters":136,"context":2048,"embedding":64)"));
  CHECK(has(json, R"("layers":4,"heads":8,"kv_heads":2,"head_dim":8,"kv_bytes_per_token":512)"));
  CHECK(has(json, R"("supported":false,"reason":)") && has(json, R"("causal":null,"pooling":null)"));
  CHECK(has(json, R"("tokenizer":{"model":"gpt2","pre":null,"size":2,"has_chat_template":false})"));
  CHECK(has(json, R"("types":[{"type":"Q8_0","tensors":1,"parameters":128,"bytes":136},{"type":"F32",)"));
  CHECK(has(json, R"("mamba9.attention.head_count_kv":{"type":"i32","count":4,"values":[2,0,2,0]})"));
  CHECK(has(json, R"("tensors":[{"name":"w","type":"F32","shape":[4,2],"bytes":32})"));
}

TEST(tensors_of_unsupported_types_are_listed_and_named_as_the_reason) {
  Builder b(1, 1);
  b.key("general.architecture", "llama").tensor("blk.0.attn_q.weight", {256, 2}, 9999, 0).pad().fill(96);
  const std::string json = describe(b);
  CHECK(has(json,
            R"("reason":"tensor 'blk.0.attn_q.weight': tensor type 9999 is not supported; expected one of)"));
  CHECK(has(json, R"("types":[{"type":"9999","tensors":1,"parameters":512,"bytes":96}])"));
  CHECK(has(json, R"("tensors":[{"name":"blk.0.attn_q.weight","type":"9999","shape":[256,2],"bytes":96}])"));
}

TEST(invalid_values_count_as_absent) {
  const std::string empty = describe(Builder(0, 0));
  CHECK(has(empty, R"("architecture":null,"name":null,"parameters":0,"context":null)"));
  CHECK(has(empty, R"("tokenizer":null,"types":[],"metadata":{},"tensors":[])"));
  Builder b(0, 6);
  b.key("general.architecture", "x").key("x.block_count", ValueType::u64, ~uint64_t{0});
  b.key("x.attention.head_count", ValueType::u64, ~uint64_t{0});
  b.key("x.embedding_length", ValueType::i32, int32_t{-1}).key("x.context_length", "many");
  b.key("tokenizer.ggml.tokens", ValueType::u8, uint8_t{1});
  const std::string json = describe(b);
  CHECK(has(json, R"("context":null,"embedding":null)") && has(json, R"("kv_bytes_per_token":null)"));
  CHECK(has(json, R"("tokenizer":null)"));
}

TEST(long_metadata_is_truncated_except_chat_templates) {
  std::string vietnamese;
  for (int i = 0; i < 1000; ++i) vietnamese += "ệ";
  Builder b(0, 3);
  b.key("long", vietnamese).key("tokenizer.chat_template", vietnamese);
  b.array("numbers", ValueType::u8, 1000).fill(1000, 7);
  const std::string json = describe(b);
  CHECK(has(json, "\"tokenizer.chat_template\":\"" + vietnamese + "\""));
  CHECK(has(json, "\"long\":\"" + vietnamese.substr(0, 999) + "…\""));
  CHECK(has(json, R"("numbers":{"type":"u8","count":1000})"));
}

TEST(inspects_a_file_on_disk) {
  const TemporaryFolder folder;
  CHECK(has(api::inspect_json(folder.write("empty.gguf", Builder(0, 0).bytes())), "\"version\":3"));
  CHECK_FAILS(api::inspect_json(folder.write("text.gguf", "just some text, no model")), "not a GGUF file");
  CHECK_FAILS(api::inspect_json(folder / "none.gguf"), "none.gguf");
}
