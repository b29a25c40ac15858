// Guessing with a draft model: lengths of guesses, answers that do not change, and models that do not fit together.
#include "engine/drafter.h"

#include "engine_calls.h"

using engine::Draft;
using engine::Drafter;
using engine::GuessLength;

TEST(cheap_right_guesses_become_long) {
  GuessLength length(0.1);
  for (int i = 0; i < 50; ++i) {
    const int64_t guesses = length.next(7);
    CHECK(guesses >= 1 && guesses <= 7);
    length.record(guesses, guesses);
  }
  CHECK(length.next(7) == 7);
  CHECK(length.next(3) == 3);
  CHECK(length.next(0) == 0);
}

TEST(wrong_guesses_end_soon) {
  GuessLength length(0.2);
  int64_t guessed = 0;
  for (int step = 0; step < 1000; ++step) {
    const int64_t guesses = length.next(7);
    guessed += guesses;
    length.record(guesses, 0);
  }
  CHECK(guessed < 60);  // at 0.2 of a step each: 1.2 % of the time
}

TEST(a_draft_that_costs_a_step_is_only_tried) {
  GuessLength length(1.0);
  int64_t guessed = 0;
  for (int step = 0; step < 1000; ++step) {
    const int64_t guesses = length.next(7);
    guessed += guesses;
    length.record(guesses, guesses);
  }
  CHECK(guessed > 0 && guessed < 30);
}

TEST(guessing_starts_again_when_the_text_becomes_predictable) {
  GuessLength length(0.2);
  for (int step = 0; step < 100; ++step) length.record(length.next(7), 0);
  int64_t guessed = 0;
  for (int step = 0; step < 2000; ++step) {
    const int64_t guesses = length.next(7);
    guessed += guesses;
    length.record(guesses, guesses);
  }
  CHECK(guessed > 1000);
}

// The guesses of the model for itself are right.
TEST(guesses_continue_the_text) {
  const auto model = embedded_model();
  Drafter drafter(model, *model, 2, 256, 16, KvType::f16);
  const auto draft = drafter.make_draft();
  std::vector<text::Token> tokens = some_tokens(20);
  Request r;
  r.prompt = tokens;
  r.max_tokens = 40;
  r.ignore_eos = true;
  const std::vector<text::Token> answer = run_alone(r, options()).tokens;
  size_t done = 0;
  int64_t guessed = 0;
  for (int step = 0; step < 200 && done < answer.size(); ++step) {
    drafter.run({{Drafter::Task{draft.get(), tokens, 3}}}, 1000);
    const auto guess = draft->guess();
    CHECK(guess.size() <= 3);
    // Half of the guesses are refused, as if the model had chosen other tokens.
    const size_t right = step % 2 == 0 ? guess.size() : 0;
    for (size_t i = 0; i < guess.size() && done + i < answer.size(); ++i) CHECK(guess[i] == answer[done + i]);
    guessed += std::ssize(guess);
    draft->accept(static_cast<int64_t>(right));
    for (size_t i = 0; i < right + 1 && done < answer.size(); ++i) tokens.push_back(answer[done++]);
  }
  CHECK(done == answer.size());
  CHECK(guessed > 0 && draft->drafted() == guessed);
}

TEST(a_draft_that_has_not_seen_the_prompt_guesses_nothing) {
  const auto model = embedded_model();
  Drafter drafter(model, *model, 1, 256, 16, KvType::f16);
  const auto draft = drafter.make_draft();
  const std::vector<text::Token> tokens = some_tokens(40);
  drafter.run({{Drafter::Task{draft.get(), tokens, 3}}}, 10);
  CHECK(draft->guess().empty() && draft->bytes() > 0);
  // The context of the draft model is full.
  Drafter small(model, *model, 1, 32, 16, KvType::f16);
  const auto other = small.make_draft();
  small.run({{Drafter::Task{other.get(), tokens, 3}}}, 1000);
  CHECK(other->guess().empty());
}

TEST(answers_with_a_draft_model_are_the_same) {
  for (const float temperature : {0.0f, 1.2f}) {
    for (const int32_t sequences : {1, 3}) {
      EngineOptions plain = options(), with_draft = options();
      plain.max_sequences = with_draft.max_sequences = sequences;
      with_draft.draft = embedded_model();
      std::map<uint32_t, Result> results[2];
      for (const auto* o : {&plain, &with_draft}) {
        Engine engine(embedded_model(), *o);
        const auto queue = engine.make_queue();
        std::vector<uint64_t> ids;
        for (uint32_t seed = 1; seed <= 4; ++seed) {
          Request r = request(seed, 60, 30 * seed);
          r.sampling.temperature = temperature;
          r.sampling.seed = seed;
          r.max_draft_tokens = 7;
          ids.push_back(engine.submit(r, queue));
        }
        auto by_id = wait_for(*queue, ids);
        for (uint32_t seed = 1; seed <= 4; ++seed) results[o == &with_draft][seed] = by_id[ids[seed - 1]];
      }
      int32_t drafted = 0;
      for (uint32_t seed = 1; seed <= 4; ++seed) {
        CHECK(results[1][seed].tokens == results[0][seed].tokens);
        drafted += results[1][seed].last.drafted_tokens;
        CHECK(results[1][seed].last.accepted_tokens <= results[1][seed].last.drafted_tokens);
      }
      CHECK(drafted > 0);
    }
  }
}

TEST(the_draft_counts_as_memory) {
  EngineOptions o = options();
  o.max_kv_bytes = Engine(embedded_model(), o).model().config.layers.size();  // too few
  CHECK_FAILS(Engine(embedded_model(), o), "max_kv_bytes: expected at least");
  EngineOptions plain = options();
  plain.max_kv_bytes = model::StateLayout(embedded_model()->config).max_bytes(256, plain.prefill_chunk);
  CHECK(Engine(embedded_model(), plain).info().options.context == 256);
  plain.draft = embedded_model();
  Engine engine(embedded_model(), plain);
  CHECK(engine.info().options.context < 256);
  Request r = request(1, 10);
  r.max_draft_tokens = 7;
  CHECK(run(engine, r).finish == Event::Finish::length);
}
