#include "text/restore/similar.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace binhdan::text::restore {
namespace {

constexpr int32_t nats(double value) {
  return static_cast<int32_t>(value * kScoreUnit);
}

// Costs of one error. They contain how rare errors are: about 1 word in 100.
constexpr int32_t kHoiNga = nats(4.5), kSound = nats(5), kMissingTone = nats(5.5), kOtherTone = nats(6.5);
constexpr int32_t kMissingQuality = nats(5.5), kOtherQuality = nats(6), kNoMarks = nats(6),
                  kNextMark = nats(1.5);
constexpr int32_t kDoubled = nats(6), kSwapped = nats(6.5), kExtra = nats(7.5), kMissing = nats(7.5),
                  kWrong = nats(8.5);
constexpr int32_t kNext = nats(3);  // a letter and marks

struct Sounds {
  std::string_view typed, meant;
};
constexpr Sounds kOnsets[] = {{"s", "x"},  {"x", "s"},    {"ch", "tr"},  {"tr", "ch"}, {"d", "gi"},
                              {"gi", "d"}, {"d", "r"},    {"r", "d"},    {"gi", "r"},  {"r", "gi"},
                              {"l", "n"},  {"n", "l"},    {"d", "v"},    {"v", "d"},   {"g", "gh"},
                              {"gh", "g"}, {"ng", "ngh"}, {"ngh", "ng"}, {"c", "k"},   {"k", "c"},
                              {"c", "q"},  {"q", "c"}};
constexpr Sounds kCodas[] = {{"n", "ng"}, {"ng", "n"}, {"c", "t"},  {"t", "c"},
                             {"n", "nh"}, {"nh", "n"}, {"ch", "t"}, {"t", "ch"}};
constexpr std::string_view kLetters = "abcdeghiklmnopqrstuvxy";
constexpr uint8_t kAny = 4;  // a quality that the typed word does not show

bool is_vowel(char c) {
  return std::string_view("aeiouy").find(c) != std::string_view::npos;
}

// Letters without tone, and what they cost.
struct Word {
  std::array<char, kMaxLetters + 1> bases{};
  std::array<uint8_t, kMaxLetters + 1> qualities{};
  std::size_t count = 0;
  int32_t cost = 0;

  void erase(std::size_t i) {
    std::copy(bases.data() + i + 1, bases.data() + count, bases.data() + i);
    std::copy(qualities.data() + i + 1, qualities.data() + count, qualities.data() + i);
    --count;
  }
  // false: too long.
  bool insert(std::size_t i, char base, uint8_t quality) {
    if (count == kMaxLetters) return false;
    std::copy_backward(bases.data() + i, bases.data() + count, bases.data() + count + 1);
    std::copy_backward(qualities.data() + i, qualities.data() + count, qualities.data() + count + 1);
    bases[i] = base;
    qualities[i] = quality;
    ++count;
    return true;
  }
  bool replace(std::size_t i, std::size_t size, std::string_view by) {
    while (size-- > 0) erase(i);
    for (std::size_t k = 0; k < by.size(); ++k)
      if (!insert(i + k, by[k], 0)) return false;
    return true;
  }
  std::string_view letters() const { return {bases.data(), count}; }
};

class Search {
 public:
  Search(const NgramModel& model, const Syllable& typed, std::vector<Similar>& out)
      : model_(model), typed_(typed), out_(out) {
    word_.count = typed.count;
    for (std::size_t i = 0; i < typed.count; ++i) {
      word_.bases[i] = typed.base(i);
      word_.qualities[i] = static_cast<uint8_t>(typed.quality(i));
    }
  }

  void run() {
    out_.clear();
    add_forms(word_);
    change_onset();
    change_coda();
    change_letters();
    const auto rank = [&](const Similar& one) { return model_.unigram(one.id).p - one.cost; };
    std::ranges::sort(out_, [&](const Similar& a, const Similar& b) {
      return std::pair(-rank(a), a.id) < std::pair(-rank(b), b.id);
    });
    if (out_.size() > kMaxSimilar) out_.resize(kMaxSimilar);
  }

 private:
  Word copy(int32_t cost) const {
    Word word = word_;
    word.cost = cost;
    return word;
  }

  void change_onset() {
    std::size_t onset = 0;
    while (onset < word_.count && !is_vowel(word_.bases[onset])) ++onset;
    if (word_.letters().starts_with("gi") && word_.count > 2) onset = 2;
    if (onset > 0 && word_.bases[0] == 'd' && word_.qualities[0] != 0) return;
    for (const Sounds& pair : kOnsets) {
      if (word_.letters().substr(0, onset) != pair.typed) continue;
      Word word = copy(kSound);
      if (!word.replace(0, onset, pair.meant)) continue;
      add_forms(word);
      // gi and a rhyme with i share the letter: "diết", "giết"; "dì", "gì".
      if (pair.meant == "gi" && word.count > 2 && word.bases[2] == 'i') {
        word.erase(2);
        add_forms(word);
      } else if (pair.typed == "gi" && word.insert(pair.meant.size(), 'i', 0)) {
        add_forms(word);
      }
    }
  }

  void change_coda() {
    std::size_t coda = word_.count;
    while (coda > 0 && !is_vowel(word_.bases[coda - 1])) --coda;
    if (coda == 0) return;
    for (const Sounds& pair : kCodas) {
      if (word_.letters().substr(coda) != pair.typed) continue;
      Word word = copy(kSound);
      if (word.replace(coda, pair.typed.size(), pair.meant)) add_forms(word);
    }
  }

  void change_letters() {
    for (std::size_t i = 0; i < word_.count; ++i) {
      const bool doubled = i > 0 && word_.bases[i] == word_.bases[i - 1];
      Word word = copy(doubled ? kDoubled : kExtra);
      word.erase(i);
      add_forms(word);
      if (i + 1 < word_.count && word_.bases[i] != word_.bases[i + 1]) {
        word = copy(kSwapped);
        std::swap(word.bases[i], word.bases[i + 1]);
        std::swap(word.qualities[i], word.qualities[i + 1]);
        add_forms(word);
      }
      for (const char letter : kLetters) {
        if (letter == word_.bases[i]) continue;
        word = copy(kWrong);
        word.bases[i] = letter;
        word.qualities[i] = kAny;
        add_forms(word);
      }
    }
    for (std::size_t i = 0; i <= word_.count; ++i)
      for (const char letter : kLetters)
        if (Word word = copy(kMissing); word.insert(i, letter, kAny)) add_forms(word);
  }

  // Costs of the marks in which a form differs from the letters.
  int32_t marks_cost(const Word& word, const Syllable& form) const {
    int32_t highest = 0, marks = 0;
    bool missing = typed_.tone == 0;
    const auto add = [&](int32_t cost) {
      highest = std::max(highest, cost);
      ++marks;
    };
    for (std::size_t i = 0; i < word.count; ++i) {
      const uint8_t typed = word.qualities[i];
      missing = missing && (typed == 0 || typed == kAny);
      if (typed != kAny && typed != form.quality(i)) add(typed == 0 ? kMissingQuality : kOtherQuality);
    }
    if (typed_.tone != form.tone) {
      const bool hoi_nga = typed_.tone + form.tone == 7 && (typed_.tone == 3 || typed_.tone == 4);
      add(hoi_nga ? kHoiNga : typed_.tone == 0 ? kMissingTone : kOtherTone);
    }
    if (marks == 0) return 0;
    return missing && marks > 1 ? kNoMarks : highest + (marks - 1) * kNextMark;
  }

  void add_forms(const Word& word) {
    uint64_t bare = 0;
    for (std::size_t i = 0; i < word.count; ++i)
      bare |= uint64_t{static_cast<unsigned char>(word.bases[i])} << (8 * i);
    const auto [first, last] = model_.forms_of(bare);
    for (uint16_t id = first; id < last; ++id) {
      const Syllable& form = model_.form(id).letters;
      if (form.bare == typed_.bare && form.qualities == typed_.qualities && form.tone == typed_.tone)
        continue;
      const int32_t marks = marks_cost(word, form);
      const int32_t cost =
          word.cost > 0 && marks > 0 ? word.cost + std::max(marks - kNext, nats(1)) : word.cost + marks;
      const auto same = std::ranges::find(out_, id, &Similar::id);
      if (same == out_.end())
        out_.push_back({id, cost});
      else
        same->cost = std::min(same->cost, cost);
    }
  }

  const NgramModel& model_;
  const Syllable& typed_;
  std::vector<Similar>& out_;
  Word word_;
};

}  // namespace

void find_similar(const NgramModel& model, const Syllable& typed, std::vector<Similar>& out) {
  out.clear();
  if (typed.count > 0) Search(model, typed, out).run();
}

}  // namespace binhdan::text::restore
