#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <unordered_set>
#include <utility>

#include "base/clock.h"
#include "base/hash.h"
#include "engine/memory.h"
#include "engine/page_store.h"
#include "engine/session_file.h"

namespace binhdan::engine {
namespace {
// Ids are unique in the process, so that cancel() with the id of an ended request affects no other request,
// also not in another engine.
std::atomic<uint64_t> next_id{1};
// The least prompt tokens in a batch that has any, if so many are left. Every batch reads all weights, so
// fewer tokens per batch would waste memory bandwidth.
constexpr int64_t kMinPromptTokens = 32;

// The identity of stored pages covers everything that their bytes depend on besides the tokens: the model
// file, the kernel table (page layout and arithmetic), the numeric class of prompts, the KV type, and the
// context if RoPE depends on it.
uint64_t identity_of_pages(const model::Model& model, const EngineOptions& options) {
  std::string kernels = std::string(model.table->isa) + (options.deterministic ? " deterministic" : "") +
                        (options.kv_type == KvType::q8_0 ? " q8_0" : "");
  if (model.weights.long_rope_factors) kernels += " context " + std::to_string(options.context);
  return hash_bytes(std::as_bytes(std::span(kernels)), model.file.content_hash());
}

std::unique_ptr<PageStore> make_store(const model::Model& model, const model::StateLayout& layout,
                                      const EngineOptions& options) {
  if (options.cache_folder.empty() || !options.prefix_cache) return nullptr;
  return std::make_unique<PageStore>(options.cache_folder, identity_of_pages(model, options), layout.sizes(),
                                     options.max_cache_folder_bytes);
}

}  // namespace

Engine::Engine(std::shared_ptr<const model::Model> model, EngineOptions options)
    : model_(std::move(model)),
      layout_(std::make_shared<const model::StateLayout>(model_->config, options.kv_type)),
      options_(within_memory(std::move(options), *model_, *layout_)),
      forward_(*model_, options_.threads, options_.context),
      cache_(layout_->sizes(), make_store(*model_, *layout_, options_)) {
  if (options_.draft)
    drafter_.emplace(options_.draft, *model_, options_.threads, options_.context, options_.prefill_chunk,
                     options_.kv_type);
  if (!options_.manual_step) thread_ = std::thread([this] { loop(); });
}

Engine::~Engine() {
  stop();
}

std::shared_ptr<EventQueue> Engine::make_queue() {
  auto queue = std::make_shared<EventQueue>();
  const std::lock_guard lock(mutex_);
  if (stopping_) fail(Code::closed, "queue_create: the engine is closed; create a new engine");
  queues_.push_back(queue);
  return queue;
}

void Engine::drop_queue(const std::shared_ptr<EventQueue>& queue) {
  queue->close();
  {
    const std::lock_guard lock(mutex_);
    for (auto& [id, sequence] : by_id_)
      if (sequence->queue() == queue.get()) sequence->locked.cancelled = true;
    std::erase(queues_, queue);
  }
  work_arrived_.notify_one();
}

uint64_t Engine::submit(Request request, std::shared_ptr<EventQueue> queue) {
  request.check(*model_, options_.context);
  if (!options_.prefix_cache) request.use_cache = false;
  const uint64_t id = next_id.fetch_add(1, std::memory_order_relaxed);
  auto sequence =
      std::make_shared<Sequence>(id, *model_, std::move(request), options_.context, options_.prefill_chunk,
                                 layout_, std::move(queue), drafter_ ? &*drafter_ : nullptr);
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) fail(Code::closed, "submit: the engine is closed; create a new engine");
    if (sequence->queue()->closed()) fail(Code::closed, "submit: the queue is closed; create a new queue");
    if (std::cmp_greater_equal(waiting_.size(), options_.max_waiting))
      fail(Code::busy, "max_waiting: ", waiting_.size(), " requests are already waiting; retry later");
    waiting_.push_back(sequence);
    by_id_.emplace(id, std::move(sequence));
  }
  work_arrived_.notify_one();
  return id;
}

void Engine::cancel(uint64_t id) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) return;
    found->second->locked.cancelled = true;
  }
  work_arrived_.notify_one();
}

void Engine::set_mask(uint64_t id, std::span<const uint32_t> words) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) return;  // the request has ended meanwhile
    Sequence& sequence = *found->second;
    if (!sequence.uses_mask())
      fail(Code::invalid_argument, "set_mask: request ", id, " was not submitted with BINHDAN_USE_MASK");
    const auto expected = static_cast<size_t>(model_->config.vocabulary + 31) / 32;
    if (!words.empty() && words.size() != expected)
      fail(Code::invalid_argument, "set_mask: expected ", expected, " words for the ",
           model_->config.vocabulary, " tokens of the vocabulary, or none, got ", words.size());
    if (sequence.locked.mask)
      fail(Code::invalid_argument, "set_mask: the next token of request ", id,
           " already has a mask; expected one call for each token");
    sequence.locked.mask.emplace(words.begin(), words.end());
  }
  work_arrived_.notify_one();
}

bool Engine::step() {
  if (!options_.manual_step)
    fail(Code::invalid_argument, "step: expected an engine with MANUAL_STEP; this one has its own thread");
  const std::lock_guard stepping(step_mutex_);
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) fail(Code::closed, "step: the engine is closed; create a new engine");
  }
  return run_step();
}

void Engine::loop() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      work_arrived_.wait(lock, [this] { return stopping_ || runnable_locked(); });
      if (stopping_) return;
    }
    run_step();
  }
}

// Returns true if there is a request to admit, cancel, resume or compute.
bool Engine::runnable_locked() const {
  if (!calls_.empty()) return true;
  if (!waiting_.empty() && has_slot_for(*waiting_.front()) && !out_of_kv_) return true;
  for (const auto& [id, sequence] : by_id_) {
    if (sequence->locked.cancelled) return true;
    if (sequence->locked.admitted &&
        (sequence->phase() != Sequence::Phase::waiting_for_mask || sequence->locked.mask))
      return true;
  }
  return false;
}

bool Engine::run_step() {
  run_calls();
  apply_caller_changes();
  const std::vector<model::Chunk> chunks = plan_batch();
  if (!chunks.empty()) compute(chunks);
  retire_finished();
  const std::lock_guard lock(mutex_);
  return runnable_locked();
}

void Engine::run_calls() {
  std::deque<std::packaged_task<void()>> calls;
  {
    const std::lock_guard lock(mutex_);
    calls.swap(calls_);
  }
  for (auto& call : calls) call();
}

void Engine::between_steps(std::function<void()> call) {
  std::packaged_task<void()> task(std::move(call));
  std::future<void> done = task.get_future();
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) fail(Code::closed, "session: the engine is closed; create a new engine");
    calls_.push_back(std::move(task));
  }
  if (options_.manual_step) {
    const std::lock_guard stepping(step_mutex_);
    run_calls();
  }
  work_arrived_.notify_one();
  try {
    done.get();
  } catch (const std::future_error&) {  // stop() has dropped the call
    fail(Code::closed, "session: the engine was closed during the call");
  }
}

uint64_t Engine::pages_identity() const {
  if (!options_.prefix_cache)
    fail(Code::invalid_argument,
         "session: expected an engine with a prefix cache; create it without NO_PREFIX_CACHE");
  return identity_of_pages(*model_, options_);
}

void Engine::save_session(const std::string& path, std::span<const Token> tokens, uint64_t salt,
                          std::string note) {
  const uint64_t identity = pages_identity() ^ salt;
  const TokenChain chain(salt, tokens);
  SavedSession session{std::move(note), {tokens.begin(), tokens.end()}, {}};
  between_steps([&] { session.pages = cache_.find_or_load(chain, 0, chain.pages()); });
  write_session(path, identity, session);
}

std::string Engine::session_note(const std::string& path, uint64_t salt) const {
  return read_session(path, pages_identity() ^ salt, layout_->sizes(), options_.context, false).note;
}

void Engine::load_session(const std::string& path, uint64_t salt) {
  SavedSession session =
      read_session(path, pages_identity() ^ salt, layout_->sizes(), options_.context, true);
  const TokenChain chain(salt, session.tokens);
  between_steps([&] {
    for (size_t i = 0; i < session.pages.size() && cache_.add(chain, i, session.pages[i]); ++i)
      session.pages[i] = {};
    uint64_t bytes = cache_.bytes();
    for (const auto& sequence : running_) bytes += sequence->max_own_bytes();
    if (bytes > options_.max_kv_bytes) cache_.evict(bytes - options_.max_kv_bytes);
  });
}

// Applies the calls since the last batch: cancels, admits waiting requests, resumes sequences with masks.
void Engine::apply_caller_changes() {
  std::vector<std::shared_ptr<Sequence>> cancelled;
  std::vector<std::pair<Sequence*, std::optional<std::vector<uint32_t>>>> resumed;
  {
    const std::lock_guard lock(mutex_);
    const auto is_cancelled = [](const std::shared_ptr<Sequence>& s) { return s->locked.cancelled; };
    for (const auto& sequence : waiting_)
      if (is_cancelled(sequence)) cancelled.push_back(sequence);
    std::erase_if(waiting_, is_cancelled);
    out_of_kv_ = false;
    while (!waiting_.empty() && has_slot_for(*waiting_.front())) {
      out_of_kv_ = !reserve_kv_for(*waiting_.front());
      if (out_of_kv_) break;
      waiting_.front()->locked.admitted = true;
      running_.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    running_count_ = static_cast<int32_t>(running_.size());
    for (const auto& sequence : running_) {
      if (is_cancelled(sequence)) {
        cancelled.push_back(sequence);
      } else if (sequence->phase() == Sequence::Phase::waiting_for_mask && sequence->locked.mask) {
        resumed.emplace_back(sequence.get(), std::exchange(sequence->locked.mask, std::nullopt));
      }
    }
    for (const auto& sequence : cancelled) by_id_.erase(sequence->id());
  }
  for (const auto& sequence : cancelled) sequence->finish(Event::Finish::cancelled);
  for (const auto& [sequence, mask] : resumed) sequence->resume(mask);
}

// Generations are limited by max_sequences, because each has a row in every step. Texts to embed or score are limited by
// the tokens that they have left, so that short ones fill a batch.
bool Engine::has_slot_for(const Sequence& sequence) const {
  int64_t generations = 0, tokens = 0;
  for (const auto& other : running_) {
    if (other->generates())
      ++generations;
    else
      tokens += other->prompt_left();
  }
  return !sequence.generates() ? tokens < options_.prefill_chunk : generations < options_.max_sequences;
}

// Reserves KV memory for this sequence at its maximum length: evicts cached pages until all running sequences
// and this one fit in max_kv_bytes. Returns false if they do not fit. The sequence first takes its cached
// pages, which are then not evicted.
bool Engine::reserve_kv_for(Sequence& sequence) {
  sequence.take_pages_from(cache_);
  uint64_t bytes = sequence.max_own_bytes() + cache_.bytes();
  for (const auto& other : running_) bytes += other->max_own_bytes();
  return bytes <= options_.max_kv_bytes ||
         cache_.evict(bytes - options_.max_kv_bytes) >= bytes - options_.max_kv_bytes;
}

// The maximum prompt tokens of the next batch. With decoding sequences, as many as take about
// max_decode_stall_ns.
int64_t Engine::prefill_budget(bool decoding) const {
  if (!decoding || ns_per_prompt_token_ <= 0) return options_.prefill_chunk;
  const double tokens = static_cast<double>(options_.max_decode_stall_ns) / ns_per_prompt_token_;
  if (tokens >= static_cast<double>(options_.prefill_chunk)) return options_.prefill_chunk;
  return std::max(std::min(kMinPromptTokens, options_.prefill_chunk), static_cast<int64_t>(tokens));
}

// The last token of a decoding sequence and its draft. A step of a few rows takes little more time than one of a single
// row, because both read all weights.
int64_t Engine::decode_rows_each() const {
  constexpr int64_t kRows = 8;
  const auto decodes = [](const auto& sequence) { return sequence->phase() == Sequence::Phase::decode; };
  return std::max<int64_t>(1, kRows / std::max<int64_t>(1, std::ranges::count_if(running_, decodes)));
}

// Tokens of every sequence that decodes, then prompt chunks up to the budget.
std::vector<model::Chunk> Engine::plan_batch() {
  std::vector<model::Chunk> chunks;
  batch_.clear();
  const auto add = [&](Sequence& sequence, int64_t budget) {
    try {
      chunks.push_back(sequence.next_chunk(budget, options_.deterministic));
      batch_.push_back(&sequence);
      return static_cast<int64_t>(chunks.back().tokens.size());
    } catch (const Error& error) {
      // No memory for its keys and values: this request ends, the others continue.
      sequence.finish(Event::Finish::error, static_cast<int32_t>(error.code()), error.what());
    }
    return int64_t{0};
  };
  guess_tokens(decode_rows_each() - 1);
  for (const auto& sequence : running_)
    if (sequence->phase() == Sequence::Phase::decode) add(*sequence, 0);
  int64_t budget = prefill_budget(!chunks.empty());
  // They are decode rows, which come first in a batch.
  for (const auto& sequence : running_)
    if (sequence->phase() == Sequence::Phase::prefill && sequence->computes_scored_tokens() && budget > 0)
      budget -= add(*sequence, budget);
  // Hashes of the pages that this batch computes. A sequence whose next page is among them waits for it.
  std::unordered_set<uint64_t> in_batch;
  for (const auto& sequence : running_) {
    if (sequence->phase() != Sequence::Phase::prefill || sequence->computes_scored_tokens() || budget <= 0)
      continue;
    // Computed at once: waits for an emptier batch, or is alone in one when it exceeds the whole budget.
    if (sequence->computes_prompt_at_once() && sequence->prompt_left() > budget && !chunks.empty()) continue;
    sequence->take_pages_from(cache_);
    const auto next = sequence->pages_ahead(kKvPageTokens);
    if (!next.empty() && in_batch.contains(next.front())) continue;
    const auto ahead = sequence->pages_ahead(budget);
    in_batch.insert(ahead.begin(), ahead.end());
    budget -= add(*sequence, budget);
  }
  return chunks;
}

// For each decoding sequence, at most `limit` tokens.
void Engine::guess_tokens(int64_t limit) {
  std::vector<Drafter::Task> tasks;
  for (const auto& sequence : running_)
    if (sequence->phase() == Sequence::Phase::decode)
      if (const auto task = sequence->guess(limit)) tasks.push_back(*task);
  if (!tasks.empty()) drafter_->run(tasks, prefill_budget(true));
}

void Engine::compute(std::span<const model::Chunk> chunks) {
  try {
    const int64_t start = now_ns();
    forward_.run(chunks);
    update_prefill_speed(chunks, now_ns() - start);
    const bool reads = std::ranges::any_of(batch_, [](const Sequence* s) { return !s->generates(); });
    if (reads) forward_.parallel_for(chunks.size(), [&](size_t i) { batch_[i]->read_outputs(forward_, i); });
    std::vector<size_t> sampled;
    for (size_t i = 0; i < chunks.size(); ++i) {
      batch_[i]->add_pages_to(cache_);
      batch_[i]->advance();
      if (batch_[i]->generates() && chunks[i].outputs != model::Outputs::none) sampled.push_back(i);
    }
    std::vector<std::optional<std::vector<uint32_t>>> masks;
    {
      const std::lock_guard lock(mutex_);
      for (const size_t i : sampled) masks.push_back(std::exchange(batch_[i]->locked.mask, std::nullopt));
    }
    forward_.parallel_for(sampled.size(),
                          [&](size_t n) { batch_[sampled[n]]->sample(forward_, sampled[n], masks[n]); });
    for (const size_t i : sampled) batch_[i]->commit_tokens();
  } catch (const Error& error) {
    fail_batch(static_cast<int32_t>(error.code()), error.what());
  } catch (const std::exception& error) {
    fail_batch(static_cast<int32_t>(Code::internal), error.what());
  }
}

// Updates the moving average of the time per prompt token. The time of a batch includes its decode rows.
void Engine::update_prefill_speed(std::span<const model::Chunk> chunks, int64_t ns) {
  int64_t prompt = 0;
  for (size_t i = 0; i < chunks.size(); ++i)
    if (batch_[i]->phase() == Sequence::Phase::prefill)
      prompt += static_cast<int64_t>(chunks[i].tokens.size());
  if (prompt < kMinPromptTokens) return;
  const double now = static_cast<double>(ns) / static_cast<double>(prompt);
  ns_per_prompt_token_ = ns_per_prompt_token_ <= 0 ? now : 0.75 * ns_per_prompt_token_ + 0.25 * now;
}

void Engine::fail_batch(int32_t status, const std::string& message) {
  for (Sequence* sequence : batch_) sequence->finish(Event::Finish::error, status, message);
}

void Engine::retire_finished() {
  uint64_t own_bytes = 0;
  for (const auto& sequence : running_) own_bytes += sequence->own_bytes();
  const std::lock_guard lock(mutex_);
  std::erase_if(running_, [this](const std::shared_ptr<Sequence>& sequence) {
    if (sequence->phase() != Sequence::Phase::finished) return false;
    by_id_.erase(sequence->id());
    out_of_kv_ = false;
    return true;
  });
  running_count_ = static_cast<int32_t>(running_.size());
  kv_bytes_ = own_bytes;
  cache_bytes_ = cache_.bytes();
}

void Engine::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(stopping_, true)) return;
  }
  work_arrived_.notify_one();
  if (thread_.joinable()) thread_.join();
  const std::lock_guard stepping(step_mutex_);
  std::vector<std::shared_ptr<Sequence>> left;
  std::vector<std::shared_ptr<EventQueue>> queues;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [id, sequence] : by_id_) left.push_back(std::move(sequence));
    by_id_.clear();
    waiting_.clear();
    calls_.clear();
    queues.swap(queues_);
  }
  for (const auto& sequence : left) sequence->finish(Event::Finish::cancelled);
  running_.clear();
  for (const auto& queue : queues) queue->end();
}

EngineInfo Engine::info() const {
  const std::lock_guard lock(mutex_);
  return {options_, running_count_, static_cast<int32_t>(waiting_.size()), kv_bytes_, cache_bytes_};
}

}  // namespace binhdan::engine
