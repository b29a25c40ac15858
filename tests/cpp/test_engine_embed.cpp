// Embedding requests: pooling, options, batches of short texts, and encoders.
#include <cmath>
#include <functional>

#include "engine_calls.h"
#include "model/forward.h"

using model::Model;
using model::Pooling;

namespace {

// The embedded model with another descriptor.
std::shared_ptr<const Model> changed_model(const std::function<void(Model&)>& change) {
  Model loaded = Model::load(BINHDAN_TEST_MODEL, "", {.threads = 2});
  change(loaded);
  return std::make_shared<const Model>(std::move(loaded));
}

std::shared_ptr<const Model> encoder() {
  return changed_model([](Model& m) { m.config.causal = false; });
}

Request embed_request(uint32_t seed, size_t tokens = 20) {
  Request r = request(seed, -1, tokens);
  r.kind = Request::Kind::embed;
  return r;
}

// The final hidden state of each token.
std::vector<std::vector<float>> hidden_states(const std::vector<text::Token>& tokens) {
  model::Forward forward(*embedded_model(), 1);
  model::SequenceState state(embedded_model()->config);
  state.reserve(static_cast<int64_t>(tokens.size()));
  const model::Chunk chunk{&state, tokens, model::Outputs::all_hidden, false};
  forward.run({&chunk, 1});
  std::vector<std::vector<float>> rows;
  for (size_t row = 0; row < tokens.size(); ++row) {
    const auto values = forward.hidden(0, row);
    rows.emplace_back(values.begin(), values.end());
  }
  return rows;
}

std::vector<float> embedding(const std::shared_ptr<const Model>& m, const Request& r, EngineOptions o) {
  Engine engine(m, o);
  const auto queue = engine.make_queue();
  engine.submit(r, queue);
  const auto event = queue->next(20000);
  CHECK(event && event->kind == Event::Kind::embedding);
  const auto end = queue->next(20000);
  CHECK(end && end->finish == Event::Finish::stop);
  return event ? event->values : std::vector<float>();
}

bool near(double a, double b) {
  return std::abs(a - b) < 1e-5;
}

}  // namespace

// The pooling of the request replaces that of the model. Chunks of 7 tokens split the prompt.
TEST(poolings_take_the_right_hidden_states) {
  Request r = embed_request(5, 50);
  r.normalize = false;
  const auto states = hidden_states(r.prompt);
  for (const int64_t chunk : {256, 7}) {
    EngineOptions o = options();
    o.prefill_chunk = chunk;
    for (const Pooling pooling : {Pooling::cls, Pooling::last}) {
      r.pooling = pooling;
      CHECK(embedding(embedded_model(), r, o) == (pooling == Pooling::cls ? states.front() : states.back()));
      r.pooling.reset();
      CHECK(embedding(changed_model([&](Model& m) { m.config.pooling = pooling; }), r, o) ==
            (pooling == Pooling::cls ? states.front() : states.back()));
    }
    r.pooling = Pooling::mean;
    const auto mean = embedding(embedded_model(), r, o);
    for (size_t i = 0; i < mean.size(); ++i) {
      double sum = 0;
      for (const auto& state : states) sum += static_cast<double>(state[i]);
      CHECK(near(static_cast<double>(mean[i]), sum / 50));
    }
    r.pooling.reset();
    CHECK(mean == embedding(changed_model([](Model& m) { m.config.pooling = Pooling::none; }), r, o));
  }
}

TEST(dimensions_are_cut_before_the_embedding_is_scaled) {
  Request r = embed_request(3);
  const auto whole = embedding(embedded_model(), r, options());
  r.dimensions = 16;
  const auto cut = embedding(embedded_model(), r, options());
  CHECK(cut.size() == 16);
  double length = 0;
  for (const float value : cut) length += static_cast<double>(value) * static_cast<double>(value);
  CHECK(near(length, 1));
  for (size_t i = 1; i < cut.size(); ++i)
    CHECK(near(static_cast<double>(cut[i]) * static_cast<double>(whole[0]),
               static_cast<double>(whole[i]) * static_cast<double>(cut[0])));
}

TEST(a_classifier_reads_the_last_token_or_the_first_of_an_encoder) {
  std::vector<float> output(256);
  for (size_t i = 0; i < output.size(); ++i) output[i] = static_cast<float>(i % 7) / 7 - 0.4f;
  for (const bool causal : {true, false}) {
    const auto m = changed_model([&](Model& changed) {
      changed.config.causal = causal;
      changed.config.pooling = Pooling::rank;
      changed.weights.classifier = {.output = output.data(), .classes = 1};
    });
    Request r = embed_request(5, 50);
    r.normalize = false;
    const float logit = embedding(m, r, options())[0];
    r.pooling = causal ? Pooling::last : Pooling::cls;
    const auto state = embedding(m, r, options());
    double want = 0;
    for (size_t i = 0; i < state.size(); ++i)
      want += static_cast<double>(state[i]) * static_cast<double>(output[i]);
    CHECK(std::abs(static_cast<double>(logit) - want) < 1e-4);
    r.pooling.reset();
    r.normalize = true;
    CHECK(near(static_cast<double>(embedding(m, r, options())[0]), 1 / (1 + std::exp(-want))));
  }
}

TEST(invalid_embedding_requests_are_rejected) {
  Engine engine(embedded_model(), options());
  const auto queue = engine.make_queue();
  Request r = embed_request(1);
  r.dimensions = 257;
  CHECK_FAILS(engine.submit(r, queue), "dimensions: expected 0 to 256");
  r.dimensions = -1;
  CHECK_FAILS(engine.submit(r, queue), "dimensions: expected 0 to 256");
  r.dimensions = 0;
  r.pooling = Pooling::rank;
  CHECK_FAILS(engine.submit(r, queue), "this model has no classifier");
}

TEST(hidden_states_that_are_not_numbers_are_an_error) {
  const auto nan = std::vector<float>(256, std::nanf(""));
  Engine engine(changed_model([&](Model& m) { m.weights.output_norm.weight = nan.data(); }), options());
  const Result result = run(engine, embed_request(1));
  CHECK(result.finish == Event::Finish::error);
  CHECK(result.last.text.find("not numbers") != std::string::npos);
}

// A step of 512 rows has 25 texts of 20 tokens, and 12 more tokens of the next one.
TEST(short_texts_fill_a_batch_beyond_max_sequences) {
  EngineOptions o = options();
  o.max_sequences = 2;
  o.manual_step = true;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  std::vector<uint64_t> ids;
  for (uint32_t seed = 1; seed <= 60; ++seed) ids.push_back(engine.submit(embed_request(seed), queue));
  engine.step();
  CHECK(engine.info().running == 1 && engine.info().waiting == 34);
  while (engine.step()) {
  }
  for (auto& [id, result] : wait_for(*queue, ids)) CHECK(result.finish == Event::Finish::stop);
}

TEST(embeddings_do_not_take_the_slots_of_generations) {
  EngineOptions o = options();
  o.max_sequences = 2;
  o.manual_step = true;
  Engine engine(embedded_model(), o);
  const auto queue = engine.make_queue();
  std::vector<uint64_t> ids;
  for (uint32_t i = 1; i <= 4; ++i) {
    ids.push_back(engine.submit(embed_request(i), queue));
    ids.push_back(engine.submit(request(i, 3), queue));
  }
  engine.step();
  CHECK(engine.info().running == 2 && engine.info().waiting == 3);
  while (engine.step()) {
  }
  for (auto& [id, result] : wait_for(*queue, ids)) CHECK(result.finish != Event::Finish::error);
}

TEST(an_encoder_generates_no_text) {
  Engine engine(encoder(), options());
  CHECK_FAILS(engine.submit(request(1, 4), engine.make_queue()), "this model is an encoder");
}

// 3 texts of 40 tokens and one of 150, in batches of 100 rows: 40 + 40; 40; 150 alone.
TEST(an_encoder_computes_each_prompt_in_one_batch) {
  EngineOptions o = options();
  o.prefill_chunk = 100;
  o.manual_step = true;
  Engine engine(encoder(), o);
  const auto queue = engine.make_queue();
  std::vector<uint64_t> ids;
  for (uint32_t seed = 1; seed <= 3; ++seed) ids.push_back(engine.submit(embed_request(seed, 40), queue));
  ids.push_back(engine.submit(embed_request(4, 150), queue));
  auto finished = [&, done = 0]() mutable {
    engine.step();
    for (auto event = queue->next(0); event; event = queue->next(0))
      done += event->kind == Event::Kind::finished;
    return done;
  };
  CHECK(finished() == 2);
  CHECK(finished() == 3);
  CHECK(finished() == 4);
}

TEST(an_encoder_does_not_use_the_prefix_cache) {
  Engine engine(encoder(), options());
  const Request r = embed_request(1, 200);
  CHECK(run(engine, r).last.cached_tokens == 0);
  CHECK(run(engine, r).last.cached_tokens == 0);
  CHECK(engine.info().cache_bytes == 0);
}
