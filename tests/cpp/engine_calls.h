// Sends requests to an engine that runs the embedded model, and collects the events.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "check.h"
#include "embedded_model.h"
#include "engine/engine.h"

using namespace binhdan;
using engine::Engine;
using engine::EngineOptions;
using engine::Event;
using engine::EventQueue;
using engine::Request;

inline EngineOptions options(int threads = 2) {
  EngineOptions o;
  o.threads = threads;
  o.context = 256;
  return o;
}

inline Request request(uint32_t seed, int64_t max_tokens, size_t prompt = 20) {
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

// Reads events until every request in `ids` has finished.
inline std::map<uint64_t, Result> wait_for(EventQueue& queue, const std::vector<uint64_t>& ids) {
  std::map<uint64_t, Result> results;
  size_t finished = 0;
  while (finished < ids.size()) {
    const auto event = queue.next(20000);
    if (!event) {
      check::report(__FILE__, __LINE__, "expected an event within 20 s, got none");
      break;
    }
    Result& result = results[event->request];
    CHECK(result.finish == Event::Finish::none);  // the finished event is the last one
    result.text += event->text;
    if (event->kind == Event::Kind::token) result.tokens.push_back(event->token);
    if (event->kind == Event::Kind::finished) {
      result.finish = event->finish;
      result.last = *event;
      ++finished;
    }
  }
  return results;
}

inline Result run(Engine& engine, const Request& r) {
  const auto queue = engine.make_queue();
  const uint64_t id = engine.submit(r, queue);
  return wait_for(*queue, {id})[id];
}

inline Result run_alone(const Request& r, EngineOptions o) {
  Engine engine(embedded_model(), o);
  return run(engine, r);
}
