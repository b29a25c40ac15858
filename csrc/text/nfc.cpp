// Unicode Standard Annex #15 (normalization forms) and chapter 3.12 of the standard (Hangul).
#include <algorithm>
#include <iterator>
#include <tuple>
#include <vector>

#include "text/unicode.h"
#include "text/unicode_tables.h"

namespace binhdan::text {
namespace {

constexpr char32_t kSyllables = 0xAC00, kLead = 0x1100, kVowel = 0x1161, kTrail = 0x11A7;
constexpr char32_t kLeads = 19, kVowels = 21, kTrails = 28;

struct Char {
  char32_t c;
  uint8_t combining;
  std::size_t at;  // keeps the order of marks of one class (Clang 19 warns of GCC 12's std::stable_sort)
};

bool is_syllable(char32_t c) {
  return c - kSyllables < kLeads * kVowels * kTrails;
}

const ActiveRun* active_run(char32_t c) {
  if (c < 0x300) return nullptr;
  const auto run = std::partition_point(std::begin(kActiveRuns), std::end(kActiveRuns),
                                        [c](const ActiveRun& r) { return r.last < c; });
  return run != std::end(kActiveRuns) && run->first <= c ? run : nullptr;
}

void decompose(char32_t c, std::vector<Char>& out) {
  const auto add = [&out](char32_t x, uint8_t combining) { out.push_back({x, combining, out.size()}); };
  if (is_syllable(c)) {
    const char32_t index = c - kSyllables;
    add(kLead + index / (kVowels * kTrails), 0);
    add(kVowel + index / kTrails % kVowels, 0);
    if (index % kTrails != 0) add(kTrail + index % kTrails, 0);
    return;
  }
  const auto entry = std::partition_point(std::begin(kDecompositions), std::end(kDecompositions),
                                          [c](const Decomposition& d) { return d.from < c; });
  if (entry == std::end(kDecompositions) || entry->from != c) {
    const ActiveRun* run = active_run(c);
    add(c, run ? run->combining : uint8_t{0});
    return;
  }
  decompose(entry->first, out);
  if (entry->second != 0) decompose(entry->second, out);
}

// The primary composite of two characters; 0 when there is none.
char32_t compose(char32_t first, char32_t second) {
  if (first - kLead < kLeads && second - kVowel < kVowels)
    return kSyllables + ((first - kLead) * kVowels + (second - kVowel)) * kTrails;
  if (is_syllable(first) && (first - kSyllables) % kTrails == 0 && second > kTrail &&
      second < kTrail + kTrails)
    return first + (second - kTrail);
  const auto key = std::tuple(first, second);
  const auto index = std::partition_point(
      std::begin(kCompositions), std::end(kCompositions),
      [&](uint16_t i) { return std::tuple(kDecompositions[i].first, kDecompositions[i].second) < key; });
  if (index == std::end(kCompositions)) return 0;
  const Decomposition& d = kDecompositions[*index];
  return std::tuple(d.first, d.second) == key ? d.from : 0;
}

}  // namespace

void decompose(char32_t c, std::vector<char32_t>& out) {
  std::vector<Char> chars;
  decompose(c, chars);
  for (const Char& x : chars) out.push_back(x.c);
}

namespace {

void order_marks(std::vector<Char>& chars) {
  for (auto it = chars.begin(); it != chars.end();) {
    const auto end = std::find_if(it, chars.end(), [](const Char& x) { return x.combining == 0; });
    if (end - it > 1)
      std::sort(it, end, [](const Char& a, const Char& b) {
        return std::tie(a.combining, a.at) < std::tie(b.combining, b.at);
      });
    it = end == chars.end() ? end : end + 1;
  }
}

void compose_all(std::vector<Char>& chars) {
  std::size_t kept = 0;
  Char* starter = nullptr;
  int last = -1;  // combining class of the last character after the starter; -1: none
  for (const Char x : chars) {
    if (starter && last < x.combining) {
      if (const char32_t composite = compose(starter->c, x.c)) {
        starter->c = composite;
        continue;
      }
    }
    chars[kept] = x;
    if (x.combining == 0) starter = &chars[kept];
    last = x.combining == 0 ? -1 : x.combining;
    ++kept;
  }
  chars.resize(kept);
}

// Collects a character that NFC does not change and the active characters after it, which NFC may change.
// Each such run is normalized separately.
class Composer {
 public:
  explicit Composer(std::string& out) : out_(out) {}

  void push(char32_t c) {
    const bool active = active_run(c) != nullptr;
    if (!active) flush();
    pending_.push_back(c);
    changes_ = changes_ || active;
  }

  void flush() {
    if (changes_) {
      chars_.clear();
      for (const char32_t c : pending_) decompose(c, chars_);
      order_marks(chars_);
      compose_all(chars_);
      for (const Char& x : chars_) append_utf8(out_, x.c);
    } else {
      for (const char32_t c : pending_) append_utf8(out_, c);
    }
    pending_.clear();
    changes_ = false;
  }

 private:
  std::string& out_;
  std::vector<char32_t> pending_;
  std::vector<Char> chars_;
  bool changes_ = false;
};

}  // namespace

std::string nfc(std::string_view s) {
  std::string out;
  out.reserve(s.size());
  Composer composer(out);
  for (std::size_t i = 0; i < s.size();) {
    const std::size_t start = i;
    const char32_t c = next_codepoint(s, i);
    const bool invalid = c == kReplacement && i == start + 1;
    if (!invalid) {
      composer.push(c);
      continue;
    }
    composer.flush();
    out.push_back(s[start]);
  }
  composer.flush();
  return out;
}

}  // namespace binhdan::text
