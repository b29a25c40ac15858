// csrc/text/restore/: similar syllables and misspelled words.
#include "check.h"
#include "text/restore/similar.h"
#include "text/restore/spell.h"
#include "text/unicode.h"

using namespace binhdan;
using namespace binhdan::text::restore;

namespace {

const NgramModel& packaged() {
  static const auto model = NgramModel::open(BINHDAN_TEST_NGRAMS);
  return *model;
}

Syllable parse(std::string_view word) {
  Syllable parsed;
  for (size_t i = 0; i < word.size();) CHECK(parsed.append(letter_of(text::next_codepoint(word, i))));
  return parsed;
}

bool is_similar(std::string_view typed, std::string_view meant) {
  std::vector<Similar> found;
  find_similar(packaged(), parse(typed), found);
  CHECK(found.size() <= kMaxSimilar);
  const uint16_t id = packaged().id_of(parse(meant));
  CHECK(id != kOther);
  for (const Similar& one : found) {
    CHECK(one.cost > 0 && one.id >= kFirstForm);
    if (one.id == id) return true;
  }
  return false;
}

// The text with the first suggestions.
std::string corrected(std::string_view text, float min_confidence = 0.7f) {
  std::vector<Misspelling> found;
  spell(packaged(), text, {Format::text, min_confidence}, found);
  std::string out;
  std::size_t copied = 0;
  for (const Misspelling& one : found) {
    out.append(text.substr(copied, one.begin - copied)).append(one.suggestions.front().text);
    copied = one.end;
  }
  return out.append(text.substr(copied));
}

}  // namespace

TEST(confused_syllables_are_similar) {
  CHECK(is_similar("nghỉ", "nghĩ") && is_similar("sử", "xử") && is_similar("chong", "trong"));
  CHECK(is_similar("diết", "giết") && is_similar("dì", "gì") && is_similar("gia", "ra"));
  CHECK(is_similar("luông", "luôn") && is_similar("khát", "khác") && is_similar("nhu", "như"));
  CHECK(is_similar("duoc", "được") && is_similar("khôngg", "không") && is_similar("nười", "người"));
  CHECK(is_similar("hcọ", "học") && is_similar("ngờui", "người"));
  CHECK(!is_similar("đi", "gì") && !is_similar("học", "trường"));
  std::vector<Similar> none{{kOther, 1}};
  find_similar(packaged(), {}, none);
  CHECK(none.empty());
}

TEST(errors_are_found) {
  CHECK(corrected("Tôi đả đi học ở trường đại học.") == "Tôi đã đi học ở trường đại học.");
  CHECK(corrected("Chúng tôi khôngg biết điều đó.") == "Chúng tôi không biết điều đó.");
  CHECK(corrected("Điều này được goi là sự thật.") == "Điều này được gọi là sự thật.");
  CHECK(corrected("Nhưng khôông ai biếtt vì sao, đẹp quááá.") == "Nhưng không ai biết vì sao, đẹp quá.");
  CHECK(corrected("CHÚNG TÔI ĐẢ ĐI HỌC Ở TRƯỜNG.") == "CHÚNG TÔI ĐÃ ĐI HỌC Ở TRƯỜNG.");
}

TEST(right_words_names_and_other_languages_stay) {
  for (const std::string_view text :
       {"", "Tôi đi học ở trường đại học.", "toi di hoc o truong dai hoc",
        "Hôm qua Krông Buk và Nguyển Xuâm gặp nhau.", "Chúng tôi dùng software của Google ở Paris.",
        "Xem https://đả.vn/đả và `đả` nhé.", "\xff đả đi học ở trường đại học"})
    CHECK(corrected(text) == text);
}

TEST(a_suggestion_has_a_probability) {
  std::vector<Misspelling> found;
  spell(packaged(), "a\nTôi đả đi học ở trường đại học.", {}, found);
  CHECK(found.size() == 1);
  if (found.size() != 1) return;
  CHECK(found[0].begin == 7 && found[0].end == 12 && found[0].suggestions.size() <= 5);
  CHECK(found[0].suggestions[0].text == "đã" && found[0].suggestions[0].probability > 0.9f);
  CHECK(corrected("Tôi đả đi học ở trường đại học.", 1) == "Tôi đả đi học ở trường đại học.");
  CHECK_FAILS(spell(packaged(), std::string_view("a\0b", 3), {}, found), "found a NUL byte at 1");
}
