#include "text/restore/model.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "text/unicode.h"

namespace binhdan::text::restore {
namespace {

constexpr char kMagic[] = "BDNGRAM\n";
constexpr uint32_t kVersion = 1, kBucketsPerBase = 64;
constexpr uint64_t kFactor = 0x9e3779b97f4a7c15;
static_assert(std::endian::native == std::endian::little);

// Reads the sections of the file one after another.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  T read(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }
  template <typename T>
  std::vector<T> array(uint64_t count, const char* what) {
    const auto section = take(checked_mul(count, sizeof(T), what), what);
    std::vector<T> values(count);
    std::memcpy(values.data(), section.data(), section.size());
    align();
    return values;
  }
  std::span<const std::byte> take(uint64_t size, const char* what) {
    if (size > bytes_.size() - at_)
      fail(Code::bad_format, "n-gram file: ", what, ": expected ", size, " bytes at ", at_, ", the file has ",
           bytes_.size() - at_);
    const auto section = bytes_.subspan(at_, size);
    at_ += size;
    return section;
  }
  std::string_view text(uint64_t size, const char* what) {
    const auto section = take(size, what);
    align();
    return {reinterpret_cast<const char*>(section.data()), section.size()};
  }
  void align() { at_ = std::min(bytes_.size(), (at_ + 7) & ~std::size_t{7}); }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

// The sum of 64-bit words, each times an odd number that its position selects.
uint64_t checksum(std::span<const std::byte> bytes) {
  uint64_t sum = 0;
  for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    sum += word * (2 * (i / 8) + 1) * kFactor;
  }
  return sum;
}

uint64_t hash_key(uint64_t key) {
  key *= kFactor;
  key ^= key >> 32;
  key *= 0xd6e8feb86659fd93;
  return key ^ key >> 32;
}

Syllable parse_form(std::string_view line) {
  Syllable parsed;
  for (std::size_t i = 0; i < line.size();) {
    const Letter letter = letter_of(next_codepoint(line, i));
    if (letter.base == 0 || letter.upper || !parsed.append(letter)) return {};
  }
  return parsed;
}

}  // namespace

std::size_t NgramModel::BareHash::operator()(uint64_t bare) const {
  return static_cast<std::size_t>(hash_key(bare));
}

std::shared_ptr<const NgramModel> NgramModel::open(const std::string& path) {
  auto file = std::make_shared<const FileMap>(path);
  auto model = from_bytes(file->bytes(), file);
  file->check_intact();
  return model;
}

std::shared_ptr<const NgramModel> NgramModel::from_bytes(std::span<const std::byte> bytes,
                                                         std::shared_ptr<const void> owner) {
  auto model = std::make_shared<NgramModel>();
  model->owner_ = std::move(owner);
  Reader reader(bytes);
  const auto magic = reader.take(8, "magic");
  if (std::memcmp(magic.data(), kMagic, 8) != 0)
    fail(Code::bad_format, "not an n-gram file: expected the magic BDNGRAM");
  if (const auto version = reader.read<uint32_t>("version"); version != kVersion)
    fail(Code::unsupported, "n-gram file: expected version ", kVersion, ", got ", version);
  model->order_ = reader.read<uint32_t>("order");
  if (model->order_ < 2 || model->order_ > kMaxOrder)
    fail(Code::bad_format, "n-gram file: order: expected 2 to ", kMaxOrder, ", got ", model->order_);
  const auto size = reader.read<uint64_t>("size"), sum = reader.read<uint64_t>("checksum");
  if (size != bytes.size() || size % 8 != 0)
    fail(Code::bad_format, "n-gram file: expected ", size, " bytes, a multiple of 8, got ", bytes.size());
  if (checksum(bytes.subspan(32)) != sum)
    fail(Code::bad_format, "n-gram file: the checksum does not match: damaged file");
  const auto forms = reader.read<uint32_t>("forms"), text_bytes = reader.read<uint32_t>("text");
  const auto card_bytes = reader.read<uint32_t>("card");
  model->other_penalty_ = reader.read<int32_t>("penalty");
  if (forms > (1u << kIdBits) - kFirstForm || std::abs(int64_t{model->other_penalty_}) > 100 * kScoreUnit)
    fail(Code::bad_format, "n-gram file: too many forms (", forms, ") or a penalty above the limit");
  for (Table& table : model->tables_) {
    table.entries = reader.read<uint32_t>("entries");
    table.buckets = reader.read<uint32_t>("buckets");
    const auto bits = reader.read<uint32_t>("bits");
    reader.read<uint32_t>("record");
    table.fingerprint_bits = bits & 0xff;
    table.p_bits = bits >> 8 & 0xff;
    table.backoff_bits = bits >> 16 & 0xff;
    if (table.fingerprint_bits > 24 || table.p_bits > 12 || table.backoff_bits > 12 ||
        table.fingerprint_bits + table.p_bits + table.backoff_bits > 32 || table.entries > 1u << 28)
      fail(Code::bad_format, "n-gram file: bits or entries of an order are above the limit");
  }
  model->card_ = reader.text(card_bytes, "card");
  model->read_forms(reader.text(text_bytes, "text"), forms);
  const uint64_t ids = uint64_t{kFirstForm} + forms;
  model->capital_ = reader.array<int16_t>(ids, "capitals");
  model->p_ = reader.array<int16_t>(ids, "scores");
  model->backoff_ = reader.array<int16_t>(ids, "backoffs");
  for (unsigned n = 2; n <= model->order_; ++n) {
    Table& table = model->tables_[n - 2];
    table.p = reader.array<int16_t>(uint64_t{1} << table.p_bits, "codes of p");
    table.backoff = reader.array<int16_t>(uint64_t{1} << table.backoff_bits, "codes of the backoff");
    const auto bases = reader.array<uint32_t>(uint64_t{table.buckets} / kBucketsPerBase + 1, "bases");
    const auto relative = reader.array<uint16_t>(uint64_t{table.buckets} + 1, "buckets");
    table.starts.resize(relative.size());
    for (std::size_t i = 0; i < relative.size(); ++i) {
      const uint64_t start = uint64_t{bases[i / kBucketsPerBase]} + relative[i];
      if (start > table.entries || (i > 0 && start < table.starts[i - 1]))
        fail(Code::bad_format, "n-gram file: buckets of order ", n, " are not in order");
      table.starts[i] = static_cast<uint32_t>(start);
    }
    if (table.buckets == 0) fail(Code::bad_format, "n-gram file: order ", n, " has no bucket");
    const uint64_t width = table.fingerprint_bits + table.p_bits + table.backoff_bits;
    table.data = reader.take((table.entries * width + 7) / 8 + 8, "entries");
    reader.align();
  }
  return model;
}

void NgramModel::read_forms(std::string_view text, uint32_t count) {
  for (const char c : text) forms_checksum_ = forms_checksum_ * 31 + static_cast<unsigned char>(c);
  forms_.reserve(count);
  by_bare_ = decltype(by_bare_)(count);
  uint64_t last = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string_view::npos || forms_.size() == count) break;
    Syllable letters = parse_form(text.substr(at, end - at));
    const auto places = letters.count == 0 ? std::nullopt : tone_places(letters);
    if (!places)
      fail(Code::bad_format, "n-gram file: form ", forms_.size() + 1,
           " is not a possible Vietnamese syllable");
    letters.tone_place = places->old_place;
    const auto id = static_cast<uint16_t>(kFirstForm + forms_.size());
    const auto [range, is_new] = by_bare_.insert(letters.bare);
    if (is_new) {
      *range = {id, id};
    } else if (letters.bare != last) {
      fail(Code::bad_format, "n-gram file: form ", forms_.size() + 1,
           ": expected forms sorted by their bare letters");
    }
    range->second = static_cast<uint16_t>(id + 1);
    last = letters.bare;
    forms_.push_back({letters, places->new_place});
    at = end + 1;
  }
  if (forms_.size() != count)
    fail(Code::bad_format, "n-gram file: expected ", count, " forms, got ", forms_.size());
}

std::pair<uint16_t, uint16_t> NgramModel::forms_of(uint64_t bare) const {
  const auto* range = by_bare_.find(bare);
  return range ? *range : std::pair<uint16_t, uint16_t>{0, 0};
}

uint16_t NgramModel::id_of(const Syllable& letters) const {
  const auto [first, last] = forms_of(letters.bare);
  for (uint16_t id = first; id < last; ++id) {
    const Syllable& form = forms_[id - kFirstForm].letters;
    if (form.qualities == letters.qualities && form.tone == letters.tone) return id;
  }
  return kOther;
}

Entry NgramModel::entry_in(const Table& table, uint64_t hash, uint64_t begin, uint64_t end) {
  const uint64_t mask = (uint64_t{1} << table.fingerprint_bits) - 1, fingerprint = hash & mask;
  const unsigned width = table.fingerprint_bits + table.p_bits + table.backoff_bits;
  for (uint64_t bit = begin * width; begin < end; ++begin, bit += width) {
    uint64_t word;
    std::memcpy(&word, table.data.data() + bit / 8, 8);
    word >>= bit % 8;
    if ((word & mask) != fingerprint) continue;
    const uint64_t p = word >> table.fingerprint_bits & ((uint64_t{1} << table.p_bits) - 1);
    const uint64_t backoff =
        word >> (table.fingerprint_bits + table.p_bits) & ((uint64_t{1} << table.backoff_bits) - 1);
    return {true, backoff != 0, table.p[p], table.backoff[backoff]};
  }
  return {};
}

Entry NgramModel::find(unsigned n, uint64_t key) const {
  Entry entry;
  find_all(n, {&key, 1}, &entry);
  return entry;
}

void NgramModel::find_all(unsigned n, std::span<const uint64_t> keys, Entry* out) const {
  constexpr std::size_t kBatch = 64;
  const Table& table = tables_[n - 2];
  const uint64_t width = table.fingerprint_bits + table.p_bits + table.backoff_bits;
  uint64_t hashes[kBatch];
  uint32_t begins[kBatch], ends[kBatch];
  for (std::size_t from = 0; from < keys.size(); from += kBatch) {
    const std::size_t count = std::min(kBatch, keys.size() - from);
    for (std::size_t i = 0; i < count; ++i) {
      hashes[i] = hash_key(keys[from + i]);
      __builtin_prefetch(&table.starts[(hashes[i] >> 32) * table.buckets >> 32]);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const uint64_t bucket = (hashes[i] >> 32) * table.buckets >> 32;
      begins[i] = table.starts[bucket];
      ends[i] = table.starts[bucket + 1];
      __builtin_prefetch(table.data.data() + begins[i] * width / 8);
    }
    for (std::size_t i = 0; i < count; ++i) out[from + i] = entry_in(table, hashes[i], begins[i], ends[i]);
  }
}

}  // namespace binhdan::text::restore
