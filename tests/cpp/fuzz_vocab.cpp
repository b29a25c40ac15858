// libFuzzer: a vocabulary with random changes causes an Error or yields a working tokenizer, never a crash.
#include "base/error.h"
#include "text/chat.h"
#include "tiny_vocab.h"

using namespace binhdan::text;

// The input is a list of changes of 3 bytes each: a 16-bit position and the new byte.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<std::byte> whole[] = {byte_spec("qwen2").write(), byte_spec("llama-bpe").write(),
                                                 spm_spec().write(),         char_spec().write(),
                                                 unigram_spec().write(),     unigram_spec(true).write(),
                                                 charsmap_spec().write(),    wordpiece_spec().write()};
  for (std::vector<std::byte> bytes : whole) {
    for (size_t i = 0; i + 2 < size; i += 3)
      bytes[(data[i] << 8 | data[i + 1]) % bytes.size()] = static_cast<std::byte>(data[i + 2]);
    try {
      const Tokenizer tokenizer(Vocab::read(binhdan::gguf::File::parse(bytes, "changed.gguf")));
      const std::vector<Token> tokens = tokenizer.encode("<|im_start|>aaab thà  ng<think></s>\n", true, true);
      (void)tokenizer.decode(tokens, true);
      const ChatMessage message{"user", "aab thà"};
      (void)encode_chat(tokenizer, detect_chat_family(tokenizer.vocab()), {&message, 1}, true);
    } catch (const binhdan::Error&) {
    }
  }
  return 0;
}
