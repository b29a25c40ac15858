// The engine's prefix cache: cached pages are not computed again, and keys and values stay within
// max_kv_bytes.
#include <atomic>
#include <filesystem>
#include <thread>

#include "engine_calls.h"
#include "temporary_folder.h"

namespace {

EngineOptions long_options() {
  EngineOptions o = options();
  o.context = 1024;
  return o;
}

EngineOptions with_folder(const TemporaryFolder& root) {
  EngineOptions o = long_options();
  o.cache_folder = root / "cache";
  o.max_cache_folder_bytes = uint64_t{1} << 30;
  return o;
}

// After the engine has retired the finished requests.
engine::EngineInfo idle_info(const Engine& engine) {
  while (engine.info().running > 0) std::this_thread::yield();
  return engine.info();
}

uint64_t page_bytes(KvType type = KvType::f16) {
  return model::StateLayout(embedded_model()->config, type).sizes().all_parts();
}

}  // namespace

TEST(a_cached_prompt_is_not_computed_again) {
  Engine engine(embedded_model(), long_options());
  Request r = request(1, 5, 200);
  const Result first = run(engine, r), again = run(engine, r);
  CHECK(first.last.cached_tokens == 0 && again.last.cached_tokens == 192);
  CHECK(again.tokens == first.tokens && again.last.prompt_tokens == 200);
  CHECK(idle_info(engine).kv_bytes == 0 && idle_info(engine).cache_bytes == 3 * page_bytes());
  // The last token of a prompt is always computed, for its logits.
  r.prompt.resize(128);
  CHECK(run(engine, r).last.cached_tokens == 127);
  // The next turn of a conversation: the answer's pages are cached too.
  Request next = request(1, 120, 200);
  const Result answer = run(engine, next);
  next.prompt.insert(next.prompt.end(), answer.tokens.begin(), answer.tokens.end());
  CHECK(run(engine, next).last.cached_tokens == 256);
}

TEST(a_prompt_reuses_the_start_of_a_page) {
  const TemporaryFolder root;
  const EngineOptions o = with_folder(root);
  const Request first = request(1, 5, 200);
  Request second = first;
  for (size_t i = 100; i < 200; ++i) second.prompt[i] = first.prompt[299 - i];
  second.prompt[100] = first.prompt[100] + 1;
  Engine alone(embedded_model(), long_options());
  const auto want = run(alone, second).tokens;
  {
    Engine engine(embedded_model(), o);
    run(engine, first);
    const Result result = run(engine, second);
    CHECK(result.last.cached_tokens == 100 && result.tokens == want);
    Request salted = second;
    salted.cache_salt = 1;
    CHECK(run(engine, salted).last.cached_tokens == 0);
  }
  std::filesystem::remove_all(root / "cache");
  {
    Engine engine(embedded_model(), o);
    run(engine, first);
  }
  Engine again(embedded_model(), o);
  const Result result = run(again, second);
  CHECK(result.last.cached_tokens == 100 && result.tokens == want);
  CHECK(idle_info(again).cache_bytes == 3 * page_bytes());  // the first page of `first`, and two new pages
}

TEST(no_page_is_shared_between_salts_or_without_cache) {
  Engine engine(embedded_model(), long_options());
  Request r = request(1, 5, 200);
  const Result first = run(engine, r);
  r.cache_salt = 1;
  CHECK(run(engine, r).last.cached_tokens == 0);
  CHECK(run(engine, r).last.cached_tokens == 192);
  r.use_cache = false;
  const Result alone = run(engine, r);
  CHECK(alone.last.cached_tokens == 0 && alone.tokens == first.tokens);
  EngineOptions o = long_options();
  o.prefix_cache = false;
  Engine without(embedded_model(), o);
  run(without, request(1, 5, 200));
  CHECK(run(without, request(1, 5, 200)).last.cached_tokens == 0 && idle_info(without).cache_bytes == 0);
}

TEST(pages_on_disk_are_found_after_a_restart) {
  const TemporaryFolder root;
  EngineOptions o = with_folder(root);
  const Request r = request(1, 5, 200);
  std::vector<text::Token> want;
  {
    Engine engine(embedded_model(), o);
    want = run(engine, r).tokens;
  }
  Engine again(embedded_model(), o);
  const Result result = run(again, r);
  CHECK(result.last.cached_tokens == 192 && result.tokens == want);
  o.deterministic = true;  // another numeric class for prefill rows
  Engine other(embedded_model(), o);
  CHECK(run(other, r).last.cached_tokens == 0);
}

TEST(pages_on_disk_are_separate_for_each_kv_type) {
  const TemporaryFolder root;
  EngineOptions o = with_folder(root);
  const Request r = request(1, 5, 200);
  std::vector<text::Token> want[2];
  for (const bool again : {false, true})
    for (const KvType type : {KvType::f16, KvType::q8_0}) {
      o.kv_type = type;
      Engine engine(embedded_model(), o);
      const Result result = run(engine, r);
      CHECK(result.last.cached_tokens == (again ? 192 : 0));
      CHECK(idle_info(engine).cache_bytes == 3 * page_bytes(type));
      std::vector<text::Token>& tokens = want[type == KvType::q8_0];
      if (again) CHECK(result.tokens == tokens);
      tokens = result.tokens;
    }
}

TEST(q8_0_fits_nearly_twice_the_tokens) {
  EngineOptions o = long_options();
  o.max_kv_bytes = 8 * page_bytes();
  Engine wide(embedded_model(), o);
  CHECK(wide.info().options.context == 8 * kKvPageTokens);
  o.kv_type = KvType::q8_0;
  Engine narrow(embedded_model(), o);
  CHECK(narrow.info().options.context == 15 * kKvPageTokens);
  // The same request again reuses its pages and generates the same answer.
  Request r = request(1, 100, 300);
  const Result first = run(narrow, r), again = run(narrow, r);
  CHECK(first.last.cached_tokens == 0 && again.last.cached_tokens == 299 && again.tokens == first.tokens);
}

TEST(concurrent_requests_compute_shared_pages_once) {
  EngineOptions o = long_options();
  o.prefill_chunk = 128;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  std::vector<uint64_t> ids;
  std::vector<Result> alone;
  for (uint32_t i = 0; i < 4; ++i) {
    Request r = request(1, 6, 300);
    r.prompt.back() = static_cast<text::Token>(i);
    ids.push_back(engine.submit(r, queue));
    alone.push_back(run_alone(r, o));
  }
  auto results = wait_for(*queue, ids);
  int32_t cached = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    cached += results[ids[i]].last.cached_tokens;
    CHECK(results[ids[i]].tokens == alone[i].tokens);
  }
  CHECK(cached == 3 * 256);
}

TEST(keys_and_values_stay_within_max_kv_bytes) {
  EngineOptions o = long_options();
  o.max_kv_bytes = 5 * page_bytes();
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  CHECK(engine.info().options.context == 5 * kKvPageTokens);
  CHECK_FAILS(engine.submit(request(1, 1, 321), queue),
              "the prompt has 321 tokens, but the context holds 320");
  o.max_kv_bytes = page_bytes() - 1;
  CHECK_FAILS(Engine(embedded_model(), o), "max_kv_bytes: expected at least");
  o.max_kv_bytes = 5 * page_bytes();
  std::vector<uint64_t> ids;
  for (uint32_t i = 0; i < 8; ++i)
    ids.push_back(engine.submit(request(i, 40, 150), queue));  // three pages each
  std::atomic<bool> done{false};
  uint64_t max_seen = 0;
  std::thread watch([&] {
    do {
      const auto info = engine.info();
      max_seen = std::max(max_seen, info.kv_bytes + info.cache_bytes);
      std::this_thread::yield();
    } while (!done);
  });
  auto results = wait_for(*queue, ids);
  done = true;
  watch.join();
  for (const uint64_t id : ids) CHECK(results[id].finish == Event::Finish::length);
  CHECK(max_seen > 0 && max_seen <= o.max_kv_bytes);
}

TEST(decoding_continues_during_a_long_prefill) {
  EngineOptions o = long_options();
  o.manual_step = true;
  o.max_decode_stall_ns = 1;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  const uint64_t first = engine.submit(request(1, -1, 100), queue);
  engine.step();  // the prefill of the first request
  const uint64_t second = engine.submit(request(2, 1, 320), queue);
  int steps = 0, tokens = 0;
  for (bool ended = false; !ended && steps < 100; ++steps) {
    engine.step();
    while (const auto event = queue->next(0)) {
      tokens += event->request == first && event->kind == Event::Kind::token;
      ended |= event->request == second && event->kind == Event::Kind::finished;
    }
  }
  CHECK(steps == 10);  // 320 prompt tokens, in batches of the minimum of 32
  CHECK(tokens >= steps);
}
