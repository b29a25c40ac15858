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

constexpr std::array<char, 8> kMagic = {'B', 'D', 'K', 'V', 'P', 'A', 'G', '1'};
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
  uint64_t identity, hash, parent_hash, index, page_bytes, checksum, reserved;

  friend bool operator==(const Header&, const Header&) = default;
};

struct PageStore::Opened {
  File file;
  Header header{};
  std::vector<text::Token> tokens = std::vector<text::Token>(static_cast<size_t>(kKvPageTokens));
};

PageStore::PageStore(const std::string& folder, uint64_t identity, uint64_t page_bytes, uint64_t max_bytes)
    : folder_(fs::u8path(folder)),
      identity_(identity),
      page_bytes_(page_bytes),
      file_bytes_(sizeof(Header) + kKvPageTokens * sizeof(text::Token) + page_bytes),
      max_bytes_(max_bytes) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!error) fs::permissions(folder_, fs::perms::owner_all, error);
  std::vector<std::pair<fs::file_time_type, std::array<uint64_t, 2>>> found;
  fs::directory_iterator at(folder_, error);
  if (error) fail(Code::io, "cache_folder: cannot use ", folder, ": ", error.message());
  for (const fs::directory_entry& entry : at) {
    std::error_code ignored;
    if (entry.path().extension() == kPartial)
      fs::remove(entry.path(), ignored);  // left by a process that was killed
    const auto hashes = hashes_in(entry.path());
    if (hashes && entry.is_regular_file(ignored)) found.emplace_back(entry.last_write_time(ignored), *hashes);
  }
  std::ranges::sort(found);
  for (const auto& [time, hashes] : found) add({hashes[0], hashes[1]});
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

uint64_t PageStore::checksum(std::span<const text::Token> tokens, const Buffer& page) const {
  return hash_bytes({page.as(), page_bytes_}, hash_bytes(std::as_bytes(tokens), identity_));
}

PageStore::Header PageStore::header_of(uint64_t hash, uint64_t parent_hash, size_t index,
                                       uint64_t checksum) const {
  return {kMagic, identity_, hash, parent_hash, index, page_bytes_, checksum, 0};
}

std::optional<PageStore::Opened> PageStore::open(Name name) const {
  Opened opened{open_file(path_of(name), "rb")};
  if (!opened.file || std::fread(&opened.header, sizeof opened.header, 1, opened.file.get()) != 1 ||
      std::fread(opened.tokens.data(), sizeof(text::Token), opened.tokens.size(), opened.file.get()) !=
          opened.tokens.size())
    return std::nullopt;
  return opened;
}

bool PageStore::read(const Opened& opened, const Buffer& page) const {
  return std::fread(page.as(), 1, page_bytes_, opened.file.get()) == page_bytes_ &&
         checksum(opened.tokens, page) == opened.header.checksum;
}

model::KvPage PageStore::load(const TokenChain& chain, size_t index) {
  const Name name = name_of(chain, index);
  const auto found = entries_.find(name.hash);
  if (found == entries_.end() || found->second.parent_hash != name.parent_hash) return nullptr;
  auto page = std::make_shared<Buffer>(page_bytes_);
  const auto opened = open(name);
  if (!opened || !std::ranges::equal(opened->tokens, chain.page(index)) ||
      opened->header !=
          header_of(chain.hash(index), chain.parent_hash(index), index, opened->header.checksum) ||
      !read(*opened, *page)) {
    remove(name.hash);
    return nullptr;
  }
  mark_used(name.hash);
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
  const Header expected = header_of(best->header.hash, parent_hash, index, best->header.checksum);
  auto page = std::make_shared<Buffer>(page_bytes_);
  if (best->header != expected || !read(*best, *page)) {
    remove(best_hash);
    return {};
  }
  mark_used(best_hash);
  return {std::move(page), tokens};
}

std::error_code PageStore::write(Name name, const TokenChain& chain, size_t index, const Buffer& page) const {
  const fs::path partial = folder_ / (hex(name.hash) + "." + std::to_string(process_id()) + kPartial);
  File file = open_file(partial, "wb");
  if (!file) return last_error();
  const auto tokens = chain.page(index);
  const Header header = header_of(chain.hash(index), chain.parent_hash(index), index, checksum(tokens, page));
  bool written =
      std::fwrite(&header, sizeof header, 1, file.get()) == 1 &&
      std::fwrite(tokens.data(), sizeof(text::Token), tokens.size(), file.get()) == tokens.size() &&
      std::fwrite(page.as(), 1, page_bytes_, file.get()) == page_bytes_;
  std::error_code error = written ? std::error_code() : last_error();
  if (std::fclose(file.release()) != 0 && !error) error = last_error();
  if (!error) fs::rename(partial, path_of(name), error);
  std::error_code ignored;
  if (error) fs::remove(partial, ignored);
  return error;
}

void PageStore::save(const TokenChain& chain, size_t index, const Buffer& page) {
  const Name name = name_of(chain, index);
  if (const auto found = entries_.find(name.hash); found != entries_.end())
    return order_.splice(order_.end(), order_, found->second.order);
  if (file_bytes_ > max_bytes_) return;
  while (bytes() + file_bytes_ > max_bytes_) remove(order_.front());
  if (const std::error_code error = write(name, chain, index, page))
    log(LogLevel::warning, "prefix cache: cannot write a page to ", folder_.string(), ": ", error.message());
  else
    add(name);
}

void PageStore::add(Name name) {
  const auto [at, added] = entries_.try_emplace(name.hash, Entry{name.parent_hash, order_.end()});
  if (!added) return;
  at->second.order = order_.insert(order_.end(), name.hash);
  children_.emplace(name.parent_hash, name.hash);
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
  order_.erase(entry.order);
  entries_.erase(hash);
  auto at = children_.equal_range(entry.parent_hash).first;
  while (at->second != hash) ++at;
  children_.erase(at);
}

}  // namespace binhdan::engine
