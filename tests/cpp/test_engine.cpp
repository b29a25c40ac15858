// The engine: requests wait, run in one batch and finish.
#include <atomic>
#include <thread>

#include "engine_calls.h"
#include "model/memory.h"

TEST(batched_answers_equal_single_answers) {
  EngineOptions o = options();
  o.max_sequences = 3;
  o.prefill_chunk = 16;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  std::vector<uint64_t> ids;
  for (uint32_t seed = 1; seed <= 7; ++seed)
    ids.push_back(engine.submit(request(seed, 12, 10 * seed), queue));
  auto results = wait_for(*queue, ids);
  for (uint32_t seed = 1; seed <= 7; ++seed) {
    const Result& batched = results[ids[seed - 1]];
    const Result alone = run_alone(request(seed, 12, 10 * seed), options(1));
    CHECK(batched.finish == Event::Finish::length);
    CHECK(batched.tokens.size() == 12);
    CHECK(batched.tokens == alone.tokens);
    CHECK(batched.text == alone.text);
    CHECK(batched.last.prompt_tokens == static_cast<int32_t>(10 * seed));
    CHECK(batched.last.answer_tokens == 12);
  }
  CHECK(engine.info().running == 0 && engine.info().waiting == 0);
}

TEST(answers_depend_on_the_seed) {
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
  CHECK(result.tokens.size() == 13);  // the last token needs no KV position
  CHECK(run_alone(request(1, -1, 32), o).tokens.size() == 1);
  Engine engine(embedded_model(), o);
  CHECK_FAILS(engine.submit(request(1, 1, 33), engine.make_queue()),
              "the prompt has 33 tokens, but the context holds 32");
}

TEST(submit_rejects_invalid_requests) {
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

TEST(the_number_of_waiting_requests_is_bounded) {
  EngineOptions o = options();
  o.max_sequences = 1;
  o.max_waiting = 2;
  o.manual_step = true;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  engine.submit(request(1, 4), queue);
  engine.submit(request(2, 4), queue);
  CHECK_FAILS(engine.submit(request(3, 4), queue), "requests are already waiting");
  while (engine.step()) {
  }
  engine.submit(request(3, 4), queue);
  CHECK(engine.info().waiting == 1);
}

TEST(cancel_ends_waiting_and_running_requests) {
  EngineOptions o = options();
  o.max_sequences = 1;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  Request masked = request(1, -1);
  masked.use_mask = true;  // pauses before each token until it has a mask
  const uint64_t running = engine.submit(masked, queue), waiting = engine.submit(request(2, -1), queue);
  engine.set_mask(running, std::vector<uint32_t>(256, ~0u));
  const auto event = queue->next(20000);  // the request is running
  CHECK(event && event->kind == Event::Kind::token);
  engine.cancel(waiting);
  engine.cancel(running);
  auto results = wait_for(*queue, {running, waiting});
  CHECK(results[running].finish == Event::Finish::cancelled);
  CHECK(results[waiting].finish == Event::Finish::cancelled);
  engine.cancel(running);  // finished already: no error
  engine.cancel(987654321);
}

TEST(closing_a_queue_cancels_its_requests) {
  Engine engine(embedded_model(), options());
  const auto dropped = engine.make_queue(), kept = engine.make_queue();
  engine.submit(request(1, -1), dropped);
  const uint64_t id = engine.submit(request(2, 40), kept);
  engine.drop_queue(dropped);
  CHECK(wait_for(*kept, {id})[id].finish == Event::Finish::length);
  CHECK_FAILS(dropped->next(0), "closed");
  CHECK_FAILS(engine.submit(request(3, -1), dropped), "the queue is closed");
}

TEST(stop_cancels_all_requests_and_sends_their_events) {
  std::shared_ptr<EventQueue> queue;
  std::vector<uint64_t> ids;
  {
    EngineOptions o = options();
    o.max_sequences = 2;
    Engine engine(embedded_model(), o);
    queue = engine.make_queue();
    for (uint32_t seed = 1; seed <= 4; ++seed) {
      Request r = request(seed, -1, 200);
      r.use_mask = true;  // does not finish without masks
      ids.push_back(engine.submit(r, queue));
    }
    engine.stop();
    CHECK_FAILS(engine.submit(request(1, 1), queue), "closed");
    CHECK_FAILS(engine.make_queue(), "closed");
  }
  for (auto& [id, result] : wait_for(*queue, ids)) CHECK(result.finish == Event::Finish::cancelled);
  CHECK_FAILS(queue->next(0), "");
}

TEST(a_request_waits_for_its_mask_while_others_run) {
  Engine engine(embedded_model(), options());
  const auto masked_queue = engine.make_queue(), queue = engine.make_queue();
  Request r = request(1, 3);
  r.use_mask = true;
  const uint64_t masked = engine.submit(r, masked_queue);
  const uint64_t other = engine.submit(request(2, 30), queue);
  CHECK(wait_for(*queue, {other})[other].tokens.size() == 30);
  CHECK(!masked_queue->next(0));
  // Each token consumes one mask. These masks allow exactly one token.
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

TEST(a_mask_that_allows_no_token_ends_the_answer) {
  Engine engine(embedded_model(), options());
  const auto queue = engine.make_queue();
  Request r = request(1, 3);
  r.use_mask = true;
  const uint64_t id = engine.submit(r, queue);
  engine.set_mask(id, {});
  CHECK(wait_for(*queue, {id})[id].finish == Event::Finish::stop);
  engine.set_mask(id, {});  // finished already: no error
  r.use_mask = false;
  r.max_tokens = -1;
  const uint64_t plain = engine.submit(r, queue);
  CHECK_FAILS(engine.set_mask(plain, {}), "USE_MASK");
}

TEST(embeddings_have_unit_length_and_do_not_depend_on_chunks) {
  std::vector<std::vector<float>> values;
  for (const int64_t chunk : {256, 7}) {
    EngineOptions o = options();
    o.prefill_chunk = chunk;
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

TEST(an_answer_ends_before_a_stop_text) {
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

// Mainly for ThreadSanitizer: calls of every kind from several threads.
TEST(concurrent_callers_lose_no_event) {
  EngineOptions o = options();
  o.max_sequences = 4;
  Engine engine(embedded_model(), o);
  std::atomic<int> finished{0};
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
        ++finished;
      }
    });
  for (std::thread& caller : callers) caller.join();
  CHECK(finished == 24);
}

TEST(an_engine_that_does_not_fit_is_an_error_before_it_allocates) {
  EngineOptions o = options();
  o.available_memory = uint64_t{1} << 30;
  CHECK(Engine(embedded_model(), o).info().options.context == 256);
  o.available_memory = 1 << 20;
  CHECK_FAILS(Engine(embedded_model(), o), "engine: a context of 256 tokens needs");
  CHECK_FAILS(Engine(embedded_model(), o), "reduce prefill_chunk");
  // A shorter context fits.
  const uint64_t buffers = model::buffer_bytes(embedded_model()->config, 512 + 8, 8, 2);
  const model::StateLayout layout(embedded_model()->config, KvType::f16);
  o.available_memory = buffers + layout.max_bytes(128, 512);
  CHECK_FAILS(Engine(embedded_model(), o), "a context of 128 tokens fits");
  o.context = 128;
  CHECK(Engine(embedded_model(), o).info().options.context == 128);
}

TEST(drafts_do_not_change_an_answer) {
  for (const float temperature : {0.0f, 0.7f}) {
    for (uint32_t seed = 1; seed <= 4; ++seed) {
      Request r = request(seed, 150, 90);
      r.sampling.temperature = temperature;
      r.sampling.seed = seed;
      r.sampling.repetition_penalty = seed == 2 ? 1.1f : 1.0f;
      r.sampling.top_logprobs = 0;
      std::copy_n(r.prompt.begin(), 30, r.prompt.begin() + 60);
      const Result plain = run_alone(r, options());
      r.max_draft_tokens = 7;
      const Result drafted = run_alone(r, options());
      CHECK(drafted.tokens == plain.tokens && drafted.text == plain.text);
      CHECK(drafted.last.accepted_tokens <= drafted.last.drafted_tokens);
    }
  }
}

TEST(a_loop_ends_an_answer) {
  Request r = request(1, 1000, 20);
  r.sampling.logit_bias = {{77, 100.0f}};
  r.loop_guard = 32;
  const Result result = run_alone(r, options());
  CHECK(result.finish == Event::Finish::repetition && result.tokens.size() == 32);
  r.loop_guard = 8;
  CHECK_FAILS(run_alone(r, options()), "loop_guard: expected 0 or 16 to");
}
