// The regular expressions are those of the models' tokenizer.json files, under the names that llama.cpp gives
// them in tokenizer.ggml.pre. Where llama.cpp has an approximation (it has no \p{Lu} and \p{Ll} for gpt-4o and
// tekken), the model's own expression is used. (?i:'s|'t|...) covers ASCII letters only, as in llama.cpp.
#include "text/pretokenizer.h"

#include <bit>
#include <string>

#include "base/error.h"
#include "base/utf8.h"
#include "text/unicode.h"

namespace binhdan::text {
namespace {

#define GPT2 R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"
#define CONTRACTION R"((?i:'s|'t|'re|'ve|'m|'ll|'d))"
#define SPACES R"(|\s*[\r\n]+|\s+(?!\S)|\s+)"
#define CL100K_WORDS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)"
#define CL100K_REST R"(| ?[^\s\p{L}\p{N}]+[\r\n]*)" SPACES
// Words of gpt-4o: capitals end a word only before small letters.
#define UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define CASED_WORDS(suffix) \
  R"([^\r\n\p{L}\p{N}]?)" UPPER "*" LOWER "+" suffix R"(|[^\r\n\p{L}\p{N}]?)" UPPER "+" LOWER "*" suffix
#define CASED_REST R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*)" SPACES
// Words of deepseek-v3, which also separate punctuation and symbols.
#define DEEPSEEK3_WORDS                                                        \
  R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?)" \
  R"([\p{L}\p{M}]+| ?[\p{P}\p{S}]+)"

// Letters that have a case, of deepseek-llm.
#define CASED_LETTERS                                                                              \
  "A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA\u01BC-\u01BF\u01C4-\u0293\u0295-\u02AF"     \
  "\u0370-\u0373\u0376\u0377\u037B-\u037D\u037F\u0386\u0388-\u038A\u038C\u038E-\u03A1\u03A3-"      \
  "\u03F5\u03F7-\u0481\u048A-\u052F\u0531-\u0556\u10A0-\u10C5\u13A0-\u13F5\u13F8-\u13FD\u1C90-"    \
  "\u1CBA\u1CBD-\u1CBF\u1D00-\u1D2B\u1D6B-\u1D77\u1D79-\u1D9A\u1E00-\u1F15\u1F18-\u1F1D\u1F20-"    \
  "\u1F45\u1F48-\u1F4D\u1F50-\u1F57\u1F59\u1F5B\u1F5D\u1F5F-\u1F7D\u1F80-\u1FB4\u1FB6-\u1FBC"      \
  "\u1FBE\u1FC2-\u1FC4\u1FC6-\u1FCC\u1FD0-\u1FD3\u1FD6-\u1FDB\u1FE0-\u1FEC\u1FF2-\u1FF4\u1FF6-"    \
  "\u1FFC\u2102\u2107\u210A-\u2113\u2115\u2119-\u211D\u2124\u2126\u2128\u212A-\u212D\u212F-\u2134" \
  "\u2139\u213C-\u213F\u2145-\u2149\u214E\u2183\u2184\u2C00-\u2C7B\u2C7E-\u2CE4\u2CEB-\u2CEE"      \
  "\u2CF2\u2CF3\uA640-\uA66D\uA680-\uA69B\uA722-\uA76F\uA771-\uA787\uA78B-\uA78E\uAB70-\uABBF"     \
  "\uFB00-\uFB06\uFB13-\uFB17\uFF21-\uFF3A\uFF41-\uFF5A\U00010400-\U0001044F\U000104B0-"           \
  "\U000104D3\U000104D8-\U000104FB\U00010C80-\U00010CB2\U00010CC0-\U00010CF2\U000118A0-"           \
  "\U000118DF\U0001E900-\U0001E943"

constexpr Stage kGpt2[] = {GPT2};
constexpr Stage kDefault[] = {R"([\p{P}\$\+<=>\^~\|]+)", GPT2, R"(\p{N}+)", "[0-9][0-9][0-9]"};
constexpr Stage kDigitsThenGpt2[] = {R"(\p{N})", GPT2};
constexpr Stage kFalcon[] = {R"([\p{P}\$\+<=>\^~\|`]+)", GPT2, "[0-9][0-9][0-9]"};
constexpr Stage kLlama3[] = {CONTRACTION CL100K_WORDS R"(\p{N}{1,3})" CL100K_REST};
constexpr Stage kQwen2[] = {CONTRACTION CL100K_WORDS R"(\p{N})" CL100K_REST};
constexpr Stage kQwen35[] = {
    CONTRACTION R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)" SPACES};
// The model has \s+$ as its fourth expression. The one here cuts at the same places in linear time.
constexpr Stage kDeepseekLlm[] = {
    R"([\r\n])",         "\\s?[" CASED_LETTERS "]+", "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+",
    R"((?:\s*\S)+|\s+)", "[一-龥ࠀ-一가-\uD7FF]+",    R"(\p{N}+)"};
constexpr Stage kDeepseekCoder[] = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-\uD7FF]+",
                                    R"(\p{N})"};
constexpr Stage kDeepseek3[] = {R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+",
                                DEEPSEEK3_WORDS R"([\r\n]*)" SPACES};
constexpr Stage kYoutu[] = {"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，\u3001-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\u3040-ゟ゠-ヿ]+",
                            CASED_WORDS(CONTRACTION "?") R"(|\p{N})" CASED_REST};
constexpr Stage kBloom[] = {" ?[^(\\s|.,!?…。，、।۔،)]+"};
constexpr Stage kViking[] = {" ?[^(\\s|.,!?…。，、।۔،)]+", R"(\p{N})"};
constexpr Stage kTekken[] = {CASED_WORDS("") R"(|\p{N})" CASED_REST};
constexpr Stage kGpt4o[] = {CASED_WORDS(CONTRACTION "?") R"(|\p{N}{1,3})" CASED_REST};
constexpr Stage kChameleon[] = {"<sentinel:[0-9]+>",       "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                                "([\\t\\n]|    |  )",      R"(\p{N})",
                                R"([\p{P}!-/:-@\[-`{-~])", GPT2};
constexpr Stage kBailing[] = {R"('(?i:[sdmt]|ll|ve|re))" CL100K_WORDS
                              R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"};
constexpr Stage kSeedCoder[] = {CONTRACTION CL100K_WORDS R"(\p{N}| ?[^\s\p{L}\p{N}\r\n]+)" SPACES};
constexpr Stage kLaguna[] = {R"([^\n]+|[\n]+)", kQwen2[0]};
constexpr Stage kExaoneMoe[] = {
    CONTRACTION R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?)"
                R"(|\s*[\r\n]|\s+(?!\S)|\s+)"};
constexpr Stage kMinicpm5[] = {R"(\p{N}{1,3})", CONTRACTION CL100K_WORDS R"(\p{N}+)" CL100K_REST};

constexpr Stage kUfakzeka[] = {R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N})" CL100K_REST};
constexpr Stage kSpark2[] = {R"(\p{N}{1,3})", kDeepseek3[1], DEEPSEEK3_WORDS R"(|[\r\n]|\s+(?!\S)|\s+)",
                             R"(\p{N})"};
// The model has [...&&[^\p{Han}]] for (?!\p{Han})[...].
#define NOT_HAN(set) R"((?:(?!\p{Han}))" set ")"
constexpr Stage kKimiK2[] = {R"(\p{Han}+|[^\r\n\p{L}\p{N}]?)" NOT_HAN(UPPER) "*" NOT_HAN(
    LOWER) "+" CONTRACTION
           R"(?|[^\r\n\p{L}\p{N}]?)" NOT_HAN(UPPER) "+" NOT_HAN(LOWER) "*" CONTRACTION
                                                                       R"(?|\p{N}{1,3})" CL100K_REST};
// The model has \s{512}(?!\S)|\s{256}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1} for \s+(?!\S)|\s+.
constexpr Stage kJais2[] = {{kLlama3[0].pattern, Cut::spaces}};
// The model has \d{1,3}(?=(?:\d{3})*\b).
constexpr Stage kTinyAya[] = {{R"(\d+)", Cut::thousands_of_whole_numbers}, kGpt4o[0]};
// The model has (?=(\d{3})+(?!\d)) after \p{N}+. They differ where digits stand beside numbers such as ½.
constexpr Stage kSuperBpe[] = {R"(\p{N}+)", {R"(\d+)", Cut::thousands}};
constexpr Stage kAfmoe[] = {
    {R"(\p{N}+)", Cut::thousands},
    "[\u4E00-\u9FFF\u3400-\u4DBF\uF900-\uFAFF\u3040-\u309F\u30A0-\u30FF\uFF65-\uFF9F\u2F00-\u2FDF\u0E40-"
    "\u0E7F"
    "\u0E80-\u0EFF\u1780-\u17FF\u1000-\u109F\uAA60-\uAA7F\uA9E0-\uA9FF\uAC00-\uD7AF\u1100-\u11FF]+",
    DEEPSEEK3_WORDS R"([\r\n]*)" SPACES};
constexpr Stage kLines[] = {R"([^\n]+|[\n]+)"};
constexpr Stage kWithoutSpaces[] = {R"(\S+)"};

constexpr Pretokenizer kTable[] = {
    {"default", kDefault},
    {"gpt-2", kGpt2},
    {"phi-2", kGpt2},
    {"mpt", kGpt2},
    {"olmo", kGpt2},
    {"jais", kGpt2},
    {"trillion", kGpt2},
    {"granite-docling", kGpt2},
    {"jina-es", kGpt2},
    {"jina-de", kGpt2},
    {"jina-v2-es", kGpt2},
    {"jina-v2-de", kGpt2},
    {"jina-v1-en", kGpt2},
    {"jina-v2-code", kGpt2},
    {"roberta-bpe", kGpt2},
    {"gigachat", kGpt2},
    {"a.x-4.0", kGpt2},
    {"mellum", kGpt2},
    {"modern-bert", kGpt2},
    {"exaone4", kGpt2},
    {"starcoder", kDigitsThenGpt2},
    {"refact", kDigitsThenGpt2},
    {"command-r", kDigitsThenGpt2},
    {"smollm", kDigitsThenGpt2},
    {"codeshell", kDigitsThenGpt2},
    {"exaone", kDigitsThenGpt2},
    {"minerva-7b", kDigitsThenGpt2},
    {"mellum2", kDigitsThenGpt2},
    {"falcon", kFalcon},
    {"llama-bpe", kLlama3, true, true},
    {"llama3", kLlama3, true, true},
    {"llama-v3", kLlama3, true, true},
    {"falcon3", kLlama3, true, true},
    {"falcon-h1", kLlama3, true, true},
    {"pixtral", kLlama3, true, true},
    {"midm-2.0", kLlama3, true, true},
    {"lfm2", kLlama3, true, true},
    {"jina-v5-nano", kLlama3, true, true},
    {"smaug-bpe", kLlama3},
    {"dbrx", kLlama3},
    {"glm4", kLlama3},
    {"chatglm-bpe", kLlama3},
    {"qwen2", kQwen2},
    {"deepseek-r1-qwen", kQwen2},
    {"stablelm2", kQwen2},
    {"megrez", kQwen2},
    {"hunyuan", kQwen2},
    {"solar-open", kQwen2},
    {"grok-2", kQwen2},
    {"kormo", kQwen2},
    {"f2llmv2", kQwen2},
    {"qwen35", kQwen35},
    {"deepseek-llm", kDeepseekLlm},
    {"deepseek-coder", kDeepseekCoder},
    {"deepseek-v3", kDeepseek3},
    {"hunyuan-dense", kDeepseek3},
    {"joyai-llm", kDeepseek3},
    {"youtu", kYoutu, true},
    {"poro-chat", kBloom},
    {"bloom", kBloom},
    {"gpt3-finnish", kBloom},
    {"viking", kViking},
    {"tekken", kTekken, true, true},
    {"gpt-4o", kGpt4o},
    {"llama4", kGpt4o},
    {"kanana2", kGpt4o},
    {"talkie", kGpt4o},
    {"minimax-m2", kGpt4o},
    {"chameleon", kChameleon, false, true},
    {"bailingmoe", kBailing},
    {"bailingmoe2", kBailing},
    {"llada-moe", kBailing},
    {"seed-coder", kSeedCoder},
    {"laguna", kLaguna},
    {"exaone-moe", kExaoneMoe},
    {"minicpm5", kMinicpm5, true},
    {"glm5", kLlama3},
    {"granite-embed-multi-97m", kGpt4o, true},
    {"hy_v4", kDeepseek3},
    {"spark2_5", kSpark2},
    {"ufakzeka", kUfakzeka},
    {"kimi-k2", kKimiK2},
    {"jais-2", kJais2},
    {"tiny_aya", kTinyAya},
    {"cohere2moe", kTinyAya},
    {"superbpe", kSuperBpe},
    {"afmoe", kAfmoe},
    {"gemma4", kLines, false, true, Spelling::marked_spaces},
    {"granite-embed-multi-311m", kLines, false, true, Spelling::marked_spaces},
    {"sarvam-moe", kLines, false, false, Spelling::marked_spaces},
    {"whitespace", kWithoutSpaces, false, false, Spelling::without_spaces},
};

}  // namespace

const Pretokenizer* find_pretokenizer(std::string_view name) {
  for (const Pretokenizer& entry : kTable)
    if (entry.name == name) return &entry;
  return nullptr;
}

const Pretokenizer& need_pretokenizer(std::string_view name) {
  if (const Pretokenizer* found = find_pretokenizer(name)) return *found;
  std::string names;
  for (const Pretokenizer& entry : kTable) names.append(names.empty() ? "" : ", ").append(entry.name);
  fail(Code::unsupported, "tokenizer.ggml.pre: the pre-tokenizer ", quote_name(name),
       " is not supported. If the model's tokenizer.json has the regular expression of one of these, write "
       "that "
       "name into the key: ",
       names);
}

std::span<const Pretokenizer> pretokenizers() {
  return kTable;
}

WordSplitter::WordSplitter(const Pretokenizer& pretokenizer) {
  for (const Stage& stage : pretokenizer.stages) {
    stages_.emplace_back(stage.pattern);
    cuts_.push_back(stage.cut);
  }
}

std::size_t WordSplitter::next_character(std::string_view text, std::size_t at) {
  next_codepoint(text, at);
  return at;
}

bool WordSplitter::starts_with_word_character(std::string_view text) {
  std::size_t at = 0;
  if (text.empty()) return false;
  const std::string_view category = general_category(next_codepoint(text, at));
  return category[0] == 'L' || category[0] == 'M' || category[0] == 'N' || category == "Pc";
}

std::size_t WordSplitter::counted_piece_size(Cut cut, std::string_view match, std::size_t at) {
  const std::string_view rest = match.substr(at);
  const auto bytes_of = [&](std::size_t characters) {
    std::size_t bytes = 0;
    while (characters-- > 0) bytes = next_character(rest, bytes);
    return bytes;
  };
  const auto count_to = [&](std::size_t limit) {
    std::size_t count = 0;
    for (std::size_t bytes = 0; bytes < rest.size() && count < limit; ++count)
      bytes = next_character(rest, bytes);
    return count;
  };
  if (cut != Cut::spaces) {
    if (at > 0) return bytes_of(3);  // the first piece has taken what is not divisible by three
    const std::size_t first = count_to(SIZE_MAX) % 3;
    return bytes_of(first == 0 ? 3 : first);
  }
  std::size_t end = 0;  // of the first two characters
  const bool starts_blank = is_whitespace(next_codepoint(match, end)) &&
                            (end == match.size() || is_whitespace(next_codepoint(match, end)));
  if (!starts_blank || match.back() == '\n' || match.back() == '\r') return match.size();
  return bytes_of(std::bit_floor(count_to(512)));
}

}  // namespace binhdan::text
