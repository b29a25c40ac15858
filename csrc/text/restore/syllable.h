// Vietnamese letters and syllables: base letter, quality (â, ă, ê, ô, ơ, ư, đ) and tone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace binhdan::text::restore {

inline constexpr std::size_t kMaxLetters = 8;                       // "nghiêng" has 7
enum class Style : int { keep = 0, new_place = 1, old_place = 2 };  // hoà, hòa

// One Vietnamese letter. quality: 0 none; 1 ă đ ơ ư; 2 â ê ô. tone: 0 ngang, 1 huyền, 2 sắc, 3 ngã, 4 hỏi, 5 nặng.
struct Letter {
  char base = 0;  // 'a' to 'z'; 0: not a letter of these
  uint8_t quality = 0, tone = 0;
  bool upper = false;
};
Letter letter_of(char32_t c);
// What a combining character adds to the letter before it; base is 0 for other characters.
Letter mark_of(char32_t c);

// A word of at most kMaxLetters letters: bare letters in lower case (first letter in the lowest byte), 2 bits of quality
// per letter, at most one tone.
struct Syllable {
  uint64_t bare = 0;
  uint16_t qualities = 0;
  uint8_t count = 0, tone = 0, tone_place = 0;
  uint8_t upper = 0;  // bit i: letter i is a capital

  char base(std::size_t i) const { return static_cast<char>(bare >> (8 * i)); }
  unsigned quality(std::size_t i) const { return qualities >> (2 * i) & 3u; }
  bool marked() const { return qualities != 0 || tone != 0; }
  // false: too many letters, or a second tone.
  bool append(const Letter& letter);
  bool add_mark(const Letter& mark);
};

// Where the tone mark of a syllable is.
struct TonePlaces {
  uint8_t old_place, new_place;
};
// nullopt when letters and tone are not those of a possible Vietnamese syllable. The place of the tone is not checked.
std::optional<TonePlaces> tone_places(const Syllable& syllable);

// Appends letter i of `syllable` with the marks of `form`: composed, or decomposed with nfd.
void append_letter(std::string& out, const Syllable& form, std::size_t i, bool upper, bool nfd);

}  // namespace binhdan::text::restore
