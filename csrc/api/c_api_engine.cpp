// The C ABI: engines, queues and requests.
#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "api/c_api.h"
#include "base/process.h"

using namespace binhdan;
using namespace binhdan::api;

namespace {

constexpr int32_t kMaxSequences = 1024, kMaxWaiting = 1 << 20, kMaxChunk = 1 << 16;

int32_t option(const char* name, int32_t value, int32_t default_value, int32_t limit) {
  if (value < 0 || value > limit)
    fail(Code::invalid_argument, name, ": expected 0 to ", limit, ", got ", value);
  return value == 0 ? default_value : value;
}

engine::EngineOptions engine_options(const binhdan_engine_options& given, const model::Model& model) {
  check_flags(given.flags,
              {BINHDAN_CONSTANT(BINHDAN_MANUAL_STEP), BINHDAN_CONSTANT(BINHDAN_DETERMINISTIC),
               BINHDAN_CONSTANT(BINHDAN_NO_PREFIX_CACHE), BINHDAN_CONSTANT(BINHDAN_NO_MEMORY_CHECK)});
  const auto trained = static_cast<int32_t>(model.config.context);
  engine::EngineOptions options;
  options.threads = checked_threads(given.threads);
  // Barriers cost a small model more than further threads gain.
  constexpr uint64_t kSmallModel = 16'000'000;  // bytes
  if (given.threads == 0 && model.weights.bytes_per_token() < kSmallModel) options.threads = 1;
  options.context = option("context", given.context, trained, trained);
  options.max_sequences = option("max_sequences", given.max_sequences, options.max_sequences, kMaxSequences);
  options.max_waiting = option("max_waiting", given.max_waiting, options.max_waiting, kMaxWaiting);
  options.prefill_chunk =
      option("prefill_chunk", given.prefill_chunk, static_cast<int32_t>(options.prefill_chunk), kMaxChunk);
  constexpr int64_t kMillisecond = 1'000'000;
  const auto stall = static_cast<int32_t>(options.max_decode_stall_ns / kMillisecond);
  options.max_decode_stall_ns =
      option("max_decode_stall_ms", given.max_decode_stall_ms, stall, std::numeric_limits<int32_t>::max()) *
      kMillisecond;
  if (!(given.flags & BINHDAN_NO_MEMORY_CHECK)) options.available_memory = available_memory();
  // Half of the available memory: the rest is for buffers and other programs.
  const uint64_t default_kv_bytes =
      std::min(usable_memory() / 4, options.available_memory.value_or(UINT64_MAX) / 2);
  options.max_kv_bytes = given.max_kv_bytes ? given.max_kv_bytes : default_kv_bytes;
  options.cache_folder = given.cache_folder ? given.cache_folder : "";
  options.max_cache_folder_bytes =
      given.max_cache_folder_bytes ? given.max_cache_folder_bytes : uint64_t{4} << 30;
  if (given.kv_type != BINHDAN_KV_F16 && given.kv_type != BINHDAN_KV_Q8_0)
    fail(Code::invalid_argument, "kv_type: expected ", BINHDAN_CONSTANT(BINHDAN_KV_F16), " or ",
         BINHDAN_CONSTANT(BINHDAN_KV_Q8_0), ", got ", given.kv_type);
  options.kv_type = given.kv_type == BINHDAN_KV_Q8_0 ? KvType::q8_0 : KvType::f16;
  options.prefix_cache = !(given.flags & BINHDAN_NO_PREFIX_CACHE);
  options.manual_step = given.flags & BINHDAN_MANUAL_STEP;
  options.deterministic = given.flags & BINHDAN_DETERMINISTIC;
  if (given.draft != 0) options.draft = model_with_weights(given.draft, "draft");
  return options;
}

engine::Request engine_request(const binhdan_request& given) {
  check_flags(given.flags,
              {BINHDAN_CONSTANT(BINHDAN_IGNORE_EOS), BINHDAN_CONSTANT(BINHDAN_USE_MASK),
               BINHDAN_CONSTANT(BINHDAN_SKIP_PREFIX_CACHE), BINHDAN_CONSTANT(BINHDAN_NO_NORMALIZE)});
  if (given.kind < BINHDAN_GENERATE || given.kind > BINHDAN_LOGITS)
    fail(Code::invalid_argument, "kind: expected ", BINHDAN_CONSTANT(BINHDAN_GENERATE), " to ",
         BINHDAN_CONSTANT(BINHDAN_LOGITS), ", got ", given.kind);
  engine::Request request;
  request.kind = static_cast<engine::Request::Kind>(given.kind);
  const auto tokens = array(given.tokens, given.n_tokens, "tokens");
  request.prompt.assign(tokens.begin(), tokens.end());
  request.max_tokens = given.max_tokens;
  request.sampling.temperature = given.temperature;
  request.sampling.top_k = given.top_k;
  request.sampling.top_p = given.top_p;
  request.sampling.min_p = given.min_p;
  request.sampling.repetition_penalty = given.repetition_penalty;
  request.sampling.presence_penalty = given.presence_penalty;
  request.sampling.frequency_penalty = given.frequency_penalty;
  request.sampling.top_logprobs = given.top_logprobs;
  request.sampling.seed = given.seed;
  for (const auto& bias : array(given.logit_bias, given.n_logit_bias, "logit_bias"))
    request.sampling.logit_bias.emplace_back(bias.token, bias.value);
  for (const auto& stop : array(given.stop, given.n_stop, "stop"))
    request.stops.emplace_back(api::text(stop.text, stop.size, "stop.text"));
  const auto stop_tokens = array(given.stop_tokens, given.n_stop_tokens, "stop_tokens");
  request.stop_tokens.assign(stop_tokens.begin(), stop_tokens.end());
  request.min_tokens = given.min_tokens;
  request.ignore_eos = given.flags & BINHDAN_IGNORE_EOS;
  request.use_mask = given.flags & BINHDAN_USE_MASK;
  request.use_cache = !(given.flags & BINHDAN_SKIP_PREFIX_CACHE);
  request.cache_salt = given.cache_salt;
  if (given.pooling < BINHDAN_POOLING_AUTO || given.pooling > BINHDAN_POOLING_RANK)
    fail(Code::invalid_argument, "pooling: expected ", BINHDAN_CONSTANT(BINHDAN_POOLING_AUTO), " to ",
         BINHDAN_CONSTANT(BINHDAN_POOLING_RANK), ", got ", given.pooling);
  if (given.pooling != BINHDAN_POOLING_AUTO) request.pooling = static_cast<model::Pooling>(given.pooling);
  request.dimensions = given.dimensions;
  request.normalize = !(given.flags & BINHDAN_NO_NORMALIZE);
  request.loop_guard = given.loop_guard;
  request.max_draft_tokens = given.max_draft_tokens;
  request.score_from = given.score_from;
  if (given.adapter != 0) request.adapter = adapters().get(given.adapter, "adapter");
  return request;
}

// An event in the C layout, with the memory that its pointers refer to.
struct EventBox {
  binhdan_event event{};  // first, so that its address is the box's
  engine::Event source;
  std::vector<binhdan_token_value> top;

  explicit EventBox(engine::Event from) : source(std::move(from)) {
    for (const auto& [token, value] : source.top) top.push_back({token, value});
    event.struct_size = sizeof event;
    event.kind = static_cast<int32_t>(source.kind);
    event.request = source.request;
    event.token = source.token;
    event.logprob = source.logprob;
    event.text = source.text.c_str();
    event.text_size = source.text.size();
    event.top = top.data();
    event.n_top = top.size();
    event.values = source.values.data();
    event.n_values = source.values.size();
    event.finish = static_cast<int32_t>(source.finish);
    event.status = source.status;
    event.prompt_tokens = source.prompt_tokens;
    event.answer_tokens = source.answer_tokens;
    event.queue_ns = source.queue_ns;
    event.prefill_ns = source.prefill_ns;
    event.decode_ns = source.decode_ns;
    event.cached_tokens = source.cached_tokens;
    event.drafted_tokens = source.drafted_tokens;
    event.accepted_tokens = source.accepted_tokens;
    event.stop_text = source.stop_text;
  }
};
static_assert(offsetof(EventBox, event) == 0);

static_assert(static_cast<int>(model::Pooling::mean) == BINHDAN_POOLING_MEAN);
static_assert(static_cast<int>(model::Pooling::cls) == BINHDAN_POOLING_CLS);
static_assert(static_cast<int>(model::Pooling::last) == BINHDAN_POOLING_LAST);
static_assert(static_cast<int>(model::Pooling::rank) == BINHDAN_POOLING_RANK);
static_assert(static_cast<int>(engine::Event::Kind::token) == BINHDAN_EVENT_TOKEN);
static_assert(static_cast<int>(engine::Event::Kind::finished) == BINHDAN_EVENT_FINISHED);
static_assert(static_cast<int>(engine::Event::Kind::embedding) == BINHDAN_EVENT_EMBEDDING);
static_assert(static_cast<int>(engine::Event::Finish::stop) == BINHDAN_FINISH_STOP);
static_assert(static_cast<int>(engine::Event::Finish::length) == BINHDAN_FINISH_LENGTH);
static_assert(static_cast<int>(engine::Event::Finish::context) == BINHDAN_FINISH_CONTEXT);
static_assert(static_cast<int>(engine::Event::Finish::cancelled) == BINHDAN_FINISH_CANCELLED);
static_assert(static_cast<int>(engine::Event::Finish::error) == BINHDAN_FINISH_ERROR);
static_assert(static_cast<int>(engine::Event::Finish::repetition) == BINHDAN_FINISH_REPETITION);
static_assert(static_cast<int>(engine::Event::Kind::scores) == BINHDAN_EVENT_SCORES);
static_assert(static_cast<int>(engine::Event::Kind::logits) == BINHDAN_EVENT_LOGITS);
static_assert(static_cast<int>(engine::Request::Kind::embed) == BINHDAN_EMBED);
static_assert(static_cast<int>(engine::Request::Kind::score) == BINHDAN_SCORE);
static_assert(static_cast<int>(engine::Request::Kind::logits) == BINHDAN_LOGITS);

// binhdan_request of version 0.1 ended here.
constexpr size_t kFirstRequestSize = offsetof(binhdan_request, loop_guard);

}  // namespace

int32_t binhdan_engine_create(binhdan_model handle, const binhdan_engine_options* given,
                              binhdan_engine* out) {
  return guarded([&] {
    require(out, "engine");
    const auto options = read_struct(given, "binhdan_engine_options", binhdan_engine_options{});
    const auto model = model_with_weights(handle, "model");
    *out = engines().add(std::make_shared<engine::Engine>(model, engine_options(options, *model)));
  });
}

int32_t binhdan_engine_close(binhdan_engine handle) {
  return guarded([&] { engines().remove(handle, "engine")->stop(); });
}

int32_t binhdan_engine_describe(binhdan_engine handle, binhdan_engine_info* out) {
  return guarded([&] {
    const engine::EngineInfo now = engines().get(handle, "engine")->info();
    binhdan_engine_info info{};
    info.threads = now.options.threads;
    info.context = static_cast<int32_t>(now.options.context);
    info.max_sequences = now.options.max_sequences;
    info.running = now.running;
    info.waiting = now.waiting;
    info.kv_bytes = now.kv_bytes;
    info.max_kv_bytes = now.options.max_kv_bytes;
    info.cache_bytes = now.cache_bytes;
    write_struct(out, "binhdan_engine_info", info);
  });
}

int32_t binhdan_engine_step(binhdan_engine handle, int32_t* busy) {
  return guarded([&] {
    require(busy, "busy");
    *busy = engines().get(handle, "engine")->step();
  });
}

int32_t binhdan_queue_create(binhdan_engine handle, binhdan_queue* out) {
  return guarded([&] {
    require(out, "queue");
    const auto engine = engines().get(handle, "engine");
    *out = queues().add(std::make_shared<QueueHandle>(engine->make_queue(), engine));
  });
}

int32_t binhdan_queue_close(binhdan_queue handle) {
  return guarded([&] {
    const auto queue = queues().remove(handle, "queue");
    if (const auto engine = queue->engine.lock()) {
      engine->drop_queue(queue->events);
    } else {
      queue->events->close();
    }
  });
}

int32_t binhdan_queue_next(binhdan_queue handle, int32_t timeout_ms, binhdan_event** out) {
  return guarded([&] {
    *require(out, "event") = nullptr;
    const auto events = queues().get(handle, "queue")->events;
    if (const auto event = events->next(timeout_ms)) *out = &(new EventBox(std::move(*event)))->event;
  });
}

int32_t binhdan_queue_fd(binhdan_queue handle, int32_t* fd) {
  return guarded([&] {
    require(fd, "fd");
    *fd = queues().get(handle, "queue")->events->fd();
  });
}

void binhdan_event_free(binhdan_event* event) {
  delete reinterpret_cast<EventBox*>(event);
}

void binhdan_request_init_sized(binhdan_request* request, size_t size) {
  if (!request || size < kFirstRequestSize) return;
  binhdan_request defaults{};
  defaults.struct_size = static_cast<uint32_t>(size);
  defaults.max_tokens = -1;
  defaults.top_p = 1;
  defaults.repetition_penalty = 1;
  defaults.top_logprobs = -1;
  std::memset(request, 0, size);
  std::memcpy(request, &defaults, std::min(size, sizeof defaults));
}

void binhdan_request_init(binhdan_request* request) {
  binhdan_request_init_sized(request, kFirstRequestSize);
}

int32_t binhdan_submit(binhdan_engine handle, binhdan_queue queue_handle, const binhdan_request* given,
                       binhdan_request_id* id) {
  return guarded([&] {
    require(id, "id");
    binhdan_request defaults;
    binhdan_request_init_sized(&defaults, sizeof defaults);
    const auto request = read_struct(require(given, "request"), "binhdan_request", defaults);
    const auto engine = engines().get(handle, "engine");
    const auto queue = queues().get(queue_handle, "queue");
    if (queue->engine.lock() != engine)
      fail(Code::invalid_argument, "queue: expected a queue of this engine, got one of another engine");
    *id = engine->submit(engine_request(request), queue->events);
  });
}

int32_t binhdan_cancel(binhdan_engine handle, binhdan_request_id id) {
  return guarded([&] { engines().get(handle, "engine")->cancel(id); });
}

int32_t binhdan_set_mask(binhdan_engine handle, binhdan_request_id id, const uint32_t* words,
                         size_t n_words) {
  return guarded([&] { engines().get(handle, "engine")->set_mask(id, array(words, n_words, "words")); });
}
