#include "engine/page_store.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "base/log.h"
#include "base/process.h"

namespace binhdan::engine {
namespace fs = std::filesystem;

namespace {

constexpr std::array<char, 8> kMagic = {'B', 'D', 'K', 'V', 'P', 'A', 'G', '2'};
constexpr const char *kSuffix = ".kv", *kPartial = ".partial";
// load_partial() reads the tokens of at most this many files. Prompts with a common beginning usually differ
// at the same token, so that the first files are as good as the others.
constexpr size_t kMaxCandidates = 16;

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File open_file(const fs::path& path, const char* mode) {
#ifdef _WIN32
  return {_wfopen(path.c_str(), std::wstring(mode, mode + 2).c_str()), std::fclose};
#else
  return {std::fopen(path.c_str(), mode), std::fclose};
#endif
}

// Of a C function that has just failed.
std::error_code last_error() {
  return {errno != 0 ? errno : EIO, std::generic_category()};
}

std::string hex(uint64_t value) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
  return text.data();
}

// Two hashes in hexadecimal digits, with a hyphen between them.
std::optional<std::array<uint64_t, 2>> hashes_in(const fs::path& path) {
  const std::string stem = path.stem().string();
  if (path.extension() != kSuffix || stem.size() != 33 || stem[16] != '-') return std::nullopt;
  std::array<uint64_t, 2> hashes{};
  for (size_t i = 0; i < 2; ++i) {
    const std::string digits = stem.substr(17 * i, 16);
    if (digits.find_first_not_of("0123456789abcdef") != std::string::npos) return std::nullopt;
    hashes[i] = std::stoull(digits, nullptr, 16);
  }
  return hashes;
}

}  // namespace

struct PageStore::Header {
  std::array<char, 8> magic;
  uint64_t identity, hash, parent_hash, index, page_bytes, checkpoint_bytes, checksum;

  friend bool operator==(const Header&, const Header&) = default;
};

struct PageStore::Opened {
  File file;
  Header header{};
  std::vector<text::Token> tokens = std::vector<text::Token>(static_cast<size_t>(kKvPageTokens));
};

PageStore::PageStore(const std::string& folder, uint64_t identity, const model::PageSizes& sizes,
                     uint64_t max_bytes)
    : folder_(fs::u8path(folder)), identity_(identity), sizes_(sizes), max_bytes_(max_bytes) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!error) fs::permissions(folder_, fs::perms::owner_all, error);
  struct Found {
    fs::file_time_type time;
    std::array<uint64_t, 2> hashes;
    uint64_t bytes;
  };
  std::vector<Found> found;
  fs::directory_iterator at(folder_, error);
  if (error) fail(Code::io, "cache_folder: cannot use ", folder, ": ", error.message());
  for (const fs::directory_entry& entry : at) {
    std::error_code ignored;
    if (entry.path().extension() == kPartial)
      fs::remove(entry.path(), ignored);  // left by a process that was killed
    const auto hashes = hashes_in(entry.path());
    if (hashes && entry.is_regular_file(ignored))
      found.push_back({entry.last_write_time(ignored), *hashes, entry.file_size(ignored)});
  }
  std::ranges::sort(found, {}, &Found::time);
  for (const Found& file : found) add({file.hashes[0], file.hashes[1]}, file.bytes);
}

uint64_t PageStore::with_identity(uint64_t chain_hash) const {
  return hash_bytes(std::as_bytes(std::span(&chain_hash, 1)), identity_);
}

PageStore::Name PageStore::name_of(const TokenChain& chain, size_t index) const {
  return {with_identity(chain.parent_hash(index)), with_identity(chain.hash(index))};
}

fs::path PageStore::path_of(Name name) const {
  return folder_ / (hex(name.parent_hash) + "-" + hex(name.hash) + kSuffix);
}

uint64_t PageStore::file_bytes(bool with_checkpoint) const {
  return sizeof(Header) + kKvPageTokens * sizeof(text::Token) + sizes_.all_parts() +
         (with_checkpoint ? sizes_.checkpoint : 0);
}

uint64_t PageStore::checksum(std::span<const text::Token> tokens, const model::KvPage& page) const {
  uint64_t hash = hash_bytes(std::as_bytes(tokens), identity_);
  for (const auto* buffer : {&page.parts[0], &page.parts[1], &page.checkpoint})
    if (*buffer) hash = hash_bytes({(*buffer)->as(), (*buffer)->size()}, hash);
  return hash;
}

// The header that a page must have. What it alone states, checksum and checkpoint, is taken from `other`.
PageStore::Header PageStore::header_of(uint64_t hash, uint64_t parent_hash, size_t index,
                                       const Header& other) const {
  const uint64_t checkpoint = other.checkpoint_bytes == 0 ? 0 : sizes_.checkpoint;
  return {kMagic, identity_, hash, parent_hash, index, sizes_.all_parts(), checkpoint, other.checksum};
}

std::optional<PageStore::Opened> PageStore::open(Name name) const {
  Opened opened{open_file(path_of(name), "rb")};
  if (!opened.file || std::fread(&opened.header, sizeof opened.header, 1, opened.file.get()) != 1 ||
      std::fread(opened.tokens.data(), sizeof(text::Token), opened.tokens.size(), opened.file.get()) !=
          opened.tokens.size())
    return std::nullopt;
  return opened;
}

std::optional<model::KvPage> PageStore::read(const Opened& opened) const {
  model::KvPage page;
  const auto read_buffer = [&](std::shared_ptr<const Buffer>& into, uint64_t bytes) {
    if (bytes == 0) return true;
    auto buffer = std::make_shared<Buffer>(bytes);
    into = buffer;
    return std::fread(buffer->as(), 1, bytes, opened.file.get()) == bytes;
  };
  if (!read_buffer(page.parts[0], sizes_.parts[0]) || !read_buffer(page.parts[1], sizes_.parts[1]) ||
      !read_buffer(page.checkpoint, opened.header.checkpoint_bytes) ||
      checksum(opened.tokens, page) != opened.header.checksum)
    return std::nullopt;
  return page;
}

std::optional<model::KvPage> PageStore::load(const TokenChain& chain, size_t index) {
  const Name name = name_of(chain, index);
  const auto found = entries_.find(name.hash);
  if (found == entries_.end() || found->second.parent_hash != name.parent_hash) return std::nullopt;
  auto opened = open(name);
  std::optional<model::KvPage> page;
  if (opened && std::ranges::equal(opened->tokens, chain.page(index)) &&
      opened->header == header_of(chain.hash(index), chain.parent_hash(index), index, opened->header))
    page = read(*opened);
  opened.reset();  // Windows does not delete an open file
  if (page)
    mark_used(name.hash);
  else
    remove(name.hash);
  return page;
}

PartialPage PageStore::load_partial(const TokenChain& chain, size_t index, std::span<const text::Token> next,
                                    size_t min_tokens) {
  const uint64_t parent_hash = chain.parent_hash(index), parent_name = with_identity(parent_hash);
  std::optional<Opened> best;
  uint64_t best_hash = 0;
  size_t tokens = 0, candidates = 0;
  for (auto [at, end] = children_.equal_range(parent_name); at != end && candidates < kMaxCandidates;
       ++at, ++candidates) {
    auto opened = open({parent_name, at->second});
    const size_t common = opened ? common_prefix_length(opened->tokens, next) : 0;
    if (common < min_tokens || common <= tokens) continue;
    tokens = common;
    best = std::move(opened);
    best_hash = at->second;
  }
  if (!best) return {};
  std::optional<model::KvPage> page;
  if (best->header == header_of(best->header.hash, parent_hash, index, best->header)) page = read(*best);
  best.reset();
  if (!page) {
    remove(best_hash);
    return {};
  }
  mark_used(best_hash);
  return {std::move(*page), tokens};
}

std::error_code PageStore::write(Name name, const TokenChain& chain, size_t index,
                                 const model::KvPage& page) const {
  const fs::path partial = folder_ / (hex(name.hash) + "." + std::to_string(process_id()) + kPartial);
  File file = open_file(partial, "wb");
  if (!file) return last_error();
  const auto tokens = chain.page(index);
  Header header{};
  header.checkpoint_bytes = page.checkpoint ? page.checkpoint->size() : 0;
  header.checksum = checksum(tokens, page);
  header = header_of(chain.hash(index), chain.parent_hash(index), index, header);
  bool written = std::fwrite(&header, sizeof header, 1, file.get()) == 1 &&
                 std::fwrite(tokens.data(), sizeof(text::Token), tokens.size(), file.get()) == tokens.size();
  for (const auto* buffer : {&page.parts[0], &page.parts[1], &page.checkpoint})
    if (*buffer)
      written =
          written && std::fwrite((*buffer)->as(), 1, (*buffer)->size(), file.get()) == (*buffer)->size();
  std::error_code error = written ? std::error_code() : last_error();
  if (std::fclose(file.release()) != 0 && !error) error = last_error();
  if (!error) fs::rename(partial, path_of(name), error);
  std::error_code ignored;
  if (error) fs::remove(partial, ignored);
  return error;
}

void PageStore::save(const TokenChain& chain, size_t index, const model::KvPage& page) {
  const Name name = name_of(chain, index);
  if (const auto found = entries_.find(name.hash); found != entries_.end()) {
    if (found->second.parent_hash == name.parent_hash)
      return order_.splice(order_.end(), order_, found->second.order);
    remove(name.hash);  // a renamed file
  }
  const uint64_t bytes = file_bytes(page.checkpoint != nullptr);
  if (bytes > max_bytes_ || !page.has_all(sizes_)) return;
  while (bytes_ + bytes > max_bytes_) remove(order_.front());
  if (const std::error_code error = write(name, chain, index, page))
    log(LogLevel::warning, "prefix cache: cannot write a page to ", folder_.string(), ": ", error.message());
  else
    add(name, bytes);
}

void PageStore::add(Name name, uint64_t bytes) {
  const auto [at, added] = entries_.try_emplace(name.hash, Entry{name.parent_hash, bytes, order_.end()});
  if (!added) return;
  at->second.order = order_.insert(order_.end(), name.hash);
  children_.emplace(name.parent_hash, name.hash);
  bytes_ += bytes;
}

// Sets the file's modification time: the constructor sorts by it, so that the order of last use survives a
// restart.
void PageStore::mark_used(uint64_t hash) {
  const Entry& entry = entries_.at(hash);
  order_.splice(order_.end(), order_, entry.order);
  std::error_code ignored;
  fs::last_write_time(path_of({entry.parent_hash, hash}), fs::file_time_type::clock::now(), ignored);
}

void PageStore::remove(uint64_t hash) {
  const Entry entry = entries_.at(hash);
  std::error_code ignored;
  fs::remove(path_of({entry.parent_hash, hash}), ignored);
  bytes_ -= entry.bytes;
  order_.erase(entry.order);
  entries_.erase(hash);
  auto at = children_.equal_range(entry.parent_hash).first;
  while (at->second != hash) ++at;
  children_.erase(at);
}

}  // namespace binhdan::engine
