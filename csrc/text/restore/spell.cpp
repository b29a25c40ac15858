#include "text/restore/spell.h"

#include <algorithm>
#include <functional>

#include "text/restore/decoder.h"
#include "text/restore/evidence.h"
#include "text/restore/similar.h"
#include "text/restore/tokens.h"
#include "text/unicode.h"

namespace binhdan::text::restore {
namespace {

constexpr std::size_t kMaxTokens = 256;  // of a part that is decoded at once
constexpr std::size_t kMaxSuggestions = 5;
constexpr float kMinSuggestion = 0.01f;  // suggestions with a lower probability are not listed
// Fewer than 1 of kMarkedShare words with marks: a sentence of at least kMinWords words is one without marks.
constexpr std::size_t kMarkedShare = 4, kMinWords = 3;
// Of a word that the model does not have: one with marks; an impossible one with marks; one without, which is mostly a word
// of another language.
constexpr int32_t kUnknown = 4 * kScoreUnit, kImpossible = 9 * kScoreUnit, kForeign = 1 * kScoreUnit;
constexpr int32_t kRepeated = 6 * kScoreUnit;      // a letter with its marks more than once
constexpr int32_t kFirstCapital = 2 * kScoreUnit;  // the first word of a sentence may be a name

struct Workspace {
  std::vector<Span> spans;
  std::vector<Token> tokens;
  std::vector<Similar> similar;
  std::vector<float> probabilities;
  Decoder decoder;
};

class Spelling {
 public:
  Spelling(const NgramModel& model, std::string_view text, const SpellOptions& options, Workspace& work,
           std::vector<Misspelling>& out)
      : model_(model), text_(text), options_(options), work_(work), out_(out) {}

  void run() {
    find_text(text_, options_.format, work_.spans);
    evidence_ = find_evidence(text_, work_.spans);
    for_each_line(text_, work_.spans, [&](std::size_t begin, std::size_t end) { check_line(begin, end); });
  }

 private:
  void check_line(std::size_t begin, std::size_t end) {
    line_ = begin;
    work_.tokens.clear();
    TokenReader reader(text_.substr(begin, end - begin));
    for (Token token; reader.next(token);) {
      if (token.kind != kEnd) work_.tokens.push_back(token);
      if (token.kind == kEnd || work_.tokens.size() == kMaxTokens) check_sentence();
    }
    check_sentence();
  }

  void check_sentence() {
    if (!work_.tokens.empty() && build_lattice()) report();
    work_.tokens.clear();
  }

  // false: no word has a choice.
  bool build_lattice() {
    std::size_t words = 0, capitals = 0, marked = 0;
    for (const Token& token : work_.tokens) {
      words += token.kind == kFirstForm;
      capitals += token.kind == kFirstForm && token.letters.upper != 0;
      marked += token.kind == kFirstForm && token.letters.marked();
    }
    if (words >= kMinWords && marked * kMarkedShare < words) return false;
    const bool names = 2 * capitals <= words + 1;  // else a title, whose capitals say nothing
    bool choice = false, first = true;
    work_.decoder.clear();
    for (Token& token : work_.tokens) {
      Slot slot;
      slot.first = static_cast<uint32_t>(work_.decoder.choices().size());
      slot.typed = token.kind;
      const bool repeated = token.kind == kOther && read_repeated(token);
      const bool capital = names && token.letters.upper != 0;
      if (token.kind == kFirstForm) {
        slot.typed = model_.id_of(token.letters);
        slot.capital = capital && token.capital && !first;
      }
      const bool name = capital && (!first || !token.capital || slot.typed == kOther);
      if (token.kind == kFirstForm && !name) {
        add_choices(token, slot.typed, capital ? kFirstCapital : 0);
      } else if (repeated && !name) {
        add_choice(kOther, -kImpossible);
        add_choice(model_.id_of(token.letters), -kRepeated);
      } else {
        add_choice(slot.typed, 0);
      }
      slot.count = static_cast<uint32_t>(work_.decoder.choices().size()) - slot.first;
      choice = choice || slot.count > 1;
      work_.decoder.slots().push_back(slot);
      if (token.kind != kMark) first = false;
    }
    return choice;
  }

  // The letters of a word that is a known form with marks but for repeated letters ("khôông", "quááá"), into `token`.
  bool read_repeated(Token& token) const {
    const std::string_view word = text_.substr(line_ + token.begin, token.end - token.begin);
    Syllable letters;
    Letter last;
    for (std::size_t i = 0; i < word.size();) {
      const Letter letter = letter_of(next_codepoint(word, i));
      if (letter.base == 0) return false;
      const bool same =
          letter.base == last.base && letter.quality == last.quality && letter.tone == last.tone;
      if (!same && !letters.append(letter)) return false;
      last = letter;
    }
    const unsigned all = (1u << letters.count) - 1;
    if (letters.upper != 0 && letters.upper != 1 && letters.upper != all) return false;
    if (!letters.marked() || model_.id_of(letters) == kOther) return false;
    token.letters = letters;
    token.capital = letters.upper == 1;
    return true;
  }

  void add_choice(uint16_t id, int32_t extra) {
    work_.decoder.choices().push_back(id);
    work_.decoder.extras().push_back(extra);
  }

  // The typed form first.
  void add_choices(const Token& token, uint16_t typed, int32_t cost) {
    int32_t penalty = 0;
    if (typed == kOther)
      penalty = !token.letters.marked() ? kForeign : tone_places(token.letters) ? kUnknown : kImpossible;
    add_choice(typed, -penalty);
    find_similar(model_, token.letters, work_.similar);
    for (const Similar& one : work_.similar) add_choice(one.id, -one.cost - cost);
  }

  void report() {
    Decoder& decoder = work_.decoder;
    decoder.decode(true);
    decoder.find_probabilities(work_.probabilities);
    for (std::size_t i = 0; i < work_.tokens.size(); ++i) {
      const Slot& slot = decoder.slots()[i];
      if (slot.count < 2) continue;
      const auto own = std::span(work_.probabilities).subspan(slot.first + 1, slot.count - 1);
      if (*std::ranges::max_element(own) < std::max(options_.min_confidence, kMinSuggestion)) continue;
      const Token& token = work_.tokens[i];
      Misspelling found{line_ + token.begin, line_ + token.end, {}};
      for (std::size_t k = 0; k < own.size(); ++k)
        if (own[k] >= kMinSuggestion)
          found.suggestions.push_back({form_text(token, decoder.choices()[slot.first + 1 + k]), own[k]});
      std::ranges::sort(found.suggestions, std::greater<>{}, [](const Alternative& one) {
        return std::pair<float, std::string_view>(one.probability, one.text);
      });
      if (found.suggestions.size() > kMaxSuggestions) found.suggestions.resize(kMaxSuggestions);
      out_.push_back(std::move(found));
    }
  }

  std::string form_text(const Token& token, uint16_t id) const {
    const Form& form = model_.form(id);
    Syllable letters = form.letters;
    if (evidence_.new_style()) letters.tone_place = form.new_place;
    const bool all = token.letters.upper != 0 && !token.capital, nfd = token.decomposed || evidence_.nfd();
    std::string word;
    for (std::size_t i = 0; i < letters.count; ++i)
      append_letter(word, letters, i, all || (i == 0 && token.capital), nfd);
    return word;
  }

  const NgramModel& model_;
  std::string_view text_;
  const SpellOptions& options_;
  Workspace& work_;
  std::vector<Misspelling>& out_;
  Evidence evidence_;
  std::size_t line_ = 0;
};

}  // namespace

void spell(const NgramModel& model, std::string_view text, const SpellOptions& options,
           std::vector<Misspelling>& out) {
  check_text(text);
  out.clear();
  thread_local Workspace work;
  work.decoder.use(model);
  Spelling(model, text, options, work, out).run();
}

}  // namespace binhdan::text::restore
