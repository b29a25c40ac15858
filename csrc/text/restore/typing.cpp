#include "text/restore/typing.h"

#include <algorithm>
#include <span>

#include "text/unicode.h"

namespace binhdan::text::restore {
namespace {

constexpr std::size_t kMaxKeys = 16, kMaxSteps = 500;

bool is_vowel(char base) {
  return std::string_view("aeiouy").find(base) != std::string_view::npos;
}

struct Key {
  Letter letter;  // of a letter
  char digit = 0;
};

// The letters that were read so far.
struct Partial {
  std::array<Letter, kMaxLetters> letters{};
  std::size_t count = 0;
  uint8_t tone = 0;
  bool keys = false;  // one of the keys was no letter

  bool append(const Letter& letter) {
    if (count == kMaxLetters) return false;
    letters[count++] = letter;
    return true;
  }
  bool has_vowel() const {
    return std::any_of(letters.begin(), letters.begin() + count,
                       [](const Letter& l) { return is_vowel(l.base); });
  }
};

// Follows the keys of one word. A key with several meanings is followed in each of them.
class Reader {
 public:
  Reader(std::span<const Key> keys, Typing typing, KeySyllables& out)
      : keys_(keys), typing_(typing), out_(out) {}

  void follow(std::size_t at, Partial partial) {
    if (out_.count == KeySyllables::kMax || ++steps_ > kMaxSteps) return;
    if (at == keys_.size()) return finish(partial);
    const Key& key = keys_[at];
    if (typing_ == Typing::vni)
      key.digit != 0 ? digit(at, partial) : letter(at, partial);
    else if (key.digit == 0)
      telex(at, partial);
  }

 private:
  void letter(std::size_t at, Partial partial) {
    if (partial.append(keys_[at].letter)) follow(at + 1, partial);
  }

  void telex(std::size_t at, const Partial& partial) {
    constexpr std::string_view kTones = "zfsxrj";  // by number of the tone
    const Letter& key = keys_[at].letter;
    if (key.quality != 0 || key.tone != 0) return letter(at, partial);
    if (const auto tone = kTones.find(key.base); tone != std::string_view::npos && partial.has_vowel())
      return set_tone(at, partial, static_cast<uint8_t>(tone));
    if (key.base == 'w') {
      horn(at, partial);
      quality(at, partial, "a", 1);
      Partial alone = partial;  // w is ư
      if (alone.append({'u', 1, 0, key.upper})) {
        alone.keys = true;
        follow(at + 1, alone);
      }
      return;
    }
    const std::string_view doubled("aeod");
    if (const auto found = doubled.find(key.base); found != std::string_view::npos) {
      const Letter last = partial.count > 0 ? partial.letters[partial.count - 1] : Letter{};
      if (last.base == key.base && last.quality != 0 && key.base != 'd') return undo(at, partial);
      quality(at, partial, doubled.substr(found, 1), key.base == 'd' ? 1 : 2);
      if (last.base == key.base) return;
    }
    letter(at, partial);
  }

  // A third key takes the mark away: xooong is xoong.
  void undo(std::size_t at, Partial partial) {
    partial.letters[partial.count - 1].quality = 0;
    letter(at, partial);
  }

  void digit(std::size_t at, const Partial& partial) {
    switch (keys_[at].digit) {
      case '6':
        return quality(at, partial, "aeo", 2);
      case '7':
        return horn(at, partial);
      case '8':
        return quality(at, partial, "a", 1);
      case '9':
        return quality(at, partial, "d", 1);
      default:
        constexpr std::string_view kTones = "021435";  // ngang, huyền, sắc, ngã, hỏi, nặng
        if (const auto tone = kTones.find(keys_[at].digit);
            tone != std::string_view::npos && partial.has_vowel())
          set_tone(at, partial, static_cast<uint8_t>(tone));
    }
  }

  void set_tone(std::size_t at, Partial partial, uint8_t tone) {
    // A second key of the same tone takes the mark away: a word of another language. Two digits are a number.
    if (partial.tone == tone || (partial.tone != 0 && typing_ == Typing::vni)) return;
    partial.tone = tone;
    partial.keys = true;
    follow(at + 1, partial);
  }

  // One letter of `bases` without a quality gets one; the last is tried first.
  void quality(std::size_t at, const Partial& partial, std::string_view bases, uint8_t value) {
    for (std::size_t i = partial.count; i-- > 0;) {
      const Letter& letter = partial.letters[i];
      if (letter.quality != 0 || bases.find(letter.base) == std::string_view::npos) continue;
      if (letter.base == 'd' && i != 0) continue;
      Partial next = partial;
      next.letters[i].quality = value;
      next.keys = true;
      follow(at + 1, next);
    }
  }

  // uo, or one of its letters, gets horns.
  void horn(std::size_t at, const Partial& partial) {
    for (std::size_t i = 0; i + 1 < partial.count; ++i) {
      const Letter &u = partial.letters[i], &o = partial.letters[i + 1];
      if (u.base != 'u' || u.quality == 2 || o.base != 'o' || o.quality != 0) continue;
      Partial next = partial;
      next.letters[i].quality = next.letters[i + 1].quality = 1;
      next.keys = true;
      follow(at + 1, next);
    }
    quality(at, partial, "ou", 1);
  }

  void finish(Partial partial) {
    Syllable syllable;
    for (std::size_t i = 0; i + 1 < partial.count; ++i)  // ưo is no rhyme: dduwocj
      if (partial.letters[i].base == 'u' && partial.letters[i].quality == 1 &&
          partial.letters[i + 1].base == 'o')
        partial.letters[i + 1].quality = 1;
    for (std::size_t i = 0; i < partial.count; ++i) {
      Letter letter = partial.letters[i];
      if (letter.tone != 0 && partial.tone != 0) return;
      if (!syllable.append(letter)) return;
    }
    if (partial.tone != 0) syllable.tone = partial.tone;
    const auto places = tone_places(syllable);
    if (!places) return;
    if (partial.tone != 0) syllable.tone_place = places->old_place;
    const auto end = out_.syllables.begin() + static_cast<std::ptrdiff_t>(out_.count);
    const auto same = [&](const Syllable& s) {
      return s.bare == syllable.bare && s.qualities == syllable.qualities && s.tone == syllable.tone;
    };
    if (!partial.keys) out_.literal = true;
    if (std::any_of(out_.syllables.begin(), end, same)) return;
    out_.syllables[out_.count++] = syllable;
  }

  std::span<const Key> keys_;
  Typing typing_;
  KeySyllables& out_;
  std::size_t steps_ = 0;
};

}  // namespace

KeySyllables read_keys(std::string_view word, Typing typing) {
  KeySyllables found;
  std::array<Key, kMaxKeys> keys;
  std::size_t count = 0;
  for (std::size_t i = 0; i < word.size();) {
    const char32_t c = next_codepoint(word, i);
    Key key{letter_of(c), 0};
    if (typing == Typing::vni && c >= '0' && c <= '9') key.digit = static_cast<char>(c);
    if (count == kMaxKeys || (key.letter.base == 0 && key.digit == 0)) return found;
    keys[count++] = key;
  }
  Reader(std::span(keys).first(count), typing, found).follow(0, {});
  return found;
}

}  // namespace binhdan::text::restore
