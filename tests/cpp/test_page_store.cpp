// Pages on disk are found after a restart, and rejected when any part is damaged.
#include <cstring>
#include <filesystem>
#include <fstream>

#include "check.h"
#include "engine/page_store.h"
#include "temporary_folder.h"

using namespace binhdan;
using engine::PageStore;
using engine::TokenChain;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kPageBytes = 4096, kIdentity = 11, kMaxBytes = 1 << 20;

std::vector<text::Token> tokens(int seed = 1) {
  std::vector<text::Token> all;
  for (int i = 0; i < 3 * kKvPageTokens; ++i) all.push_back((i * 17 + seed) % 999);
  return all;
}

TokenChain chain(uint64_t salt = 5, int seed = 1) {
  return {salt, tokens(seed)};
}

Buffer page(int seed) {
  Buffer buffer(kPageBytes);
  for (size_t i = 0; i < kPageBytes; ++i)
    buffer.as<uint8_t>()[i] = static_cast<uint8_t>(i * 7 + static_cast<size_t>(seed));
  return buffer;
}

bool holds(const model::KvPage& got, const Buffer& want) {
  return got && std::memcmp(got->as(), want.as(), kPageBytes) == 0;
}

std::vector<fs::path> files(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path());
  return found;
}

}  // namespace

TEST(pages_are_found_after_a_restart) {
  const TemporaryFolder root;
  const std::string folder = root / "deep/cache";
  {
    PageStore store(folder, kIdentity, kPageBytes, kMaxBytes);
    store.save(chain(), 0, page(0));
    store.save(chain(), 1, page(1));
    store.save(chain(), 1, page(1));  // saved already
    CHECK(!store.load(chain(), 2));
  }
  PageStore store(folder, kIdentity, kPageBytes, kMaxBytes);
  CHECK(files(folder).size() == 2 && store.bytes() > 2 * kPageBytes);
  CHECK(holds(store.load(chain(), 0), page(0)) && holds(store.load(chain(), 1), page(1)));
#ifndef _WIN32
  CHECK(fs::status(folder).permissions() == fs::perms::owner_all);
#endif
}

TEST(a_page_with_a_common_prefix_is_found_after_a_restart) {
  const TemporaryFolder root;
  {
    PageStore store(root / "", kIdentity, kPageBytes, kMaxBytes);
    for (size_t i = 0; i < 3; ++i) store.save(chain(), i, page(static_cast<int>(i)));
  }
  PageStore store(root / "", kIdentity, kPageBytes, kMaxBytes);
  auto changed = tokens();
  changed[static_cast<size_t>(kKvPageTokens) + 20] += 1;
  const TokenChain other(5, changed);
  const auto next = std::span(changed).subspan(static_cast<size_t>(kKvPageTokens));
  const auto start = store.load_partial(other, 1, next, 8);
  CHECK(start.tokens == 20 && holds(start.page, page(1)));
  CHECK(!store.load_partial(other, 1, next, 21).page);
  CHECK(!store.load_partial(other, 0, next, 8).page);
  CHECK(!store.load_partial(TokenChain(6, changed), 1, next, 8).page);
  CHECK(store.load_partial(other, 0, changed, 8).tokens == static_cast<size_t>(kKvPageTokens));
  // A damaged page is not found, and its file is deleted.
  for (const fs::path& file : files(root / ""))
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(1000).put('\x5a');
  CHECK(!store.load_partial(other, 1, next, 8).page);
  CHECK(files(root / "").size() == 2);
  CHECK(!store.load_partial(other, 1, next, 8).page && !store.load(chain(), 1));
}

TEST(renamed_files_are_harmless) {
  const TemporaryFolder root;
  {
    PageStore store(root / "", kIdentity, kPageBytes, kMaxBytes);
    store.save(chain(), 1, page(1));
  }
  const fs::path file = files(root / "").front();
  const std::string name = file.filename().string();
  fs::copy_file(file, fs::path(root / "") / (std::string(16, '0') + name.substr(16)));
  fs::copy_file(file, fs::path(root / "") / (name.substr(0, 17) + std::string(16, '0') + ".kv"));
  PageStore store(root / "", kIdentity, kPageBytes, kMaxBytes);
  const auto all = tokens();
  for (int i = 0; i < 3; ++i) {
    store.load(chain(), 1);
    store.load_partial(chain(), 1, std::span(all).subspan(static_cast<size_t>(kKvPageTokens), 30), 8);
    CHECK(!store.load_partial(chain(), 0, all, 1).page);
  }
  store.save(chain(), 1, page(1));
  CHECK(holds(store.load(chain(), 1), page(1)));
}

TEST(pages_of_another_model_salt_or_text_are_not_found) {
  const TemporaryFolder root;
  PageStore store(root / "", kIdentity, kPageBytes, kMaxBytes);
  store.save(chain(), 0, page(0));
  CHECK(!store.load(chain(6), 0) && !store.load(chain(5, 2), 0));
  PageStore other(root / "", kIdentity + 1, kPageBytes, kMaxBytes);
  CHECK(!other.load(chain(), 0));
  CHECK(store.load(chain(), 0));
}

TEST(damaged_pages_are_deleted) {
  const TemporaryFolder root;
  for (const size_t where : {size_t{0}, size_t{9}, size_t{50}, size_t{70}, size_t{400}, kPageBytes + 300}) {
    PageStore store(root / "", kIdentity, kPageBytes, kMaxBytes);
    store.save(chain(), 0, page(0));
    const fs::path file = files(root / "").front();
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary)
        .seekp(static_cast<std::streamoff>(where))
        .put('\x5a');
    CHECK(!store.load(chain(), 0));
    CHECK(files(root / "").empty() && store.bytes() == 0);
  }
  PageStore store(root / "", kIdentity, kPageBytes, kMaxBytes);
  store.save(chain(), 0, page(0));
  fs::resize_file(files(root / "").front(), 100);
  CHECK(!store.load(chain(), 0));
  store.save(chain(), 0, page(0));
  fs::remove(files(root / "").front());  // as another process may do
  CHECK(!store.load(chain(), 0));
}

TEST(the_folder_keeps_the_most_recently_used_pages_up_to_max_bytes) {
  const TemporaryFolder root;
  PageStore store(root / "", kIdentity, kPageBytes, 2 * (kPageBytes + 500));
  store.save(chain(1), 0, page(1));
  store.save(chain(2), 0, page(2));
  CHECK(store.load(chain(1), 0));
  store.save(chain(3), 0, page(3));
  CHECK(store.load(chain(1), 0) && !store.load(chain(2), 0) && store.load(chain(3), 0));
  CHECK(files(root / "").size() == 2);
  PageStore none(root / "none", kIdentity, kPageBytes, 10);
  none.save(chain(), 0, page(0));
  CHECK(files(root / "none").empty());
}

TEST(an_unusable_folder_is_an_error_and_partial_files_are_deleted) {
  const TemporaryFolder root;
  root.write("file", "x");
  CHECK_FAILS(PageStore(root / "file", kIdentity, kPageBytes, kMaxBytes), "cannot use");
  root.write("cache/0123456789abcdef.77.partial", "half a page");
  root.write("cache/notes.txt", "not a page");
  PageStore store(root / "cache", kIdentity, kPageBytes, kMaxBytes);
  CHECK(files(root / "cache").size() == 1 && store.bytes() == 0);
}
