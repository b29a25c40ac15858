#include "text/restore/syllable.h"

#include <algorithm>
#include <array>

#include "text/unicode.h"

namespace binhdan::text::restore {
namespace {

constexpr std::size_t kTones = 6;
struct Row {
  char base;
  uint8_t quality;
  std::u32string_view lower, upper;  // by tone
};
constexpr Row kRows[] = {
    {'a', 0, U"aàáãảạ", U"AÀÁÃẢẠ"}, {'a', 1, U"ăằắẵẳặ", U"ĂẰẮẴẲẶ"}, {'a', 2, U"âầấẫẩậ", U"ÂẦẤẪẨẬ"},
    {'e', 0, U"eèéẽẻẹ", U"EÈÉẼẺẸ"}, {'e', 2, U"êềếễểệ", U"ÊỀẾỄỂỆ"}, {'i', 0, U"iìíĩỉị", U"IÌÍĨỈỊ"},
    {'o', 0, U"oòóõỏọ", U"OÒÓÕỎỌ"}, {'o', 1, U"ơờớỡởợ", U"ƠỜỚỠỞỢ"}, {'o', 2, U"ôồốỗổộ", U"ÔỒỐỖỔỘ"},
    {'u', 0, U"uùúũủụ", U"UÙÚŨỦỤ"}, {'u', 1, U"ưừứữửự", U"ƯỪỨỮỬỰ"}, {'y', 0, U"yỳýỹỷỵ", U"YỲÝỸỶỴ"},
    {'d', 1, U"đ", U"Đ"},
};

// Two ranges of code points have all letters: Latin up to U+01FF, and U+1EA0 to U+1EFF.
constexpr char32_t kLatin = 0x200, kExtra = 0x1ea0, kExtraEnd = 0x1f00;
constexpr std::size_t index_of(char32_t c) {
  return c < kLatin ? c : kLatin + (c - kExtra);
}
constexpr auto kLetters = [] {
  std::array<Letter, kLatin + (kExtraEnd - kExtra)> table{};
  for (char32_t c = 'a'; c <= 'z'; ++c) {
    table[c] = {static_cast<char>(c), 0, 0, false};
    table[c - 'a' + 'A'] = {static_cast<char>(c), 0, 0, true};
  }
  for (const Row& row : kRows)
    for (std::size_t tone = 0; tone < row.lower.size(); ++tone) {
      table[index_of(row.lower[tone])] = {row.base, row.quality, static_cast<uint8_t>(tone), false};
      table[index_of(row.upper[tone])] = {row.base, row.quality, static_cast<uint8_t>(tone), true};
    }
  return table;
}();

constexpr char32_t kToneMarks[kTones] = {0, 0x300, 0x301, 0x303, 0x309, 0x323};

template <std::size_t N>
constexpr std::array<std::string_view, N> sorted(std::array<std::string_view, N> words) {
  std::ranges::sort(words);
  return words;
}

// Longest first where one begins with another.
constexpr std::string_view kOnsets[] = {"ngh", "ch", "đ", "gh", "gi", "kh", "ng", "nh", "ph", "qu",
                                        "th",  "tr", "b", "c",  "d",  "g",  "h",  "k",  "l",  "m",
                                        "n",   "p",  "r", "s",  "t",  "v",  "x",  ""};
constexpr auto kRhymes = sorted(std::to_array<std::string_view>(
    {"a",    "ac",   "ach",  "ai",   "ak",   "am",   "an",   "ang", "anh",  "ao",   "ap",  "at",  "au",
     "ay",   "ăc",   "ăk",   "ăm",   "ăn",   "ăng",  "ăp",   "ăt",  "âc",   "âm",   "ân",  "âng", "âp",
     "ât",   "âu",   "ây",   "e",    "ec",   "ek",   "em",   "en",  "eng",  "eo",   "ep",  "et",  "ê",
     "êc",   "êch",  "êm",   "ên",   "êng",  "ênh",  "êp",   "êt",  "êu",   "i",    "ia",  "ich", "iêc",
     "iêm",  "iên",  "iêng", "iêp",  "iêt",  "iêu",  "ik",   "im",  "in",   "ing",  "inh", "ip",  "it",
     "iu",   "o",    "oa",   "oac",  "oach", "oai",  "oam",  "oan", "oang", "oanh", "oao", "oap", "oat",
     "oay",  "oăc",  "oăm",  "oăn",  "oăng", "oăt",  "oc",   "oe",  "oem",  "oen",  "oeo", "oet", "oi",
     "ok",   "om",   "on",   "ong",  "ooc",  "oong", "op",   "ot",  "ô",    "ôc",   "ôi",  "ôk",  "ôm",
     "ôn",   "ông",  "ôp",   "ôt",   "ơ",    "ơi",   "ơm",   "ơn",  "ơng",  "ơp",   "ơt",  "u",   "ua",
     "uân",  "uâng", "uât",  "uây",  "uc",   "uê",   "uêch", "uên", "uênh", "ui",   "uk",  "um",  "un",
     "ung",  "uôc",  "uôi",  "uôm",  "uôn",  "uông", "uôt",  "uơ",  "up",   "ut",   "uy",  "uya", "uych",
     "uyên", "uyêt", "uyn",  "uynh", "uyp",  "uyt",  "uyu",  "ư",   "ưa",   "ưc",   "ưi",  "ưm",  "ưn",
     "ưng",  "ươc",  "ươi",  "ươm",  "ươn",  "ương", "ươp",  "ươt", "ươu",  "ưt",   "ưu",  "y",   "yêm",
     "yên",  "yêng", "yêt",  "yêu",  "yn",   "ynh",  "yt"}));

bool is_vowel(char base) {
  return std::string_view("aeiouy").find(base) != std::string_view::npos;
}

char32_t code_point(char base, unsigned quality, unsigned tone, bool upper) {
  for (const Row& row : kRows)
    if (row.base == base && row.quality == quality && tone < row.lower.size())
      return (upper ? row.upper : row.lower)[tone];
  return static_cast<char32_t>(static_cast<unsigned char>(upper ? base - 'a' + 'A' : base));
}

// The index of the letter with the tone, in the letters from `first` on, which form the rhyme.
std::size_t place_in_rhyme(const Syllable& s, std::size_t first, bool new_style) {
  std::size_t end = first, marked = kMaxLetters;
  for (; end < s.count && is_vowel(s.base(end)); ++end)
    if (s.quality(end) != 0) marked = end;
  const std::size_t vowels = end - first;
  if (marked < kMaxLetters) return marked;
  if (vowels != 2) return first + (vowels == 3);
  const char a = s.base(first), b = s.base(first + 1);
  const bool second =
      end < s.count || (new_style && ((a == 'o' && (b == 'a' || b == 'e')) || (a == 'u' && b == 'y')));
  return first + second;
}

}  // namespace

Letter letter_of(char32_t c) {
  if (c < kLatin || (c >= kExtra && c < kExtraEnd)) return kLetters[index_of(c)];
  return {};
}

Letter mark_of(char32_t c) {
  switch (c) {
    case 0x302:
      return {'^', 2, 0, false};
    case 0x306:
      return {'(', 1, 0, false};
    case 0x31b:
      return {'+', 1, 0, false};
    default:
      for (std::size_t tone = 1; tone < kTones; ++tone)
        if (c == kToneMarks[tone]) return {'~', 0, static_cast<uint8_t>(tone), false};
      return {};
  }
}

bool Syllable::append(const Letter& letter) {
  if (count == kMaxLetters || (letter.tone != 0 && tone != 0)) return false;
  bare |= uint64_t{static_cast<unsigned char>(letter.base)} << (8 * count);
  qualities = static_cast<uint16_t>(qualities | letter.quality << (2 * count));
  if (letter.upper) upper = static_cast<uint8_t>(upper | 1u << count);
  if (letter.tone != 0) {
    tone = letter.tone;
    tone_place = count;
  }
  ++count;
  return true;
}

bool Syllable::add_mark(const Letter& mark) {
  if (count == 0) return false;
  const std::size_t last = count - 1u;
  const char letter = base(last);
  if (mark.tone != 0) {
    if (tone != 0 || !is_vowel(letter)) return false;
    tone = mark.tone;
    tone_place = static_cast<uint8_t>(last);
    return true;
  }
  const std::string_view bases = mark.base == '^' ? "aeo" : mark.base == '(' ? "a" : "ou";
  if (quality(last) != 0 || bases.find(letter) == std::string_view::npos) return false;
  qualities = static_cast<uint16_t>(qualities | mark.quality << (2 * last));
  return true;
}

std::optional<TonePlaces> tone_places(const Syllable& s) {
  char bytes[2 * kMaxLetters];
  std::size_t size = 0;
  std::array<std::size_t, kMaxLetters + 1> offsets{};
  for (std::size_t i = 0; i < s.count; ++i) {
    offsets[i] = size;
    const char32_t c = code_point(s.base(i), s.quality(i), 0, false);
    if (c >= 0x80) {
      bytes[size++] = static_cast<char>(0xc0 | c >> 6);
      bytes[size++] = static_cast<char>(0x80 | (c & 0x3f));
    } else {
      bytes[size++] = static_cast<char>(c);
    }
  }
  const std::string_view letters(bytes, size);
  for (const std::string_view onset : kOnsets) {
    if (!letters.starts_with(onset)) continue;
    const std::string_view rhyme = letters.substr(onset.size());
    if (!std::ranges::binary_search(kRhymes, rhyme)) continue;
    const std::size_t first = static_cast<std::size_t>(
        std::find(offsets.begin(), offsets.begin() + s.count, onset.size()) - offsets.begin());
    if ((onset == "qu" && s.base(first) == 'u') || (onset == "gi" && s.base(first) == 'i')) continue;
    const bool stop = rhyme.ends_with('c') || rhyme.ends_with("ch") || rhyme.ends_with('k') ||
                      rhyme.ends_with('p') || rhyme.ends_with('t');
    // A syllable that ends in a stop has tone sắc or nặng. Without any mark it can be a word of another language.
    if (stop && s.tone != 2 && s.tone != 5 && s.marked()) return std::nullopt;
    return TonePlaces{static_cast<uint8_t>(place_in_rhyme(s, first, false)),
                      static_cast<uint8_t>(place_in_rhyme(s, first, true))};
  }
  return std::nullopt;
}

void append_letter(std::string& out, const Syllable& form, std::size_t i, bool upper, bool nfd) {
  const unsigned tone = form.tone != 0 && form.tone_place == i ? form.tone : 0u, quality = form.quality(i);
  const char base = form.base(i);
  if (!nfd || base == 'd')
    return append_utf8(out, code_point(base, quality, tone, upper));  // đ is one letter
  append_utf8(out, code_point(base, 0, 0, upper));
  const char32_t mark = quality == 2 ? 0x302 : base == 'a' ? 0x306 : 0x31b;
  const bool below_first = tone == 5 && mark != 0x31b;  // the canonical order
  if (below_first) append_utf8(out, kToneMarks[tone]);
  if (quality != 0) append_utf8(out, mark);
  if (tone != 0 && !below_first) append_utf8(out, kToneMarks[tone]);
}

}  // namespace binhdan::text::restore
