// The engine: requests live, wait, run together and end as they should.
#include <atomic>
#include <map>
#include <thread>

#include "check.h"
#include "embedded_model.h"
#include "engine/engine.h"
#include "temporary_folder.h"

using namespace binhdan;
using engine::Engine;
using engine::EngineOptions;
using engine::Event;
using engine::EventQueue;
using engine::Request;

namespace {

EngineOptions options(int threads = 2) {
  EngineOptions o;
  o.threads = threads;
  o.context = 256;
  return o;
}

Request request(uint32_t seed, int64_t max_tokens, size_t prompt = 20) {
  Request r;
  r.prompt = some_tokens(prompt, seed);
  r.max_tokens = max_tokens;
  r.ignore_eos = true;
  return r;
}

struct Result {
  std::vector<text::Token> tokens;
  std::string text;
  Event::Finish finish = Event::Finish::none;
  Event last{};
};

// Reads events until every request in `ids` has ended.
std::map<uint64_t, Result> wait_for(EventQueue& queue, const std::vector<uint64_t>& ids) {
  std::map<uint64_t, Result> results;
  size_t ended = 0;
  while (ended < ids.size()) {
    const auto event = queue.next(20000);
    if (!event) {
      check::report(__FILE__, __LINE__, "no event in 20 s");
      break;
    }
    Result& result = results[event->request];
    CHECK(result.finish == Event::Finish::none);  // nothing comes after the last event
    result.text += event->text;
    if (event->kind == Event::Kind::token) result.tokens.push_back(event->token);
    if (event->kind == Event::Kind::finished) {
      result.finish = event->finish;
      result.last = *event;
      ++ended;
    }
  }
  return results;
}

Result run_alone(const Request& r, EngineOptions o) {
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  const uint64_t id = engine.submit(r, queue);
  return wait_for(*queue, {id})[id];
}

}  // namespace

TEST(answers_together_equal_answers_alone) {
  EngineOptions o = options();
  o.max_sequences = 3;
  o.prompt_chunk = 16;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  std::vector<uint64_t> ids;
  for (uint32_t seed = 1; seed <= 7; ++seed)
    ids.push_back(engine.submit(request(seed, 12, 10 * seed), queue));
  auto results = wait_for(*queue, ids);
  for (uint32_t seed = 1; seed <= 7; ++seed) {
    const Result& together = results[ids[seed - 1]];
    const Result alone = run_alone(request(seed, 12, 10 * seed), options(1));
    CHECK(together.finish == Event::Finish::length);
    CHECK(together.tokens.size() == 12);
    CHECK(together.tokens == alone.tokens);
    CHECK(together.text == alone.text);
    CHECK(together.last.prompt_tokens == static_cast<int32_t>(10 * seed));
    CHECK(together.last.answer_tokens == 12);
  }
  CHECK(engine.info().running == 0 && engine.info().waiting == 0);
}

TEST(a_seed_gives_the_same_text_and_another_gives_another) {
  Request r = request(1, 24);
  r.sampling.temperature = 1.5f;
  r.sampling.seed = 7;
  const Result first = run_alone(r, options()), again = run_alone(r, options());
  r.sampling.seed = 8;
  CHECK(first.tokens == again.tokens);
  CHECK(first.tokens != run_alone(r, options()).tokens);
}

TEST(a_full_context_ends_the_answer) {
  EngineOptions o = options();
  o.context = 32;
  const Result result = run_alone(request(1, -1, 20), o);
  CHECK(result.finish == Event::Finish::context);
  CHECK(result.tokens.size() == 13);  // the last needs no place of its own
  CHECK(run_alone(request(1, -1, 32), o).tokens.size() == 1);
  Engine engine(embedded_model(), o);
  CHECK_FAILS(engine.submit(request(1, 1, 33), engine.make_queue()),
              "the prompt has 33 and the context holds 32");
}

TEST(bad_requests_are_refused_by_submit) {
  Engine engine(embedded_model(), options());
  const auto queue = engine.make_queue();
  Request r = request(1, 4);
  r.prompt[3] = 8192;
  CHECK_FAILS(engine.submit(r, queue), "tokens[3]: expected 0 to 8191, got 8192");
  r.prompt.clear();
  CHECK_FAILS(engine.submit(r, queue), "expected at least one");
  r = request(1, -2);
  CHECK_FAILS(engine.submit(r, queue), "max_tokens");
  r = request(1, 4);
  r.sampling.temperature = -1;
  CHECK_FAILS(engine.submit(r, queue), "temperature");
}

TEST(waiting_is_bounded) {
  EngineOptions o = options();
  o.max_sequences = 1;
  o.max_waiting = 2;
  o.manual_step = true;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  engine.submit(request(1, 4), queue);
  engine.submit(request(2, 4), queue);
  CHECK_FAILS(engine.submit(request(3, 4), queue), "the queue is full");
  while (engine.step()) {
  }
  engine.submit(request(3, 4), queue);
  CHECK(engine.info().waiting == 1);
}

TEST(cancelling_waiting_and_running_requests) {
  EngineOptions o = options();
  o.max_sequences = 1;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  const uint64_t running = engine.submit(request(1, -1), queue),
                 waiting = engine.submit(request(2, -1), queue);
  while (true) {  // until it surely runs
    const auto event = queue->next(20000);
    if (!event || event->kind == Event::Kind::token) break;
  }
  engine.cancel(waiting);
  engine.cancel(running);
  auto results = wait_for(*queue, {running, waiting});
  CHECK(results[running].finish == Event::Finish::cancelled);
  CHECK(results[waiting].finish == Event::Finish::cancelled);
  engine.cancel(running);  // late: no error
  engine.cancel(987654321);
}

TEST(closing_a_queue_cancels_its_requests) {
  Engine engine(embedded_model(), options());
  const auto left = engine.make_queue(), kept = engine.make_queue();
  engine.submit(request(1, -1), left);
  const uint64_t id = engine.submit(request(2, 40), kept);
  engine.drop_queue(left);
  CHECK(wait_for(*kept, {id})[id].finish == Event::Finish::length);
  CHECK_FAILS(left->next(0), "closed");
  CHECK_FAILS(engine.submit(request(3, -1), left), "the queue is closed");
}

TEST(stopping_ends_everything_with_events) {
  std::shared_ptr<EventQueue> queue;
  std::vector<uint64_t> ids;
  {
    EngineOptions o = options();
    o.max_sequences = 2;
    Engine engine(embedded_model(), o);
    queue = engine.make_queue();
    for (uint32_t seed = 1; seed <= 4; ++seed) ids.push_back(engine.submit(request(seed, -1, 200), queue));
    engine.stop();
    CHECK_FAILS(engine.submit(request(1, 1), queue), "closed");
    CHECK_FAILS(engine.make_queue(), "closed");
  }
  for (auto& [id, result] : wait_for(*queue, ids)) CHECK(result.finish == Event::Finish::cancelled);
  CHECK_FAILS(queue->next(0), "");
}

TEST(a_request_waits_for_its_mask_and_the_others_go_on) {
  Engine engine(embedded_model(), options());
  const auto masked_queue = engine.make_queue(), queue = engine.make_queue();
  Request r = request(1, 3);
  r.want_mask = true;
  const uint64_t masked = engine.submit(r, masked_queue);
  const uint64_t other = engine.submit(request(2, 30), queue);
  CHECK(wait_for(*queue, {other})[other].tokens.size() == 30);
  CHECK(!masked_queue->next(0));
  // Each token takes one mask, which allows exactly one token here.
  for (const text::Token only : {100, 200, 300}) {
    std::vector<uint32_t> words(256);
    words[static_cast<size_t>(only / 32)] = 1u << only % 32;
    engine.set_mask(masked, words);
    const auto event = masked_queue->next(20000);
    CHECK(event && event->token == only);
  }
  const auto end = masked_queue->next(20000);
  CHECK(end && end->finish == Event::Finish::length);
}

TEST(a_mask_that_allows_nothing_ends_the_answer) {
  Engine engine(embedded_model(), options());
  const auto queue = engine.make_queue();
  Request r = request(1, 3);
  r.want_mask = true;
  const uint64_t id = engine.submit(r, queue);
  engine.set_mask(id, {});
  CHECK(wait_for(*queue, {id})[id].finish == Event::Finish::stop);
  engine.set_mask(id, {});  // too late: no error
  r.want_mask = false;
  r.max_tokens = -1;
  const uint64_t plain = engine.submit(r, queue);
  CHECK_FAILS(engine.set_mask(plain, {}), "WANT_MASK");
}

TEST(embeddings_have_length_one_and_do_not_depend_on_chunks) {
  std::vector<std::vector<float>> values;
  for (const int64_t chunk : {256, 7}) {
    EngineOptions o = options();
    o.prompt_chunk = chunk;
    Engine engine(embedded_model(), o);
    const auto queue = engine.make_queue();
    Request r = request(5, -1, 50);
    r.kind = Request::Kind::embed;
    engine.submit(r, queue);
    const auto event = queue->next(20000);
    CHECK(event && event->kind == Event::Kind::embedding && event->values.size() == 256);
    if (event) values.push_back(event->values);
    const auto end = queue->next(20000);
    CHECK(end && end->finish == Event::Finish::stop && end->prompt_tokens == 50);
  }
  CHECK(values[0] == values[1]);
  double norm = 0;
  for (const float v : values[0]) norm += static_cast<double>(v) * v;
  CHECK(norm > 0.999999 && norm < 1.000001);
}

TEST(stop_texts_end_an_answer_before_them) {
  const Result whole = run_alone(request(3, 30), options());
  Request r = request(3, 30);
  const size_t at = whole.text.size() / 2;
  size_t begin = at;
  while (begin > 0 && (whole.text[begin] & 0xC0) == 0x80) --begin;
  r.stops = {whole.text.substr(begin, 6)};
  const Result stopped = run_alone(r, options());
  CHECK(stopped.finish == Event::Finish::stop);
  CHECK(stopped.text == whole.text.substr(0, whole.text.find(r.stops[0])));
}

// For ThreadSanitizer above all: callers of every kind at once, and nothing is lost.
TEST(many_callers_at_once) {
  EngineOptions o = options();
  o.max_sequences = 4;
  Engine engine(embedded_model(), o);
  std::atomic<int> ended{0};
  std::vector<std::thread> callers;
  for (uint32_t caller = 0; caller < 4; ++caller)
    callers.emplace_back([&, caller] {
      for (uint32_t round = 0; round < 6; ++round) {
        const auto queue = engine.make_queue();
        const uint64_t id = engine.submit(request(caller * 10 + round, 1 + round, 5), queue);
        if (round % 3 == 1) engine.cancel(id);
        if (round % 3 == 2) {
          engine.drop_queue(queue);
        } else {
          for (auto event = queue->next(20000); event; event = queue->next(20000))
            if (event->kind == Event::Kind::finished) break;
        }
        engine.info();
        ++ended;
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(ended == 24);
}

// ---- the prefix cache and the memory of keys and values -----------------------------------------------------

namespace {

EngineOptions long_options() {
  EngineOptions o = options();
  o.context = 1024;
  return o;
}

Result run(Engine& engine, const Request& r) {
  const auto queue = engine.make_queue();
  const uint64_t id = engine.submit(r, queue);
  return wait_for(*queue, {id})[id];
}

// Once the engine has put away what ended.
engine::EngineInfo idle_info(const Engine& engine) {
  while (engine.info().running > 0) std::this_thread::yield();
  return engine.info();
}

uint64_t page_bytes(KvType type = KvType::f16) {
  return model::SequenceState(embedded_model()->config, type).page_bytes();
}

}  // namespace

TEST(a_prompt_that_is_known_is_not_computed_again) {
  Engine engine(embedded_model(), long_options());
  Request r = request(1, 5, 200);
  const Result first = run(engine, r), again = run(engine, r);
  CHECK(first.last.cached_tokens == 0 && again.last.cached_tokens == 192);
  CHECK(again.tokens == first.tokens && again.last.prompt_tokens == 200);
  CHECK(idle_info(engine).kv_bytes == 0 && idle_info(engine).cache_bytes == 3 * page_bytes());
  // The last token of a prompt is always computed: its logits are wanted.
  r.prompt.resize(128);
  CHECK(run(engine, r).last.cached_tokens == 127);
  // A conversation that goes on: the answer's pages are known too.
  Request next = request(1, 120, 200);
  const Result answer = run(engine, next);
  next.prompt.insert(next.prompt.end(), answer.tokens.begin(), answer.tokens.end());
  CHECK(run(engine, next).last.cached_tokens == 256);
}

TEST(prompts_may_part_within_a_page) {
  EngineOptions o = long_options();
  const TemporaryFolder root;
  o.cache_folder = root / "cache";
  o.cache_folder_bytes = uint64_t{1} << 30;
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
  CHECK(idle_info(again).cache_bytes == 3 * page_bytes());  // the first page of `first`, and two of its own
}

TEST(nothing_is_shared_with_another_salt_or_when_not_wanted) {
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

TEST(a_restart_finds_pages_on_disk) {
  const TemporaryFolder root;
  EngineOptions o = long_options();
  o.cache_folder = root / "cache";
  o.cache_folder_bytes = uint64_t{1} << 30;
  const Request r = request(1, 5, 200);
  std::vector<text::Token> want;
  {
    Engine engine(embedded_model(), o);
    want = run(engine, r).tokens;
  }
  Engine again(embedded_model(), o);
  const Result result = run(again, r);
  CHECK(result.last.cached_tokens == 192 && result.tokens == want);
  o.deterministic = true;  // another arithmetic
  Engine other(embedded_model(), o);
  CHECK(run(other, r).last.cached_tokens == 0);
}

TEST(pages_on_disk_are_of_one_type) {
  const TemporaryFolder root;
  EngineOptions o = long_options();
  o.cache_folder = root / "cache";
  o.cache_folder_bytes = uint64_t{1} << 30;
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

TEST(q8_0_holds_nearly_twice_the_tokens) {
  EngineOptions o = long_options();
  o.kv_bytes = 8 * page_bytes();
  Engine wide(embedded_model(), o);
  CHECK(wide.info().options.context == 8 * kKvPageTokens);
  o.kv_type = KvType::q8_0;
  Engine narrow(embedded_model(), o);
  CHECK(narrow.info().options.context == 15 * kKvPageTokens);
  // A conversation uses its own pages again, and its answer is what it would be without them.
  Request r = request(1, 100, 300);
  const Result first = run(narrow, r), again = run(narrow, r);
  CHECK(first.last.cached_tokens == 0 && again.last.cached_tokens == 299 && again.tokens == first.tokens);
}

TEST(requests_that_come_together_compute_what_they_share_once) {
  EngineOptions o = long_options();
  o.prompt_chunk = 128;
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

TEST(keys_and_values_stay_within_their_memory) {
  EngineOptions o = long_options();
  o.kv_bytes = 5 * page_bytes();
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  CHECK(engine.info().options.context == 5 * kKvPageTokens);
  CHECK_FAILS(engine.submit(request(1, 1, 321), queue), "the prompt has 321 and the context holds 320");
  o.kv_bytes = page_bytes() - 1;
  CHECK_FAILS(Engine(embedded_model(), o), "kv_bytes: expected at least");
  o.kv_bytes = 5 * page_bytes();
  std::vector<uint64_t> ids;
  for (uint32_t i = 0; i < 8; ++i)
    ids.push_back(engine.submit(request(i, 40, 150), queue));  // three pages each
  std::atomic<bool> done{false};
  uint64_t most = 0;
  std::thread watch([&] {
    while (!done) {
      const auto info = engine.info();
      most = std::max(most, info.kv_bytes + info.cache_bytes);
      std::this_thread::yield();
    }
  });
  auto results = wait_for(*queue, ids);
  done = true;
  watch.join();
  for (const uint64_t id : ids) CHECK(results[id].finish == Event::Finish::length);
  CHECK(most > 0 && most <= o.kv_bytes);
}

TEST(a_long_prompt_leaves_the_others_their_tokens) {
  EngineOptions o = long_options();
  o.manual_step = true;
  o.most_stall_ns = 1;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  const uint64_t first = engine.submit(request(1, -1, 100), queue);
  engine.step();  // its prompt
  const uint64_t second = engine.submit(request(2, 1, 320), queue);
  int steps = 0, tokens = 0;
  for (bool ended = false; !ended && steps < 100; ++steps) {
    engine.step();
    while (const auto event = queue->next(0)) {
      tokens += event->request == first && event->kind == Event::Kind::token;
      ended |= event->request == second && event->kind == Event::Kind::finished;
    }
  }
  CHECK(steps == 10);  // 320 tokens by the least that a batch takes, 32
  CHECK(tokens >= steps);
}
