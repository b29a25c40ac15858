// Pages on disk are found after a restart, and rejected when any part is damaged.
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <optional>

#include "check.h"
#include "engine/page_store.h"
#include "temporary_folder.h"

using namespace binhdan;
using engine::PageStore;
using engine::TokenChain;
namespace fs = std::filesystem;

namespace {

constexpr uint64_t kPageBytes = 4096, kIdentity = 11, kMaxBytes = 1 << 20;
// Parts of layers with all positions and with a window, and a checkpoint.
const model::PageSizes kSizes{{3000, 1096}, 500};

std::vector<text::Token> tokens(int seed = 1) {
  std::vector<text::Token> all;
  for (int i = 0; i < 3 * kKvPageTokens; ++i) all.push_back((i * 17 + seed) % 999);
  return all;
}

TokenChain chain(uint64_t salt = 5, int seed = 1) {
  return {salt, tokens(seed)};
}

std::shared_ptr<const Buffer> bytes(uint64_t count, int seed) {
  auto buffer = std::make_shared<Buffer>(count);
  for (size_t i = 0; i < count; ++i)
    buffer->as<uint8_t>()[i] = static_cast<uint8_t>(i * 7 + static_cast<size_t>(seed));
  return buffer;
}

model::KvPage page(int seed, bool with_checkpoint = false) {
  return {{bytes(kSizes.parts[0], seed), bytes(kSizes.parts[1], seed + 3)},
          with_checkpoint ? bytes(kSizes.checkpoint, seed + 5) : nullptr};
}

bool equal(const std::shared_ptr<const Buffer>& a, const std::shared_ptr<const Buffer>& b) {
  return (!a && !b) || (a && b && a->size() == b->size() && std::memcmp(a->as(), b->as(), a->size()) == 0);
}

bool holds(const model::KvPage& got, const model::KvPage& want) {
  return equal(got.parts[0], want.parts[0]) && equal(got.parts[1], want.parts[1]) &&
         equal(got.checkpoint, want.checkpoint);
}
bool holds(const std::optional<model::KvPage>& got, const model::KvPage& want) {
  return got && holds(*got, want);
}

std::vector<fs::path> files(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) found.push_back(entry.path());
  return found;
}

}  // namespace

TEST(a_checkpoint_is_stored_with_its_page_and_a_page_without_a_part_is_not_stored) {
  const TemporaryFolder root;
  PageStore store(root / "", kIdentity, kSizes, kMaxBytes);
  store.save(chain(), 0, page(0, true));
  const uint64_t first = store.bytes();
  store.save(chain(), 1, page(1));
  CHECK(store.bytes() - first == first - kSizes.checkpoint);
  CHECK(holds(store.load(chain(), 0), page(0, true)) && holds(store.load(chain(), 1), page(1)));
  model::KvPage freed = page(2);
  freed.part(model::PagePart::window).reset();
  store.save(chain(), 2, freed);
  CHECK(!store.load(chain(), 2));
  // A model without recurrent layers ignores a page with a checkpoint.
  PageStore other(root / "", kIdentity, {kSizes.parts, 0}, kMaxBytes);
  CHECK(!other.load(chain(), 0));
}

TEST(pages_are_found_after_a_restart) {
  const TemporaryFolder root;
  const std::string folder = root / "deep/cache";
  {
    PageStore store(folder, kIdentity, kSizes, kMaxBytes);
    store.save(chain(), 0, page(0));
    store.save(chain(), 1, page(1));
    store.save(chain(), 1, page(1));  // saved already
    CHECK(!store.load(chain(), 2));
  }
  PageStore store(folder, kIdentity, kSizes, kMaxBytes);
  CHECK(files(folder).size() == 2 && store.bytes() > 2 * kPageBytes);
  CHECK(holds(store.load(chain(), 0), page(0)) && holds(store.load(chain(), 1), page(1)));
#ifndef _WIN32
  CHECK(fs::status(folder).permissions() == fs::perms::owner_all);
#endif
}

TEST(a_page_with_a_common_prefix_is_found_after_a_restart) {
  const TemporaryFolder root;
  {
    PageStore store(root / "", kIdentity, kSizes, kMaxBytes);
    for (size_t i = 0; i < 3; ++i) store.save(chain(), i, page(static_cast<int>(i)));
  }
  PageStore store(root / "", kIdentity, kSizes, kMaxBytes);
  auto changed = tokens();
  changed[static_cast<size_t>(kKvPageTokens) + 20] += 1;
  const TokenChain other(5, changed);
  const auto next = std::span(changed).subspan(static_cast<size_t>(kKvPageTokens));
  const auto start = store.load_partial(other, 1, next, 8);
  CHECK(start.tokens == 20 && holds(start.page, page(1)));
  CHECK(store.load_partial(other, 1, next, 21).tokens == 0);
  CHECK(store.load_partial(other, 0, next, 8).tokens == 0);
  CHECK(store.load_partial(TokenChain(6, changed), 1, next, 8).tokens == 0);
  CHECK(store.load_partial(other, 0, changed, 8).tokens == static_cast<size_t>(kKvPageTokens));
  // A damaged page is not found, and its file is deleted.
  for (const fs::path& file : files(root / ""))
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(1000).put('\x5a');
  CHECK(store.load_partial(other, 1, next, 8).tokens == 0);
  CHECK(files(root / "").size() == 2);
  CHECK(store.load_partial(other, 1, next, 8).tokens == 0 && !store.load(chain(), 1));
}

TEST(renamed_files_are_harmless) {
  const TemporaryFolder root;
  {
    PageStore store(root / "", kIdentity, kSizes, kMaxBytes);
    store.save(chain(), 1, page(1));
  }
  const fs::path file = files(root / "").front();
  const std::string name = file.filename().string();
  fs::copy_file(file, fs::path(root / "") / (std::string(16, '0') + name.substr(16)));
  fs::copy_file(file, fs::path(root / "") / (name.substr(0, 17) + std::string(16, '0') + ".kv"));
  fs::last_write_time(file, fs::last_write_time(file) + std::chrono::hours(1));  // the copies come first
  PageStore store(root / "", kIdentity, kSizes, kMaxBytes);
  const auto all = tokens();
  for (int i = 0; i < 3; ++i) {
    store.load(chain(), 1);
    store.load_partial(chain(), 1, std::span(all).subspan(static_cast<size_t>(kKvPageTokens), 30), 8);
    CHECK(store.load_partial(chain(), 0, all, 1).tokens == 0);
  }
  store.save(chain(), 1, page(1));
  CHECK(holds(store.load(chain(), 1), page(1)));
}

TEST(pages_of_another_model_salt_or_text_are_not_found) {
  const TemporaryFolder root;
  PageStore store(root / "", kIdentity, kSizes, kMaxBytes);
  store.save(chain(), 0, page(0));
  CHECK(!store.load(chain(6), 0) && !store.load(chain(5, 2), 0));
  PageStore other(root / "", kIdentity + 1, kSizes, kMaxBytes);
  CHECK(!other.load(chain(), 0));
  CHECK(store.load(chain(), 0));
}

TEST(damaged_pages_are_deleted) {
  const TemporaryFolder root;
  for (const size_t where : {size_t{0}, size_t{9}, size_t{50}, size_t{70}, size_t{400}, kPageBytes + 300}) {
    PageStore store(root / "", kIdentity, kSizes, kMaxBytes);
    store.save(chain(), 0, page(0));
    const fs::path file = files(root / "").front();
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary)
        .seekp(static_cast<std::streamoff>(where))
        .put('\x5a');
    CHECK(!store.load(chain(), 0));
    CHECK(files(root / "").empty() && store.bytes() == 0);
  }
  PageStore store(root / "", kIdentity, kSizes, kMaxBytes);
  store.save(chain(), 0, page(0));
  fs::resize_file(files(root / "").front(), 100);
  CHECK(!store.load(chain(), 0));
  store.save(chain(), 0, page(0));
  fs::remove(files(root / "").front());  // as another process may do
  CHECK(!store.load(chain(), 0));
}

TEST(the_folder_keeps_the_most_recently_used_pages_up_to_max_bytes) {
  const TemporaryFolder root;
  PageStore store(root / "", kIdentity, kSizes, 2 * (kPageBytes + 500));
  store.save(chain(1), 0, page(1));
  store.save(chain(2), 0, page(2));
  CHECK(store.load(chain(1), 0));
  store.save(chain(3), 0, page(3));
  CHECK(store.load(chain(1), 0) && !store.load(chain(2), 0) && store.load(chain(3), 0));
  CHECK(files(root / "").size() == 2);
  PageStore none(root / "none", kIdentity, kSizes, 10);
  none.save(chain(), 0, page(0));
  CHECK(files(root / "none").empty());
}

TEST(an_unusable_folder_is_an_error_and_partial_files_are_deleted) {
  const TemporaryFolder root;
  root.write("file", "x");
  CHECK_FAILS(PageStore(root / "file", kIdentity, kSizes, kMaxBytes), "cannot use");
  root.write("cache/0123456789abcdef.77.partial", "half a page");
  root.write("cache/notes.txt", "not a page");
  PageStore store(root / "cache", kIdentity, kSizes, kMaxBytes);
  CHECK(files(root / "cache").size() == 1 && store.bytes() == 0);
}
