// The prefix cache finds pages by their tokens, shares none between salts, and evicts the least recently
// used.
#include <cstring>

#include "check.h"
#include "engine/page_store.h"
#include "engine/prefix_cache.h"

using namespace binhdan;
using engine::PrefixCache;
using engine::TokenChain;
using model::KvPage;

namespace {

constexpr uint64_t kPageBytes = 100, kWindowBytes = 40, kCheckpointBytes = 30;
const model::PageSizes kSizes{{kPageBytes, 0}, 0};
const model::PageSizes kAllSizes{{kPageBytes, kWindowBytes}, kCheckpointBytes};

std::vector<text::Token> tokens(int pages, int seed = 1, int more = 0) {
  std::vector<text::Token> all;
  for (int i = 0; i < pages * kKvPageTokens + more; ++i) all.push_back((i * 31 + seed) % 1000);
  return all;
}

KvPage page() {
  return {{std::make_shared<Buffer>(kPageBytes), nullptr}, nullptr};
}

// Adds `count` pages of the chain and returns the pages that the cache holds.
std::vector<KvPage> add_pages(PrefixCache& cache, const TokenChain& chain, size_t count) {
  std::vector<KvPage> pages;
  for (size_t i = 0; i < count; ++i) {
    pages.push_back(page());
    CHECK(cache.add(chain, i, pages.back()));
  }
  return pages;
}

}  // namespace

TEST(a_chain_hashes_whole_pages) {
  TokenChain chain(0, tokens(2, 1, 63));
  CHECK(chain.pages() == 2);
  chain.append(5);
  CHECK(chain.pages() == 3 && chain.page(2).back() == 5);
  CHECK(chain.parent_hash(2) == chain.hash(1) && chain.parent_hash(0) == 0);
  CHECK(TokenChain(0, tokens(2)).hash(1) == chain.hash(1));
  CHECK(TokenChain(1, tokens(2)).hash(1) != chain.hash(1));
  // The same tokens after another page are another page.
  auto other = tokens(2);
  other[0] += 1;
  CHECK(TokenChain(0, other).hash(1) != chain.hash(1));
}

TEST(pages_are_found_up_to_the_first_missing_one) {
  PrefixCache cache(kSizes, nullptr);
  const TokenChain chain(7, tokens(4, 1, 10));
  const auto kept = add_pages(cache, chain, 3);
  CHECK(cache.bytes() == 3 * kPageBytes);
  CHECK(cache.find_in_memory(chain, 0, 9) == kept);
  CHECK(cache.find_in_memory(chain, 0, 2).size() == 2);
  CHECK(cache.find_in_memory(chain, 1, 9).size() == 2 && cache.find_in_memory(chain, 1, 9)[0] == kept[1]);
  auto changed = tokens(4);
  changed[static_cast<size_t>(kKvPageTokens)] += 1;  // in the second page
  CHECK(cache.find_in_memory(TokenChain(7, changed), 0, 9).size() == 1);
  CHECK(cache.find_in_memory(TokenChain(8, tokens(4)), 0, 9).empty());
}

TEST(a_page_is_stored_once_and_requires_its_parent) {
  PrefixCache cache(kSizes, nullptr);
  const TokenChain chain(0, tokens(3));
  KvPage second = page();
  CHECK(!cache.add(chain, 1, second) && cache.bytes() == 0);
  const auto kept = add_pages(cache, chain, 2);
  KvPage again = page();
  CHECK(cache.add(chain, 1, again) && again == kept[1]);
  CHECK(cache.bytes() == 2 * kPageBytes);
}

TEST(pages_are_evicted_by_last_use_children_first_and_never_while_held) {
  PrefixCache cache(kSizes, nullptr);
  const TokenChain older(0, tokens(2, 1)), newer(0, tokens(2, 2));
  add_pages(cache, older, 2);
  add_pages(cache, newer, 2);
  const auto held = cache.find_in_memory(older, 0, 1);  // the first page: most recently used, and in use
  CHECK(cache.evict(1) == kPageBytes);
  CHECK(cache.find_in_memory(older, 0, 9).size() == 1);  // the least recently used leaf was evicted
  CHECK(cache.evict(10 * kPageBytes) == 2 * kPageBytes);
  CHECK(cache.find_in_memory(older, 0, 9) == held && cache.find_in_memory(newer, 0, 9).empty());
  CHECK(cache.bytes() == kPageBytes && cache.evict(1) == 0);
}

TEST(a_prompt_that_differs_within_a_page_copies_its_start) {
  PrefixCache cache(kSizes, nullptr);
  const TokenChain chain(3, tokens(2));
  const auto kept = add_pages(cache, chain, 2);
  std::memset(kept[1].parts[0]->as(), 7, kPageBytes);
  auto changed = tokens(2);
  changed[static_cast<size_t>(kKvPageTokens) + 40] += 1;
  const TokenChain other(3, changed);
  const auto next = std::span(changed).subspan(static_cast<size_t>(kKvPageTokens));
  const auto start = cache.find_or_load_partial(other, 1, next);
  CHECK(start.tokens == 40 && start.page.parts[0] && start.page.parts[0] != kept[1].parts[0]);
  CHECK(std::memcmp(start.page.parts[0]->as(), kept[1].parts[0]->as(), kPageBytes) == 0);
  CHECK(cache.find_or_load_partial(other, 1, next.first(30)).tokens == 30);
  CHECK(cache.find_or_load_partial(other, 1, next.first(PrefixCache::kMinPartialTokens - 1)).tokens == 0);
  CHECK(cache.find_or_load_partial(other, 0, next).tokens == 0);  // the page has a parent
  CHECK(cache.find_or_load_partial(other, 0, changed).tokens == static_cast<size_t>(kKvPageTokens));
  CHECK(cache.find_or_load_partial(TokenChain(4, changed), 0, changed).tokens == 0);
  // Chooses the longest prefix, and no evicted page.
  auto similar = changed;
  similar.back() += 1;
  const TokenChain third(3, similar);
  add_pages(cache, third, 2);
  CHECK(cache.find_or_load_partial(other, 1, next).tokens == static_cast<size_t>(kKvPageTokens) - 1);
  CHECK(cache.find_in_memory(chain, 0, 2).size() == 2 && cache.evict(1) == kPageBytes);
  CHECK(cache.find_or_load_partial(other, 1, next).tokens == 40);
}

TEST(window_parts_and_checkpoints_are_evicted_from_the_start_of_a_chain_before_pages) {
  PrefixCache cache(kAllSizes, nullptr);
  const TokenChain chain(0, tokens(3));
  for (size_t i = 0; i < 3; ++i) {
    KvPage full{{std::make_shared<Buffer>(kPageBytes), std::make_shared<Buffer>(kWindowBytes)},
                std::make_shared<Buffer>(kCheckpointBytes)};
    CHECK(cache.add(chain, i, full));
  }
  CHECK(cache.bytes() == 3 * (kPageBytes + kWindowBytes + kCheckpointBytes));
  CHECK(cache.find_in_memory(chain, 0, 3).size() == 3);
  CHECK(cache.evict(1) == kWindowBytes + kCheckpointBytes);
  auto pages = cache.find_in_memory(chain, 0, 3);
  CHECK(pages.size() == 3 && !pages[0].has_all(kAllSizes) && pages[1].has_all(kAllSizes));
  CHECK(cache.find_or_load_partial(TokenChain(0, {}), 0, tokens(1)).tokens == 0);  // the page lacks a part
  // A page that is computed again returns what was evicted.
  KvPage again{{std::make_shared<Buffer>(kPageBytes), std::make_shared<Buffer>(kWindowBytes)}, nullptr};
  CHECK(cache.add(chain, 0, again) &&
        again.part(model::PagePart::full) == pages[0].part(model::PagePart::full));
  CHECK(cache.find_in_memory(chain, 0, 1)[0].has_all(kAllSizes));
  again = {};
  // What a sequence holds stays.
  CHECK(cache.evict(10'000) == kWindowBytes + kCheckpointBytes);
  pages.clear();
  CHECK(cache.evict(10'000) == 3 * kPageBytes + 2 * kWindowBytes + kCheckpointBytes && cache.bytes() == 0);
}
