// Tokenizers, compared with simple quadratic ones; their handling of special tokens, any bytes and long
// texts.
#include <algorithm>
#include <limits>
#include <random>

#include "check.h"
#include "text/pretokenizer.h"
#include "text/unicode.h"
#include "tiny_vocab.h"

using namespace binhdan::text;

namespace {

using Tokens = std::vector<Token>;

std::vector<std::string> words(const char* pre, std::string_view text) {
  std::vector<std::string> out;
  WordSplitter(*find_pretokenizer(pre)).split(text, [&](std::string_view word) { out.emplace_back(word); });
  return out;
}

std::string random_text(std::mt19937& random, const std::vector<std::string>& parts, size_t max_parts) {
  std::string text;
  for (size_t n = random() % (max_parts + 1); n > 0; --n) text += parts[random() % parts.size()];
  return text;
}

// The definition of BPE, in O(n^2): merges the pair of lowest cost, the leftmost of ties, until none is left.
template <typename Cost>
std::vector<std::string> merge_slowly(std::vector<std::string> pieces, Cost cost) {
  while (true) {
    double best = std::numeric_limits<double>::infinity();
    size_t at = 0;
    for (size_t i = 0; i + 1 < pieces.size(); ++i)
      if (const double c = cost(pieces[i], pieces[i + 1]); c < best) best = c, at = i;
    if (best == std::numeric_limits<double>::infinity()) return pieces;
    pieces[at] += pieces[at + 1];
    pieces.erase(pieces.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

const std::vector<std::string> kParts = {"a",  "a",  "aa", "b",    "ab", " ",      "  ",   "n",   "g",
                                         "th", "à",  "ệ",  "Việt", "\n", "1",      "'s",   "<",   "|",
                                         "im", "_s", "</", "s>",   "🦙", "\u0301", "\xFF", "\xE1"};

}  // namespace

TEST(words_of_gpt2) {
  using W = std::vector<std::string>;
  CHECK((words("gpt-2", "Xin chào  bạn!!") == W{"Xin", " chào", " ", " bạn", "!!"}));
  CHECK((words("gpt-2", "it's 'RE we'll\n\nx12 ½") ==
         W{"it", "'s", " '", "RE", " we", "'ll", "\n", "\n", "x", "12", " ½"}));
  CHECK((words("gpt-2", "a \n ") == W{"a", " \n "}));
  CHECK((words("mpt", "e\u0301 \u00A0x") == W{"e", "\u0301", " ", "\u00A0", "x"}));
}

TEST(words_of_qwen2_and_llama3) {
  using W = std::vector<std::string>;
  CHECK((words("qwen2", "Hà Nội's 1234") == W{"Hà", " Nội", "'s", " ", "1", "2", "3", "4"}));
  CHECK((words("llama-bpe", "12345 'LL") == W{"123", "45", " '", "LL"}));
  CHECK((words("qwen2", "I'LL \t(x)\r\n\n y") == W{"I", "'LL", " ", "\t", "(x", ")\r\n\n", " y"}));
  CHECK((words("qwen2", "I'LL (x)\r\n\n y") == W{"I", "'LL", " (", "x", ")\r\n\n", " y"}));
  CHECK((words("qwen2", "a \n \n  b") == W{"a", " \n \n", " ", " b"}));
  CHECK((words("qwen2", "a   ") == W{"a", "   "}));
  CHECK((words("qwen2", "#\u0301e \u0301e") == W{"#\u0301", "e", " \u0301", "e"}));
  CHECK((words("qwen35", "e\u0301 \u0301e") == W{"e\u0301", " \u0301e"}));
  CHECK((words("qwen2", "\xFF\xFFz") == W{"\xFF\xFF", "z"}));
}

TEST(byte_bpe_merges_by_rank) {
  const VocabSpec spec = byte_spec();
  const Tokenizer tokenizer = spec.tokenizer();
  std::map<std::string, int> ranks;
  for (const auto& [left, right] : byte_merges()) ranks.emplace(left + '\0' + right, ranks.size());
  const auto cost = [&](const std::string& left, const std::string& right) {
    const auto found = ranks.find(left + '\0' + right);
    return found == ranks.end() ? std::numeric_limits<double>::infinity() : found->second;
  };
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = random_text(random, kParts, 24);
    Tokens expected;
    for (const std::string& word : words("qwen2", text)) {
      std::vector<std::string> bytes;
      for (const char c : word) bytes.emplace_back(1, c);
      for (const std::string& piece : merge_slowly(bytes, cost))
        expected.push_back(*tokenizer.vocab().find(spell(piece)));
    }
    CHECK(tokenizer.encode(text, false, false) == expected);
  }
}

TEST(spm_bpe_merges_by_score) {
  const Tokenizer tokenizer = spm_spec().tokenizer();
  const Vocab& vocab = tokenizer.vocab();
  const auto cost = [&](const std::string& left, const std::string& right) {
    const auto token = vocab.find(left + right);
    const bool ok = token && vocab.kinds[*token] == TokenKind::normal;
    return ok ? -vocab.scores[*token] : std::numeric_limits<float>::infinity();
  };
  std::mt19937 random(2);
  std::vector<std::string> characters = {"▁", "▁", "a", "a", "b", "t", "h", "à", "ệ",
                                         "n", "g", "/", "<", ">", "s", "z", "Đ"};
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> pieces = {"▁"};
    std::string text;
    for (size_t n = 1 + random() % 24; n > 0; --n) {
      pieces.push_back(characters[random() % characters.size()]);
      text += pieces.back() == "▁" ? " " : pieces.back();
    }
    Tokens expected;
    for (const std::string& piece : merge_slowly(pieces, cost)) {
      if (const auto token = vocab.find(piece))
        expected.push_back(*token);
      else
        for (const char c : piece) expected.push_back(3 + static_cast<unsigned char>(c));
    }
    CHECK(tokenizer.encode(text, false, false) == expected);
  }
}

TEST(decode_inverts_encode) {
  std::mt19937 random(3);
  for (const VocabSpec& spec : {byte_spec("qwen2"), byte_spec("gpt-2"), byte_spec("llama-bpe"), spm_spec()}) {
    const Tokenizer tokenizer = spec.tokenizer();
    std::vector<std::string> parts = kParts;
    parts.insert(parts.end(), {"<|im_start|>", "<think>", "<s>", "<0x41>"});
    for (int round = 0; round < 2000; ++round) {
      std::string text = random_text(random, parts, 20);
      if (round % 2) text += static_cast<char>(random());
      CHECK(tokenizer.decode(tokenizer.encode(text, false, false)) == text);
      CHECK(tokenizer.decode(tokenizer.encode(text, true, true), true).ends_with(text));
    }
  }
}

TEST(llama3_words_in_the_vocabulary_skip_merges) {
  VocabSpec spec = byte_spec("llama-bpe");
  const Token whole = spec.add(spell(" zq"), TokenKind::normal);
  const Token control = spec.add("zq", TokenKind::control);
  const Tokenizer llama3 = spec.tokenizer();
  CHECK((llama3.encode(" zq", false, false) == Tokens{whole}));
  CHECK((llama3.encode("zq", false, false) == Tokens{'z', 'q'}));  // a control token is not a word
  CHECK((llama3.encode("zq", false, true) == Tokens{control}));
  spec.strings["tokenizer.ggml.pre"] = "qwen2";
  CHECK((spec.tokenizer().encode(" zq", false, false) == Tokens{' ', 'z', 'q'}));
}

TEST(control_tokens_are_parsed_in_markup_only) {
  for (const VocabSpec& base : {byte_spec(), spm_spec()}) {
    VocabSpec spec = base;
    if (spec.scores) spec.add("<|im_start|>", TokenKind::control, -100);
    const Tokenizer tokenizer = spec.tokenizer();
    const Token start = *tokenizer.vocab().find("<|im_start|>");
    const auto count = [&](const std::vector<Segment>& segments) {
      const Tokens tokens = tokenizer.encode(segments, false);
      for (const Token token : tokens) CHECK(token == start || !tokenizer.vocab().is_special(token));
      return std::count(tokens.begin(), tokens.end(), start);
    };
    CHECK(count({{"<|im_start|>", true}}) == 1);
    CHECK(count({{"<|im_start|>", false}}) == 0);
    CHECK(count({{"<|im_", true}, {"start|>", false}}) == 0);
    CHECK(count({{"<|im_", true}, {"start|>", true}}) == 0);
    CHECK(count({{"<|im_", false}, {"start|>", true}}) == 0);
    CHECK(count({{"x<|im_start|>", true}, {"<|im_start|>", false}, {"<|im_start|>", true}}) == 2);
    CHECK(count({{"</s><s><unk>", false}}) == 0);
    CHECK(tokenizer.encode("<|im_start|>", false, false).size() > 1);
  }
}

TEST(plain_text_of_adjacent_segments_is_joined) {
  const Tokenizer tokenizer = byte_spec().tokenizer();
  const std::vector<Segment> segments = {{"a", true}, {"a", false}, {"", false}, {"ab", true}, {"ab", false}};
  CHECK(tokenizer.encode(segments, false) == tokenizer.encode("aaabab", false, false));
}

TEST(user_defined_tokens_are_always_found) {
  VocabSpec spec = byte_spec();
  const Token think = *spec.read().find("<think>");
  const Token longer = spec.add("<think>x", TokenKind::user_defined);
  const Token inner = spec.add("hin", TokenKind::user_defined);
  const Tokenizer tokenizer = spec.tokenizer();
  CHECK((tokenizer.encode("<think>", false, false) == Tokens{think}));
  CHECK((tokenizer.encode("<think>x<think>", false, false) == Tokens{longer, think}));
  CHECK((tokenizer.encode("<thin", false, false) == Tokens{'<', 't', inner}));
  CHECK((tokenizer.encode(std::vector<Segment>{{"<th", true}, {"ink>", false}}, false) == Tokens{think}));
  CHECK(tokenizer.decode(Tokens{think}) == "<think>");
}

TEST(bos_and_eos_as_the_vocabulary_specifies) {
  VocabSpec spec = byte_spec();
  spec.bools = {{"tokenizer.ggml.add_bos_token", true}, {"tokenizer.ggml.add_eos_token", true}};
  const Tokenizer tokenizer = spec.tokenizer();
  const Token bos = *tokenizer.vocab().bos, eos = *tokenizer.vocab().eos;
  CHECK((tokenizer.encode("", true, false) == Tokens{bos, eos}));
  CHECK((tokenizer.encode("n", true, false) == Tokens{bos, 'n', eos}));
  CHECK((tokenizer.encode("n", false, false) == Tokens{'n'}));
}

TEST(spm_adds_a_space_before_text) {
  const Tokenizer tokenizer = spm_spec().tokenizer();
  const Vocab& vocab = tokenizer.vocab();
  const Token bos = 1, think = *vocab.find("<think>"), space_a = *vocab.find("▁a"), a = *vocab.find("a");
  CHECK((tokenizer.encode("a", true, false) == Tokens{bos, space_a}));
  CHECK((tokenizer.encode("a<think>a", false, false) == Tokens{space_a, think, space_a}));
  CHECK(tokenizer.encode("", false, false).empty());
  CHECK(tokenizer.decode(Tokens{space_a, space_a}) == "a a");
  CHECK(tokenizer.decode(Tokens{space_a, think, space_a}) == "a<think>a");
  VocabSpec spec = spm_spec();
  spec.bools["tokenizer.ggml.add_space_prefix"] = false;
  CHECK((spec.tokenizer().encode("a", false, false) == Tokens{a}));
  CHECK(spec.tokenizer().decode(Tokens{space_a}) == " a");
}

TEST(bytes_without_a_token) {
  VocabSpec spec = byte_spec();
  spec.tokens[0xFF] = "gone";
  spec.numbers["tokenizer.ggml.unknown_token_id"] = static_cast<uint32_t>(*spec.read().find("<|endoftext|>"));
  CHECK((spec.tokenizer().encode("n\xFFn", false, false) == Tokens{'n', 'n'}));  // never a control token
  const Token unknown = spec.add("<unk>", TokenKind::unknown);
  spec.numbers["tokenizer.ggml.unknown_token_id"] = static_cast<uint32_t>(unknown);
  CHECK((spec.tokenizer().encode("n\xFFn", false, false) == Tokens{'n', unknown, 'n'}));
}

TEST(merges_never_produce_control_tokens) {
  VocabSpec spec = byte_spec();
  spec.kinds[static_cast<size_t>(*spec.read().find("aa"))] = static_cast<int32_t>(TokenKind::control);
  CHECK((spec.tokenizer().encode("aa", false, false) == Tokens{'a', 'a'}));
}

TEST(decode_returns_the_bytes_of_each_token) {
  const Tokenizer bytes = byte_spec().tokenizer(), spm = spm_spec().tokenizer();
  CHECK(bytes.decode(Tokens{0xE1}) == "\xE1");
  CHECK(bytes.decode(Tokens{*bytes.vocab().find(spell(" a"))}) == " a");
  const Tokens bos{*bytes.vocab().bos};
  CHECK(bytes.decode(bos).empty() && bytes.decode(bos, true) == "<|endoftext|>");
  CHECK(spm.decode(Tokens{3 + 0xE1}) == "\xE1");
  CHECK(spm.decode(Tokens{*spm.vocab().find("a"), *spm.vocab().find("▁th")}) == "a th");
  CHECK(spm.decode(Tokens{0}).empty());
  CHECK_FAILS(bytes.decode(Tokens{-1}), "got -1");
  CHECK_FAILS(bytes.decode(Tokens{bytes.vocab().size()}), "token: expected 0 to ");
  CHECK_FAILS(bytes.decode(Tokens{1 << 30}), "got 1073741824");
}

TEST(stream_holds_back_unfinished_characters) {
  const Tokenizer tokenizer = byte_spec().tokenizer();
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> got;
  for (const char c : std::string("é🦙\xF0\x9Fz\xE1\xBB"))
    got.push_back(decoder.push(static_cast<unsigned char>(c)));
  CHECK((got == std::vector<std::string>{"", "é", "", "", "", "🦙", "", "", "\uFFFDz", "", ""}));
  CHECK(decoder.finish() == "\uFFFD" && decoder.finish().empty());
}

TEST(stream_of_any_tokens_equals_decoding_with_replacement) {
  std::mt19937 random(4);
  for (const VocabSpec& spec : {byte_spec(), spm_spec()}) {
    const Tokenizer tokenizer = spec.tokenizer();
    for (int round = 0; round < 1000; ++round) {
      Tokens tokens(random() % 20);
      for (Token& token : tokens)
        token = static_cast<Token>(random() % static_cast<unsigned>(tokenizer.vocab().size()));
      StreamDecoder decoder(tokenizer);
      std::string streamed;
      for (const Token token : tokens) streamed += decoder.push(token);
      streamed += decoder.finish();
      CHECK(streamed == replace_invalid(tokenizer.decode(tokens)));
    }
  }
}

TEST(stream_after_text_keeps_its_space) {
  const Tokenizer tokenizer = spm_spec().tokenizer();
  const Token space_a = *tokenizer.vocab().find("▁a");
  CHECK(StreamDecoder(tokenizer).push(space_a) == "a");
  CHECK(StreamDecoder(tokenizer, Token{1}).push(space_a) == "a");
  CHECK(StreamDecoder(tokenizer, space_a).push(space_a) == " a");
}

// No clock: an algorithm of quadratic time needs hours for these texts, and CTest ends it.
TEST(long_texts_round_trip) {
  VocabSpec many = byte_spec();
  for (int n = 2; n < 1500; ++n)
    many.add(std::string(static_cast<size_t>(n), 'x') + "y", TokenKind::user_defined);
  for (const VocabSpec& spec : {many, byte_spec("gpt-2"), byte_spec("llama-bpe"), spm_spec()}) {
    const Tokenizer tokenizer = spec.tokenizer();
    for (const char* unit : {"a", " ", "\n", " \n", "x", "🦙", "\u0301", "Việt ", "<|im_start|>", "\xFF"}) {
      std::string text;
      while (text.size() < 1'000'000) text += unit;
      CHECK(tokenizer.decode(tokenizer.encode(text, false, true), true) == text);
    }
  }
}
