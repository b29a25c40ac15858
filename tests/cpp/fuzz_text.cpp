// libFuzzer: all vocabulary models encode any bytes without a crash; without a normalizer, decoding returns the
// same bytes.
#include <cstdlib>

#include "text/unicode.h"
#include "tiny_vocab.h"

using namespace binhdan::text;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const Tokenizer& tokenizer, std::string_view text, bool markup) {
  const std::vector<Token> tokens = tokenizer.encode(text, false, markup);
  require(tokenizer.decode(tokens, true) == text);
  StreamDecoder decoder(tokenizer);
  std::string streamed;
  for (const Token token : tokens) {
    require(markup || !tokenizer.vocab().is_special(token));  // no byte lacks a token
    streamed += decoder.push(token);
  }
  streamed += decoder.finish();
  require(streamed == replace_invalid(tokenizer.decode(tokens)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer byte_level[] = {byte_spec("gpt-2").tokenizer(), byte_spec("qwen2").tokenizer(),
                                         byte_spec("qwen35").tokenizer(), byte_spec("llama-bpe").tokenizer()};
  static const Tokenizer marked[] = {spm_spec().tokenizer(), char_spec().tokenizer()};
  static const Tokenizer normalizing[] = {unigram_spec().tokenizer(), unigram_spec(true).tokenizer(),
                                          charsmap_spec().tokenizer(), wordpiece_spec().tokenizer()};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const bool markup : {false, true}) {
    for (const Tokenizer& tokenizer : byte_level) check(tokenizer, text, markup);
    if (text.find("▁") == std::string_view::npos)  // decoded as a space
      for (const Tokenizer& tokenizer : marked) check(tokenizer, text, markup);
    for (const Tokenizer& tokenizer : normalizing) {
      const std::vector<Token> tokens = tokenizer.encode(text, true, markup);
      (void)tokenizer.decode(tokens, true);
      require(!tokens.empty());
      for (const Token token : std::vector(tokens.begin() + 1, tokens.end() - 1))
        require(markup || !tokenizer.vocab().is_special(token) || token == tokenizer.vocab().unknown);
    }
  }
  const std::string composed = nfc(text);
  require(nfc(composed) == composed);
  return 0;
}
