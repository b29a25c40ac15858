// The tokens of a query and a document for a reranker.
#pragma once
#include <string_view>
#include <vector>

#include "gguf/reader.h"
#include "text/tokenizer.h"

namespace binhdan::text {

// Fills the template "tokenizer.chat_template.rerank" of the file if it has one (Qwen3-Reranker). Otherwise the
// form of transformers' cross-encoders: BOS query EOS document EOS, with SEP before the document where the file
// specifies it (XLM-R: <s> q </s></s> d </s>; BERT: [CLS] q [SEP] d [SEP]). The texts are normalized to NFC and
// contain no control tokens. Throws Error as Tokenizer::encode().
std::vector<Token> encode_pair(const gguf::File& file, const Tokenizer& tokenizer, std::string_view query,
                               std::string_view document);

}  // namespace binhdan::text
