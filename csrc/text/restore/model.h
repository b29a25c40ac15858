// The n-gram file: forms of syllables, and the log probabilities of n-grams of them.
//
// examples/train_restorer/file.py writes it. All numbers are little-endian; a section starts at a multiple of 8 bytes.
//
//   header     magic "BDNGRAM\n"; u32 version, order; u64 file size, checksum of the bytes after it; u32 forms, bytes of
//              their text, bytes of the card; i32 penalty of OTHER
//   records    of orders 2 to 4: u32 entries, buckets; u8 bits of the fingerprint, of p, of the backoff; 5 bytes of 0
//   card       JSON: sources, licences, counts
//   text       the forms, one a line, sorted by their letters without marks; id = kFirstForm + line
//   i16 x ids  score of a capital inside a sentence; score of each id; its backoff
//   orders     i16 x 2^bits: score of each code of p, of the backoff; u32: first entry of every 64th bucket; u16: first
//              entry of each bucket after that; entries, packed: fingerprint, code of p, code of the backoff
//
// A score is a natural logarithm in units of 1/512. The key of an n-gram has 14 bits per id, the last word lowest. Its
// hash (hash_key) selects the bucket with its upper half and the fingerprint with its lowest bits. A missing n-gram is
// taken for another one with a probability of about 6 entries / 2^bits. Code 0 of the backoff: no longer n-gram starts
// with this one.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_map.h"
#include "text/flat_map.h"
#include "text/restore/syllable.h"

namespace binhdan::text::restore {

// Ids below kFirstForm: the end of a sentence, a word that is no known syllable, one with a digit, other characters.
enum : uint16_t { kEnd = 0, kOther = 1, kNumber = 2, kMark = 3, kFirstForm = 4 };
inline constexpr unsigned kMaxOrder = 4, kIdBits = 14;
inline constexpr int32_t kScoreUnit = 512;  // units of a score per nat

struct Form {
  Syllable letters;  // tone_place: the old one
  uint8_t new_place = 0;
};

struct Entry {
  bool found = false, inner = false;  // inner: longer n-grams start with this one
  int32_t p = 0, backoff = 0;
};

class NgramModel {
 public:
  // Throws Error: those of FileMap; bad_format for a file that is damaged or not of this format.
  static std::shared_ptr<const NgramModel> open(const std::string& path);
  // `owner` keeps the bytes valid.
  static std::shared_ptr<const NgramModel> from_bytes(std::span<const std::byte> bytes,
                                                      std::shared_ptr<const void> owner);

  unsigned order() const { return order_; }
  std::string_view card() const { return card_; }
  int32_t other_penalty() const { return other_penalty_; }
  std::span<const Form> forms() const { return forms_; }
  uint32_t forms_checksum() const { return forms_checksum_; }  // of their text
  const Form& form(uint16_t id) const { return forms_[id - kFirstForm]; }
  // The ids of the forms with these bare letters: [first, second).
  std::pair<uint16_t, uint16_t> forms_of(uint64_t bare) const;
  // kOther: no form has these letters and this tone.
  uint16_t id_of(const Syllable& letters) const;
  int32_t capital(uint16_t id) const { return capital_[id]; }
  Entry unigram(uint16_t id) const { return {true, true, p_[id], backoff_[id]}; }
  // n = 2 to order(). key: 14 bits per id.
  Entry find(unsigned n, uint64_t key) const;
  // The entries of many keys: faster, since the reads of memory overlap.
  void find_all(unsigned n, std::span<const uint64_t> keys, Entry* out) const;

 private:
  struct Table {
    uint32_t entries = 0, buckets = 0;
    unsigned fingerprint_bits = 0, p_bits = 0, backoff_bits = 0;
    std::vector<int16_t> p, backoff;
    std::vector<uint32_t> starts;     // of buckets, and the end of the last
    std::span<const std::byte> data;  // with 8 bytes after the last entry
  };
  struct BareHash {
    std::size_t operator()(uint64_t bare) const;
  };

  static Entry entry_in(const Table& table, uint64_t hash, uint64_t begin, uint64_t end);
  void read_forms(std::string_view text, uint32_t count);

  std::shared_ptr<const void> owner_;
  unsigned order_ = 0;
  int32_t other_penalty_ = 0;
  std::string_view card_;
  std::vector<Form> forms_;
  uint32_t forms_checksum_ = 0;
  FlatMap<uint64_t, std::pair<uint16_t, uint16_t>, BareHash> by_bare_;
  std::vector<int16_t> capital_, p_, backoff_;
  std::array<Table, kMaxOrder - 1> tables_;
};

}  // namespace binhdan::text::restore
