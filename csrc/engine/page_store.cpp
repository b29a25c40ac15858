#include "engine/page_store.h"

#include <algorithm>
#include <array>
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

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File open_file(const fs::path& path, const char* mode) {
#ifdef _WIN32
  return {_wfopen(path.c_str(), std::wstring(mode, mode + 2).c_str()), std::fclose};
#else
  return {std::fopen(path.c_str(), mode), std::fclose};
#endif
}

std::string hex(uint64_t value) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
  return text.data();
}

std::optional<uint64_t> name_in(const fs::path& path) {
  const std::string stem = path.stem().string();
  if (path.extension() != kSuffix || stem.size() != 16 ||
      stem.find_first_not_of("0123456789abcdef") != std::string::npos)
    return std::nullopt;
  return std::stoull(stem, nullptr, 16);
}

}  // namespace

struct PageStore::Header {
  std::array<char, 8> magic;
  uint64_t identity, hash, hash_before, index, page_bytes, checksum, reserved;

  friend bool operator==(const Header&, const Header&) = default;
};

PageStore::PageStore(const std::string& folder, uint64_t identity, uint64_t page_bytes, uint64_t most_bytes)
    : folder_(fs::u8path(folder)),
      identity_(identity),
      page_bytes_(page_bytes),
      file_bytes_(sizeof(Header) + kKvPageTokens * sizeof(text::Token) + page_bytes),
      most_bytes_(most_bytes) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!error) fs::permissions(folder_, fs::perms::owner_all, error);
  std::vector<std::pair<fs::file_time_type, uint64_t>> found;
  fs::directory_iterator at(folder_, error);
  if (error) fail(Code::io, "the prefix cache's folder ", folder, " cannot be used: ", error.message());
  for (const fs::directory_entry& entry : at) {
    std::error_code ignored;
    if (entry.path().extension() == kPartial)
      fs::remove(entry.path(), ignored);  // of a process that was killed
    const auto name = name_in(entry.path());
    if (name && entry.is_regular_file(ignored)) found.emplace_back(entry.last_write_time(ignored), *name);
  }
  std::ranges::sort(found);
  for (const auto& [time, name] : found) known_[name] = order_.insert(order_.end(), name);
}

// Pages of other models and layouts may lie in the same folder.
uint64_t PageStore::name_of(const TokenChain& chain, size_t index) const {
  const uint64_t hash = chain.hash(index);
  return hash_bytes(std::as_bytes(std::span(&hash, 1)), identity_);
}

fs::path PageStore::path_of(uint64_t name) const {
  return folder_ / (hex(name) + kSuffix);
}

PageStore::Header PageStore::header_of(const TokenChain& chain, size_t index, const Buffer& page) const {
  const uint64_t tokens = hash_bytes(std::as_bytes(chain.page(index)), identity_);
  const uint64_t sum = hash_bytes({page.as(), page_bytes_}, tokens);
  return {kMagic, identity_, chain.hash(index), chain.hash_before(index), index, page_bytes_, sum, 0};
}

bool PageStore::read(uint64_t name, const TokenChain& chain, size_t index, const Buffer& page) const {
  const File file = open_file(path_of(name), "rb");
  if (!file) return false;
  Header header{};
  std::vector<text::Token> tokens(static_cast<size_t>(kKvPageTokens));
  if (std::fread(&header, sizeof header, 1, file.get()) != 1 ||
      std::fread(tokens.data(), sizeof(text::Token), tokens.size(), file.get()) != tokens.size() ||
      std::fread(page.as(), 1, page_bytes_, file.get()) != page_bytes_)
    return false;
  return std::ranges::equal(tokens, chain.page(index)) && header == header_of(chain, index, page);
}

model::KvPage PageStore::load(const TokenChain& chain, size_t index) {
  const uint64_t name = name_of(chain, index);
  if (!known_.contains(name)) return nullptr;
  auto page = std::make_shared<Buffer>(page_bytes_);
  if (!read(name, chain, index, *page)) {
    drop(name);
    return nullptr;
  }
  use(name);
  std::error_code ignored;
  fs::last_write_time(path_of(name), fs::file_time_type::clock::now(), ignored);
  return page;
}

bool PageStore::write(uint64_t name, const TokenChain& chain, size_t index, const Buffer& page) const {
  const fs::path partial = folder_ / (hex(name) + "." + std::to_string(process_id()) + kPartial);
  File file = open_file(partial, "wb");
  if (!file) return false;
  const Header header = header_of(chain, index, page);
  const auto tokens = chain.page(index);
  bool whole = std::fwrite(&header, sizeof header, 1, file.get()) == 1 &&
               std::fwrite(tokens.data(), sizeof(text::Token), tokens.size(), file.get()) == tokens.size() &&
               std::fwrite(page.as(), 1, page_bytes_, file.get()) == page_bytes_;
  whole = std::fclose(file.release()) == 0 && whole;
  std::error_code error;
  if (whole) fs::rename(partial, path_of(name), error);
  if (whole && !error) return true;
  fs::remove(partial, error);
  return false;
}

void PageStore::save(const TokenChain& chain, size_t index, const Buffer& page) {
  const uint64_t name = name_of(chain, index);
  if (known_.contains(name)) return use(name);
  if (file_bytes_ > most_bytes_) return;
  while (bytes() + file_bytes_ > most_bytes_) drop(order_.front());
  if (write(name, chain, index, page))
    use(name);
  else
    log(LogLevel::warning, "a page of the prefix cache could not be written to ", folder_.string());
}

void PageStore::use(uint64_t name) {
  const auto found = known_.find(name);
  if (found == known_.end())
    known_[name] = order_.insert(order_.end(), name);
  else
    order_.splice(order_.end(), order_, found->second);
}

void PageStore::drop(uint64_t name) {
  std::error_code ignored;
  fs::remove(path_of(name), ignored);
  const auto found = known_.find(name);
  order_.erase(found->second);
  known_.erase(found);
}

}  // namespace binhdan::engine
