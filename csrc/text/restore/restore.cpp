#include "text/restore/restore.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "text/restore/decoder.h"
#include "text/restore/evidence.h"
#include "text/restore/tokens.h"

namespace binhdan::text::restore {
namespace {

constexpr std::size_t kMaxTokens = 256;  // of a part that is decoded at once
constexpr std::size_t kMaxAlternatives = 5;
// Nats against any change in a text with marks, and how many marked words of the rest of a text count for a sentence.
constexpr double kChangePrior = 6;
constexpr std::size_t kMaxEvidence = 8;
// Against a word of another language in the keys of an input method: for the word, and for each key that is no letter.
constexpr int32_t kLiteralCost = 2 * kScoreUnit, kLiteralKeyCost = 7 * kScoreUnit;

// The cost, in nats, of the assumption that marks are missing in `missing` words and present in `present`: the
// probability of the pattern when each word lost its marks with one unknown, uniformly distributed probability.
double change_cost(std::size_t missing, std::size_t present) {
  if (present == 0) return 0;
  const auto a = static_cast<double>(missing), b = static_cast<double>(present);
  return kChangePrior + std::lgamma(a + b + 2) - std::lgamma(a + 1) - std::lgamma(b + 1);
}

// Whether the typed marks of `typed` are among those of `form`.
bool agrees(const Syllable& typed, const Syllable& form) {
  const unsigned mask = typed.qualities | (typed.qualities >> 1 & 0x5555u) | (typed.qualities << 1 & 0xaaaau);
  return (form.qualities & mask) == typed.qualities && (typed.tone == 0 || typed.tone == form.tone);
}

bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}

// The buffers of a thread.
struct Workspace {
  std::vector<Span> spans;
  std::vector<Token> tokens;
  std::vector<uint16_t> best, typed, reference;
  std::vector<uint64_t> letters;  // without marks, of changed words
  std::vector<uint8_t> keyed;     // tokens with the keys of an input method
  std::vector<Slot> all_slots;
  std::vector<uint8_t> shapes;
  Scorer::Buffers scorer;
  std::vector<float> probabilities;
  Decoder decoder;
};

class Restoration {
 public:
  Restoration(const NgramModel& model, std::string_view text, const Options& options, Workspace& work,
              std::string& out, std::vector<Choice>* choices)
      : model_(model), text_(text), options_(options), work_(work), out_(out), choices_(choices) {}

  void run() {
    out_.clear();
    find_text(text_, options_.format, work_.spans);
    evidence_ = find_evidence(text_, work_.spans);
    for_each_line(text_, work_.spans, [&](std::size_t begin, std::size_t end) { restore_line(begin, end); });
    out_.append(text_.substr(copied_));
  }

 private:
  void restore_line(std::size_t begin, std::size_t end) {
    line_ = begin;
    work_.tokens.clear();
    TokenReader reader(text_.substr(begin, end - begin));
    for (Token token; reader.next(token);) {
      if (token.kind != kEnd) work_.tokens.push_back(token);
      if (token.kind == kEnd || work_.tokens.size() == kMaxTokens) restore_sentence();
    }
    restore_sentence();
  }

  void restore_sentence() {
    if (work_.tokens.empty()) return;
    if (build_lattice() || options_.style != Style::keep) {
      choose();
      write_sentence();
    }
    work_.tokens.clear();
  }

  // false: no token has a choice.
  bool build_lattice() {
    std::size_t words = 0, capitals = 0;
    for (const Token& token : work_.tokens) {
      words += token.kind == kFirstForm;
      capitals += token.capital;
    }
    const bool use_capitals = 2 * capitals <= words + 1;
    bool choice = false;
    work_.decoder.clear();
    work_.typed.clear();
    work_.keyed.clear();
    uint16_t before = kEnd;
    for (Token& token : work_.tokens) {
      Slot slot;
      slot.first = static_cast<uint32_t>(work_.decoder.choices().size());
      work_.keyed.push_back(options_.typing != Typing::none && add_keys(token, slot));
      if (!work_.keyed.back()) add_choices(token, slot);
      slot.capital = use_capitals && token.capital && before != kEnd && before != kMark;
      slot.count = static_cast<uint32_t>(work_.decoder.choices().size()) - slot.first;
      choice = choice || slot.count > 1;
      work_.decoder.slots().push_back(slot);
      work_.typed.push_back(slot.typed);
      before = token.kind;
    }
    return choice;
  }

  void add_choice(uint16_t id, int32_t extra) {
    work_.decoder.choices().push_back(id);
    work_.decoder.extras().push_back(extra);
  }

  // The syllables that the keys of a token can mean, and the token itself. false: it has no such keys.
  bool add_keys(Token& token, Slot& slot) {
    if (token.kind != kFirstForm && token.kind != kOther && token.kind != kNumber) return false;
    const std::string_view word = text_.substr(line_ + token.begin, token.end - token.begin);
    const KeySyllables keys = read_keys(word, options_.typing);
    if (keys.count == static_cast<std::size_t>(keys.literal)) return false;
    slot.typed = token.kind == kNumber ? kNumber : kOther;
    const Syllable* letters = nullptr;
    for (std::size_t i = 0; i < keys.count; ++i) {
      const Syllable& syllable = keys.syllables[i];
      const uint16_t id = model_.id_of(syllable);
      if (id == kOther) continue;
      add_choice(id, 0);
      if (letters == nullptr) letters = &syllable;
    }
    if (letters == nullptr) return false;
    const auto marks =
        static_cast<int32_t>(std::max<std::size_t>(word.size(), letters->count) - letters->count);
    add_choice(slot.typed, -kLiteralCost - marks * kLiteralKeyCost);
    const bool capital = (letters->upper & 1u) != 0, all = std::ranges::none_of(word, is_lower);
    token.letters = *letters;
    token.letters.upper = static_cast<uint8_t>(all ? 0xff : capital);
    token.capital = capital && !all;
    token.kind = kFirstForm;
    return true;
  }

  void add_choices(const Token& token, Slot& slot) {
    if (token.kind != kFirstForm) {
      slot.typed = token.kind;
      add_choice(token.kind, 0);
      return;
    }
    const Syllable& typed = token.letters;
    const auto [first, last] = model_.forms_of(typed.bare);
    slot.typed = model_.id_of(typed);
    // A tone, or marks of a possible syllable that the model does not have: the word stays.
    // In a text with tones, so does a word with a quality that has no tone: the level tone has no mark.
    const bool toned = typed.tone != 0 || (evidence_.toned > 0 && typed.qualities != 0);
    const bool complete = slot.typed != kOther ? toned : typed.marked() && tone_places(typed);
    if (complete) {
      add_choice(slot.typed, 0);
      return;
    }
    for (uint16_t id = first; id < last; ++id)
      if (agrees(typed, model_.form(id).letters)) add_choice(id, 0);
    slot.penalized = work_.decoder.choices().size() > slot.first;
    if (slot.typed == kOther) add_choice(kOther, 0);
  }

  // Into the extras of the choices. work_.probabilities: before that.
  void add_scores() {
    work_.shapes.clear();
    for (const Token& token : work_.tokens) work_.shapes.push_back(shape_of(token, text_.substr(line_)));
    work_.decoder.decode(true);
    work_.decoder.find_probabilities(work_.probabilities);
    options_.scorer->add(work_.decoder, work_.probabilities, work_.shapes, work_.scorer);
  }

  // The ids of a sentence that changes nothing: the typed ones. Keys of an input method are read in any case.
  void find_reference() {
    work_.reference = work_.typed;
    if (std::ranges::find(work_.keyed, 1) == work_.keyed.end()) return;
    auto& slots = work_.decoder.slots();
    const auto& ids = work_.decoder.choices();
    work_.all_slots = slots;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (work_.keyed[i] != 0) continue;
      const auto first = ids.begin() + slots[i].first;
      slots[i].first =
          static_cast<uint32_t>(std::find(first, first + slots[i].count, slots[i].typed) - ids.begin());
      slots[i].count = 1;
    }
    work_.decoder.decode();
    work_.reference.assign(work_.decoder.best().begin(), work_.decoder.best().end());
    slots = work_.all_slots;
  }

  // The ids of the sentence, into work_.best: the best ones, or the typed ones where the text shows that it has its marks.
  void choose() {
    if (options_.scorer) add_scores();
    find_reference();
    const bool weighed = choices_ || options_.min_confidence > 0;
    const bool likely = options_.scorer && !weighed;
    const int32_t best_score =
        likely ? work_.decoder.decode_likely(work_.probabilities) : work_.decoder.decode(weighed);
    const auto best = work_.decoder.best();
    work_.best.assign(best.begin(), best.end());
    std::size_t missing = 0, present = 0;
    for (std::size_t i = 0; i < work_.best.size(); ++i) {
      const Token& token = work_.tokens[i];
      if (token.kind != kFirstForm) continue;
      const bool changed = work_.best[i] != work_.reference[i];
      missing += changed;
      present += !changed && token.letters.marked();
    }
    const std::size_t different = count_different();
    if (weighed) weigh_choices();
    if (missing == 0) return;
    std::size_t here = 0;
    for (const Token& token : work_.tokens) here += token.kind == kFirstForm && token.letters.marked();
    present += std::min(evidence_.marked - std::min(evidence_.marked, here), kMaxEvidence);
    const Decoder& decoder = work_.decoder;
    int32_t better = best_score - decoder.score(work_.reference);
    // The scorer learnt from text without marks: it cannot weigh the marks of the rest.
    if (options_.scorer && present > 0)
      better = std::min(better, decoder.score(work_.best, false) - decoder.score(work_.reference, false));
    double gain = static_cast<double>(better) / kScoreUnit;
    // A word that lacks its marks each time is one observation: it may be a word without marks.
    gain *= static_cast<double>(different) / static_cast<double>(missing);
    if (gain <= change_cost(different, present)) work_.best = work_.reference;
  }

  // Of the changed words, those with different letters.
  std::size_t count_different() {
    work_.letters.clear();
    for (std::size_t i = 0; i < work_.best.size(); ++i)
      if (work_.tokens[i].kind == kFirstForm && work_.best[i] != work_.reference[i])
        work_.letters.push_back(work_.tokens[i].letters.bare);
    std::ranges::sort(work_.letters);
    const auto repeated = std::ranges::unique(work_.letters);
    return work_.letters.size() - repeated.size();
  }

  void weigh_choices() {
    const auto& slots = work_.decoder.slots();
    const auto& ids = work_.decoder.choices();
    work_.decoder.find_probabilities(work_.probabilities);
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (slots[i].count < 2) continue;
      const auto first = ids.begin() + slots[i].first;
      const auto at =
          slots[i].first + static_cast<std::size_t>(std::find(first, ids.end(), work_.best[i]) - first);
      if (work_.probabilities[at] < options_.min_confidence) work_.best[i] = work_.typed[i];
      if (choices_) explain(i);
    }
  }

  void explain(std::size_t i) {
    const Slot& slot = work_.decoder.slots()[i];
    const Token& token = work_.tokens[i];
    Choice choice{line_ + token.begin, line_ + token.end, {}};
    for (uint32_t k = 0; k < slot.count; ++k) {
      const uint16_t id = work_.decoder.choices()[slot.first + k];
      choice.alternatives.push_back({spell(token, id, slot.typed), work_.probabilities[slot.first + k]});
    }
    // The text decides between equal probabilities. (Clang 19 warns of GCC 12's std::stable_sort.)
    std::ranges::sort(choice.alternatives, std::greater<>{}, [](const Alternative& one) {
      return std::pair<float, std::string_view>(one.probability, one.text);
    });
    if (choice.alternatives.size() > kMaxAlternatives) choice.alternatives.resize(kMaxAlternatives);
    choices_->push_back(std::move(choice));
  }

  std::string spell(const Token& token, uint16_t id, uint16_t typed) const {
    std::string word;
    if (id == typed) return std::string(text_.substr(line_ + token.begin, token.end - token.begin));
    append_form(word, token, id);
    return word;
  }

  bool new_style() const {
    if (options_.style != Style::keep) return options_.style == Style::new_place;
    return evidence_.new_style();
  }

  void append_form(std::string& word, const Token& token, uint16_t id) const {
    const Form& form = model_.form(id);
    append_letters(word, token, form.letters, new_style() ? form.new_place : form.letters.tone_place);
  }

  void append_letters(std::string& word, const Token& token, Syllable form, uint8_t place) const {
    form.tone_place = place;
    const bool nfd = token.decomposed || evidence_.nfd();
    for (std::size_t i = 0; i < form.count; ++i)
      append_letter(word, form, i, (token.letters.upper >> i & 1) != 0, nfd);
  }

  void write_sentence() {
    for (std::size_t i = 0; i < work_.tokens.size(); ++i) {
      const Token& token = work_.tokens[i];
      if (token.kind != kFirstForm) continue;
      if (work_.best[i] != work_.typed[i]) {
        copy_to(token);
        append_form(out_, token, work_.best[i]);
      } else if (options_.style != Style::keep && token.letters.tone != 0) {
        const auto places = tone_places(token.letters);
        if (!places) continue;
        const uint8_t place = new_style() ? places->new_place : places->old_place;
        if (place == token.letters.tone_place) continue;
        copy_to(token);
        append_letters(out_, token, token.letters, place);
      }
    }
  }
  // Copies the text before the token, and skips the token.
  void copy_to(const Token& token) {
    out_.append(text_.substr(copied_, line_ + token.begin - copied_));
    copied_ = line_ + token.end;
  }

  const NgramModel& model_;
  std::string_view text_;
  const Options& options_;
  Workspace& work_;
  std::string& out_;
  std::vector<Choice>* choices_;
  Evidence evidence_;
  std::size_t copied_ = 0, line_ = 0;
};

}  // namespace

void check_text(std::string_view text) {
  if (const std::size_t nul = text.find('\0'); nul != std::string_view::npos)
    fail(Code::invalid_argument, "text: expected text, found a NUL byte at ", nul,
         ": this is binary data or UTF-16");
  if (text.size() >= std::size_t{1} << 31)
    fail(Code::too_large, "text: expected less than 2 GiB, got ", text.size(), " bytes: restore it in parts");
}

void restore(const NgramModel& model, std::string_view text, const Options& options, std::string& out,
             std::vector<Choice>* choices) {
  check_text(text);
  thread_local Workspace work;
  work.decoder.use(model);
  if (choices) choices->clear();
  Restoration(model, text, options, work, out, choices).run();
}

}  // namespace binhdan::text::restore
