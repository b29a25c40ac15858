// binhdan_tools.h: pre-tokenizers, and tokenizers without a model.
#include "api/tools.h"

using namespace binhdan;
using namespace binhdan::api;
using namespace binhdan::tools;

struct binhdan_tools_tokenizer {
  internal::FileTokenizer tokenizer;
};

int32_t binhdan_tools_pretokenizer(size_t index, const char** name) {
  return guarded([&] {
    static const std::vector<std::string> names = internal::pretokenizer_names();
    *require(name, "name") = entry(names, index).c_str();
  });
}

int32_t binhdan_tools_pretokenizer_pattern(const char* pretokenizer, size_t index, char* pattern,
                                           size_t capacity, size_t* size) {
  return guarded([&] {
    const auto patterns = internal::pretokenizer_patterns(require(pretokenizer, "pretokenizer"));
    write_array<char>(entry(patterns, index), pattern, capacity, size);
  });
}

int32_t binhdan_tools_split_words(const char* pretokenizer, const char* data, size_t text_size, size_t* ends,
                                  size_t capacity, size_t* size) {
  return guarded([&] {
    const std::vector<size_t> found = internal::split_words(require(pretokenizer, "pretokenizer"),
                                                            std::string(api::text(data, text_size, "text")));
    write_array<size_t>(found, ends, capacity, size);
  });
}

int32_t binhdan_tools_tokenizer_open(const char* path, binhdan_tools_tokenizer** tokenizer) {
  return guarded([&] {
    require(tokenizer, "tokenizer");
    *tokenizer = new binhdan_tools_tokenizer{internal::FileTokenizer(require(path, "path"))};
  });
}

void binhdan_tools_tokenizer_free(binhdan_tools_tokenizer* tokenizer) {
  delete tokenizer;
}

int32_t binhdan_tools_tokenizer_encode(const binhdan_tools_tokenizer* tokenizer, const char* data,
                                       size_t text_size, int32_t parse_special, int32_t* tokens,
                                       size_t capacity, size_t* size) {
  return guarded([&] {
    const auto found = require(tokenizer, "tokenizer")
                           ->tokenizer.encode(api::text(data, text_size, "text"), parse_special != 0);
    write_array<int32_t>(found, tokens, capacity, size);
  });
}

int32_t binhdan_tools_tokenizer_decode(const binhdan_tools_tokenizer* tokenizer, const int32_t* tokens,
                                       size_t n_tokens, int32_t special, char* out, size_t capacity,
                                       size_t* size) {
  return guarded([&] {
    const std::string found =
        require(tokenizer, "tokenizer")->tokenizer.decode(array(tokens, n_tokens, "tokens"), special != 0);
    write_array<char>(found, out, capacity, size);
  });
}
